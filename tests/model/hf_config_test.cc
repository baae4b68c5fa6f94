#include "model/hf_config.h"

#include <gtest/gtest.h>

#include <cmath>

namespace ink {
namespace {

// The config.json files below are those of the published models, without fields that say nothing
// about the architecture.
constexpr const char* kLlama32 = R"({"architectures":["LlamaForCausalLM"],"attention_bias":false,
 "head_dim":64,"hidden_act":"silu","hidden_size":2048,"intermediate_size":8192,
 "max_position_embeddings":131072,"mlp_bias":false,"model_type":"llama","num_attention_heads":32,
 "num_hidden_layers":16,"num_key_value_heads":8,"rms_norm_eps":1e-05,
 "rope_scaling":{"factor":32.0,"high_freq_factor":4.0,"low_freq_factor":1.0,
 "original_max_position_embeddings":8192,"rope_type":"llama3"},"rope_theta":500000.0,
 "tie_word_embeddings":true,"torch_dtype":"bfloat16","vocab_size":128256})";
constexpr const char* kLlama2 = R"({"architectures":["LlamaForCausalLM"],"hidden_act":"silu",
 "hidden_size":4096,"intermediate_size":11008,"max_position_embeddings":4096,"model_type":"llama",
 "num_attention_heads":32,"num_hidden_layers":32,"rms_norm_eps":1e-05,"rope_scaling":null,
 "tie_word_embeddings":false,"vocab_size":32000})";
constexpr const char* kMistral = R"({"architectures":["MistralForCausalLM"],"hidden_act":"silu",
 "hidden_size":4096,"intermediate_size":14336,"max_position_embeddings":32768,
 "model_type":"mistral","num_attention_heads":32,"num_hidden_layers":32,"num_key_value_heads":8,
 "rms_norm_eps":1e-05,"rope_theta":10000.0,"sliding_window":4096,"tie_word_embeddings":false,
 "vocab_size":32000})";
constexpr const char* kMixtral = R"({"architectures":["MixtralForCausalLM"],"hidden_act":"silu",
 "hidden_size":4096,"intermediate_size":14336,"max_position_embeddings":32768,
 "model_type":"mixtral","num_attention_heads":32,"num_experts_per_tok":2,"num_hidden_layers":32,
 "num_key_value_heads":8,"num_local_experts":8,"rms_norm_eps":1e-05,"rope_theta":1000000.0,
 "sliding_window":null,"tie_word_embeddings":false,"vocab_size":32000})";
constexpr const char* kQwen25 = R"({"architectures":["Qwen2ForCausalLM"],"hidden_act":"silu",
 "hidden_size":896,"intermediate_size":4864,"max_position_embeddings":32768,"max_window_layers":21,
 "model_type":"qwen2","num_attention_heads":14,"num_hidden_layers":24,"num_key_value_heads":2,
 "rms_norm_eps":1e-06,"rope_theta":1000000.0,"sliding_window":32768,"tie_word_embeddings":true,
 "use_sliding_window":false,"vocab_size":151936})";
constexpr const char* kQwen3Yarn = R"({"architectures":["Qwen3ForCausalLM"],"attention_bias":false,
 "head_dim":128,"hidden_act":"silu","hidden_size":1024,"intermediate_size":3072,
 "max_position_embeddings":40960,"model_type":"qwen3","num_attention_heads":16,
 "num_hidden_layers":28,"num_key_value_heads":8,"rms_norm_eps":1e-06,
 "rope_scaling":{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":32768},
 "rope_theta":1000000,"sliding_window":null,"tie_word_embeddings":true,"use_sliding_window":false,
 "vocab_size":151936})";
constexpr const char* kQwen3Moe = R"({"architectures":["Qwen3MoeForCausalLM"],
 "decoder_sparse_step":1,"head_dim":128,"hidden_act":"silu","hidden_size":2048,
 "intermediate_size":6144,"max_position_embeddings":40960,"mlp_only_layers":[],
 "model_type":"qwen3_moe","moe_intermediate_size":768,"norm_topk_prob":true,
 "num_attention_heads":32,"num_experts":128,"num_experts_per_tok":8,"num_hidden_layers":48,
 "num_key_value_heads":4,"rms_norm_eps":1e-06,"rope_theta":1000000.0,"tie_word_embeddings":false,
 "vocab_size":151936})";
