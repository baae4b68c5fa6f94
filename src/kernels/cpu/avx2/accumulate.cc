// The integer multiplications. Without VNNI one product of 32 bytes is vpmaddubsw and an addition;
// sums stay int16 for as long as they fit (decode.h says how long), then vpmaddwd widens and scales
// them in one instruction.
//
// Rows in tiles of 8 and 4 multiply unpacked codes: one panel (2 registers wide) times 4 rows, 8
// accumulators, of each step 2 loads of weights and 4 broadcasts for 16 operations. Their totals
// (float, or int32 of all groups) have no registers left and live in L1. The last 1 to 3 rows
// multiply codes straight from the packed planes, with totals in registers.
#include "kernels/cpu/avx2/decode.h"
#include "kernels/cpu/avx2/linear.h"
#include "kernels/cpu/avx2/simd.h"

namespace ink::avx2 {
namespace {

// One panel and one tile of rows. Row t's values of a field are at [..][stride] + t.
struct IntTile {
  const void* codes;  // canonical, or packed planes
  const float* d;
  const float* m;
  const int32_t* scales;
  const int32_t* min_pairs;
  const int8_t* q;          // [group of 4][stride][4]
  const float* dx;          // kScale32: [block][stride]; kScale256: [stride]
  const int32_t* neg_sums;  // int16 pairs; kScale32: [block][stride]; else [group of 16][stride]
  const float* scaled_sums;
  const int32_t* sum_pairs;
  int cols;
  int64_t ahead;  // from packed codes to the segment wanted soon
};

INK_INLINE int64_t BytesAhead(const UnpackedPanel& panel) {
  return panel.ahead == nullptr ? kPageAhead
                                : panel.ahead - static_cast<const std::byte*>(panel.codes);
}

INK_INLINE __m256i Zero() { return _mm256_setzero_si256(); }

// `sum` += w * x, in int16; the first product of a sum that starts at zero replaces it.
template <bool kFirst>
INK_INLINE void MultiplyUnsigned(__m256i& sum, __m256i w, __m256i x) {
  __m256i product = _mm256_maddubs_epi16(w, x);
  if constexpr (kFirst) {
    sum = product;
  } else {
    AddTo16(sum, product);
  }
}
// `sum` += scale * (w * x), in int32.
INK_INLINE void MultiplySigned(__m256i& sum, __m256i w, __m256i abs_w, __m256i x, __m256i scale) {
  AddTo32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(abs_w, _mm256_sign_epi8(x, w)), scale));
}

// y = fma(i, d * dx, y), and the min's part.
INK_INLINE __m256 AddScaled(__m256i i, __m256 d, __m256 dx, __m256 y) {
  return _mm256_fmadd_ps(_mm256_cvtepi32_ps(i), _mm256_mul_ps(d, dx), y);
}

// Sum over groups of min * sum(q), for rows 8 * half .. of the panel.
template <class F, int kT, int kStride>
INK_INLINE void MinTotals(const IntTile& tile, int half, __m256i (&mins)[kT]) {
  Unroll<F::kGroups / 2>([&](auto pair) INK_INLINED {
    constexpr int p = decltype(pair)::value;
    __m256i m = LoadInt(tile.min_pairs + p * 16 + half * 8);
    Unroll<kT>([&](auto t) INK_INLINED {
      constexpr int j = decltype(t)::value;
      __m256i product = _mm256_madd_epi16(m, Broadcast32(tile.sum_pairs + p * kStride + j));
      if constexpr (p == 0) {
        mins[j] = product;
      } else {
        AddTo32(mins[j], product);
      }
    });
  });
}

// ---- Four rows of unpacked codes ----

constexpr int kRows = 4;

