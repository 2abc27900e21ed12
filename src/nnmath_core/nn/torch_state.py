"""State dictionaries of PyTorch: into a model and out of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from nnmath_core.checks import describe, sentence
from nnmath_core.errors import DomainError, DtypeError, ShapeError, TreeError
from nnmath_core.nn.flattened import channels_first, channels_last, flattened_images
from nnmath_core.nn.initializers import require_float_dtype
from nnmath_core.nn.sequential import Sequential
from nnmath_core.nn.state import (
    dotted,
    few,
    host_array,
    is_below,
    leaves_of,
    rebuilt,
    require_keys,
)
from nnmath_core.nn.torch_layers import COUNTER, Rule, rules_of
from nnmath_core.typing import Array

__all__ = ["from_torch", "to_torch"]

Model = TypeVar("Model")

ImageShape: TypeAlias = Sequence[int] | Mapping[str, Sequence[int]]
"""Of all layers that read flattened images, or path -> shape."""


@dataclass(frozen=True)
class _Part:
    """A layer of a model, or an array outside of layers: its path, its name in PyTorch, its rules."""

    path: str
    name: str
    layer: Any
    rules: tuple[Rule, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Return what its arrays are called below it."""
        return tuple(name for rule in self.rules for name in rule.theirs)

    def __str__(self) -> str:
        return f"`model{self.path}`, {type(self.layer).__name__}"


def _join(*names: str) -> str:
    return ".".join(filter(None, names))


def from_torch(
    state: Mapping[str, Any],
    *,
    like: Model,
    keys: Mapping[str, str] | None = None,
    image_shape: ImageShape | None = None,
    strict: bool = True,
    dtype: DTypeLike | None = None,
) -> Model:
    """Return a model with the weights of a state dictionary of PyTorch, in our layouts.

    Parameters
    ----------
    state : mapping of str to arrays
        ``module.state_dict()``, or arrays by the same names: of `read_torch`, of a safetensors file (`nm.load`).
        Tensors are copied to the host; PyTorch is not imported.
    like : tree
        A model with the right structure and shapes; its numbers do not matter. It stays as it is.
    keys : mapping of str to str, optional
        Name, or first part of a name, in ``state`` -> path in the model, of a layer, of a part with several layers or
        of an array: ``{"backbone": "layers[0]", "head.weight": "layers[1].weight"}``. Without it names that agree with
        the model's are taken by name; if they do not, layers are taken in order.
    image_shape : (h, w, c), or mapping of path to such, optional
        The images that a `Flatten` flattens, where the layers do not say how many channels there are.
    strict : bool, default True
        False, with ``keys``, leaves layers that are not named as they are, and entries that are not named out.
    dtype : dtype, optional
        float32 or float64, to which floating arrays are converted. Without it they keep theirs, and the model has it
        then; float16 and bfloat16 are errors.

    Returns
    -------
    tree
        Of the structure of ``like``, on its devices.

    Raises
    ------
    DomainError
        Entries are missing or left over, a layer is one that PyTorch does not have, ``keys`` names what is not there,
        or it is not known how images were flattened.
    ShapeError
        An array has another shape, in our layout, than the model's.
    DtypeError
        ``state`` is no mapping of names to arrays, or an array is of another type.

    Notes
    -----
    *Layouts.* Dense weights are transposed, kernels brought from (out, in / groups, h, w) to (h, w, in / groups, out),
    those of transposed convolutions group by group. ``weight`` and ``bias`` of a normalisation are ``scale`` and
    ``shift`` here, running statistics are buffers, ``num_batches_tracked`` is left out; the scale of a `LayerNorm` over
    three axes or more is taken for one of images, (c, h, w). The two biases of RNN and LSTM cells are added, as far as
    only their sum matters; GRU has one of its own. ``in_proj_weight`` becomes query, key and value.

    *Flattened images.* Rows behind `Flatten` are in the order (h, w, c) here and (c, h, w) in PyTorch: the weight of
    the `Dense` behind it (and a normalisation between) has its rows permuted. The channels are known from the
    convolution in front of it; where they are not, it is an error that asks for ``image_shape``.

    *In order* means the order of the entries and that of the model's layers: two layers of one shape that are the other
    way round are not noticed. Give ``keys`` then.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> state = {"fc.weight": np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), "fc.bias": np.zeros(3)}
    >>> layer = nm.nn.from_torch(state, like=nm.nn.Dense.init((2, 3)))
    >>> layer.weight
    array([[1., 3., 5.],
           [2., 4., 6.]])
    """
    who = "from_torch"
    wanted = None if dtype is None else require_float_dtype(who, dtype)
    keys = require_keys(who, keys)
    _require_state(who, state)
    if not strict and keys is None:
        raise DomainError(f"{who}: `strict=False` needs `keys`: in order nothing can be left out.")
    parts, images = _parts(who, like), _images(who, like, image_shape)
    if keys is not None:
        exchanges = _by_keys(who, state, parts, like, keys)
        if strict:
            _require_covered(who, parts, exchanges, " `strict=False` keeps them.")
            _require_used(who, state, exchanges)
    elif _agree(state, parts):
        exchanges = [exchange for part in parts for exchange in _all_of(part, part.name)]
    else:
        exchanges = _in_order(who, state, parts)
    found: dict[str, Array] = {}
    sources: dict[str, str] = {}
    for exchange in exchanges:
        _bring(who, state, exchange, images, wanted, found, sources)
    return rebuilt(who, like, found, sources)


