// What a caller asks the engine for, and what comes back.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "engine/adapter_set.h"
#include "sampling/beam_search.h"
#include "sampling/constraint/gated.h"
#include "sampling/params.h"
#include "sampling/sampler.h"
#include "text/detokenizer.h"

namespace ink {

using RequestId = uint64_t;

/// Seconds of each phase, and what the cache saved.
struct GenerationTimings {
  double queue_s = 0;    // submitted -> first scheduled
  double prefill_s = 0;  // first scheduled -> first token
  double decode_s = 0;   // first token -> last token
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;      // of the prompt, taken from the prefix cache
  int64_t completion_tokens = 0;  // all choices
  int64_t draft_tokens = 0;       // proposed by speculation
  int64_t accepted_tokens = 0;    // of them
};

/// One step of one choice of a request. Pieces of text are whole UTF-8 characters; what might still
/// become a stop string is held back.
struct GenerationEvent {
  RequestId request = 0;
  int choice = 0;
  int32_t token = -1;                    // -1 when the event only ends the choice
  std::string text;                      // may be empty
  const SampleResult* sample = nullptr;  // log-probabilities, where asked for
  FinishReason finish = FinishReason::kNone;
  std::string matched_stop;                    // the stop string that ended the choice
  Status error;                                // not ok: the request failed, nothing follows
  bool last = false;                           // no further event of this request
  const GenerationTimings* timings = nullptr;  // with `last`
};

/// Called on the engine's thread, between steps.
using EventFn = std::function<void(const GenerationEvent&)>;

struct GenerationRequest {
  std::vector<int32_t> prompt;  // at least one token
  SamplingParams sampling;      // max_tokens -1: to the end of the context
  int num_choices = 1;
  std::optional<BeamParams> beam;  // replaces sampling; its best num_choices texts are the choices
  std::shared_ptr<const CompiledConstraint> constraint;
  ReasoningGate reasoning;  // where `constraint` begins
  DetokenizerOptions text;
  int32_t priority = 0;
  std::string key;  // fair share
  uint32_t weight = 1;
  std::string tenant;  // scope of the prefix cache
  /// Adapters of the engine by name, each with its scale, applied in this order; empty for the
  /// model alone, absent for the engine's default ones.
  std::optional<std::vector<AdapterUse>> adapters;
  /// Speculation: tokens that may be drafted per step; 0 turns it off for this request.
  int max_draft_tokens = 0;
  /// Receives the logits of prompt positions as they are computed (teacher forcing); positions
  /// that came from the prefix cache are not computed.
  std::function<void(int64_t position, std::span<const float> logits)> prompt_logits;
  int64_t prompt_logits_from = 0;  // first position of interest
  /// Receives the final hidden states [d_model] of all prompt positions in order, for embeddings;
  /// such a request takes nothing from the prefix cache.
  std::function<void(int64_t position, std::span<const float> hidden)> prompt_hidden;
  EventFn on_event;
};

}  // namespace ink
