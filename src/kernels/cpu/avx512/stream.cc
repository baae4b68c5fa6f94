// Up to 16 rows: codes go from the planes to vpdpbusd in registers. What matters here is that the
// loads of the weights' stream follow each other without a pause, as in a loop that only reads:
// with unpacked codes in between, two cores reached 44 GB/s of 60, and
// 8 rows ran 40% slower.
#include "kernels/cpu/avx512/linear.h"
#include "kernels/cpu/avx512/planes.h"

namespace ink::avx512 {
namespace {

// One tile of packed activations, as in linear_plan.h.
struct Activations {
  const int8_t* q;
  const float* dx;
  const int32_t* neg_sums;
  const float* scaled_sums;
  const int32_t* sum_pairs;
};

// Vectors [kFirst, kFirst + kCount) of a block's codes times their activations.
template <int kT, int kFirst, int kCount>
INK_INLINE void Multiply(const __m512i (&codes)[8], const int8_t* q, __m512i (&sum)[kT]) {
  Unroll<kCount>([&](auto n) INK_INLINED {
    constexpr int i = kFirst + decltype(n)::value;
    Unroll<kT>([&](auto t) INK_INLINED {
      constexpr int j = decltype(t)::value;
      Dot4(sum[j], codes[i], Broadcast32(q + (i * kT + j) * 4));
    });
  });
}

template <int kT, bool kMin, typename Planes>
void Scale32(const Planes& planes, const UnpackedPanel& panel, const Activations& x, int blocks,
             int zero_shift, float* acc) {
  const __m128i shift = _mm_cvtsi32_si128(zero_shift);
  __m512 y[kT];
  Unroll<kT>([&](auto t) INK_INLINED { y[t.value] = _mm512_load_ps(acc + t.value * 16); });
  for (int b = 0; b < blocks; ++b) {
    __m512i codes[8];
    planes.Block(b, codes);
    __m512i sum[kT];
    Unroll<kT>([&](auto t) INK_INLINED {
      constexpr int j = decltype(t)::value;
      sum[j] = kMin ? _mm512_setzero_si512()
                    : _mm512_sll_epi32(Broadcast32(x.neg_sums + b * kT + j), shift);
    });
    Multiply<kT, 0, 8>(codes, x.q + b * 32 * kT, sum);
    const __m512 d = _mm512_load_ps(panel.d + b * 16);
    Unroll<kT>([&](auto t) INK_INLINED {
      constexpr int j = decltype(t)::value;
      const __m512 scale = _mm512_mul_ps(d, _mm512_set1_ps(x.dx[b * kT + j]));
      y[j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[j]), scale, y[j]);
      if constexpr (kMin) {
        y[j] = _mm512_fmadd_ps(_mm512_load_ps(panel.m + b * 16),
                               _mm512_set1_ps(x.scaled_sums[b * kT + j]), y[j]);
      }
    });
  }
  Unroll<kT>([&](auto t) INK_INLINED { _mm512_store_ps(acc + t.value * 16, y[t.value]); });
}

// Where a group's integers begin: minus its code sum, times the zero point.
template <int kT, int kGroups>
INK_INLINE __m512i Start(const Activations& x, int group, int t, __m128i shift) {
  __m512i start;
  if constexpr (kGroups == 16) {
    start = Broadcast32(x.neg_sums + group * kT + t);
  } else {
    start = _mm512_add_epi32(Broadcast32(x.neg_sums + 2 * group * kT + t),
                             Broadcast32(x.neg_sums + (2 * group + 1) * kT + t));
  }
  return _mm512_sll_epi32(start, shift);
}

template <int kT, int kGroups, bool kMin, typename Planes>
void Scale256(const Planes& planes, const UnpackedPanel& panel, const Activations& x,
              int zero_shift, float* acc) {
  const __m128i shift = _mm_cvtsi32_si128(zero_shift);
  constexpr int kParts = kGroups / 8;  // groups of one block
  __m512i total[kT];
  Unroll<kT>([&](auto t) INK_INLINED { total[t.value] = _mm512_setzero_si512(); });
  for (int b = 0; b < 8; ++b) {
    __m512i codes[8];
    planes.Block(b, codes);
    Unroll<kParts>([&](auto part) INK_INLINED {
      constexpr int p = decltype(part)::value;
      const int group = b * kParts + p;
      __m512i sum[kT];
      Unroll<kT>([&](auto t) INK_INLINED {
        constexpr int j = decltype(t)::value;
        if constexpr (kMin) {
          sum[j] = _mm512_setzero_si512();
        } else {
          sum[j] = Start<kT, kGroups>(x, group, j, shift);
        }
      });
      Multiply<kT, p*(8 / kParts), 8 / kParts>(codes, x.q + b * 32 * kT, sum);
      const __m512i scale = LoadInt(panel.scales + group * 16);
      Unroll<kT>([&](auto t) INK_INLINED {
        constexpr int j = decltype(t)::value;
        total[j] = _mm512_add_epi32(total[j], _mm512_mullo_epi32(sum[j], scale));
      });
    });
  }
  const __m512 d = _mm512_load_ps(panel.d);
  __m512i mins[kT];
  if constexpr (kMin) {
    Unroll<kT>([&](auto t) INK_INLINED { mins[t.value] = _mm512_setzero_si512(); });
    Unroll<kGroups / 2>([&](auto pair) INK_INLINED {
      const __m512i m = LoadInt(panel.min_pairs + pair.value * 16);
      Unroll<kT>([&](auto t) INK_INLINED {
        constexpr int j = decltype(t)::value;
        Dot2(mins[j], m, Broadcast32(x.sum_pairs + decltype(pair)::value * kT + j));
      });
    });
  }
  Unroll<kT>([&](auto t) INK_INLINED {
    constexpr int j = decltype(t)::value;
    const __m512 dx = _mm512_set1_ps(x.dx[j]);
    __m512 y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total[j]), _mm512_mul_ps(d, dx),
                               _mm512_load_ps(acc + j * 16));
    if constexpr (kMin) {
      y = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(mins[j]), _mm512_mul_ps(_mm512_load_ps(panel.m), dx),
                           y);
    }
    _mm512_store_ps(acc + j * 16, y);
  });
}