def to_torch(
    model: Any,
    *,
    keys: Mapping[str, str] | None = None,
    image_shape: ImageShape | None = None,
) -> dict[str, Array]:
    """Return the weights of a model as a state dictionary of PyTorch, in its layouts.

    Parameters
    ----------
    model : tree
        Layers, as in `from_torch`.
    keys : mapping of str to str, optional
        As for `from_torch`: name in PyTorch -> path in the model. Without it a layer is called as its path is: in a
        `Sequential` by its number, ``0.weight``, elsewhere by the names of the fields, ``encoder.0.weight``.
    image_shape : (h, w, c), or mapping of path to such, optional
        As for `from_torch`.

    Returns
    -------
    dict of str to array
        On the host, copies in the dtype of the model. ``module.load_state_dict({k: torch.from_numpy(v) for k, v in
        state.items()})`` takes it.

    Raises
    ------
    DomainError
        A layer is one that PyTorch does not have, ``keys`` does not name every layer, or it is not known how images
        were flattened.
    TreeError
        Two arrays would have the same name.

    Notes
    -----
    The inverse of `from_torch`, but for what is not kept here: ``num_batches_tracked`` is 0, and of two biases that are
    added the second is 0.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> model = nm.nn.Sequential([nm.nn.Conv2d.init((1, 8), 3, rng=0), nm.nn.BatchNorm.init(8)])
    >>> {name: array.shape for name, array in nm.nn.to_torch(model).items()}["0.weight"]
    (8, 1, 3, 3)
    """
    who = "to_torch"
    keys = require_keys(who, keys)
    parts, images = _parts(who, model), _images(who, model, image_shape)
    leaves = leaves_of(model)
    exchanges: list[_Exchange] = []
    if keys is None:
        exchanges = [exchange for part in parts for exchange in _all_of(part, part.name)]
    else:
        owners = _owners(parts)
        for name, path in keys.items():
            owner = owners.get(dotted(path))
            if owner is not None:
                exchanges.append(_alone(who, path, *owner, name))
            else:
                for part in _named(who, model, name, path):
                    exchanges += _all_of(part, part.name)
        _require_covered(who, parts, exchanges)
    state: dict[str, Array] = {}
    for part, rule, names in exchanges:
        ours = []
        for end, features in zip(rule.ours, rule.features, strict=True):
            path = f"{part.path}{end}"
            array = host_array(who, f"model{path}", leaves[path], None)
            if features and part.path in images:
                array = channels_first(array, images[part.path])
            ours.append(array)
        made = dict(zip(names, rule.back(ours), strict=True))
        if rule.theirs == ("running_var",):
            made[f"{names[0].removesuffix('running_var')}{COUNTER}"] = np.array(0)
        for name, array in made.items():
            if name in state:
                advice = "Name them with `keys`."
                raise TreeError(
                    f"{who}: two arrays of the model would be called {name!r}. {advice}"
                )
            state[name] = np.array(array, order="C")
    return state


# ------------------------------------------------------------------------------ the layers of a model
def _walk(node: Any, path: str = "", name: str = "") -> Iterator[tuple[str, str, Any, Any]]:
    """Yield path, PyTorch's name, node and rules: of layers with rules, arrays, and what has no arrays."""
    try:
        rules = rules_of(node)
    except DomainError as error:
        raise DomainError(f"`model{path}`: {error}") from None
    if rules is not None:
        yield path, name, node, tuple(rules)
    elif _is_array(node):
        yield path, name, node, (Rule(("",), ("",), lambda xs: xs, lambda ys: ys),)
    else:
        below = list(_below(node))
        if not below:
            yield path, name, getattr(node, "function", node), None
        ours = type(node).__module__.startswith("nnmath_core.") or isinstance(
            node, list | tuple | dict
        )
        for end, called, part in below:
            yield from _walk(part, path + end, _join(name, called))
        if below and not ours:
            yield path, name, node, None  # another's: what it does between its layers is not known


