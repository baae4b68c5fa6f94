// The multiplications. Integer formats with many rows go through tiles of 3 panels and 4 rows
// (tile_3x4.h), bfloat16 with 8 rows and more through tiles of 8 rows (bf16_tile.h). What is left,
// and the other float formats: one tile is 2 (or 1) panels times 8 (4, 2, 1)
// activation rows: 16 vector accumulators, which covers the latency of vpdpbusd and vfmadd (4 to 5
// cycles, two a cycle), and per step 2 loads of weights and 8 broadcasts for 16 multiplications: 5
// of 8 cycles of the load ports. A second set of accumulators (float, or int32 after the scales)
// does not fit beside 16 and lives in L1, which costs: a store takes the place of two
// multiplications.
#include <algorithm>

#include "kernels/cpu/avx512/bf16_tile.h"
#include "kernels/cpu/avx512/linear.h"
#include "kernels/cpu/avx512/simd.h"
#include "kernels/cpu/avx512/tile_3x4.h"

namespace ink::avx512 {
namespace {

struct IntTile {
  const uint8_t* codes[kPanelsPerStep];
  const float* d[kPanelsPerStep];
  const float* m[kPanelsPerStep];
  const int32_t* scales[kPanelsPerStep];
  const int32_t* min_pairs[kPanelsPerStep];
  const int8_t* q;          // [group of 4][T][4]
  const float* dx;          // kScale32: [block][T]; kScale256: [T]
  const int32_t* neg_sums;  // kScale32: [block][T]; kScale256: [group of 16][T]
  const float* scaled_sums;
  const int32_t* sum_pairs;
  int zero_shift;
  int blocks;  // of 32 columns
  // Q8_0 is multiplied as stored: what to ask for beside each 64 bytes of codes; 0: nothing.
  int64_t ahead[kPanelsPerStep];
};

// `kSteps` groups of 4 columns from group `first`. One or two chains of vpdpbusd would wait for
// each other (5 cycles), so few accumulators are split in four; integer sums do not mind.
template <int kP, int kT, int kSteps>
INK_INLINE void MultiplyGroups(const IntTile& tile, int first, __m512i (&sum)[kP][kT]) {
  constexpr int kSplit = kP * kT <= 2 ? 4 : kP * kT <= 4 ? 2 : 1;
  __m512i part[kSplit][kP][kT];
  Unroll<kP>([&](auto p) INK_INLINED {
    Unroll<kT>([&](auto t) INK_INLINED {
      constexpr int i = decltype(p)::value, j = decltype(t)::value;
      part[0][i][j] = sum[i][j];
      Unroll<kSplit, 1>(
          [&](auto s) INK_INLINED { part[decltype(s)::value][i][j] = _mm512_setzero_si512(); });
    });
  });
  Unroll<kSteps>([&](auto step) INK_INLINED {
    constexpr int kPart = decltype(step)::value % kSplit;
    __m512i w[kP];
    Unroll<kP>([&](auto p) INK_INLINED {
      constexpr int i = decltype(p)::value;
      const uint8_t* from = tile.codes[i] + (first + step.value) * 64;
      if constexpr (kT <= 4) {
        if (tile.ahead[i] != 0) {
          _mm_prefetch(reinterpret_cast<const char*>(from + tile.ahead[i]), _MM_HINT_T0);
        }
      }
      w[i] = LoadInt(from);
    });
    Unroll<kT>([&](auto t) INK_INLINED {
      constexpr int j = decltype(t)::value;
      __m512i x = Broadcast32(tile.q + ((first + step.value) * kT + j) * 4);
      Unroll<kP>([&](auto p) INK_INLINED {
        Dot4(part[kPart][decltype(p)::value][j], w[decltype(p)::value], x);
      });
    });
  });
  Unroll<kP>([&](auto p) INK_INLINED {
    Unroll<kT>([&](auto t) INK_INLINED {
      constexpr int i = decltype(p)::value, j = decltype(t)::value;
      sum[i][j] = part[0][i][j];
      Unroll<kSplit, 1>([&](auto s) INK_INLINED {
        sum[i][j] = _mm512_add_epi32(sum[i][j], part[decltype(s)::value][i][j]);
      });
    });
  });
}

template <int kP, int kT, bool kMin>
void Scale32Tile(const IntTile& tile, float* __restrict acc) {
  const __m128i shift = _mm_cvtsi32_si128(tile.zero_shift);
  for (int b = 0; b < tile.blocks; ++b) {
    __m512i sum[kP][kT];
    Unroll<kT>([&](auto t) INK_INLINED {
      constexpr int j = decltype(t)::value;
      __m512i start = kMin ? _mm512_setzero_si512()
                           : _mm512_sll_epi32(Broadcast32(tile.neg_sums + b * kT + j), shift);
      Unroll<kP>([&](auto p) INK_INLINED { sum[decltype(p)::value][j] = start; });
    });
    MultiplyGroups<kP, kT, 8>(tile, b * 8, sum);
    Unroll<kP>([&](auto p) INK_INLINED {
      constexpr int i = decltype(p)::value;
      __m512 d = _mm512_load_ps(tile.d[i] + b * 16);
      Unroll<kT>([&](auto t) INK_INLINED {
        constexpr int j = decltype(t)::value;
        float* at = acc + (j * kP + i) * 16;
        __m512 scale = _mm512_mul_ps(d, _mm512_set1_ps(tile.dx[b * kT + j]));
        __m512 y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[i][j]), scale, _mm512_load_ps(at));
        if constexpr (kMin) {
          y = _mm512_fmadd_ps(_mm512_load_ps(tile.m[i] + b * 16),
                              _mm512_set1_ps(tile.scaled_sums[b * kT + j]), y);
        }
        _mm512_store_ps(at, y);
      });
    });
  }
}

