// Distributed tracing: W3C trace context in, OpenTelemetry spans out. A generation is one server
// span with the phases queue, prefill and decode as its children; where spans go is a SpanSink's
// business (transport/otlp_exporter.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "serve/json_text.h"

namespace ink {

/// https://www.w3.org/TR/trace-context/, the header `traceparent`.
struct TraceParent {
  std::string trace_id;  // 32 hexadecimal digits, not all zero
  std::string span_id;   // 16, not all zero: the caller's span
  bool sampled = false;
};
/// Nothing for a text that the recommendation says to ignore.
std::optional<TraceParent> ParseTraceparent(std::string_view text);

using SpanValue = std::variant<std::string, int64_t, double, bool, std::vector<std::string>>;
using SpanAttributes = std::vector<std::pair<std::string, SpanValue>>;

/// What OTLP calls a Span. Times are nanoseconds since 1970.
struct Span {
  enum class Kind { kInternal = 1, kServer = 2 };  // OTLP's numbers
  std::string trace_id;
  std::string span_id;
  std::string parent_id;  // empty: the root of its trace
  std::string trace_state;
  std::string name;
  Kind kind = Kind::kInternal;
  int64_t start_ns = 0;
  int64_t end_ns = 0;
  SpanAttributes attributes;
  bool failed = false;
  std::string error;  // with `failed`
};

/// Thread-safe.
class SpanSink {
 public:
  virtual ~SpanSink() = default;
  /// Never blocks: spans that have no room are dropped and counted.
  virtual void Add(std::vector<Span> spans) = 0;
  virtual int64_t exported() const = 0;
  virtual int64_t dropped() const = 0;
};

/// The body of an OTLP/HTTP request in its JSON encoding (opentelemetry-proto 1.x,
/// ExportTraceServiceRequest): ids are hexadecimal, 64-bit integers are strings.
std::string OtlpJson(std::span<const Span> spans, const SpanAttributes& resource,
                     const std::string& scope_version);

/// The spans of one request while it is being answered. One thread at a time.
class RequestTrace {
 public:
  using Clock = std::chrono::steady_clock;

  /// Nothing where `parent` says that its trace is not recorded; a new trace without a parent.
  static std::shared_ptr<RequestTrace> Begin(const std::optional<TraceParent>& parent,
                                             std::string_view trace_state,
                                             Clock::time_point received);

  const std::string& trace_id() const { return root_.trace_id; }
  /// The header value that names this request's span.
  std::string traceparent() const { return "00-" + root_.trace_id + "-" + root_.span_id + "-01"; }

  void SetName(std::string name) { root_.name = std::move(name); }
  void Set(std::string name, SpanValue value) {
    root_.attributes.emplace_back(std::move(name), std::move(value));
  }
  void SetError(std::string message) { root_.error = std::move(message); }
  /// A child span.
  void AddPhase(std::string name, Clock::time_point start, Clock::time_point end,
                SpanAttributes attributes = {});
  /// All spans, the request's own first. HTTP statuses from 500 are errors of a server span, as
  /// OpenTelemetry's HTTP conventions have it; 499 is our client going away.
  std::vector<Span> End(int http_status, Clock::time_point now);

 private:
  int64_t UnixNs(Clock::time_point time) const;

  Clock::time_point received_;
  int64_t received_ns_ = 0;
  Span root_;
  std::vector<Span> phases_;
};

}  // namespace ink
