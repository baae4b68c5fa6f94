// A packed segment to canonical bytes and vector scales. Every format is a composition of the three
// bit planes of panels.h, a code table, and its scales.
#include "kernels/cpu/avx512/linear.h"
#include "kernels/cpu/avx512/planes.h"

namespace ink::avx512 {
namespace {

template <typename Planes>
INK_INLINE void StoreCodes(const Planes& planes, int cols, uint8_t* out) {
  for (int b = 0; b < cols / 32; ++b, out += 512) {
    __m512i codes[8];
    planes.Block(b, codes);
    Unroll<8>([&](auto q) INK_INLINED {
      _mm512_store_si512(out + q.value * 64, codes[decltype(q)::value]);
    });
  }
}

INK_INLINE __m512 Halves(const uint8_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

// The scale arrays of unpacked panels, after the 16 KiB for codes.
struct ScaleScratch {
  float* d;
  float* m;
  int32_t* scales;
  int32_t* min_pairs;
  explicit ScaleScratch(std::byte* scratch)
      : d(reinterpret_cast<float*>(scratch + 16384)),
        m(d + 128),
        scales(reinterpret_cast<int32_t*>(d + 16)),
        min_pairs(scales + 256) {}
};

// 2^(e - 128) as in Mxfp4Scale: exponents 0 and 1 are subnormal floats.
INK_INLINE __m512 ExponentScales(const uint8_t* p) {
  __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
  __m512i small = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
  __mmask16 is_small = _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2));
  return _mm512_castsi512_ps(_mm512_mask_blend_epi32(is_small, normal, small));
}

INK_INLINE void ScalesPer32(const PanelFormat& f, const uint8_t* p, int cols, ScaleScratch s,
                            UnpackedPanel* out) {
  for (int b = 0; b < cols / 32; ++b, p += f.scale_bytes_per_row * kPanelRows) {
    _mm512_store_ps(s.d + b * 16, f.scale_bytes_per_row == 1 ? ExponentScales(p) : Halves(p));
    if (f.has_min) _mm512_store_ps(s.m + b * 16, Halves(p + 32));
  }
  out->d = s.d;
  out->m = f.has_min ? s.m : nullptr;
}

// Byte `i` of each word as a word.
INK_INLINE __m512i ByteOf(__m512i words, int i) {
  return _mm512_and_si512(_mm512_srli_epi32(words, 8 * i), _mm512_set1_epi32(255));
}

// Four byte scales per word, and four byte mins as two words of two int16.
INK_INLINE void StoreScales(int32_t* out, __m512i bytes) {
  Unroll<4>([&](auto i)
                INK_INLINED { _mm512_store_si512(out + i.value * 16, ByteOf(bytes, i.value)); });
}
INK_INLINE void StoreMins(int32_t* out, __m512i bytes) {
  const __m512i low = _mm512_set1_epi32(255);
  const __m512i high = _mm512_set1_epi32(0xff00);
  __m512i pair0 = _mm512_or_si512(_mm512_and_si512(bytes, low),
                                  _mm512_slli_epi32(_mm512_and_si512(bytes, high), 8));
  __m512i upper = _mm512_srli_epi32(bytes, 16);
  __m512i pair1 = _mm512_or_si512(_mm512_and_si512(upper, low),
                                  _mm512_slli_epi32(_mm512_and_si512(upper, high), 8));
  _mm512_store_si512(out, pair0);
  _mm512_store_si512(out + 16, pair1);
}

INK_INLINE void ScalesQ4K(const uint8_t* p, ScaleScratch s) {
  const __m512i six = _mm512_set1_epi32(0x3f3f3f3f);
  const __m512i four = _mm512_set1_epi32(0x0f0f0f0f);
  const __m512i two = _mm512_set1_epi32(0x30303030);
  __m512i w0 = LoadInt(p), w1 = LoadInt(p + 64), w2 = LoadInt(p + 128);
  StoreScales(s.scales, _mm512_and_si512(w0, six));
  StoreScales(s.scales + 64, _mm512_or_si512(_mm512_and_si512(w2, four),
                                             _mm512_and_si512(_mm512_srli_epi32(w0, 2), two)));
  StoreMins(s.min_pairs, _mm512_and_si512(w1, six));
  StoreMins(s.min_pairs + 32, _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi32(w2, 4), four),
                                              _mm512_and_si512(_mm512_srli_epi32(w1, 2), two)));
  _mm512_store_ps(s.d, Halves(p + 192));
}

