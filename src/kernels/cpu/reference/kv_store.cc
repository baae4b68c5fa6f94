#include "kernels/cpu/kv_store_driver.h"
#include "kernels/cpu/reference/kernels_attn.h"
#include "quant/half.h"

namespace ink::reference {

void KvStore(const KvStoreParams& params, const KernelContext& ctx) noexcept {
  constexpr KvStoreRows kRows = {
      .to_half =
          [](const float* x, uint16_t* out, int n) {
            for (int i = 0; i < n; ++i) out[i] = FloatToHalf(x[i]);
          },
      .to_bfloat =
          [](const float* x, uint16_t* out, int n) {
            for (int i = 0; i < n; ++i) out[i] = FloatToBfloat(x[i]);
          },
  };
  RunKvStore(kRows, params, ctx);
}

}  // namespace ink::reference
