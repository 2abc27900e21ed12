/* All of vector mathematics for one type, float64 first; see the headers. Included once for each type. */
#include "nnm_bits.h"
#include "nnm_round.h"
#include "nnm_exp.h"
#include "nnm_log.h"
#include "nnm_trig.h"
#include "nnm_erf.h"
#include "nnm_pow.h"
#include "nnm_gamma.h"
