#include "serve/exchange.h"

#include <algorithm>
#include <utility>

namespace ink {
namespace {

using Clock = std::chrono::steady_clock;

double Seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

std::string_view FinishLabel(FinishReason reason) {
  switch (reason) {
    case FinishReason::kLength:
      return "length";
    case FinishReason::kNone:
      return "abort";
    default:
      return "stop";
  }
}

// Header values must be one line of visible ASCII.
std::string HeaderText(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 512)) {
    out.push_back(c >= 0x20 && c < 0x7f ? c : '?');
  }
  return out;
}

}  // namespace

void AddCommonHeaders(const RequestContext& context, const std::vector<std::string>& warnings,
                      HttpResponse* response) {
  response->headers.emplace_back("x-request-id", context.request_id);
  if (!context.traceparent.empty()) {
    response->headers.emplace_back("traceparent", HeaderText(context.traceparent));
  }
  constexpr size_t kMaxWarningHeaders = 16;
  for (size_t i = 0; i < std::min(warnings.size(), kMaxWarningHeaders); ++i) {
    response->headers.emplace_back("x-inkstone-warning", HeaderText(warnings[i]));
  }
}

void Exchange::Start(RequestContext context, GenerationPlan plan,
                     std::unique_ptr<ResponseFormat> format) {
  std::shared_ptr<Exchange> exchange(
      new Exchange(std::move(context), std::move(plan), std::move(format)));
  exchange->Submit();
}

Exchange::Exchange(RequestContext context, GenerationPlan plan,
                   std::unique_ptr<ResponseFormat> format)
    : context_(std::move(context)), plan_(std::move(plan)), format_(std::move(format)) {
  const size_t count = plan_.prompts.size() * static_cast<size_t>(plan_.request.num_choices);
  choices_.reserve(count);
  for (size_t i = 0; i < count; ++i) choices_.emplace_back(plan_.output);
  open_prompts_ = plan_.prompts.size();
}

void Exchange::Submit() {
  submitted_ = Clock::now();
  std::weak_ptr<Exchange> weak = weak_from_this();
  context_.writer->OnClose([weak] {
    if (auto self = weak.lock()) self->CancelAll();
  });
  for (size_t p = 0; p < plan_.prompts.size(); ++p) {
    GenerationRequest request = plan_.request;
    request.prompt = std::move(plan_.prompts[p]);
    // The engine's last event frees the callback, and with it this object.
    auto self = shared_from_this();
    std::lock_guard lock(tickets_mutex_);
    if (cancelled_ && p > 0) {
      // What is not submitted sends no event; nobody is there to hear either.
      continue;
    }
    tickets_.push_back(context_.model->engine().Submit(
        std::move(request), [self, p](const TokenEvent& event) { self->OnEvent(p, event); }));
    if (cancelled_) context_.model->engine().Cancel(tickets_.back());
  }
}

void Exchange::CancelAll() {
  std::lock_guard lock(tickets_mutex_);
  if (cancelled_) return;
  cancelled_ = true;
  for (EngineThread::Ticket ticket : tickets_) context_.model->engine().Cancel(ticket);
}

void Exchange::OnEvent(size_t prompt, const TokenEvent& event) {
  if (event.last) --open_prompts_;
  if (over_) return;
  if (!context_.writer->IsOpen()) {
    // Also reached where the writer gave up on a slow reader.
    CancelAll();
    if (event.last) Finish(499, "abort");
    return;
  }
  if (!event.error.ok()) {
    ApiError error = FromStatus(event.error);
    if (error.http_status == 429) {
      const EngineSnapshot snapshot = context_.model->engine().snapshot();
      const double per_request =
          snapshot.stats.generated_tokens > 0
              ? snapshot.stats.step_seconds / static_cast<double>(snapshot.stats.steps + 1)
              : 1.0;
      // Half the queue, at some hundred steps each shared by all that run: an estimate.
      error.retry_after_s =
          std::clamp(per_request * 100 * static_cast<double>(snapshot.stats.scheduler.num_waiting) /
                         (2.0 * std::max(1, context_.model->engine().config().max_seqs)),
                     1.0, 60.0);
    }
    Fail(error);
    return;
  }
  std::string out;
  const int index = static_cast<int>(prompt) * plan_.request.num_choices + event.choice;
  if (event.kind == TokenEvent::Kind::kAccepted) {
    if (plan_.stream && !streaming_) {
      streaming_ = true;
      HttpResponse head;
      head.content_type = format_->stream_type();
      head.headers.emplace_back("Cache-Control", "no-cache");
      head.headers.emplace_back("X-Accel-Buffering", "no");
      AddCommonHeaders(context_, plan_.warnings, &head);
      context_.writer->Begin(std::move(head));
      format_->StreamBegin(&out);
    }
  } else {
    OnToken(index, event, &out);
  }
  if (event.last) {
    GenerationTimings& total = outcome_.timings;
    const GenerationTimings& t = event.timings;
    if (prompt == 0) {
      last_token_ = event.at;
      const GenerationTimings before = total;
      total = t;
      total.prompt_tokens += before.prompt_tokens;
      total.cached_tokens += before.cached_tokens;
      total.completion_tokens += before.completion_tokens;
    } else {
      total.prompt_tokens += t.prompt_tokens;
      total.cached_tokens += t.cached_tokens;
      total.completion_tokens += t.completion_tokens;
    }
    if (open_prompts_ == 0) {
      Complete(&out);
      return;
    }
  }
  if (plan_.stream && !out.empty()) context_.writer->Write(out);
}

