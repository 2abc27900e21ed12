// Functions that CUDA has and the C library has not, or under another name.
//
// Accuracy is glibc's, not libdevice's: the last bits of a device differ, so tests compare with
// bounds of several roundings.
#pragma once

// ------------------------------------------------------------------------------- bits
template <class To, class From> To nnm_bits(From v)
{
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &v, sizeof to);
    return to;
}
inline int __float_as_int(float v) { return nnm_bits<int>(v); }
inline unsigned __float_as_uint(float v) { return nnm_bits<unsigned>(v); }
inline float __int_as_float(int v) { return nnm_bits<float>(v); }
inline float __uint_as_float(unsigned v) { return nnm_bits<float>(v); }
inline long long __double_as_longlong(double v) { return nnm_bits<long long>(v); }
inline double __longlong_as_double(long long v) { return nnm_bits<double>(v); }
inline int __double2hiint(double v) { return int(__double_as_longlong(v) >> 32); }
inline int __double2loint(double v) { return int(__double_as_longlong(v)); }
inline double __hiloint2double(int high, int low)
{
    return __longlong_as_double((long long)((unsigned long long)(unsigned)high << 32 | (unsigned)low));
}
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __clz(int v) { return v ? __builtin_clz((unsigned)v) : 32; }
inline int __clzll(long long v) { return v ? __builtin_clzll((unsigned long long)v) : 64; }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __ffsll(long long v) { return __builtin_ffsll(v); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
template <class T> T __ldg(const T *p) { return *p; }

// ------------------------------------------------------------------------------- arithmetic
template <class A, class B, class = std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>>>
constexpr auto min(A a, B b)
{
    using C = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<C>) return std::fmin(C(a), C(b));
    else return C(b) < C(a) ? C(b) : C(a);
}
template <class A, class B, class = std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>>>
constexpr auto max(A a, B b)
{
    using C = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<C>) return std::fmax(C(a), C(b));
    else return C(a) < C(b) ? C(b) : C(a);
}
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float v) { return 1.0f / v; }
inline float __fsqrt_rn(float v) { return std::sqrt(v); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline float __saturatef(float v) { return v > 0 ? std::min(v, 1.0f) : 0.0f; }

// ------------------------------------------------------------------------------- functions
#define NNM_BOTH(name, expression) \
    inline double name(double x) { return expression; } \
    inline float name##f(float y) { const double x = y; return float(expression); } \
    inline float name(float y) { return name##f(y); }
NNM_BOTH(rsqrt, 1.0 / std::sqrt(x))
NNM_BOTH(rcbrt, 1.0 / std::cbrt(x))
NNM_BOTH(sinpi, std::sin(std::remainder(x, 2.0) * M_PI))
NNM_BOTH(cospi, std::cos(std::remainder(x, 2.0) * M_PI))
NNM_BOTH(normcdf, 0.5 * std::erfc(-x * M_SQRT1_2))

inline double nnm_erfcx(double x)
{
    if (x < 26) return std::exp(x * x) * std::erfc(x);
    const double u = 1 / (x * x);        // the asymptotic series; u^4 is below a rounding at 26
    return (1 - u / 2 * (1 - 1.5 * u * (1 - 2.5 * u))) / (x * std::sqrt(M_PI));
}
// Giles' starting value and Newton steps on erf, or on erfc where erf is nearly 1.
inline double nnm_erfcinv(double p)
{
    if (!(p >= 0 && p <= 2)) return NAN;
    if (p == 0 || p == 2) return p == 0 ? HUGE_VAL : -HUGE_VAL;
    const double q = p < 1 ? p : 2 - p, s = std::sqrt(-std::log(q * (2 - q)));
    double x = q > 0.9 ? (1 - q) * 0.886226925452758 : s * (1 - 0.25 / (1 + s));
    for (int k = 0; k < 60; ++k) {
        const double step = (std::erfc(x) - q) / (1.1283791670955126 * std::exp(-x * x));
        const double next = x + step / (1 + x * step);       // Halley's
        if (next == x) break;
        x = next;
    }
    return p < 1 ? x : -x;
}
inline double nnm_erfinv(double y)
{
    if (std::fabs(y) > 0.5) return y > 0 ? nnm_erfcinv(1 - y) : -nnm_erfcinv(1 + y);
    double x = y * 0.886226925452758;
    for (int k = 0; k < 60; ++k) {
        const double step = (std::erf(x) - y) / (1.1283791670955126 * std::exp(-x * x));
        const double next = x - step / (1 + x * step);
        if (next == x) break;
        x = next;
    }
    return x;
}
// Bessel's integral by the trapezoidal rule, which for a periodic function converges faster than any
// power; the peak has the width x^(-1/2). Near 0 the order 1 is a series, for its relative error.
inline double nnm_bessel_i(int order, double x)
{
    const double a = std::fabs(x), q = x * x / 4;
    if (order == 1 && a < 1) {
        double term = x / 2, sum = term;
        for (int k = 1; k < 12; ++k) sum += term *= q / (k * (k + 1));
        return sum;
    }
    const int n = 64 + int(16 * std::sqrt(a));
    double sum = 0;
    for (int k = 0; k < n; ++k) {
        const double c = std::cos(2 * M_PI * k / n);
        sum += std::exp(a * (c - 1)) * (order ? c : 1);
    }
    return (order && x < 0 ? -1 : 1) * sum / n * std::exp(a);
}
NNM_BOTH(cyl_bessel_i0, nnm_bessel_i(0, x))
NNM_BOTH(cyl_bessel_i1, nnm_bessel_i(1, x))
NNM_BOTH(erfcx, nnm_erfcx(x))
NNM_BOTH(erfinv, nnm_erfinv(x))
NNM_BOTH(erfcinv, nnm_erfcinv(x))
NNM_BOTH(normcdfinv, -M_SQRT2 * nnm_erfcinv(2 * x))
#undef NNM_BOTH
// The C library's know negative orders; CUDA's do not.
inline double nnm_jn(int n, double x) { return n < 0 ? NAN : jn(n, x); }
inline double nnm_yn(int n, double x) { return n < 0 ? NAN : yn(n, x); }
#define jn nnm_jn
#define yn nnm_yn
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __sinf(float x) { return std::sin(x); }
inline float __cosf(float x) { return std::cos(x); }
inline float __powf(float x, float y) { return std::pow(x, y); }
