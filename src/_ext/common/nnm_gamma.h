/* log Gamma and digamma of positive numbers. Included once for each type, float64 first, after nnm_log.h; float32
 * computes in float64.
 *
 * From 8 on the asymptotic series; below 8 the recurrence leads to z in [1, 2], where log Gamma(z) = (z - 1) (z - 2) P(z)
 * and digamma(z) = (z - z0) P(z) have their zeros in front: near the zeros at 1, 2 and z0 = 1.4616 digits are kept, too.
 */
#if NNM_IS_F32

NNM_INLINE float NNM_FN(math_gammaln)(float x) { return (float)NNM_FN_F64(math_gammaln)((double)x); }
NNM_INLINE float NNM_FN(math_digamma)(float x) { return (float)NNM_FN_F64(math_digamma)((double)x); }
static inline float NNM_FN(gammaln_left)(float x) { return (float)NNM_FN_F64(gammaln_left)((double)x); }
static inline float NNM_FN(digamma_left)(float x) { return (float)NNM_FN_F64(digamma_left)((double)x); }

#else

/* One step down from z > 2 to z - 1, collecting the product of the z - 1. */
#define NNM_STEP(z, p)                          \
    {                                           \
        const int more = z > 2.0;               \
        z = more ? z - 1.0 : z;                 \
        p = more ? p * z : p;                   \
    }

/* 0 < x; Gamma(x) = p Gamma(z), or Gamma(x + 1) / x below 1. */
NNM_INLINE double NNM_FN(math_gammaln)(double x)
{
    const int small = x < 1.0, large = x >= 8.0;
    double z = small ? x + 1.0 : large ? 1.5 : x, p = 1.0;
    NNM_STEP(z, p)
    NNM_STEP(z, p)
    NNM_STEP(z, p)
    NNM_STEP(z, p)
    NNM_STEP(z, p)
    NNM_STEP(z, p)
    const double w = z - 1.5, v = w * w;
    const double a = NNM_FMA(w, NNM_H6(v, -1.4595989591430608e-1, -3.1308487501010648e-2, -9.4256224485257978e-3,
                                       -3.2120740737152812e-3, -1.1644145847310124e-3, -4.3799307479613916e-4),
                             NNM_H6(v, 4.8312895054098089e-1, 6.2911401074564392e-2, 1.679709863127416e-2,
                                    5.4464578391260646e-3, 1.922916312790516e-3, 7.1151906751529593e-4));
    const double b = NNM_FMA(w, NNM_H5(v, -1.6891782155248982e-4, -6.6141360223464143e-5, -2.7201673025504752e-5,
                                       -8.3550758697952728e-6, -7.7606601525134468e-6),
                             NNM_H5(v, 2.7131373861446928e-4, 1.0535512483785592e-4, 4.3027681497650298e-5,
                                    1.3186019073996834e-5, 1.2140008083973407e-5));
    const double v3 = v * v * v, middle = (z - 1.0) * (z - 2.0) * NNM_FMA(v3 * v3, b, a);
    const double l = NNM_FN(math_log)(small | large ? x : p);
    const double y = 1.0 / x;
    const double tail = y * NNM_H7(y * y, 8.3333333333333333e-2, -2.7777777777739882e-3, 7.9365078975240582e-4,
                                   -5.9523658450570487e-4, 8.4147008525031473e-4, -1.890382993887715e-3,
                                   5.0659053601561324e-3);
    const double far = ((x - 0.5) * (l - 1.0)) + (0.41893853320467272 + tail); /* log(2 pi) / 2 - 1/2 */
    return large ? (x < (double)INFINITY ? far : x) : small ? middle - l : middle + l;
}

/* One step: digamma(z) = digamma(z - 1) + 1 / (z - 1); the sum of the fractions is n / d. */
#define NNM_STEP_SUM(z, n, d)                   \
    {                                           \
        const int more = z > 2.0;               \
        z = more ? z - 1.0 : z;                 \
        n = more ? n * z + d : n;               \
        d = more ? d * z : d;                   \
    }

NNM_INLINE double NNM_FN(math_digamma)(double x)
{
    const int small = x < 1.0, large = x >= 8.0;
    double z = small ? x + 1.0 : large ? 1.5 : x, n = small ? -1.0 : 0.0, d = small ? x : 1.0;
    NNM_STEP_SUM(z, n, d)
    NNM_STEP_SUM(z, n, d)
    NNM_STEP_SUM(z, n, d)
    NNM_STEP_SUM(z, n, d)
    NNM_STEP_SUM(z, n, d)
    NNM_STEP_SUM(z, n, d)
    const double w = z - 1.5, v = w * w;
    const double a = NNM_FMA(w, NNM_H6(v, -4.236274212814605e-1, -1.4840492305390886e-1, -6.1922133273064532e-2,
                                       -2.6975796756138249e-2, -1.1908218001568645e-2, -5.2799648732574042e-3),
                             NNM_H6(v, 9.5105587603183289e-1, 2.4054248424077422e-1, 9.4988724454941213e-2,
                                    4.0760833812420736e-2, 1.7907252439451199e-2, 7.926944646403796e-3));
    const double b = NNM_FMA(w, NNM_H5(v, -2.345267632540769e-3, -1.0376374098418605e-3, -4.8219905305667889e-4,
                                       -1.5148586836773366e-4, -1.7312261802727393e-4),
                             NNM_H5(v, 3.519006401502276e-3, 1.5566317474486839e-3, 7.2332662792875542e-4,
                                    2.2723316609873759e-4, 2.5968482126430747e-4));
    const double v3 = v * v * v;
    const double middle = ((z - 1.4616321449683622) - 9.549995429965697e-17) * NNM_FMA(v3 * v3, b, a);
    const double y = 1.0 / x, y2 = y * y;
    const double tail = y2 * NNM_H8(y2, 8.3333333333333333e-2, -8.3333333333316642e-3, 3.9682539659997006e-3,
                                    -4.1666655015167246e-3, 7.5754599203691761e-3, -2.1051060908047742e-2,
                                    8.0023374653977567e-2, -2.9942537062673501e-1);
    const double l = NNM_FN(math_log)(x);
    return large ? l - (0.5 * y + tail) : middle + n / d;
}

/* --- x <= 0 and NaN, element by element: reflection ----------------------------------------------------------- */

/* log |Gamma(x)| = log(pi / |x sin(pi x)|) - log Gamma(-x), infinite at the poles. As SciPy, -inf at -inf. */
static inline double NNM_FN(gammaln_left)(double x)
{
    if (!(x <= 0.0) || x == -(double)INFINITY)
        return x;
    const double nearest = rint(x), t = x - nearest;
    if (t == 0.0)
        return (double)INFINITY;
    const double s = fabs(sin(3.1415926535897931 * t));
    return (1.1447298858494002 - log(s)) - (log(-x) + NNM_FN(math_gammaln)(-x)); /* x s would underflow */
}

/* digamma(1 - x) - pi / tan(pi x); NaN at the poles and at -inf, but infinite at 0, with the sign of the side. */
static inline double NNM_FN(digamma_left)(double x)
{
    if (x == 0.0)
        return -copysign((double)INFINITY, x);
    const double nearest = rint(x), t = x - nearest;
    if (!(x < 0.0) || t == 0.0 || x == -(double)INFINITY)
        return (double)NAN;
    return NNM_FN(math_digamma)(1.0 - x) - 3.1415926535897931 / tan(3.1415926535897931 * t);
}
#endif