void Exchange::OnToken(int index, const TokenEvent& event, std::string* out) {
  Choice& choice = choices_[index];
  if (event.token >= 0) {
    if (!choice.has_token) {
      choice.has_token = true;
      if (index == 0) {
        context_.metrics->TimeToFirstToken(Seconds(event.at - context_.received));
      }
    } else {
      context_.metrics->InterTokenLatency(Seconds(event.at - choice.last_token));
    }
    choice.last_token = event.at;
    ++choice.unread_tokens;
    if (event.sample) {
      choice.pending_logs.push_back(
          {event.token, event.sample->logprob, event.sample->top_logprobs});
    }
  }
  if (!event.text.empty()) EmitDelta(index, choice.parser.Add(event.text), out);
  if (event.finish != FinishReason::kNone) EndChoice(index, event, out);
}

void Exchange::EmitDelta(int index, ParsedText parsed, std::string* out) {
  if (parsed.empty()) return;
  Choice& choice = choices_[index];
  if (!parsed.reasoning.empty() && parsed.text.empty() && parsed.tool_calls.empty()) {
    outcome_.usage.reasoning_tokens += choice.unread_tokens;
  }
  choice.unread_tokens = 0;
  choice.output.text += parsed.text;
  choice.output.reasoning += parsed.reasoning;
  ChoiceDelta delta{std::move(parsed.text), std::move(parsed.reasoning),
                    std::move(parsed.tool_calls), std::move(choice.pending_logs)};
  choice.pending_logs.clear();
  if (plan_.stream) {
    format_->StreamDelta(index, delta, out);
  } else {
    for (TokenLog& log : delta.logprobs) choice.output.logprobs.push_back(std::move(log));
  }
}

void Exchange::EndChoice(int index, const TokenEvent& event, std::string* out) {
  Choice& choice = choices_[index];
  if (choice.ended) return;
  choice.ended = true;
  EmitDelta(index, choice.parser.Flush(), out);
  choice.output.finish = event.finish;
  choice.output.matched_stop = event.matched_stop;
  choice.output.tool_calls = choice.parser.tool_calls();
  // Of tokens whose text is part of no delta: an end token, a stop string.
  for (TokenLog& log : choice.pending_logs) choice.output.logprobs.push_back(std::move(log));
  choice.pending_logs.clear();
  if (plan_.stream) format_->StreamFinish(index, choice.output, out);
}

void Exchange::Complete(std::string* out) {
  outcome_.usage.prompt_tokens = outcome_.timings.prompt_tokens;
  outcome_.usage.cached_tokens = outcome_.timings.cached_tokens;
  outcome_.usage.completion_tokens = outcome_.timings.completion_tokens;
  outcome_.total_s = Seconds(Clock::now() - context_.received);
  outcome_.constrained = plan_.request.constraint != nullptr;
  FinishReason finish = FinishReason::kEndToken;
  for (Choice& choice : choices_) {
    if (choice.output.finish == FinishReason::kLength) finish = FinishReason::kLength;
    outcome_.choices.push_back(std::move(choice.output));
  }
  if (outcome_.constrained && finish == FinishReason::kLength) {
    plan_.warnings.push_back("the token limit cut the text before the constraint was complete");
  }
  Finish(200, FinishLabel(finish));
  if (plan_.stream) {
    format_->StreamEnd(outcome_, out);
    context_.writer->Write(*out);
    context_.writer->End();
  } else {
    HttpResponse response;
    Json body = format_->Body(outcome_);
    if (!plan_.warnings.empty()) body["warnings"] = plan_.warnings;
    response.body = DumpJson(body);
    AddCommonHeaders(context_, plan_.warnings, &response);
    context_.writer->Send(std::move(response));
  }
}