template <class F, int kStride>
void Unsigned32(const IntTile& tile, float* __restrict acc, int64_t acc_stride) {
  // Codes up to 31 with mins do not fit 8 groups: a zero point of 16 comes off and is added back.
  constexpr bool kCenter = !F::kSumsFit;
  constexpr bool kStart = kCenter || F::kZeroShift >= 0;
  constexpr int kShift = kCenter ? 4 : F::kZeroShift >= 0 ? F::kZeroShift : 0;
  const uint8_t* codes = static_cast<const uint8_t*>(tile.codes);
  const int8_t* q = tile.q;
  const float *d = tile.d, *m = tile.m, *dx = tile.dx, *scaled_sums = tile.scaled_sums;
  const int32_t* neg_sums = tile.neg_sums;
  for (int b = 0; b < tile.cols / 32; ++b) {
    __m256i sum[2][kRows];
    if constexpr (kStart) {
      Unroll<kRows>([&](auto t) INK_INLINED {
        constexpr int j = decltype(t)::value;
        sum[0][j] = sum[1][j] = _mm256_slli_epi16(Broadcast32(neg_sums + j), kShift);
      });
    }
    Unroll<8>([&](auto step) INK_INLINED {
      constexpr int s = decltype(step)::value;
      __m256i w0 = LoadInt(codes + s * 64), w1 = LoadInt(codes + s * 64 + 32);
      Unroll<kRows>([&](auto t) INK_INLINED {
        constexpr int j = decltype(t)::value;
        __m256i x = Broadcast32(q + (s * kStride + j) * 4);
        MultiplyUnsigned<s == 0 && !kStart>(sum[0][j], w0, x);
        MultiplyUnsigned<s == 0 && !kStart>(sum[1][j], w1, x);
      });
    });
    __m256 d0 = _mm256_load_ps(d), d1 = _mm256_load_ps(d + 8);
    const __m256i ones = _mm256_set1_epi16(1);
    Unroll<kRows>([&](auto t) INK_INLINED {
      constexpr int j = decltype(t)::value;
      float* at = acc + j * acc_stride;
      __m256 scale = _mm256_broadcast_ss(dx + j);
      __m256i i0 = _mm256_madd_epi16(sum[0][j], ones), i1 = _mm256_madd_epi16(sum[1][j], ones);
      if constexpr (kCenter) {
        __m256i back = _mm256_madd_epi16(Broadcast32(neg_sums + j), _mm256_set1_epi16(-16));
        i0 = _mm256_add_epi32(i0, back);
        i1 = _mm256_add_epi32(i1, back);
      }
      __m256 y0 = AddScaled(i0, d0, scale, _mm256_load_ps(at));
      __m256 y1 = AddScaled(i1, d1, scale, _mm256_load_ps(at + 8));
      if constexpr (F::kMin) {
        __m256 s = _mm256_broadcast_ss(scaled_sums + j);
        y0 = _mm256_fmadd_ps(_mm256_load_ps(m), s, y0);
        y1 = _mm256_fmadd_ps(_mm256_load_ps(m + 8), s, y1);
      }
      _mm256_store_ps(at, y0);
      _mm256_store_ps(at + 8, y1);
    });
    codes += 512;
    q += kStride * 32;
    d += 16;
    dx += kStride;
    neg_sums += kStride;
    if constexpr (F::kMin) {
      m += 16;
      scaled_sums += kStride;
    }
  }
}

// Signed codes in scratch: |w|, then the masks of w < 0, then what the masks cost. In place of
// vpsignb, which has half the ports, the activation is flipped by exclusive or: w * x =
// |w| * (x ^ mask) + |w| where w < 0, and the latter's sum depends on the weights only.
struct SignedCodes {
  uint8_t* abs;
  uint8_t* mask;
  int32_t* start;  // kScale32: [block][16]; kScale256: [16], scaled

  explicit SignedCodes(const void* scratch)
      : abs(static_cast<uint8_t*>(const_cast<void*>(scratch))),
        mask(abs + 4096),
        start(reinterpret_cast<int32_t*>(abs + 8192)) {}
};

