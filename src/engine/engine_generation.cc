// What happens with logits: sampling, verification of drafts, choices, beams, text and endings.
#include <algorithm>

#include "engine/engine_state.h"

namespace ink {
namespace {

double Seconds(std::chrono::steady_clock::duration d) {
  return std::chrono::duration<double>(d).count();
}

}  // namespace

std::span<const uint32_t> Engine::MaskOf(const Sequence& sequence) {
  if (!sequence.constraint) return {};
  sequence.constraint->FillMask(mask_);
  return mask_;
}

void Engine::OnLogits(const ScheduledSequence& scheduled, Sequence& sequence, int64_t row,
                      std::span<const float> logits) {
  Request& request = *sequence.request;
  if (request.spec.sampling.max_tokens == 0) return;  // logits only
  if (request.beams) {
    ScoreBeam(sequence, logits);
    return;
  }
  if (!sequence.verifying) return;
  SampleRow(sequence, logits);
  if (row == 0 && !request.choice_samplers.empty()) SampleChoices(sequence, logits);
  // The next row's logits follow the draft: they count only if the draft was what was sampled.
  sequence.verifying = sequence.error.ok() && sequence.finish == FinishReason::kNone &&
                       row < scheduled.num_draft_tokens &&
                       sequence.sampled.back().token == sequence.drafts[row];
}

void Engine::SampleRow(Sequence& sequence, std::span<const float> logits) {
  auto result = sequence.sampler.Sample(logits, MaskOf(sequence), scratch_);
  if (!result.ok()) {
    sequence.error = result.status();
    return;
  }
  sequence.sampler.Accept(*result);
  if (sequence.constraint) sequence.constraint->AdvanceToken(result->token);
  sequence.finish = sequence.sampler.Finish();
  sequence.sampled.push_back(*std::move(result));
}

void Engine::SampleChoices(Sequence& first, std::span<const float> logits) {
  Request& request = *first.request;
  first.other_choices.clear();
  std::span<const uint32_t> mask;
  if (request.spec.constraint != nullptr) {
    GatedConstraint(request.spec.constraint, request.spec.reasoning).FillMask(mask_);
    mask = mask_;
  }
  for (Sampler& sampler : request.choice_samplers) {
    auto result = sampler.Sample(logits, mask, scratch_);
    if (!result.ok()) {
      first.error = result.status();
      return;
    }
    first.other_choices.push_back(*std::move(result));
  }
}

void Engine::ScoreBeam(Sequence& sequence, std::span<const float> logits) {
  auto scores = sequence.sampler.BeamScores(logits, MaskOf(sequence),
                                            sequence.request->beams->num_candidates(), scratch_);
  if (!scores.ok()) {
    sequence.error = scores.status();
    return;
  }
  sequence.candidates = *std::move(scores);
  sequence.scored = true;
}

void Engine::Settle(const ScheduledSequence& scheduled) {
  auto found = sequences_.find(scheduled.id);
  if (found == sequences_.end()) return;  // its request failed in this step
  Sequence& sequence = *found->second;
  Request& request = *sequence.request;
  if (!sequence.error.ok()) {
    FailRequest(request, sequence.error);
    return;
  }
  if (!scheduled.needs_logits) {
    INK_CHECK(scheduler_->Update(scheduled.id, {}).ok());
    return;
  }
  const Clock::time_point now = Clock::now();
  if (!request.has_token) {
    request.has_token = true;
    request.first_token = now;
    request.timings.prefill_s = Seconds(now - request.scheduled);
  }
  request.timings.decode_s = Seconds(now - request.first_token);
  if (request.spec.sampling.max_tokens == 0) {
    INK_CHECK(scheduler_->Update(scheduled.id, {}).ok());
    EndSequence(sequence, FinishReason::kLength);
    return;
  }
  if (request.beams) {
    INK_CHECK(scheduler_->Update(scheduled.id, {}).ok());
    AdvanceBeams(request);
    return;
  }
  std::vector<int32_t> tokens;
  for (const SampleResult& sampled : sequence.sampled) tokens.push_back(sampled.token);
  INK_CHECK(scheduler_->Update(scheduled.id, tokens).ok());
  if (scheduled.num_draft_tokens > 0) {
    const int accepted = static_cast<int>(tokens.size()) - 1;
    request.timings.draft_tokens += scheduled.num_draft_tokens;
    request.timings.accepted_tokens += accepted;
    if (accepted == scheduled.num_draft_tokens) {
      sequence.draft_length = std::min(16, sequence.draft_length * 2);
    } else if (accepted * 2 < scheduled.num_draft_tokens) {
      sequence.draft_length = std::max(2, sequence.draft_length / 2);
    }
  }
  if (!sequence.other_choices.empty()) ForkChoices(sequence);
  Publish(sequence);
}

void Engine::ForkChoices(Sequence& parent) {
  Request& request = *parent.request;
  std::vector<SampleResult> first_tokens = std::move(parent.other_choices);
  parent.other_choices.clear();
  std::vector<Sampler> samplers = std::move(request.choice_samplers);
  request.choice_samplers.clear();
  std::vector<SequenceId> children;
  for (size_t c = 0; c < samplers.size(); ++c) {
    SequenceId id = next_sequence_++;
    INK_CHECK(scheduler_->Fork(parent.id, id).ok());
    INK_CHECK(scheduler_->Truncate(id, scheduler_->num_prompt_tokens(parent.id)).ok());
    Sequence& child = NewSequence(request, id, std::move(samplers[c]));
    child.choice = static_cast<int>(c) + 1;
    child.sampler.Accept(first_tokens[c]);
    if (child.constraint) child.constraint->AdvanceToken(first_tokens[c].token);
    child.finish = child.sampler.Finish();
    int32_t token = first_tokens[c].token;
    INK_CHECK(scheduler_->Append(id, {&token, 1}).ok());
    child.sampled = {std::move(first_tokens[c])};
    children.push_back(id);
  }
  for (SequenceId id : children) {
    auto found = sequences_.find(id);
    if (found != sequences_.end()) Publish(*found->second);
  }
}

// Sends the step's tokens of a sequence, and ends it where one of them does.
void Engine::Publish(Sequence& sequence) {
  Request& request = *sequence.request;
  const SamplingParams& params = request.spec.sampling;
  const size_t count = sequence.sampled.size();
  std::vector<SampleResult> sampled = std::move(sequence.sampled);
  sequence.sampled.clear();
  for (size_t i = 0; i < count; ++i) {
    const SampleResult& result = sampled[i];
    ++totals_.generated_tokens;
    ++request.timings.completion_tokens;
    const bool last = i + 1 == count;
    const bool ends = last && (sequence.finish == FinishReason::kEndToken ||
                               sequence.finish == FinishReason::kStopToken);
    GenerationEvent event;
    event.request = request.id;
    event.choice = sequence.choice;
    event.token = result.token;
    if (params.logprobs >= 0) event.sample = &result;
    const int64_t from_end = static_cast<int64_t>(count - 1 - i);
    const bool armed = sequence.sampler.num_output() - from_end > params.min_tokens;
    if (!ends && tokenizer_ != nullptr && result.token < tokenizer_->vocab_size()) {
      event.text = sequence.stops.Append(sequence.detokenizer.Add(result.token), armed);
    }
    if (sequence.stops.stopped()) {
      sequence.finish = FinishReason::kStopString;
      event.matched_stop = sequence.stops.matched();
    }
    if (request.spec.on_event) request.spec.on_event(event);
    if (sequence.finish == FinishReason::kStopString) break;
  }
  if (sequence.finish != FinishReason::kNone) EndSequence(sequence, sequence.finish);
}

void Engine::EndSequence(Sequence& sequence, FinishReason reason) {
  Request& request = *sequence.request;
  GenerationEvent event;
  event.request = request.id;
  event.choice = sequence.choice;
  event.finish = reason;
  if (reason != FinishReason::kStopString && tokenizer_ != nullptr) {
    event.text = sequence.stops.Append(sequence.detokenizer.Flush());
    event.text += sequence.stops.Flush();
  } else if (reason == FinishReason::kStopString) {
    event.matched_stop = sequence.stops.matched();
  }
  event.last = --request.open_choices == 0;
  if (event.last) event.timings = &request.timings;
  INK_CHECK(scheduler_->Finish(sequence.id).ok());
  RemoveSequence(sequence.id);
  if (request.spec.on_event) request.spec.on_event(event);
  if (request.open_choices == 0) EndRequest(request);
}

void Engine::EndRequest(Request& request, const Status& error) {
  Remember(request, error);
  while (!request.sequences.empty()) {
    SequenceId id = request.sequences.back();
    (void)scheduler_->Finish(id);
    RemoveSequence(id);
  }
  requests_.erase(request.id);
}

void Engine::FailRequest(Request& request, const Status& error) {
  GenerationEvent event;
  event.request = request.id;
  event.error = error;
  event.last = true;
  event.timings = &request.timings;
  if (request.spec.on_event) request.spec.on_event(event);
  EndRequest(request, error);
}

void Engine::AdvanceBeams(Request& request) {
  for (SequenceId id : request.sequences) {
    if (!sequences_.at(id)->scored) return;  // the others run in a later step
  }
  std::vector<std::vector<TokenLogprob>> candidates;
  for (SequenceId id : request.sequences) {
    Sequence& sequence = *sequences_.at(id);
    candidates.push_back(std::move(sequence.candidates));
    sequence.scored = false;
  }
  auto step = request.beams->Step(candidates);
  if (!step.ok()) {
    FailRequest(request, step.status());
    return;
  }
  if (step->done) {
    FinishBeams(request);
    return;
  }
  // The first beam that continues a parent keeps its sequence; others fork from it while it is
  // still the parent's text, and share its blocks.
  const std::vector<SequenceId> parents = request.sequences;
  std::vector<SequenceId> next(step->parents.size(), 0);
  std::vector<bool> used(parents.size(), false);
  for (size_t i = 0; i < next.size(); ++i) {
    const int32_t parent = step->parents[i];
    if (!used[parent]) {
      used[parent] = true;
      next[i] = parents[parent];
      continue;
    }
    next[i] = next_sequence_++;
    INK_CHECK(scheduler_->Fork(parents[parent], next[i]).ok());
    Sequence& from = *sequences_.at(parents[parent]);
    Sequence& child = NewSequence(request, next[i], from.sampler);
    child.constraint = from.constraint;
  }
  for (size_t p = 0; p < parents.size(); ++p) {
    if (used[p]) continue;
    (void)scheduler_->Finish(parents[p]);
    RemoveSequence(parents[p]);
  }
  for (size_t i = 0; i < next.size(); ++i) {
    Sequence& sequence = *sequences_.at(next[i]);
    const int32_t token = step->tokens[i];
    sequence.beam = static_cast<int>(i);
    sequence.sampler.Accept(token);
    if (sequence.constraint) sequence.constraint->AdvanceToken(token);
    INK_CHECK(scheduler_->Append(next[i], {&token, 1}).ok());
  }
  request.sequences = next;
}

void Engine::FinishBeams(Request& request) {
  std::vector<Hypothesis> best = request.beams->Best(request.spec.num_choices);
  request.timings.completion_tokens = 0;
  for (size_t c = 0; c < best.size(); ++c) {
    const Hypothesis& hypothesis = best[c];
    request.timings.completion_tokens += static_cast<int64_t>(hypothesis.tokens.size());
    totals_.generated_tokens += static_cast<int64_t>(hypothesis.tokens.size());
    Detokenizer detokenizer(tokenizer_, request.spec.text);
    for (size_t i = 0; i < hypothesis.tokens.size(); ++i) {
      GenerationEvent event;
      event.request = request.id;
      event.choice = static_cast<int>(c);
      event.token = hypothesis.tokens[i];
      const bool is_end = hypothesis.ended && i + 1 == hypothesis.tokens.size();
      if (!is_end && tokenizer_ != nullptr) event.text = detokenizer.Add(event.token);
      if (request.spec.on_event) request.spec.on_event(event);
    }
    GenerationEvent event;
    event.request = request.id;
    event.choice = static_cast<int>(c);
    event.finish = hypothesis.ended ? FinishReason::kEndToken : FinishReason::kLength;
    event.text = tokenizer_ != nullptr ? detokenizer.Flush() : "";
    event.last = c + 1 == best.size();
    if (event.last) event.timings = &request.timings;
    if (request.spec.on_event) request.spec.on_event(event);
  }
  EndRequest(request);
}

}  // namespace ink
