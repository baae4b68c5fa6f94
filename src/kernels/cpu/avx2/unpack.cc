// The scales of a packed segment as vectors. Integer scales become two equal int16 in a word, so
// that one vpmaddwd scales and widens two int16 sums. Codes are left to Accumulate.
#include "kernels/cpu/avx2/linear.h"
#include "kernels/cpu/avx2/simd.h"

namespace ink::avx2 {
namespace {

// The scale arrays, after the 16 KiB for codes.
struct ScaleScratch {
  float* d;
  float* m;
  int32_t* scales;
  int32_t* min_pairs;
  float* m256;
  explicit ScaleScratch(std::byte* scratch)
      : d(reinterpret_cast<float*>(scratch + 16384)),
        m(d + 128),
        scales(reinterpret_cast<int32_t*>(d + 16)),
        min_pairs(scales + 256),
        m256(d + 400) {}
};

// 16 halves as floats.
INK_INLINE void StoreHalves(float* out, const uint8_t* p) {
  _mm256_store_ps(out, LoadHalves(p));
  _mm256_store_ps(out + 8, LoadHalves(p + 16));
}

// 2^(e - 128) as in Mxfp4Scale: exponents 0 and 1 are subnormal floats.
INK_INLINE __m256 ExponentScales(const uint8_t* p) {
  __m256i e = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
  __m256i small = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
  __m256i is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e);
  return _mm256_castsi256_ps(_mm256_blendv_epi8(normal, small, is_small));
}

void ScalesPer32(const PanelFormat& f, const uint8_t* p, int cols, ScaleScratch s,
                 UnpackedPanel* out) {
  for (int b = 0; b < cols / 32; ++b, p += f.scale_bytes_per_row * kPanelRows) {
    if (f.scale_bytes_per_row == 1) {
      _mm256_store_ps(s.d + b * 16, ExponentScales(p));
      _mm256_store_ps(s.d + b * 16 + 8, ExponentScales(p + 8));
    } else {
      StoreHalves(s.d + b * 16, p);
    }
    if (f.has_min) StoreHalves(s.m + b * 16, p + 32);
  }
  out->m = f.has_min ? s.m : nullptr;
}

// Byte kByte of each word as two equal int16.
template <int kByte>
INK_INLINE __m256i PairsOf(__m256i words) {
  const int16_t i = kByte;
  const __m128i pick = _mm_setr_epi8(i, -1, i, -1, i + 4, -1, i + 4, -1, i + 8, -1, i + 8, -1,
                                     i + 12, -1, i + 12, -1);
  return _mm256_shuffle_epi8(words, _mm256_broadcastsi128_si256(pick));
}

// Four byte scales per word, less `offset`, for 8 rows: to [4][16].
INK_INLINE void StoreScales(int32_t* out, __m256i bytes, int offset = 0) {
  Unroll<4>([&](auto i) INK_INLINED {
    constexpr int kByte = decltype(i)::value;
    StoreInt(out + kByte * 16, _mm256_sub_epi16(PairsOf<kByte>(bytes),
                                                _mm256_set1_epi16(static_cast<int16_t>(offset))));
  });
}
// Four byte mins as two words of two int16: to [2][16].
INK_INLINE void StoreMins(int32_t* out, __m256i bytes) {
  const __m128i first = _mm_setr_epi8(0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1);
  const __m128i second = _mm_setr_epi8(2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15, -1);
  StoreInt(out, _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(first)));
  StoreInt(out + 16, _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(second)));
}

INK_INLINE __m256i And(__m256i a, int word) { return _mm256_and_si256(a, _mm256_set1_epi32(word)); }
constexpr int kSix = 0x3f3f3f3f, kFour = 0x0f0f0f0f, kTwo = 0x30303030;

void ScalesQ4K(const uint8_t* p, ScaleScratch s) {
  for (int h = 0; h < 2; ++h, p += 32) {
    __m256i w0 = LoadInt(p), w1 = LoadInt(p + 64), w2 = LoadInt(p + 128);
    StoreScales(s.scales + h * 8, And(w0, kSix));
    StoreScales(s.scales + 64 + h * 8,
                _mm256_or_si256(And(w2, kFour), And(_mm256_srli_epi32(w0, 2), kTwo)));
    StoreMins(s.min_pairs + h * 8, And(w1, kSix));
    StoreMins(s.min_pairs + 32 + h * 8, _mm256_or_si256(And(_mm256_srli_epi32(w2, 4), kFour),
                                                        And(_mm256_srli_epi32(w1, 2), kTwo)));
  }
}