constexpr const char* kGemma2 = R"({"architectures":["Gemma2ForCausalLM"],
 "attn_logit_softcapping":50.0,"final_logit_softcapping":30.0,"head_dim":256,
 "hidden_act":"gelu_pytorch_tanh","hidden_activation":"gelu_pytorch_tanh","hidden_size":2304,
 "intermediate_size":9216,"max_position_embeddings":8192,"model_type":"gemma2",
 "num_attention_heads":8,"num_hidden_layers":26,"num_key_value_heads":4,
 "query_pre_attn_scalar":256,"rms_norm_eps":1e-06,"rope_theta":10000.0,"sliding_window":4096,
 "vocab_size":256000})";
// Gemma 2 27B: head_dim 128, but queries are scaled by 4608 / 32.
constexpr const char* kGemma2Large = R"({"model_type":"gemma2","head_dim":128,"hidden_size":4608,
 "intermediate_size":36864,"num_attention_heads":32,"num_hidden_layers":46,
 "num_key_value_heads":16,"query_pre_attn_scalar":144,"vocab_size":256000})";
// gemma-3-4b-it: nested, and most of the text part left to the defaults.
constexpr const char* kGemma3 = R"({"architectures":["Gemma3ForConditionalGeneration"],
 "boi_token_index":255999,"model_type":"gemma3","text_config":{"hidden_size":2560,
 "intermediate_size":10240,"model_type":"gemma3_text","num_hidden_layers":34,
 "rope_scaling":{"factor":8.0,"rope_type":"linear"},"sliding_window":1024},
 "vision_config":{"hidden_size":1152,"model_type":"siglip_vision_model","num_hidden_layers":27}})";
constexpr const char* kGemma3Small = R"({"architectures":["Gemma3ForCausalLM"],
 "attn_logit_softcapping":null,"final_logit_softcapping":null,"head_dim":256,
 "hidden_activation":"gelu_pytorch_tanh","hidden_size":1152,"intermediate_size":6912,
 "max_position_embeddings":32768,"model_type":"gemma3_text","num_attention_heads":4,
 "num_hidden_layers":26,"num_key_value_heads":1,"query_pre_attn_scalar":256,"rms_norm_eps":1e-06,
 "rope_local_base_freq":10000,"rope_scaling":null,"rope_theta":1000000,"sliding_window":512,
 "sliding_window_pattern":6,"vocab_size":262144})";

std::string Phi3(std::string_view rest) {
  std::string factors;
  for (int i = 0; i < 48; ++i) factors += (i > 0 ? "," : "") + std::to_string(1 + i * 0.25);
  return R"({"architectures":["Phi3ForCausalLM"],"hidden_act":"silu","hidden_size":3072,
 "intermediate_size":8192,"max_position_embeddings":131072,"model_type":"phi3",
 "num_attention_heads":32,"num_hidden_layers":32,"num_key_value_heads":32,
 "original_max_position_embeddings":4096,"rms_norm_eps":1e-05,"rope_scaling":{"long_factor":[)" +
         factors + R"(],"short_factor":[)" + factors + R"(],"type":"longrope"},
 "rope_theta":10000.0,"sliding_window":262144,"tie_word_embeddings":false)" +
         std::string(rest) + "}";
}

HfConfig Parse(std::string_view json) {
  Result<HfConfig> config = ParseHfConfig(json, "config.json");
  EXPECT_TRUE(config.ok()) << config.status().message();
  return config.ok() ? std::move(config).value() : HfConfig();
}

void ExpectU32(const HfConfig& config, std::string_view key, uint32_t value) {
  Result<uint32_t> found = config.metadata.GetU32(key);
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_EQ(*found, value) << key;
}

void ExpectF32(const HfConfig& config, std::string_view key, float value) {
  Result<float> found = config.metadata.GetFloat(key);
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_EQ(*found, value) << key;
}