template <class F>
void StoreSigned(const UnpackedPanel& panel, int cols) {
  const SignedCodes out(panel.scratch);
  const F planes(panel.codes, cols, BytesAhead(panel));
  __m256i scaled[2] = {Zero(), Zero()};
  for (int b = 0; b < cols / 32; ++b) {
    Unroll<2>([&](auto half) INK_INLINED {
      constexpr int kHalf = decltype(half)::value;
      typename F::Half h = planes.template Open<kHalf>(b);
      __m256i lost = Zero();
      auto store = [&](int group, __m256i w) INK_INLINED {
        const int at = (b * 8 + group) * 64 + kHalf * 32;
        __m256i abs = _mm256_abs_epi8(w), mask = _mm256_cmpgt_epi8(Zero(), w);
        StoreInt(out.abs + at, abs);
        StoreInt(out.mask + at, mask);
        AddTo16(lost, _mm256_maddubs_epi16(_mm256_and_si256(abs, mask), _mm256_set1_epi8(1)));
      };
      Unroll<4>([&](auto step) INK_INLINED {
        constexpr int i = decltype(step)::value;
        __m256i wa, wb;
        planes.template Pair<i, kHalf>(h, &wa, &wb);
        store(i, wa);
        store(i + 4, wb);
      });
      if constexpr (F::kGroups == 0) {
        StoreInt(out.start + b * 16 + kHalf * 8, _mm256_madd_epi16(lost, _mm256_set1_epi16(1)));
      } else {
        static_assert(F::kGroups == 8);
        AddTo32(scaled[kHalf], _mm256_madd_epi16(lost, LoadInt(panel.scales + b * 16 + kHalf * 8)));
      }
    });
  }
  if constexpr (F::kGroups != 0) {
    StoreInt(out.start, scaled[0]);
    StoreInt(out.start + 8, scaled[1]);
  }
}

INK_INLINE void MultiplyFlipped(__m256i& sum, __m256i abs, __m256i mask, __m256i x, __m256i scale) {
  AddTo32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(abs, _mm256_xor_si256(x, mask)), scale));
}

template <class F, int kStride>
void Signed32(const IntTile& tile, float* __restrict acc, int64_t acc_stride) {
  const SignedCodes codes(tile.codes);
  const uint8_t *abs = codes.abs, *mask = codes.mask;
  const int32_t* start = codes.start;
  const int8_t* q = tile.q;
  const float *d = tile.d, *dx = tile.dx;
  const __m256i ones = _mm256_set1_epi16(1);
  for (int b = 0; b < tile.cols / 32; ++b) {
    __m256i sum[2][kRows];
    Unroll<kRows>([&](auto t) INK_INLINED {
      sum[0][t.value] = LoadInt(start);
      sum[1][t.value] = LoadInt(start + 8);
    });
    Unroll<8>([&](auto step) INK_INLINED {
      constexpr int s = decltype(step)::value;
      __m256i a0 = LoadInt(abs + s * 64), a1 = LoadInt(abs + s * 64 + 32);
      __m256i m0 = LoadInt(mask + s * 64), m1 = LoadInt(mask + s * 64 + 32);
      Unroll<kRows>([&](auto t) INK_INLINED {
        constexpr int j = decltype(t)::value;
        __m256i x = Broadcast32(q + (s * kStride + j) * 4);
        MultiplyFlipped(sum[0][j], a0, m0, x, ones);
        MultiplyFlipped(sum[1][j], a1, m1, x, ones);
      });
    });
    __m256 d0 = _mm256_load_ps(d), d1 = _mm256_load_ps(d + 8);
    Unroll<kRows>([&](auto t) INK_INLINED {
      constexpr int j = decltype(t)::value;
      float* at = acc + j * acc_stride;
      __m256 scale = _mm256_broadcast_ss(dx + j);
      _mm256_store_ps(at, AddScaled(sum[0][j], d0, scale, _mm256_load_ps(at)));
      _mm256_store_ps(at + 8, AddScaled(sum[1][j], d1, scale, _mm256_load_ps(at + 8)));
    });
    abs += 512;
    mask += 512;
    start += 16;
    q += kStride * 32;
    d += 16;
    dx += kStride;
  }
}

