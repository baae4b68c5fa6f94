#include "ops/embed.h"

#include "ops/recorder.h"

namespace ink {

Tensor Embed(ExecContext& context, const Weight& weight, const int32_t* ids, int64_t num_tokens,
             float scale) {
  Tensor y = context.NewTensor(num_tokens, weight.packed.cols);
  GatherRowsParams params{weight.packed, ids, num_tokens, scale, y.data};
  context.Launch(context.device.ops().gather_rows, params);
  if (context.recorder != nullptr) context.recorder->Record(EmbedRecord{&weight, ids, scale, y});
  return y;
}

Tensor TakeRows(ExecContext& context, Tensor x, const int32_t* rows, int64_t num_rows) {
  Tensor y = context.NewTensor(num_rows, x.cols);
  TakeRowsParams params{x.data, rows, y.data, num_rows, x.cols, x.stride};
  context.Launch(context.device.ops().take_rows, params);
  if (context.recorder != nullptr) context.recorder->Record(TakeRowsRecord{x, rows, y});
  return y;
}

void ReplaceRows(ExecContext& context, Tensor x, const float* embeds, const int32_t* index) {
  INK_CHECK(context.recorder == nullptr);
  INK_CHECK(x.contiguous());
  ReplaceRowsParams params{embeds, index, x.data, x.rows, x.cols};
  context.Launch(context.device.ops().replace_rows, params);
}

}  // namespace ink
