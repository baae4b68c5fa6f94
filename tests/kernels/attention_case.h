// A paged cache with sequences in it, for tests and benchmarks of attention.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>

#include "kernel_context.h"
#include "quant/half.h"
#include "quant/quant_format.h"

namespace ink::test {

struct CaseSequence {
  int64_t kv_length = 0;
  int64_t num_tokens = 0;  // the last positions, queries of this call
  MaskKind mask = MaskKind::kCausal;
};

struct CaseShape {
  int num_heads = 4;
  int num_kv_heads = 2;
  int head_dim = 64;
  DType k_type = DType::kF32;
  DType v_type = DType::kF32;
  float softcap = 0;
  int64_t window = 0;
  bool sinks = false;
  float score_deviation = 2.0f;
};

inline int64_t RoundUp64(int64_t bytes) { return (bytes + 63) / 64 * 64; }

class AttentionCase {
 public:
  AttentionCase(const CaseShape& shape, std::vector<CaseSequence> sequences, unsigned seed)
      : shape_(shape), random_(seed), specs_(std::move(sequences)) {
    const int64_t kv_row = int64_t{shape.num_kv_heads} * shape.head_dim;
    int64_t rows = 0;
    for (const CaseSequence& spec : specs_) {
      first_token_.push_back(rows);
      rows += spec.num_tokens;
      k_.push_back(RandomFloats(random_, spec.kv_length * kv_row));
      v_.push_back(RandomFloats(random_, spec.kv_length * kv_row));
      max_blocks_ = std::max(max_blocks_, (spec.kv_length + 31) / 32);
      std::vector<uint64_t> mask(spec.num_tokens);
      // Each drafted token hangs on a random earlier one, or on the root.
      for (int64_t i = 0; i < spec.num_tokens && spec.mask == MaskKind::kTree; ++i) {
        const int64_t parent = static_cast<int64_t>(random_() % (i + 1)) - 1;
        mask[i] = (parent >= 0 ? mask[parent] : 0) | (uint64_t{1} << i);
      }
      tree_.push_back(std::move(mask));
    }
    q_stride = int64_t{shape.num_heads} * shape.head_dim + 5;
    out_stride = int64_t{shape.num_heads} * shape.head_dim + 3;
    q_ = RandomFloats(random_, rows * q_stride);
    sinks_ = RandomFloats(random_, shape.num_heads, 2.0f);
    scale_ = shape.score_deviation / std::sqrt(static_cast<float>(shape.head_dim));
    FillCache();
  }

  KvLayerView cache() {
    KvLayerView view;
    view.k = k_cache_.data() + k_shift_;
    view.v = v_cache_.data() + v_shift_;
    view.k_type = shape_.k_type;
    view.v_type = shape_.v_type;
    view.k_head_bytes = RoundUp64(KvHeadBytes(shape_.k_type, shape_.head_dim));
    view.v_head_bytes = RoundUp64(KvHeadBytes(shape_.v_type, shape_.head_dim));
    view.k_block_bytes = view.k_head_bytes * shape_.num_kv_heads + 64;
    view.v_block_bytes = view.v_head_bytes * shape_.num_kv_heads + 128;
    view.num_kv_heads = shape_.num_kv_heads;
    view.head_dim = shape_.head_dim;
    return view;
  }

  int num_sequences() const { return static_cast<int>(specs_.size()); }
  const CaseSequence& spec(int s) const { return specs_[s]; }
  float scale() const { return scale_; }
  int64_t num_rows() const { return first_token_.back() + specs_.back().num_tokens; }

  /// Tokens [first, last) of the queries of one sequence, as a batch of their own.
  std::vector<float> RunPart(const Isa& isa, const KernelContext& context, int s, int64_t first,
                             int64_t last) {
    SequenceSpan span = Span(s);
    span.first_token += first;
    span.kv_length -= span.num_tokens - last;
    span.num_tokens = last - first;
    return Run(isa, context, &span, 1, tables_.data() + s * max_blocks_);
  }

  std::vector<float> RunAll(const Isa& isa, const KernelContext& context) {
    std::vector<SequenceSpan> spans;
    for (int s = 0; s < num_sequences(); ++s) spans.push_back(Span(s));
    return Run(isa, context, spans.data(), num_sequences(), tables_.data());
  }

