/* The choice of a family's table. The build passes NNM_FAMILY, NNM_HEADER and NNM_HAVE_<ISA>. */
#include NNM_HEADER

#define NNM_TABLE(isa) NNM_CAT4(nnm_, NNM_FAMILY, _, isa)
#define NNM_TYPE NNM_CAT4(nnm_, NNM_FAMILY, _, kernels)

extern const NNM_TYPE NNM_TABLE(baseline);
#ifdef NNM_HAVE_V3
extern const NNM_TYPE NNM_TABLE(v3);
#endif
#ifdef NNM_HAVE_V4
extern const NNM_TYPE NNM_TABLE(v4);
#endif

const NNM_TYPE *NNM_TABLE(table)(void)
{
    switch (nnm_isa_selected()) {
    case NNM_ISA_BASELINE:
        return &NNM_TABLE(baseline);
#ifdef NNM_HAVE_V3
    case NNM_ISA_V3:
        return &NNM_TABLE(v3);
#endif
#ifdef NNM_HAVE_V4
    case NNM_ISA_V4:
        return &NNM_TABLE(v4);
#endif
    default:
        return NULL;
    }
}
