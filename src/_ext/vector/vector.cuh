// The functions of the elementwise machine on the device: nnm_<name> for each loop of vector.def without accumulator.
//
// Included as text, by read_source in device/launch.py and by generated kernels: no #include and nothing of the host's
// headers, which NVRTC has not. A comment ends with the error in ULP, float32 / float64: what CUDA documents for its
// functions (the larger of its editions), and half a unit since that is to the rounded result; "exact" is the rounded
// result. CuPy compiles with -ftz=true: float32 arguments and results below 1.2e-38 are 0. Sums and products may be
// fused, but for nnm_times. Special values are those of vector.inc.c.

// --- words -----------------------------------------------------------------------------------------------------------

template <typename real_t> __device__ __forceinline__ real_t nnm_infinity()
{
    return (real_t)__longlong_as_double(0x7ff0000000000000LL);
}

template <typename real_t> __device__ __forceinline__ real_t nnm_not_a_number()
{
    return (real_t)__longlong_as_double(0x7ff8000000000000LL);
}

// A product that no sum is fused with.
__device__ __forceinline__ float nnm_times(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double nnm_times(double a, double b) { return __dmul_rn(a, b); }

// a b = p + the result, exactly.
template <typename real_t> __device__ __forceinline__ real_t nnm_two_product(real_t a, real_t b, real_t &p)
{
    p = nnm_times(a, b);
    return fma(a, b, -p);
}

// a + b = s + the result, exactly.
template <typename real_t> __device__ __forceinline__ real_t nnm_two_sum(real_t a, real_t b, real_t &s)
{
    s = a + b;
    const real_t v = s - a;
    return (a - (s - v)) + (b - v);
}

// a0 + x (a1 + x (a2 + ...))
template <typename real_t> __device__ __forceinline__ real_t nnm_horner(real_t, double a) { return (real_t)a; }
template <typename real_t, typename... More>
__device__ __forceinline__ real_t nnm_horner(real_t x, double a, More... more)
{
    return fma(x, nnm_horner(x, more...), (real_t)a);
}

// --- arithmetic ------------------------------------------------------------------------------------------------------

// -x; exact
template <typename real_t> __device__ __forceinline__ real_t nnm_negative(real_t x) { return -x; }

// x^2; exact
template <typename real_t> __device__ __forceinline__ real_t nnm_square(real_t x) { return x * x; }

// 1 / x; exact
template <typename real_t> __device__ __forceinline__ real_t nnm_reciprocal(real_t x) { return real_t(1) / x; }

// |x|; exact
template <typename real_t> __device__ __forceinline__ real_t nnm_absolute(real_t x) { return fabs(x); }

// 1, -1, 0 (of both zeros) or NaN; exact
template <typename real_t> __device__ __forceinline__ real_t nnm_sign(real_t x)
{
    return x > real_t(0) ? real_t(1) : x < real_t(0) ? real_t(-1) : x == real_t(0) ? real_t(0) : x;
}

// Integers below, above, towards 0, nearest (ties to even); exact
template <typename real_t> __device__ __forceinline__ real_t nnm_floor(real_t x) { return floor(x); }
template <typename real_t> __device__ __forceinline__ real_t nnm_ceil(real_t x) { return ceil(x); }
template <typename real_t> __device__ __forceinline__ real_t nnm_trunc(real_t x) { return trunc(x); }
template <typename real_t> __device__ __forceinline__ real_t nnm_rint(real_t x) { return rint(x); }

// sqrt(x); exact
template <typename real_t> __device__ __forceinline__ real_t nnm_sqrt(real_t x) { return sqrt(x); }

// 1 / sqrt(x), which the compiler may take for CUDA's rsqrt; 2.5 / 1.5 ULP
template <typename real_t> __device__ __forceinline__ real_t nnm_rsqrt(real_t x) { return real_t(1) / sqrt(x); }

// max(x, 0), and NaN; exact
template <typename real_t> __device__ __forceinline__ real_t nnm_relu(real_t x)
{
    return x <= real_t(0) ? real_t(0) : x;
}

// a + b, a - b, a b, a / b; exact
template <typename real_t> __device__ __forceinline__ real_t nnm_add(real_t a, real_t b) { return a + b; }
template <typename real_t> __device__ __forceinline__ real_t nnm_subtract(real_t a, real_t b) { return a - b; }
template <typename real_t> __device__ __forceinline__ real_t nnm_multiply(real_t a, real_t b) { return a * b; }
template <typename real_t> __device__ __forceinline__ real_t nnm_divide(real_t a, real_t b) { return a / b; }
template <typename real_t> __device__ __forceinline__ real_t nnm_quotient(real_t a, real_t b) { return a / b; }

// The larger and the smaller of two, NaN if one of them is, b of two that are equal; exact
template <typename real_t> __device__ __forceinline__ real_t nnm_maximum(real_t a, real_t b)
{
    return (a > b) | (a != a) ? a : b;
}
template <typename real_t> __device__ __forceinline__ real_t nnm_minimum(real_t a, real_t b)
{
    return (a < b) | (a != a) ? a : b;
}

// a b + c, a b - c, c - a b: rounded once or twice; 1 / 1 ULP of the larger of a b and c
template <typename real_t> __device__ __forceinline__ real_t nnm_muladd(real_t a, real_t b, real_t c)
{
    return a * b + c;
}
template <typename real_t> __device__ __forceinline__ real_t nnm_mulsub(real_t a, real_t b, real_t c)
{
    return a * b - c;
}
template <typename real_t> __device__ __forceinline__ real_t nnm_nmuladd(real_t a, real_t b, real_t c)
{
    return c - a * b;
}

// min(max(x, low), high), NaN where one of the three is; exact
template <typename real_t> __device__ __forceinline__ real_t nnm_clip(real_t x, real_t low, real_t high)
{
    const real_t y = x < low ? low : x, z = y > high ? high : y;
    return low != low ? low : high != high ? high : z;
}

// x where the condition holds, else y; exact
template <typename real_t> __device__ __forceinline__ real_t nnm_where(bool condition, real_t x, real_t y)
{
    return condition ? x : y;
}

// --- comparisons; exact ----------------------------------------------------------------------------------------------

template <typename real_t> __device__ __forceinline__ bool nnm_isnan(real_t x) { return x != x; }
template <typename real_t> __device__ __forceinline__ bool nnm_isinf(real_t x)
{
    return fabs(x) == nnm_infinity<real_t>();
}
template <typename real_t> __device__ __forceinline__ bool nnm_isfinite(real_t x)
{
    return fabs(x) < nnm_infinity<real_t>();
}
template <typename real_t> __device__ __forceinline__ bool nnm_equal(real_t a, real_t b) { return a == b; }
template <typename real_t> __device__ __forceinline__ bool nnm_not_equal(real_t a, real_t b) { return a != b; }
template <typename real_t> __device__ __forceinline__ bool nnm_less(real_t a, real_t b) { return a < b; }
template <typename real_t> __device__ __forceinline__ bool nnm_less_equal(real_t a, real_t b) { return a <= b; }
template <typename real_t> __device__ __forceinline__ bool nnm_greater(real_t a, real_t b) { return a > b; }
template <typename real_t> __device__ __forceinline__ bool nnm_greater_equal(real_t a, real_t b) { return a >= b; }

// --- exponentials and logarithms -------------------------------------------------------------------------------------

// exp(x); 2.5 / 1.5 ULP
template <typename real_t> __device__ __forceinline__ real_t nnm_exp(real_t x) { return exp(x); }

// 2^x; 2.5 / 1.5 ULP
template <typename real_t> __device__ __forceinline__ real_t nnm_exp2(real_t x) { return exp2(x); }

// exp(x) - 1; 1.5 / 1.5 ULP
template <typename real_t> __device__ __forceinline__ real_t nnm_expm1(real_t x) { return expm1(x); }

// log(x); 1.5 / 1.5 ULP
template <typename real_t> __device__ __forceinline__ real_t nnm_log(real_t x) { return log(x); }

// log(x) / log(2); 1.5 / 1.5 ULP
template <typename real_t> __device__ __forceinline__ real_t nnm_log2(real_t x) { return log2(x); }

// log(x) / log(10); 2.5 / 1.5 ULP
template <typename real_t> __device__ __forceinline__ real_t nnm_log10(real_t x) { return log10(x); }

// log(1 + x); 1.5 / 1.5 ULP
template <typename real_t> __device__ __forceinline__ real_t nnm_log1p(real_t x) { return log1p(x); }

// 1 / (1 + exp(-x)), by exp(-|x|), which does not overflow; 4.5 / 3.5 ULP
template <typename real_t> __device__ __forceinline__ real_t nnm_expit(real_t x)
{
    const real_t e = exp(-fabs(x));
    return (x > real_t(0) ? real_t(1) : e) / (real_t(1) + e);
}

// a^b; 8.5 / 2.5 ULP
template <typename real_t> __device__ __forceinline__ real_t nnm_power(real_t a, real_t b) { return pow(a, b); }

// sqrt(a^2 + b^2), infinite beside infinity, even for NaN; 3.5 / 2.5 ULP
template <typename real_t> __device__ __forceinline__ real_t nnm_hypot(real_t a, real_t b) { return hypot(a, b); }

// --- angles ----------------------------------------------------------------------------------------------------------

// sin(x), cos(x), at any size of x; 2.5 / 1.5 ULP
template <typename real_t> __device__ __forceinline__ real_t nnm_sin(real_t x) { return sin(x); }
template <typename real_t> __device__ __forceinline__ real_t nnm_cos(real_t x) { return cos(x); }

// tan(x); 4.5 / 2.5 ULP
template <typename real_t> __device__ __forceinline__ real_t nnm_tan(real_t x) { return tan(x); }

// arctan(x); 2.5 / 2.5 ULP
template <typename real_t> __device__ __forceinline__ real_t nnm_arctan(real_t x) { return atan(x); }

// sinh(x); 3.5 / 2.5 ULP
template <typename real_t> __device__ __forceinline__ real_t nnm_sinh(real_t x) { return sinh(x); }

// cosh(x), tanh(x); 2.5 / 2.5 ULP
template <typename real_t> __device__ __forceinline__ real_t nnm_cosh(real_t x) { return cosh(x); }
template <typename real_t> __device__ __forceinline__ real_t nnm_tanh(real_t x) { return tanh(x); }

// --- cotangents from what a function kept ----------------------------------------------------------------------------

// g (1 - y^2); 2 / 2 ULP of g
template <typename real_t> __device__ __forceinline__ real_t nnm_tanh_pull(real_t g, real_t y)
{
    return g * (real_t(1) - y * y);
}

// g (y (1 - y)); 2 / 2 ULP
template <typename real_t> __device__ __forceinline__ real_t nnm_expit_pull(real_t g, real_t y)
{
    return g * (y * (real_t(1) - y));
}

// g, and 0 where x <= 0; exact
template <typename real_t> __device__ __forceinline__ real_t nnm_relu_pull(real_t g, real_t x)
{
    return x <= real_t(0) ? real_t(0) : g;
}

// --- error function and GELU -----------------------------------------------------------------------------------------

// erf(x); 2.5 / 2.5 ULP
template <typename real_t> __device__ __forceinline__ real_t nnm_erf(real_t x) { return erf(x); }

// erfc(x); 4.5 / 5.5 ULP
template <typename real_t> __device__ __forceinline__ real_t nnm_erfc(real_t x) { return erfc(x); }

// exp(s^2 / 2) P(Z <= -s) of a standard normal Z, s >= 0: erfcx(s / sqrt 2) / 2 without the rounding of the quotient.
// (1 + 2 x) erfcx(x) as a polynomial of t = (x - c) / (x + c); coefficients of tests/reference/vector_math_fit.py.
template <typename real_t> __device__ __forceinline__ real_t nnm_half_erfcx(real_t s)
{
    const bool single = sizeof(real_t) == 4;
    const real_t c = single ? real_t(2.8284271247461901) : real_t(5.6568542494923804);
    const real_t t = (s - c) / (s + c);
    real_t p;
    if (single) {
        p = nnm_horner(t, 1.27697838, -9.27637598e-2, -1.66030391e-1, 1.64049395e-1, -5.42201861e-2, -8.01863569e-3,
                       8.72429454e-3, 1.2166655e-3, -1.46351167e-3, -3.57177892e-4, 2.21105452e-4, 6.31001855e-5,
                       -2.01089312e-5);
    } else {
        const real_t u = t * t, w = u * u;
        const real_t a = fma(u, nnm_horner(w, 1.537965210261959e-2, -6.6330365812199045e-2, -7.5777326203091503e-4,
                                           -1.1221292615314274e-5, 7.7460686356819793e-8, 3.1672611119361695e-9),
                             nnm_horner(w, 1.2329951186255525, -1.0103906603629991e-1, -1.6197734059683292e-2,
                                        1.5062149237837335e-4, 2.9198219084548258e-7, -2.05545313698593e-8,
                                        -2.6557266163125748e-10));
        const real_t b = fma(u, nnm_horner(w, 6.8097054254691298e-2, 3.7167515536323988e-2, -1.9925676026410457e-4,
                                           5.7093141135324918e-6, 1.1025271999000153e-7, 1.825695118953907e-9),
                             nnm_horner(w, -1.3962111684056251e-1, 9.3732834998410491e-2, 5.0319699895242517e-3,
                                        -2.43989944557621e-5, -8.2507833868124504e-7, -1.4806988146925794e-8,
                                        -1.4311318470928161e-10));
        p = fma(t, b, a);
    }
    return p / fma(real_t(2.8284271247461901), s, real_t(2));
}

// exp(x - low) = the result times scale, low small beside 1. Where the exponential would leave the normal numbers a
// factor stays outside, so that a product with it is rounded, or flushed to 0, once.
template <typename real_t> __device__ __forceinline__ real_t nnm_exp_scaled(real_t x, real_t low, real_t &scale)
{
    const bool single = sizeof(real_t) == 4, far = x < (single ? real_t(-64) : real_t(-600));
    const real_t by = single ? real_t(16) : real_t(64); // x + by is exact
    scale = !far ? real_t(1) : single ? real_t(1.1253517471925911e-7) : real_t(1.6038108905486378e-28);
    const real_t e = exp(far ? x + by : x);
    return fma(-low, e, e);
}

// exp(-s^2 / 2): the square in two parts, whose rounding error alone would cost hundreds of ULP in the tail.
template <typename real_t> __device__ __forceinline__ real_t nnm_gauss(real_t s, real_t &scale)
{
    real_t square;
    const real_t lost = nnm_two_product(s, s, square);
    return nnm_exp_scaled(real_t(-0.5) * square, real_t(0.5) * lost, scale);
}

// x P(Z <= x): by s P(Z <= -s) with s = |x|, which keeps its digits in the tail; 7 / 6 ULP, and by a polynomial
// 2.5 / 2.5 for |x| < 0.5
template <typename real_t> __device__ __forceinline__ real_t nnm_gelu(real_t x)
{
    const real_t most = sizeof(real_t) == 4 ? real_t(15) : real_t(40), size = fabs(x), z = x * x;
    if (!(size < most))
        return x * (x > real_t(0) ? real_t(1) : real_t(0));
    if (size < real_t(0.5)) {
        const real_t p = sizeof(real_t) == 4
            ? nnm_horner(z, 3.98942277e-1, -6.64899469e-2, 9.96486319e-3, -1.13120092e-3)
            : nnm_horner(z, 3.9894228040143268e-1, -6.649038006690493e-2, 9.9735570099924625e-3, -1.1873282140917717e-3,
                         1.1543466575868644e-4, -9.444469242999595e-6, 6.6508109843099493e-7, -3.9018869723989702e-8);
        return x * fma(x, p, real_t(0.5));
    }
    real_t scale;
    const real_t tail = size * nnm_half_erfcx(size) * nnm_gauss(size, scale);
    return (x > real_t(0) ? x : real_t(0)) - tail * scale;
}

// P(Z <= x) + x exp(-x^2 / 2) / sqrt(2 pi), the slope of gelu; 8 / 7 ULP, of 0.125 beside its zero at -0.75, and by a
// polynomial 2.5 / 2.5 for |x| < 0.5, where double by the other form is 6.3 off and CUDA's exponential adds to that
template <typename real_t> __device__ __forceinline__ real_t nnm_gelu_slope(real_t x)
{
    const real_t most = sizeof(real_t) == 4 ? real_t(15) : real_t(40), z = x * x;
    real_t size = fabs(x);
    size = size > most ? most : size;
    if (size < real_t(0.5)) {
        const real_t p = sizeof(real_t) == 4
            ? nnm_horner(z, 7.97884561e-1, -2.65961479e-1, 5.98400243e-2, -9.4837957e-3, 1.08582395e-3)
            : nnm_horner(z, 7.9788456080286536e-1, -2.6596152026762174e-1, 5.98413420602106e-2, -9.4986257236668464e-3,
                         1.1543468725203399e-3, -1.1333583295789633e-4, 9.3232839003468421e-6, -6.5848530493461711e-7,
                         3.8461956050776085e-8);
        return fma(x, p, real_t(0.5));
    }
    real_t scale; // left is the slope at -size; at size it is 1 less that
    const real_t left = (nnm_half_erfcx(size) - size * real_t(0.3989422804014327)) * nnm_gauss(size, scale) * scale;
    return x > real_t(0) ? real_t(1) - left : left;
}

// exp(-v) of v = 2 sqrt(2 / pi) (s + 0.044715 s^3) in two parts, s >= 0
template <typename real_t> __device__ __forceinline__ real_t nnm_gelu_tanh_gate(real_t s, real_t &scale)
{
    const bool single = sizeof(real_t) == 4;
    const real_t a = real_t(1.5957691216057308), b = real_t(0.071354816272600248);
    const real_t al = single ? real_t(-4.534068e-08) : real_t(-9.96930880911092e-17);
    const real_t bl = single ? real_t(2.3988325e-09) : real_t(-6.175149918155315e-19);
    real_t square, cube, q, v;
    real_t low = nnm_two_product(s, s, square);
    low = nnm_two_product(square, b, cube) + (low * b + square * bl);
    low += nnm_two_sum(cube, a, q) + al;
    low = nnm_two_product(q, s, v) + low * s;
    return nnm_exp_scaled(-v, low, scale);
}

// x / (1 + exp(-v)), v = 2 sqrt(2 / pi) (x + 0.044715 x^3); 6 / 4 ULP
template <typename real_t> __device__ __forceinline__ real_t nnm_gelu_tanh(real_t x)
{
    const real_t most = sizeof(real_t) == 4 ? real_t(13) : real_t(24), size = fabs(x);
    if (!(size < most))
        return x * (x > real_t(0) ? real_t(1) : real_t(0));
    real_t scale;
    const real_t e = nnm_gelu_tanh_gate(size, scale); // nothing beside 1 where scale is not 1
    return copysign((x > real_t(0) ? size : size * e * scale) / (real_t(1) + e), x);
}

// Its slope: e (1 + e - s v') / (1 + e)^2 at -s, at s 1 less that; 9 / 7 ULP, of 0.125 beside its zero at -0.75
template <typename real_t> __device__ __forceinline__ real_t nnm_gelu_tanh_slope(real_t x)
{
    const real_t most = sizeof(real_t) == 4 ? real_t(13) : real_t(24);
    real_t size = fabs(x);
    size = size > most ? most : size;
    real_t scale;
    const real_t e = nnm_gelu_tanh_gate(size, scale); // nothing beside 1 where scale is not 1
    const real_t rise = size * fma(real_t(0.21406444881780074), size * size, real_t(1.5957691216057308));
    const real_t left = ((real_t(1) - rise) + e) * e / fma(e, real_t(2) + e, real_t(1)) * scale;
    return x > real_t(0) ? real_t(1) - left : left;
}

// --- gamma function --------------------------------------------------------------------------------------------------

// log |Gamma(x)|, infinite at the poles and, as SciPy's, -inf at -inf; 6.5 / 4.5 ULP, of max(1, log Gamma(|x|)) for
// x < 0
template <typename real_t> __device__ __forceinline__ real_t nnm_gammaln(real_t x)
{
    return x == -nnm_infinity<real_t>() ? x : lgamma(x);
}

// digamma(x), x >= 0: from 8 on the asymptotic series; below, the recurrence leads to z in [1, 2], where digamma(z) is
// (z - z0) P(z), z0 its zero, and by -1 / x to infinity at 0. Coefficients of nnm_gamma.h.
__device__ __forceinline__ double nnm_digamma_right(double x)
{
    if (x >= 8.0) {
        const double y = 1.0 / x, y2 = y * y;
        const double tail = y2 * nnm_horner(y2, 8.3333333333333333e-2, -8.3333333333316642e-3, 3.9682539659997006e-3,
                                            -4.1666655015167246e-3, 7.5754599203691761e-3, -2.1051060908047742e-2,
                                            8.0023374653977567e-2, -2.9942537062673501e-1);
        return log(x) - (0.5 * y + tail);
    }
    double z = x < 1.0 ? x + 1.0 : x, n = x < 1.0 ? -1.0 : 0.0, d = x < 1.0 ? x : 1.0;
    while (z > 2.0) { // digamma(z) = digamma(z - 1) + 1 / (z - 1), the sum of the fractions is n / d
        z -= 1.0;
        n = n * z + d;
        d *= z;
    }
    const double w = z - 1.5, v = w * w;
    const double a = fma(w, nnm_horner(v, -4.236274212814605e-1, -1.4840492305390886e-1, -6.1922133273064532e-2,
                                       -2.6975796756138249e-2, -1.1908218001568645e-2, -5.2799648732574042e-3),
                         nnm_horner(v, 9.5105587603183289e-1, 2.4054248424077422e-1, 9.4988724454941213e-2,
                                    4.0760833812420736e-2, 1.7907252439451199e-2, 7.926944646403796e-3));
    const double b = fma(w, nnm_horner(v, -2.345267632540769e-3, -1.0376374098418605e-3, -4.8219905305667889e-4,
                                       -1.5148586836773366e-4, -1.7312261802727393e-4),
                         nnm_horner(v, 3.519006401502276e-3, 1.5566317474486839e-3, 7.2332662792875542e-4,
                                    2.2723316609873759e-4, 2.5968482126430747e-4));
    const double v3 = v * v * v;
    return ((z - 1.4616321449683622) - 9.549995429965697e-17) * fma(v3 * v3, b, a) + n / d;
}

// digamma(x), in double: infinite at 0 with the sign of the side, NaN at the other poles and at -inf; for x < 0 by
// digamma(1 - x) - pi / tan(pi x); 1 / 5.5 ULP, of log(|x| + 3) for x < 0
template <typename real_t> __device__ __forceinline__ real_t nnm_digamma(real_t value)
{
    const double x = (double)value;
    if (x >= 0.0)
        return (real_t)nnm_digamma_right(x);
    const double t = x - rint(x); // NaN at -inf
    if (t == 0.0)
        return nnm_not_a_number<real_t>();
    return (real_t)(nnm_digamma_right(1.0 - x) - 3.1415926535897931 / tan(3.1415926535897931 * t));
}
