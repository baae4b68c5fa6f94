#include "sampling/candidates.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cfloat>
#include <cmath>
#include <limits>
#include <numbers>
#include <string>

#include "base/check.h"
#include "sampling/row_math.h"

namespace ink {
namespace {

constexpr float kNegInf = -std::numeric_limits<float>::infinity();

bool Better(const Candidates::Scored& a, const Candidates::Scored& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

float Clamped(double v) {
  if (v > FLT_MAX) return FLT_MAX;
  if (v < -FLT_MAX) return -FLT_MAX;
  return static_cast<float>(v);
}

// The float f for which (x >= f) says (x >= v) of every finite float x in v's neighbourhood: v
// rounded up.
float Threshold(double v) {
  float f = Clamped(v);
  return static_cast<double>(f) < v ? std::nextafter(f, FLT_MAX) : f;
}

// The k best of `list`, best first.
void KeepBest(std::vector<Candidates::Scored>& list, int64_t k) {
  if (k < static_cast<int64_t>(list.size())) {
    std::nth_element(list.begin(), list.begin() + k, list.end(), Better);
    list.resize(static_cast<size_t>(k));
  }
  std::sort(list.begin(), list.end(), Better);
}

}  // namespace

size_t SamplerScratch::Bytes() const {
  return sizeof(float) *
             (row.capacity() + block_max.capacity() + select.capacity() + logits.capacity()) +
         sizeof(double) * (block_mass.capacity() + weights.capacity() + keys.capacity()) +
         sizeof(int32_t) * (ids.capacity() + order.capacity() + touched.capacity());
}

Status Candidates::Load(std::span<const float> logits) {
  input_ = logits.data();
  n_ = static_cast<int32_t>(logits.size());
  s_.block_max.resize(static_cast<size_t>(NumRowBlocks(n_)));
  row_ = input_;
  own_row_ = false;
  dense_ = true;
  temperature_ = 1.0;
  s_.touched.clear();
  bool bad = ScanRow(row_, n_, s_.block_max.data());
  max_ = kNegInf;
  for (float m : s_.block_max) max_ = std::max(max_, m);
  if (!bad && max_ <= FLT_MAX) return OkStatus();
  for (int32_t i = 0; i < n_; ++i) {
    if (std::isnan(input_[i]) || input_[i] > FLT_MAX) {
      return InvalidArgument("logits: index " + std::to_string(i) + " is " +
                             (std::isnan(input_[i]) ? "NaN" : "+infinity") +
                             ", expected a finite number or -infinity");
    }
  }
  return OkStatus();
}

void Candidates::Reset() {
  row_ = input_;
  own_row_ = false;
  dense_ = true;
  temperature_ = 1.0;
  s_.touched.clear();
  Rescan();
}

void Candidates::ApplyMask(std::span<const uint32_t> mask) {
  INK_CHECK_EQ(static_cast<int64_t>(mask.size()), (int64_t{n_} + 31) / 32);
  int64_t allowed = 0;
  for (uint32_t word : mask) allowed += std::popcount(word);
  if (allowed > n_ / 8) {
    s_.row.resize(static_cast<size_t>(n_));
    MaskRow(row_, mask.data(), n_, s_.row.data());
    row_ = s_.row.data();
    own_row_ = true;
    Rescan();
    return;
  }
  s_.ids.clear();
  s_.logits.clear();
  for (size_t w = 0; w < mask.size(); ++w) {
    for (uint32_t word = mask[w]; word != 0; word &= word - 1) {
      auto id = static_cast<int32_t>(w * 32 + static_cast<size_t>(std::countr_zero(word)));
      if (id >= n_ || row_[id] == kNegInf) continue;
      s_.ids.push_back(id);
      s_.logits.push_back(row_[id]);
    }
  }
  dense_ = false;
  Rescan();
}

void Candidates::EnsureOwnRow() {
  if (own_row_) return;
  s_.row.assign(row_, row_ + n_);
  row_ = s_.row.data();
  own_row_ = true;
}

float* Candidates::Find(int32_t id) {
  if (dense_) {
    EnsureOwnRow();
    float* logit = &s_.row[static_cast<size_t>(id)];
    return *logit == kNegInf ? nullptr : logit;
  }
  auto it = std::lower_bound(s_.ids.begin(), s_.ids.end(), id);
  if (it == s_.ids.end() || *it != id) return nullptr;
  float* logit = &s_.logits[static_cast<size_t>(it - s_.ids.begin())];
  return *logit == kNegInf ? nullptr : logit;
}

void Candidates::Store(int32_t id, float* logit, double value) {
  *logit = Clamped(value);
  if (dense_) s_.touched.push_back(id / kRowBlock);
}

void Candidates::Ban(int32_t id) {
  float* logit = Find(id);
  if (logit == nullptr) return;
  *logit = kNegInf;
  if (dense_) s_.touched.push_back(id / kRowBlock);
}

void Candidates::FinishEdits() {
  if (dense_) {
    if (s_.touched.empty()) return;
    if (s_.touched.size() > s_.block_max.size() / 8) {
      Rescan();
    } else {
      for (int32_t b : s_.touched) {
        int32_t begin = b * kRowBlock;
        s_.block_max[static_cast<size_t>(b)] =
            BlockMax(row_ + begin, std::min(kRowBlock, n_ - begin));
      }
      max_ = kNegInf;
      for (float m : s_.block_max) max_ = std::max(max_, m);
    }
    s_.touched.clear();
    return;
  }
  Filter([this](size_t i) { return s_.logits[i] != kNegInf; });
}

void Candidates::Rescan() {
  if (dense_) {
    ScanRow(row_, n_, s_.block_max.data());
    max_ = kNegInf;
    for (float m : s_.block_max) max_ = std::max(max_, m);
  } else {
    max_ = kNegInf;
    for (float l : s_.logits) max_ = std::max(max_, l);
  }
}

bool Candidates::empty() const { return max_ == kNegInf; }

int64_t Candidates::Count() const {
  if (!dense_) return static_cast<int64_t>(s_.ids.size());
  int32_t count = 0;
  for (int32_t i = 0; i < n_; ++i) count += row_[i] > kNegInf ? 1 : 0;
  return count;
}

int32_t Candidates::ArgMax() const {
  INK_CHECK(!empty());
  if (!dense_) {
    auto it = std::find(s_.logits.begin(), s_.logits.end(), max_);
    return s_.ids[static_cast<size_t>(it - s_.logits.begin())];
  }
  auto block = std::find(s_.block_max.begin(), s_.block_max.end(), max_) - s_.block_max.begin();
  const float* begin = row_ + block * kRowBlock;
  return static_cast<int32_t>(std::find(begin, row_ + n_, max_) - row_);
}

template <typename F>
void Candidates::ForEachAtLeast(float threshold, F&& see) const {
  for (size_t b = 0; b < s_.block_max.size(); ++b) {
    if (!(s_.block_max[b] >= threshold)) continue;
    int32_t begin = static_cast<int32_t>(b) * kRowBlock;
    int32_t end = std::min(begin + kRowBlock, n_);
    for (int32_t i = begin; i < end; ++i) {
      if (row_[i] >= threshold) see(i);
    }
  }
}

void Candidates::Collect(float threshold) {
  size_t blocks = 0;
  for (float m : s_.block_max) blocks += m >= threshold ? 1 : 0;
  s_.ids.resize(blocks * kRowBlock);
  s_.logits.resize(blocks * kRowBlock);
  // Written without a branch per token: a wide nucleus makes it unpredictable.
  size_t kept = 0;
  for (size_t b = 0; b < s_.block_max.size(); ++b) {
    if (!(s_.block_max[b] >= threshold)) continue;
    int32_t begin = static_cast<int32_t>(b) * kRowBlock;
    int32_t end = std::min(begin + kRowBlock, n_);
    for (int32_t i = begin; i < end; ++i) {
      s_.ids[kept] = i;
      s_.logits[kept] = row_[i];
      kept += row_[i] >= threshold ? 1 : 0;
    }
  }
  s_.ids.resize(kept);
  s_.logits.resize(kept);
}

template <typename F>
void Candidates::Filter(F&& keep) {
  size_t kept = 0;
  for (size_t i = 0; i < s_.ids.size(); ++i) {
    bool stays = keep(i);
    s_.ids[kept] = s_.ids[i];
    s_.logits[kept] = s_.logits[i];
    kept += stays ? 1 : 0;
  }
  s_.ids.resize(kept);
  s_.logits.resize(kept);
  Rescan();
}

double Candidates::Weigh() {
  s_.weights.resize(s_.logits.size());
  ExpWeights(s_.logits.data(), s_.logits.size(), static_cast<double>(max_), temperature_,
             s_.weights.data());
  double sum = 0.0;
  for (double w : s_.weights) sum += w;
  return sum;
}

double Candidates::DenseMass(double* moment) {
  s_.block_mass.resize(s_.block_max.size());
  return RowMass(row_, n_, max_, static_cast<float>(1.0 / temperature_), s_.block_mass.data(),
                 moment);
}

void Candidates::CutByMass(double target, int64_t min_keep) {
  const size_t m = s_.keys.size();
  if (m == 0) return;
  // Buckets in key order narrow the cut to one of them, so that only its members are sorted.
  constexpr size_t kBuckets = 1024;
  constexpr size_t kSortAtOnce = 512;  // below this the sort is cheaper than the buckets
  auto [low, high] = std::minmax_element(s_.keys.begin(), s_.keys.end());
  const double first = *low;
  const double scale = *high > first ? (kBuckets - 1) / (*high - first) : 0.0;
  auto bucket = [&](size_t i) {
    return std::min(kBuckets - 1, static_cast<size_t>((s_.keys[i] - first) * scale));
  };
  double mass = 0.0;
  int64_t count = 0;
  size_t crossing = 0;
  const bool sort_all = m <= kSortAtOnce || !std::isfinite(scale);
  if (!sort_all) {
    std::array<double, kBuckets> bucket_mass{};
    std::array<int64_t, kBuckets> bucket_count{};
    for (size_t i = 0; i < m; ++i) {
      size_t b = bucket(i);
      bucket_mass[b] += s_.weights[i];
      ++bucket_count[b];
    }
    while (crossing + 1 < kBuckets && !(mass + bucket_mass[crossing] >= target &&
                                        count + bucket_count[crossing] >= min_keep)) {
      mass += bucket_mass[crossing];
      count += bucket_count[crossing];
      ++crossing;
    }
  }
  s_.order.clear();
  for (size_t i = 0; i < m; ++i) {
    if (sort_all || bucket(i) == crossing) s_.order.push_back(static_cast<int32_t>(i));
  }
  std::sort(s_.order.begin(), s_.order.end(), [this](int32_t a, int32_t b) {
    double ka = s_.keys[static_cast<size_t>(a)];
    double kb = s_.keys[static_cast<size_t>(b)];
    return ka != kb ? ka < kb : a < b;
  });
  double cut_key = std::numeric_limits<double>::infinity();
  size_t cut_index = m;
  for (int32_t i : s_.order) {
    mass += s_.weights[static_cast<size_t>(i)];
    ++count;
    if (mass >= target && count >= min_keep) {
      cut_key = s_.keys[static_cast<size_t>(i)];
      cut_index = static_cast<size_t>(i);
      break;
    }
  }
  Filter(
      [&](size_t i) { return s_.keys[i] < cut_key || (s_.keys[i] == cut_key && i <= cut_index); });
}

void Candidates::DynamicTemperature(double low, double high, double exponent) {
  int64_t count = Count();
  if (count < 2) return;
  double mass;
  double moment;
  if (dense_) {
    mass = DenseMass(&moment);
  } else {
    mass = Weigh();
    moment = 0.0;
    for (size_t i = 0; i < s_.weights.size(); ++i) {
      if (s_.weights[i] > 0) moment += s_.weights[i] * (ToZ(s_.logits[i]) - ToZ(max_));
    }
  }
  double entropy = std::max(0.0, std::log(mass) - moment / mass);
  double normalized = std::min(1.0, entropy / std::log(static_cast<double>(count)));
  double temperature = low + (high - low) * std::pow(normalized, exponent);
  // A temperature this low leaves nothing but the best, and could not be divided by.
  if (temperature < 1e-5) {
    KeepOnlyBest();
  } else {
    Temperature(temperature);
  }
}

void Candidates::TopNSigma(double n) {
  int64_t count = 0;
  double sum = 0.0;
  double square = 0.0;
  const float* x = dense_ ? row_ : s_.logits.data();
  const size_t size = dense_ ? static_cast<size_t>(n_) : s_.logits.size();
  // Shifted by the maximum, the sums of squares lose no digits that matter.
  const double shift = static_cast<double>(max_);
  for (size_t i = 0; i < size; ++i) {
    bool candidate = x[i] > kNegInf;
    double d = candidate ? static_cast<double>(x[i]) - shift : 0.0;
    count += candidate ? 1 : 0;
    sum += d;
    square += d * d;
  }
  double mean = sum / static_cast<double>(count);
  double variance = std::max(0.0, square / static_cast<double>(count) - mean * mean);
  float threshold = Threshold(shift - n * std::sqrt(variance));
  if (dense_) {
    Collect(threshold);
    dense_ = false;
    Rescan();
  } else {
    Filter([&](size_t i) { return s_.logits[i] >= threshold; });
  }
}

std::vector<Candidates::Scored> Candidates::Top(int64_t k) {
  std::vector<Scored> top;
  if (k <= 0) return top;
  if (!dense_) {
    top.reserve(s_.ids.size());
    for (size_t i = 0; i < s_.ids.size(); ++i) top.push_back({s_.logits[i], s_.ids[i]});
    KeepBest(top, k);
    return top;
  }
  float threshold = -FLT_MAX;
  if (k < n_) {
    // k blocks have a maximum of at least the k-th largest one: nothing below it is among the k
    // best.
    if (k <= static_cast<int64_t>(s_.block_max.size())) {
      s_.select.assign(s_.block_max.begin(), s_.block_max.end());
    } else {
      s_.select.assign(row_, row_ + n_);
    }
    std::nth_element(s_.select.begin(), s_.select.begin() + (k - 1), s_.select.end(),
                     std::greater<>());
    threshold = std::max(threshold, s_.select[static_cast<size_t>(k - 1)]);
  }
  ForEachAtLeast(threshold, [&](int32_t i) { top.push_back({row_[i], i}); });
  KeepBest(top, k);
  return top;
}

void Candidates::KeepTop(int64_t k) {
  std::vector<Scored> top = Top(k);
  std::sort(top.begin(), top.end(), [](const Scored& a, const Scored& b) { return a.id < b.id; });
  s_.ids.resize(top.size());
  s_.logits.resize(top.size());
  for (size_t i = 0; i < top.size(); ++i) {
    s_.ids[i] = top[i].id;
    s_.logits[i] = top[i].logit;
  }
  dense_ = false;
  Rescan();
}

void Candidates::TopK(int64_t k) {
  if (k >= (dense_ ? n_ : static_cast<int64_t>(s_.ids.size()))) return;
  KeepTop(k);
}

void Candidates::TopP(double p, int64_t min_keep) {
  double target;
  if (dense_) {
    target = p * DenseMass();
    // The nucleus lies above some logit; look above ever lower ones until it is all there.
    bool enough = false;
    for (double depth : {6.0, 14.0}) {
      Collect(Threshold(static_cast<double>(max_) - depth * temperature_));
      enough = Weigh() >= target && static_cast<int64_t>(s_.ids.size()) >= min_keep;
      if (enough) break;
    }
    if (!enough) {
      Collect(-FLT_MAX);
      Weigh();
    }
    dense_ = false;
  } else {
    target = p * Weigh();
  }
  s_.keys.resize(s_.logits.size());
  for (size_t i = 0; i < s_.keys.size(); ++i) s_.keys[i] = -static_cast<double>(s_.logits[i]);
  CutByMass(target, min_keep);
}

void Candidates::MinP(double p, int64_t min_keep) {
  float threshold = Threshold(static_cast<double>(max_) + temperature_ * std::log(p));
  if (dense_) {
    Collect(threshold);
    if (static_cast<int64_t>(s_.ids.size()) < min_keep) return KeepTop(min_keep);
    dense_ = false;
    return;
  }
  int64_t kept = 0;
  for (float l : s_.logits) kept += l >= threshold ? 1 : 0;
  if (kept < min_keep) return TopK(min_keep);
  Filter([&](size_t i) { return s_.logits[i] >= threshold; });
}

void Candidates::Typical(double p, int64_t min_keep) {
  const double z_max = ToZ(max_);
  double mass;
  double moment;
  if (dense_) {
    mass = DenseMass(&moment);
  } else {
    mass = Weigh();
    moment = 0.0;
    for (size_t i = 0; i < s_.weights.size(); ++i) {
      if (s_.weights[i] > 0) moment += s_.weights[i] * (ToZ(s_.logits[i]) - z_max);
    }
  }
  const double log_mass = std::log(mass);
  const double entropy = log_mass - moment / mass;
  if (dense_) {
    // Whoever is within `reach` of the entropy comes before all others; the most probable token
    // says how far it must be for the tokens above it to be in.
    bool enough = false;
    for (double reach = std::max(3.0, entropy - log_mass); reach < 30.0; reach += 6.0) {
      Collect(Threshold(static_cast<double>(max_) + temperature_ * (log_mass - entropy - reach)));
      enough = Weigh() >= p * mass && static_cast<int64_t>(s_.ids.size()) >= min_keep;
      if (enough) break;
    }
    if (!enough) {
      Collect(-FLT_MAX);
      Weigh();
    }
    dense_ = false;
  }
  s_.keys.resize(s_.logits.size());
  for (size_t i = 0; i < s_.keys.size(); ++i) {
    double surprise = log_mass - (ToZ(s_.logits[i]) - z_max);
    s_.keys[i] = std::abs(surprise - entropy);
  }
  CutByMass(p * mass, min_keep);
}

void Candidates::Xtc(double threshold, int64_t min_keep) {
  double mass = dense_ ? DenseMass() : Weigh();
  float limit = threshold > 0 ? Threshold(static_cast<double>(max_) +
                                          temperature_ * (std::log(threshold) + std::log(mass)))
                              : -FLT_MAX;
  // The choices at or above the limit, and the least probable of them, which stays.
  int64_t count = 0;
  Scored last{0.0f, -1};
  auto see = [&](float logit, int32_t id) {
    if (!(logit >= limit)) return;
    ++count;
    if (last.id < 0 || Better(last, {logit, id})) last = {logit, id};
  };
  if (dense_) {
    ForEachAtLeast(limit, [&](int32_t i) { see(row_[i], i); });
  } else {
    for (size_t i = 0; i < s_.ids.size(); ++i) see(s_.logits[i], s_.ids[i]);
  }
  if (count < 2 || (min_keep > 1 && Count() - (count - 1) < min_keep)) return;
  if (dense_) {
    EnsureOwnRow();
    ForEachAtLeast(limit, [&](int32_t i) {
      if (i != last.id) Ban(i);
    });
    FinishEdits();
  } else {
    Filter([&](size_t i) { return !(s_.logits[i] >= limit) || s_.ids[i] == last.id; });
  }
}

void Candidates::SurpriseCeiling(double ceiling) {
  double mass = dense_ ? DenseMass() : Weigh();
  double depth = std::log(mass) - ceiling * std::numbers::ln2;  // z - z_max must not be below
  if (!(depth <= 0)) return KeepOnlyBest();
  float limit = Threshold(static_cast<double>(max_) + temperature_ * depth);
  if (dense_) {
    Collect(limit);
    dense_ = false;
  } else {
    Filter([&](size_t i) { return s_.logits[i] >= limit; });
  }
}

void Candidates::KeepOnlyBest() {
  int32_t best = ArgMax();
  s_.ids.assign(1, best);
  s_.logits.assign(1, max_);
  dense_ = false;
}

int32_t Candidates::Draw(double u) {
  INK_CHECK(!empty());
  if (!dense_) {
    double target = u * Weigh();
    double running = 0.0;
    size_t last = 0;
    for (size_t i = 0; i < s_.weights.size(); ++i) {
      if (s_.weights[i] == 0.0) continue;
      last = i;
      running += s_.weights[i];
      if (running > target) break;
    }
    return s_.ids[last];
  }
  double target = u * DenseMass();
  double running = 0.0;
  size_t block = 0;
  for (size_t b = 0; b < s_.block_mass.size(); ++b) {
    if (s_.block_mass[b] == 0.0) continue;
    block = b;
    if (running + s_.block_mass[b] > target) break;
    running += s_.block_mass[b];
  }
  const float inv = static_cast<float>(1.0 / temperature_);
  int32_t begin = static_cast<int32_t>(block) * kRowBlock;
  int32_t end = std::min(begin + kRowBlock, n_);
  int32_t last = begin;
  for (int32_t i = begin; i < end; ++i) {
    float w = FastExp((row_[i] - max_) * inv);
    if (w == 0.0f) continue;
    last = i;
    running += static_cast<double>(w);
    if (running > target) break;
  }
  return last;
}

LogNorm Candidates::Norm() const {
  double max = static_cast<double>(max_);
  double mass = dense_ ? RowMassDouble(row_, n_, max, temperature_)
                       : RowMassDouble(s_.logits.data(), static_cast<int32_t>(s_.logits.size()),
                                       max, temperature_);
  return {ToZ(max_), std::log(mass)};
}

double Candidates::Z(int32_t id) const {
  if (dense_) return ToZ(row_[id]);
  auto it = std::lower_bound(s_.ids.begin(), s_.ids.end(), id);
  if (it == s_.ids.end() || *it != id) return -std::numeric_limits<double>::infinity();
  return ToZ(s_.logits[static_cast<size_t>(it - s_.ids.begin())]);
}

std::vector<std::pair<int32_t, double>> Candidates::Probabilities() const {
  std::vector<std::pair<int32_t, double>> list;
  const LogNorm norm = Norm();
  auto add = [&](int32_t id, float logit) {
    double p = std::exp(norm.Logprob(ToZ(logit)));
    if (p > 0) list.emplace_back(id, p);
  };
  if (dense_) {
    for (int32_t i = 0; i < n_; ++i) add(i, row_[i]);
  } else {
    for (size_t i = 0; i < s_.ids.size(); ++i) add(s_.ids[i], s_.logits[i]);
  }
  return list;
}

}  // namespace ink
