// The tokens that are still possible, and the stages that remove some of them.
//
// Starts dense (the row itself, unread until needed) and becomes sparse (ids and logits) once a
// stage leaves few. Ids always ascend and are never reordered, so every draw and every tie is
// decided by (logit, id) alone. Temperature is kept as a factor: z = logit / temperature. A logit
// of -infinity is no candidate.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/status.h"

namespace ink {

/// Buffers of one thread, reused by every row it samples: at worst about 40 bytes per vocabulary
/// entry (a nucleus of everything), usually 4 or none. Contents mean nothing between calls.
class SamplerScratch {
 public:
  size_t Bytes() const;

 private:
  friend class Candidates;
  std::vector<float> row;          // the edited copy of a row
  std::vector<float> block_max;    // per block of the row
  std::vector<double> block_mass;  // per block of the row
  std::vector<float> select;       // nth_element works on copies
  std::vector<int32_t> ids;        // sparse candidates
  std::vector<float> logits;       // theirs
  std::vector<double> weights;     // exp(z - z_max), sparse candidates
  std::vector<double> keys;        // order of a mass cut, lower first
  std::vector<int32_t> order;      // indices while sorting
  std::vector<int32_t> touched;    // blocks with edits
};

/// log(sum of exp(z)) as the largest z and the rest, so that huge logits keep their differences.
struct LogNorm {
  double z_max = 0.0;
  double log_mass = 0.0;  // log(sum of exp(z - z_max))
  double Logprob(double z) const { return (z - z_max) - log_mass; }
};

class Candidates {
 public:
  /// One candidate, where an order matters: better is a larger logit, then a lower id.
  struct Scored {
    float logit;
    int32_t id;
  };

  explicit Candidates(SamplerScratch& scratch) : s_(scratch) {}
  Candidates(const Candidates&) = delete;
  Candidates& operator=(const Candidates&) = delete;

  /// Every id of `logits` [n_vocab]; the row must outlive this. Error: a NaN or +infinity.
  Status Load(std::span<const float> logits);
  /// Back to the state after Load().
  void Reset();
  /// Removes the ids whose bit is 0; only right after Load() or Reset().
  void ApplyMask(std::span<const uint32_t> mask);

  // --- Edits of single candidates. Between them and any other call: FinishEdits() ---
  /// z -> edit(z) for `id`, if it is a candidate; a result beyond float's range is clamped.
  template <typename F>
  void Edit(int32_t id, F&& edit) {
    float* logit = Find(id);
    if (logit == nullptr) return;
    double z = static_cast<double>(*logit) / temperature_ + edit_offset_;
    Store(id, logit, (edit(z) - edit_offset_) * temperature_);
  }
  /// Edits see z + offset: log-probabilities, where offset is minus the norm.
  void SetEditOffset(double offset) { edit_offset_ = offset; }
  void Ban(int32_t id);
  void FinishEdits();

  bool empty() const;
  int64_t Count() const;
  bool dense() const { return dense_; }
  /// The best candidate. Not on an empty set, as all that follows.
  int32_t ArgMax() const;

  // --- Stages; see SamplingParams for what each means. min_keep >= 1 ---
  void Temperature(double temperature) { temperature_ *= temperature; }
  void DynamicTemperature(double low, double high, double exponent);
  void TopNSigma(double n);
  void TopK(int64_t k);
  void TopP(double p, int64_t min_keep);
  void MinP(double p, int64_t min_keep);
  void Typical(double p, int64_t min_keep);
  void Xtc(double threshold, int64_t min_keep);
  /// Keeps candidates with -log2(p) <= ceiling, at least the best one.
  void SurpriseCeiling(double ceiling);
  void KeepOnlyBest();

  // --- Reading ---
  /// The candidate at `u` in [0, 1) of the cumulative distribution, ids ascending.
  int32_t Draw(double u);
  /// The log-softmax's norm, in double.
  LogNorm Norm() const;
  /// z of an id, -infinity if it is no candidate.
  double Z(int32_t id) const;
  double ToZ(float logit) const { return static_cast<double>(logit) / temperature_; }
  /// The k best candidates (all, if fewer), best first.
  std::vector<Scored> Top(int64_t k);
  /// (id, probability) of all candidates of probability above zero, ids ascending.
  std::vector<std::pair<int32_t, double>> Probabilities() const;

 private:
  float* Find(int32_t id);
  void Store(int32_t id, float* logit, double value);
  void EnsureOwnRow();
  /// Sets the maxima anew from the row (dense) or the candidates (sparse).
  void Rescan();
  /// Dense: lists finite logits >= threshold as ids and logits; `dense_` stays for the caller to
  /// set.
  void Collect(float threshold);
  /// Dense: calls see(id) for logits >= threshold (finite), ids ascending.
  template <typename F>
  void ForEachAtLeast(float threshold, F&& see) const;
  /// Sparse: keeps index i where keep(i).
  template <typename F>
  void Filter(F&& keep);
  /// Sparse, from best to worst: keeps `k`.
  void KeepTop(int64_t k);
  /// Sparse: fills weights, returns their sum.
  double Weigh();
  /// Dense: fills block_mass, returns the sum.
  double DenseMass(double* moment = nullptr);
  /// Sparse: with weights and keys set, keeps the candidates of lowest key until their weights
  /// reach `target` and their number `min_keep`.
  void CutByMass(double target, int64_t min_keep);

  SamplerScratch& s_;
  const float* input_ = nullptr;  // the caller's row
  const float* row_ = nullptr;    // dense: the caller's row or s_.row
  int32_t n_ = 0;
  bool own_row_ = false;
  bool dense_ = true;
  float max_ = 0.0f;          // the largest logit
  double temperature_ = 1.0;  // of the stages so far
  double edit_offset_ = 0.0;
};

}  // namespace ink
