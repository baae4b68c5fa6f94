#include "model/config.h"

#include <cmath>

#include "model/model_loader.h"

namespace ink {
namespace {

// Bounds that no real model reaches; beyond them sizes could overflow or loops never end.
constexpr uint64_t kMaxLayers = 1 << 12;
constexpr uint64_t kMaxDim = 1 << 20;
constexpr uint64_t kMaxHeads = 1 << 12;
constexpr uint64_t kMaxContext = uint64_t{1} << 31;

class Reader {
 public:
  Reader(const Metadata& metadata, std::string prefix)
      : metadata_(metadata), prefix_(std::move(prefix)) {}

  Result<uint64_t> Bounded(const std::string& key, uint64_t low, uint64_t high) const {
    INK_ASSIGN_OR_RETURN(uint64_t value, metadata_.GetU64(prefix_ + key));
    return Check(key, value, low, high);
  }
  Result<uint64_t> Bounded(const std::string& key, uint64_t low, uint64_t high,
                           uint64_t fallback) const {
    return metadata_.Has(prefix_ + key) ? Bounded(key, low, high) : Result<uint64_t>(fallback);
  }
  /// A per-layer value that Inkstone wants to be the same in all layers.
  Result<uint64_t> Uniform(const std::string& key, int layers, uint64_t low, uint64_t high) const {
    INK_ASSIGN_OR_RETURN(std::vector<uint32_t> values,
                         metadata_.GetU32PerLayer(prefix_ + key, layers));
    for (uint32_t v : values) {
      if (v != values[0]) {
        return Unsupported(metadata_.source() + ": " + prefix_ + key +
                           ": expected the same value in all layers, got " +
                           std::to_string(values[0]) + " and " + std::to_string(v));
      }
    }
    return Check(key, values[0], low, high);
  }

 private:
  Result<uint64_t> Check(const std::string& key, uint64_t value, uint64_t low,
                         uint64_t high) const {
    if (value < low || value > high) {
      return Corrupt(metadata_.source() + ": " + prefix_ + key + ": expected " +
                     std::to_string(low) + " to " + std::to_string(high) + ", got " +
                     std::to_string(value));
    }
    return value;
  }
  const Metadata& metadata_;
  std::string prefix_;
};

}  // namespace

Result<DecoderConfig> ReadDecoderConfig(const ModelLoader& loader) {
  const Metadata& m = loader.metadata();
  DecoderConfig c;
  INK_ASSIGN_OR_RETURN(std::string_view arch, m.GetString("general.architecture"));
  c.prefix = arch;
  Reader r(m, c.prefix + ".");
  INK_ASSIGN_OR_RETURN(uint64_t layers, r.Bounded("block_count", 1, kMaxLayers));
  c.num_layers = static_cast<int>(layers);
  INK_ASSIGN_OR_RETURN(uint64_t dim, r.Bounded("embedding_length", 1, kMaxDim));
  c.d_model = static_cast<int64_t>(dim);
  INK_ASSIGN_OR_RETURN(uint64_t heads,
                       r.Uniform("attention.head_count", c.num_layers, 1, kMaxHeads));
  c.num_heads = static_cast<int>(heads);
  c.num_kv_heads = c.num_heads;
  if (m.Has(c.prefix + ".attention.head_count_kv")) {
    INK_ASSIGN_OR_RETURN(uint64_t kv, r.Uniform("attention.head_count_kv", c.num_layers, 1, heads));
    c.num_kv_heads = static_cast<int>(kv);
  }
  if (c.num_heads % c.num_kv_heads != 0) {
    return Corrupt(m.source() + ": " + c.prefix +
                   ".attention.head_count_kv: expected a divisor of " +
                   std::to_string(c.num_heads) + ", got " + std::to_string(c.num_kv_heads));
  }
  INK_ASSIGN_OR_RETURN(uint64_t head_dim, r.Bounded("attention.key_length", 1, 256, dim / heads));
  INK_ASSIGN_OR_RETURN(uint64_t value_dim, r.Bounded("attention.value_length", 1, 256, head_dim));
  if (head_dim == 0 || head_dim > 256) {
    return Unsupported(m.source() + ": head size: expected 1 to 256, got " +
                       std::to_string(head_dim));
  }
  if (value_dim != head_dim) {
    return Unsupported(m.source() + ": " + c.prefix + ".attention.value_length: expected " +
                       std::to_string(head_dim) + " (key_length), got " +
                       std::to_string(value_dim));
  }
  c.head_dim = static_cast<int>(head_dim);
  INK_ASSIGN_OR_RETURN(uint64_t rotary, r.Bounded("rope.dimension_count", 2, head_dim, head_dim));
  if (rotary % 2 != 0) {
    return Corrupt(m.source() + ": " + c.prefix +
                   ".rope.dimension_count: expected an even number, " + "got " +
                   std::to_string(rotary));
  }
  c.rotary_dim = static_cast<int>(rotary);
  INK_ASSIGN_OR_RETURN(uint64_t ffn,
                       r.Uniform("feed_forward_length", c.num_layers, 1, 4 * kMaxDim));
  c.ffn_dim = static_cast<int64_t>(ffn);
  INK_ASSIGN_OR_RETURN(c.eps, m.GetFloat(c.prefix + ".attention.layer_norm_rms_epsilon", 1e-5f));
  if (!(c.eps > 0) || !std::isfinite(c.eps)) {
    return Corrupt(m.source() + ": " + c.prefix +
                   ".attention.layer_norm_rms_epsilon: expected a positive number, got " +
                   std::to_string(c.eps));
  }
  INK_ASSIGN_OR_RETURN(uint64_t context, r.Bounded("context_length", 1, kMaxContext));
  c.context_length = static_cast<int64_t>(context);
  INK_ASSIGN_OR_RETURN(uint64_t window, r.Bounded("attention.sliding_window", 0, kMaxContext, 0));
  c.sliding_window = static_cast<int64_t>(window);
  INK_ASSIGN_OR_RETURN(uint64_t experts, r.Bounded("expert_count", 0, 4096, 0));
  c.num_experts = static_cast<int>(experts);
  if (c.num_experts > 0) {
    INK_ASSIGN_OR_RETURN(uint64_t used, r.Bounded("expert_used_count", 1, experts));
    c.experts_per_token = static_cast<int>(used);
    INK_ASSIGN_OR_RETURN(uint64_t expert_ffn,
                         r.Bounded("expert_feed_forward_length", 1, 4 * kMaxDim, ffn));
    c.expert_ffn_dim = static_cast<int64_t>(expert_ffn);
  }
  INK_ASSIGN_OR_RETURN(c.n_vocab, loader.RowsOf("token_embd.weight"));
  return c;
}

}  // namespace ink