INK_INLINE void ScalesQ2K(const uint8_t* p, ScaleScratch s) {
  const __m512i four = _mm512_set1_epi32(0x0f0f0f0f);
  for (int i = 0; i < 4; ++i) {
    __m512i w = LoadInt(p + i * 64);
    StoreScales(s.scales + i * 64, _mm512_and_si512(w, four));
    StoreMins(s.min_pairs + i * 32, _mm512_and_si512(_mm512_srli_epi32(w, 4), four));
  }
  _mm512_store_ps(s.d, Halves(p + 256));
}

INK_INLINE void ScalesQ3K(const uint8_t* p, ScaleScratch s) {
  const __m512i four = _mm512_set1_epi32(0x0f0f0f0f);
  const __m512i two = _mm512_set1_epi32(0x30303030);
  __m512i w0 = LoadInt(p), w1 = LoadInt(p + 64), w2 = LoadInt(p + 128);
  __m512i low[4] = {_mm512_and_si512(w0, four), _mm512_and_si512(w1, four),
                    _mm512_and_si512(_mm512_srli_epi32(w0, 4), four),
                    _mm512_and_si512(_mm512_srli_epi32(w1, 4), four)};
  __m512i high[4] = {_mm512_slli_epi32(w2, 4), _mm512_slli_epi32(w2, 2), w2,
                     _mm512_srli_epi32(w2, 2)};
  Unroll<4>([&](auto i) INK_INLINED {
    __m512i six =
        _mm512_or_si512(low[decltype(i)::value], _mm512_and_si512(high[decltype(i)::value], two));
    Unroll<4>([&](auto j) INK_INLINED {
      _mm512_store_si512(s.scales + (i.value * 4 + j.value) * 16,
                         _mm512_sub_epi32(ByteOf(six, j.value), _mm512_set1_epi32(32)));
    });
  });
  _mm512_store_ps(s.d, Halves(p + 192));
}

INK_INLINE void ScalesQ6K(const uint8_t* p, ScaleScratch s) {
  for (int i = 0; i < 4; ++i) {
    __m512i w = LoadInt(p + i * 64);
    Unroll<4>([&](auto j) INK_INLINED {
      _mm512_store_si512(s.scales + (i * 4 + j.value) * 16,
                         _mm512_srai_epi32(_mm512_slli_epi32(w, 24 - 8 * j.value), 24));
    });
  }
  _mm512_store_ps(s.d, Halves(p + 256));
}

INK_INLINE void ScalesXs(const uint8_t* p, ScaleScratch s) {
  __m512i low = LoadInt(p);
  __m512i high =
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 64)));
  Unroll<8>([&](auto g) INK_INLINED {
    __m512i l = _mm512_and_si512(_mm512_srli_epi32(low, 4 * g.value), _mm512_set1_epi32(15));
    __m512i h = _mm512_and_si512(_mm512_slli_epi32(_mm512_srli_epi32(high, 2 * g.value), 4),
                                 _mm512_set1_epi32(48));
    _mm512_store_si512(s.scales + g.value * 16,
                       _mm512_sub_epi32(_mm512_or_si512(l, h), _mm512_set1_epi32(32)));
  });
  _mm512_store_ps(s.d, Halves(p + 96));
}

}  // namespace