  SequenceSpan Span(int s) const {
    SequenceSpan span;
    span.first_token = first_token_[s];
    span.num_tokens = specs_[s].num_tokens;
    span.kv_length = specs_[s].kv_length;
    span.mask = specs_[s].mask;
    span.tree_mask = tree_[s].data();
    return span;
  }

  AttentionParams Params(const SequenceSpan* spans, int count, const int32_t* tables, float* out) {
    AttentionParams p;
    p.q = q_.data();
    p.out = out;
    p.q_stride = q_stride;
    p.out_stride = out_stride;
    p.sequences = spans;
    p.num_seqs = count;
    p.block_tables = tables;
    p.block_table_stride = max_blocks_;
    p.cache = cache();
    p.num_heads = shape_.num_heads;
    p.scale = scale_;
    p.softcap = shape_.softcap;
    p.sliding_window = shape_.window;
    p.sinks = shape_.sinks ? sinks_.data() : nullptr;
    return p;
  }

  const int32_t* tables() const { return tables_.data(); }

  /// A row of the result as exact arithmetic gives it from the values that the cache holds.
  std::vector<double> Exact(int s, int64_t token, int head) const {
    const int d_count = shape_.head_dim;
    const int kv_head = head / (shape_.num_heads / shape_.num_kv_heads);
    const SequenceSpan span = Span(s);
    const float* q = q_.data() + (span.first_token + token) * q_stride + head * d_count;
    std::vector<double> scores;
    std::vector<int64_t> keys;
    for (int64_t j = 0; j < span.kv_length; ++j) {
      if (!Sees(span, token, j)) continue;
      const std::vector<float> k = Stored(true, s, j, kv_head);
      double score = 0;
      for (int d = 0; d < d_count; ++d) score += static_cast<double>(q[d]) * k[d];
      score *= scale_;
      if (shape_.softcap > 0) score = shape_.softcap * std::tanh(score / shape_.softcap);
      scores.push_back(score);
      keys.push_back(j);
    }
    std::vector<double> out(d_count, 0.0);
    if (scores.empty()) return out;
    double max = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    if (shape_.sinks) {
      max = std::max<double>(max, sinks_[head]);
      sum = std::exp(sinks_[head] - max);
    }
    for (size_t i = 0; i < keys.size(); ++i) {
      const double p = std::exp(scores[i] - max);
      sum += p;
      const std::vector<float> v = Stored(false, s, keys[i], kv_head);
      for (int d = 0; d < d_count; ++d) out[d] += p * v[d];
    }
    for (double& o : out) o /= sum;
    return out;
  }

  /// Row `token` of sequence s within a result.
  const float* Row(const std::vector<float>& out, int s, int64_t token, int head) const {
    return out.data() + (first_token_[s] + token) * out_stride + head * shape_.head_dim;
  }

  int64_t q_stride = 0;
  int64_t out_stride = 0;

 private:
  std::vector<float> Run(const Isa& isa, const KernelContext& context, const SequenceSpan* spans,
                         int count, const int32_t* tables) {
    std::vector<float> out(num_rows() * out_stride, -77.0f);
    isa.attention(Params(spans, count, tables, out.data()), context);
    return out;
  }

  bool Sees(const SequenceSpan& span, int64_t token, int64_t key) const {
    const int64_t base = span.kv_length - span.num_tokens;
    const auto depth = [&](int64_t node) { return __builtin_popcountll(span.tree_mask[node]); };
    if (span.mask == MaskKind::kTree) {
      const int64_t position = base + depth(token) - 1;
      if (key < base) return shape_.window == 0 || key > position - shape_.window;
      if (((span.tree_mask[token] >> (key - base)) & 1) == 0) return false;
      return shape_.window == 0 || base + depth(key - base) - 1 > position - shape_.window;
    }
    const int64_t position = base + token;
    if (span.mask == MaskKind::kCausal && key > position) return false;
    return shape_.window == 0 || key > position - shape_.window;
  }

