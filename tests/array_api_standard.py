"""The array API standard, version 2025.12, as a table: names, parameters, element types and results.

Written from the text of the standard; `tests/test_array_api.py` compares it with the namespace of array-api-strict.
"""

from __future__ import annotations

VERSION = "2025.12"
VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12", "2025.12")

SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
REAL_FLOATING = ("float32", "float64")
COMPLEX = ("complex64", "complex128")
INTEGER = SIGNED + UNSIGNED
REAL = INTEGER + REAL_FLOATING
FLOATING = REAL_FLOATING + COMPLEX
NUMERIC = REAL + COMPLEX
BOOLEAN = ("bool",)
INTEGER_OR_BOOLEAN = BOOLEAN + INTEGER
ALL = BOOLEAN + NUMERIC
DTYPES = ALL

CONSTANTS = ("e", "inf", "nan", "newaxis", "pi")

# ------------------------------------------------------------------------------ elementwise
# name -> (element types of the operands, element type of the result)
# "same": the promoted type; "real": that of the parts of a complex number
UNARY = {
    "abs": (NUMERIC, "real"),
    "acos": (FLOATING, "same"),
    "acosh": (FLOATING, "same"),
    "asin": (FLOATING, "same"),
    "asinh": (FLOATING, "same"),
    "atan": (FLOATING, "same"),
    "atanh": (FLOATING, "same"),
    "bitwise_invert": (INTEGER_OR_BOOLEAN, "same"),
    "ceil": (REAL, "same"),
    "conj": (NUMERIC, "same"),
    "cos": (FLOATING, "same"),
    "cosh": (FLOATING, "same"),
    "exp": (FLOATING, "same"),
    "expm1": (FLOATING, "same"),
    "floor": (REAL, "same"),
    "imag": (COMPLEX, "real"),
    "isfinite": (NUMERIC, "bool"),
    "isinf": (NUMERIC, "bool"),
    "isnan": (NUMERIC, "bool"),
    "log": (FLOATING, "same"),
    "log1p": (FLOATING, "same"),
    "log2": (FLOATING, "same"),
    "log10": (FLOATING, "same"),
    "logical_not": (BOOLEAN, "bool"),
    "negative": (NUMERIC, "same"),
    "positive": (NUMERIC, "same"),
    "real": (NUMERIC, "real"),
    "reciprocal": (FLOATING, "same"),
    "round": (NUMERIC, "same"),
    "sign": (NUMERIC, "same"),
    "signbit": (REAL_FLOATING, "bool"),
    "sin": (FLOATING, "same"),
    "sinh": (FLOATING, "same"),
    "sqrt": (FLOATING, "same"),
    "square": (NUMERIC, "same"),
    "tan": (FLOATING, "same"),
    "tanh": (FLOATING, "same"),
    "trunc": (REAL, "same"),
}
BINARY = {
    "add": (NUMERIC, "same"),
    "atan2": (REAL_FLOATING, "same"),
    "bitwise_and": (INTEGER_OR_BOOLEAN, "same"),
    "bitwise_left_shift": (INTEGER, "same"),
    "bitwise_or": (INTEGER_OR_BOOLEAN, "same"),
    "bitwise_right_shift": (INTEGER, "same"),
    "bitwise_xor": (INTEGER_OR_BOOLEAN, "same"),
    "copysign": (REAL_FLOATING, "same"),
    "divide": (FLOATING, "same"),
    "equal": (ALL, "bool"),
    "floor_divide": (REAL, "same"),
    "greater": (REAL, "bool"),
    "greater_equal": (REAL, "bool"),
    "hypot": (REAL_FLOATING, "same"),
    "less": (REAL, "bool"),
    "less_equal": (REAL, "bool"),
    "logaddexp": (REAL_FLOATING, "same"),
    "logical_and": (BOOLEAN, "bool"),
    "logical_or": (BOOLEAN, "bool"),
    "logical_xor": (BOOLEAN, "bool"),
    "maximum": (REAL, "same"),
    "minimum": (REAL, "same"),
    "multiply": (NUMERIC, "same"),
    "nextafter": (REAL_FLOATING, "same"),
    "not_equal": (ALL, "bool"),
    "pow": (NUMERIC, "same"),
    "remainder": (REAL, "same"),
    "subtract": (NUMERIC, "same"),
}