// Calls run(planes) with the planes of the format.
template <typename Run>
void WithPlanes(const PanelFormat& f, const uint8_t* base, int cols, Ahead ahead, Run run) {
  const uint8_t* second = base + cols * 8;
  switch (f.type) {
    case DType::kQ4_0:
      run.template Blocks<false>(Nibbles<0, Identity>{base, nullptr, ahead, {}});
      return;
    case DType::kQ4_1:
      run.template Blocks<true>(Nibbles<0, Identity>{base, nullptr, ahead, {}});
      return;
    case DType::kQ5_0:
      run.template Blocks<false>(Nibbles<1, Identity>{base, second, ahead, {}});
      return;
    case DType::kQ5_1:
      run.template Blocks<true>(Nibbles<1, Identity>{base, second, ahead, {}});
      return;
    case DType::kIQ4_NL:
      run.template Blocks<false>(Nibbles<0, Table>{base, nullptr, ahead, Table(kIq4Codes)});
      return;
    case DType::kMXFP4:
      run.template Blocks<false>(Nibbles<0, Table>{base, nullptr, ahead, Table(kFp4Codes)});
      return;
    case DType::kQ4_K:
      run.template Groups<8, true>(Nibbles<0, Identity>{base, nullptr, ahead, {}});
      return;
    case DType::kQ5_K:
      run.template Groups<8, true>(Nibbles<1, Identity>{base, second, ahead, {}});
      return;
    case DType::kQ6_K:
      run.template Groups<16, false>(Nibbles<2, Identity>{base, second, ahead, {}});
      return;
    case DType::kIQ4_XS:
      run.template Groups<8, false>(Nibbles<0, Table>{base, nullptr, ahead, Table(kIq4Codes)});
      return;
    case DType::kQ2_K:
      run.template Groups<16, true>(Pairs<false>{base, nullptr, ahead});
      return;
    case DType::kQ3_K:
      run.template Groups<16, false>(Pairs<true>{base, base + cols * 4, ahead});
      return;
    default:
      return;
  }
}

template <int kT>
struct RunTile {
  const UnpackedPanel& panel;
  const Activations& x;
  int blocks;
  int zero_shift;
  float* acc;

  template <bool kMin, typename Planes>
  INK_INLINE void Blocks(const Planes& planes) const {
    Scale32<kT, kMin>(planes, panel, x, blocks, zero_shift, acc);
  }
  template <int kGroups, bool kMin, typename Planes>
  INK_INLINE void Groups(const Planes& planes) const {
    Scale256<kT, kGroups, kMin>(planes, panel, x, zero_shift, acc);
  }
};

}  // namespace

void Stream(const PanelFormat& f, const UnpackedPanel& panel, int cols, const LinearWorkspace& w,
            int64_t segment, int64_t num_rows, int64_t row0, int64_t num, float* acc) noexcept {
  const uint8_t* base = static_cast<const uint8_t*>(panel.codes);
  const Ahead ahead{panel.ahead == nullptr ? 0
                                           : reinterpret_cast<const uint8_t*>(panel.ahead) - base};
  const bool per32 = f.kind == PanelKind::kScale32;
  const PackedInts& packed = per32 ? w.ints32 : w.ints256;
  const int zero_shift = f.zero_shift < 0 ? 0 : f.zero_shift;
  for (int64_t row = row0; row < row0 + num;) {
    const int64_t at = segment * num_rows + row;
    Activations x;
    x.q = packed.codes + at * kSegmentCols;
    x.dx = packed.scales + at * (per32 ? 8 : 1);
    x.neg_sums = packed.negative_sums + at * (per32 ? 8 : 16);
    x.scaled_sums = per32 ? packed.scaled_sums + at * 8 : nullptr;
    x.sum_pairs = per32           ? nullptr
                  : f.groups == 8 ? packed.sum_pairs32 + at * 4
                                  : packed.sum_pairs16 + at * 8;
    const int64_t left = num_rows - row;
    const int tile = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    if (tile == 8) {
      WithPlanes(f, base, cols, ahead, RunTile<8>{panel, x, cols / 32, zero_shift, acc});
    } else if (tile == 4) {
      WithPlanes(f, base, cols, ahead, RunTile<4>{panel, x, cols / 32, zero_shift, acc});
    } else if (tile == 2) {
      WithPlanes(f, base, cols, ahead, RunTile<2>{panel, x, cols / 32, zero_shift, acc});
    } else {
      WithPlanes(f, base, cols, ahead, RunTile<1>{panel, x, cols / 32, zero_shift, acc});
    }
    row += tile;
    acc += tile * 16;
  }
}

}  // namespace ink::avx512
