// See cuda_fp16.h, which has both formats.
#pragma once
#include "cuda_fp16.h"
