#include "sampling/params.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

namespace ink {
namespace {

using Set = std::function<void(SamplingParams&)>;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr int32_t kVocab = 100;

TEST(Validate, DefaultsAreValid) { EXPECT_TRUE(Validate({}, kVocab).ok()); }

TEST(Validate, EveryErrorNamesItsField) {
  struct Row {
    std::string message;
    Set set;
  };
  const std::vector<Row> rows = {
      {"temperature: expected a number in [0, 1000000], got nan",
       [](auto& p) { p.temperature = kNan; }},
      {"temperature: expected a number in [0, 1000000], got -1",
       [](auto& p) { p.temperature = -1; }},
      {"temperature: expected a number in [0, 1000000], got inf",
       [](auto& p) { p.temperature = kInf; }},
      {"dynatemp_range: expected a number in [0, 1000000], got -0.5",
       [](auto& p) { p.dynatemp_range = -0.5; }},
      {"dynatemp_range: expected 0 where temperature is 0 (greedy), got 1",
       [](auto& p) { p.temperature = 0, p.dynatemp_range = 1; }},
      {"dynatemp_exponent: expected a finite number above 0, got 0",
       [](auto& p) { p.dynatemp_exponent = 0; }},
      {"top_k: expected an integer of at least 0, got -1", [](auto& p) { p.top_k = -1; }},
      {"top_p: expected a number in [0, 1], got 1.1", [](auto& p) { p.top_p = 1.1; }},
      {"top_p: expected a number in [0, 1], got nan", [](auto& p) { p.top_p = kNan; }},
      {"min_p: expected a number in [0, 1], got -0.1", [](auto& p) { p.min_p = -0.1; }},
      {"typical_p: expected a number in (0, 1], got 0", [](auto& p) { p.typical_p = 0; }},
      {"top_n_sigma: expected a finite number of at least 0, got -1",
       [](auto& p) { p.top_n_sigma = -1; }},
      {"xtc_probability: expected a number in [0, 1], got 2",
       [](auto& p) { p.xtc_probability = 2; }},
      {"xtc_threshold: expected a number in [0, 1], got nan",
       [](auto& p) { p.xtc_threshold = kNan; }},
      {"min_keep: expected an integer of at least 0, got -2", [](auto& p) { p.min_keep = -2; }},
      {"mirostat: expected 0 or 2, got 1", [](auto& p) { p.mirostat = 1; }},
      {"mirostat_tau: expected a finite number of at least 0, got -1",
       [](auto& p) { p.mirostat_tau = -1; }},
      {"mirostat_eta: expected a finite number of at least 0, got inf",
       [](auto& p) { p.mirostat_eta = kInf; }},
      {"mirostat: it replaces top_k, which the parameters turn on; expected one of them",
       [](auto& p) { p.mirostat = 2, p.top_k = 5; }},
      {"repetition_penalty: expected a number in [0.001, 1000], got 0",
       [](auto& p) { p.repetition_penalty = 0; }},
      {"frequency_penalty: expected a finite number, got nan",
       [](auto& p) { p.frequency_penalty = kNan; }},
      {"presence_penalty: expected a finite number, got -inf",
       [](auto& p) { p.presence_penalty = -kInf; }},
      {"penalty_last_n: expected an integer of at least -1, got -2",
       [](auto& p) { p.penalty_last_n = -2; }},
      {"dry_multiplier: expected a finite number of at least 0, got -1",
       [](auto& p) { p.dry_multiplier = -1; }},
      {"dry_base: expected a finite number of at least 1, got 0.5",
       [](auto& p) { p.dry_base = 0.5; }},
      {"dry_allowed_length: expected an integer of at least 0, got -1",
       [](auto& p) { p.dry_allowed_length = -1; }},
      {"dry_penalty_last_n: expected an integer of at least -1, got -5",
       [](auto& p) { p.dry_penalty_last_n = -5; }},
      {"dry_sequence_breakers: expected texts, got an empty one",
       [](auto& p) { p.dry_sequence_breakers = {""}; }},
      {"dry_sequence_breakers: expected at most 40 bytes in each, got 41",
       [](auto& p) { p.dry_sequence_breakers = {std::string(41, 'a')}; }},
      {"dry_sequence_breakers: expected at most 64 texts, got 65",
       [](auto& p) { p.dry_sequence_breakers.assign(65, "a"); }},
      {"logit_bias: expected token ids in [0, 100), got 100",
       [](auto& p) {
         p.logit_bias = {{100, 1.0f}};
       }},
      {"logit_bias: expected token ids in [0, 100), got -1",
       [](auto& p) {
         p.logit_bias = {{-1, 1.0f}};
       }},
      {"logit_bias: expected a finite number or -infinity for token 4, got inf",
       [](auto& p) {
         p.logit_bias = {{4, INFINITY}};
       }},
      {"logit_bias: expected a finite number or -infinity for token 4, got nan",
       [](auto& p) {
         p.logit_bias = {{4, NAN}};
       }},
      {"bad_words: expected token sequences, got an empty one",
       [](auto& p) { p.bad_words = {{}}; }},
      {"bad_words: expected token ids in [0, 100), got 101",
       [](auto& p) {
         p.bad_words = {{1, 101}};
       }},
      {"bad_words: expected at most 256 tokens in each, got 257",
       [](auto& p) { p.bad_words = {std::vector<int32_t>(257, 1)}; }},
      {"bad_words: expected at most 16384 sequences, got 16385",
       [](auto& p) { p.bad_words.assign(16385, {1}); }},
      {"min_tokens: expected an integer of at least 0, got -1", [](auto& p) { p.min_tokens = -1; }},
      {"min_tokens: expected at most max_tokens = 4, got 5",
       [](auto& p) { p.min_tokens = 5, p.max_tokens = 4; }},
      {"max_tokens: expected an integer of at least -1, got -2",
       [](auto& p) { p.max_tokens = -2; }},
      {"stop_token_ids: expected token ids in [0, 100), got 100",
       [](auto& p) { p.stop_token_ids = {100}; }},
      {"stop: expected texts, got an empty one",
       [](auto& p) {
         p.stop = {"a", ""};
       }},
      {"stop: expected at most 4096 bytes in each, got 4097",
       [](auto& p) { p.stop = {std::string(4097, 'a')}; }},
      {"stop: expected at most 256 texts, got 257", [](auto& p) { p.stop.assign(257, "a"); }},
      {"stop: expected UTF-8, got a text that begins inside a character",
       [](auto& p) { p.stop = {"\x80"}; }},
      {"logprobs: expected an integer in [-1, 100], got 101", [](auto& p) { p.logprobs = 101; }},
      {"chain: bad_words always runs first and cannot be listed",
       [](auto& p) { p.chain = {SamplerStage::kBadWords}; }},
      {"chain: expected each stage at most once, got top_k twice",
       [](auto& p) {
         p.chain = {SamplerStage::kTopK, SamplerStage::kTopK};
       }},
      {"chain: expected temperature to be listed, since the parameters turn it on",
       [](auto& p) { p.chain = {SamplerStage::kTopK}, p.temperature = 0.5; }},
  };
  for (const Row& row : rows) {
    SamplingParams params;
    row.set(params);
    Status status = Validate(params, kVocab);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << row.message;
    EXPECT_EQ(status.message(), row.message);
  }
  EXPECT_EQ(Validate({}, 0).message(), "n_vocab: expected at least 1, got 0");
}

std::string Names(const std::vector<SamplerStage>& stages) {
  std::string names;
  for (SamplerStage s : stages) {
    names += (names.empty() ? "" : " ") + std::string(SamplerStageName(s));
  }
  return names;
}

SamplingParams Everything() {
  SamplingParams p;
  p.temperature = 0.5;
  p.seed = 7;
  p.top_k = 40;
  p.top_p = 0.9;
  p.min_p = 0.05;
  p.typical_p = 0.95;
  p.top_n_sigma = 2;
  p.xtc_probability = 0.1;
  p.repetition_penalty = 1.1;
  p.dry_multiplier = 0.8;
  p.logit_bias = {{1, 2.0f}};
  p.bad_words = {{1, 2}};
  p.min_tokens = 3;
  return p;
}

TEST(Chain, PresetOrders) {
  SamplingParams p = Everything();
  EXPECT_EQ(Names(ActiveStages(p)),
            "logit_bias bad_words min_tokens penalties dry top_n_sigma temperature top_k top_p "
            "min_p typical xtc");
  p.preset = ChainPreset::kLlamaCpp;
  EXPECT_EQ(Names(ActiveStages(p)),
            "logit_bias bad_words min_tokens penalties dry top_n_sigma top_k typical top_p min_p "
            "xtc temperature");
  p.preset = ChainPreset::kHf;
  EXPECT_EQ(Names(ActiveStages(p)),
            "logit_bias bad_words min_tokens penalties dry temperature top_k top_p min_p typical "
            "top_n_sigma xtc");
}

TEST(Chain, OnlyActiveStagesAndAnExplicitOrder) {
  SamplingParams p;
  EXPECT_EQ(Names(ActiveStages(p)), "");
  p.top_p = 0.5;
  p.top_k = 3;
  p.chain = {SamplerStage::kTopP, SamplerStage::kXtc, SamplerStage::kTopK};
  EXPECT_TRUE(Validate(p, kVocab).ok());
  EXPECT_EQ(Names(ActiveStages(p)), "top_p top_k");
  p.chain.clear();
  p.temperature = 0;
  p.presence_penalty = 1;
  EXPECT_EQ(Names(ActiveStages(p)), "penalties");
  p = {};
  p.penalty_last_n = 0;
  p.repetition_penalty = 2;
  p.xtc_probability = 1;
  p.xtc_threshold = 0.6;
  EXPECT_EQ(Names(ActiveStages(p)), "");
}

TEST(Chain, Json) {
  SamplingParams p;
  p.temperature = 0.5;
  p.top_k = 40;
  p.seed = 7;
  EXPECT_EQ(ChainToJson(p).dump(),
            R"([{"stage":"temperature","temperature":0.5},{"stage":"top_k","k":40},)"
            R"({"stage":"draw","seed":7}])");
  p.temperature = 0;
  EXPECT_EQ(ChainToJson(p).dump(), R"([{"stage":"greedy"}])");
  p = {};
  p.mirostat = 2;
  EXPECT_EQ(ChainToJson(p).dump(),
            R"([{"stage":"mirostat","version":2,"tau":5.0,"eta":0.1,"seed":0}])");
  EXPECT_EQ(ChainToJson(Everything()).size(), 13u);
}

TEST(Chain, NamesParseBack) {
  for (ChainPreset preset : {ChainPreset::kDefault, ChainPreset::kLlamaCpp, ChainPreset::kHf}) {
    auto parsed = ParseChainPreset(ChainPresetName(preset));
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(*parsed, preset);
    for (SamplerStage stage : PresetStages(preset)) {
      auto name = ParseSamplerStage(SamplerStageName(stage));
      ASSERT_TRUE(name.ok());
      EXPECT_EQ(*name, stage);
    }
  }
  EXPECT_EQ(ParseChainPreset("ollama").status().message(),
            "sampler preset: expected one of default, llamacpp, hf, got \"ollama\"");
  EXPECT_EQ(ParseSamplerStage("topk").status().message(),
            "sampler stage: expected one of penalties, dry, top_n_sigma, temperature, top_k, "
            "top_p, min_p, typical, xtc, got \"topk\"");
}

}  // namespace
}  // namespace ink