// The float part of a segment of a kScale256 format, for rows 8 * half .. of the panel.
template <class F, int kT, int kStride>
INK_INLINE void Finish256(const IntTile& tile, int half, const __m256i (&total)[kT], float* acc,
                          int64_t acc_stride) {
  __m256 d = _mm256_load_ps(tile.d + half * 8);
  __m256i mins[kT];
  if constexpr (F::kMin) MinTotals<F, kT, kStride>(tile, half, mins);
  Unroll<kT>([&](auto t) INK_INLINED {
    constexpr int j = decltype(t)::value;
    float* at = acc + j * acc_stride + half * 8;
    __m256 dx = _mm256_broadcast_ss(tile.dx + j);
    __m256 y = AddScaled(total[j], d, dx, _mm256_load_ps(at));
    if constexpr (F::kMin) {
      __m256 m = _mm256_load_ps(tile.m + half * 8);
      y = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(mins[j]), _mm256_mul_ps(m, dx), y);
    }
    _mm256_store_ps(at, y);
  });
}

template <class F, int kStride>
void Unsigned256(const IntTile& tile, float* __restrict acc, int64_t acc_stride) {
  constexpr int kSteps = F::kGroups == 16 || !F::kSumsFit ? 4 : 8;  // groups of 4 in an int16
  constexpr int kRepeats = 64 / kSteps / F::kGroups;                // such sums per scale
  constexpr bool kStart = F::kZeroShift >= 0;
  static_assert(!kStart || kSteps == 4);
  alignas(32) int32_t total[2][kRows][8];
  Unroll<kRows>([&](auto t) INK_INLINED {
    StoreInt(total[0][t.value], Zero());
    StoreInt(total[1][t.value], Zero());
  });
  const uint8_t* codes = static_cast<const uint8_t*>(tile.codes);
  const int8_t* q = tile.q;
  const int32_t *scales = tile.scales, *neg_sums = tile.neg_sums;
  for (int g = 0; g < F::kGroups; ++g) {
    __m256i scale0 = LoadInt(scales), scale1 = LoadInt(scales + 8);
    Unroll<kRepeats>([&](auto) INK_INLINED {
      __m256i sum[2][kRows];
      if constexpr (kStart) {
        Unroll<kRows>([&](auto t) INK_INLINED {
          constexpr int j = decltype(t)::value;
          sum[0][j] = sum[1][j] = _mm256_slli_epi16(Broadcast32(neg_sums + j), F::kZeroShift);
        });
      }
      Unroll<kSteps>([&](auto step) INK_INLINED {
        constexpr int s = decltype(step)::value;
        __m256i w0 = LoadInt(codes + s * 64), w1 = LoadInt(codes + s * 64 + 32);
        Unroll<kRows>([&](auto t) INK_INLINED {
          constexpr int j = decltype(t)::value;
          __m256i x = Broadcast32(q + (s * kStride + j) * 4);
          MultiplyUnsigned<s == 0 && !kStart>(sum[0][j], w0, x);
          MultiplyUnsigned<s == 0 && !kStart>(sum[1][j], w1, x);
        });
      });
      Unroll<kRows>([&](auto t) INK_INLINED {
        constexpr int j = decltype(t)::value;
        StoreInt(total[0][j],
                 _mm256_add_epi32(LoadInt(total[0][j]), _mm256_madd_epi16(sum[0][j], scale0)));
        StoreInt(total[1][j],
                 _mm256_add_epi32(LoadInt(total[1][j]), _mm256_madd_epi16(sum[1][j], scale1)));
      });
      codes += kSteps * 64;
      q += kSteps * kStride * 4;
    });
    scales += 16;
    neg_sums += kStride;
  }
  Unroll<2>([&](auto half) INK_INLINED {
    constexpr int h = decltype(half)::value;
    __m256i whole[kRows];
    Unroll<kRows>([&](auto t) INK_INLINED { whole[t.value] = LoadInt(total[h][t.value]); });
    Finish256<F, kRows, kStride>(tile, h, whole, acc, acc_stride);
  });
}