void Exchange::Fail(const ApiError& error) {
  CancelAll();
  if (context_.trace != nullptr) context_.trace->SetError(error.message);
  Finish(error.http_status, error.http_status == 499 ? "abort" : "error");
  if (streaming_) {
    std::string out;
    format_->StreamError(error, &out);
    context_.writer->Write(out);
    context_.writer->End();
  } else {
    HttpResponse response = ErrorResponse(format_->api(), error, context_.request_id);
    AddCommonHeaders(context_, plan_.warnings, &response);
    context_.writer->Send(std::move(response));
  }
}

void Exchange::Finish(int status, std::string_view finish) {
  over_ = true;
  outcome_.total_s = Seconds(Clock::now() - context_.received);
  context_.metrics->GenerationEnded(finish, outcome_.total_s, outcome_.timings);
  Usage usage;
  usage.prompt_tokens = outcome_.timings.prompt_tokens;
  usage.cached_tokens = outcome_.timings.cached_tokens;
  usage.completion_tokens = outcome_.timings.completion_tokens;
  if (context_.lease != nullptr) {
    context_.lease->Charge(usage.prompt_tokens + usage.completion_tokens);
    context_.lease.reset();
  }
  if (context_.trace != nullptr) DescribeTrace(finish);
  if (context_.on_end) context_.on_end(status, finish, usage);
}

// OpenTelemetry's semantic conventions for generative AI; what they have no name for is under
// "inkstone.". A phase is a child span.
void Exchange::DescribeTrace(std::string_view finish) {
  RequestTrace& trace = *context_.trace;
  const GenerationRequest& request = plan_.request;
  const SamplingParams& sampling = request.sampling;
  const GenerationTimings& t = outcome_.timings;
  trace.Set("gen_ai.request.stream", plan_.stream);
  if (sampling.max_tokens >= 0) {
    trace.Set("gen_ai.request.max_tokens", int64_t{sampling.max_tokens});
  }
  trace.Set("gen_ai.request.temperature", sampling.temperature);
  trace.Set("gen_ai.request.top_p", sampling.top_p);
  if (sampling.top_k > 0) trace.Set("gen_ai.request.top_k", int64_t{sampling.top_k});
  if (sampling.frequency_penalty != 0) {
    trace.Set("gen_ai.request.frequency_penalty", sampling.frequency_penalty);
  }
  if (sampling.presence_penalty != 0) {
    trace.Set("gen_ai.request.presence_penalty", sampling.presence_penalty);
  }
  trace.Set("gen_ai.request.seed", static_cast<int64_t>(sampling.seed));
  if (request.num_choices != 1) {
    trace.Set("gen_ai.request.choice.count", int64_t{request.num_choices});
  }
  trace.Set("gen_ai.response.id", context_.request_id);
  trace.Set("gen_ai.response.model", context_.model->name());
  std::vector<std::string> finishes;
  for (const ChoiceOutput& choice : outcome_.choices) {
    finishes.emplace_back(FinishLabel(choice.finish));
  }
  if (finishes.empty()) finishes.emplace_back(finish);
  trace.Set("gen_ai.response.finish_reasons", std::move(finishes));
  trace.Set("gen_ai.usage.input_tokens", t.prompt_tokens);
  trace.Set("gen_ai.usage.output_tokens", t.completion_tokens);
  trace.Set("gen_ai.usage.cache_read.input_tokens", t.cached_tokens);
  // The engine counts durations; the last event's time fixes them. What is left in front, up to the
  // submission, is the queue: the engine's own, and its letter box before.
  if (last_token_ == Clock::time_point()) return;
  auto span = [](double seconds) {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  };
  const Clock::time_point decode = std::max(submitted_, last_token_ - span(t.decode_s));
  const Clock::time_point prefill = std::max(submitted_, decode - span(t.prefill_s));
  trace.AddPhase("queue", submitted_, prefill);
  trace.AddPhase("prefill", prefill, decode,
                 {{"inkstone.computed_tokens", t.prompt_tokens - t.cached_tokens},
                  {"inkstone.cached_tokens", t.cached_tokens}});
  SpanAttributes tokens = {{"inkstone.tokens", t.completion_tokens},
                           {"inkstone.draft_tokens", t.draft_tokens},
                           {"inkstone.accepted_draft_tokens", t.accepted_tokens}};
  trace.AddPhase("decode", decode, last_token_, std::move(tokens));
}

}  // namespace ink