def _below(node: Any) -> Iterator[tuple[str, str, Any]]:
    if isinstance(node, Sequential):
        for i, part in enumerate(node.layers):
            yield f".layers[{i}]", str(i), part
    elif isinstance(node, dict):
        for key in sorted(node):
            yield f"[{key!r}]", str(key), node[key]
    elif isinstance(node, list | tuple):
        for i, part in enumerate(node):
            yield (f".{node._fields[i]}" if hasattr(node, "_fields") else f"[{i}]"), str(i), part
    elif dataclasses.is_dataclass(node) and not isinstance(node, type):
        for field in dataclasses.fields(node):
            value = getattr(node, field.name)
            if _is_array(value) or _has_layers(value):
                yield f".{field.name}", field.name, value


def _has_layers(value: Any) -> bool:
    """Whether there is a layer or an array in the field of a dataclass, or only what belongs to its structure."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(_is_array(part) or _has_layers(part) for part in value)
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _is_array(node: Any) -> bool:
    return hasattr(node, "shape") and hasattr(node, "dtype") and not isinstance(node, type)


def _located(who: str, walk: Callable[[], Iterator[Any]]) -> list[Any]:
    try:
        return list(walk())
    except DomainError as error:
        raise DomainError(f"{who}: {error}") from None


def _parts(who: str, model: Any, path: str = "", name: str = "") -> list[_Part]:
    found = _located(who, lambda: _walk(model, path, name))
    leaves = leaves_of(model)
    parts = [_Part(p, n, layer, rules) for p, n, layer, rules in found if rules]
    known = {f"{part.path}{ours}" for part in parts for rule in part.rules for ours in rule.ours}
    lost = [p for p in leaves if f"{path}{p}" not in known]
    if lost:
        raise DtypeError(
            f"{who}: `model{path}{lost[0]}` must be an array, got {describe(leaves[lost[0]])}."
        )
    return parts


def _images(who: str, model: Any, image_shape: Any) -> dict[str, int]:
    steps = _located(who, lambda: _walk(model))
    layers = [(path, layer) for path, _, layer, rules in steps if not (rules and _is_array(layer))]
    return flattened_images(who, layers, image_shape)


# ------------------------------------------------------------------------------ who is who
_Exchange: TypeAlias = tuple[_Part, Rule, tuple[str, ...]]
"""A layer, one of its rules, and the entries of the state for it."""


def _require_state(who: str, state: Any) -> None:
    wanted = "a mapping of names to arrays"
    if not isinstance(state, Mapping):
        advice = "Of a module it is `module.state_dict()`." if hasattr(state, "state_dict") else ""
        raise DtypeError(sentence(who, "state", wanted, describe(state), advice))
    for name, value in state.items():
        if not isinstance(name, str):
            raise DtypeError(sentence(who, "state", wanted, f"the name {describe(name)}"))
        if isinstance(value, Mapping):
            advice = f"Give that part alone: `state[{name!r}]`."
            raise DtypeError(sentence(who, f"state[{name!r}]", "an array", describe(value), advice))


def _all_of(part: _Part, prefix: str) -> list[_Exchange]:
    return [(part, rule, tuple(_join(prefix, n) for n in rule.theirs)) for rule in part.rules]


def _alone(who: str, path: str, part: _Part, rule: Rule, name: str) -> _Exchange:
    if len(rule.ours) > 1 or len(rule.theirs) > 1:
        raise DomainError(
            f"{who}: {path!r} is not one array in PyTorch ({', '.join(rule.theirs)}). Name the layer in `keys`, "
            f"{part.path!r}, or a layer inside of it."
        )
    return part, rule, (name,)


def _owners(parts: list[_Part]) -> dict[str, tuple[_Part, Rule]]:
    """Return path of an array, with dots -> the layer that has it, and the rule."""
    return {
        dotted(f"{p.path}{end}"): (p, rule) for p in parts for rule in p.rules for end in rule.ours
    }


def _agree(state: Mapping[str, Any], parts: list[_Part]) -> bool:
    names = {_join(part.name, name) for part in parts for name in part.names}
    return names == {name for name in state if not _is_counter(name)}


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] == COUNTER


def _in_order(who: str, state: Mapping[str, Any], parts: list[_Part]) -> list[_Exchange]:
    """Give each layer the next entries of the state."""
    waiting = {name: None for name in state if not _is_counter(name)}  # ordered
    exchanges: list[_Exchange] = []
    for part in parts:
        first = next(iter(waiting), None)
        needs = f"which needs {few(part.names)}"
        if first is None:
            raise DomainError(f"{who}: `state` has no entries left for {part}, {needs}.")
        fits = [n for n in part.names if first == n or first.endswith(f".{n}") or not n]
        if not fits:
            raise DomainError(
                f"{who}: the next entry of `state` is {first!r}, and the next layer is {part}, {needs}. If the order "
                "differs, say which is which with `keys`."
            )
        longest = max(fits, key=len)
        prefix = first[: len(first) - len(longest)].rstrip(".")
        for name in part.names:
            key = _join(prefix, name)
            if key not in waiting:
                raise DomainError(
                    f"{who}: {part} begins with {first!r} and needs {key!r}, which `state` does not have."
                )
            del waiting[key]
        extra = [key for key in waiting if prefix and key.rpartition(".")[0] == prefix]
        if extra:
            raise DomainError(f"{who}: {part} has no place for {few(extra)} of `state`.")
        exchanges += _all_of(part, prefix)
    if waiting:
        raise DomainError(f"{who}: the model has no layer for {few(waiting)} of `state`.")
    return exchanges


def _by_keys(
    who: str,
    state: Mapping[str, Any],
    parts: list[_Part],
    model: Any,
    keys: Mapping[str, str],
) -> list[_Exchange]:
    """Give layers and arrays the entries that are named for them."""
    owners = _owners(parts)
    exchanges: list[_Exchange] = []
    for name, path in keys.items():
        below = {key: value for key, value in state.items() if is_below(key, name)}
        if not below:
            raise DomainError(f"{who}: `state` has no entry {name!r}, which `keys` names.")
        owner = owners.get(dotted(path))
        if owner is not None:
            if name not in state:
                raise DomainError(f"{who}: `keys` gives {path!r}, an array, {few(below)}.")
            exchanges.append(_alone(who, path, *owner, name))
            continue
        named = _named(who, model, name, path)
        if {_join(part.name, n) for part in named for n in part.names} <= set(below):
            exchanges += [exchange for part in named for exchange in _all_of(part, part.name)]
        else:
            exchanges += _in_order(who, below, named)
    return exchanges


def _named(who: str, model: Any, name: str, path: str) -> list[_Part]:
    """Return the layers at a path, the whole of it being called ``name``."""
    node, reached, rest = model, "", dotted(path)
    while rest:
        for end, _, part in _below(node):
            token = dotted(end)
            if is_below(rest, token):
                node, reached, rest = part, reached + end, rest[len(token) :].removeprefix(".")
                break
        else:
            advice = f"The model has {few(map(dotted, leaves_of(model)))}."
            wanted = "from names to paths in the model"
            raise DomainError(sentence(who, "keys", wanted, repr(path), advice))
    return _parts(who, node, reached, name)


def _require_covered(
    who: str, parts: list[_Part], exchanges: list[_Exchange], advice: str = ""
) -> None:
    """Refuse arrays of the model of which nothing is said."""
    have = {f"{part.path}{end}" for part, rule, _ in exchanges for end in rule.ours}
    need = [f"{part.path}{end}" for part in parts for rule in part.rules for end in rule.ours]
    missing = [f"model{path}" for path in need if path not in have]
    if missing:
        raise DomainError(f"{who}: `keys` names nothing for {few(missing)}.{advice}")


def _require_used(who: str, state: Mapping[str, Any], exchanges: list[_Exchange]) -> None:
    """Refuse entries of the state that nothing takes."""
    used = {name for _, _, names in exchanges for name in names}
    extra = [name for name in state if name not in used and not _is_counter(name)]
    if extra:
        advice = "`strict=False` leaves them out."
        raise DomainError(f"{who}: the model has no place for {few(extra)} of `state`. {advice}")


def _bring(
    who: str,
    state: Mapping[str, Any],
    exchange: _Exchange,
    images: Mapping[str, int],
    dtype: np.dtype[Any] | None,
    found: dict[str, Array],
    sources: dict[str, str],
) -> None:
    """Put what becomes of some entries of the state among the arrays found."""
    part, rule, names = exchange
    theirs = [host_array(who, f"state[{name!r}]", state[name], dtype) for name in names]
    label = ", ".join(f"{name!r} {x.shape}" for name, x in zip(names, theirs, strict=True))
    several = len(theirs) > 1 or len(rule.ours) > 1
    if several and ({x.shape for x in theirs} != {theirs[0].shape} or not theirs[0].shape):
        raise ShapeError(f"{who}: {label} must be arrays of one shape, for {part}.")
    for end, features, array in zip(rule.ours, rule.features, rule.bring(theirs), strict=True):
        path = f"{part.path}{end}"
        if path in found:
            raise DomainError(f"{who}: `keys` gives `model{path}` {sources[path]} and {label}.")
        channels = images.get(part.path)
        if features and channels and array.shape and array.shape[0] % channels == 0:
            array = channels_last(array, channels)
        found[path], sources[path] = np.array(array, order="C"), label
