// Encoders of the formats with uneven 4-bit codes: IQ4_NL, IQ4_XS, MXFP4.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "quant/blocks.h"
#include "quant/codebooks.h"
#include "quant/codecs.h"
#include "quant/search.h"
#include "quant/super_block.h"

namespace ink::codec {
namespace {

/// Nearest of kIq4Values, found by counting the midpoints below y.
struct Iq4Grid {
  INK_QUANT_INLINE Float4 Nearest(Float4 y) const {
    Float4 value = Broadcast(kIq4Values[0]);
    for (int k = 0; k < 15; ++k) {
      const Float4 middle = Broadcast(0.5f * static_cast<float>(kIq4Values[k] + kIq4Values[k + 1]));
      const Float4 gap = Broadcast(static_cast<float>(kIq4Values[k + 1] - kIq4Values[k]));
      value += (Float4)((y >= middle) & (Int4)gap);
    }
    return value;
  }
};

/// Nearest of kFp4Values.
struct Fp4Grid {
  INK_QUANT_INLINE Float4 Nearest(Float4 y) const {
    const Float4 a = Abs4(y);
    Float4 value = Broadcast(0.0f);
    for (int k = 0; k < 7; ++k) {
      const Float4 middle = Broadcast(0.5f * static_cast<float>(kFp4Values[k] + kFp4Values[k + 1]));
      const Float4 gap = Broadcast(static_cast<float>(kFp4Values[k + 1] - kFp4Values[k]));
      value += (Float4)((a > middle) & (Int4)gap);
    }
    return Select(y < Broadcast(0.0f), -value, value);
  }
};

/// code_of[value + 128] for a code book of int8 values; the first code of a repeated value.
constexpr std::array<uint8_t, 256> InvertCodeBook(const std::array<int8_t, 16>& values) {
  std::array<uint8_t, 256> code_of{};
  for (int k = 15; k >= 0; --k) {
    code_of[static_cast<size_t>(values[static_cast<size_t>(k)] + 128)] = static_cast<uint8_t>(k);
  }
  return code_of;
}
constexpr std::array<uint8_t, 256> kIq4Codes = InvertCodeBook(kIq4Values);
constexpr std::array<uint8_t, 256> kFp4Codes = InvertCodeBook(kFp4Values);

// Starts: the value of largest magnitude at these multiples of the scale, near either end.
constexpr std::array kTargetsIq4 = {-127.0f, -148.0f, -142.0f, -137.0f, -133.0f, -130.0f, -124.0f,
                                    -121.0f, -117.0f, -112.0f, -106.0f, 101.0f,  106.0f,  110.0f,
                                    113.0f,  116.0f,  120.0f,  125.0f,  131.0f};

struct CodebookBlocks {
  uint16_t d[8];        // MXFP4: the exponent
  uint8_t values[256];  // grid value + 128
};

void SearchIq4(const Tile32& tile, CodebookBlocks* out) {
  const Iq4Grid grid;
  Lanes<8> scale;
  FitSymmetric(tile, grid, kTargetsIq4.data(), static_cast<int>(kTargetsIq4.size()), &scale);
  RoundScales(tile, grid, static_cast<float>(kIq4Values[0]), &scale, out->d);
  WriteCodes(tile, grid, -128.0f, scale, Lanes<8>{}, out->values);
}

void SearchIq4Super(const Tile32& tile, SymmetricChoice<8>* choice, uint8_t* values) {
  const Iq4Grid grid;
  Lanes<8> scale;
  FitSymmetric(tile, grid, kTargetsIq4.data(), static_cast<int>(kTargetsIq4.size()), &scale);
  ChooseSymmetric(tile, grid, -32.0f, 31.0f, 2, scale, choice);
  WriteCodes(tile, grid, -128.0f, choice->scale, Lanes<8>{}, values);
}

void SearchMxfp4(const Tile32& tile, CodebookBlocks* out) {
  const Fp4Grid grid;
  Lanes<8> best_scale;
  Lanes<8> best_err;
  for (int l = 0; l < 8; ++l) {
    best_err.v[l] = std::numeric_limits<float>::infinity();
    best_scale.v[l] = 0.0f;
    out->d[l] = 0;
  }
  // The largest magnitude is in [1/2, 1) * 2^exponent; with the specification's rule it falls on a
  // code in [4, 8), that is 2 to 4 times E2M1's largest power of two. Its neighbours trade range
  // for resolution.
  for (int step = -1; step <= 1; ++step) {
    Lanes<8> scale;
    int e[8];
    for (int l = 0; l < 8; ++l) {
      e[l] = std::clamp(tile.exponent[l] + 124 + step, 0, 254);
      scale.v[l] = tile.zero[l] ? 0.0f : std::ldexp(1.0f, e[l] - 128 - tile.exponent[l]);
    }
    Lanes<8> err;
    SymmetricError(tile, grid, scale, &err);
    for (int l = 0; l < 8; ++l) {
      if (!(err.v[l] < best_err.v[l])) continue;
      best_err.v[l] = err.v[l];
      best_scale.v[l] = scale.v[l];
      out->d[l] = static_cast<uint16_t>(tile.zero[l] ? 0 : e[l]);
    }
  }
  WriteCodes(tile, grid, -128.0f, best_scale, Lanes<8>{}, out->values);
}

void PackNibbles(const std::array<uint8_t, 256>& code_of, const uint8_t* values, uint8_t q[16]) {
  for (int j = 0; j < 16; ++j) {
    q[j] = static_cast<uint8_t>(code_of[values[j]] | (code_of[values[j + 16]] << 4));
  }
}

/// Searches eight blocks at a time; fill(found, lane, block) makes each.
template <typename Block, typename Search, typename Fill>
void ForEachBlock(const float* x, const float* importance, std::byte* blocks, int64_t n,
                  float min_magnitude, Search&& search, Fill&& fill) {
  Tile32 tile;
  CodebookBlocks found;
  for (int64_t i = 0; i < n; i += 256) {
    const int count = static_cast<int>(std::min<int64_t>(256, n - i));
    LoadTile(x + i, importance == nullptr ? nullptr : importance + i, count, false, min_magnitude,
             &tile);
    search(tile, &found);
    for (int l = 0; l < count / 32; ++l) {
      Block block;
      fill(found, l, &block);
      const int64_t index = i / 32 + l;
      std::memcpy(blocks + index * static_cast<int64_t>(sizeof(Block)), &block, sizeof(Block));
    }
  }
}

}  // namespace

void EncodeIQ4_NL(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept {
  ForEachBlock<BlockIQ4_NL>(x, importance, blocks, n, kHalfMin / 2, SearchIq4,
                            [](const CodebookBlocks& found, int l, BlockIQ4_NL* block) {
                              block->d = found.d[l];
                              PackNibbles(kIq4Codes, found.values + 32 * l, block->q);
                            });
}

void EncodeIQ4_XS(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept {
  Tile32 tile;
  for (int64_t i = 0; i < n / kSuperBlock; ++i) {
    LoadTile(x + i * kSuperBlock, importance == nullptr ? nullptr : importance + i * kSuperBlock,
             kSuperBlock, true, kHalfMin / 2, &tile);
    BlockIQ4_XS block{};
    SymmetricChoice<8> choice{};
    uint8_t values[kSuperBlock];
    if (tile.zero[0]) {
      std::memset(values, 128 + 1, sizeof(values));  // the positive value nearest to zero
    } else {
      SearchIq4Super(tile, &choice, values);
      block.d = choice.d.bits;
    }
    for (int g = 0; g < 8; ++g) {
      const int stored = static_cast<int>(choice.scale_code.v[g]) + 32;
      block.scales_low[g / 2] =
          static_cast<uint8_t>(block.scales_low[g / 2] | ((stored & 15) << (4 * (g % 2))));
      block.scales_high = static_cast<uint16_t>(block.scales_high | ((stored >> 4) << (2 * g)));
      PackNibbles(kIq4Codes, values + 32 * g, block.q + 16 * g);
    }
    std::memcpy(blocks + i * static_cast<int64_t>(sizeof(block)), &block, sizeof(block));
  }
}

void EncodeMXFP4(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept {
  ForEachBlock<BlockMXFP4>(x, importance, blocks, n, 0.0f, SearchMxfp4,
                           [](const CodebookBlocks& found, int l, BlockMXFP4* block) {
                             block->e = static_cast<uint8_t>(found.d[l]);
                             PackNibbles(kFp4Codes, found.values + 32 * l, block->q);
                           });
}

}  // namespace ink::codec
