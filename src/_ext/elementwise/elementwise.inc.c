/* Elementwise functions and their cotangents on small contiguous arrays. Included, never compiled alone.
 *
 * A ufunc call costs half a microsecond before the first element; these loops cost a few nanoseconds, which is what
 * the gradient of a small function is made of. Arithmetic gives NumPy's bits; exp, log, sin, cos are libm's (glibc:
 * below 1 ULP in float64 and float32) and tanh is ours (below 3 ULP, nnm_math.h), so they may differ from NumPy's
 * vector versions in the last digits.
 * The loops raise the IEEE flags that NumPy's would: the caller reads them and lets NumPy redo the call, so that
 * floating-point warnings stay NumPy's. This family is therefore compiled without -fno-trapping-math.
 *
 * n elements each; sa, sb are 1 for an array and 0 for a scalar; outputs never alias inputs.
 */
#include "nnm_math.h"

#define UNARY(name, value, cotangent)                                                               \
    void NNM_FN(u_##name)(nnm_idx n, const real_t *NNM_RESTRICT px, real_t *NNM_RESTRICT py)        \
    {                                                                                               \
        for (nnm_idx i = 0; i < n; ++i) {                                                           \
            const real_t x = px[i];                                                                 \
            py[i] = (value);                                                                        \
        }                                                                                           \
    }                                                                                               \
    /* px or py is NULL when the primitive does not keep it; the expression does not read it then */ \
    void NNM_FN(v_##name)(nnm_idx n, const real_t *pg, const real_t *px, const real_t *py,          \
                          real_t *NNM_RESTRICT po)                                                  \
    {                                                                                               \
        (void)px;                                                                                   \
        (void)py;                                                                                   \
        for (nnm_idx i = 0; i < n; ++i) {                                                           \
            const real_t g = pg[i];                                                                 \
            po[i] = (cotangent);                                                                    \
        }                                                                                           \
    }

#define X (px[i])
#define Y (py[i])
UNARY(negative, -x, -g)
UNARY(exp, R_EXP(x), g * Y)
UNARY(expm1, R_EXPM1(x), g * R_EXP(X)) /* Y + 1 would cancel beside -1 */
UNARY(log, R_LOG(x), g / X)
UNARY(log1p, R_LOG1P(x), g / (X + NNM_C(1.0)))
UNARY(tanh, NNM_FN(math_tanh)(x), g * (NNM_C(1.0) - Y * Y))
UNARY(sin, R_SIN(x), g * R_COS(X))
UNARY(cos, R_COS(x), g * -R_SIN(X))
UNARY(sqrt, R_SQRT(x), g * (NNM_C(0.5) / Y))
UNARY(square, x * x, g * (NNM_C(2.0) * X))
UNARY(absolute, R_ABS(x), g * (X != X ? X : (real_t)((X > 0) - (X < 0))))
UNARY(reciprocal, NNM_C(1.0) / x, g * -(Y * Y))
UNARY(relu, x > 0 ? x : (x != x ? x : NNM_C(0.0)), Y <= 0 ? NNM_C(0.0) : g)
#undef X
#undef Y

#define BINARY(name, value)                                                                         \
    void NNM_FN(b_##name)(nnm_idx n, const real_t *pa, nnm_idx sa, const real_t *pb, nnm_idx sb,    \
                          real_t *NNM_RESTRICT py)                                                  \
    {                                                                                               \
        if (sa && sb) {                                                                             \
            for (nnm_idx i = 0; i < n; ++i) {                                                       \
                const real_t a = pa[i], b = pb[i];                                                  \
                py[i] = (value);                                                                    \
            }                                                                                       \
        } else if (sa) {                                                                            \
            const real_t b = *pb;                                                                   \
            for (nnm_idx i = 0; i < n; ++i) {                                                       \
                const real_t a = pa[i];                                                             \
                py[i] = (value);                                                                    \
            }                                                                                       \
        } else {                                                                                    \
            const real_t a = *pa;                                                                   \
            for (nnm_idx i = 0; i < n; ++i) {                                                       \
                const real_t b = pb[i];                                                             \
                py[i] = (value);                                                                    \
            }                                                                                       \
        }                                                                                           \
    }

BINARY(add, a + b)
BINARY(subtract, a - b)
BINARY(multiply, a * b)
BINARY(divide, a / b)
BINARY(maximum, a >= b ? a : (a != a ? a : b))
BINARY(minimum, a <= b ? a : (a != a ? a : b))

/* Sum of at most 128 elements in the order of NumPy's pairwise summation, hence its bits. */
void NNM_FN(sum)(nnm_idx n, const real_t *NNM_RESTRICT x, real_t *NNM_RESTRICT y)
{
    nnm_idx i;
    if (n < 8) {
        real_t s = n ? x[0] : NNM_C(0.0);
        for (i = 1; i < n; ++i)
            s += x[i];
        *y = s;
        return;
    }
    real_t r[8];
    for (i = 0; i < 8; ++i)
        r[i] = x[i];
    for (i = 8; i + 8 <= n; i += 8)
        for (nnm_idx j = 0; j < 8; ++j)
            r[j] += x[i + j];
    real_t s = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
    for (; i < n; ++i)
        s += x[i];
    *y = s;
}

#undef UNARY
#undef BINARY
