// One generation request of a client: what was asked, what the engine answers, and how an API
// writes that down. The life cycle is here once; each API is a ResponseFormat.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "serve/api_error.h"
#include "serve/http.h"
#include "serve/json_text.h"
#include "serve/limits.h"
#include "serve/metrics.h"
#include "serve/output_parser.h"
#include "serve/served_model.h"
#include "serve/trace.h"

namespace ink {

struct TokenLog {
  int32_t id = -1;
  double logprob = 0;
  std::vector<TokenLogprob> top;
};

/// What a step adds to a choice. At least one part is not empty.
struct ChoiceDelta {
  std::string text;
  std::string reasoning;
  std::vector<ToolCallDelta> tool_calls;
  std::vector<TokenLog> logprobs;
};

struct ChoiceOutput {
  std::string text;
  std::string reasoning;
  std::vector<ToolCall> tool_calls;
  std::vector<TokenLog> logprobs;
  FinishReason finish = FinishReason::kNone;
  std::string matched_stop;
};

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t reasoning_tokens = 0;
};

struct Outcome {
  std::vector<ChoiceOutput> choices;
  Usage usage;
  GenerationTimings timings;  // of the request's first prompt; tokens are sums
  double total_s = 0;
  bool constrained = false;
};

/// How one API writes answers down. Called by one thread at a time. Streaming functions append
/// bytes to `out`.
class ResponseFormat {
 public:
  virtual ~ResponseFormat() = default;
  virtual ApiKind api() const = 0;
  virtual std::string_view stream_type() const { return "text/event-stream"; }

  virtual void StreamBegin(std::string* out) {}
  virtual void StreamDelta(int choice, const ChoiceDelta& delta, std::string* out) = 0;
  virtual void StreamFinish(int choice, const ChoiceOutput& output, std::string* out) = 0;
  virtual void StreamEnd(const Outcome& outcome, std::string* out) = 0;
  /// An error after the headers were sent.
  virtual void StreamError(const ApiError& error, std::string* out) = 0;

  virtual Json Body(const Outcome& outcome) = 0;
};

/// A parsed request.
struct GenerationPlan {
  std::vector<std::vector<int32_t>> prompts;  // each gives request.num_choices choices
  GenerationRequest request;                  // without prompt and on_event
  OutputOptions output;
  bool stream = false;
  std::vector<std::string> warnings;
};

/// What every handler needs to know about the request around it.
struct RequestContext {
  /// Held while anything of the request exists; the service does not go before. First, so that it
  /// is the last member to go: with it goes the promise that `model` and `metrics` live.
  std::shared_ptr<void> open;
  std::string request_id;
  std::string traceparent;
  std::string route;
  std::shared_ptr<ServedModel> model;
  std::shared_ptr<const ServedAdapter> adapter;  // null: the model alone
  std::shared_ptr<KeyLease> lease;               // null without keys
  std::shared_ptr<ResponseWriter> writer;
  Metrics* metrics = nullptr;
  std::chrono::steady_clock::time_point received;
  std::shared_ptr<RequestTrace> trace;  // null: not recorded
  /// Told once when the exchange is over: HTTP status, finish, usage.
  std::function<void(int status, std::string_view finish, const Usage& usage)> on_end;

  /// What the answer calls the model: the adapter's name where there is one.
  const std::string& model_name() const { return adapter ? adapter->source.name : model->name(); }
};

/// Headers that every answer carries: request id, traceparent, warnings.
void AddCommonHeaders(const RequestContext& context, const std::vector<std::string>& warnings,
                      HttpResponse* response);

class Exchange : public std::enable_shared_from_this<Exchange> {
 public:
  /// Submits to the engine and returns; the answer goes to context.writer.
  static void Start(RequestContext context, GenerationPlan plan,
                    std::unique_ptr<ResponseFormat> format);

 private:
  struct Choice {
    OutputParser parser;
    ChoiceOutput output;
    std::vector<TokenLog> pending_logs;
    bool ended = false;
    std::chrono::steady_clock::time_point last_token;
    bool has_token = false;
    int64_t unread_tokens = 0;  // since the parser last gave something
    explicit Choice(const OutputOptions& options) : parser(options) {}
  };

  Exchange(RequestContext context, GenerationPlan plan, std::unique_ptr<ResponseFormat> format);
  void Submit();
  void OnEvent(size_t prompt, const TokenEvent& event);
  void OnToken(int index, const TokenEvent& event, std::string* out);
  void EmitDelta(int index, ParsedText parsed, std::string* out);
  void EndChoice(int index, const TokenEvent& event, std::string* out);
  void Complete(std::string* out);
  void Fail(const ApiError& error);
  void CancelAll();
  void DescribeTrace(std::string_view finish);
  /// Counts the request as over. Before the last bytes of the answer: a client that has the whole
  /// answer finds it counted and its key free for the next request.
  void Finish(int status, std::string_view finish);

  RequestContext context_;
  GenerationPlan plan_;
  std::unique_ptr<ResponseFormat> format_;
  std::mutex tickets_mutex_;
  std::vector<EngineThread::Ticket> tickets_;
  bool cancelled_ = false;  // under tickets_mutex_
  std::chrono::steady_clock::time_point submitted_;

  // Delivery thread only.
  std::vector<Choice> choices_;
  Outcome outcome_;
  std::chrono::steady_clock::time_point last_token_;  // of the first prompt
  size_t open_prompts_ = 0;
  bool streaming_ = false;  // headers are out
  bool over_ = false;
};

}  // namespace ink