void Unpack(const PanelFormat& f, const std::byte* segment, int cols, std::byte* scratch,
            UnpackedPanel* out) noexcept {
  const uint8_t* base = reinterpret_cast<const uint8_t*>(segment);
  uint8_t* codes = reinterpret_cast<uint8_t*>(scratch);
  ScaleScratch s(scratch);
  // With more rows `Accumulate` asks for what comes next, between its tiles: 36 lines at once here
  // waited for the core's miss buffers, twice the time of unpacking.
  const bool ask = out->ahead != nullptr && (f.code_bits == 0 || out->num_rows <= kStreamRows);
  const Ahead ahead{ask ? out->ahead - segment : 0};
  if (f.code_bits > 0) {
    const SegmentParts parts = PartsOf(f, cols);
    const int64_t end = parts.scales + cols / (f.kind == PanelKind::kScale256 ? 256 : 32) *
                                           f.scale_bytes_per_row * kPanelRows;
    for (int64_t at = parts.scales; at < end; at += 64) ahead(base + at);
  }
  // A few rows are multiplied from the planes themselves (stream.cc).
  const bool packed = f.code_bits > 0 && f.code_bits < 8 && out->num_rows <= kStreamRows;
  out->codes = packed ? static_cast<const void*>(segment) : codes;
  out->m = nullptr;
  out->scales = s.scales;
  out->min_pairs = s.min_pairs;
  out->d = s.d;
  // Bytes of the planes of PartsOf: a 4-bit plane has 8 bytes a column, a 2-bit plane 4, a 1-bit
  // plane 2.
  const uint8_t* second = base + cols * 8;
  switch (f.type) {
    case DType::kF32:
    case DType::kBF16:
      out->codes = segment;
      return;
    case DType::kF16: {
      if (out->few_rows()) {
        out->codes = segment;
        return;
      }
      float* to = reinterpret_cast<float*>(scratch);
      for (int k = 0; k < cols; ++k) {
        if (k % 2 == 0) ahead(base + k * 32);
        _mm512_store_ps(to + k * 16, Halves(base + k * 32));
      }
      return;
    }
    case DType::kQ8_0:
      out->codes = segment;
      ScalesPer32(f, base + cols * 16, cols, s, out);
      return;
    case DType::kQ4_0:
    case DType::kQ4_1:
      if (!packed) StoreCodes(Nibbles<0, Identity>{base, nullptr, ahead, {}}, cols, codes);
      ScalesPer32(f, second, cols, s, out);
      return;
    case DType::kQ5_0:
    case DType::kQ5_1:
      if (!packed) StoreCodes(Nibbles<1, Identity>{base, second, ahead, {}}, cols, codes);
      ScalesPer32(f, second + cols * 2, cols, s, out);
      return;
    case DType::kIQ4_NL:
      if (!packed)
        StoreCodes(Nibbles<0, Table>{base, nullptr, ahead, Table(kIq4Codes)}, cols, codes);
      ScalesPer32(f, second, cols, s, out);
      return;
    case DType::kMXFP4:
      if (!packed)
        StoreCodes(Nibbles<0, Table>{base, nullptr, ahead, Table(kFp4Codes)}, cols, codes);
      ScalesPer32(f, second, cols, s, out);
      return;
    case DType::kQ4_K:
    case DType::kQ5_K: {
      const uint8_t* scales = second + (f.type == DType::kQ5_K ? cols * 2 : 0);
      if (f.type == DType::kQ4_K) {
        if (!packed) StoreCodes(Nibbles<0, Identity>{base, nullptr, ahead, {}}, cols, codes);
      } else {
        if (!packed) StoreCodes(Nibbles<1, Identity>{base, second, ahead, {}}, cols, codes);
      }
      ScalesQ4K(scales, s);
      // The float min sits beyond the integer scales: 16 + 256 + 128 words after d.
      out->m = s.d + 400;
      _mm512_store_ps(s.d + 400, Halves(scales + 224));
      return;
    }
    case DType::kQ6_K:
      if (!packed) StoreCodes(Nibbles<2, Identity>{base, second, ahead, {}}, cols, codes);
      ScalesQ6K(second + cols * 4, s);
      return;
    case DType::kIQ4_XS:
      if (!packed)
        StoreCodes(Nibbles<0, Table>{base, nullptr, ahead, Table(kIq4Codes)}, cols, codes);
      ScalesXs(second, s);
      return;
    case DType::kQ2_K:
      if (!packed) StoreCodes(Pairs<false>{base, nullptr, ahead}, cols, codes);
      ScalesQ2K(base + cols * 4, s);
      out->m = s.d + 400;
      _mm512_store_ps(s.d + 400, Halves(base + cols * 4 + 288));
      return;
    case DType::kQ3_K:
      if (!packed) StoreCodes(Pairs<true>{base, base + cols * 4, ahead}, cols, codes);
      ScalesQ3K(base + cols * 6, s);
      return;
    default:
      return;
  }
}

}  // namespace ink::avx512
