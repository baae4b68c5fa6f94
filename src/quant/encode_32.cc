// Encoders of the evenly spaced formats with blocks of 32: Q4_0, Q4_1, Q5_0, Q5_1. Eight blocks are
// searched at a time.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "quant/blocks.h"
#include "quant/codecs.h"
#include "quant/search.h"

namespace ink::codec {
namespace {

constexpr std::array kTargets4 = {-8.0f, -9.5f, -9.2f, -8.9f, -8.7f, -8.5f, -8.35f, -8.2f,
                                  -8.1f, -7.9f, -7.8f, -7.6f, -7.4f, -7.2f, -7.0f,  6.7f,
                                  6.9f,  7.1f,  7.2f,  7.35f, 7.5f,  7.7f,  8.0f,   8.4f};
constexpr std::array kTargets5 = {-16.0f, -17.5f, -17.0f, -16.7f, -16.4f, -16.2f,
                                  -16.1f, -15.9f, -15.7f, -15.4f, -15.0f, 14.6f,
                                  14.9f,  15.1f,  15.3f,  15.5f,  15.8f,  16.2f};
constexpr std::array kClips4 = {-0.5f, -0.3f, -0.1f, 0.1f, 0.3f, 0.5f, 0.8f};
constexpr std::array kClips5 = {-0.5f, -0.25f, 0.0f, 0.25f, 0.5f, 0.75f};

struct SymmetricBlocks {
  uint16_t d[8];
  uint8_t codes[256];
};

struct AffineBlocks {
  uint16_t d[8];
  uint16_t m[8];
  uint8_t codes[256];
};

void SearchQ4_0(const Tile32& tile, SymmetricBlocks* out) {
  const IntegerGrid grid{-8.0f, 7.0f};
  Lanes<8> scale;
  FitSymmetric(tile, grid, kTargets4.data(), static_cast<int>(kTargets4.size()), &scale);
  RoundScales(tile, grid, grid.low, &scale, out->d);
  WriteCodes(tile, grid, grid.low, scale, Lanes<8>{}, out->codes);
}

void SearchQ5_0(const Tile32& tile, SymmetricBlocks* out) {
  const IntegerGrid grid{-16.0f, 15.0f};
  Lanes<8> scale;
  FitSymmetric(tile, grid, kTargets5.data(), static_cast<int>(kTargets5.size()), &scale);
  RoundScales(tile, grid, grid.low, &scale, out->d);
  WriteCodes(tile, grid, grid.low, scale, Lanes<8>{}, out->codes);
}

/// Rounds the offset to the halves around it, refits the scale to each, and keeps the best: where a
/// block's values lie far from zero, the offset's rounding error is large beside its scale.
void FinishAffine(const Tile32& tile, float top, const Lanes<8>& scale, const Lanes<8>& min,
                  AffineBlocks* out) {
  const IntegerGrid grid{0.0f, top};
  Lanes<8> best_err;
  Lanes<8> best_scale;
  Lanes<8> best_min;
  for (int l = 0; l < 8; ++l) {
    best_err.v[l] = std::numeric_limits<float>::infinity();
    best_scale.v[l] = best_min.v[l] = 0.0f;
    out->d[l] = out->m[l] = 0;
  }
  for (int step = -1; step <= 1; ++step) {
    Lanes<8> origin;
    Lanes<8> fit;
    Lanes<8> minus;
    uint16_t origin_bits[8];
    for (int l = 0; l < 8; ++l) {
      const ScaledHalf nearest = RoundToHalf(-min.v[l], tile.exponent[l]);
      const ScaledHalf m = Neighbour(nearest, step, tile.exponent[l]);
      origin_bits[l] = m.bits;
      origin.v[l] = m.value;
      minus.v[l] = -m.value;
      // A constant block has no scale yet; one step up from the offset may reach it.
      fit.v[l] = scale.v[l] > 0.0f ? scale.v[l] : (tile.x[0][l] - m.value) / top;
    }
    for (int round = 0; round < 3; ++round) {
      ScaledHalf d[8];
      Lanes<8> stored;
      Lanes<8> inverse;
      for (int l = 0; l < 8; ++l) {
        d[l] = RoundToHalf(std::max(fit.v[l], 0.0f), tile.exponent[l]);
        stored.v[l] = d[l].value;
      }
      InvertLanes(stored, &inverse);
      Lanes<8> err;
      AffineError(tile, grid, stored, minus, &err);
      for (int l = 0; l < 8; ++l) {
        if (!(err.v[l] < best_err.v[l])) continue;
        best_err.v[l] = err.v[l];
        best_scale.v[l] = stored.v[l];
        best_min.v[l] = minus.v[l];
        out->d[l] = d[l].bits;
        out->m[l] = origin_bits[l];
      }
      AffineSums<8> sums;
      AccumulateAffine(tile, grid, origin, origin, inverse, &sums);
      for (int l = 0; l < 8; ++l) {
        if (sums.qq.v[l] > 0.0f) fit.v[l] = sums.qy.v[l] / sums.qq.v[l];
      }
    }
  }
  WriteCodes(tile, grid, 0.0f, best_scale, best_min, out->codes);
}

void SearchQ4_1(const Tile32& tile, AffineBlocks* out) {
  Lanes<8> scale;
  Lanes<8> min;
  FitAffine(tile, 15.0f, kClips4.data(), static_cast<int>(kClips4.size()), false, &scale, &min);
  FinishAffine(tile, 15.0f, scale, min, out);
}

void SearchQ5_1(const Tile32& tile, AffineBlocks* out) {
  Lanes<8> scale;
  Lanes<8> min;
  FitAffine(tile, 31.0f, kClips5.data(), static_cast<int>(kClips5.size()), false, &scale, &min);
  FinishAffine(tile, 31.0f, scale, min, out);
}

/// Searches eight blocks at a time and stores fill(found, lane, codes of the lane) for each.
template <typename Block, typename Found, typename Search, typename Fill>
void ForEachBlock(const float* x, const float* importance, std::byte* blocks, int64_t n,
                  Search&& search, Fill&& fill) {
  Tile32 tile;
  Found found;
  for (int64_t i = 0; i < n; i += 256) {
    const int count = static_cast<int>(std::min<int64_t>(256, n - i));
    LoadTile(x + i, importance == nullptr ? nullptr : importance + i, count, false, kHalfMin / 2,
             &tile);
    search(tile, &found);
    for (int l = 0; l < count / 32; ++l) {
      Block block{};
      fill(found, l, found.codes + 32 * l, tile.zero[l], &block);
      const int64_t index = i / 32 + l;
      std::memcpy(blocks + index * static_cast<int64_t>(sizeof(Block)), &block, sizeof(Block));
    }
  }
}

void PackNibbles(const uint8_t* codes, uint8_t q[16]) {
  for (int j = 0; j < 16; ++j) {
    q[j] = static_cast<uint8_t>((codes[j] & 15) | ((codes[j + 16] & 15) << 4));
  }
}

void PackHighBits(const uint8_t* codes, uint8_t high[4]) {
  for (int j = 0; j < 32; ++j) {
    high[j / 8] = static_cast<uint8_t>(high[j / 8] | ((codes[j] >> 4) << (j % 8)));
  }
}

}  // namespace

void EncodeQ4_0(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept {
  ForEachBlock<BlockQ4_0, SymmetricBlocks>(
      x, importance, blocks, n, SearchQ4_0,
      [](const SymmetricBlocks& s, int l, const uint8_t* codes, bool zero, BlockQ4_0* block) {
        block->d = zero ? 0 : s.d[l];
        PackNibbles(codes, block->q);
      });
}

void EncodeQ4_1(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept {
  ForEachBlock<BlockQ4_1, AffineBlocks>(
      x, importance, blocks, n, SearchQ4_1,
      [](const AffineBlocks& s, int l, const uint8_t* codes, bool zero, BlockQ4_1* block) {
        if (zero) return;
        block->d = s.d[l];
        block->m = s.m[l];
        PackNibbles(codes, block->q);
      });
}

void EncodeQ5_0(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept {
  ForEachBlock<BlockQ5_0, SymmetricBlocks>(
      x, importance, blocks, n, SearchQ5_0,
      [](const SymmetricBlocks& s, int l, const uint8_t* codes, bool zero, BlockQ5_0* block) {
        block->d = zero ? 0 : s.d[l];
        PackNibbles(codes, block->q);
        PackHighBits(codes, block->high);
      });
}

void EncodeQ5_1(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept {
  ForEachBlock<BlockQ5_1, AffineBlocks>(
      x, importance, blocks, n, SearchQ5_1,
      [](const AffineBlocks& s, int l, const uint8_t* codes, bool zero, BlockQ5_1* block) {
        if (zero) return;
        block->d = s.d[l];
        block->m = s.m[l];
        PackNibbles(codes, block->q);
        PackHighBits(codes, block->high);
      });
}

}  // namespace ink::codec