# ------------------------------------------------------------------------------ parameters
SIGNATURES = {
    **{name: "x, /" for name in UNARY},
    **{name: "x1, x2, /" for name in BINARY},
    # creation
    "arange": "start, /, stop=None, step=1, *, dtype=None, device=None",
    "asarray": "obj, /, *, dtype=None, device=None, copy=None",
    "empty": "shape, *, dtype=None, device=None",
    "empty_like": "x, /, *, dtype=None, device=None",
    "eye": "n_rows, n_cols=None, /, *, k=0, dtype=None, device=None",
    "from_dlpack": "x, /, *, device=None, copy=None",
    "full": "shape, fill_value, *, dtype=None, device=None",
    "full_like": "x, /, fill_value, *, dtype=None, device=None",
    "linspace": "start, stop, /, num, *, dtype=None, device=None, endpoint=True",
    "meshgrid": "*arrays, indexing='xy'",
    "ones": "shape, *, dtype=None, device=None",
    "ones_like": "x, /, *, dtype=None, device=None",
    "tril": "x, /, *, k=0",
    "triu": "x, /, *, k=0",
    "zeros": "shape, *, dtype=None, device=None",
    "zeros_like": "x, /, *, dtype=None, device=None",
    # dtypes
    "astype": "x, dtype, /, *, copy=True, device=None",
    "can_cast": "from_, to, /",
    "finfo": "type, /",
    "iinfo": "type, /",
    "isdtype": "dtype, kind",
    "result_type": "*arrays_and_dtypes",
    # elementwise with bounds
    "clip": "x, /, min=None, max=None",
    # indexing, searching, sets, sorting
    "argmax": "x, /, *, axis=None, keepdims=False",
    "argmin": "x, /, *, axis=None, keepdims=False",
    "argsort": "x, /, *, axis=-1, descending=False, stable=True",
    "count_nonzero": "x, /, *, axis=None, keepdims=False",
    "isin": "x1, x2, /, *, invert=False",
    "nonzero": "x, /",
    "searchsorted": "x1, x2, /, *, side='left', sorter=None",
    "sort": "x, /, *, axis=-1, descending=False, stable=True",
    "take": "x, indices, /, *, axis=None",
    "take_along_axis": "x, indices, /, *, axis=-1",
    "unique_all": "x, /",
    "unique_counts": "x, /",
    "unique_inverse": "x, /",
    "unique_values": "x, /",
    "where": "condition, x1, x2, /",
    # products
    "matmul": "x1, x2, /",
    "matrix_transpose": "x, /",
    "tensordot": "x1, x2, /, *, axes=2",
    "vecdot": "x1, x2, /, *, axis=-1",
    # manipulation
    "broadcast_arrays": "*arrays",
    "broadcast_shapes": "*shapes",
    "broadcast_to": "x, /, shape",
    "concat": "arrays, /, *, axis=0",
    "expand_dims": "x, /, axis",
    "flip": "x, /, *, axis=None",
    "moveaxis": "x, source, destination, /",
    "permute_dims": "x, /, axes",
    "repeat": "x, repeats, /, *, axis=None",
    "reshape": "x, /, shape, *, copy=None",
    "roll": "x, /, shift, *, axis=None",
    "squeeze": "x, /, axis",
    "stack": "arrays, /, *, axis=0",
    "tile": "x, repetitions, /",
    "unstack": "x, /, *, axis=0",
    # reductions
    "all": "x, /, *, axis=None, keepdims=False",
    "any": "x, /, *, axis=None, keepdims=False",
    "cumulative_prod": "x, /, *, axis=None, dtype=None, include_initial=False",
    "cumulative_sum": "x, /, *, axis=None, dtype=None, include_initial=False",
    "diff": "x, /, *, axis=-1, n=1, prepend=None, append=None",
    "max": "x, /, *, axis=None, keepdims=False",
    "mean": "x, /, *, axis=None, keepdims=False",
    "min": "x, /, *, axis=None, keepdims=False",
    "prod": "x, /, *, axis=None, dtype=None, keepdims=False",
    "std": "x, /, *, axis=None, correction=0.0, keepdims=False",
    "sum": "x, /, *, axis=None, dtype=None, keepdims=False",
    "var": "x, /, *, axis=None, correction=0.0, keepdims=False",
    # inspection
    "__array_namespace_info__": "",
    # extensions
    "linalg.cholesky": "x, /, *, upper=False",
    "linalg.cross": "x1, x2, /, *, axis=-1",
    "linalg.det": "x, /",
    "linalg.diagonal": "x, /, *, offset=0",
    "linalg.eig": "x, /",
    "linalg.eigh": "x, /",
    "linalg.eigvals": "x, /",
    "linalg.eigvalsh": "x, /",
    "linalg.inv": "x, /",
    "linalg.matmul": "x1, x2, /",
    "linalg.matrix_norm": "x, /, *, keepdims=False, ord='fro'",
    "linalg.matrix_power": "x, n, /",
    "linalg.matrix_rank": "x, /, *, rtol=None",
    "linalg.matrix_transpose": "x, /",
    "linalg.outer": "x1, x2, /",
    "linalg.pinv": "x, /, *, rtol=None",
    "linalg.qr": "x, /, *, mode='reduced'",
    "linalg.slogdet": "x, /",
    "linalg.solve": "x1, x2, /",
    "linalg.svd": "x, /, *, full_matrices=True",
    "linalg.svdvals": "x, /",
    "linalg.tensordot": "x1, x2, /, *, axes=2",
    "linalg.trace": "x, /, *, offset=0, dtype=None",
    "linalg.vecdot": "x1, x2, /, *, axis=-1",
    "linalg.vector_norm": "x, /, *, axis=None, keepdims=False, ord=2",
    "fft.fft": "x, /, *, n=None, axis=-1, norm='backward'",
    "fft.fftfreq": "n, /, *, d=1.0, dtype=None, device=None",
    "fft.fftn": "x, /, *, s=None, axes=None, norm='backward'",
    "fft.fftshift": "x, /, *, axes=None",
    "fft.hfft": "x, /, *, n=None, axis=-1, norm='backward'",
    "fft.ifft": "x, /, *, n=None, axis=-1, norm='backward'",
    "fft.ifftn": "x, /, *, s=None, axes=None, norm='backward'",
    "fft.ifftshift": "x, /, *, axes=None",
    "fft.ihfft": "x, /, *, n=None, axis=-1, norm='backward'",
    "fft.irfft": "x, /, *, n=None, axis=-1, norm='backward'",
    "fft.irfftn": "x, /, *, s=None, axes=None, norm='backward'",
    "fft.rfft": "x, /, *, n=None, axis=-1, norm='backward'",
    "fft.rfftfreq": "n, /, *, d=1.0, dtype=None, device=None",
    "fft.rfftn": "x, /, *, s=None, axes=None, norm='backward'",
}

# ------------------------------------------------------------------------------ the array object
ATTRIBUTES = ("dtype", "device", "mT", "ndim", "shape", "size", "T")
OPERATORS = (
    "abs add and eq floordiv ge getitem gt invert le lshift lt matmul mod mul ne neg or pos pow rshift setitem sub "
    "truediv xor radd rsub rmul rtruediv rfloordiv rpow rmod rmatmul rand ror rxor rlshift rrshift "
    "iadd isub imul itruediv ifloordiv ipow imod imatmul iand ior ixor ilshift irshift"
).split()
CONVERSIONS = ("bool", "complex", "float", "index", "int")
METHODS = ("__array_namespace__", "to_device")
REFUSED = ("__dlpack__", "__dlpack_device__")
