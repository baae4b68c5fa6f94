#include "kernels/cpu/panels.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "base/check.h"
#include "quant/blocks.h"
#include "quant/codebooks.h"
#include "quant/half.h"
#include "quant/k_scales.h"

namespace ink {
namespace {

constexpr std::array kFormats = {
    PanelFormat{DType::kF32, PanelKind::kFloat32, 0, -1, false, 0, 0},
    PanelFormat{DType::kF16, PanelKind::kFloat32, 0, -1, false, 0, 0},
    PanelFormat{DType::kBF16, PanelKind::kBfloat16, 0, -1, false, 0, 0},
    PanelFormat{DType::kQ8_0, PanelKind::kScale32, 8, 7, false, 0, 2},
    PanelFormat{DType::kQ4_0, PanelKind::kScale32, 4, 3, false, 0, 2},
    PanelFormat{DType::kQ4_1, PanelKind::kScale32, 4, -1, true, 0, 4},
    PanelFormat{DType::kQ5_0, PanelKind::kScale32, 5, 4, false, 0, 2},
    PanelFormat{DType::kQ5_1, PanelKind::kScale32, 5, -1, true, 0, 4},
    PanelFormat{DType::kIQ4_NL, PanelKind::kScale32, 4, 7, false, 0, 2},
    PanelFormat{DType::kMXFP4, PanelKind::kScale32, 4, 4, false, 0, 1},
    PanelFormat{DType::kQ2_K, PanelKind::kScale256, 2, -1, true, 16, 20},
    PanelFormat{DType::kQ3_K, PanelKind::kScale256, 3, 2, false, 16, 14},
    PanelFormat{DType::kQ4_K, PanelKind::kScale256, 4, -1, true, 8, 16},
    PanelFormat{DType::kQ5_K, PanelKind::kScale256, 5, -1, true, 8, 16},
    PanelFormat{DType::kQ6_K, PanelKind::kScale256, 6, 5, false, 16, 18},
    PanelFormat{DType::kIQ4_XS, PanelKind::kScale256, 4, 7, false, 8, 8},
};

// One row of a segment as raw codes and raw scale bytes, the bijection's middle form.
struct RawRow {
  uint8_t codes[kSegmentCols];
  uint8_t scales[8 * 20];  // per block, in the order the panel stores them
};

// Block <-> raw: each pair of functions handles one block.
void ToRaw(const BlockQ8_0& b, uint8_t* codes, uint8_t* scales) {
  for (int j = 0; j < 32; ++j) codes[j] = static_cast<uint8_t>(b.q[j]) ^ 0x80;
  std::memcpy(scales, &b.d, 2);
}
void FromRaw(BlockQ8_0& b, const uint8_t* codes, const uint8_t* scales) {
  for (int j = 0; j < 32; ++j) b.q[j] = static_cast<int8_t>(codes[j] ^ 0x80);
  std::memcpy(&b.d, scales, 2);
}

template <typename Block>  // Q4_0, IQ4_NL: scale; Q4_1: scale and min; MXFP4: exponent
void ToRawPlain4(const Block& b, uint8_t* codes, uint8_t* scales) {
  for (int j = 0; j < 16; ++j) {
    codes[j] = b.q[j] & 15;
    codes[j + 16] = b.q[j] >> 4;
  }
  std::memcpy(scales, &b, sizeof(Block) - 16);
}
template <typename Block>
void FromRawPlain4(Block& b, const uint8_t* codes, const uint8_t* scales) {
  for (int j = 0; j < 16; ++j) {
    b.q[j] = static_cast<uint8_t>((codes[j] & 15) | ((codes[j + 16] & 15) << 4));
  }
  std::memcpy(&b, scales, sizeof(Block) - 16);
}

template <typename Block>  // Q5_0, Q5_1
void ToRawPlain5(const Block& b, uint8_t* codes, uint8_t* scales) {
  uint32_t high;
  std::memcpy(&high, b.high, 4);
  for (int j = 0; j < 16; ++j) {
    codes[j] = static_cast<uint8_t>((b.q[j] & 15) | (((high >> j) & 1) << 4));
    codes[j + 16] = static_cast<uint8_t>((b.q[j] >> 4) | (((high >> (j + 16)) & 1) << 4));
  }
  std::memcpy(scales, &b, sizeof(Block) - 20);
}
template <typename Block>
void FromRawPlain5(Block& b, const uint8_t* codes, const uint8_t* scales) {
  uint32_t high = 0;
  for (int j = 0; j < 16; ++j) {
    b.q[j] = static_cast<uint8_t>((codes[j] & 15) | ((codes[j + 16] & 15) << 4));
    high |= static_cast<uint32_t>(codes[j] >> 4) << j;
    high |= static_cast<uint32_t>(codes[j + 16] >> 4) << (j + 16);
  }
  std::memcpy(b.high, &high, 4);
  std::memcpy(&b, scales, sizeof(Block) - 20);
}

void ToRaw(const BlockQ4_K& b, uint8_t* codes, uint8_t* scales) {
  for (int h = 0; h < 4; ++h) {
    for (int l = 0; l < 32; ++l) {
      codes[64 * h + l] = b.q[32 * h + l] & 15;
      codes[64 * h + 32 + l] = b.q[32 * h + l] >> 4;
    }
  }
  std::memcpy(scales, b.scales, 12);
  std::memcpy(scales + 12, &b.d, 2);
  std::memcpy(scales + 14, &b.dmin, 2);
}
void FromRaw(BlockQ4_K& b, const uint8_t* codes, const uint8_t* scales) {
  for (int h = 0; h < 4; ++h) {
    for (int l = 0; l < 32; ++l) {
      b.q[32 * h + l] =
          static_cast<uint8_t>((codes[64 * h + l] & 15) | ((codes[64 * h + 32 + l] & 15) << 4));
    }
  }
  std::memcpy(b.scales, scales, 12);
  std::memcpy(&b.d, scales + 12, 2);
  std::memcpy(&b.dmin, scales + 14, 2);
}

void ToRaw(const BlockQ5_K& b, uint8_t* codes, uint8_t* scales) {
  for (int g = 0; g < 8; ++g) {
    for (int l = 0; l < 32; ++l) {
      int low = g % 2 == 0 ? b.q[16 * g + l] & 15 : b.q[16 * (g - 1) + l] >> 4;
      codes[32 * g + l] = static_cast<uint8_t>(low | (((b.high[l] >> g) & 1) << 4));
    }
  }
  std::memcpy(scales, b.scales, 12);
  std::memcpy(scales + 12, &b.d, 2);
  std::memcpy(scales + 14, &b.dmin, 2);
}
void FromRaw(BlockQ5_K& b, const uint8_t* codes, const uint8_t* scales) {
  for (int l = 0; l < 32; ++l) b.high[l] = 0;
  for (int g = 0; g < 8; g += 2) {
    for (int l = 0; l < 32; ++l) {
      uint8_t low = codes[32 * g + l];
      uint8_t high = codes[32 * g + 32 + l];
      b.q[16 * g + l] = static_cast<uint8_t>((low & 15) | ((high & 15) << 4));
      b.high[l] = static_cast<uint8_t>(b.high[l] | ((low >> 4) << g) | ((high >> 4) << (g + 1)));
    }
  }
  std::memcpy(b.scales, scales, 12);
  std::memcpy(&b.d, scales + 12, 2);
  std::memcpy(&b.dmin, scales + 14, 2);
}

void ToRaw(const BlockQ6_K& b, uint8_t* codes, uint8_t* scales) {
  for (int h = 0; h < 2; ++h) {
    for (int s = 0; s < 4; ++s) {
      for (int l = 0; l < 32; ++l) {
        int low = b.low[64 * h + 32 * (s % 2) + l];
        low = s < 2 ? low & 15 : low >> 4;
        codes[128 * h + 32 * s + l] =
            static_cast<uint8_t>(low | (((b.high[32 * h + l] >> (2 * s)) & 3) << 4));
      }
    }
  }
  std::memcpy(scales, b.scales, 16);
  std::memcpy(scales + 16, &b.d, 2);
}
void FromRaw(BlockQ6_K& b, const uint8_t* codes, const uint8_t* scales) {
  for (int h = 0; h < 2; ++h) {
    for (int l = 0; l < 32; ++l) {
      const uint8_t* c = codes + 128 * h + l;
      b.low[64 * h + l] = static_cast<uint8_t>((c[0] & 15) | ((c[64] & 15) << 4));
      b.low[64 * h + 32 + l] = static_cast<uint8_t>((c[32] & 15) | ((c[96] & 15) << 4));
      b.high[32 * h + l] = static_cast<uint8_t>((c[0] >> 4) | ((c[32] >> 4) << 2) |
                                                ((c[64] >> 4) << 4) | ((c[96] >> 4) << 6));
    }
  }
  std::memcpy(b.scales, scales, 16);
  std::memcpy(&b.d, scales + 16, 2);
}

void ToRaw(const BlockQ2_K& b, uint8_t* codes, uint8_t* scales) {
  for (int h = 0; h < 2; ++h) {
    for (int s = 0; s < 4; ++s) {
      for (int l = 0; l < 32; ++l) {
        codes[128 * h + 32 * s + l] = static_cast<uint8_t>((b.q[32 * h + l] >> (2 * s)) & 3);
      }
    }
  }
  std::memcpy(scales, b.scales, 16);
  std::memcpy(scales + 16, &b.d, 2);
  std::memcpy(scales + 18, &b.dmin, 2);
}
void FromRaw(BlockQ2_K& b, const uint8_t* codes, const uint8_t* scales) {
  for (int h = 0; h < 2; ++h) {
    for (int l = 0; l < 32; ++l) {
      const uint8_t* c = codes + 128 * h + l;
      b.q[32 * h + l] = static_cast<uint8_t>((c[0] & 3) | ((c[32] & 3) << 2) | ((c[64] & 3) << 4) |
                                             ((c[96] & 3) << 6));
    }
  }
  std::memcpy(b.scales, scales, 16);
  std::memcpy(&b.d, scales + 16, 2);
  std::memcpy(&b.dmin, scales + 18, 2);
}

void ToRaw(const BlockQ3_K& b, uint8_t* codes, uint8_t* scales) {
  for (int h = 0; h < 2; ++h) {
    for (int s = 0; s < 4; ++s) {
      for (int l = 0; l < 32; ++l) {
        int high = (b.high[l] >> (4 * h + s)) & 1;
        codes[128 * h + 32 * s + l] =
            static_cast<uint8_t>(((b.q[32 * h + l] >> (2 * s)) & 3) | (high << 2));
      }
    }
  }
  std::memcpy(scales, b.scales, 12);
  std::memcpy(scales + 12, &b.d, 2);
}
void FromRaw(BlockQ3_K& b, const uint8_t* codes, const uint8_t* scales) {
  for (int l = 0; l < 32; ++l) b.high[l] = 0;
  for (int h = 0; h < 2; ++h) {
    for (int l = 0; l < 32; ++l) {
      const uint8_t* c = codes + 128 * h + l;
      b.q[32 * h + l] = static_cast<uint8_t>((c[0] & 3) | ((c[32] & 3) << 2) | ((c[64] & 3) << 4) |
                                             ((c[96] & 3) << 6));
      for (int s = 0; s < 4; ++s) {
        b.high[l] = static_cast<uint8_t>(b.high[l] | ((c[32 * s] >> 2) << (4 * h + s)));
      }
    }
  }
  std::memcpy(b.scales, scales, 12);
  std::memcpy(&b.d, scales + 12, 2);
}

void ToRaw(const BlockIQ4_XS& b, uint8_t* codes, uint8_t* scales) {
  for (int g = 0; g < 8; ++g) {
    for (int j = 0; j < 16; ++j) {
      codes[32 * g + j] = b.q[16 * g + j] & 15;
      codes[32 * g + 16 + j] = b.q[16 * g + j] >> 4;
    }
  }
  std::memcpy(scales, b.scales_low, 4);
  std::memcpy(scales + 4, &b.scales_high, 2);
  std::memcpy(scales + 6, &b.d, 2);
}
void FromRaw(BlockIQ4_XS& b, const uint8_t* codes, const uint8_t* scales) {
  for (int g = 0; g < 8; ++g) {
    for (int j = 0; j < 16; ++j) {
      b.q[16 * g + j] =
          static_cast<uint8_t>((codes[32 * g + j] & 15) | ((codes[32 * g + 16 + j] & 15) << 4));
    }
  }
  std::memcpy(b.scales_low, scales, 4);
  std::memcpy(&b.scales_high, scales + 4, 2);
  std::memcpy(&b.d, scales + 6, 2);
}

void ToRaw(const BlockQ4_0& b, uint8_t* c, uint8_t* s) { ToRawPlain4(b, c, s); }
void ToRaw(const BlockQ4_1& b, uint8_t* c, uint8_t* s) { ToRawPlain4(b, c, s); }
void ToRaw(const BlockIQ4_NL& b, uint8_t* c, uint8_t* s) { ToRawPlain4(b, c, s); }
void ToRaw(const BlockMXFP4& b, uint8_t* c, uint8_t* s) { ToRawPlain4(b, c, s); }
void ToRaw(const BlockQ5_0& b, uint8_t* c, uint8_t* s) { ToRawPlain5(b, c, s); }
void ToRaw(const BlockQ5_1& b, uint8_t* c, uint8_t* s) { ToRawPlain5(b, c, s); }
void FromRaw(BlockQ4_0& b, const uint8_t* c, const uint8_t* s) { FromRawPlain4(b, c, s); }
void FromRaw(BlockQ4_1& b, const uint8_t* c, const uint8_t* s) { FromRawPlain4(b, c, s); }
void FromRaw(BlockIQ4_NL& b, const uint8_t* c, const uint8_t* s) { FromRawPlain4(b, c, s); }
void FromRaw(BlockMXFP4& b, const uint8_t* c, const uint8_t* s) { FromRawPlain4(b, c, s); }
void FromRaw(BlockQ5_0& b, const uint8_t* c, const uint8_t* s) { FromRawPlain5(b, c, s); }
void FromRaw(BlockQ5_1& b, const uint8_t* c, const uint8_t* s) { FromRawPlain5(b, c, s); }

// Calls fn with a null pointer to the block struct of `type`.
template <typename Fn>
void WithBlock(DType type, Fn&& fn) {
  switch (type) {
    case DType::kQ8_0:
      return fn(static_cast<BlockQ8_0*>(nullptr));
    case DType::kQ4_0:
      return fn(static_cast<BlockQ4_0*>(nullptr));
    case DType::kQ4_1:
      return fn(static_cast<BlockQ4_1*>(nullptr));
    case DType::kQ5_0:
      return fn(static_cast<BlockQ5_0*>(nullptr));
    case DType::kQ5_1:
      return fn(static_cast<BlockQ5_1*>(nullptr));
    case DType::kIQ4_NL:
      return fn(static_cast<BlockIQ4_NL*>(nullptr));
    case DType::kMXFP4:
      return fn(static_cast<BlockMXFP4*>(nullptr));
    case DType::kQ2_K:
      return fn(static_cast<BlockQ2_K*>(nullptr));
    case DType::kQ3_K:
      return fn(static_cast<BlockQ3_K*>(nullptr));
    case DType::kQ4_K:
      return fn(static_cast<BlockQ4_K*>(nullptr));
    case DType::kQ5_K:
      return fn(static_cast<BlockQ5_K*>(nullptr));
    case DType::kQ6_K:
      return fn(static_cast<BlockQ6_K*>(nullptr));
    case DType::kIQ4_XS:
      return fn(static_cast<BlockIQ4_XS*>(nullptr));
    default:
      INK_CHECK(false);
  }
}

int BlockCols(const PanelFormat& f) { return f.kind == PanelKind::kScale256 ? 256 : 32; }

// A segment's row in file format to raw and back.
void FileToRaw(const PanelFormat& f, const std::byte* file, int64_t cols, RawRow* raw) {
  WithBlock(f.type, [&]<typename Block>(Block*) {
    int per_block = BlockCols(f);
    for (int64_t b = 0; b < cols / per_block; ++b) {
      Block block;
      std::memcpy(&block, file + b * sizeof(Block), sizeof(Block));
      ToRaw(block, raw->codes + b * per_block, raw->scales + b * f.scale_bytes_per_row);
    }
  });
}
void RawToFile(const PanelFormat& f, const RawRow& raw, int64_t cols, std::byte* file) {
  WithBlock(f.type, [&]<typename Block>(Block*) {
    int per_block = BlockCols(f);
    for (int64_t b = 0; b < cols / per_block; ++b) {
      Block block;
      FromRaw(block, raw.codes + b * per_block, raw.scales + b * f.scale_bytes_per_row);
      std::memcpy(file + b * sizeof(Block), &block, sizeof(Block));
    }
  });
}

// The widths, in bytes, of the scale arrays of one block: each array holds 16 rows.
std::span<const int> ScaleWidths(const PanelFormat& f) {
  static constexpr int kOne[] = {1}, kHalf[] = {2}, kTwoHalves[] = {2, 2};
  static constexpr int kQ2[] = {4, 4, 4, 4, 2, 2}, kQ3[] = {4, 4, 4, 2};
  static constexpr int kQ45[] = {4, 4, 4, 2, 2}, kQ6[] = {4, 4, 4, 4, 2}, kXs[] = {4, 2, 2};
  switch (f.type) {
    case DType::kMXFP4:
      return kOne;
    case DType::kQ4_1:
    case DType::kQ5_1:
      return kTwoHalves;
    case DType::kQ2_K:
      return kQ2;
    case DType::kQ3_K:
      return kQ3;
    case DType::kQ4_K:
    case DType::kQ5_K:
      return kQ45;
    case DType::kQ6_K:
      return kQ6;
    case DType::kIQ4_XS:
      return kXs;
    default:
      return kHalf;
  }
}

int ElementBytes(const PanelFormat& f) { return f.type == DType::kF32 ? 4 : 2; }

// Position of float column k, row r in a segment, in elements.
int64_t FloatIndex(const PanelFormat& f, int64_t k, int r) {
  return f.kind == PanelKind::kBfloat16 ? (k / 2) * 32 + r * 2 + k % 2 : k * kPanelRows + r;
}

// Bits [from, from + bits) of the four bytes of a word, moved to bit `to` of each.
uint32_t MoveBits(uint32_t word, int from, int bits, int to) {
  uint32_t mask = 0x01010101u * ((1u << bits) - 1);
  return ((word >> from) & mask) << to;
}

// One plane of `bits` bits taken from bit `from` of the codes. The plane's word w holds the codes'
// words SourceOf(w, slot) for slot = 0 .. 8 / bits - 1, at bit slot * bits. A word is four columns
// of one row; words of a row are 16 words apart in the segment.
struct Plane {
  int64_t offset;  // bytes from the segment's start
  int bits;
  int from;
};

int64_t SourceOf(const Plane& plane, int64_t word, int slot) {
  // 4-bit planes pair a block's groups j and j + 4; the others take neighbours.
  if (plane.bits == 4) return word / 4 * 8 + word % 4 + slot * 4;
  return word * (8 / plane.bits) + slot;
}

int PlanesOf(const PanelFormat& f, const SegmentParts& parts, Plane planes[2]) {
  switch (f.code_bits) {
    case 8:
      planes[0] = {parts.bytes, 8, 0};
      return 1;
    case 4:
      planes[0] = {parts.bits4, 4, 0};
      return 1;
    case 2:
      planes[0] = {parts.bits2, 2, 0};
      return 1;
    case 5:
      planes[0] = {parts.bits4, 4, 0};
      planes[1] = {parts.bits1, 1, 4};
      return 2;
    case 6:
      planes[0] = {parts.bits4, 4, 0};
      planes[1] = {parts.bits2, 2, 4};
      return 2;
    default:
      planes[0] = {parts.bits2, 2, 0};
      planes[1] = {parts.bits1, 1, 2};
      return 2;
  }
}

void WriteCodes(const PanelFormat& f, std::byte* segment, int row, int64_t cols,
                const RawRow& raw) {
  uint32_t codes[kSegmentCols / 4];
  std::memcpy(codes, raw.codes, cols);
  Plane planes[2];
  int count = PlanesOf(f, PartsOf(f, cols), planes);
  for (int p = 0; p < count; ++p) {
    const Plane& plane = planes[p];
    std::byte* out = segment + plane.offset + row * 4;
    for (int64_t w = 0; w < cols / 4 * plane.bits / 8; ++w) {
      uint32_t word = 0;
      for (int slot = 0; slot < 8 / plane.bits; ++slot) {
        word |=
            MoveBits(codes[SourceOf(plane, w, slot)], plane.from, plane.bits, slot * plane.bits);
      }
      std::memcpy(out + w * 64, &word, 4);
    }
  }
}

void ReadCodes(const PanelFormat& f, const std::byte* segment, int row, int64_t cols, RawRow* raw) {
  uint32_t codes[kSegmentCols / 4] = {};
  Plane planes[2];
  int count = PlanesOf(f, PartsOf(f, cols), planes);
  for (int p = 0; p < count; ++p) {
    const Plane& plane = planes[p];
    const std::byte* in = segment + plane.offset + row * 4;
    for (int64_t w = 0; w < cols / 4 * plane.bits / 8; ++w) {
      uint32_t word;
      std::memcpy(&word, in + w * 64, 4);
      for (int slot = 0; slot < 8 / plane.bits; ++slot) {
        codes[SourceOf(plane, w, slot)] |=
            MoveBits(word, slot * plane.bits, plane.bits, plane.from);
      }
    }
  }
  std::memcpy(raw->codes, codes, cols);
}

// Calls move(cell, raw byte offset, width) for each scale of a row.
template <typename Fn>
void ForEachScale(const PanelFormat& f, int row, int64_t cols, Fn&& move) {
  int64_t at = PartsOf(f, cols).scales;
  for (int64_t b = 0; b < cols / BlockCols(f); ++b) {
    int64_t source = b * f.scale_bytes_per_row;
    for (int width : ScaleWidths(f)) {
      move(at + row * width, source, width);
      source += width;
      at += width * kPanelRows;
    }
  }
}

void WriteRaw(const PanelFormat& f, std::byte* segment, int row, int64_t cols, const RawRow& raw) {
  WriteCodes(f, segment, row, cols, raw);
  ForEachScale(f, row, cols, [&](int64_t cell, int64_t source, int width) {
    std::memcpy(segment + cell, raw.scales + source, width);
  });
}

void ReadRaw(const PanelFormat& f, const std::byte* segment, int row, int64_t cols, RawRow* raw) {
  ReadCodes(f, segment, row, cols, raw);
  ForEachScale(f, row, cols, [&](int64_t cell, int64_t source, int width) {
    std::memcpy(raw->scales + source, segment + cell, width);
  });
}

}  // namespace

const uint8_t kIq4Codes[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                               129, 141, 153, 166, 181, 197, 217, 241};
const uint8_t kFp4Codes[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

const PanelFormat* FindPanelFormat(DType type) {
  for (const PanelFormat& format : kFormats) {
    if (format.type == type) return &format;
  }
  return nullptr;
}

SegmentParts PartsOf(const PanelFormat& f, int64_t cols) {
  SegmentParts parts;
  int64_t at = 0;
  int64_t bytes = cols * kPanelRows;
  if (f.code_bits == 8) at += bytes;
  if (f.code_bits >= 4 && f.code_bits <= 6) at += bytes / 2;
  parts.bits2 = at;
  if (f.code_bits == 6 || f.code_bits <= 3) at += bytes / 4;
  parts.bits1 = at;
  if (f.code_bits == 5 || f.code_bits == 3) at += bytes / 8;
  parts.scales = at;
  return parts;
}

int64_t SegmentBytes(const PanelFormat& f, int64_t cols) {
  int64_t bytes;
  if (f.kind == PanelKind::kFloat32 || f.kind == PanelKind::kBfloat16) {
    bytes =
        (f.kind == PanelKind::kBfloat16 ? (cols + 1) / 2 * 2 : cols) * kPanelRows * ElementBytes(f);
  } else {
    bytes = PartsOf(f, cols).scales + cols / BlockCols(f) * f.scale_bytes_per_row * kPanelRows;
  }
  return (bytes + 63) / 64 * 64;
}

int64_t PanelBytes(const PanelFormat& f, int64_t cols) {
  int64_t rest = cols % kSegmentCols;
  return cols / kSegmentCols * SegmentBytes(f, kSegmentCols) + (rest ? SegmentBytes(f, rest) : 0);
}

int64_t PackedBytes(const PanelFormat& f, int64_t rows, int64_t cols) {
  return (rows + kPanelRows - 1) / kPanelRows * PanelBytes(f, cols);
}

void PackPanel(const PanelFormat& f, const std::byte* const* rows, int num_rows, int64_t cols,
               std::byte* out) {
  std::memset(out, 0, PanelBytes(f, cols));
  for (int r = 0; r < num_rows; ++r) {
    const std::byte* file = rows[r];
    std::byte* segment = out;
    for (int64_t k0 = 0; k0 < cols; k0 += kSegmentCols) {
      int64_t n = std::min<int64_t>(kSegmentCols, cols - k0);
      if (f.code_bits == 0) {
        int size = ElementBytes(f);
        for (int64_t k = 0; k < n; ++k) {
          std::memcpy(segment + FloatIndex(f, k, r) * size, file + (k0 + k) * size, size);
        }
      } else {
        RawRow raw;
        FileToRaw(f, file + RowBytes(f.type, k0), n, &raw);
        WriteRaw(f, segment, r, n, raw);
      }
      segment += SegmentBytes(f, n);
    }
  }
}

void UnpackRow(const PanelFormat& f, const std::byte* panel, int row, int64_t cols,
               std::byte* out) {
  for (int64_t k0 = 0; k0 < cols; k0 += kSegmentCols) {
    int64_t n = std::min<int64_t>(kSegmentCols, cols - k0);
    if (f.code_bits == 0) {
      int size = ElementBytes(f);
      for (int64_t k = 0; k < n; ++k) {
        std::memcpy(out + (k0 + k) * size, panel + FloatIndex(f, k, row) * size, size);
      }
    } else {
      RawRow raw;
      ReadRaw(f, panel, row, n, &raw);
      RawToFile(f, raw, n, out + RowBytes(f.type, k0));
    }
    panel += SegmentBytes(f, n);
  }
}

void ReadSegmentRow(const PanelFormat& f, const std::byte* segment, int row, int64_t cols,
                    SegmentRow* out) {
  RawRow raw;
  ReadRaw(f, segment, row, cols, &raw);
  for (int64_t k = 0; k < cols; ++k) {
    uint8_t code = raw.codes[k];
    if (f.type == DType::kIQ4_NL || f.type == DType::kIQ4_XS) code = kIq4Codes[code];
    if (f.type == DType::kMXFP4) code = kFp4Codes[code];
    out->codes[k] = code;
  }
  auto half = [&](int64_t at) {
    uint16_t bits;
    std::memcpy(&bits, raw.scales + at, 2);
    return HalfToFloat(bits);
  };
  if (f.kind == PanelKind::kScale32) {
    for (int64_t b = 0; b < cols / 32; ++b) {
      int64_t at = b * f.scale_bytes_per_row;
      out->d[b] = f.type == DType::kMXFP4 ? Mxfp4Scale(raw.scales[at]) : half(at);
      out->m[b] = f.has_min ? half(at + 2) : 0.0f;
    }
    return;
  }
  uint8_t scales[16], mins[16];
  switch (f.type) {
    case DType::kQ2_K:
      for (int g = 0; g < 16; ++g) {
        out->scales[g] = raw.scales[g] & 15;
        out->mins[g] = raw.scales[g] >> 4;
      }
      out->d[0] = half(16);
      out->m[0] = half(18);
      break;
    case DType::kQ3_K:
      UnpackQ3Scales(raw.scales, scales);
      for (int g = 0; g < 16; ++g) out->scales[g] = scales[g] - 32;
      out->d[0] = half(12);
      break;
    case DType::kQ4_K:
    case DType::kQ5_K:
      UnpackScalesMins(raw.scales, scales, mins);
      for (int g = 0; g < 8; ++g) {
        out->scales[g] = scales[g];
        out->mins[g] = mins[g];
      }
      out->d[0] = half(12);
      out->m[0] = half(14);
      break;
    case DType::kQ6_K:
      for (int g = 0; g < 16; ++g) out->scales[g] = static_cast<int8_t>(raw.scales[g]);
      out->d[0] = half(16);
      break;
    case DType::kIQ4_XS: {
      uint16_t high;
      std::memcpy(&high, raw.scales + 4, 2);
      for (int g = 0; g < 8; ++g) {
        int low = (raw.scales[g / 2] >> (4 * (g % 2))) & 15;
        out->scales[g] = (low | (((high >> (2 * g)) & 3) << 4)) - 32;
      }
      out->d[0] = half(6);
      break;
    }
    default:
      INK_CHECK(false);
  }
}

}  // namespace ink
