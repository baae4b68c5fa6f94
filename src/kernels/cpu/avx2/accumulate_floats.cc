// F32, F16 and BF16 weights: one chain of fused multiply-adds per output, in column order.
#include "kernels/cpu/avx2/linear.h"
#include "kernels/cpu/avx2/simd.h"

namespace ink::avx2 {
namespace {

enum class Stored { kFloat, kHalf, kBfloat };

// 8 weights of column k, rows 8 * half .. of the panel.
template <Stored kStored>
INK_INLINE __m256 LoadColumn(const std::byte* codes, int64_t k, int half) {
  if constexpr (kStored == Stored::kFloat) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(codes + k * 64 + half * 32));
  } else if constexpr (kStored == Stored::kHalf) {
    return LoadHalves(codes + k * 32 + half * 16);
  } else {
    // Words of two columns.
    __m256i pair = LoadInt(codes + k / 2 * 64 + half * 32);
    pair = k % 2 == 0 ? _mm256_slli_epi32(pair, 16)
                      : _mm256_and_si256(pair, _mm256_set1_epi32(static_cast<int>(0xffff0000)));
    return _mm256_castsi256_ps(pair);
  }
}

template <Stored kStored>
void ToFloats(const std::byte* codes, int cols, float* out) {
  for (int k = 0; k < cols; ++k, out += kPanelRows) {
    if (k % 2 == 0) Prefetch(codes + k * 32 + kPageAhead);
    _mm256_store_ps(out, LoadColumn<kStored>(codes, k, 0));
    _mm256_store_ps(out + 8, LoadColumn<kStored>(codes, k, 1));
  }
}

// kP panels times kT rows of a tile of kStride; x is [column][kStride].
template <Stored kStored, int kP, int kT, int kStride>
void FloatsTile(const std::byte* const* codes_in, const float* x, int cols, float* __restrict acc,
                int64_t acc_stride) {
  const std::byte* codes[kP];
  __m256 sum[kP * 2][kT];
  Unroll<kP>([&](auto panel) INK_INLINED { codes[panel.value] = codes_in[panel.value]; });
  Unroll<kP * 2>([&](auto part) INK_INLINED {
    constexpr int i = decltype(part)::value;
    Unroll<kT>([&](auto t) INK_INLINED {
      sum[i][t.value] = _mm256_load_ps(acc + t.value * acc_stride + i * 8);
    });
  });
  auto column = [&](int64_t k) INK_INLINED {
    __m256 w[kP * 2];
    Unroll<kP * 2>([&](auto part) INK_INLINED {
      constexpr int i = decltype(part)::value;
      w[i] = LoadColumn<kStored>(codes[i / 2], k, i % 2);
    });
    Unroll<kT>([&](auto t) INK_INLINED {
      constexpr int j = decltype(t)::value;
      __m256 xj = _mm256_broadcast_ss(x + k * kStride + j);
      Unroll<kP * 2>([&](auto part) INK_INLINED {
        constexpr int i = decltype(part)::value;
        sum[i][j] = _mm256_fmadd_ps(w[i], xj, sum[i][j]);
      });
    });
  };
  int64_t k = 0;
  for (; k + 2 <= cols; k += 2) {
    if constexpr (kT <= 2) {
      Unroll<kP>([&](auto panel) INK_INLINED {
        constexpr int i = decltype(panel)::value;
        if constexpr (kStored == Stored::kFloat) {
          Prefetch(codes[i] + k * 64 + kPageAhead);
          Prefetch(codes[i] + k * 64 + 64 + kPageAhead);
        } else {
          Prefetch(codes[i] + k * 32 + kPageAhead);
        }
      });
    }
    column(k);
    column(k + 1);
  }
  if (k < cols) column(k);
  Unroll<kP * 2>([&](auto part) INK_INLINED {
    constexpr int i = decltype(part)::value;
    Unroll<kT>([&](auto t) INK_INLINED {
      _mm256_store_ps(acc + t.value * acc_stride + i * 8, sum[i][t.value]);
    });
  });
}

// One or two rows: weights as stored, two panels at once for enough independent chains.
template <Stored kStored, int kT>
void FewRows(const std::byte* const* codes, int num_panels, const float* x, int cols, float* acc,
             int64_t acc_stride) {
  if (num_panels == 2) {
    FloatsTile<kStored, 2, kT, kT>(codes, x, cols, acc, acc_stride);
  } else {
    FloatsTile<kStored, 1, kT, kT>(codes, x, cols, acc, acc_stride);
  }
}

template <Stored kStored>
void AccumulateStored(const UnpackedPanel* panels, int num_panels, int cols, const float* x_rows,
                      int64_t num_rows, int64_t row0, int64_t num, float* acc) {
  const std::byte* stored[kPanelsPerStep];
  const std::byte* floats[kPanelsPerStep];
  for (int p = 0; p < num_panels; ++p) {
    stored[p] = floats[p] = static_cast<const std::byte*>(panels[p].codes);
    if (kStored != Stored::kFloat && num >= 4) {
      ToFloats<kStored>(stored[p], cols, reinterpret_cast<float*>(panels[p].scratch));
      floats[p] = panels[p].scratch;
    }
  }
  const int64_t stride = num_panels * kPanelRows;
  for (int64_t row = row0; row < row0 + num;) {
    const float* x = x_rows + row * kSegmentCols;
    const int64_t left = num_rows - row;
    const int count = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    if (count >= 4) {
      for (int p = 0; p < num_panels; ++p) {
        float* to = acc + p * kPanelRows;
        if (count == 8) {
          FloatsTile<Stored::kFloat, 1, 4, 8>(floats + p, x, cols, to, stride);
          FloatsTile<Stored::kFloat, 1, 4, 8>(floats + p, x + 4, cols, to + 4 * stride, stride);
        } else {
          FloatsTile<Stored::kFloat, 1, 4, 4>(floats + p, x, cols, to, stride);
        }
      }
    } else if (count == 2) {
      FewRows<kStored, 2>(stored, num_panels, x, cols, acc, stride);
    } else {
      FewRows<kStored, 1>(stored, num_panels, x, cols, acc, stride);
    }
    row += count;
    acc += count * stride;
  }
}

}  // namespace

void AccumulateFloats(const PanelFormat& f, const UnpackedPanel* panels, int num_panels, int cols,
                      const LinearWorkspace& w, int64_t segment, int64_t num_rows, int64_t row0,
                      int64_t num, float* acc) noexcept {
  const float* x =
      reinterpret_cast<const float*>(w.floats.data) + segment * num_rows * kSegmentCols;
  switch (f.type) {
    case DType::kF32:
      return AccumulateStored<Stored::kFloat>(panels, num_panels, cols, x, num_rows, row0, num,
                                              acc);
    case DType::kF16:
      return AccumulateStored<Stored::kHalf>(panels, num_panels, cols, x, num_rows, row0, num, acc);
    default:
      return AccumulateStored<Stored::kBfloat>(panels, num_panels, cols, x, num_rows, row0, num,
                                               acc);
  }
}

}  // namespace ink::avx2