TEST(HfConfig, Llama) {
  const HfConfig c = Parse(kLlama32);
  EXPECT_EQ(*c.metadata.GetString("general.architecture"), "llama");
  ExpectU32(c, "llama.block_count", 16);
  ExpectU32(c, "llama.context_length", 131072);
  ExpectU32(c, "llama.embedding_length", 2048);
  ExpectU32(c, "llama.feed_forward_length", 8192);
  ExpectU32(c, "llama.attention.head_count", 32);
  ExpectU32(c, "llama.attention.head_count_kv", 8);
  ExpectU32(c, "llama.attention.key_length", 64);
  ExpectU32(c, "llama.rope.dimension_count", 64);
  ExpectU32(c, "llama.vocab_size", 128256);
  ExpectF32(c, "llama.rope.freq_base", 500000.0f);
  ExpectF32(c, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
  EXPECT_FALSE(c.metadata.Has("llama.rope.scaling.type"));
  EXPECT_TRUE(c.tied_embeddings);
  EXPECT_TRUE(c.warnings.empty());
  ASSERT_EQ(c.rope_freqs.size(), 32u);
  // The definition in double precision.
  for (int i = 0; i < 32; ++i) {
    const double wavelength = 2 * M_PI * std::pow(500000.0, i / 32.0);
    double factor = 32;
    if (wavelength < 8192 / 4.0) {
      factor = 1;
    } else if (wavelength <= 8192) {
      const double smooth = (8192 / wavelength - 1) / 3;
      factor = 1 / ((1 - smooth) / 32 + smooth);
    }
    EXPECT_NEAR(c.rope_freqs[static_cast<size_t>(i)], factor, 1e-5 * factor) << i;
  }
  EXPECT_EQ(c.rope_freqs[0], 1.0f);
  EXPECT_EQ(c.rope_freqs[31], 32.0f);

  const HfConfig old = Parse(kLlama2);
  ExpectU32(old, "llama.attention.head_count_kv", 32);
  ExpectU32(old, "llama.rope.dimension_count", 128);
  ExpectF32(old, "llama.rope.freq_base", 10000.0f);
  EXPECT_FALSE(old.metadata.Has("llama.attention.key_length"));
  EXPECT_FALSE(old.tied_embeddings);
}

TEST(HfConfig, MistralAndMixtral) {
  const HfConfig mistral = Parse(kMistral);
  EXPECT_EQ(*mistral.metadata.GetString("general.architecture"), "llama");
  ExpectU32(mistral, "llama.attention.head_count_kv", 8);
  EXPECT_FALSE(mistral.metadata.Has("llama.expert_count"));
  ASSERT_EQ(mistral.warnings.size(), 1u);
  EXPECT_NE(mistral.warnings[0].find("4096"), std::string::npos);
  const HfConfig mixtral = Parse(kMixtral);
  EXPECT_EQ(*mixtral.metadata.GetString("general.architecture"), "llama");
  ExpectU32(mixtral, "llama.expert_count", 8);
  ExpectU32(mixtral, "llama.expert_used_count", 2);
  ExpectF32(mixtral, "llama.rope.freq_base", 1e6f);
  EXPECT_TRUE(mixtral.warnings.empty());
}

TEST(HfConfig, Qwen) {
  const HfConfig qwen2 = Parse(kQwen25);
  EXPECT_EQ(*qwen2.metadata.GetString("general.architecture"), "qwen2");
  ExpectU32(qwen2, "qwen2.attention.head_count_kv", 2);
  EXPECT_TRUE(qwen2.warnings.empty());
  const HfConfig qwen3 = Parse(kQwen3Yarn);
  ExpectU32(qwen3, "qwen3.attention.key_length", 128);
  EXPECT_EQ(*qwen3.metadata.GetString("qwen3.rope.scaling.type"), "yarn");
  ExpectF32(qwen3, "qwen3.rope.scaling.factor", 4.0f);
  ExpectU32(qwen3, "qwen3.rope.scaling.original_context_length", 32768);
  EXPECT_FALSE(qwen3.metadata.Has("qwen3.rope.scaling.attn_factor"));
  const HfConfig moe = Parse(kQwen3Moe);
  EXPECT_EQ(*moe.metadata.GetString("general.architecture"), "qwen3moe");
  ExpectU32(moe, "qwen3moe.expert_count", 128);
  ExpectU32(moe, "qwen3moe.expert_used_count", 8);
  ExpectU32(moe, "qwen3moe.expert_feed_forward_length", 768);
}

TEST(HfConfig, Gemma) {
  const HfConfig gemma2 = Parse(kGemma2);
  ExpectU32(gemma2, "gemma2.attention.sliding_window", 4096);
  ExpectF32(gemma2, "gemma2.attn_logit_softcapping", 50.0f);
  ExpectF32(gemma2, "gemma2.final_logit_softcapping", 30.0f);
  EXPECT_FALSE(gemma2.metadata.Has("gemma2.attention.scale"));
  EXPECT_TRUE(gemma2.tied_embeddings) << "tied by default";
  const HfConfig large = Parse(kGemma2Large);
  EXPECT_FALSE(large.metadata.Has("gemma2.attention.scale")) << "GGUF knows it by the layer count";
  const HfConfig gemma3 = Parse(kGemma3);
  EXPECT_EQ(*gemma3.metadata.GetString("general.architecture"), "gemma3");
  ExpectU32(gemma3, "gemma3.attention.head_count", 8);
  ExpectU32(gemma3, "gemma3.attention.head_count_kv", 4);
  ExpectU32(gemma3, "gemma3.attention.key_length", 256);
  ExpectU32(gemma3, "gemma3.context_length", 131072);
  ExpectU32(gemma3, "gemma3.block_count", 34);
  ExpectU32(gemma3, "gemma3.attention.sliding_window", 1024);
  ExpectF32(gemma3, "gemma3.rope.freq_base", 1e6f);
  ExpectF32(gemma3, "gemma3.rope.freq_base_swa", 1e4f);
  EXPECT_EQ(*gemma3.metadata.GetString("gemma3.rope.scaling.type"), "linear");
  ExpectF32(gemma3, "gemma3.rope.scaling.factor", 8.0f);
  EXPECT_EQ(gemma3.vocab_size, 262208u);
  const HfConfig small = Parse(kGemma3Small);
  EXPECT_FALSE(small.metadata.Has("gemma3.rope.scaling.type"));
  EXPECT_FALSE(small.metadata.Has("gemma3.attention.sliding_window_pattern"));
  EXPECT_FALSE(small.metadata.Has("gemma3.final_logit_softcapping"));
}

TEST(HfConfig, GemmaLayerTypes) {
  auto with = [](std::string_view rest) {
    return R"({"model_type":"gemma3_text","num_hidden_layers":4,"sliding_window":64,)" +
           std::string(rest) + "}";
  };
  constexpr const char* kS = "\"sliding_attention\",";
  constexpr const char* kF = "\"full_attention\"";
  const std::string every_second = std::string("\"layer_types\":[") + kS + kF + "," + kS + kF + "]";
  ExpectU32(Parse(with(every_second)), "gemma3.attention.sliding_window_pattern", 2);
  const std::string all_full =
      std::string("\"layer_types\":[") + kF + "," + kF + "," + kF + "," + kF + "]";
  EXPECT_FALSE(Parse(with(all_full)).metadata.Has("gemma3.attention.sliding_window"));
  const std::string irregular = std::string("\"layer_types\":[") + kF + "," + kS + kS + kF + "]";
  EXPECT_EQ(ParseHfConfig(with(irregular), "c").status().code(), StatusCode::kUnsupported);
}

TEST(HfConfig, Phi3) {
  const HfConfig c = Parse(Phi3(""));
  ExpectU32(c, "phi3.rope.scaling.original_context_length", 4096);
  ExpectU32(c, "phi3.rope.dimension_count", 96);
  ExpectU32(c, "phi3.attention.sliding_window", 262144);
  EXPECT_EQ(c.rope_long.size(), 48u);
  EXPECT_EQ(c.rope_long[4], 2.0f);
  // sqrt(1 + ln(32) / ln(4096)), the value that the published GGUF files hold.
  EXPECT_NEAR(*c.metadata.GetFloat("phi3.rope.scaling.attn_factor"), 1.1902380714f, 1e-6);
  // Phi-4-mini rotates three quarters of a head of 128.
  const HfConfig mini = Parse(R"({"model_type":"phi3","hidden_size":3072,"num_attention_heads":24,
    "num_key_value_heads":8,"partial_rotary_factor":0.75,"tie_word_embeddings":true})");
  ExpectU32(mini, "phi3.rope.dimension_count", 96);
  ExpectU32(mini, "phi3.attention.sliding_window", 0);
}

