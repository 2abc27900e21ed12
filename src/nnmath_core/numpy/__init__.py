"""NumPy's functions for plain arrays, device arrays and tracers.

Names, signatures and results are NumPy's. On a plain array a function runs at once on the array's device; on a tracer
it is recorded. Creation functions make arrays on the default device (`nnmath_core.default_device`). Everything that
differentiates when it is called as ``numpy.f`` on a tracer is here too; what is not here yet raises AttributeError.
"""

import sys as _sys
from typing import Any as _Any

from numpy import (
    False_ as False_,
    True_ as True_,
    array2string as array2string,
    array_repr as array_repr,
    array_str as array_str,
    bool as bool,
    bool_ as bool_,
    broadcast_shapes as broadcast_shapes,
    byte as byte,
    cdouble as cdouble,
    complex64 as complex64,
    complex128 as complex128,
    complexfloating as complexfloating,
    copyto as copyto,
    csingle as csingle,
    double as double,
    dtype as dtype,
    e as e,
    errstate as errstate,
    euler_gamma as euler_gamma,
    fill_diagonal as fill_diagonal,
    finfo as finfo,
    flexible as flexible,
    float16 as float16,
    float32 as float32,
    float64 as float64,
    floating as floating,
    generic as generic,
    get_printoptions as get_printoptions,
    half as half,
    iinfo as iinfo,
    index_exp as index_exp,
    inexact as inexact,
    inf as inf,
    int8 as int8,
    int16 as int16,
    int32 as int32,
    int64 as int64,
    int_ as int_,
    intc as intc,
    integer as integer,
    intp as intp,
    iscomplexobj as iscomplexobj,
    isdtype as isdtype,
    isfortran as isfortran,
    isrealobj as isrealobj,
    isscalar as isscalar,
    issubdtype as issubdtype,
    iterable as iterable,
    long as long,
    longdouble as longdouble,
    longlong as longlong,
    may_share_memory as may_share_memory,
    nan as nan,
    ndarray as ndarray,
    ndenumerate as ndenumerate,
    ndindex as ndindex,
    newaxis as newaxis,
    number as number,
    object_ as object_,
    packbits as packbits,
    pi as pi,
    place as place,
    printoptions as printoptions,
    promote_types as promote_types,
    put as put,
    put_along_axis as put_along_axis,
    putmask as putmask,
    result_type as result_type,
    s_ as s_,
    set_printoptions as set_printoptions,
    shares_memory as shares_memory,
    short as short,
    signedinteger as signedinteger,
    single as single,
    typename as typename,
    ubyte as ubyte,
    ufunc as ufunc,
    uint as uint,
    uint8 as uint8,
    uint16 as uint16,
    uint32 as uint32,
    uint64 as uint64,
    uintc as uintc,
    uintp as uintp,
    ulong as ulong,
    ulonglong as ulonglong,
    unpackbits as unpackbits,
    unsignedinteger as unsignedinteger,
    ushort as ushort,
    vectorize as vectorize,
)

