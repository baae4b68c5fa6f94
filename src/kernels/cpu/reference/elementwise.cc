#include "kernels/cpu/elementwise_driver.h"
#include "kernels/cpu/reference/kernels_attn.h"
#include "kernels/cpu/reference/vec_math.h"

namespace ink::reference {

void Add(const AddParams& params, const KernelContext& ctx) noexcept {
  ForElements(
      params.count,
      [](const void* raw, int64_t first, int64_t count) {
        const AddParams& p = *static_cast<const AddParams*>(raw);
        for (int64_t i = first; i < first + count; ++i) p.out[i] = p.a[i] + p.b[i];
      },
      &params, ctx);
}

void Scale(const ScaleParams& params, const KernelContext& ctx) noexcept {
  ForElements(
      params.count,
      [](const void* raw, int64_t first, int64_t count) {
        const ScaleParams& p = *static_cast<const ScaleParams*>(raw);
        for (int64_t i = first; i < first + count; ++i) p.out[i] = p.x[i] * p.scale;
      },
      &params, ctx);
}

void Softcap(const SoftcapParams& params, const KernelContext& ctx) noexcept {
  ForElements(
      params.count,
      [](const void* raw, int64_t first, int64_t count) {
        const SoftcapParams& p = *static_cast<const SoftcapParams*>(raw);
        for (int64_t i = first; i < first + count; ++i) p.out[i] = p.cap * Tanh(p.x[i] / p.cap);
      },
      &params, ctx);
}

void Glu(const GluParams& params, const KernelContext& ctx) noexcept {
  ForRows(
      params.num_rows, params.dim,
      [](const void* raw, int64_t row) {
        const GluParams& p = *static_cast<const GluParams*>(raw);
        const float* gate = p.gate + row * p.gate_stride;
        const float* up = p.up + row * p.up_stride;
        float* out = p.out + row * p.dim;
        for (int64_t i = 0; i < p.dim; ++i) {
          out[i] = (p.activation == Activation::kSilu ? Silu(gate[i]) : GeluTanh(gate[i])) * up[i];
        }
      },
      &params, ctx);
}

}  // namespace ink::reference