TEST(HfConfig, NewerRopeParameters) {
  // transformers 5 nests the base and the kind.
  const HfConfig c = Parse(R"({"model_type":"gemma3_text","num_hidden_layers":2,
    "rope_parameters":{"full_attention":{"rope_theta":2000000.0,"rope_type":"linear","factor":8},
    "sliding_attention":{"rope_theta":20000.0,"rope_type":"default"}}})");
  ExpectF32(c, "gemma3.rope.freq_base", 2e6f);
  ExpectF32(c, "gemma3.rope.freq_base_swa", 2e4f);
  ExpectF32(c, "gemma3.rope.scaling.factor", 8.0f);
  const HfConfig flat = Parse(R"({"model_type":"qwen3","rope_parameters":{"rope_theta":5000000,
    "rope_type":"default"}})");
  ExpectF32(flat, "qwen3.rope.freq_base", 5e6f);
}

TEST(HfConfig, YarnAttentionFactor) {
  const HfConfig c = Parse(R"({"model_type":"llama","rope_scaling":{"type":"yarn","factor":8,
    "original_max_position_embeddings":4096,"attention_factor":1.5,"beta_fast":16}})");
  ExpectF32(c, "llama.rope.scaling.attn_factor",
            static_cast<float>(1.5 / (1 + 0.1 * std::log(8.0))));
  ExpectF32(c, "llama.rope.scaling.yarn_beta_fast", 16.0f);
  const HfConfig linear =
      Parse(R"({"model_type":"llama","rope_scaling":{"type":"linear","factor":2.5}})");
  EXPECT_EQ(*linear.metadata.GetString("llama.rope.scaling.type"), "linear");
  const HfConfig dynamic =
      Parse(R"({"model_type":"llama","rope_scaling":{"type":"dynamic","factor":2.0}})");
  EXPECT_EQ(dynamic.warnings.size(), 1u);
}