void ScalesQ2K(const uint8_t* p, ScaleScratch s) {
  for (int i = 0; i < 4; ++i) {
    for (int h = 0; h < 2; ++h, p += 32) {
      __m256i w = LoadInt(p);
      StoreScales(s.scales + i * 64 + h * 8, And(w, kFour));
      StoreMins(s.min_pairs + i * 32 + h * 8, And(_mm256_srli_epi32(w, 4), kFour));
    }
  }
}

void ScalesQ3K(const uint8_t* p, ScaleScratch s) {
  for (int h = 0; h < 2; ++h, p += 32) {
    __m256i w0 = LoadInt(p), w1 = LoadInt(p + 64), w2 = LoadInt(p + 128);
    int32_t* out = s.scales + h * 8;
    StoreScales(out, _mm256_or_si256(And(w0, kFour), And(_mm256_slli_epi32(w2, 4), kTwo)), 32);
    StoreScales(out + 64, _mm256_or_si256(And(w1, kFour), And(_mm256_slli_epi32(w2, 2), kTwo)), 32);
    StoreScales(out + 128, _mm256_or_si256(And(_mm256_srli_epi32(w0, 4), kFour), And(w2, kTwo)),
                32);
    StoreScales(
        out + 192,
        _mm256_or_si256(And(_mm256_srli_epi32(w1, 4), kFour), And(_mm256_srli_epi32(w2, 2), kTwo)),
        32);
  }
}

void ScalesQ6K(const uint8_t* p, ScaleScratch s) {
  // Signed bytes: flipping the top bit adds 128.
  for (int i = 0; i < 4; ++i) {
    for (int h = 0; h < 2; ++h, p += 32) {
      StoreScales(s.scales + i * 64 + h * 8, _mm256_xor_si256(LoadInt(p), _mm256_set1_epi8(-128)),
                  128);
    }
  }
}

void ScalesXs(const uint8_t* p, ScaleScratch s) {
  for (int h = 0; h < 2; ++h) {
    // Word: 8 nibbles; `high`: 8 pairs of bits. Group 2i + j has nibble 2i + j.
    __m256i low = LoadInt(p + h * 32);
    __m256i high =
        _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 64 + h * 16)));
    Unroll<8>([&](auto g) INK_INLINED {
      constexpr int i = decltype(g)::value;
      __m256i l = And(_mm256_srli_epi32(low, 4 * i), 15);
      __m256i u = And(_mm256_slli_epi32(_mm256_srli_epi32(high, 2 * i), 4), 48);
      __m256i one = _mm256_or_si256(l, u);
      __m256i pair = _mm256_or_si256(one, _mm256_slli_epi32(one, 16));
      StoreInt(s.scales + i * 16 + h * 8, _mm256_sub_epi16(pair, _mm256_set1_epi16(32)));
    });
  }
}

}  // namespace

void Unpack(const PanelFormat& f, const std::byte* segment, int cols, std::byte* scratch,
            UnpackedPanel* out) noexcept {
  ScaleScratch s(scratch);
  out->codes = segment;
  out->scratch = scratch;
  out->d = s.d;
  out->m = nullptr;
  out->scales = s.scales;
  out->min_pairs = s.min_pairs;
  if (f.code_bits == 0) return;
  const uint8_t* scales = reinterpret_cast<const uint8_t*>(segment) + 2 * f.code_bits * cols;
  if (out->ahead != nullptr) {
    // Accumulate asks for the codes of the segment ahead.
    const int64_t end = SegmentBytes(f, cols);
    for (int64_t at = int64_t{2} * f.code_bits * cols; at < end; at += 64)
      Prefetch(out->ahead + at);
  }
  if (f.kind == PanelKind::kScale32) {
    ScalesPer32(f, scales, cols, s, out);
    return;
  }
  switch (f.type) {
    case DType::kQ4_K:
    case DType::kQ5_K:
      ScalesQ4K(scales, s);
      StoreHalves(s.d, scales + 192);
      StoreHalves(s.m256, scales + 224);
      out->m = s.m256;
      return;
    case DType::kQ6_K:
      ScalesQ6K(scales, s);
      StoreHalves(s.d, scales + 256);
      return;
    case DType::kIQ4_XS:
      ScalesXs(scales, s);
      StoreHalves(s.d, scales + 96);
      return;
    case DType::kQ2_K:
      ScalesQ2K(scales, s);
      StoreHalves(s.d, scales + 256);
      StoreHalves(s.m256, scales + 288);
      out->m = s.m256;
      return;
    case DType::kQ3_K:
      ScalesQ3K(scales, s);
      StoreHalves(s.d, scales + 192);
      return;
    default:
      return;
  }
}

}  // namespace ink::avx2
