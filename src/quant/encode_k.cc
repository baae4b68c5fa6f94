// Encoders of the K-quants.
#include <array>
#include <cstring>

#include "quant/blocks.h"
#include "quant/codecs.h"
#include "quant/k_scales.h"
#include "quant/search.h"
#include "quant/super_block.h"

namespace ink::codec {
namespace {

// Starts of the affine search, in steps of the code, for both ends of a group's range. Few codes
// profit from clipping far into the range; with 31 the ends hardly move.
constexpr std::array kClips2 = {0.0f, -0.4f, -0.2f, 0.2f, 0.4f, 0.65f, 0.9f};
constexpr std::array kClips4 = {-0.5f, -0.2f, 0.1f, 0.4f, 0.8f};
constexpr std::array kClips5 = {-0.5f, -0.1f, 0.3f, 0.7f};

// Starts of the symmetric search: codes for the value of largest magnitude, near both ends.
constexpr std::array kTargets3 = {-4.0f, -5.0f, -4.75f, -4.5f, -4.3f, -4.15f, -3.85f,
                                  -3.7f, -3.5f, -3.3f,  -3.1f, 2.7f,  2.85f,  3.0f,
                                  3.15f, 3.3f,  3.5f,   3.75f, 4.0f,  4.3f};
constexpr std::array kTargets6 = {-32.0f, -33.5f, -33.0f, -32.7f, -32.4f, -32.2f,
                                  -31.7f, -31.4f, -31.0f, -30.5f, 30.5f,  30.8f,
                                  31.1f,  31.4f,  31.7f,  32.0f,  32.5f,  33.0f};

void Search2(const Tile16& tile, AffineChoice<16>* choice, uint8_t* codes) {
  Lanes<16> scale;
  Lanes<16> min;
  FitAffine(tile, 3.0f, kClips2.data(), static_cast<int>(kClips2.size()), true, &scale, &min);
  ChooseAffine(tile, 3.0f, 15.0f, scale, min, choice);
  WriteCodes(tile, IntegerGrid{0.0f, 3.0f}, 0.0f, choice->scale, choice->min, codes);
}

void Search4(const Tile32& tile, AffineChoice<8>* choice, uint8_t* codes) {
  Lanes<8> scale;
  Lanes<8> min;
  FitAffine(tile, 15.0f, kClips4.data(), static_cast<int>(kClips4.size()), true, &scale, &min);
  ChooseAffine(tile, 15.0f, 63.0f, scale, min, choice);
  WriteCodes(tile, IntegerGrid{0.0f, 15.0f}, 0.0f, choice->scale, choice->min, codes);
}

void Search5(const Tile32& tile, AffineChoice<8>* choice, uint8_t* codes) {
  Lanes<8> scale;
  Lanes<8> min;
  FitAffine(tile, 31.0f, kClips5.data(), static_cast<int>(kClips5.size()), true, &scale, &min);
  ChooseAffine(tile, 31.0f, 63.0f, scale, min, choice);
  WriteCodes(tile, IntegerGrid{0.0f, 31.0f}, 0.0f, choice->scale, choice->min, codes);
}

void Search3(const Tile16& tile, SymmetricChoice<16>* choice, uint8_t* codes) {
  const IntegerGrid grid{-4.0f, 3.0f};
  Lanes<16> scale;
  FitSymmetric(tile, grid, kTargets3.data(), static_cast<int>(kTargets3.size()), &scale);
  ChooseSymmetric(tile, grid, -32.0f, 31.0f, 8, scale, choice);
  WriteCodes(tile, grid, -4.0f, choice->scale, Lanes<16>{}, codes);
}

void Search6(const Tile16& tile, SymmetricChoice<16>* choice, uint8_t* codes) {
  const IntegerGrid grid{-32.0f, 31.0f};
  Lanes<16> scale;
  FitSymmetric(tile, grid, kTargets6.data(), static_cast<int>(kTargets6.size()), &scale);
  ChooseSymmetric(tile, grid, -128.0f, 127.0f, 1, scale, choice);
  WriteCodes(tile, grid, -32.0f, choice->scale, Lanes<16>{}, codes);
}

/// Loads each super-block as a T and stores the block that make(tile) returns.
template <typename Block, typename T, typename Fn>
void ForEachSuperBlock(const float* x, const float* importance, std::byte* blocks, int64_t n,
                       Fn&& make) {
  T tile;
  for (int64_t i = 0; i < n / kSuperBlock; ++i) {
    const float* importance_here = importance == nullptr ? nullptr : importance + i * kSuperBlock;
    // Half the smallest half: nothing below it is nearer to a representable value than to zero.
    LoadTile(x + i * kSuperBlock, importance_here, kSuperBlock, true, kHalfMin / 2, &tile);
    const Block block = tile.zero[0] ? make(tile, true) : make(tile, false);
    std::memcpy(blocks + i * static_cast<int64_t>(sizeof(Block)), &block, sizeof(Block));
  }
}

/// Two-bit codes of Q2_K, and the low bits of Q3_K.
void PackTwoBits(const uint8_t* codes, uint8_t q[64]) {
  for (int h = 0; h < 2; ++h) {
    for (int l = 0; l < 32; ++l) {
      const uint8_t* c = codes + 128 * h + l;
      q[32 * h + l] = static_cast<uint8_t>((c[0] & 3) | ((c[32] & 3) << 2) | ((c[64] & 3) << 4) |
                                           ((c[96] & 3) << 6));
    }
  }
}

/// Four-bit codes of Q4_K, and the low bits of Q5_K.
void PackNibbles(const uint8_t* codes, uint8_t q[128]) {
  for (int h = 0; h < 4; ++h) {
    for (int l = 0; l < 32; ++l) {
      const uint8_t* c = codes + 64 * h + l;
      q[32 * h + l] = static_cast<uint8_t>((c[0] & 15) | ((c[32] & 15) << 4));
    }
  }
}

template <typename Block>
void PackAffine(const AffineChoice<8>& choice, Block* block) {
  uint8_t scales[8];
  uint8_t mins[8];
  for (int g = 0; g < 8; ++g) {
    scales[g] = static_cast<uint8_t>(choice.scale_code.v[g]);
    mins[g] = static_cast<uint8_t>(choice.min_code.v[g]);
  }
  PackScalesMins(scales, mins, block->scales);
  block->d = choice.d.bits;
  block->dmin = choice.dmin.bits;
}

}  // namespace

void EncodeQ2_K(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept {
  const auto make = [](const Tile16& tile, bool zero) {
    BlockQ2_K block{};
    if (zero) return block;
    AffineChoice<16> choice;
    uint8_t codes[kSuperBlock];
    Search2(tile, &choice, codes);
    for (int g = 0; g < 16; ++g) {
      block.scales[g] = static_cast<uint8_t>(static_cast<int>(choice.scale_code.v[g]) |
                                             static_cast<int>(choice.min_code.v[g]) << 4);
    }
    PackTwoBits(codes, block.q);
    block.d = choice.d.bits;
    block.dmin = choice.dmin.bits;
    return block;
  };
  ForEachSuperBlock<BlockQ2_K, Tile16>(x, importance, blocks, n, make);
}

void EncodeQ3_K(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept {
  const auto make = [](const Tile16& tile, bool zero) {
    BlockQ3_K block{};
    if (zero) return block;
    SymmetricChoice<16> choice;
    uint8_t codes[kSuperBlock];
    Search3(tile, &choice, codes);
    uint8_t scales[16];
    for (int g = 0; g < 16; ++g) {
      scales[g] = static_cast<uint8_t>(static_cast<int>(choice.scale_code.v[g]) + 32);
    }
    PackQ3Scales(scales, block.scales);
    PackTwoBits(codes, block.q);
    for (int i = 0; i < kSuperBlock; ++i) {
      block.high[i % 32] = static_cast<uint8_t>(block.high[i % 32] | ((codes[i] >> 2) << (i / 32)));
    }
    block.d = choice.d.bits;
    return block;
  };
  ForEachSuperBlock<BlockQ3_K, Tile16>(x, importance, blocks, n, make);
}

void EncodeQ4_K(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept {
  const auto make = [](const Tile32& tile, bool zero) {
    BlockQ4_K block{};
    if (zero) return block;
    AffineChoice<8> choice;
    uint8_t codes[kSuperBlock];
    Search4(tile, &choice, codes);
    PackAffine(choice, &block);
    PackNibbles(codes, block.q);
    return block;
  };
  ForEachSuperBlock<BlockQ4_K, Tile32>(x, importance, blocks, n, make);
}

void EncodeQ5_K(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept {
  const auto make = [](const Tile32& tile, bool zero) {
    BlockQ5_K block{};
    if (zero) return block;
    AffineChoice<8> choice;
    uint8_t codes[kSuperBlock];
    Search5(tile, &choice, codes);
    PackAffine(choice, &block);
    PackNibbles(codes, block.q);
    for (int i = 0; i < kSuperBlock; ++i) {
      block.high[i % 32] = static_cast<uint8_t>(block.high[i % 32] | ((codes[i] >> 4) << (i / 32)));
    }
    return block;
  };
  ForEachSuperBlock<BlockQ5_K, Tile32>(x, importance, blocks, n, make);
}

void EncodeQ6_K(const float* x, const float* importance, std::byte* blocks, int64_t n) noexcept {
  const auto make = [](const Tile16& tile, bool zero) {
    BlockQ6_K block{};
    if (zero) return block;
    SymmetricChoice<16> choice;
    uint8_t codes[kSuperBlock];
    Search6(tile, &choice, codes);
    for (int g = 0; g < 16; ++g) block.scales[g] = static_cast<int8_t>(choice.scale_code.v[g]);
    for (int h = 0; h < 2; ++h) {
      for (int l = 0; l < 32; ++l) {
        const uint8_t* c = codes + 128 * h + l;
        block.low[64 * h + l] = static_cast<uint8_t>((c[0] & 15) | ((c[64] & 15) << 4));
        block.low[64 * h + 32 + l] = static_cast<uint8_t>((c[32] & 15) | ((c[96] & 15) << 4));
        block.high[32 * h + l] = static_cast<uint8_t>((c[0] >> 4) | ((c[32] >> 4) << 2) |
                                                      ((c[64] >> 4) << 4) | ((c[96] >> 4) << 6));
      }
    }
    block.d = choice.d.bits;
    return block;
  };
  ForEachSuperBlock<BlockQ6_K, Tile16>(x, importance, blocks, n, make);
}

}  // namespace ink::codec
