// Packed codes to bytes, 8 rows x 32 columns at a time: what unpacking stores and what a single row
// multiplies at once.
#pragma once

#include "kernels/cpu/avx2/simd.h"
#include "kernels/cpu/panels.h"

namespace ink::avx2 {

enum class CodeMap { kNone, kSignedTable, kTable, kFlipSign };

// How a format's codes meet the activations. vpmaddubsw sums two products in int16, so:
//   kSigned:     codes of 8 bits: |w| * (q with the sign of w) just fits a sum of two; every sum is
//                widened (and scaled) by vpmaddwd. All other codes are unsigned and summed in int16
//                over up to 8 groups of 4 columns before they are widened.
//   kZeroShift:  >= 0: the sums start at -(sum of q) << kZeroShift per int16 lane. Lanes may wrap
//   on
//                the way: the end result is exact because |code - zero| * 127 * 16 <= 32512.
//   kGroups:     0: float scales per 32 columns; 8 or 16: integer scales per 256.
template <int kBits_, CodeMap kMap_, int kGroups_, bool kMin_, int kZeroShift_>
struct Codes {
  static constexpr int kBits = kBits_;
  static constexpr CodeMap kMap = kMap_;
  static constexpr bool kSigned = kMap == CodeMap::kSignedTable || kMap == CodeMap::kFlipSign;
  static constexpr int kGroups = kGroups_;
  static constexpr bool kMin = kMin_;
  static constexpr int kZeroShift = kZeroShift_;
  // Two lots of 4 groups fit an int16 together. Codes up to 31 without a zero point do not.
  static constexpr bool kSumsFit = kBits < 5 || kZeroShift >= 0;

  // Bytes of all planes, per column of a panel.
  static constexpr int kBytesPerColumn = 2 * kBits;

  const uint8_t* low;
  const uint8_t* high;
  int64_t ahead;
  __m256i table;

  // Of each line read, the one `ahead` bytes on is asked for.
  INK_INLINE Codes(const void* codes, int cols, int64_t ahead_bytes)
      : low(static_cast<const uint8_t*>(codes)),
        high(low + cols * (kBits >= 4 ? 8 : 4)),
        ahead(ahead_bytes),
        table(_mm256_setzero_si256()) {
    if constexpr (kMap == CodeMap::kSignedTable) {
      table = _mm256_xor_si256(Table(kIq4Codes), _mm256_set1_epi8(-128));
    } else if constexpr (kMap == CodeMap::kTable) {
      table = Table(kFp4Codes);
    }
  }

  static INK_INLINE __m256i Table(const uint8_t* p) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }

  // The narrow planes of one block of 32 columns, rows 8 * half ...
  struct Half {
    const uint8_t* low;
    __m256i first, second, bit;
  };
  template <int kHalf>
  INK_INLINE Half Open(int block) const {
    Half h{low +
               block * (kBits == 8   ? 512
                        : kBits >= 4 ? 256
                                     : 128) +
               kHalf * 32,
           table, table, table};
    if constexpr (kBits == 6) {
      const uint8_t* p = high + block * 128 + kHalf * 32;
      if constexpr (kHalf == 0) {
        Prefetch(p + ahead);
        Prefetch(p + 64 + ahead);
      }
      h.first = LoadInt(p);
      h.second = LoadInt(p + 64);
    } else if constexpr (kBits <= 3) {
      if constexpr (kHalf == 0) {
        Prefetch(h.low + ahead);
        Prefetch(h.low + 64 + ahead);
      }
      h.first = LoadInt(h.low);
      h.second = LoadInt(h.low + 64);
    }
    if constexpr (kBits == 5 || kBits == 3) {
      const uint8_t* p = high + block * 64 + kHalf * 32;
      if constexpr (kHalf == 0) Prefetch(p + ahead);
      h.bit = LoadInt(p);
    }
    return h;
  }

  template <int kLeft>  // negative: right
  static INK_INLINE __m256i Shift(__m256i v) {
    if constexpr (kLeft > 0) return _mm256_slli_epi16(v, kLeft);
    if constexpr (kLeft < 0) return _mm256_srli_epi16(v, -kLeft);
    return v;
  }
  template <int kLeft>
  static INK_INLINE __m256i OrBits(__m256i code, __m256i bits, int mask) {
    return _mm256_or_si256(
        code, _mm256_and_si256(Shift<kLeft>(bits), _mm256_set1_epi8(static_cast<char>(mask))));
  }

