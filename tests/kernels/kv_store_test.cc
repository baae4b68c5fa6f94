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
  const bool q8 = type == DType::kQ8_0;
  const int64_t bytes_per_token = q8 ? dim : (dim + 1) / 2;
  for (int g = 0; g * 32 < dim; ++g) {
    float values[32] = {};
    for (int i = 0; i < 32 && g * 32 + i < dim; ++i) values[i] = x[g * 32 + i];
    BlockQ8_0 block8;
    BlockQ4_0 block4;
    FindQuantFormat(type)->encode(
        values, nullptr,
        q8 ? reinterpret_cast<std::byte*>(&block8) : reinterpret_cast<std::byte*>(&block4), 32);
    Expect(memory, base + bytes_per_token * 32 + 2 * (g * 32 + token), q8 ? block8.d : block4.d);
    for (int i = 0; i < 32 && g * 32 + i < dim; ++i) {
      const int d = g * 32 + i;
      if (q8) {
        Expect(memory, base + (is_k ? d * 32 + token : token * dim + d), block8.q[i]);
        continue;
      }
      const int64_t at = base + (is_k ? d / 2 * 32 + token : token * bytes_per_token + d / 2);
      const int nibble = i < 16 ? block4.q[i] & 15 : block4.q[i - 16] >> 4;
      const int low = d % 2 == 0 ? nibble : static_cast<int>(memory[at]) & 15;
      // A last even dimension is paired with a zero, stored as 8.
      const int high = d % 2 == 1 ? nibble : 8;
      Expect(memory, at, static_cast<uint8_t>(low | high << 4));
    }
  }
}

TEST(KvStore, PutsEveryValueInItsPlace) {
  Context context(1);
  for (const DType type : kTypes) {
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