// Scaled products go straight to int32, so totals take the place of sums: half a panel at a time.
template <class F, int kStride>
void Signed256(const IntTile& tile, float* __restrict acc, int64_t acc_stride) {
  const SignedCodes codes(tile.codes);
  for (int half = 0; half < 2; ++half) {
    const uint8_t *abs = codes.abs + half * 32, *mask = codes.mask + half * 32;
    const int32_t* scales = tile.scales + half * 8;
    const int8_t* q = tile.q;
    __m256i total[kRows];
    Unroll<kRows>([&](auto t) INK_INLINED { total[t.value] = LoadInt(codes.start + half * 8); });
    for (int g = 0; g < F::kGroups; ++g) {
      __m256i scale = LoadInt(scales);
      Unroll<64 / F::kGroups>([&](auto step) INK_INLINED {
        constexpr int s = decltype(step)::value;
        __m256i a = LoadInt(abs + s * 64), m = LoadInt(mask + s * 64);
        Unroll<kRows>([&](auto t) INK_INLINED {
          constexpr int j = decltype(t)::value;
          MultiplyFlipped(total[j], a, m, Broadcast32(q + (s * kStride + j) * 4), scale);
        });
      });
      abs += 4096 / F::kGroups;
      mask += 4096 / F::kGroups;
      q += 256 / F::kGroups * kStride;
      scales += 16;
    }
    Finish256<F, kRows, kStride>(tile, half, total, acc, acc_stride);
  }
}

template <class F, int kStride>
void UnpackedRows(const IntTile& tile, float* acc, int64_t acc_stride) {
  if constexpr (F::kGroups == 0) {
    if constexpr (F::kSigned) {
      Signed32<F, kStride>(tile, acc, acc_stride);
    } else {
      Unsigned32<F, kStride>(tile, acc, acc_stride);
    }
  } else if constexpr (F::kSigned) {
    Signed256<F, kStride>(tile, acc, acc_stride);
  } else {
    Unsigned256<F, kStride>(tile, acc, acc_stride);
  }
}

// ---- One or two rows of packed codes ----

// The integer of one block of 32 columns, 8 rows of weights (scaled when the format has integer
// scales), added to `total`.
template <class F, int kT, int kHalf>
INK_INLINE void PackedBlock(const F& planes, const IntTile& tile, int b, __m256i (&total)[kT]) {
  const __m256i ones = _mm256_set1_epi16(1);
  // Scales of groups 0 to 3 and 4 to 7 of the block.
  __m256i scale_a = ones, scale_b = ones;
  if constexpr (F::kGroups == 8) {
    scale_a = scale_b = LoadInt(tile.scales + b * 16 + kHalf * 8);
  } else if constexpr (F::kGroups == 16) {
    scale_a = LoadInt(tile.scales + b * 32 + kHalf * 8);
    scale_b = LoadInt(tile.scales + b * 32 + 16 + kHalf * 8);
  }
  __m256i sum_a[kT], sum_b[kT];
  Unroll<kT>([&](auto t) INK_INLINED {
    constexpr int j = decltype(t)::value;
    if constexpr (F::kZeroShift >= 0 && F::kGroups == 0) {
      sum_a[j] = _mm256_slli_epi16(Broadcast32(tile.neg_sums + b * kT + j), F::kZeroShift);
      sum_b[j] = Zero();
    } else if constexpr (F::kZeroShift >= 0) {
      const int32_t* neg = tile.neg_sums + b * 2 * kT + j;
      sum_a[j] = _mm256_slli_epi16(Broadcast32(neg), F::kZeroShift);
      sum_b[j] = _mm256_slli_epi16(Broadcast32(neg + kT), F::kZeroShift);
    } else {
      sum_a[j] = sum_b[j] = Zero();
    }
  });
  const int8_t* q = tile.q + b * 32 * kT;
  typename F::Half h = planes.template Open<kHalf>(b);
  Unroll<4>([&](auto step) INK_INLINED {
    constexpr int i = decltype(step)::value;
    __m256i wa, wb;
    planes.template Pair<i, kHalf>(h, &wa, &wb);
    Unroll<kT>([&](auto t) INK_INLINED {
      constexpr int j = decltype(t)::value;
      __m256i xa = Broadcast32(q + (i * kT + j) * 4);
      __m256i xb = Broadcast32(q + ((i + 4) * kT + j) * 4);
      if constexpr (F::kSigned) {
        MultiplySigned(sum_a[j], wa, _mm256_abs_epi8(wa), xa, scale_a);
        MultiplySigned(sum_b[j], wb, _mm256_abs_epi8(wb), xb, scale_b);
      } else {
        MultiplyUnsigned<false>(sum_a[j], wa, xa);
        MultiplyUnsigned<false>(sum_b[j], wb, xb);
      }
    });
  });
  Unroll<kT>([&](auto t) INK_INLINED {
    constexpr int j = decltype(t)::value;
    __m256i sum;
    if constexpr (F::kSigned) {
      sum = _mm256_add_epi32(sum_a[j], sum_b[j]);
    } else if constexpr (F::kSumsFit && F::kGroups != 16) {
      sum = _mm256_madd_epi16(_mm256_add_epi16(sum_a[j], sum_b[j]), scale_a);
    } else {
      sum = _mm256_add_epi32(_mm256_madd_epi16(sum_a[j], scale_a),
                             _mm256_madd_epi16(sum_b[j], scale_b));
    }
    total[j] = _mm256_add_epi32(total[j], sum);
  });
}

