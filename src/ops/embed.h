#pragma once

#include "ops/exec_context.h"
#include "ops/weight.h"

namespace ink {

/// Rows of `weight` [n_vocab, d_model] times `scale`: ids [num_tokens] in device memory.
Tensor Embed(ExecContext& context, const Weight& weight, const int32_t* ids, int64_t num_tokens,
             float scale = 1.0f);

/// x[rows[i], :] for rows [num_rows] in device memory.
Tensor TakeRows(ExecContext& context, Tensor x, const int32_t* rows, int64_t num_rows);

/// Replaces x[t] by embeds[index[t]] where index[t] >= 0 (images and other inputs that are not
/// tokens). Inference only: with a recorder it is a bug.
void ReplaceRows(ExecContext& context, Tensor x, const float* embeds, const int32_t* index);

}  // namespace ink
