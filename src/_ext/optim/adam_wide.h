/* The entries of adam_step and adamw_step in vectors of 16, single precision: a root and a quotient at once.
 *
 * Included by optim.inc.c where common/nnm_quotient.h has its quotient. Sums of products are fused; the last entries
 * run as a vector with a mask.
 */
typedef struct {
    __m512 gain1, gain2, step, root, eps, shrink;
} NNM_FN(adam_numbers);

static inline void NNM_FN(adam_vector)(const NNM_FN(adam_numbers) *s, __mmask16 k, float *w, float *m, float *v,
                                       const float *g, int decays)
{
    const __m512 wi = _mm512_maskz_loadu_ps(k, w), gi = _mm512_maskz_loadu_ps(k, g);
    const __m512 m0 = _mm512_maskz_loadu_ps(k, m), v0 = _mm512_maskz_loadu_ps(k, v);
    const __m512 mi = _mm512_fmadd_ps(s->gain1, _mm512_sub_ps(gi, m0), m0);
    const __m512 vi = _mm512_fmadd_ps(s->gain2, _mm512_fmsub_ps(gi, gi, v0), v0);
    _mm512_mask_storeu_ps(m, k, mi);
    _mm512_mask_storeu_ps(v, k, vi);
    __m512 by = nnm_quotient(_mm512_mul_ps(s->step, mi), _mm512_fmadd_ps(_mm512_sqrt_ps(vi), s->root, s->eps));
    if (decays)
        by = _mm512_fmadd_ps(s->shrink, wi, by);
    _mm512_mask_storeu_ps(w, k, _mm512_sub_ps(wi, by));
}

static inline void NNM_FN(adam_entries)(nnm_idx n, float *w, float *m, float *v, const float *g, float gain1, float gain2,
                                        float step, float root, float eps, float shrink, int decays)
{
    const NNM_FN(adam_numbers) s = {_mm512_set1_ps(gain1), _mm512_set1_ps(gain2), _mm512_set1_ps(step),
                                    _mm512_set1_ps(root), _mm512_set1_ps(eps), _mm512_set1_ps(shrink)};
    nnm_idx i = 0;
    for (; i + 16 <= n; i += 16)
        NNM_FN(adam_vector)(&s, 0xFFFF, w + i, m + i, v + i, g + i, decays);
    if (i < n)
        NNM_FN(adam_vector)(&s, (__mmask16)((1u << (n - i)) - 1), w + i, m + i, v + i, g + i, decays);
}
