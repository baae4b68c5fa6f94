// The engine's private records, shared by its source files.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "sampling/stop_checker.h"

namespace ink {

struct Engine::Sequence {
  SequenceId id = 0;
  Request* request = nullptr;
  int choice = 0;
  Sampler sampler;
  Detokenizer detokenizer;
  StopChecker stops;
  std::optional<GatedConstraint> constraint;

  // Drafts of the step being run, and how many the next one asks for: it doubles while all are
  // accepted and halves when most are not.
  std::vector<int32_t> drafts;
  int draft_length = 4;

  // Results of the step being run.
  std::vector<SampleResult> sampled;
  bool verifying = false;  // a draft so far matched, the next row counts
  FinishReason finish = FinishReason::kNone;
  Status error;
  std::vector<SampleResult> other_choices;  // of a request's first step, for the choices to fork

  // Beams.
  int beam = -1;
  bool scored = false;
  std::vector<TokenLogprob> candidates;

  Sequence(SequenceId id, Request* request, Sampler sampler, Detokenizer detokenizer,
           StopChecker stops)
      : id(id),
        request(request),
        sampler(std::move(sampler)),
        detokenizer(std::move(detokenizer)),
        stops(std::move(stops)) {}
};

struct Engine::Request {
  RequestId id = 0;
  GenerationRequest spec;
  AdapterSet::Lease adapters;
  GenerationTimings timings;
  Clock::time_point submitted, scheduled, first_token;
  bool was_scheduled = false;
  bool has_token = false;
  bool cancelled = false;
  int open_choices = 0;
  std::vector<Sampler> choice_samplers;  // of choices 1.. until they fork
  std::vector<SequenceId> sequences;     // live, in choice (or beam) order
  std::optional<BeamSearch> beams;
};

}  // namespace ink
