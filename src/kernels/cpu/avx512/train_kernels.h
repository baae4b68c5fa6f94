#pragma once

#include "kernels/train_kernels.h"

namespace ink::avx512 {

extern const TrainKernels kTrainKernels;

}  // namespace ink::avx512
