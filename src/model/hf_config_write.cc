#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>

#include "formats/quote.h"
#include "model/hf_architectures.h"
#include "model/hf_config.h"

namespace ink {
namespace {

using OrderedJson = nlohmann::ordered_json;

// The double with the shortest decimal form that is read back as this very float: 1e-05 instead of
// 9.999999747378752e-06.
double Shortest(float value) {
  char text[64];
  const auto end = std::to_chars(text, text + sizeof(text) - 1, value);
  *end.ptr = '\0';
  const double number = std::strtod(text, nullptr);
  return static_cast<float>(number) == value ? number : static_cast<double>(value);
}

OrderedJson Array(const std::vector<float>& values) {
  OrderedJson out = OrderedJson::array();
  for (float value : values) out.push_back(Shortest(value));
  return out;
}

// Llama 3's parameters whose factors come near `factors`, if there are any: the published models
// share all but the factor, which is the one of the longest wavelengths.
std::optional<Llama3Rope> FindLlama3Rope(const std::vector<float>& factors, float theta) {
  Llama3Rope rope{.theta = theta, .factor = factors.back()};
  const std::vector<float> computed =
      Llama3RopeFactors(rope, static_cast<uint32_t>(2 * factors.size()));
  for (size_t i = 0; i < factors.size(); ++i) {
    if (!(std::abs(computed[i] - factors[i]) <= 1e-5f * std::abs(factors[i]))) return std::nullopt;
  }
  return rope;
}

class Writer {
 public:
  Writer(const Metadata& in, const HfConfigExtras& extras) : in_(in), extras_(extras) {}

  Result<std::string> Write();

 private:
  Status Choose();
  Status Sizes();
  Status Rope();
  Status LongRope();
  Status Experts();
  Status Gemma();
  Status Tokens();

  std::string Key(std::string_view suffix) const { return gguf_ + "." + std::string(suffix); }
  Result<uint32_t> U32(std::string_view suffix) const { return in_.GetU32(Key(suffix)); }
  Result<uint32_t> U32(std::string_view suffix, uint32_t fallback) const {
    return in_.GetU32(Key(suffix), fallback);
  }
  Result<float> F32(std::string_view suffix, float fallback) const {
    return in_.GetFloat(Key(suffix), fallback);
  }
  // A value that is one for all layers; arrays that differ by layer have no Hugging Face form here.
  Result<uint32_t> Uniform(std::string_view suffix);
  Status Unsupported(std::string_view what, std::string_view expected, std::string found) const {
    return ::ink::Unsupported(Mismatch(in_.source(), what, expected, found));
  }
  bool IsGemma() const { return gguf_.starts_with("gemma"); }

