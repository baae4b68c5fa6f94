// Where speculative tokens come from. Verification is exact (Sampler), so a source changes speed
// and never a result.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "cache/types.h"
#include "engine/model_runner.h"
#include "engine/scheduler_policy.h"

namespace ink {

struct DraftQuery {
  SequenceId id;
  std::span<const int32_t> tokens;  // prompt and output so far
  int max_tokens;
};

class DraftSource {
 public:
  virtual ~DraftSource() = default;
  /// Up to max_tokens continuations for each query; result [queries].
  virtual std::vector<std::vector<int32_t>> Propose(std::span<const DraftQuery> queries) = 0;
  /// The sequence ended.
  virtual void Forget(SequenceId id) = 0;
};

/// Prompt lookup (Saxena 2023): the tokens that followed the last earlier occurrence of the
/// sequence's last three (else two) tokens.
class PromptLookupDrafts : public DraftSource {
 public:
  std::vector<std::vector<int32_t>> Propose(std::span<const DraftQuery> queries) override;
  void Forget(SequenceId id) override { index_.erase(id); }

 private:
  struct Index {
    int64_t indexed = 0;                                   // tokens whose n-grams are in the tables
    std::unordered_map<uint64_t, int64_t> after2, after3;  // n-gram -> position after it
  };
  static void Extend(Index& index, std::span<const int32_t> tokens);
  std::unordered_map<SequenceId, Index> index_;
};

/// A smaller model with the same vocabulary, decoding greedily with a cache of its own.
class ModelDrafts : public DraftSource {
 public:
  /// `model` and `device` outlive the source. Sequences beyond `max_seqs` get no drafts.
  static Result<std::unique_ptr<ModelDrafts>> Create(const Model& model, Device& device,
                                                     int max_seqs, int64_t max_context,
                                                     KvTypes types);
  std::vector<std::vector<int32_t>> Propose(std::span<const DraftQuery> queries) override;
  void Forget(SequenceId id) override;

 private:
  struct State {
    int slot;
    std::vector<int32_t> computed;  // tokens whose KV is in the slot
  };
  State* StateOf(SequenceId id);
  std::unique_ptr<ModelRunner> runner_;
  std::vector<std::vector<BlockId>> tables_;  // per slot
  std::vector<int> free_slots_;
  std::unordered_map<SequenceId, State> states_;
};

}  // namespace ink
