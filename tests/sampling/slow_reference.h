// The sampler's stages once more, written straight from their definitions: a list of (id, z) in
// double, full sorts, no shortcuts. The oracle of the distribution tests.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <vector>

#include "base/rng.h"
#include "sampling/params.h"

namespace ink::slow {

struct Entry {
  int32_t id;
  double z;
};
using List = std::vector<Entry>;

inline std::vector<double> Softmax(const List& list) {
  double max = -INFINITY;
  for (const Entry& e : list) max = std::max(max, e.z);
  double sum = 0;
  std::vector<double> p;
  for (const Entry& e : list) p.push_back(std::exp(e.z - max)), sum += p.back();
  for (double& v : p) v /= sum;
  return p;
}

inline void SortBest(List& list) {
  std::sort(list.begin(), list.end(),
            [](const Entry& a, const Entry& b) { return a.z != b.z ? a.z > b.z : a.id < b.id; });
}

inline void TopK(List& list, size_t k) {
  SortBest(list);
  if (k < list.size()) list.resize(k);
}

inline void TopP(List& list, double p, size_t min_keep) {
  SortBest(list);
  std::vector<double> prob = Softmax(list);
  double sum = 0;
  for (size_t i = 0; i < list.size(); ++i) {
    sum += prob[i];
    if (sum >= p && i + 1 >= min_keep) {
      list.resize(i + 1);
      return;
    }
  }
}

inline void MinP(List& list, double p, size_t min_keep) {
  SortBest(list);
  std::vector<double> prob = Softmax(list);
  size_t keep = 0;
  while (keep < list.size() && (prob[keep] >= p * prob[0] || keep < min_keep)) ++keep;
  list.resize(keep);
}

inline double Entropy(const std::vector<double>& prob) {
  double h = 0;
  for (double p : prob) h -= p > 0 ? p * std::log(p) : 0.0;
  return h;
}

inline void Typical(List& list, double p, size_t min_keep) {
  std::vector<double> prob = Softmax(list);
  double h = Entropy(prob);
  std::vector<size_t> order(list.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::abs(-std::log(prob[a]) - h) < std::abs(-std::log(prob[b]) - h);
  });
  List kept;
  double sum = 0;
  for (size_t i : order) {
    kept.push_back(list[i]);
    sum += prob[i];
    if (sum >= p && kept.size() >= min_keep) break;
  }
  list = kept;
}

inline void TopNSigma(List& list, double n) {
  double mean = 0;
  double variance = 0;
  double max = -INFINITY;
  for (const Entry& e : list) mean += e.z / static_cast<double>(list.size());
  for (const Entry& e : list) {
    variance += (e.z - mean) * (e.z - mean) / static_cast<double>(list.size());
    max = std::max(max, e.z);
  }
  std::erase_if(list, [&](const Entry& e) { return e.z < max - n * std::sqrt(variance); });
}

inline void Xtc(List& list, double threshold, size_t min_keep) {
  if (list.size() < 2) return;
  SortBest(list);
  std::vector<double> prob = Softmax(list);
  size_t above = 0;
  while (above < list.size() && prob[above] >= threshold) ++above;
  if (above < 2 || list.size() - (above - 1) < min_keep) return;
  list.erase(list.begin(), list.begin() + static_cast<int64_t>(above - 1));
}

inline void Temperature(List& list, const SamplingParams& p) {
  double t = p.temperature;
  if (p.dynatemp_range > 0) {
    if (list.size() < 2) return;
    double low = std::max(0.0, t - p.dynatemp_range);
    double high = t + p.dynatemp_range;
    double h = Entropy(Softmax(list)) / std::log(static_cast<double>(list.size()));
    t = low + (high - low) * std::pow(h, p.dynatemp_exponent);
  }
  for (Entry& e : list) e.z /= t;
}

/// The longest suffix of `history` that also ends at index `end` (exclusive).
inline int64_t CommonSuffix(std::span<const int32_t> history, size_t end) {
  int64_t n = 0;
  while (static_cast<size_t>(n) < end && history[end - 1 - static_cast<size_t>(n)] ==
                                             history[history.size() - 1 - static_cast<size_t>(n)]) {
    ++n;
  }
  return n;
}

/// DRY with single-token breakers, in quadratic time.
inline std::map<int32_t, double> Dry(std::span<const int32_t> history, const SamplingParams& p,
                                     const std::set<int32_t>& breakers) {
  std::map<int32_t, double> penalties;
  if (p.dry_multiplier == 0 || p.dry_penalty_last_n == 0) return penalties;
  if (p.dry_penalty_last_n > 0) {
    history = history.last(std::min(history.size(), static_cast<size_t>(p.dry_penalty_last_n)));
  }
  if (static_cast<int64_t>(history.size()) <= p.dry_allowed_length) return penalties;
  int64_t limit = 0;
  while (static_cast<size_t>(limit) < history.size() &&
         !breakers.contains(history[history.size() - 1 - static_cast<size_t>(limit)])) {
    ++limit;
  }
  if (limit < p.dry_allowed_length) return penalties;
  for (size_t end = 1; end < history.size(); ++end) {
    int64_t repeat = std::min(limit, CommonSuffix(history, end));
    if (repeat < p.dry_allowed_length || breakers.contains(history[end])) continue;
    double penalty =
        p.dry_multiplier * std::pow(p.dry_base, static_cast<double>(repeat - p.dry_allowed_length));
    double& worst = penalties[history[end]];
    worst = std::max(worst, penalty);
  }
  return penalties;
}

