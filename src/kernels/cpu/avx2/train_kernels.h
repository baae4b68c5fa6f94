#pragma once

#include "kernels/train_kernels.h"

namespace ink::avx2 {

extern const TrainKernels kTrainKernels;

}  // namespace ink::avx2
