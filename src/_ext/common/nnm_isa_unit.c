/* One family on one instruction set: the loops for both element types, and the table of them.
 *
 * The build passes NNM_FAMILY, NNM_HEADER, NNM_DEF, NNM_SRC (see nnm_family.h.in) and NNM_ISA, with
 * the compiler flags of that instruction set. Helpers in what is included must be static inline: a
 * shared one compiled for a newer instruction set could be chosen by the linker for everybody.
 */
#include NNM_HEADER

#define NNM_IS_F32 1
#include "nnm_dtype.h"
#include NNM_SRC
#undef NNM_IS_F32

#define NNM_IS_F32 0
#include "nnm_dtype.h"
#include NNM_SRC

extern const NNM_CAT4(nnm_, NNM_FAMILY, _, kernels) NNM_CAT4(nnm_, NNM_FAMILY, _, NNM_ISA);

const NNM_CAT4(nnm_, NNM_FAMILY, _, kernels) NNM_CAT4(nnm_, NNM_FAMILY, _, NNM_ISA) = {
    .isa = NNM_STR(NNM_ISA),
#define K(name, args) .name##_f32 = NNM_CAT4(nnm_, name, _f32_, NNM_ISA),
#include NNM_DEF
#undef K
#define K(name, args) .name##_f64 = NNM_CAT4(nnm_, name, _f64_, NNM_ISA),
#include NNM_DEF
#undef K
};
