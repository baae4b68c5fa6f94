#pragma once

#include "kernels/train_kernels.h"

namespace ink::reference {

extern const TrainKernels kTrainKernels;

}  // namespace ink::reference