template <class F, int kT>
void PackedRows(const IntTile& tile_in, float* __restrict acc, int64_t acc_stride) {
  const IntTile tile = tile_in;
  const F planes(tile.codes, tile.cols, tile.ahead);
  if constexpr (F::kGroups == 0) {
    __m256 y[2][kT];
    Unroll<2>([&](auto half) INK_INLINED {
      Unroll<kT>([&](auto t) INK_INLINED {
        y[half.value][t.value] = _mm256_load_ps(acc + t.value * acc_stride + half.value * 8);
      });
    });
    for (int b = 0; b < tile.cols / 32; ++b) {
      Unroll<2>([&](auto half) INK_INLINED {
        constexpr int h = decltype(half)::value;
        __m256i sum[kT];
        Unroll<kT>([&](auto t) INK_INLINED { sum[t.value] = Zero(); });
        PackedBlock<F, kT, h>(planes, tile, b, sum);
        __m256 d = _mm256_load_ps(tile.d + b * 16 + h * 8);
        Unroll<kT>([&](auto t) INK_INLINED {
          constexpr int j = decltype(t)::value;
          y[h][j] = AddScaled(sum[j], d, _mm256_broadcast_ss(tile.dx + b * kT + j), y[h][j]);
          if constexpr (F::kMin) {
            y[h][j] = _mm256_fmadd_ps(_mm256_load_ps(tile.m + b * 16 + h * 8),
                                      _mm256_broadcast_ss(tile.scaled_sums + b * kT + j), y[h][j]);
          }
        });
      });
    }
    Unroll<2>([&](auto half) INK_INLINED {
      Unroll<kT>([&](auto t) INK_INLINED {
        _mm256_store_ps(acc + t.value * acc_stride + half.value * 8, y[half.value][t.value]);
      });
    });
  } else {
    __m256i total[2][kT];
    Unroll<kT>([&](auto t) INK_INLINED { total[0][t.value] = total[1][t.value] = Zero(); });
    for (int b = 0; b < kSegmentCols / 32; ++b) {
      PackedBlock<F, kT, 0>(planes, tile, b, total[0]);
      PackedBlock<F, kT, 1>(planes, tile, b, total[1]);
    }
    Finish256<F, kT, kT>(tile, 0, total[0], acc, acc_stride);
    Finish256<F, kT, kT>(tile, 1, total[1], acc, acc_stride);
  }
}

// ---- Tiles ----

struct Rows {
  const LinearWorkspace* workspace;
  int64_t segment, num_rows, row0, num;
};

