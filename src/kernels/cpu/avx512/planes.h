// The bit planes of panels.h as vectors of codes: one block of 32 columns at a time, 8 vectors of
// 16 rows x 4 columns. Every integer format but Q8_0 is one of these with a code table and scales.
// Nothing here may be included outside this folder.
#pragma once

#include <cstdint>

#include "kernels/cpu/avx512/simd.h"

namespace ink::avx512 {

// Asks for the line of the segment ahead that corresponds to the one being read.
struct Ahead {
  int64_t distance;  // from what is read now; 0: nothing to ask for
  INK_INLINE void operator()(const uint8_t* p) const {
    if (distance != 0) _mm_prefetch(reinterpret_cast<const char*>(p + distance), _MM_HINT_T0);
  }
};

struct Identity {
  INK_INLINE __m512i operator()(__m512i code) const { return code; }
};
struct Table {
  __m512i values;
  explicit Table(const uint8_t* table)
      : values(_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)))) {}
  INK_INLINE __m512i operator()(__m512i code) const { return _mm512_shuffle_epi8(values, code); }
};

/// 4-bit plane, with `kHighBits` more bits per code from a second plane at `high` (0: none).
template <int kHighBits, typename Map>
struct Nibbles {
  const uint8_t* low;
  const uint8_t* high;
  Ahead ahead;
  Map map;

  INK_INLINE void Block(int b, __m512i (&codes)[8]) const {
    const __m512i nibble = _mm512_set1_epi8(15);
    const uint8_t* from = low + b * 256;
    Unroll<4>([&](auto q) INK_INLINED {
      constexpr int i = decltype(q)::value;
      ahead(from + i * 64);
      __m512i bytes = LoadInt(from + i * 64);
      codes[i] = _mm512_and_si512(bytes, nibble);
      codes[i + 4] = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble);
    });
    if constexpr (kHighBits == 1) {
      ahead(high + b * 64);
      __m512i bits = LoadInt(high + b * 64);
      const __m512i mask = _mm512_set1_epi8(16);
      Unroll<8>([&](auto q) INK_INLINED {
        constexpr int i = decltype(q)::value;
        __m512i moved = i < 4 ? _mm512_slli_epi16(bits, 4 - (i < 4 ? i : 0))
                              : _mm512_srli_epi16(bits, i < 4 ? 0 : i - 4);
        codes[i] = _mm512_ternarylogic_epi32(codes[i], moved, mask, 0xf8);  // a | (b & c)
      });
    } else if constexpr (kHighBits == 2) {
      const __m512i mask = _mm512_set1_epi8(48);
      Unroll<2>([&](auto h) INK_INLINED {
        __m512i bits = LoadInt(high + (b * 2 + h.value) * 64);
        ahead(high + (b * 2 + h.value) * 64);
        Unroll<4>([&](auto q) INK_INLINED {
          constexpr int i = decltype(q)::value;
          constexpr int left = i < 2 ? 4 - 2 * i : 0;
          constexpr int right = i < 2 ? 0 : 2 * i - 4;
          __m512i moved =
              right > 0 ? _mm512_srli_epi16(bits, right) : _mm512_slli_epi16(bits, left);
          __m512i& code = codes[decltype(h)::value * 4 + i];
          code = _mm512_ternarylogic_epi32(code, moved, mask, 0xf8);
        });
      });
    }
    Unroll<8>([&](auto q) INK_INLINED {
      constexpr int i = decltype(q)::value;
      codes[i] = map(codes[i]);
    });
  }
};

/// 2-bit plane, with one more bit per code from the plane at `high` when kHighBit.
template <bool kHighBit>
struct Pairs {
  const uint8_t* low;
  const uint8_t* high;
  Ahead ahead;

  INK_INLINE void Block(int b, __m512i (&codes)[8]) const {
    const __m512i mask = _mm512_set1_epi8(3);
    const __m512i bit = _mm512_set1_epi8(4);
    const uint8_t* from = low + b * 128;
    if constexpr (kHighBit) ahead(high + b * 64);
    __m512i bits = kHighBit ? LoadInt(high + b * 64) : _mm512_setzero_si512();
    Unroll<2>([&](auto h) INK_INLINED {
      constexpr int half = decltype(h)::value;
      ahead(from + half * 64);
      __m512i bytes = LoadInt(from + half * 64);
      Unroll<4>([&](auto q) INK_INLINED {
        constexpr int i = decltype(q)::value;
        constexpr int j = half * 4 + i;
        codes[j] = _mm512_and_si512(_mm512_srli_epi16(bytes, 2 * i), mask);
        if constexpr (kHighBit) {
          constexpr int left = j < 2 ? 2 - j : 0;
          constexpr int right = j < 2 ? 0 : j - 2;
          __m512i moved =
              right > 0 ? _mm512_srli_epi16(bits, right) : _mm512_slli_epi16(bits, left);
          codes[j] = _mm512_ternarylogic_epi32(codes[j], moved, bit, 0xf8);
        }
      });
    });
  }
};

}  // namespace ink::avx512