// kGroups integer scales per 256 columns, with a min per group (kMin) or a zero point.
template <int kP, int kT, int kGroups, bool kMin>
void Scale256Tile(const IntTile& tile, float* __restrict acc) {
  constexpr bool kKeep = kP * kT <= 8;  // totals in registers
  const __m128i shift = _mm_cvtsi32_si128(tile.zero_shift);
  alignas(64) int32_t memory[kKeep ? 16 : kP * kT * 16];
  __m512i total[kKeep ? kP : 1][kKeep ? kT : 1];
  Unroll<kP>([&](auto p) INK_INLINED {
    Unroll<kT>([&](auto t) INK_INLINED {
      constexpr int i = decltype(p)::value, j = decltype(t)::value;
      if constexpr (kKeep) {
        total[i][j] = _mm512_setzero_si512();
      } else {
        _mm512_store_si512(memory + (i * kT + j) * 16, _mm512_setzero_si512());
      }
    });
  });
  for (int g = 0; g < kGroups; ++g) {
    __m512i sum[kP][kT];
    Unroll<kT>([&](auto t) INK_INLINED {
      constexpr int j = decltype(t)::value;
      __m512i start = _mm512_setzero_si512();
      if constexpr (!kMin) {
        if constexpr (kGroups == 16) {
          start = Broadcast32(tile.neg_sums + g * kT + j);
        } else {
          start = _mm512_add_epi32(Broadcast32(tile.neg_sums + (2 * g) * kT + j),
                                   Broadcast32(tile.neg_sums + (2 * g + 1) * kT + j));
        }
        start = _mm512_sll_epi32(start, shift);
      }
      Unroll<kP>([&](auto p) INK_INLINED { sum[decltype(p)::value][j] = start; });
    });
    MultiplyGroups<kP, kT, 64 / kGroups>(tile, g * (64 / kGroups), sum);
    Unroll<kP>([&](auto p) INK_INLINED {
      constexpr int i = decltype(p)::value;
      __m512i scale = LoadInt(tile.scales[i] + g * 16);
      Unroll<kT>([&](auto t) INK_INLINED {
        constexpr int j = decltype(t)::value;
        __m512i scaled = _mm512_mullo_epi32(sum[i][j], scale);
        if constexpr (kKeep) {
          total[i][j] = _mm512_add_epi32(total[i][j], scaled);
        } else {
          int32_t* at = memory + (i * kT + j) * 16;
          _mm512_store_si512(at, _mm512_add_epi32(scaled, _mm512_load_si512(at)));
        }
      });
    });
  }
  Unroll<kP>([&](auto p) INK_INLINED {
    constexpr int i = decltype(p)::value;
    __m512 d = _mm512_load_ps(tile.d[i]);
    __m512i mins[kT];
    if constexpr (kMin) {
      Unroll<kT>([&](auto t) INK_INLINED { mins[decltype(t)::value] = _mm512_setzero_si512(); });
      Unroll<kGroups / 2>([&](auto pair) INK_INLINED {
        __m512i m = LoadInt(tile.min_pairs[i] + pair.value * 16);
        Unroll<kT>([&](auto t) INK_INLINED {
          constexpr int j = decltype(t)::value;
          Dot2(mins[j], m, Broadcast32(tile.sum_pairs + pair.value * kT + j));
        });
      });
    }
    Unroll<kT>([&](auto t) INK_INLINED {
      constexpr int j = decltype(t)::value;
      float* at = acc + (j * kP + i) * 16;
      __m512i whole;
      if constexpr (kKeep) {
        whole = total[i][j];
      } else {
        whole = _mm512_load_si512(memory + (i * kT + j) * 16);
      }
      __m512 dx = _mm512_set1_ps(tile.dx[j]);
      __m512 y =
          _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), _mm512_mul_ps(d, dx), _mm512_load_ps(at));
      if constexpr (kMin) {
        y = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(mins[j]),
                             _mm512_mul_ps(_mm512_load_ps(tile.m[i]), dx), y);
      }
      _mm512_store_ps(at, y);
    });
  });
}

