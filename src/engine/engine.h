// Many requests on one model: continuous batching with chunked prefill, paged KV with verified
// prefix reuse, per-sequence sampling, beams, choices and speculation. Used by one thread; the
// contract is docs/engine-contract.md.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/adapter_set.h"
#include "engine/disk_tier.h"
#include "engine/drafts.h"
#include "engine/engine_view.h"
#include "engine/generation.h"
#include "engine/model_runner.h"
#include "engine/scheduler.h"
#include "engine/step_cost.h"
#include "text/tokenizer.h"

namespace ink {

struct EngineConfig {
  int64_t context = 0;  // positions of a sequence at most; 0: the model's
  int32_t max_seqs = 1;
  int32_t token_budget = 512;  // tokens per step
  int32_t max_chunk = 0;       // prefill tokens of a sequence per step; 0: token_budget
  KvTypes kv_types;
  int64_t kv_bytes = 0;    // KV memory; 0: what max_seqs sequences of `context` tokens need
  int64_t host_bytes = 0;  // for swapped-out sequences
  bool prefix_cache = true;
  PreemptionMode preemption = PreemptionMode::kRecompute;
  std::string policy = "fcfs";
  int64_t max_waiting = 4096;
  std::string model_name;  // scope of the prefix cache; with `kv_disk`, the model's fingerprint
  /// Keeps what leaves the prefix cache, and all of it when the engine goes; null for none.
  /// Outlives the engine. Several engines may share it.
  DiskStore* kv_disk = nullptr;
};

struct EngineStats {
  SchedulerStats scheduler;
  int64_t steps = 0;
  int64_t prompt_tokens = 0;     // computed in prefill
  int64_t generated_tokens = 0;  // sampled
  double step_seconds = 0;       // inside model steps
  // Steps that compute tokens of prompts, and those that only write on; `recent` are the last ones.
  PhaseWork prefill, decode, recent_prefill, recent_decode;
};

class Engine {
 public:
  /// `model`, `device` and `tokenizer` outlive the engine.
  static Result<std::unique_ptr<Engine>> Create(const Model& model, Device& device,
                                                std::shared_ptr<const Tokenizer> tokenizer,
                                                const EngineConfig& config);
  ~Engine();

  /// What Create will allocate, without doing so.
  static Result<ModelRunner::Plan> MakePlan(const Model& model, Device& device,
                                            const EngineConfig& config);

  /// Queues a request; events arrive during Step. Errors: invalid parameters, a prompt longer than
  /// the context (both named), a full queue, a request that memory could never hold.
  Result<RequestId> Submit(GenerationRequest request);
  /// The request ends with a cancelled error in the next step. Unknown ids are ignored.
  void Cancel(RequestId id);
  /// One scheduling step and forward pass. Returns whether work is left.
  bool Step();
  bool HasWork() const;

  /// Adapters, added and removed while requests run (between steps, on the engine's thread). Read
  /// one with ReadAdapter(path, model.adapter_target()); its host copy may go once it was added.
  /// Cached prefixes never pass from one set of adapters and scales to another, nor to a later
  /// adapter of the same name. Errors: AdapterSet::Add.
  Status AddAdapter(const std::string& name, const Adapter& adapter);
  /// Refused (kUnavailable) while requests use it, or with `drain` done when the last of them ends;
  /// new ones that name it are refused from now on. Errors: AdapterSet::Remove.
  Status RemoveAdapter(const std::string& name, bool drain = false);
  std::vector<AdapterInfo> adapters() const { return adapters_->List(); }
  /// Device bytes that AddAdapter will take. Errors: AdapterSet::Add.
  Result<int64_t> AdapterBytes(const Adapter& adapter) const { return adapters_->PlanAdd(adapter); }
  /// What requests get that leave GenerationRequest::adapters absent. Errors: AdapterSet::Select.
  Status SetDefaultAdapters(std::vector<AdapterUse> uses);

  /// What adapters will add to MakePlan's sizes.
  static Result<AdapterSet::Plan> MakeAdapterPlan(const Model& model, Device& device,
                                                  const EngineConfig& config,
                                                  std::span<const Adapter> adapters);

  /// Speculation for requests that allow it; null turns it off.
  void set_drafts(std::unique_ptr<DraftSource> drafts) { drafts_ = std::move(drafts); }
  ModelRunner& runner() { return *runner_; }
  Scheduler& scheduler() { return *scheduler_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const std::shared_ptr<const Tokenizer>& shared_tokenizer() const { return tokenizer_; }
  const EngineConfig& config() const { return config_; }
  EngineStats stats() const;
  /// A copy of what is where, for people to look at; also the last few requests that ended.
  /// O(blocks + requests * their blocks).
  EngineView View() const;
  /// Scheduler, cache and requests against each other.
  Status CheckIntegrity() const;

 private:
  using Clock = std::chrono::steady_clock;

  // One choice or beam: what the engine keeps per scheduler sequence.
  struct Sequence;
  // One request with its sequences.
  struct Request;
  // One that is over, for View.
  struct Ended {
    Clock::time_point submitted;
    RequestView view;
  };

  Engine(const Model& model, Device& device, std::shared_ptr<const Tokenizer> tokenizer,
         const EngineConfig& config);

  void ProposeDrafts();
  void HandleOutcome(const SchedulerOutput& output);
  void RunStep(const SchedulerOutput& output);
  void OnLogits(const ScheduledSequence& scheduled, Sequence& sequence, int64_t row,
                std::span<const float> logits);
  void SampleRow(Sequence& sequence, std::span<const float> logits);
  void ScoreBeam(Sequence& sequence, std::span<const float> logits);
  void SampleChoices(Sequence& first, std::span<const float> logits);
  std::span<const uint32_t> MaskOf(const Sequence& sequence);

  void Settle(const ScheduledSequence& scheduled);
  void ForkChoices(Sequence& parent);
  void Publish(Sequence& sequence);
  void AdvanceBeams(Request& request);
  void FinishBeams(Request& request);
  void EndSequence(Sequence& sequence, FinishReason reason);
  void EndRequest(Request& request, const Status& error = OkStatus());
  void FailRequest(Request& request, const Status& error);
  Sequence& NewSequence(Request& request, SequenceId id, Sampler sampler);
  void RemoveSequence(SequenceId id);
  // engine_view.cc
  RequestView Describe(const Request& request, Clock::time_point now) const;
  void Remember(const Request& request, const Status& error);

  const Model& model_;
  Device& device_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  EngineConfig config_;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<AdapterSet> adapters_;  // outlives the requests, which hold leases
  std::vector<AdapterUse> default_adapters_;
  std::unique_ptr<ModelRunner> runner_;
  std::unique_ptr<DiskTier> disk_;
  std::unique_ptr<DraftSource> drafts_;
  SamplerScratch scratch_;
  std::vector<uint32_t> mask_;
  std::unordered_map<RequestId, std::unique_ptr<Request>> requests_;
  std::unordered_map<SequenceId, std::unique_ptr<Sequence>> sequences_;
  RequestId next_request_ = 1;
  SequenceId next_sequence_ = 1;
  EngineStats totals_;
  PhaseMeter prefill_meter_, decode_meter_;
  int64_t step_weight_bytes_ = 0;
  std::deque<Ended> ended_;  // newest first
};

}  // namespace ink