TEST(HfConfig, WhatItRefusesIsNamed) {
  auto error = [](std::string_view json, std::vector<std::string> parts) {
    Status status = ParseHfConfig(json, "dir/config.json").status();
    ASSERT_FALSE(status.ok()) << json;
    for (const std::string& part : parts) {
      EXPECT_NE(status.message().find(part), std::string::npos)
          << part << " is not in: " << status.message();
    }
  };
  error("", {"dir/config.json", "valid JSON"});
  error("[1]", {"an object", "an array of 1"});
  error("{}", {"model_type", "one of llama", "none"});
  error(R"({"model_type":"mamba"})", {"model_type", "\"mamba\""});
  error(R"({"model_type":7})", {"model_type", "a string", "7"});
  error(R"({"model_type":"llama","num_hidden_layers":-1})", {"num_hidden_layers", "-1"});
  error(R"({"model_type":"llama","num_hidden_layers":1e300})", {"num_hidden_layers"});
  error(R"({"model_type":"llama","num_hidden_layers":2.5})", {"num_hidden_layers", "2.5"});
  error(R"({"model_type":"llama","num_hidden_layers":"x"})", {"num_hidden_layers", "\"x\""});
  error(R"({"model_type":"llama","num_attention_heads":0})", {"num_attention_heads"});
  error(R"({"model_type":"llama","num_attention_heads":7})", {"hidden_size", "multiple", "7"});
  error(R"({"model_type":"llama","num_key_value_heads":5})", {"num_key_value_heads", "divisor"});
  error(R"({"model_type":"llama","hidden_act":"relu"})", {"hidden_act", "\"silu\"", "\"relu\""});
  error(R"({"model_type":"llama","rms_norm_eps":"big"})", {"rms_norm_eps", "a number"});
  error(R"({"model_type":"llama","rope_theta":-1})", {"rope_theta"});
  error(R"({"model_type":"llama","rope_scaling":5})", {"rope_scaling", "an object"});
  error(R"({"model_type":"llama","rope_scaling":{"type":"odd","factor":2}})", {"\"odd\""});
  error(R"({"model_type":"llama","rope_scaling":{"type":"linear"}})", {"factor"});
  error(R"({"model_type":"qwen2","rope_scaling":{"type":"llama3","factor":2}})", {"\"llama3\""});
  error(R"({"model_type":"phi3","rope_scaling":{"type":"longrope","long_factor":[1],
    "short_factor":[1]}})",
        {"long_factor", "48 numbers", "1 and 1"});
  error(R"({"model_type":"llama","quantization_config":{"quant_method":"gptq"}})",
        {"quantization_config", "\"gptq\""});
  error(R"({"model_type":"qwen3_moe","norm_topk_prob":false})", {"norm_topk_prob"});
  error(R"({"model_type":"qwen3_moe","norm_topk_prob":true,"mlp_only_layers":[1]})",
        {"mlp_only_layers"});
  error(R"({"model_type":"llama","text_config":[]})", {"text_config", "an object"});
  error(std::string(2 << 20, ' '), {"size"});
  error("{\"model_type\":\"llama\",\"x\":" + std::string(200000, '['), {"valid JSON"});
  // Deep but valid: no recursion may overflow.
  const std::string deep = "{\"model_type\":\"llama\",\"x\":" + std::string(200000, '[') +
                           std::string(200000, ']') + "}";
  EXPECT_TRUE(ParseHfConfig(deep, "c").ok());
}

