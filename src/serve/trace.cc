#include "serve/trace.h"

#include <algorithm>

#include "serve/ids.h"

namespace ink {
namespace {

bool IsHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}
bool IsZero(std::string_view text) { return text.find_first_not_of('0') == std::string_view::npos; }

Json ValueJson(const SpanValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return {{"stringValue", *text}};
  if (const auto* integer = std::get_if<int64_t>(&value)) {
    return {{"intValue", std::to_string(*integer)}};
  }
  if (const auto* real = std::get_if<double>(&value)) return {{"doubleValue", *real}};
  if (const auto* truth = std::get_if<bool>(&value)) return {{"boolValue", *truth}};
  Json values = Json::array();
  for (const std::string& text : std::get<std::vector<std::string>>(value)) {
    values.push_back({{"stringValue", text}});
  }
  return {{"arrayValue", {{"values", std::move(values)}}}};
}

Json AttributesJson(const SpanAttributes& attributes) {
  Json list = Json::array();
  for (const auto& [name, value] : attributes) {
    list.push_back({{"key", name}, {"value", ValueJson(value)}});
  }
  return list;
}

}  // namespace

std::optional<TraceParent> ParseTraceparent(std::string_view text) {
  // version-traceid-spanid-flags. A later version may have more behind another '-'.
  if (text.size() < 55 || text[2] != '-' || text[35] != '-' || text[52] != '-') {
    return std::nullopt;
  }
  const std::string_view version = text.substr(0, 2), trace = text.substr(3, 32),
                         span = text.substr(36, 16), flags = text.substr(53, 2);
  if (!IsHex(version) || !IsHex(trace) || !IsHex(span) || !IsHex(flags)) return std::nullopt;
  if (version == "ff" || IsZero(trace) || IsZero(span)) return std::nullopt;
  if (text.size() > 55 && (version == "00" || text[55] != '-')) return std::nullopt;
  const int low = flags[1] <= '9' ? flags[1] - '0' : flags[1] - 'a' + 10;
  return TraceParent{std::string(trace), std::string(span), (low & 1) != 0};
}

std::string OtlpJson(std::span<const Span> spans, const SpanAttributes& resource,
                     const std::string& scope_version) {
  Json list = Json::array();
  for (const Span& span : spans) {
    Json item;
    item["traceId"] = span.trace_id;
    item["spanId"] = span.span_id;
    if (!span.parent_id.empty()) item["parentSpanId"] = span.parent_id;
    if (!span.trace_state.empty()) item["traceState"] = span.trace_state;
    item["name"] = span.name;
    item["kind"] = static_cast<int>(span.kind);
    item["startTimeUnixNano"] = std::to_string(span.start_ns);
    item["endTimeUnixNano"] = std::to_string(span.end_ns);
    item["attributes"] = AttributesJson(span.attributes);
    item["flags"] = 1;  // sampled
    if (span.failed) item["status"] = {{"code", 2}, {"message", span.error}};
    list.push_back(std::move(item));
  }
  Json scope_spans = {{"scope", {{"name", "inkstone"}, {"version", scope_version}}},
                      {"spans", std::move(list)}};
  Json resource_spans = {{"resource", {{"attributes", AttributesJson(resource)}}},
                         {"scopeSpans", Json::array({std::move(scope_spans)})}};
  return DumpJson({{"resourceSpans", Json::array({std::move(resource_spans)})}});
}

std::shared_ptr<RequestTrace> RequestTrace::Begin(const std::optional<TraceParent>& parent,
                                                  std::string_view trace_state,
                                                  Clock::time_point received) {
  if (parent && !parent->sampled) return nullptr;
  auto trace = std::make_shared<RequestTrace>();
  trace->received_ = received;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  // The clocks are compared once, so that all times of a request have the same distance.
  trace->received_ns_ =
      std::chrono::duration_cast<std::chrono::nanoseconds>(now - (Clock::now() - received)).count();
  trace->root_.trace_id = parent ? parent->trace_id : RandomHex(16);
  trace->root_.span_id = RandomHex(8);
  if (parent) trace->root_.parent_id = parent->span_id;
  if (parent && trace_state.size() <= 512) trace->root_.trace_state = trace_state;
  trace->root_.kind = Span::Kind::kServer;
  trace->root_.start_ns = trace->received_ns_;
  return trace;
}

int64_t RequestTrace::UnixNs(Clock::time_point time) const {
  return received_ns_ +
         std::chrono::duration_cast<std::chrono::nanoseconds>(time - received_).count();
}

void RequestTrace::AddPhase(std::string name, Clock::time_point start, Clock::time_point end,
                            SpanAttributes attributes) {
  Span phase;
  phase.trace_id = root_.trace_id;
  phase.span_id = RandomHex(8);
  phase.parent_id = root_.span_id;
  phase.trace_state = root_.trace_state;
  phase.name = std::move(name);
  phase.start_ns = UnixNs(start);
  phase.end_ns = std::max(phase.start_ns, UnixNs(end));
  phase.attributes = std::move(attributes);
  phases_.push_back(std::move(phase));
}

std::vector<Span> RequestTrace::End(int http_status, Clock::time_point now) {
  Set("http.response.status_code", int64_t{http_status});
  root_.end_ns = UnixNs(now);
  if (http_status >= 400) Set("error.type", std::to_string(http_status));
  root_.failed = http_status >= 500;
  std::vector<Span> spans;
  spans.reserve(1 + phases_.size());
  spans.push_back(std::move(root_));
  for (Span& phase : phases_) spans.push_back(std::move(phase));
  phases_.clear();
  return spans;
}

}  // namespace ink
