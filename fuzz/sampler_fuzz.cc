// layers: sampling
// Any parameters, logits, masks and histories: an error or an allowed token, the same twice, and a
// distribution that sums to one; stop strings cut anywhere; beams that stay within their width.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "sampling/beam_search.h"
#include "sampling/sampler.h"
#include "sampling/stop_checker.h"

namespace {

using namespace ink;  // NOLINT: a program of one file

// Reads values off the input; zeros once it is used up.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  template <typename T>
  T Raw() {
    T v{};
    size_t n = std::min(sizeof(T), size_);
    std::memcpy(&v, data_, n);
    data_ += n;
    size_ -= n;
    return v;
  }
  uint32_t Below(uint32_t n) { return n == 0 ? 0 : Raw<uint16_t>() % n; }
  // Mostly tame numbers, sometimes any bits at all.
  double Number() {
    uint8_t kind = Raw<uint8_t>();
    if (kind < 16) return Raw<double>();
    return (kind % 64) / 32.0;
  }
  float Logit() {
    uint8_t kind = Raw<uint8_t>();
    if (kind == 255) return Raw<float>();
    if (kind == 254) return -INFINITY;
    return static_cast<float>(kind) / 16.0f - 8.0f;
  }
  std::string Text(uint32_t most) {
    std::string s(Below(most + 1), 'a');
    for (char& c : s)
      c = static_cast<char>(Raw<uint8_t>() % 8 == 7 ? Raw<uint8_t>() : 'a' + Below(3));
    return s;
  }
  bool empty() const { return size_ == 0; }

 private:
  const uint8_t* data_;
  size_t size_;
};

SamplingParams Parameters(Input& in, uint32_t n) {
  SamplingParams p;
  uint32_t on = in.Raw<uint32_t>();
  auto flag = [&](int bit) { return (on >> bit) & 1; };
  auto id = [&] { return static_cast<int32_t>(in.Below(n + (flag(31) ? 1 : 0))); };
  if (flag(0)) p.temperature = in.Number();
  if (flag(1)) p.dynatemp_range = in.Number(), p.dynatemp_exponent = in.Number();
  if (flag(2)) p.top_k = static_cast<int32_t>(in.Below(n + 3));
  if (flag(3)) p.top_p = in.Number() / 2;
  if (flag(4)) p.min_p = in.Number() / 2;
  if (flag(5)) p.typical_p = in.Number() / 2;
  if (flag(6)) p.top_n_sigma = in.Number();
  if (flag(7)) p.xtc_probability = in.Number() / 2, p.xtc_threshold = in.Number() / 4;
  if (flag(8)) p.min_keep = in.Raw<int8_t>();
  if (flag(9)) p.mirostat = 2, p.mirostat_tau = in.Number(), p.mirostat_eta = in.Number();
  if (flag(10)) p.repetition_penalty = in.Number();
  if (flag(11)) p.frequency_penalty = in.Number() - 0.5;
  if (flag(12)) p.presence_penalty = in.Number() - 0.5;
  if (flag(13)) p.penalty_last_n = in.Raw<int8_t>();
  if (flag(14)) p.dry_multiplier = in.Number(), p.dry_base = 1 + in.Number();
  if (flag(15)) p.dry_allowed_length = in.Raw<int8_t>(), p.dry_penalty_last_n = in.Raw<int8_t>();
  if (flag(16)) p.logit_bias[id()] = in.Logit() * 2;
  if (flag(17)) p.bad_words = {{id()}, {id(), id()}};
  if (flag(18)) p.min_tokens = in.Raw<int8_t>();
  if (flag(19)) p.max_tokens = in.Raw<int8_t>();
  p.ignore_eos = flag(20);
  if (flag(21)) p.stop_token_ids = {id()};
  if (flag(22)) p.logprobs = static_cast<int32_t>(in.Below(n + 2)) - 1;
  if (flag(23)) p.logprobs_mode = LogprobsMode::kProcessed;
  p.preset = static_cast<ChainPreset>(in.Below(3));
  if (flag(24)) {
    p.chain = PresetStages(p.preset);
    for (size_t i = p.chain.size(); i > 1; --i) {
      std::swap(p.chain[i - 1], p.chain[in.Below(static_cast<uint32_t>(i))]);
    }
  }
  p.seed = in.Raw<uint64_t>();
  return p;
}