inline void Penalties(List& list, const SamplingParams& p, std::span<const int32_t> history,
                      size_t num_prompt) {
  auto window = [&](size_t start) {
    size_t begin = start;
    if (p.penalty_last_n >= 0 && history.size() > static_cast<size_t>(p.penalty_last_n)) {
      begin = std::max(start, history.size() - static_cast<size_t>(p.penalty_last_n));
    }
    return history.subspan(begin);
  };
  auto all = window(0);
  auto counted = window(p.preset == ChainPreset::kLlamaCpp ? 0 : num_prompt);
  for (Entry& e : list) {
    auto seen = std::count(all.begin(), all.end(), e.id);
    auto count = std::count(counted.begin(), counted.end(), e.id);
    if (seen > 0) e.z = e.z > 0 ? e.z / p.repetition_penalty : e.z * p.repetition_penalty;
    if (count > 0) {
      e.z -= p.frequency_penalty * static_cast<double>(count) + p.presence_penalty;
    }
  }
}

struct Case {
  SamplingParams params;
  std::vector<int32_t> history;
  size_t num_prompt = 0;
  std::set<int32_t> dry_breakers;
  std::vector<int32_t> end_tokens;
  bool xtc_fires = false;
};

/// The distribution by id after the whole chain.
inline std::map<int32_t, double> Distribution(std::span<const float> logits,
                                              std::span<const uint32_t> mask, const Case& c) {
  const SamplingParams& p = c.params;
  List list;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!mask.empty() && !((mask[i / 32] >> (i % 32)) & 1)) continue;
    if (std::isinf(logits[i])) continue;
    list.push_back({static_cast<int32_t>(i), static_cast<double>(logits[i])});
  }
  auto ban = [&](int32_t id) { std::erase_if(list, [&](const Entry& e) { return e.id == id; }); };
  for (auto [id, bias] : p.logit_bias) {
    if (std::isinf(bias)) ban(id);
    for (Entry& e : list) e.z += e.id == id ? static_cast<double>(bias) : 0.0;
  }
  for (const auto& word : p.bad_words) {
    if (word.size() - 1 > c.history.size()) continue;
    if (std::equal(word.begin(), word.end() - 1,
                   c.history.end() - static_cast<int64_t>(word.size() - 1))) {
      ban(word.back());
    }
  }
  auto num_output = static_cast<int32_t>(c.history.size() - c.num_prompt);
  if (p.ignore_eos || num_output < p.min_tokens) {
    for (int32_t id : c.end_tokens) ban(id);
  }
  if (num_output < p.min_tokens) {
    for (int32_t id : p.stop_token_ids) ban(id);
  }
  const auto keep = static_cast<size_t>(std::max(1, p.min_keep));
  const bool greedy = p.temperature == 0;
  for (SamplerStage stage : p.chain.empty() ? PresetStages(p.preset) : p.chain) {
    if (stage == SamplerStage::kPenalties) Penalties(list, p, c.history, c.num_prompt);
    if (stage == SamplerStage::kDry) {
      auto penalties = Dry(c.history, p, c.dry_breakers);
      for (Entry& e : list) {
        if (penalties.contains(e.id)) e.z -= penalties.at(e.id);
      }
    }
    if (greedy) continue;
    if (stage == SamplerStage::kTopNSigma && p.top_n_sigma > 0) TopNSigma(list, p.top_n_sigma);
    if (stage == SamplerStage::kTemperature) Temperature(list, p);
    if (stage == SamplerStage::kTopK && p.top_k > 0) TopK(list, static_cast<size_t>(p.top_k));
    if (stage == SamplerStage::kTopP && p.top_p < 1) TopP(list, p.top_p, keep);
    if (stage == SamplerStage::kMinP && p.min_p > 0) MinP(list, p.min_p, keep);
    if (stage == SamplerStage::kTypical && p.typical_p < 1) Typical(list, p.typical_p, keep);
    if (stage == SamplerStage::kXtc && c.xtc_fires) Xtc(list, p.xtc_threshold, keep);
  }
  if (greedy) TopK(list, 1);
  std::vector<double> prob = Softmax(list);
  std::map<int32_t, double> result;
  for (size_t i = 0; i < list.size(); ++i) {
    if (prob[i] > 0) result[list[i].id] = prob[i];
  }
  return result;
}

}  // namespace ink::slow
