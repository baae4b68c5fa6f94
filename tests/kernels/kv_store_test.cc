#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "kernel_context.h"
#include "quant/blocks.h"
#include "quant/half.h"
#include "quant/quant_format.h"

namespace ink::test {
namespace {

constexpr DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0};
constexpr std::byte kUntouched{0xa5};

struct Store {
  Store(DType k_type, DType v_type, int heads, int head_dim, int64_t num_tokens, int64_t num_blocks)
      : k_stride(int64_t{heads} * head_dim + 3), v_stride(int64_t{heads} * head_dim + 1) {
    std::mt19937 random(11);
    k = RandomFloats(random, num_tokens * k_stride);
    v = RandomFloats(random, num_tokens * v_stride);
    slots.resize(num_blocks * 32);
    for (size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<int64_t>(i);
    std::shuffle(slots.begin(), slots.end(), random);
    slots.resize(num_tokens);
    for (int64_t t = 3; t < num_tokens; t += 7) slots[t] = -1;
    cache.k_type = k_type;
    cache.v_type = v_type;
    cache.num_kv_heads = heads;
    cache.head_dim = head_dim;
    cache.k_head_bytes = KvHeadBytes(k_type, head_dim) + 6;
    cache.v_head_bytes = KvHeadBytes(v_type, head_dim) + 2;
    cache.k_block_bytes = cache.k_head_bytes * heads + 10;
    cache.v_block_bytes = cache.v_head_bytes * heads;
    k_bytes = cache.k_block_bytes * num_blocks;
    v_bytes = cache.v_block_bytes * num_blocks;
  }

  /// The bytes of K's and V's cache after the call.
  std::vector<std::byte> Run(const Isa& isa, const KernelContext& context) {
    std::vector<std::byte> memory(k_bytes + v_bytes, kUntouched);
    KvStoreParams p;
    p.k = k.data();
    p.v = v.data();
    p.k_stride = k_stride;
    p.v_stride = v_stride;
    p.slots = slots.data();
    p.num_tokens = static_cast<int64_t>(slots.size());
    p.cache = cache;
    p.cache.k = memory.data();
    p.cache.v = memory.data() + k_bytes;
    isa.kv_store(p, context);
    return memory;
  }

  int64_t k_stride;
  int64_t v_stride;
  std::vector<float> k;
  std::vector<float> v;
  std::vector<int64_t> slots;
  KvLayerView cache;
  int64_t k_bytes = 0;
  int64_t v_bytes = 0;
};

template <typename T>
void Expect(std::vector<std::byte>& memory, int64_t offset, T value) {
  std::memcpy(memory.data() + offset, &value, sizeof value);
}

/// Writes one head's row where KvLayerView's comment says.
void Place(DType type, bool is_k, const float* x, int dim, int64_t token, int64_t base,
           std::vector<std::byte>& memory) {
  const auto plain = [&](int d) {
    if (type == DType::kBF16) {
      return is_k ? ((d / 2) * 32 + token) * 2 + d % 2 : ((token / 2) * dim + d) * 2 + token % 2;
    }
    return is_k ? d * 32 + token : token * dim + d;
  };
  if (type == DType::kF32) {
    for (int d = 0; d < dim; ++d) Expect(memory, base + 4 * plain(d), x[d]);
    return;
  }
  if (type == DType::kF16) {
    for (int d = 0; d < dim; ++d) Expect(memory, base + 2 * plain(d), FloatToHalf(x[d]));
    return;
  }
  if (type == DType::kBF16) {
    for (int d = 0; d < dim; ++d) Expect(memory, base + 2 * plain(d), FloatToBfloat(x[d]));
    if (is_k && dim % 2 == 1) Expect(memory, base + 2 * plain(dim), uint16_t{0});
    return;
  }
  for (int g = 0; g * 32 < dim; ++g) {
    float values[32] = {};
    for (int i = 0; i < 32 && g * 32 + i < dim; ++i) values[i] = x[g * 32 + i];
    BlockQ8_0 block;
    FindQuantFormat(type)->encode(values, nullptr, reinterpret_cast<std::byte*>(&block), 32);
    Expect(memory, base + dim * 32 + 2 * (g * 32 + token), block.d);
    for (int i = 0; i < 32 && g * 32 + i < dim; ++i) {
      const int d = g * 32 + i;
      Expect(memory, base + (is_k ? d * 32 + token : token * dim + d), block.q[i]);
    }
  }
}

TEST(KvStore, PutsEveryValueInItsPlace) {
  Context context(1);
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0}) {
    for (const int dim : {1, 8, 31, 64, 72, 80}) {
      Store store(type, type, 3, dim, 150, 6);
      std::vector<std::byte> expected(store.k_bytes + store.v_bytes, kUntouched);
      for (size_t t = 0; t < store.slots.size(); ++t) {
        if (store.slots[t] < 0) continue;
        const int64_t block = store.slots[t] / 32;
        const int64_t token = store.slots[t] % 32;
        for (int h = 0; h < 3; ++h) {
          Place(type, true, store.k.data() + t * store.k_stride + h * dim, dim, token,
                block * store.cache.k_block_bytes + h * store.cache.k_head_bytes, expected);
          Place(type, false, store.v.data() + t * store.v_stride + h * dim, dim, token,
                store.k_bytes + block * store.cache.v_block_bytes + h * store.cache.v_head_bytes,
                expected);
        }
      }
      EXPECT_EQ(store.Run(kReference, context), expected) << Info(type).name << " " << dim;
    }
  }
}