struct FloatTile {
  const std::byte* codes[kPanelsPerStep];
  const std::byte* x;  // [column][T], or [column pair][T][2]
  int steps;           // columns, or pairs of columns
  int64_t ahead;       // bytes to look ahead in the weights
};

enum class FloatForm { kF32, kBf16Pairs, kF16 };

// A step is one column, or a pair of bfloat16 columns.
template <int kP, int kT, FloatForm kForm>
void FloatsTile(const FloatTile& tile, float* acc) {
  __m512 sum[kP][kT];
  Unroll<kP>([&](auto p) INK_INLINED {
    Unroll<kT>([&](auto t) INK_INLINED {
      constexpr int i = decltype(p)::value, j = decltype(t)::value;
      sum[i][j] = _mm512_load_ps(acc + (j * kP + i) * 16);
    });
  });
  const std::byte* x = tile.x;
  for (int k = 0; k < tile.steps; ++k, x += kT * 4) {
    __m512i w[kP];
    Unroll<kP>([&](auto p) INK_INLINED {
      constexpr int i = decltype(p)::value;
      const std::byte* from = tile.codes[i] + k * (kForm == FloatForm::kF16 ? 32 : 64);
      if constexpr (kT <= 4) {
        _mm_prefetch(reinterpret_cast<const char*>(from) + tile.ahead, _MM_HINT_T0);
      }
      if constexpr (kForm == FloatForm::kF16) {
        w[i] = _mm512_castps_si512(
            _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
      } else {
        w[i] = LoadInt(from);
      }
    });
    Unroll<kT>([&](auto t) INK_INLINED {
      constexpr int j = decltype(t)::value;
      __m512i b = Broadcast32(x + j * 4);
      Unroll<kP>([&](auto p) INK_INLINED {
        constexpr int i = decltype(p)::value;
        if constexpr (kForm == FloatForm::kBf16Pairs) {
          DotBf16(sum[i][j], w[i], b);
        } else {
          sum[i][j] = _mm512_fmadd_ps(_mm512_castsi512_ps(w[i]), _mm512_castsi512_ps(b), sum[i][j]);
        }
      });
    });
  }
  Unroll<kP>([&](auto p) INK_INLINED {
    Unroll<kT>([&](auto t) INK_INLINED {
      constexpr int i = decltype(p)::value, j = decltype(t)::value;
      _mm512_store_ps(acc + (j * kP + i) * 16, sum[i][j]);
    });
  });
}

template <int kP, int kT>
void IntTileOf(const PanelFormat& f, const IntTile& tile, float* acc) {
  if (f.kind == PanelKind::kScale32) {
    f.has_min ? Scale32Tile<kP, kT, true>(tile, acc) : Scale32Tile<kP, kT, false>(tile, acc);
  } else if (f.groups == 8) {
    f.has_min ? Scale256Tile<kP, kT, 8, true>(tile, acc)
              : Scale256Tile<kP, kT, 8, false>(tile, acc);
  } else {
    f.has_min ? Scale256Tile<kP, kT, 16, true>(tile, acc)
              : Scale256Tile<kP, kT, 16, false>(tile, acc);
  }
}

// One half of a packed tile of 8 rows (kStride 32), or a tile of 4 (kStride 16).
template <int kStride>
void RunTile3x4(const PanelFormat& f, const Tile3x4& tile) {
  if (f.kind == PanelKind::kScale32) {
    f.has_min ? RunScale32<kStride, true>(tile) : RunScale32<kStride, false>(tile);
  } else if (f.groups == 8) {
    f.has_min ? RunScale256<kStride, 8, true>(tile) : RunScale256<kStride, 8, false>(tile);
  } else {
    f.has_min ? RunScale256<kStride, 16, true>(tile) : RunScale256<kStride, 16, false>(tile);
  }
}

template <int kP>
void AccumulatePanels(const PanelFormat& f, const UnpackedPanel* panels, int cols,
                      const LinearWorkspace& w, int64_t segment, int64_t num_rows, int64_t row0,
                      int64_t num, float* acc) {
  const bool is_int = f.code_bits > 0;
  const bool is_bf16 = f.kind == PanelKind::kBfloat16;
  const bool is_half = f.type == DType::kF16 && panels[0].few_rows();  // not unpacked
  const bool per32 = f.kind == PanelKind::kScale32;
  IntTile ints;
  FloatTile floats;
  for (int p = 0; p < kP; ++p) {
    ints.codes[p] = static_cast<const uint8_t*>(panels[p].codes);
    ints.d[p] = panels[p].d;
    ints.m[p] = panels[p].m;
    ints.scales[p] = panels[p].scales;
    ints.min_pairs[p] = panels[p].min_pairs;
    floats.codes[p] = static_cast<const std::byte*>(panels[p].codes);
    ints.ahead[p] = f.code_bits == 8 && panels[p].ahead != nullptr
                        ? panels[p].ahead - static_cast<const std::byte*>(panels[p].codes)
                        : 0;
  }
  floats.ahead = f.type == DType::kF16 && !is_half ? 0 : 4096;
  ints.zero_shift = f.zero_shift < 0 ? 0 : f.zero_shift;
  ints.blocks = cols / 32;
  floats.steps = is_bf16 ? (cols + 1) / 2 : cols;
  const PackedInts& packed = per32 ? w.ints32 : w.ints256;
  const PackedFloats& packed_floats = is_bf16 ? w.bfloats : w.floats;
  for (int64_t row = row0; row < row0 + num;) {
    int64_t at = segment * num_rows + row;
    if (is_int) {
      ints.q = packed.codes + at * kSegmentCols;
      ints.dx = packed.scales + at * (per32 ? 8 : 1);
      ints.neg_sums = packed.negative_sums + at * (per32 ? 8 : 16);
      ints.scaled_sums = per32 ? packed.scaled_sums + at * 8 : nullptr;
      if (!per32) {
        ints.sum_pairs = f.groups == 8 ? packed.sum_pairs32 + at * 4 : packed.sum_pairs16 + at * 8;
      }
    } else {
      floats.x = packed_floats.data + at * kSegmentCols * (is_bf16 ? 2 : 4);
    }
    int64_t left = num_rows - row;
    int tile = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    auto run = [&](auto t) INK_INLINED {
      constexpr int kT = decltype(t)::value;
      if (is_int) {
        IntTileOf<kP, kT>(f, ints, acc);
      } else if (is_bf16) {
        FloatsTile<kP, kT, FloatForm::kBf16Pairs>(floats, acc);
      } else if (is_half) {
        FloatsTile<kP, kT, FloatForm::kF16>(floats, acc);
      } else {
        FloatsTile<kP, kT, FloatForm::kF32>(floats, acc);
      }
    };
    switch (tile) {
      case 8:
        if constexpr (kP < 3) run(Int<8>{});
        break;
      case 4:
        if constexpr (kP < 3) {
          run(Int<4>{});
        } else if (is_bf16) {
          FloatsTile<3, 4, FloatForm::kBf16Pairs>(floats, acc);
        }
        break;
      case 2:
        run(Int<2>{});
        break;
      default:
        run(Int<1>{});
        break;
    }
    row += tile;
    acc += tile * kP * 16;
  }
}

// Three panels of an integer format: tiles of 8 rows as two halves, and of 4, in assembly; the last
// 3 rows at most as others.
void AccumulateThree(const PanelFormat& f, const UnpackedPanel* panels, int cols,
                     const LinearWorkspace& w, int64_t segment, int64_t num_rows, int64_t row0,
                     int64_t num, float* acc) {
  const bool per32 = f.kind == PanelKind::kScale32;
  const PackedInts& packed = per32 ? w.ints32 : w.ints256;
  Tile3x4 tile;
  for (int i = 0; i < 3; ++i) {
    tile.codes[i] = panels[i].codes;
    tile.scales[i] = panels[i].scales;
    tile.d[i] = panels[i].d;
    tile.m[i] = panels[i].m;
    tile.min_pairs[i] = panels[i].min_pairs;
  }
  tile.blocks = cols / 32;
  tile.shift = f.zero_shift < 0 ? 0 : f.zero_shift;
  // Words per row of each array.
  const int64_t num_scales = per32 ? 8 : 1;
  const int64_t num_sums = per32 ? 8 : 16;
  const int64_t num_pairs = f.groups == 8 ? 4 : 8;
  const void* all_sums =
      per32 && f.has_min ? static_cast<const void*>(packed.scaled_sums) : packed.negative_sums;
  const int32_t* all_pairs = f.groups == 8 ? packed.sum_pairs32 : packed.sum_pairs16;
  // What the panels will want soon is asked for in even parts, before each half tile.
  const int64_t bytes = SegmentBytes(f, cols);
  const int64_t part = panels[0].ahead == nullptr ? 0 : (bytes * 3 / (num / 4 + 1) + 63) / 64 * 64;
  int64_t asked = 0;
  auto ask = [&] {
    for (const int64_t end = std::min(asked + part, 3 * bytes); asked < end; asked += 64) {
      const std::byte* from = panels[asked / bytes].ahead;
      if (from != nullptr)
        _mm_prefetch(reinterpret_cast<const char*>(from + asked % bytes), _MM_HINT_T0);
    }
  };
  for (int64_t row = row0; row < row0 + num;) {
    const int64_t at = segment * num_rows + row;
    const int64_t left = num_rows - row;
    if (part > 0) ask();
    tile.q = packed.codes + at * kSegmentCols;
    tile.dx = packed.scales + at * num_scales;
    tile.sums = static_cast<const int32_t*>(all_sums) + at * num_sums;
    tile.sum_pairs = per32 ? nullptr : all_pairs + at * num_pairs;
    tile.y = acc;
    if (left >= 8) {
      RunTile3x4<32>(f, tile);
      tile.q = static_cast<const std::byte*>(tile.q) + 16;
      tile.dx = static_cast<const float*>(tile.dx) + 4;
      tile.sums = static_cast<const int32_t*>(tile.sums) + 4;
      tile.sum_pairs = per32 ? nullptr : all_pairs + at * num_pairs + 4;
      tile.y = acc + 4 * 3 * 16;
      if (part > 0) ask();
      RunTile3x4<32>(f, tile);
      row += 8;
      acc += 8 * 3 * 16;
    } else if (left >= 4) {
      RunTile3x4<16>(f, tile);
      row += 4;
      acc += 4 * 3 * 16;
    } else {
      AccumulatePanels<3>(f, panels, cols, w, segment, num_rows, row, row0 + num - row, acc);
      return;
    }
  }
}

// Panels of bfloat16: whole tiles of 8 rows in assembly, the last rows as others. Each output is
// one chain of pairs in order, in both.
template <int kP>
void AccumulateBf16(const PanelFormat& f, const UnpackedPanel* panels, int cols,
                    const LinearWorkspace& w, int64_t segment, int64_t num_rows, int64_t row0,
                    int64_t num, float* acc) {
  Bf16Tile tile;
  for (int i = 0; i < 3; ++i) tile.b[i] = panels[i < kP ? i : 0].codes;
  tile.words = (cols + 1) / 2;
  tile.stride_bytes = kP * kPanelRows * 4;
  int64_t row = row0;
  for (; row + 8 <= row0 + num; row += 8, acc += 8 * kP * kPanelRows) {
    tile.a = w.bfloats.data + (segment * num_rows + row) * kSegmentCols * 2;
    tile.c = acc;
    RunBf16Tile<kP>(tile, true);
  }
  if (row < row0 + num) {
    AccumulatePanels<kP>(f, panels, cols, w, segment, num_rows, row, row0 + num - row, acc);
  }
}

}  // namespace

