#include "model/hf_config.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "formats/quote.h"
#include "model/hf_architectures.h"
#include "model/hf_config_fields.h"

namespace ink {
namespace {

using Json = hf::ConfigJson;
using hf::Describe;
using Fields = hf::ConfigFields;
using hf::Member;

// The largest real ones have some ten thousand bytes.
constexpr uint64_t kMaxConfigBytes = 1 << 20;
constexpr uint64_t kMaxLayers = 4096;

// Builds one HfConfig; the members are what several steps need.
class Parser {
 public:
  Parser(const Fields& in, const HfArchitecture& arch) : in_(in), arch_(arch) {}

  Result<HfConfig> Parse();

 private:
  Status CheckSupported();
  Status Sizes();
  Status Rope();
  Status RopeScaling(const Json* rope, const std::string& kind);
  Status Longrope(const Json* rope);
  Status Experts();
  Status Gemma();
  Result<uint32_t> SlidingPeriod();
  void Warn(std::string text) { out_.warnings.push_back(in_.path() + ": " + std::move(text)); }

  std::string Key(std::string_view suffix) const {
    return std::string(arch_.gguf) + "." + std::string(suffix);
  }
  void U32(std::string_view suffix, uint32_t value) { out_.metadata.SetU32(Key(suffix), value); }
  void F32(std::string_view suffix, float value) { out_.metadata.SetF32(Key(suffix), value); }
  bool IsGemma() const { return arch_.gguf.starts_with("gemma"); }
  Status Unsupported(std::string_view what, std::string_view expected, std::string found) const {
    return ::ink::Unsupported(Mismatch(in_.path(), what, expected, found));
  }