// q4_0: what the layout's formulas read back is at most half a step off, or a step where the value
// of largest magnitude is doubled by its opposite; on average as good as the searching encoder to
// 15%.
TEST(KvStore, Q4ReadsBackWithinAStep) {
  Context context(1);
  for (const int dim : {1, 8, 31, 64, 80}) {
    Store store(DType::kQ4_0, DType::kQ4_0, 2, dim, 60, 2);
    const std::vector<std::byte> memory = store.Run(kReference, context);
    const int64_t row_bytes = (dim + 1) / 2;
    double squares = 0;
    double best_squares = 0;
    for (size_t t = 0; t < store.slots.size(); ++t) {
      if (store.slots[t] < 0) continue;
      const int64_t block = store.slots[t] / 32;
      const int64_t token = store.slots[t] % 32;
      for (const bool is_k : {true, false}) {
        const int64_t stride = is_k ? store.k_stride : store.v_stride;
        const float* x = (is_k ? store.k : store.v).data() + t * stride + dim;  // head 1
        const int64_t base =
            is_k ? block * store.cache.k_block_bytes + store.cache.k_head_bytes
                 : store.k_bytes + block * store.cache.v_block_bytes + store.cache.v_head_bytes;
        for (int g = 0; g * 32 < dim; ++g) {
          const int n = std::min(32, dim - g * 32);
          uint16_t bits;
          std::memcpy(&bits, memory.data() + base + row_bytes * 32 + 2 * (g * 32 + token), 2);
          float values[32] = {};
          std::copy_n(x + g * 32, n, values);
          float best[32];
          std::byte encoded[18];
          FindQuantFormat(DType::kQ4_0)->encode(values, nullptr, encoded, 32);
          FindQuantFormat(DType::kQ4_0)->decode(encoded, best, 32);
          for (int i = 0; i < n; ++i) {
            const int d = g * 32 + i;
            const std::byte pair =
                memory[base + (is_k ? d / 2 * 32 + token : token * row_bytes + d / 2)];
            const int level = (static_cast<int>(pair) >> (d % 2 * 4) & 15) - 8;
            const float scale = HalfToFloat(bits);
            const float read = static_cast<float>(level) * scale;
            EXPECT_LE(std::abs(read - x[d]), 1.1f * std::abs(scale)) << dim;
            squares += (read - x[d]) * (read - x[d]);
            best_squares += (best[i] - x[d]) * (best[i] - x[d]);
          }
        }
      }
    }
    EXPECT_LE(squares, 1.15 * 1.15 * best_squares + 1e-6) << dim;
  }
}

TEST(KvStore, EveryInstructionSetStoresTheSameBytes) {
  Context one(1);
  Context three(3);
  for (const DType k : kTypes) {
    for (const DType v : kTypes) {
      for (const int dim : {5, 64}) {
        Store store(k, v, 2, dim, 100, 4);
        const std::vector<std::byte> reference = store.Run(kReference, one);
        for (const Isa& isa : AllIsas()) EXPECT_EQ(store.Run(isa, three), reference) << isa.name;
      }
    }
  }
}

TEST(KvStore, RoundsSpecialValuesLikeTheScalarConversions) {
  Context context(1);
  const float inf = std::numeric_limits<float>::infinity();
  const float special[] = {0.0f,
                           -0.0f,
                           inf,
                           -inf,
                           65504.0f,
                           65519.9f,
                           65520.0f,
                           6e-8f,
                           -3e-8f,
                           2.9e-8f,
                           6.1e-5f,
                           1e-40f,
                           1e-45f,
                           3.39e38f,
                           1.00390625f,
                           1.01171875f,
                           1.00048828125f,
                           1.00146484375f,
                           std::bit_cast<float>(0x7f800001u),
                           std::bit_cast<float>(0xffc12345u)};
  constexpr int kDim = std::size(special);
  for (const DType type : {DType::kF16, DType::kBF16}) {
    for (const Isa& isa : AllIsas()) {
      Store store(type, type, 1, kDim, 1, 1);
      std::copy(std::begin(special), std::end(special), store.v.begin());
      store.slots[0] = 0;
      const std::vector<std::byte> memory = store.Run(isa, context);
      for (int d = 0; d < kDim; ++d) {
        uint16_t bits;
        std::memcpy(&bits, memory.data() + store.k_bytes + (type == DType::kF16 ? 2 : 4) * d, 2);
        EXPECT_EQ(bits, type == DType::kF16 ? FloatToHalf(special[d]) : FloatToBfloat(special[d]))
            << isa.name << " " << special[d];
      }
    }
  }
}

}  // namespace
}  // namespace ink::test