from nnmath_core._ext._autodiff import (
    install as _install,
    shape_of as _shape_of,
    traced_sum as _traced_sum,
)
from nnmath_core.autodiff.functions import (
    allclose as allclose,
    array_equal as array_equal,
    array_equiv as array_equiv,
    clip as clip,
    copy as copy,
    isclose as isclose,
    ndim as ndim,
    round_ as round,
    size as size,
    where as where,
)
from nnmath_core.autodiff.ops.arrange import (
    append as append,
    apply_along_axis as apply_along_axis,
    apply_over_axes as apply_over_axes,
    block as block,
    delete as delete,
    diag_indices_from as diag_indices_from,
    diagflat as diagflat,
    dsplit as dsplit,
    hsplit as hsplit,
    insert as insert,
    ix_ as ix_,
    meshgrid as meshgrid,
    ravel_multi_index as ravel_multi_index,
    resize as resize,
    rollaxis as rollaxis,
    rot90 as rot90,
    tril_indices_from as tril_indices_from,
    trim_zeros as trim_zeros,
    triu_indices_from as triu_indices_from,
    unravel_index as unravel_index,
    unstack as unstack,
    vsplit as vsplit,
)
from nnmath_core.autodiff.ops.choice import (
    choose as choose,
    piecewise as piecewise,
    select as select,
)
from nnmath_core.autodiff.ops.compare import (
    equal as equal,
    greater as greater,
    greater_equal as greater_equal,
    isfinite as isfinite,
    isinf as isinf,
    isnan as isnan,
    less as less,
    less_equal as less_equal,
    logical_and as logical_and,
    logical_not as logical_not,
    logical_or as logical_or,
    logical_xor as logical_xor,
    not_equal as not_equal,
    signbit as signbit,
)
from nnmath_core.autodiff.ops.contract import (
    diag as diag,
    diagonal as diagonal,
    dot as dot,
    inner as inner,
    matmul as matmul,
    matvec as matvec,
    outer as outer,
    tensordot as tensordot,
    trace as trace,
    vdot as vdot,
    vecdot as vecdot,
    vecmat as vecmat,
)
from nnmath_core.autodiff.ops.counting import (
    bincount as bincount,
    digitize as digitize,
    histogram as histogram,
    histogram2d as histogram2d,
    histogram_bin_edges as histogram_bin_edges,
    histogramdd as histogramdd,
    in1d as in1d,
    isin as isin,
    searchsorted as searchsorted,
)
from nnmath_core.autodiff.ops.dtypes import (
    can_cast as can_cast,
    common_type as common_type,
    min_scalar_type as min_scalar_type,
)
from nnmath_core.autodiff.ops.einsum import einsum as einsum, einsum_path as einsum_path
from nnmath_core.autodiff.ops.elementwise import (
    absolute as absolute,
    add as add,
    angle as angle,
    arccos as arccos,
    arccosh as arccosh,
    arcsin as arcsin,
    arcsinh as arcsinh,
    arctan as arctan,
    arctan2 as arctan2,
    arctanh as arctanh,
    cbrt as cbrt,
    ceil as ceil,
    conj as conj,
    cos as cos,
    cosh as cosh,
    divide as divide,
    exp as exp,
    exp2 as exp2,
    expm1 as expm1,
    floor as floor,
    floor_divide as floor_divide,
    hypot as hypot,
    log as log,
    log1p as log1p,
    log2 as log2,
    log10 as log10,
    logaddexp as logaddexp,
    multiply as multiply,
    negative as negative,
    positive as positive,
    power as power,
    reciprocal as reciprocal,
    remainder as remainder,
    rint as rint,
    sign as sign,
    sin as sin,
    sinh as sinh,
    sqrt as sqrt,
    square as square,
    subtract as subtract,
    tan as tan,
    tanh as tanh,
    trunc as trunc,
)
from nnmath_core.autodiff.ops.floats import (
    copysign as copysign,
    deg2rad as deg2rad,
    divmod as divmod,
    fabs as fabs,
    fix as fix,
    float_power as float_power,
    fmax as fmax,
    fmin as fmin,
    fmod as fmod,
    frexp as frexp,
    heaviside as heaviside,
    i0 as i0,
    iscomplex as iscomplex,
    isneginf as isneginf,
    isposinf as isposinf,
    isreal as isreal,
    ldexp as ldexp,
    logaddexp2 as logaddexp2,
    modf as modf,
    nan_to_num as nan_to_num,
    nextafter as nextafter,
    rad2deg as rad2deg,
    real_if_close as real_if_close,
    sinc as sinc,
    spacing as spacing,
    unwrap as unwrap,
)
from nnmath_core.autodiff.ops.index import (
    argsort as argsort,
    compress as compress,
    extract as extract,
    nonzero as nonzero,
    sort as sort,
    take as take,
    take_along_axis as take_along_axis,
)
from nnmath_core.autodiff.ops.integers import (
    bitwise_and as bitwise_and,
    bitwise_count as bitwise_count,
    bitwise_left_shift as bitwise_left_shift,
    bitwise_or as bitwise_or,
    bitwise_right_shift as bitwise_right_shift,
    bitwise_xor as bitwise_xor,
    gcd as gcd,
    invert as invert,
    lcm as lcm,
)
from nnmath_core.autodiff.ops.join import (
    array_split as array_split,
    column_stack as column_stack,
    concatenate as concatenate,
    dstack as dstack,
    hstack as hstack,
    repeat as repeat,
    roll as roll,
    split as split,
    stack as stack,
    tile as tile,
    vstack as vstack,
)
from nnmath_core.autodiff.ops.linalg import (
    tril as tril,
    triu as triu,
)
from nnmath_core.autodiff.ops.nan import (
    nanargmax as nanargmax,
    nanargmin as nanargmin,
    nancumprod as nancumprod,
    nancumsum as nancumsum,
    nanmax as nanmax,
    nanmean as nanmean,
    nanmin as nanmin,
    nanprod as nanprod,
    nanstd as nanstd,
    nansum as nansum,
    nanvar as nanvar,
)
from nnmath_core.autodiff.ops.numeric import (
    cross as cross,
    ediff1d as ediff1d,
    gradient as gradient,
    interp as interp,
    kron as kron,
    trapezoid as trapezoid,
)
from nnmath_core.autodiff.ops.order import (
    argpartition as argpartition,
    argwhere as argwhere,
    flatnonzero as flatnonzero,
    lexsort as lexsort,
    partition as partition,
    sort_complex as sort_complex,
)
from nnmath_core.autodiff.ops.pad import pad as pad
from nnmath_core.autodiff.ops.polynomial import (
    poly as poly,
    polyadd as polyadd,
    polyder as polyder,
    polydiv as polydiv,
    polyfit as polyfit,
    polyint as polyint,
    polymul as polymul,
    polysub as polysub,
    polyval as polyval,
    roots as roots,
    vander as vander,
)
from nnmath_core.autodiff.ops.product import (
    cumprod as cumprod,
    cumulative_prod as cumulative_prod,
    prod as prod,
)
from nnmath_core.autodiff.ops.quantile import (
    median as median,
    nanmedian as nanmedian,
    nanpercentile as nanpercentile,
    nanquantile as nanquantile,
    percentile as percentile,
    quantile as quantile,
)
from nnmath_core.autodiff.ops.reduce import (
    all as all,
    any as any,
    argmax as argmax,
    argmin as argmin,
    count_nonzero as count_nonzero,
    cumsum as cumsum,
    cumulative_sum as cumulative_sum,
    diff as diff,
    max as max,
    mean as mean,
    min as min,
    ptp as ptp,
    std as std,
    var as var,
)
from nnmath_core.autodiff.ops.select import (
    maximum as maximum,
    minimum as minimum,
)
from nnmath_core.autodiff.ops.sequences import (
    convolve as convolve,
    correlate as correlate,
)
from nnmath_core.autodiff.ops.sets import (
    intersect1d as intersect1d,
    setdiff1d as setdiff1d,
    setxor1d as setxor1d,
    union1d as union1d,
    unique as unique,
    unique_all as unique_all,
    unique_counts as unique_counts,
    unique_inverse as unique_inverse,
    unique_values as unique_values,
)
from nnmath_core.autodiff.ops.shape import (
    astype as astype,
    atleast_1d as atleast_1d,
    atleast_2d as atleast_2d,
    atleast_3d as atleast_3d,
    broadcast_arrays as broadcast_arrays,
    broadcast_to as broadcast_to,
    expand_dims as expand_dims,
    flip as flip,
    fliplr as fliplr,
    flipud as flipud,
    imag as imag,
    matrix_transpose as matrix_transpose,
    moveaxis as moveaxis,
    permute_dims as permute_dims,
    ravel as ravel,
    real as real,
    reshape as reshape,
    squeeze as squeeze,
    swapaxes as swapaxes,
    transpose as transpose,
)
from nnmath_core.autodiff.ops.statistics import (
    average as average,
    corrcoef as corrcoef,
    cov as cov,
)
from nnmath_core.numpy import (
    fft as fft,
    lib as lib,
    linalg as linalg,
)
from nnmath_core.numpy.creation import (
    arange as arange,
    array as array,
    asanyarray as asanyarray,
    asarray as asarray,
    asarray_chkfinite as asarray_chkfinite,
    ascontiguousarray as ascontiguousarray,
    asfortranarray as asfortranarray,
    bartlett as bartlett,
    blackman as blackman,
    c_ as c_,
    diag_indices as diag_indices,
    empty as empty,
    empty_like as empty_like,
    eye as eye,
    from_dlpack as from_dlpack,
    frombuffer as frombuffer,
    fromfile as fromfile,
    fromfunction as fromfunction,
    fromiter as fromiter,
    fromstring as fromstring,
    full as full,
    full_like as full_like,
    geomspace as geomspace,
    hamming as hamming,
    hanning as hanning,
    identity as identity,
    indices as indices,
    kaiser as kaiser,
    linspace as linspace,
    logspace as logspace,
    mask_indices as mask_indices,
    mgrid as mgrid,
    ogrid as ogrid,
    ones as ones,
    ones_like as ones_like,
    r_ as r_,
    require as require,
    tri as tri,
    tril_indices as tril_indices,
    triu_indices as triu_indices,
    zeros as zeros,
    zeros_like as zeros_like,
)
from nnmath_core.numpy.inspection import ArrayNamespaceInfo as _ArrayNamespaceInfo