template <class F>
void AccumulateInts(const UnpackedPanel* panels, int num_panels, int cols, const Rows& rows,
                    float* acc) {
  constexpr bool kPer32 = F::kGroups == 0;
  constexpr int kPerRow = kPer32 ? 8 : 16;  // negative sums
  const PackedInts& packed = kPer32 ? rows.workspace->ints32 : rows.workspace->ints256;
  const int64_t acc_stride = num_panels * kPanelRows;
  if (rows.num >= kRows) {
    for (int p = 0; p < num_panels; ++p) {
      if constexpr (F::kSigned) {
        StoreSigned<F>(panels[p], cols);
      } else {
        F(panels[p].codes, cols, BytesAhead(panels[p]))
            .Store(cols, reinterpret_cast<uint8_t*>(panels[p].scratch));
      }
    }
  }
  for (int64_t row = rows.row0; row < rows.row0 + rows.num;) {
    const int64_t at = rows.segment * rows.num_rows + row;
    const int64_t left = rows.num_rows - row;
    const int count = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    IntTile tile;
    tile.cols = cols;
    for (int p = 0; p < num_panels; ++p) {
      tile.codes = count >= kRows ? panels[p].scratch : panels[p].codes;
      tile.d = panels[p].d;
      tile.m = panels[p].m;
      tile.scales = panels[p].scales;
      tile.min_pairs = panels[p].min_pairs;
      tile.ahead = BytesAhead(panels[p]);
      tile.q = packed.codes + at * kSegmentCols;
      tile.dx = packed.scales + at * (kPer32 ? 8 : 1);
      tile.neg_sums = packed.negative_sums + at * kPerRow;
      tile.scaled_sums = packed.scaled_sums + (kPer32 ? at * 8 : 0);
      tile.sum_pairs = F::kGroups == 8    ? packed.sum_pairs32 + at * 4
                       : F::kGroups == 16 ? packed.sum_pairs16 + at * 8
                                          : nullptr;
      float* to = acc + p * kPanelRows;
      if (count == 8) {
        UnpackedRows<F, 8>(tile, to, acc_stride);
        tile.q += kRows * 4;
        tile.dx += kRows;
        tile.neg_sums += kRows;
        if constexpr (kPer32) {
          tile.scaled_sums += kRows;
        } else {
          tile.sum_pairs += kRows;
        }
        UnpackedRows<F, 8>(tile, to + kRows * acc_stride, acc_stride);
      } else if (count == 4) {
        UnpackedRows<F, 4>(tile, to, acc_stride);
      } else if (count == 2) {
        PackedRows<F, 2>(tile, to, acc_stride);
      } else {
        PackedRows<F, 1>(tile, to, acc_stride);
      }
    }
    row += count;
    acc += count * acc_stride;
  }
}

}  // namespace

void Accumulate(const PanelFormat& f, const UnpackedPanel* panels, int num_panels, int cols,
                const LinearWorkspace& workspace, int64_t segment, int64_t num_rows, int64_t row0,
                int64_t num, float* acc) noexcept {
  const Rows rows{&workspace, segment, num_rows, row0, num};
  switch (f.type) {
    case DType::kQ8_0:
      return AccumulateInts<CodesQ8_0>(panels, num_panels, cols, rows, acc);
    case DType::kQ4_0:
      return AccumulateInts<CodesQ4_0>(panels, num_panels, cols, rows, acc);
    case DType::kQ4_1:
      return AccumulateInts<CodesQ4_1>(panels, num_panels, cols, rows, acc);
    case DType::kQ5_0:
      return AccumulateInts<CodesQ5_0>(panels, num_panels, cols, rows, acc);
    case DType::kQ5_1:
      return AccumulateInts<CodesQ5_1>(panels, num_panels, cols, rows, acc);
    case DType::kIQ4_NL:
      return AccumulateInts<CodesIQ4_NL>(panels, num_panels, cols, rows, acc);
    case DType::kMXFP4:
      return AccumulateInts<CodesMXFP4>(panels, num_panels, cols, rows, acc);
    case DType::kQ2_K:
      return AccumulateInts<CodesQ2_K>(panels, num_panels, cols, rows, acc);
    case DType::kQ3_K:
      return AccumulateInts<CodesQ3_K>(panels, num_panels, cols, rows, acc);
    case DType::kQ4_K:
      return AccumulateInts<CodesQ4_K>(panels, num_panels, cols, rows, acc);
    case DType::kQ5_K:
      return AccumulateInts<CodesQ5_K>(panels, num_panels, cols, rows, acc);
    case DType::kQ6_K:
      return AccumulateInts<CodesQ6_K>(panels, num_panels, cols, rows, acc);
    case DType::kIQ4_XS:
      return AccumulateInts<CodesIQ4_XS>(panels, num_panels, cols, rows, acc);
    default:
      AccumulateFloats(f, panels, num_panels, cols, workspace, segment, num_rows, row0, num, acc);
  }
}

}  // namespace ink::avx2