void Sampling(Input& in) {
  const uint32_t n = 1 + in.Below(300);
  SamplingParams params = Parameters(in, n);
  std::vector<int32_t> prompt(in.Below(20));
  for (int32_t& id : prompt) id = static_cast<int32_t>(in.Below(n));
  auto breakers = std::make_shared<DryBreakers>();
  breakers->Add(static_cast<int32_t>(in.Below(n)), {});
  breakers->Add(static_cast<int32_t>(in.Below(n)), {static_cast<int32_t>(in.Below(n))});
  SamplerModel model{static_cast<int32_t>(n), {static_cast<int32_t>(in.Below(n))}, breakers};
  auto created = Sampler::Create(params, model, prompt, in.Raw<uint64_t>());
  if (!created.ok()) return;
  Sampler sampler = *created;
  SamplerScratch scratch;
  SamplerScratch other;
  std::vector<float> logits(n);
  while (!in.empty()) {
    for (float& l : logits) l = in.Logit();
    std::vector<uint32_t> mask;
    if (in.Below(2)) {
      mask.resize((n + 31) / 32);
      for (uint32_t& word : mask) word = in.Raw<uint32_t>();
    }
    auto result = sampler.Sample(logits, mask, scratch);
    auto again = sampler.Sample(logits, mask, other);
    INK_CHECK_EQ(result.ok(), again.ok());
    auto beams = sampler.BeamScores(logits, mask, 4, scratch);
    INK_CHECK(!beams.ok() || beams->size() <= 4);
    if (!result.ok()) {
      INK_CHECK(!result.status().message().empty());
      continue;
    }
    const auto token = static_cast<uint32_t>(result->token);
    INK_CHECK_EQ(result->token, again->token);
    INK_CHECK_LT(token, n);
    INK_CHECK(mask.empty() || ((mask[token / 32] >> (token % 32)) & 1));
    INK_CHECK(std::isfinite(logits[token]));
    INK_CHECK(params.logprobs < 0 || !std::isnan(result->logprob));
    auto list = sampler.Distribution(logits, mask, scratch);
    INK_CHECK(list.ok());
    double sum = 0;
    for (const TokenProb& t : *list) sum += t.p;
    INK_CHECK(std::abs(sum - 1) < 1e-9);
    const int32_t before = sampler.num_output();
    sampler.Accept(*result);
    (void)sampler.Finish();
    if (in.Below(4) == 0) sampler.Rewind(static_cast<int32_t>(in.Below(sampler.num_output() + 1)));
    INK_CHECK_LE(sampler.num_output(), before + 1);
  }
}

void Stops(Input& in) {
  std::vector<std::string> stops;
  for (uint32_t i = in.Below(4); i > 0; --i) {
    std::string s = in.Text(6);
    if (!s.empty()) stops.push_back(s);
  }
  StopChecker whole(stops);
  StopChecker pieces(stops);
  std::string text;
  std::string out;
  while (!in.empty() && text.size() < 4096) {
    std::string piece = in.Text(9);
    text += piece;
    out += pieces.Append(piece);
  }
  std::string want = whole.Append(text) + whole.Flush();
  out += pieces.Flush();
  INK_CHECK_EQ(out, want);
  INK_CHECK_EQ(pieces.stopped(), whole.stopped());
}

void Beams(Input& in) {
  BeamParams params;
  params.width = static_cast<int32_t>(in.Below(6));
  params.length_penalty = in.Number() - 0.5;
  params.early_stopping = static_cast<EarlyStopping>(in.Below(3));
  params.max_tokens = static_cast<int32_t>(in.Below(20));
  params.end_token_ids = {static_cast<int32_t>(in.Below(8))};
  auto search = BeamSearch::Create(params);
  if (!search.ok()) return;
  int32_t steps = 0;
  while (!search->done()) {
    std::vector<std::vector<TokenLogprob>> candidates(static_cast<size_t>(search->num_live()));
    for (auto& list : candidates) {
      for (uint32_t i = in.Below(9); i > 0; --i) {
        list.push_back({static_cast<int32_t>(in.Below(8)), static_cast<double>(in.Logit()) - 9});
      }
    }
    auto step = search->Step(candidates);
    if (!step.ok()) return;
    INK_CHECK_EQ(static_cast<int32_t>(step->parents.size()), search->num_live());
    INK_CHECK_LE(search->num_live(), params.width);
    INK_CHECK_LE(++steps, params.max_tokens);
  }
  double last = INFINITY;
  for (const Hypothesis& h : search->Best(params.width)) {
    INK_CHECK(h.score <= last);
    last = h.score;
    INK_CHECK_LE(static_cast<int32_t>(h.tokens.size()), params.max_tokens);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input in(data, size);
  switch (in.Raw<uint8_t>() % 4) {
    case 0:
      Stops(in);
      break;
    case 1:
      Beams(in);
      break;
    default:
      Sampling(in);
  }
  return 0;
}