  const Metadata& in_;
  const HfConfigExtras& extras_;
  OrderedJson out_;
  std::string gguf_;
  const HfArchitecture* arch_ = nullptr;
  uint32_t layers_ = 0, hidden_ = 0, heads_ = 0, head_dim_ = 0, context_ = 0;
};

Status Writer::Choose() {
  INK_ASSIGN_OR_RETURN(std::string_view gguf, in_.GetString("general.architecture"));
  gguf_ = gguf;
  INK_ASSIGN_OR_RETURN(uint32_t experts, U32("expert_count", 0));
  for (const HfArchitecture& row : kHfArchitectures) {
    // Mistral and Mixtral share GGUF's "llama"; experts alone tell the latter.
    const bool has_experts = row.model_type == "mixtral" || row.model_type == "qwen3_moe";
    if (row.gguf == gguf_ && has_experts == (experts > 0)) {
      arch_ = &row;
      return OkStatus();
    }
  }
  std::string known = "one of";
  for (const HfArchitecture& row : kHfArchitectures) known += " " + std::string(row.gguf);
  return Unsupported("general.architecture", known,
                     Quoted(gguf_) + (experts > 0 ? " with experts" : ""));
}

Result<uint32_t> Writer::Uniform(std::string_view suffix) {
  INK_ASSIGN_OR_RETURN(std::vector<uint32_t> values, in_.GetU32PerLayer(Key(suffix), layers_));
  for (uint32_t value : values) {
    if (value != values[0]) {
      return Unsupported(Key(suffix), "the same value for every layer",
                         std::to_string(values[0]) + " and " + std::to_string(value));
    }
  }
  return values[0];
}

Status Writer::Sizes() {
  INK_ASSIGN_OR_RETURN(layers_, U32("block_count"));
  if (layers_ == 0 || layers_ > 4096) {
    return Corrupt(
        Mismatch(in_.source(), Key("block_count"), "1 to 4096", std::to_string(layers_)));
  }
  INK_ASSIGN_OR_RETURN(context_, U32("context_length"));
  INK_ASSIGN_OR_RETURN(hidden_, U32("embedding_length"));
  INK_ASSIGN_OR_RETURN(uint32_t feed_forward, Uniform("feed_forward_length"));
  INK_ASSIGN_OR_RETURN(heads_, Uniform("attention.head_count"));
  uint32_t kv_heads = heads_;
  if (in_.Has(Key("attention.head_count_kv"))) {
    INK_ASSIGN_OR_RETURN(kv_heads, Uniform("attention.head_count_kv"));
  }
  if (heads_ == 0 || kv_heads == 0 || hidden_ == 0) {
    return Corrupt(Mismatch(in_.source(), Key("attention.head_count"),
                            "heads, key-value heads and width above 0",
                            std::to_string(heads_) + ", " + std::to_string(kv_heads) + " and " +
                                std::to_string(hidden_)));
  }
  INK_ASSIGN_OR_RETURN(head_dim_, U32("attention.key_length", hidden_ / heads_));
  INK_ASSIGN_OR_RETURN(uint32_t value_dim, U32("attention.value_length", hidden_ / heads_));
  if (head_dim_ != value_dim) {
    return Unsupported(Key("attention.value_length"),
                       std::to_string(head_dim_) + ", the key length", std::to_string(value_dim));
  }
  if (arch_->gguf == "phi3" && head_dim_ * heads_ != hidden_) {
    return Unsupported(Key("attention.key_length"), std::to_string(hidden_ / heads_),
                       std::to_string(head_dim_));
  }
  INK_ASSIGN_OR_RETURN(float eps, F32("attention.layer_norm_rms_epsilon", arch_->rms_eps));

  out_["vocab_size"] = extras_.vocab_size;
  out_["hidden_size"] = hidden_;
  out_["intermediate_size"] = feed_forward;
  out_["num_hidden_layers"] = layers_;
  out_["num_attention_heads"] = heads_;
  out_["num_key_value_heads"] = kv_heads;
  if (arch_->gguf != "phi3") out_["head_dim"] = head_dim_;
  out_[IsGemma() ? "hidden_activation" : "hidden_act"] = std::string(arch_->activation);
  out_["max_position_embeddings"] = context_;
  out_["rms_norm_eps"] = Shortest(eps);
  out_["tie_word_embeddings"] = extras_.tied_embeddings;
  if (arch_->gguf != "qwen2") out_["attention_bias"] = extras_.attention_bias;
  if (arch_->model_type == "llama") out_["mlp_bias"] = extras_.mlp_bias;
  return OkStatus();
}

Status Writer::Rope() {
  INK_ASSIGN_OR_RETURN(float theta, F32("rope.freq_base", 10000.0f));
  INK_ASSIGN_OR_RETURN(uint32_t rope_dim, U32("rope.dimension_count", head_dim_));
  out_["rope_theta"] = Shortest(theta);
  if (arch_->gguf == "gemma3") {
    INK_ASSIGN_OR_RETURN(float local, F32("rope.freq_base_swa", 10000.0f));
    out_["rope_local_base_freq"] = Shortest(local);
  }
  if (rope_dim != head_dim_) {
    if (arch_->gguf != "phi3") {
      return Unsupported(Key("rope.dimension_count"), std::to_string(head_dim_),
                         std::to_string(rope_dim));
    }
    out_["partial_rotary_factor"] = static_cast<double>(rope_dim) / head_dim_;
  }
  if (arch_->gguf == "phi3" || !extras_.rope_long.empty() || !extras_.rope_short.empty()) {
    return LongRope();
  }

  if (!extras_.rope_freqs.empty()) {
    if (extras_.rope_freqs.size() != rope_dim / 2) {
      return Corrupt(Mismatch(in_.source(), "rope_freqs.weight",
                              std::to_string(rope_dim / 2) + " values",
                              std::to_string(extras_.rope_freqs.size())));
    }
    if (arch_->gguf != "llama") {
      return Unsupported("rope_freqs.weight", "none for " + gguf_, "one");
    }
    OrderedJson& rope = out_["rope_scaling"] = OrderedJson::object();
    if (std::optional<Llama3Rope> llama3 = FindLlama3Rope(extras_.rope_freqs, theta)) {
      rope["rope_type"] = "llama3";
      rope["factor"] = Shortest(llama3->factor);
      rope["low_freq_factor"] = Shortest(llama3->low_freq_factor);
      rope["high_freq_factor"] = Shortest(llama3->high_freq_factor);
      rope["original_max_position_embeddings"] = static_cast<uint32_t>(llama3->original_context);
      if (Llama3RopeFactors(*llama3, rope_dim) != extras_.rope_freqs) {
        rope["exact_factors"] = Array(extras_.rope_freqs);
      }
    } else {
      // Any factors at all: long rope with the same ones for every length and no extra scale.
      rope["rope_type"] = "longrope";
      rope["factor"] = 1.0;
      rope["attention_factor"] = 1.0;
      rope["original_max_position_embeddings"] = context_;
      rope["long_factor"] = Array(extras_.rope_freqs);
      rope["short_factor"] = Array(extras_.rope_freqs);
    }
    return OkStatus();
  }

  INK_ASSIGN_OR_RETURN(std::string_view type, in_.GetString(Key("rope.scaling.type"), "none"));
  INK_ASSIGN_OR_RETURN(float legacy, F32("rope.scale_linear", 0.0f));
  INK_ASSIGN_OR_RETURN(float factor, F32("rope.scaling.factor", legacy));
  if (type == "none" || factor == 0) {
    if (type == "longrope") {
      return Unsupported(Key("rope.scaling.type"), "linear or yarn for " + gguf_, "\"longrope\"");
    }
    if (!(legacy > 0)) return OkStatus();
    type = "linear";
    factor = legacy;
  }
  OrderedJson& rope = out_["rope_scaling"] = OrderedJson::object();
  rope["rope_type"] = std::string(type);
  rope["factor"] = Shortest(factor);
  if (type == "linear") return OkStatus();
  if (type != "yarn") {
    return Unsupported(Key("rope.scaling.type"), "none, linear or yarn", Quoted(type));
  }
  INK_ASSIGN_OR_RETURN(uint32_t original, U32("rope.scaling.original_context_length", context_));
  rope["original_max_position_embeddings"] = original;
  if (in_.Has(Key("rope.scaling.attn_factor"))) {
    INK_ASSIGN_OR_RETURN(float attention, F32("rope.scaling.attn_factor", 1.0f));
    // See ParseHfConfig: the library's factor includes YaRN's own.
    const double own = factor <= 1 ? 1.0 : 1.0 + 0.1 * std::log(static_cast<double>(factor));
    rope["attention_factor"] = static_cast<double>(attention) * own;
  }
  for (const char* beta : {"beta_fast", "beta_slow"}) {
    const std::string suffix = std::string("rope.scaling.yarn_") + beta;
    if (!in_.Has(Key(suffix))) continue;
    INK_ASSIGN_OR_RETURN(float value, F32(suffix, 0.0f));
    rope[beta] = Shortest(value);
  }
  return OkStatus();
}

Status Writer::LongRope() {
  if (arch_->gguf != "phi3" && arch_->gguf != "llama") {
    return Unsupported("rope_factors_long.weight", "none for " + gguf_, "one");
  }
  INK_ASSIGN_OR_RETURN(uint32_t original, U32("rope.scaling.original_context_length", context_));
  out_["original_max_position_embeddings"] = original;
  if (extras_.rope_long.empty() != extras_.rope_short.empty()) {
    return Corrupt(Mismatch(in_.source(), "rope_factors_long.weight and rope_factors_short.weight",
                            "both or none", "one of them"));
  }
  if (extras_.rope_long.empty()) return OkStatus();
  OrderedJson& rope = out_["rope_scaling"] = OrderedJson::object();
  rope["type"] = "longrope";
  rope["long_factor"] = Array(extras_.rope_long);
  rope["short_factor"] = Array(extras_.rope_short);
  // The library computes the attention factor from the lengths unless it is told.
  const double scale = static_cast<double>(context_) / original;
  const float computed =
      static_cast<float>(scale <= 1 ? 1.0 : std::sqrt(1 + std::log(scale) / std::log(original)));
  INK_ASSIGN_OR_RETURN(float attention, F32("rope.scaling.attn_factor", 1.0f));
  if (attention != computed) rope["attention_factor"] = Shortest(attention);
  return OkStatus();
}

Status Writer::Experts() {
  INK_ASSIGN_OR_RETURN(uint32_t experts, U32("expert_count", 0));
  if (experts == 0) return OkStatus();
  INK_ASSIGN_OR_RETURN(uint32_t used, U32("expert_used_count"));
  out_["num_experts_per_tok"] = used;
  if (arch_->model_type == "mixtral") {
    out_["num_local_experts"] = experts;
    INK_ASSIGN_OR_RETURN(uint32_t feed_forward, Uniform("feed_forward_length"));
    INK_ASSIGN_OR_RETURN(uint32_t width, U32("expert_feed_forward_length", feed_forward));
    out_["intermediate_size"] = width;
    return OkStatus();
  }
  INK_ASSIGN_OR_RETURN(uint32_t width, U32("expert_feed_forward_length"));
  out_["num_experts"] = experts;
  out_["moe_intermediate_size"] = width;
  out_["norm_topk_prob"] = true;
  out_["decoder_sparse_step"] = 1;
  out_["mlp_only_layers"] = OrderedJson::array();
  return OkStatus();
}

Status Writer::Gemma() {
  INK_ASSIGN_OR_RETURN(uint32_t window,
                       U32("attention.sliding_window", arch_->gguf == "gemma2" ? 4096 : 0));
  INK_ASSIGN_OR_RETURN(uint32_t period, U32("attention.sliding_window_pattern", arch_->swa_period));
  if (window == 0) period = 1;
  out_["sliding_window"] = window == 0 ? OrderedJson() : OrderedJson(window);
  if (arch_->gguf == "gemma3") out_["sliding_window_pattern"] = period;
  OrderedJson types = OrderedJson::array();
  for (uint32_t i = 0; i < layers_; ++i) {
    const bool full = period != 0 && (i + 1) % period == 0;
    types.push_back(full ? "full_attention" : "sliding_attention");
  }
  out_["layer_types"] = types;

  const uint32_t by_default =
      GemmaScalesByWidth(arch_->gguf, layers_) ? hidden_ / heads_ : head_dim_;
  INK_ASSIGN_OR_RETURN(float scale, F32("attention.scale", 0.0f));
  const double scalar = scale > 0 ? 1.0 / (static_cast<double>(scale) * scale) : by_default;
  // The scalar is a whole number in every published model.
  const double whole = std::round(scalar);
  out_["query_pre_attn_scalar"] = std::abs(scalar - whole) < 1e-3
                                      ? OrderedJson(static_cast<uint64_t>(whole))
                                      : OrderedJson(scalar);
  INK_ASSIGN_OR_RETURN(float attention_cap,
                       F32("attn_logit_softcapping", arch_->gguf == "gemma2" ? 50.0f : 0.0f));
  INK_ASSIGN_OR_RETURN(float final_cap,
                       F32("final_logit_softcapping", arch_->gguf == "gemma2" ? 30.0f : 0.0f));
  out_["attn_logit_softcapping"] =
      attention_cap > 0 ? OrderedJson(Shortest(attention_cap)) : OrderedJson();
  out_["final_logit_softcapping"] =
      final_cap > 0 ? OrderedJson(Shortest(final_cap)) : OrderedJson();
  return OkStatus();
}

Status Writer::Tokens() {
  for (const char* kind : {"bos", "eos"}) {
    const std::string key = "tokenizer.ggml." + std::string(kind) + "_token_id";
    if (!in_.Has(key)) continue;
    INK_ASSIGN_OR_RETURN(uint32_t id, in_.GetU32(key));
    out_[std::string(kind) + "_token_id"] = id;
  }
  return OkStatus();
}

Result<std::string> Writer::Write() {
  INK_RETURN_IF_ERROR(Choose());
  INK_ASSIGN_OR_RETURN(std::string_view name, in_.GetString("general.name", ""));
  if (!name.empty()) out_["_name_or_path"] = std::string(name);
  out_["architectures"] = {std::string(arch_->class_name)};
  out_["model_type"] = std::string(arch_->model_type);
  out_["torch_dtype"] = extras_.dtype == DType::kF32   ? "float32"
                        : extras_.dtype == DType::kF16 ? "float16"
                                                       : "bfloat16";
  INK_RETURN_IF_ERROR(Sizes());
  INK_RETURN_IF_ERROR(Rope());
  INK_RETURN_IF_ERROR(Experts());
  if (IsGemma()) INK_RETURN_IF_ERROR(Gemma());
  if (arch_->gguf == "phi3") {
    INK_ASSIGN_OR_RETURN(uint32_t window, U32("attention.sliding_window", 0));
    out_["sliding_window"] = window == 0 ? OrderedJson() : OrderedJson(window);
  }
  if (arch_->gguf.starts_with("qwen")) out_["use_sliding_window"] = false;
  if (arch_->gguf == "llama" && arch_->model_type == "mixtral") out_["sliding_window"] = nullptr;
  INK_RETURN_IF_ERROR(Tokens());
  // A name from the file may hold bytes that are not UTF-8; they become U+FFFD.
  return out_.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

}  // namespace

Result<std::string> HfConfigText(const Metadata& metadata, const HfConfigExtras& extras) {
  return Writer(metadata, extras).Write();
}

std::string HfGenerationConfigText(const Metadata& metadata) {
  OrderedJson out;
  out["_from_model_config"] = true;
  const auto id = [&metadata](std::string_view kind) -> std::optional<uint32_t> {
    Result<uint32_t> value = metadata.GetU32("tokenizer.ggml." + std::string(kind) + "_token_id");
    return value.ok() ? std::optional(*value) : std::nullopt;
  };
  if (std::optional<uint32_t> bos = id("bos")) out["bos_token_id"] = *bos;
  // Generation ends at the text's end, a turn's end and a message's end.
  std::vector<uint32_t> ends;
  for (std::string_view kind : {"eos", "eot", "eom"}) {
    std::optional<uint32_t> end = id(kind);
    if (end && std::find(ends.begin(), ends.end(), *end) == ends.end()) ends.push_back(*end);
  }
  if (ends.size() == 1) out["eos_token_id"] = ends[0];
  if (ends.size() > 1) out["eos_token_id"] = ends;
  if (std::optional<uint32_t> pad = id("padding")) out["pad_token_id"] = *pad;
  return out.dump(2) + "\n";
}

}  // namespace ink