// Every key survives the way through config.json and back.
void ExpectSameMetadata(const Metadata& a, const Metadata& b) {
  for (const auto* pair : {&a, &b}) {
    const Metadata& other = pair == &a ? b : a;
    for (const Metadata::Entry& entry : pair->entries()) {
      const MetadataValue* value = other.Find(entry.key);
      ASSERT_NE(value, nullptr) << entry.key;
      EXPECT_EQ(value->type, entry.value.type) << entry.key;
      EXPECT_EQ(value->encoded, entry.value.encoded)
          << entry.key << ": " << value->ToString() << " and " << entry.value.ToString();
    }
  }
}

TEST(HfConfig, RoundTrips) {
  std::vector<std::string> texts = {
      kLlama32,
      kLlama2,
      kMistral,
      kMixtral,
      kQwen25,
      kQwen3Yarn,
      kGemma2,
      kGemma3,
      kGemma3Small,
      kQwen3Moe,
      Phi3(""),
      Phi3(R"(,"_name_or_path":"somebody/phi")"),
      R"({"model_type":"gemma2","query_pre_attn_scalar":144})",
      R"({"model_type":"llama","rope_scaling":{"type":"yarn","factor":8,"attention_factor":1.3,
        "original_max_position_embeddings":4096,"beta_slow":2}})",
      R"({"model_type":"llama","head_dim":4,"rope_scaling":{"type":"longrope","attention_factor":1,
        "long_factor":[1.1,3.7],"short_factor":[1.1,3.7]}})",
      R"({"model_type":"llama","head_dim":4,"max_position_embeddings":8192,"rope_scaling":{
        "type":"longrope","original_max_position_embeddings":4096,"long_factor":[1.1,3.7],
        "short_factor":[1.1,3.3]}})"};
  for (const std::string& text : texts) {
    const HfConfig first = Parse(text);
    HfConfigExtras extras;
    extras.vocab_size = first.vocab_size;
    extras.tied_embeddings = first.tied_embeddings;
    extras.rope_freqs = first.rope_freqs;
    extras.rope_long = first.rope_long;
    extras.rope_short = first.rope_short;
    Result<std::string> written = HfConfigText(first.metadata, extras);
    ASSERT_TRUE(written.ok()) << written.status().message() << text;
    const HfConfig second = Parse(*written);
    // What only defaults said is written out, so the second round is the fixed point.
    extras.vocab_size = second.vocab_size;
    Result<std::string> again = HfConfigText(second.metadata, extras);
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(*written, *again);
    EXPECT_EQ(second.vocab_size, first.vocab_size);
    EXPECT_EQ(second.tied_embeddings, first.tied_embeddings);
    EXPECT_EQ(second.rope_freqs, first.rope_freqs);
    EXPECT_EQ(second.rope_long, first.rope_long);
    EXPECT_EQ(second.rope_short, first.rope_short);
    ExpectSameMetadata(Parse(*again).metadata, second.metadata);
    for (const Metadata::Entry& entry : first.metadata.entries()) {
      const MetadataValue* value = second.metadata.Find(entry.key);
      ASSERT_NE(value, nullptr) << entry.key;
      EXPECT_EQ(value->encoded, entry.value.encoded) << entry.key << " in " << *written;
    }
  }
}