void Accumulate(const PanelFormat& f, const UnpackedPanel* panels, int num_panels, int cols,
                const LinearWorkspace& workspace, int64_t segment, int64_t num_rows, int64_t row0,
                int64_t num, float* acc) noexcept {
  if (f.code_bits > 0 && f.code_bits < 8 && panels[0].num_rows <= kStreamRows) {
    // One panel at a time when rows are few: one sequential stream.
    Stream(f, panels[0], cols, workspace, segment, num_rows, row0, num, acc);
  } else if (f.kind == PanelKind::kBfloat16 && (num >= 8 || num_panels == 3)) {
    const auto run = num_panels == 3   ? AccumulateBf16<3>
                     : num_panels == 2 ? AccumulateBf16<2>
                                       : AccumulateBf16<1>;
    run(f, panels, cols, workspace, segment, num_rows, row0, num, acc);
  } else if (num_panels == 3) {
    AccumulateThree(f, panels, cols, workspace, segment, num_rows, row0, num, acc);
  } else if (num_panels == 2) {
    AccumulatePanels<2>(f, panels, cols, workspace, segment, num_rows, row0, num, acc);
  } else {
    AccumulatePanels<1>(f, panels, cols, workspace, segment, num_rows, row0, num, acc);
  }
}

}  // namespace ink::avx512