  std::vector<float> Stored(bool is_k, int s, int64_t j, int head) const {
    const DType type = is_k ? shape_.k_type : shape_.v_type;
    const std::vector<float>& rows = is_k ? k_[s] : v_[s];
    const int d_count = shape_.head_dim;
    const float* x = rows.data() + (j * shape_.num_kv_heads + head) * d_count;
    std::vector<float> values(x, x + d_count);
    if (type == DType::kF16) {
      for (float& v : values) v = HalfToFloat(FloatToHalf(v));
    } else if (type == DType::kBF16) {
      for (float& v : values) v = BfloatToFloat(FloatToBfloat(v));
    } else if (type == DType::kQ8_0) {
      const int64_t padded = (d_count + 31) / 32 * 32;
      values.resize(padded, 0.0f);
      std::vector<std::byte> blocks(RowBytes(type, padded));
      FindQuantFormat(type)->encode(values.data(), nullptr, blocks.data(), padded);
      FindQuantFormat(type)->decode(blocks.data(), values.data(), padded);
      values.resize(d_count);
    } else if (type == DType::kQ4_0) {
      for (int d = 0; d < d_count; ++d) values[d] = StoredQ4(is_k, s, j, head, d);
    }
    return values;
  }

  /// A q4_0 value read where KvLayerView's comment says; kv_store's test says how good it is.
  float StoredQ4(bool is_k, int s, int64_t j, int head, int d) const {
    const int64_t row_bytes = (shape_.head_dim + 1) / 2;
    const KvLayerView view = const_cast<AttentionCase*>(this)->cache();
    const std::byte* base =
        is_k ? view.k + table_[s][j / 32] * view.k_block_bytes + head * view.k_head_bytes
             : view.v + table_[s][j / 32] * view.v_block_bytes + head * view.v_head_bytes;
    const int64_t token = j % 32;
    uint16_t scale;
    std::memcpy(&scale, base + row_bytes * 32 + 2 * (d / 32 * 32 + token), 2);
    const std::byte pair = base[is_k ? d / 2 * 32 + token : token * row_bytes + d / 2];
    return static_cast<float>((static_cast<int>(pair) >> (d % 2 * 4) & 15) - 8) *
           HalfToFloat(scale);
  }

  void FillCache() {
    const int n = num_sequences();
    const int64_t blocks = max_blocks_ * n;
    // Start on a line, as pools do; every byte that is not stored reads as NaN.
    const KvLayerView sizes = cache();
    k_cache_.assign(sizes.k_block_bytes * blocks + 64, std::byte{0xff});
    v_cache_.assign(sizes.v_block_bytes * blocks + 64, std::byte{0xff});
    k_shift_ = 64 - reinterpret_cast<uintptr_t>(k_cache_.data()) % 64;
    v_shift_ = 64 - reinterpret_cast<uintptr_t>(v_cache_.data()) % 64;
    std::vector<int32_t> ids(blocks);
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), random_);
    tables_ = ids;
    Context context(1);
    const int64_t kv_row = int64_t{shape_.num_kv_heads} * shape_.head_dim;
    for (int s = 0; s < n; ++s) {
      table_.emplace_back(tables_.begin() + s * max_blocks_,
                          tables_.begin() + (s + 1) * max_blocks_);
      std::vector<int64_t> slots(specs_[s].kv_length);
      for (int64_t j = 0; j < specs_[s].kv_length; ++j) {
        slots[j] = int64_t{tables_[s * max_blocks_ + j / 32]} * 32 + j % 32;
      }
      KvStoreParams store;
      store.k = k_[s].data();
      store.v = v_[s].data();
      store.k_stride = store.v_stride = kv_row;
      store.slots = slots.data();
      store.num_tokens = specs_[s].kv_length;
      store.cache = cache();
      reference::KvStore(store, context);
      // Blocks behind the first query's window are gone.
      if (shape_.window > 0) {
        const int64_t oldest = specs_[s].kv_length - specs_[s].num_tokens + 1 - shape_.window;
        for (int64_t b = 0; (b + 1) * 32 <= oldest; ++b) tables_[s * max_blocks_ + b] = -1;
      }
    }
  }

  CaseShape shape_;
  std::mt19937 random_;
  std::vector<CaseSequence> specs_;
  std::vector<int64_t> first_token_;
  std::vector<std::vector<float>> k_;
  std::vector<std::vector<float>> v_;
  std::vector<std::vector<uint64_t>> tree_;
  std::vector<float> q_;
  std::vector<float> sinks_;
  std::vector<std::byte> k_cache_;
  std::vector<std::byte> v_cache_;
  size_t k_shift_ = 0;
  size_t v_shift_ = 0;
  std::vector<int32_t> tables_;              // -1 where a window has left a block
  std::vector<std::vector<int32_t>> table_;  // of each sequence, whole
  int64_t max_blocks_ = 0;
  float scale_ = 1.0f;
};

}  // namespace ink::test