  // Groups i and i + 4 of the block's 8.
  template <int i, int kHalf>
  INK_INLINE void Pair(const Half& h, __m256i* a, __m256i* b) const {
    if constexpr (kBits == 8) {
      static_assert(kMap == CodeMap::kFlipSign);
      const __m256i flip = _mm256_set1_epi8(-128);
      if constexpr (kHalf == 0) {
        Prefetch(h.low + i * 64 + ahead);
        Prefetch(h.low + (i + 4) * 64 + ahead);
      }
      *a = _mm256_xor_si256(LoadInt(h.low + i * 64), flip);
      *b = _mm256_xor_si256(LoadInt(h.low + (i + 4) * 64), flip);
    } else if constexpr (kBits >= 4) {
      const __m256i nibble = _mm256_set1_epi8(15);
      if constexpr (kHalf == 0) Prefetch(h.low + i * 64 + ahead);
      __m256i bytes = LoadInt(h.low + i * 64);
      *a = _mm256_and_si256(bytes, nibble);
      *b = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble);
      if constexpr (kBits == 5) {
        *a = OrBits<4 - i>(*a, h.bit, 16);
        *b = OrBits<-i>(*b, h.bit, 16);
      } else if constexpr (kBits == 6) {
        *a = OrBits<4 - 2 * i>(*a, h.first, 48);
        *b = OrBits<4 - 2 * i>(*b, h.second, 48);
      }
      if constexpr (kMap != CodeMap::kNone) {
        *a = _mm256_shuffle_epi8(table, *a);
        *b = _mm256_shuffle_epi8(table, *b);
      }
    } else {
      const __m256i two = _mm256_set1_epi8(3);
      *a = _mm256_and_si256(Shift<-2 * i>(h.first), two);
      *b = _mm256_and_si256(Shift<-2 * i>(h.second), two);
      if constexpr (kBits == 3) {
        *a = OrBits<2 - i>(*a, h.bit, 4);
        *b = OrBits<-2 - i>(*b, h.bit, 4);
      }
    }
  }

  // All codes of a segment as canonical bytes.
  INK_INLINE void Store(int cols, uint8_t* out) const {
    for (int block = 0; block < cols / 32; ++block, out += 512) {
      Unroll<2>([&](auto half) INK_INLINED {
        constexpr int kHalf = decltype(half)::value;
        Half h = Open<kHalf>(block);
        Unroll<4>([&](auto step) INK_INLINED {
          constexpr int i = decltype(step)::value;
          __m256i a, b;
          Pair<i, kHalf>(h, &a, &b);
          StoreInt(out + i * 64 + kHalf * 32, a);
          StoreInt(out + (i + 4) * 64 + kHalf * 32, b);
        });
      });
    }
  }
};

using CodesQ8_0 = Codes<8, CodeMap::kFlipSign, 0, false, -1>;
using CodesQ4_0 = Codes<4, CodeMap::kNone, 0, false, 3>;
using CodesQ4_1 = Codes<4, CodeMap::kNone, 0, true, -1>;
using CodesQ5_0 = Codes<5, CodeMap::kNone, 0, false, 4>;
using CodesQ5_1 = Codes<5, CodeMap::kNone, 0, true, -1>;
using CodesIQ4_NL = Codes<4, CodeMap::kSignedTable, 0, false, -1>;
using CodesMXFP4 = Codes<4, CodeMap::kTable, 0, false, 4>;
using CodesQ2_K = Codes<2, CodeMap::kNone, 16, true, -1>;
using CodesQ3_K = Codes<3, CodeMap::kNone, 16, false, 2>;
using CodesQ4_K = Codes<4, CodeMap::kNone, 8, true, -1>;
using CodesQ5_K = Codes<5, CodeMap::kNone, 8, true, -1>;
using CodesQ6_K = Codes<6, CodeMap::kNone, 16, false, 5>;
using CodesIQ4_XS = Codes<4, CodeMap::kSignedTable, 8, false, -1>;

}  // namespace ink::avx2
