"""Every device operation, once, in plain array code: the meaning of each name.

A device class replaces a method for all promised dtypes or leaves it. What `Backend` says is the
oracle of the device's kernel and the behaviour of a device that has none.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from nnmath_core.device import attention as attention_, counters as counters_
from nnmath_core.device.contract import Spec, contraction
from nnmath_core.device.index import Index
from nnmath_core.device.names import Device
from nnmath_core.device.sparse import Pattern
from nnmath_core.errors import ShapeError
from nnmath_core.typing import Array

# Two blocks of that many numbers stay in the second-level cache: larger ones took twice as long.
SDDMM_BLOCK = 1 << 15


class Backend:
    """The operations of one device.

    Attributes
    ----------
    name : {"cpu", "cuda"}
    device : Device
    xp : module
        The array namespace: `numpy`, or `cupy` seen through a guard that enters the device.
    special : module
        SciPy's special functions for these arrays.
    dtypes : tuple of dtype
        The element types that every operation promises to take and to keep.
    """

    name: ClassVar[str]
    dtypes: ClassVar[tuple[np.dtype[Any], ...]] = (np.dtype(np.float32), np.dtype(np.float64))
    operations: ClassVar[tuple[str, ...]] = (
        "contract",
        "normal_rows",
        "index_get",
        "index_add",
        "index_put",
        "take",
        "take_along_axis",
        "where",
        "spmm",
        "sddmm",
        "attention",
        "attention_pull",
        "random_blocks",
        "random_words",
        "random_uniform",
        "random_normal",
        "adam_step",
        "adamw_step",
        "gradient_descent_step",
        "heavy_ball_step",
        "nesterov_step",
    )

    device: Device
    xp: Any

    @property
    def special(self) -> ModuleType:
        """The namespace of `scipy.special`."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.device)!r})"

    # --- names and scopes -----------------------------------------------------------------------

    def function(self, forward: str | Callable[..., Any]) -> Callable[..., Any]:
        """Return the callable that a primitive's ``forward`` stands for on this device.

        Parameters
        ----------
        forward : str or callable
            One of `operations` (the method), a dotted name inside `xp` (``"tanh"``,
            ``"linalg.solve"``) or inside `special` (``"special.erf"``); or
            ``forward(be, *arrays, **parameters)``, which gets this backend.

        Returns
        -------
        callable
            To be called with the arrays and parameters alone.

        Raises
        ------
        AttributeError
            The namespace has no such name.
        """
        if not isinstance(forward, str):
            return functools.partial(forward, self)
        if forward in self.operations:
            return getattr(self, forward)  # type: ignore[no-any-return]
        root, _, rest = forward.partition(".")
        place, names = (self.special, rest) if root == "special" else (self.xp, forward)
        return functools.reduce(getattr, names.split("."), place)  # type: ignore[return-value]

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which operators on this device's arrays run on this device."""
        return contextlib.nullcontext()

    def synchronize(self) -> None:
        """Wait until everything queued on the device has been done."""

    def ring(self) -> None:
        """Raise what has been found on the device since the host last waited."""

    # --- arrays in and out ----------------------------------------------------------------------

    def asarray(self, x: Any, *, dtype: Any = None) -> Array:
        """Return numbers, nested sequences of numbers or an array of this device as an array.

        An array of another device is an error: see `from_host`, `to_host` and `to_device`.
        """
        array: Array = self.xp.asarray(x, dtype=dtype)
        return array

    def from_host(self, x: Array) -> Array:
        """Return a `numpy.ndarray` as an array of this device."""
        raise NotImplementedError

    def to_host(self, x: Array) -> Array:
        """Return an array of this device as a `numpy.ndarray`."""
        raise NotImplementedError

    # --- products -------------------------------------------------------------------------------

    def matmul(self, x: Array, y: Array) -> Array:
        """Return the matrix product of `numpy.matmul`."""
        product: Array = self.xp.matmul(x, y)
        return product

    def contract(self, x: Array, y: Array, *, spec: Spec) -> Array:
        r"""Two-operand `einsum`: multiply and sum over the letters that the result lacks.

        .. math:: z_{out} = \sum_{labels \setminus out} x_{labels_x} \, y_{labels_y}

        Parameters
        ----------
        x, y : array
            Any dtypes that `numpy.matmul` takes.
        spec : tuple of 3 str
            Letters of the axes of ``x``, of ``y`` and of the result; none twice in one of them.

        Returns
        -------
        array
            With the dtype of ``matmul(x, y)``; it may be a transposed view of a new array.

        Raises
        ------
        ShapeError
            The spec is malformed, or a letter has two lengths.

        Notes
        -----
        Letters of one operand alone are summed first. The rest is one ``matmul`` of reshaped
        views (a copy only where strides cannot express the merged axes), or one ``multiply`` where
        no letter is contracted. Booleans multiply by `and` and add by `or`, as in ``matmul``.
        """
        return contraction(spec)(self.xp, self.matmul, x, y)

    def normal_rows(
        self, a: Array, x: Array, *, out: tuple[Array, Array] | None = None
    ) -> tuple[Array, Array]:
        """Return ``a @ x`` and ``a.T @ (a @ x)``, for iterations with the normal equations.

        Parameters
        ----------
        a : array, shape (m, n), float32 or float64
        x : array, shape (n,)
            Of the dtype of ``a``.
        out : two arrays, shapes (m,) and (n,), contiguous, optional
            Where the results are written; ``x`` is neither.

        Returns
        -------
        two arrays
            ``out``, or new ones.
        """
        if out is None:
            out = self.xp.empty(a.shape[0], a.dtype), self.xp.empty(a.shape[1], a.dtype)
        self.xp.matmul(a, x, out=out[0])
        self.xp.matmul(a.T, out[0], out=out[1])
        return out

    # --- sparse products ------------------------------------------------------------------------

    def spmm(self, data: Array, x: Array, *, pattern: Pattern, transposed: bool) -> Array:
        r"""Sparse matrix times dense vector or matrix.

        .. math:: y_{ip} = \sum_{e:\, row_e = i} data_e \, x_{col_e\, p}

        Parameters
        ----------
        data : array, shape (nnz,)
            The entries, in the order of the pattern.
        x : array, shape (n,) or (n, p); (m,) or (m, p) with ``transposed``
        pattern : Pattern
            Of shape (m, n), on this device.
        transposed : bool
            Multiply by the transpose instead.

        Returns
        -------
        array, shape (m,) or (m, p); (n,) or (n, p) with ``transposed``
            With the dtype of ``data * x``.

        Notes
        -----
        An entry that occurs twice counts twice, as in SciPy.
        """
        rows, columns = pattern.rows, pattern.columns
        if transposed:
            rows, columns = columns, rows
        terms = (data if x.ndim == 1 else data[:, None]) * x[columns]
        shape = (pattern.shape[1 if transposed else 0], *x.shape[1:])
        return self.index_add(shape, terms.dtype, (rows,), terms)

    def sddmm(self, a: Array, b: Array, *, pattern: Pattern) -> Array:
        r"""Entries of a dense product at the places of a pattern, the rest of it never formed.

        .. math:: z_e = \sum_p a_{row_e\, p} \, b_{col_e\, p}

        Parameters
        ----------
        a : array, shape (m,) or (m, p)
        b : array, shape (n,) or (n, p)
        pattern : Pattern
            Of shape (m, n), on this device.

        Returns
        -------
        array, shape (nnz,)
            With the dtype of ``a * b``.

        Notes
        -----
        Rows are gathered in blocks, so that the memory beside the result is bounded: two blocks of
        `SDDMM_BLOCK` numbers, however many entries there are (and two rows where a row is longer).
        """
        rows, columns = pattern.rows, pattern.columns
        if a.ndim == 1:
            entries: Array = self.xp.take(a, rows, 0) * self.xp.take(b, columns, 0)
            return entries
        out: Array = self.xp.empty(pattern.nnz, self.xp.result_type(a, b))
        step = max(1, SDDMM_BLOCK // max(1, a.shape[1]))
        for start in range(0, pattern.nnz, step):
            at = slice(start, start + step)
            out[at] = self._row_products(
                self.xp.take(a, rows[at], 0), self.xp.take(b, columns[at], 0)
            )
        return out

    def _row_products(self, a: Array, b: Array) -> Array:
        """Return the inner products of the rows of two matrices."""
        products: Array = self.xp.sum(a * b, axis=1, dtype=self.xp.result_type(a, b))
        return products

    # --- attention ------------------------------------------------------------------------------

    def attention(
        self,
        q: Array,
        k: Array,
        v: Array,
        bias: Array | None,
        mask: Array | None,
        *,
        causal: bool,
        scale: float,
        out: Array | None = None,
    ) -> Array:
        r"""Return means of values, weighted by how well keys fit queries.

        .. math:: y_i = \sum_j a_{ij} v_j, \qquad a_{ij} = \operatorname{softmax}_j(scale \, q_i \cdot k_j + b_{ij})

        Parameters
        ----------
        q, k, v : array, shapes (..., t, d), (..., s, d) and (..., s, e)
            Of the same axes in front; an axis of stride 0 repeats a head of keys.
        bias : array, broadcastable to (..., t, s), of two axes at least, or None
        mask : array of booleans, likewise, or None
            False where a query may not attend to a key.
        causal : bool
            Query i attends to the keys j <= i only.
        scale : float
        out : array, shape (..., t, e), contiguous, optional
            Where the result is written.

        Returns
        -------
        array, shape (..., t, e)
            ``out``, or a new array; zeros for a query that may attend to nothing.

        Notes
        -----
        The memory beside it is linear in t and s.
        """
        return attention_.values(self, q, k, v, bias, mask, causal, scale, out)

    def attention_pull(
        self,
        q: Array,
        k: Array,
        v: Array,
        g: Array,
        bias: Array | None,
        mask: Array | None,
        *,
        causal: bool,
        scale: float,
        out: tuple[Array, Array, Array] | None = None,
        kept: Array | None = None,
    ) -> tuple[Array, Array, Array]:
        r"""Return the cotangents of the queries, keys and values of `attention`.

        .. math::
            \bar s = a \odot (\bar a - \textstyle\sum_j a_j \bar a_j), \quad \bar a = g v^\top, \qquad
            \bar q = scale \, \bar s k, \quad \bar k = scale \, \bar s^\top q, \quad \bar v = a^\top g

        Parameters
        ----------
        q, k, v, bias, mask, causal, scale
            As for `attention`.
        g : array, shape (..., t, e)
            The cotangent of the values.
        out : tuple of 3 arrays, contiguous, optional
            Where the results are written, of the shapes of q, k and v.
        kept : array, shape (3, ..., t), contiguous, optional
            Room for what a device keeps of each query meanwhile.
        """
        return attention_.cotangents(self, q, k, v, g, bias, mask, causal, scale, out)

    # --- selections -----------------------------------------------------------------------------

    def index_get(self, x: Array, index: Index) -> Array:
        """Return ``x[index]``.

        Raises
        ------
        IndexError
            An index is out of range.
        """
        entries: Array = x[index]
        return entries

    def index_add(self, shape: tuple[int, ...], dtype: Any, index: Index, values: Array) -> Array:
        """Return zeros to which ``values`` are added at ``index``: the adjoint of `index_get`.

        Entries that are addressed more than once receive the sum, on the CPU in the order of
        ``values``. On a CUDA device the order of floating-point additions to one entry is not
        fixed, so that its last bits may differ from run to run.

        Parameters
        ----------
        shape, dtype
            Of the result.
        index
            What may stand in ``x[index]`` for an ``x`` of that shape.
        values : array
            Broadcasts to the shape of ``x[index]``.

        Raises
        ------
        IndexError
            An index is out of range.
        """
        out: Array = self.xp.zeros(shape, dtype)
        self.xp.add.at(out, index, values)
        return out

    def index_put(self, shape: tuple[int, ...], dtype: Any, index: Index, values: Array) -> Array:
        """Return zeros with ``values`` assigned at ``index``.

        Of several values for one entry the last one in the order of ``values`` stays, on every
        device. Parameters and errors are those of `index_add`.
        """
        out: Array = self.xp.zeros(shape, dtype)
        out[index] = values
        return out

    def take(self, x: Array, indices: Array | int, *, axis: int) -> Array:
        """Return `numpy.take` along one axis.

        Raises
        ------
        IndexError
            An index is out of range.
        """
        entries: Array = self.xp.take(x, indices, axis=axis)
        return entries

    def take_along_axis(self, x: Array, indices: Array, *, axis: int) -> Array:
        """Return `numpy.take_along_axis`.

        Raises
        ------
        IndexError
            An index is out of range.
        """
        entries: Array = self.xp.take_along_axis(x, indices, axis=axis)
        return entries

    def where(self, condition: Array | bool, x: Array | float, y: Array | float) -> Array:
        """Return `numpy.where`; CuPy's takes no condition that is a plain boolean."""
        if isinstance(condition, bool | np.generic):
            condition = self.xp.asarray(condition)
        entries: Array = self.xp.where(condition, x, y)
        return entries

    # --- rows -----------------------------------------------------------------------------------

    def by_rows(
        self, kernel: str, x: Array, axis: tuple[int, ...], *numbers: float
    ) -> tuple[Array, ...] | None:
        """Return what a kernel over rows makes, each row in one pass.

        Parameters
        ----------
        kernel : str
            A kernel of ``rows.cu``.
        x : array
        axis : tuple of int
            The axes, from 0 on, that make a row.
        *numbers : float
            What the kernel takes beside arrays and lengths.

        Returns
        -------
        tuple of array, or None
            What is one number a row has length 1 along ``axis``. None where this device has no
            kernel for ``x``, as the host never has: then the caller's own definition is worked.
        """
        return None

    # --- random numbers -------------------------------------------------------------------------

    def random_blocks(self, counters: Array, keys: Array) -> Array:
        """Return Philox4x32-10 of counters (..., 4) under as many keys (..., 2), all uint32."""
        return counters_.philox(self.xp, counters, keys)

    def random_words(self, keys: Array, *, count: int, purpose: int) -> Array:
        r"""Return the words of Philox4x32-10 for each key.

        Parameters
        ----------
        keys : array, shape (..., 2), uint32
        count : int
        purpose : int
            The last word of the counter: 0 for numbers, others for keys made of keys.

        Returns
        -------
        array, shape (..., count), uint32
            Entry j is word j mod 4 of the block of counter j div 4: it depends on nothing else.
        """
        return counters_.words(self.xp, keys, count, purpose)

    def random_uniform(self, keys: Array, *, count: int, dtype: Any) -> Array:
        """Return uniform numbers in [0, 1) for each key, of shape (..., count).

        Multiples of 2**-53 from two words each; in float32 of 2**-24 from one. Parameters are those
        of `random_words`; the bits are the same on every device.
        """
        return counters_.uniforms(self.xp, keys, count, dtype)

    def random_normal(self, keys: Array, *, count: int, dtype: Any) -> Array:
        """Return standard normal numbers for each key, of shape (..., count).

        Box and Muller on pairs of entries. A kernel is within 4 ULP of this. Parameters are those
        of `random_words`.
        """
        return counters_.normals(self.xp, keys, count, dtype)

    # --- optimizer steps, in place --------------------------------------------------------------

    def adam_step(
        self,
        w: Array,
        m: Array,
        v: Array,
        g: Array,
        *,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        c1: float,
        c2: float,
    ) -> None:
        r"""Take one step of Adam, changing ``w``, ``m`` and ``v``.

        .. math::
            m \leftarrow \beta_1 m + (1 - \beta_1) g, \qquad
            v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \qquad
            w \leftarrow w - lr \, \frac{m / c_1}{\sqrt{v / c_2} + \epsilon}

        with :math:`c_i = 1 - \beta_i^t` from the caller. The four arrays are distinct, contiguous
        and of one shape and dtype.
        """
        m[...] += (1 - beta1) * (g - m)
        v[...] += (1 - beta2) * (g * g - v)
        w[...] -= lr / c1 * m / (self.xp.sqrt(v) / c2**0.5 + eps)

    def adamw_step(
        self,
        w: Array,
        m: Array,
        v: Array,
        g: Array,
        *,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        decay: float,
        c1: float,
        c2: float,
    ) -> None:
        r"""Take one step of AdamW, which is Adam's after a decay of the weights.

        .. math:: w \leftarrow w - lr \cdot decay \cdot w, \quad \text{then } \mathtt{adam\_step}

        The decay is multiplied by ``lr``, as in PyTorch and optax. The other parameters are those
        of `adam_step`.
        """
        w[...] -= lr * decay * w
        self.adam_step(w, m, v, g, lr=lr, beta1=beta1, beta2=beta2, eps=eps, c1=c1, c2=c2)

    def gradient_descent_step(self, w: Array, g: Array, *, lr: float) -> None:
        r"""Take one step of gradient descent, changing ``w``.

        .. math:: w \leftarrow w - lr \, g

        The arrays are distinct, contiguous and of one shape and dtype.
        """
        w[...] -= lr * g

    def heavy_ball_step(self, w: Array, v: Array, g: Array, *, lr: float, momentum: float) -> None:
        r"""Take one step of the heavy ball, changing ``w`` and ``v``.

        .. math:: v \leftarrow \mu v + g, \qquad w \leftarrow w - lr \, v

        with :math:`\mu` the momentum. The arrays are as for `gradient_descent_step`.
        """
        v[...] = momentum * v + g
        w[...] -= lr * v

    def nesterov_step(self, w: Array, v: Array, g: Array, *, lr: float, momentum: float) -> None:
        r"""Take one step of Nesterov's accelerated gradient, changing ``w`` and ``v``.

        .. math:: v \leftarrow \mu v + g, \qquad w \leftarrow w - lr \, (g + \mu v)

        with :math:`\mu` the momentum. The arrays are as for `gradient_descent_step`.
        """
        v[...] = momentum * v + g
        w[...] -= lr * (g + momentum * v)


def flat(who: str, arg: str, x: Array) -> Array:
    """Return the one-dimensional view of a contiguous array, through which a kernel writes.

    Raises
    ------
    ShapeError
        ``x`` is not contiguous; a flattened copy would lose what is written.
    """
    if not x.flags.c_contiguous:
        raise ShapeError(
            f"{who}: `{arg}` must be C-contiguous, got strides {x.strides} for shape {x.shape}. "
            "Pass a copy, `x.copy()`: the step writes through a flat view."
        )
    return x.reshape(-1)