  const Fields& in_;
  const HfArchitecture& arch_;
  HfConfig out_;
  uint32_t layers_ = 0, hidden_ = 0, heads_ = 0, head_dim_ = 0, rope_dim_ = 0;
  uint32_t max_positions_ = 0;
};

Status Parser::CheckSupported() {
  const char* key = in_.Find("hidden_activation") != nullptr ? "hidden_activation" : "hidden_act";
  INK_ASSIGN_OR_RETURN(std::string activation,
                       in_.String(in_.Find(key), key, std::string(arch_.activation)));
  // Old Gemma configs say "gelu" where the models were trained with the tanh form.
  if (activation != arch_.activation &&
      !(IsGemma() && (activation == "gelu" || activation == "gelu_new"))) {
    return Unsupported(key, Quoted(arch_.activation), Quoted(activation));
  }
  if (const Json* quantization = in_.Find("quantization_config")) {
    const Json* method = Member(quantization, "quant_method");
    return Unsupported("quantization_config", "plain f32, f16 or bf16 weights",
                       method != nullptr ? Describe(*method) : "quantized ones");
  }
  return OkStatus();
}

Status Parser::Sizes() {
  INK_ASSIGN_OR_RETURN(layers_, in_.Int("num_hidden_layers", arch_.layers, kMaxLayers));
  INK_ASSIGN_OR_RETURN(max_positions_, in_.Int("max_position_embeddings", arch_.max_positions));
  INK_ASSIGN_OR_RETURN(hidden_, in_.Int("hidden_size", arch_.hidden_size));
  INK_ASSIGN_OR_RETURN(uint32_t feed_forward,
                       in_.Int("intermediate_size", arch_.intermediate_size));
  INK_ASSIGN_OR_RETURN(heads_, in_.Int("num_attention_heads", arch_.heads));
  // A config.json without the field means multi-head attention in the older classes, and in the
  // newer ones where it says null.
  const uint32_t kv_default =
      arch_.kv_heads == 0 || in_.IsNull("num_key_value_heads") ? heads_ : arch_.kv_heads;
  INK_ASSIGN_OR_RETURN(uint32_t kv_heads, in_.Int("num_key_value_heads", kv_default));
  if (heads_ % kv_heads != 0) {
    return Corrupt(Mismatch(in_.path(), "num_key_value_heads",
                            "a divisor of num_attention_heads = " + std::to_string(heads_),
                            std::to_string(kv_heads)));
  }
  const bool says_head_dim = in_.Find("head_dim") != nullptr;
  if (!says_head_dim && arch_.head_dim == 0 && hidden_ % heads_ != 0) {
    return Corrupt(Mismatch(in_.path(), "hidden_size",
                            "a multiple of num_attention_heads = " + std::to_string(heads_),
                            std::to_string(hidden_)));
  }
  const uint32_t default_head_dim = arch_.head_dim != 0 ? arch_.head_dim : hidden_ / heads_;
  INK_ASSIGN_OR_RETURN(head_dim_, in_.Int("head_dim", default_head_dim, 65536));
  if (arch_.gguf == "phi3" && head_dim_ != hidden_ / heads_) {
    return Unsupported("head_dim", std::to_string(hidden_ / heads_), std::to_string(head_dim_));
  }
  INK_ASSIGN_OR_RETURN(out_.vocab_size, in_.Int("vocab_size", arch_.vocab_size));
  INK_ASSIGN_OR_RETURN(out_.tied_embeddings, in_.Bool("tie_word_embeddings", arch_.tied));
  INK_ASSIGN_OR_RETURN(float eps, in_.Number("rms_norm_eps", arch_.rms_eps));

  U32("context_length", max_positions_);
  U32("embedding_length", hidden_);
  U32("block_count", layers_);
  U32("feed_forward_length", feed_forward);
  U32("attention.head_count", heads_);
  U32("attention.head_count_kv", kv_heads);
  F32("attention.layer_norm_rms_epsilon", eps);
  if (arch_.gguf != "phi3" && (says_head_dim || head_dim_ != hidden_ / heads_ || IsGemma())) {
    U32("attention.key_length", head_dim_);
    U32("attention.value_length", head_dim_);
  }
  if (arch_.gguf == "llama") U32("vocab_size", out_.vocab_size);
  return OkStatus();
}

Status Parser::Rope() {
  const Json* rope = in_.Find("rope_parameters");
  if (rope == nullptr) rope = in_.Find("rope_scaling");
  if (rope != nullptr && !rope->is_object()) return in_.Wrong("rope_scaling", "an object", *rope);
  const Json* sliding = Member(rope, "sliding_attention");
  if (const Json* full = Member(rope, "full_attention")) rope = full;

  const Json* theta = Member(rope, "rope_theta");
  INK_ASSIGN_OR_RETURN(float base, in_.NumberOf(theta != nullptr ? theta : in_.Find("rope_theta"),
                                                "rope_theta", arch_.rope_theta));
  const Json* local = Member(sliding, "rope_theta");
  INK_ASSIGN_OR_RETURN(float local_base,
                       in_.NumberOf(local != nullptr ? local : in_.Find("rope_local_base_freq"),
                                    "rope_local_base_freq", 10000.0f));
  const Json* partial = Member(rope, "partial_rotary_factor");
  INK_ASSIGN_OR_RETURN(
      float part, in_.NumberOf(partial != nullptr ? partial : in_.Find("partial_rotary_factor"),
                               "partial_rotary_factor", 1.0f));
  if (!(base > 0) || !(local_base > 0) || !(part > 0) || part > 1) {
    return Corrupt(Mismatch(in_.path(), "rope_theta and partial_rotary_factor",
                            "above 0, the factor at most 1",
                            std::to_string(base) + " and " + std::to_string(part)));
  }
  // A factor such as 0.4 is not exact in binary; the small addend keeps whole products whole.
  rope_dim_ = static_cast<uint32_t>(static_cast<double>(part) * head_dim_ + 1e-3);
  if (part != 1 && arch_.gguf != "phi3") {
    return Unsupported("partial_rotary_factor", "1", std::to_string(part));
  }
  if (rope_dim_ == 0 || rope_dim_ % 2 != 0) {
    return Corrupt(Mismatch(in_.path(), "rotary dimensions of a head", "an even number above 0",
                            std::to_string(rope_dim_)));
  }

  const Json* type = Member(rope, "rope_type");
  if (type == nullptr) type = Member(rope, "type");
  INK_ASSIGN_OR_RETURN(std::string kind, in_.String(type, "rope_type", "default"));
  INK_RETURN_IF_ERROR(RopeScaling(rope, kind));
  F32("rope.freq_base", base);
  if (arch_.gguf == "gemma3") F32("rope.freq_base_swa", local_base);
  if (arch_.gguf == "llama" || arch_.gguf == "phi3") U32("rope.dimension_count", rope_dim_);
  return OkStatus();
}

Status Parser::RopeScaling(const Json* rope, const std::string& kind) {
  if (kind == "default") {
    if (arch_.gguf == "phi3") {
      INK_ASSIGN_OR_RETURN(uint32_t original,
                           in_.Int("original_max_position_embeddings", max_positions_));
      U32("rope.scaling.original_context_length", original);
    }
    return OkStatus();
  }
  if (kind == "dynamic") {
    // The scaling starts beyond the original length, which is what context_length says.
    Warn("dynamic rope scaling is not applied; the context ends at max_position_embeddings");
    return OkStatus();
  }
  if (kind == "longrope" || kind == "su") return Longrope(rope);

  INK_ASSIGN_OR_RETURN(float factor, in_.NumberOf(Member(rope, "factor"), "factor", 0));
  if (!(factor >= 1)) {
    return Corrupt(Mismatch(in_.path(), "factor of rope_scaling", "a number of 1 or more",
                            std::to_string(factor)));
  }
  const Json* original = Member(rope, "original_max_position_embeddings");
  if (original == nullptr) original = in_.Find("original_max_position_embeddings");
  INK_ASSIGN_OR_RETURN(uint32_t original_context,
                       in_.IntOf(original, "original_max_position_embeddings",
                                 kind == "llama3" ? 8192 : max_positions_, hf::kMaxConfigSize, 1));
  if (kind == "linear") {
    out_.metadata.SetString(Key("rope.scaling.type"), "linear");
    F32("rope.scaling.factor", factor);
    return OkStatus();
  }
  if (kind == "llama3" && arch_.gguf == "llama") {
    Llama3Rope llama3{.factor = factor, .original_context = static_cast<float>(original_context)};
    const Json* theta = Member(rope, "rope_theta");
    INK_ASSIGN_OR_RETURN(
        llama3.theta, in_.NumberOf(theta != nullptr ? theta : in_.Find("rope_theta"), "rope_theta",
                                   arch_.rope_theta));
    INK_ASSIGN_OR_RETURN(llama3.low_freq_factor,
                         in_.NumberOf(Member(rope, "low_freq_factor"), "low_freq_factor", 1.0f));
    INK_ASSIGN_OR_RETURN(llama3.high_freq_factor,
                         in_.NumberOf(Member(rope, "high_freq_factor"), "high_freq_factor", 4.0f));
    if (!(llama3.low_freq_factor > 0) || !(llama3.high_freq_factor > llama3.low_freq_factor)) {
      return Corrupt(Mismatch(in_.path(), "high_freq_factor of rope_scaling",
                              "above low_freq_factor, both above 0",
                              std::to_string(llama3.high_freq_factor)));
    }
    // Written by HfConfigText where the formula misses the model's own factors by an ulp.
    INK_ASSIGN_OR_RETURN(out_.rope_freqs,
                         in_.Floats(Member(rope, "exact_factors"), "exact_factors"));
    if (out_.rope_freqs.empty()) out_.rope_freqs = Llama3RopeFactors(llama3, rope_dim_);
    if (out_.rope_freqs.size() != rope_dim_ / 2) {
      return Corrupt(Mismatch(in_.path(), "exact_factors", std::to_string(rope_dim_ / 2),
                              std::to_string(out_.rope_freqs.size())));
    }
    return OkStatus();
  }
  if (kind == "yarn" && !IsGemma()) {
    if (const Json* truncate = Member(rope, "truncate"); truncate && *truncate != Json(true)) {
      return Unsupported("truncate of rope_scaling", "true", Describe(*truncate));
    }
    out_.metadata.SetString(Key("rope.scaling.type"), "yarn");
    F32("rope.scaling.factor", factor);
    U32("rope.scaling.original_context_length", original_context);
    // The library multiplies cos and sin by attention_factor; GGUF's attn_factor comes on top of
    // YaRN's own 1 + 0.1 ln(factor).
    const auto scale = [factor](double m) {
      return factor <= 1 ? 1.0 : 1.0 + 0.1 * m * std::log(static_cast<double>(factor));
    };
    const Json* attention = Member(rope, "attention_factor");
    const Json* mscale = Member(rope, "mscale");
    const Json* mscale_all = Member(rope, "mscale_all_dim");
    if (attention != nullptr) {
      if (!attention->is_number()) return in_.Wrong("attention_factor", "a number", *attention);
      F32("rope.scaling.attn_factor", static_cast<float>(attention->get<double>() / scale(1)));
    } else if (mscale != nullptr && mscale_all != nullptr) {
      if (!mscale->is_number() || !mscale_all->is_number()) {
        return in_.Wrong("mscale", "numbers", *mscale);
      }
      F32("rope.scaling.attn_factor",
          static_cast<float>(scale(mscale->get<double>()) / scale(mscale_all->get<double>()) /
                             scale(1)));
    }
    for (const char* beta : {"beta_fast", "beta_slow"}) {
      if (const Json* value = Member(rope, beta)) {
        INK_ASSIGN_OR_RETURN(float number, in_.NumberOf(value, beta, 0));
        F32(std::string("rope.scaling.yarn_") + beta, number);
      }
    }
    return OkStatus();
  }
  return Unsupported("rope_type for " + std::string(arch_.model_type),
                     "default, linear, dynamic, llama3, yarn or longrope, as the model allows",
                     Quoted(kind));
}

Status Parser::Longrope(const Json* rope) {
  if (arch_.gguf != "phi3" && arch_.gguf != "llama") {
    return Unsupported("rope_type for " + std::string(arch_.model_type), "default, linear or yarn",
                       "\"longrope\"");
  }
  INK_ASSIGN_OR_RETURN(std::vector<float> longs,
                       in_.Floats(Member(rope, "long_factor"), "long_factor"));
  INK_ASSIGN_OR_RETURN(std::vector<float> shorts,
                       in_.Floats(Member(rope, "short_factor"), "short_factor"));
  if (longs.size() != rope_dim_ / 2 || shorts.size() != rope_dim_ / 2) {
    return Corrupt(
        Mismatch(in_.path(), "long_factor and short_factor of rope_scaling",
                 std::to_string(rope_dim_ / 2) + " numbers each",
                 std::to_string(longs.size()) + " and " + std::to_string(shorts.size())));
  }
  const Json* original = Member(rope, "original_max_position_embeddings");
  if (original == nullptr) original = in_.Find("original_max_position_embeddings");
  INK_ASSIGN_OR_RETURN(uint32_t original_context,
                       in_.IntOf(original, "original_max_position_embeddings", max_positions_,
                                 hf::kMaxConfigSize, 1));
  const double scale = static_cast<double>(max_positions_) / original_context;
  const double computed =
      scale <= 1 ? 1.0 : std::sqrt(1 + std::log(scale) / std::log(original_context));
  const Json* given = Member(rope, "attention_factor");
  INK_ASSIGN_OR_RETURN(float attention,
                       in_.NumberOf(given, "attention_factor", static_cast<float>(computed)));
  if (arch_.gguf == "llama" && longs == shorts && attention == 1.0f) {
    out_.rope_freqs = std::move(longs);  // one set of factors at every length
    return OkStatus();
  }
  if (arch_.gguf == "llama") out_.metadata.SetString(Key("rope.scaling.type"), "longrope");
  U32("rope.scaling.original_context_length", original_context);
  F32("rope.scaling.attn_factor", attention);
  out_.rope_long = std::move(longs);
  out_.rope_short = std::move(shorts);
  return OkStatus();
}

Status Parser::Experts() {
  if (arch_.model_type == "mixtral") {
    INK_ASSIGN_OR_RETURN(uint32_t experts, in_.Int("num_local_experts", 8, 65536));
    INK_ASSIGN_OR_RETURN(uint32_t used, in_.Int("num_experts_per_tok", 2, experts));
    U32("expert_count", experts);
    U32("expert_used_count", used);
  }
  if (arch_.model_type != "qwen3_moe") return OkStatus();
  INK_ASSIGN_OR_RETURN(uint32_t experts, in_.Int("num_experts", 128, 65536));
  INK_ASSIGN_OR_RETURN(uint32_t used, in_.Int("num_experts_per_tok", 8, experts));
  INK_ASSIGN_OR_RETURN(uint32_t width, in_.Int("moe_intermediate_size", 768));
  INK_ASSIGN_OR_RETURN(bool normalized, in_.Bool("norm_topk_prob", false));
  INK_ASSIGN_OR_RETURN(uint32_t step, in_.Int("decoder_sparse_step", 1));
  const Json* dense = in_.Find("mlp_only_layers");
  if (!normalized) return Unsupported("norm_topk_prob", "true", "false");
  if (step != 1) return Unsupported("decoder_sparse_step", "1", std::to_string(step));
  if (dense != nullptr && !(dense->is_array() && dense->empty())) {
    return Unsupported("mlp_only_layers", "none", Describe(*dense));
  }
  U32("expert_count", experts);
  U32("expert_used_count", used);
  U32("expert_feed_forward_length", width);
  return OkStatus();
}

// Every n-th layer is full attention, the others slide; found from layer_types or the pattern.
Result<uint32_t> Parser::SlidingPeriod() {
  const char* key = "sliding_window_pattern";
  if (in_.Find(key) == nullptr) key = "_sliding_window_pattern";
  INK_ASSIGN_OR_RETURN(uint32_t period, in_.Int(key, arch_.swa_period));
  const Json* types = in_.Find("layer_types");
  if (types == nullptr) return period;
  if (!types->is_array() || types->size() != layers_) {
    return in_.Wrong("layer_types", "an array of " + std::to_string(layers_), *types);
  }
  std::vector<bool> full;
  for (const Json& type : *types) {
    if (type != Json("full_attention") && type != Json("sliding_attention")) {
      return in_.Wrong("layer_types", "\"full_attention\" or \"sliding_attention\"", type);
    }
    full.push_back(type == Json("full_attention"));
  }
  const auto matches = [&full](uint32_t n) {
    for (size_t i = 0; i < full.size(); ++i) {
      if (full[i] != ((i + 1) % n == 0)) return false;
    }
    return true;
  };
  if (matches(period)) return period;
  for (uint32_t n = 1; n <= layers_ + 1; ++n) {
    if (matches(n)) return n;
  }
  return Unsupported("layer_types", "full attention in every n-th layer", "another arrangement");
}

Status Parser::Gemma() {
  INK_ASSIGN_OR_RETURN(uint32_t window, in_.Int("sliding_window", 4096, hf::kMaxConfigSize, 0));
  INK_ASSIGN_OR_RETURN(uint32_t period, SlidingPeriod());
  if (in_.IsNull("sliding_window") || window == 0 || period == 1) {
    // Full attention everywhere. Gemma 2 has a window by default, so it must be denied.
    if (arch_.gguf == "gemma2") U32("attention.sliding_window", 0);
  } else {
    U32("attention.sliding_window", window);
    if (period != arch_.swa_period) U32("attention.sliding_window_pattern", period);
  }

  INK_ASSIGN_OR_RETURN(float scalar, in_.Number("query_pre_attn_scalar", 256.0f));
  const bool by_width = GemmaScalesByWidth(arch_.gguf, layers_);
  const uint32_t expected = by_width ? hidden_ / heads_ : head_dim_;
  if (!(scalar > 0)) {
    return Corrupt(
        Mismatch(in_.path(), "query_pre_attn_scalar", "a number above 0", std::to_string(scalar)));
  }
  if (scalar != static_cast<float>(expected)) F32("attention.scale", 1.0f / std::sqrt(scalar));

  const float attention_default = arch_.gguf == "gemma2" ? 50.0f : 0.0f;
  const float final_default = arch_.gguf == "gemma2" ? 30.0f : 0.0f;
  INK_ASSIGN_OR_RETURN(float attention_cap,
                       in_.Number("attn_logit_softcapping",
                                  in_.IsNull("attn_logit_softcapping") ? 0 : attention_default));
  INK_ASSIGN_OR_RETURN(float final_cap,
                       in_.Number("final_logit_softcapping",
                                  in_.IsNull("final_logit_softcapping") ? 0 : final_default));
  if (arch_.gguf == "gemma2" && (!(attention_cap > 0) || !(final_cap > 0))) {
    return Unsupported("attn_logit_softcapping and final_logit_softcapping", "numbers above 0",
                       std::to_string(attention_cap) + " and " + std::to_string(final_cap));
  }
  if (arch_.gguf == "gemma3" && attention_cap != 0) {
    return Unsupported("attn_logit_softcapping", "none", std::to_string(attention_cap));
  }
  if (attention_cap != 0) F32("attn_logit_softcapping", attention_cap);
  if (final_cap != 0) F32("final_logit_softcapping", final_cap);
  return OkStatus();
}

Result<HfConfig> Parser::Parse() {
  out_.metadata = Metadata(in_.path());
  out_.metadata.SetString("general.architecture", arch_.gguf);
  out_.metadata.SetString("general.type", "model");
  if (const Json* name = in_.Find("_name_or_path"); name != nullptr && name->is_string()) {
    const std::string& text = name->get_ref<const std::string&>();
    const std::string last = text.substr(text.rfind('/') + 1);
    if (!last.empty()) out_.metadata.SetString("general.name", last);
  }
  INK_RETURN_IF_ERROR(CheckSupported());
  INK_RETURN_IF_ERROR(Sizes());
  INK_RETURN_IF_ERROR(Rope());
  INK_RETURN_IF_ERROR(Experts());
  if (IsGemma()) INK_RETURN_IF_ERROR(Gemma());

  if (arch_.gguf == "phi3" || arch_.gguf == "llama" || arch_.gguf.starts_with("qwen")) {
    // Qwen models have the field but use it only where a second one says so.
    INK_ASSIGN_OR_RETURN(bool uses,
                         in_.Bool("use_sliding_window", !arch_.gguf.starts_with("qwen")));
    INK_ASSIGN_OR_RETURN(uint32_t window, in_.Int("sliding_window", 0, hf::kMaxConfigSize, 0));
    if (arch_.gguf == "phi3") U32("attention.sliding_window", window);
    if (uses && arch_.gguf != "phi3" && window > 0 && window < max_positions_) {
      Warn("the sliding window of " + std::to_string(window) +
           " positions is not applied; longer contexts are attended to in full");
    }
  }
  return std::move(out_);
}

}  // namespace

std::vector<float> Llama3RopeFactors(const Llama3Rope& rope, uint32_t rope_dim) {
  const float low_wavelength = rope.original_context / rope.low_freq_factor;
  const float high_wavelength = rope.original_context / rope.high_freq_factor;
  std::vector<float> factors;
  for (uint32_t i = 0; i < rope_dim; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(rope_dim);
    const float frequency = 1.0f / std::pow(rope.theta, exponent);
    const float wavelength = static_cast<float>(2 * M_PI) / frequency;
    if (wavelength < high_wavelength) {
      factors.push_back(1.0f);
    } else if (wavelength > low_wavelength) {
      factors.push_back(rope.factor);
    } else {
      const float smooth = (rope.original_context / wavelength - rope.low_freq_factor) /
                           (rope.high_freq_factor - rope.low_freq_factor);
      factors.push_back(1.0f / ((1.0f - smooth) / rope.factor + smooth));
    }
  }
  return factors;
}

Result<HfConfig> ParseHfConfig(std::string_view json, const std::string& path) {
  if (json.size() > kMaxConfigBytes) {
    return Corrupt(Mismatch(path, "size", "at most " + std::to_string(kMaxConfigBytes) + " bytes",
                            std::to_string(json.size())));
  }
  const Json root = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (root.is_discarded()) return Corrupt(Mismatch(path, "content", "valid JSON", "an error"));
  if (!root.is_object()) return Corrupt(Mismatch(path, "content", "an object", Describe(root)));
  const Fields fields(root, path);
  if (fields.text() != nullptr && !fields.text()->is_object()) {
    return fields.Wrong("text_config", "an object", *fields.text());
  }
  // Multimodal models nest the language model; only that part is read.
  const Json* type = Member(fields.text(), "model_type");
  if (type == nullptr) type = Member(&root, "model_type");
  INK_ASSIGN_OR_RETURN(std::string model_type, fields.String(type, "model_type", ""));
  if (model_type == "gemma3") model_type = "gemma3_text";
  const HfArchitecture* arch = FindHfArchitecture(model_type);
  if (arch == nullptr) {
    std::string known = "one of";
    for (const HfArchitecture& row : kHfArchitectures) known += " " + std::string(row.model_type);
    return Unsupported(
        Mismatch(path, "model_type", known, type == nullptr ? "none" : Quoted(model_type)));
  }
  return Parser(fields, *arch).Parse();
}

Result<HfConfig> ReadHfConfig(const std::string& folder) {
  const std::string path = folder + "/config.json";
  INK_ASSIGN_OR_RETURN(std::string text, ReadFile(path, kMaxConfigBytes));
  return ParseHfConfig(text, path);
}

}  // namespace ink
