#include "kernels/cpu/avx512/train_kernels.h"

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/avx512/bf16_tile.h"
#include "kernels/cpu/math_constants.h"

namespace ink::avx512 {

#include "kernels/cpu/train_kernels.inc"

const TrainKernels kTrainKernels = {
    .name = "avx512",
    .bfloat16 = kHasBfloat16,
    .matmul = MatmulKernel,
    .pack_weight = PackWeightKernel,
    .attention = AttentionKernel,
    .attention_grad = AttentionGradKernel,
    .rms_norm_grad = RmsNormGradKernel,
    .glu_grad = GluGradKernel,
    .softcap_grad = SoftcapGradKernel,
    .fill = FillKernel,
    .add_scaled = AddScaledKernel,
    .scatter_add = ScatterAddKernel,
    .column_sum = ColumnSumKernel,
    .dropout = DropoutKernel,
    .scale_columns = ScaleColumnsKernel,
    .column_dot = ColumnDotKernel,
    .cross_entropy = CrossEntropyKernel,
    .adam = AdamKernel,
    .adam8 = Adam8Kernel,
    .sum_squares = SumSquaresKernel,
};

}  // namespace ink::avx512