// Factors that miss the formula by an ulp, and factors of no formula, come back bit for bit.
TEST(HfConfig, RopeFactorsAreExact) {
  HfConfig config = Parse(kLlama32);
  HfConfigExtras extras;
  extras.vocab_size = config.vocab_size;
  extras.rope_freqs = config.rope_freqs;
  Result<std::string> plain = HfConfigText(config.metadata, extras);
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(plain->find("exact_factors"), std::string::npos);
  EXPECT_NE(plain->find("llama3"), std::string::npos);
  extras.rope_freqs[20] = std::nextafter(extras.rope_freqs[20], 100.0f);
  Result<std::string> nudged = HfConfigText(config.metadata, extras);
  ASSERT_TRUE(nudged.ok());
  EXPECT_NE(nudged->find("llama3"), std::string::npos);
  EXPECT_EQ(Parse(*nudged).rope_freqs, extras.rope_freqs);
  for (size_t i = 0; i < 32; ++i) extras.rope_freqs[i] = 1 + static_cast<float>(i) * 0.123f;
  Result<std::string> other = HfConfigText(config.metadata, extras);
  ASSERT_TRUE(other.ok());
  EXPECT_NE(other->find("longrope"), std::string::npos);
  EXPECT_EQ(Parse(*other).rope_freqs, extras.rope_freqs);
}

TEST(HfConfig, WriterRefusesWhatTheClassCannotSay) {
  HfConfigExtras extras;
  extras.vocab_size = 100;
  Metadata m("m.gguf");
  auto code = [&] { return HfConfigText(m, extras).status().code(); };
  EXPECT_EQ(code(), StatusCode::kNotFound);
  m.SetString("general.architecture", "mamba");
  EXPECT_EQ(code(), StatusCode::kUnsupported);
  m.SetString("general.architecture", "llama");
  m.SetU32("llama.block_count", 2);
  m.SetU32("llama.context_length", 512);
  m.SetU32("llama.embedding_length", 64);
  m.SetU32("llama.feed_forward_length", 172);
  m.SetU32("llama.attention.head_count", 8);
  EXPECT_EQ(code(), StatusCode::kOk);
  m.SetI32s("llama.attention.head_count_kv", std::vector<int32_t>{8, 4});
  EXPECT_EQ(code(), StatusCode::kUnsupported);
  m.SetU32("llama.attention.head_count_kv", 4);
  m.SetU32("llama.attention.value_length", 16);
  EXPECT_EQ(code(), StatusCode::kUnsupported);
  m.Erase("llama.attention.value_length");
  m.SetU32("llama.rope.dimension_count", 4);
  EXPECT_EQ(code(), StatusCode::kUnsupported);
  m.Erase("llama.rope.dimension_count");
  m.SetU32("llama.attention.head_count", 0);
  EXPECT_EQ(code(), StatusCode::kCorrupt);
}

TEST(HfConfig, GenerationConfigListsTheEnds) {
  Metadata m("m");
  m.SetU32("tokenizer.ggml.bos_token_id", 1);
  m.SetU32("tokenizer.ggml.eos_token_id", 2);
  EXPECT_NE(HfGenerationConfigText(m).find("\"eos_token_id\": 2"), std::string::npos);
  m.SetU32("tokenizer.ggml.eot_token_id", 9);
  const std::string text = HfGenerationConfigText(m);
  EXPECT_NE(text.find("2,"), std::string::npos) << text;
  EXPECT_NE(text.find("9"), std::string::npos) << text;
}

}  // namespace
}  // namespace ink