# Second names.
abs = absolute
acos = arccos
acosh = arccosh
asin = arcsin
asinh = arcsinh
atan = arctan
atan2 = arctan2
atanh = arctanh
amax = max
amin = min
concat = concatenate
conjugate = conj
mod = remainder
pow = power
true_divide = divide
bitwise_invert = bitwise_not = invert
degrees = rad2deg
left_shift = bitwise_left_shift
radians = deg2rad
right_shift = bitwise_right_shift
around = round
shape = _shape_of
sum = _traced_sum

_NAMESPACES = ("fft", "lib", "linalg")

# Every public name above belongs to the namespace: a function is added by one line, `f as f`.
__all__ = sorted(
    name
    for name, value in globals().items()
    if not name.startswith("_") and (type(value) is not type(_sys) or name in _NAMESPACES)
)


def __dir__() -> list[str]:
    return __all__


__array_api_version__ = "2025.12"
_VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12", __array_api_version__)


def __array_namespace_info__() -> _ArrayNamespaceInfo:
    """What the namespace can do, as the array API standard asks for it."""
    return _ArrayNamespaceInfo()


def _namespace(api_version: str | None) -> _Any:
    if api_version not in (None, *_VERSIONS):
        raise ValueError(
            f"__array_namespace__: `api_version` must be one of {', '.join(_VERSIONS)} or None, got {api_version!r}."
        )
    return _sys.modules[__name__]


_install(namespace=_namespace)
