// Spans from a request to a collector: a TCP server that reads what OpenTelemetry's would.
#include "serve/trace.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <string>
#include <thread>

#include "serve_harness.h"
#include "support/raw_server.h"
#include "transport/otlp_exporter.h"

namespace ink::testing_support {
namespace {

using namespace std::chrono_literals;

constexpr const char* kTraceId = "0af7651916cd43dd8448eb211c80319c";
constexpr const char* kParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
constexpr const char* kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

Json BodyOf(const std::string& request) {
  return Json::parse(request.substr(request.find("\r\n\r\n") + 4));
}

Json Spans(const RawServer& collector) {
  Json spans = Json::array();
  for (const std::string& request : collector.requests()) {
    const Json body = BodyOf(request);
    for (const Json& span : body["resourceSpans"][0]["scopeSpans"][0]["spans"]) {
      spans.push_back(span);
    }
  }
  return spans;
}

Json Attribute(const Json& span, const std::string& name) {
  for (const Json& item : span["attributes"]) {
    if (item["key"] == name) return item["value"];
  }
  return Json();
}

std::shared_ptr<OtlpExporter> Exporter(const std::string& url, OtlpOptions options = {}) {
  options.endpoint = url;
  options.version = "1.2.3";
  options.delay = 20ms;
  auto exporter = OtlpExporter::Create(std::move(options));
  EXPECT_TRUE(exporter.ok()) << exporter.status().message();
  return *exporter;
}

template <typename Fn>
bool Eventually(Fn fn) {
  for (int i = 0; i < 500; ++i) {
    if (fn()) return true;
    std::this_thread::sleep_for(10ms);
  }
  return false;
}

std::vector<Span> SomeSpans(size_t count) {
  std::vector<Span> spans(count);
  for (Span& span : spans) {
    span.trace_id = kTraceId;
    span.span_id = "b7ad6b7169203331";
  }
  return spans;
}

TEST(Traceparent, AsTheRecommendationSays) {
  auto parsed = ParseTraceparent(kParent);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->trace_id, kTraceId);
  EXPECT_EQ(parsed->span_id, "b7ad6b7169203331");
  EXPECT_TRUE(parsed->sampled);
  const std::string head = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-";
  EXPECT_FALSE(ParseTraceparent(head + "00")->sampled);
  EXPECT_FALSE(ParseTraceparent(head + "02")->sampled);
  EXPECT_TRUE(ParseTraceparent(head + "ff")->sampled);
  EXPECT_TRUE(ParseTraceparent("cc" + head.substr(2) + "01-more"));  // a later version
  for (const std::string& bad :
       {std::string(), head, head + "0", head + "01-", head + "01x", head + "0G",
        "ff" + head.substr(2) + "01", "0A" + head.substr(2) + "01", "cc" + head.substr(2) + "01x",
        "00-" + std::string(32, '0') + "-b7ad6b7169203331-01",
        std::string("00-") + kTraceId + "-0000000000000000-01",
        std::string("00-") + "0AF7651916CD43DD8448EB211C80319C" + "-b7ad6b7169203331-01"}) {
    EXPECT_FALSE(ParseTraceparent(bad)) << bad;
  }
}

TEST(Traces, AGenerationIsASpanWithItsPhases) {
  RawServer collector([](const std::string&) { return kOk; });
  ServiceOptions options = TestServer::Options(TinyServed());
  OtlpOptions otlp;
  otlp.headers = {{"Authorization", "Bearer secret"}};
  otlp.service_name = "our inkstone";
  options.trace = Exporter(collector.url() + "/", otlp);
  TestServer server(std::move(options));
  const auto unix_ns = [] {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  };
  for (const bool stream : {false, true}) {
    SCOPED_TRACE(stream);
    const size_t before = Spans(collector).size();
    const int64_t begin = unix_ns();
    const HttpResponse response =
        server.Post("/v1/chat/completions",
                    {{"model", "default"},
                     {"messages", {{{"role", "user"}, {"content", "hi"}}}},
                     {"max_tokens", 12},
                     {"ignore_eos", true},
                     {"temperature", 0.5},
                     {"top_k", 7},
                     {"seed", 42},
                     {"stream", stream}},
                    {{"traceparent", kParent}, {"tracestate", "a=b"}});
    const int64_t end = unix_ns();
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(FindHeader(response.headers, "traceparent"), kParent);
    ASSERT_TRUE(Eventually([&] { return Spans(collector).size() >= before + 4; }));
    std::map<std::string, Json> by_name;
    const Json all = Spans(collector);
    for (size_t i = before; i < all.size(); ++i) by_name[all[i]["name"]] = all[i];
    ASSERT_EQ(by_name.size(), 4u) << all.dump();
    const Json& root = by_name.at("chat tiny");
    EXPECT_EQ(root["traceId"], kTraceId);
    EXPECT_EQ(root["parentSpanId"], "b7ad6b7169203331");
    EXPECT_EQ(root["traceState"], "a=b");
    EXPECT_EQ(root["kind"], 2);
    EXPECT_FALSE(root.contains("status"));
    auto text = [&](const char* name) { return Attribute(root, name)["stringValue"]; };
    auto integer = [&](const char* name) { return Attribute(root, name)["intValue"]; };
    EXPECT_EQ(text("gen_ai.operation.name"), "chat");
    EXPECT_EQ(text("gen_ai.provider.name"), "inkstone");
    EXPECT_EQ(text("gen_ai.request.model"), "default");
    EXPECT_EQ(text("gen_ai.response.model"), "tiny");
    EXPECT_EQ(text("gen_ai.response.id"), FindHeader(response.headers, "x-request-id"));
    EXPECT_EQ(integer("gen_ai.request.max_tokens"), "12");
    EXPECT_EQ(integer("gen_ai.request.top_k"), "7");
    EXPECT_EQ(integer("gen_ai.request.seed"), "42");
    EXPECT_EQ(Attribute(root, "gen_ai.request.temperature")["doubleValue"], 0.5);
    EXPECT_EQ(Attribute(root, "gen_ai.request.stream")["boolValue"], stream);
    EXPECT_EQ(integer("gen_ai.usage.output_tokens"), "12");
    EXPECT_EQ(
        Attribute(root, "gen_ai.response.finish_reasons")["arrayValue"]["values"][0]["stringValue"],
        "length");
    EXPECT_EQ(text("http.route"), "/v1/chat/completions");
    EXPECT_EQ(text("http.request.method"), "POST");
    EXPECT_EQ(integer("http.response.status_code"), "200");
    if (!stream) {
      const Json usage = Json::parse(response.body)["usage"];
      EXPECT_EQ(integer("gen_ai.usage.input_tokens"),
                std::to_string(usage["prompt_tokens"].get<int64_t>()));
    }
    // The phases follow each other without a gap, inside the request.
    auto start_ns = [](const Json& s) {
      return std::stoll(s["startTimeUnixNano"].get<std::string>());
    };
    auto end_ns = [](const Json& s) { return std::stoll(s["endTimeUnixNano"].get<std::string>()); };
    const Json &queue = by_name.at("queue"), &prefill = by_name.at("prefill"),
               &decode = by_name.at("decode");
    for (const Json* phase : {&queue, &prefill, &decode}) {
      EXPECT_EQ((*phase)["traceId"], kTraceId);
      EXPECT_EQ((*phase)["parentSpanId"], root["spanId"]);
      EXPECT_NE((*phase)["spanId"], root["spanId"]);
      EXPECT_EQ((*phase)["kind"], 1);
    }
    constexpr int64_t kSlack = 2'000'000;  // the two clocks are read one after the other
    EXPECT_GE(start_ns(root), begin - kSlack);
    EXPECT_LE(start_ns(root), start_ns(queue));
    EXPECT_EQ(end_ns(queue), start_ns(prefill));
    EXPECT_EQ(end_ns(prefill), start_ns(decode));
    EXPECT_GT(end_ns(decode), start_ns(decode));  // 12 tokens
    EXPECT_LE(end_ns(decode), end_ns(root));
    EXPECT_LE(end_ns(root), end + kSlack);
    EXPECT_EQ(Attribute(decode, "inkstone.tokens")["intValue"], "12");
  }
  const std::string request = collector.requests().at(0);
  EXPECT_TRUE(request.starts_with("POST /v1/traces HTTP/1.1\r\n")) << request.substr(0, 80);
  EXPECT_NE(request.find("Content-Type: application/json\r\n"), std::string::npos);
  EXPECT_NE(request.find("Authorization: Bearer secret\r\n"), std::string::npos);
  const Json resource = BodyOf(request)["resourceSpans"][0]["resource"];
  EXPECT_EQ(Attribute(resource, "service.name")["stringValue"], "our inkstone");
  EXPECT_EQ(Attribute(resource, "service.version")["stringValue"], "1.2.3");
  EXPECT_EQ(collector.connections(), 1);
}

TEST(Traces, ErrorsNewTracesAndTracesThatAreNotRecorded) {
  RawServer collector([](const std::string&) { return kOk; });
  ServiceOptions options = TestServer::Options(TinyServed());
  options.trace = Exporter(collector.url() + "/v1/traces");
  TestServer server(std::move(options));
  const Json chat = {{"messages", {{{"role", "user"}, {"content", "hi"}}}}, {"max_tokens", 1}};
  // Not sampled: no span, the header comes back all the same.
  const std::string quiet = std::string(kParent).substr(0, 53) + "00";
  EXPECT_EQ(FindHeader(server.Post("/v1/chat/completions", chat, {{"traceparent", quiet}}).headers,
                       "traceparent"),
            quiet);
  // Nobody asks for a trace of a scrape.
  server.Get("/metrics");
  const HttpResponse bad = server.Post("/v1/chat/completions", {{"messages", 3}});
  EXPECT_EQ(bad.status, 400);
  ASSERT_TRUE(Eventually([&] { return Spans(collector).size() >= 1; }));
  const Json span = Spans(collector)[0];
  EXPECT_EQ(span["name"], "chat tiny");
  EXPECT_FALSE(span.contains("parentSpanId"));
  EXPECT_EQ(Attribute(span, "error.type")["stringValue"], "400");
  EXPECT_EQ(
      FindHeader(bad.headers, "traceparent"),
      "00-" + span["traceId"].get<std::string>() + "-" + span["spanId"].get<std::string>() + "-01");
  // A traced GET.
  server.Get("/v1/models", {{"traceparent", kParent}});
  ASSERT_TRUE(Eventually([&] { return Spans(collector).size() >= 2; }));
  EXPECT_EQ(Spans(collector)[1]["name"], "GET /v1/models");
  const std::string metrics = server.Get("/metrics").body;
  EXPECT_NE(metrics.find("inkstone_trace_spans_total{result=\"exported\"} 2"), std::string::npos);
  EXPECT_NE(metrics.find("inkstone_trace_spans_total{result=\"dropped\"} 0"), std::string::npos);
}

TEST(Exporter, AFailingCollectorLosesNothingUntilTheQueueIsFull) {
  std::atomic<int> answers{0};
  RawServer collector([&](const std::string&) -> std::string {
    return ++answers == 1 ? "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n" : kOk;
  });
  std::vector<std::string> said;
  OtlpOptions options;
  options.max_queue = 100;
  options.max_batch = 60;
  options.log = [&](const std::string& sentence) { said.push_back(sentence); };
  {
    auto exporter = Exporter(collector.url(), options);
    exporter->Add(SomeSpans(10));
    ASSERT_TRUE(Eventually([&] { return answers >= 1; }));
    exporter->Add(SomeSpans(130));  // 30 have no room
    EXPECT_EQ(exporter->dropped(), 30);
    ASSERT_TRUE(Eventually([&] { return exporter->exported() == 110; }));
    EXPECT_EQ(exporter->dropped(), 30);
  }
  EXPECT_EQ(Spans(collector).size(), 120u);  // the first ten twice
  ASSERT_EQ(said.size(), 2u);
  EXPECT_NE(said[0].find("503"), std::string::npos) << said[0];
}

TEST(Exporter, RefusedSpansAreCountedAndNotSentAgain) {
  int count = 0;
  RawServer collector([&](const std::string&) -> std::string {
    if (++count == 1) return "HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno";
    const std::string body = R"({"partialSuccess":{"rejectedSpans":"3","errorMessage":"x"}})";
    return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  });
  auto exporter = Exporter(collector.url());
  exporter->Add(SomeSpans(5));
  ASSERT_TRUE(Eventually([&] { return exporter->dropped() == 5; }));
  exporter->Add(SomeSpans(7));
  ASSERT_TRUE(Eventually([&] { return exporter->dropped() == 8; }));
  EXPECT_EQ(exporter->exported(), 4);
}

TEST(Exporter, WhatWaitsIsSentAtTheEnd) {
  RawServer collector([](const std::string&) { return kOk; });
  OtlpOptions options;
  options.endpoint = collector.url();
  options.delay = 1h;
  auto exporter = *OtlpExporter::Create(options);
  exporter->Add(SomeSpans(700));
  exporter.reset();
  EXPECT_EQ(Spans(collector).size(), 700u);
}

// Neither a collector that takes the connection and says nothing nor one that is not there delays
// a request or the end of the server.
TEST(Exporter, AnUnreachableCollectorDelaysNobody) {
  RawServer silent([](const std::string&) { return "HTTP/1.1 "; });
  std::string nowhere;
  {
    RawServer gone([](const std::string&) { return ""; });
    nowhere = gone.url();
  }
  for (const std::string& url : {silent.url(), nowhere}) {
    OtlpOptions options;
    options.max_queue = 8;
    options.max_batch = 8;
    options.last_send = 100ms;
    auto exporter = Exporter(url, options);
    const auto begin = std::chrono::steady_clock::now();
    {
      ServiceOptions service = TestServer::Options(TinyServed());
      service.trace = exporter;
      TestServer server(std::move(service));
      for (int i = 0; i < 20; ++i) {
        const Json answer =
            server.PostJson("/v1/completions", {{"prompt", "a"}, {"max_tokens", 1}});
        EXPECT_EQ(answer["object"], "text_completion");
      }
    }
    // 4 spans of each request; one batch is under way, 8 wait.
    EXPECT_GT(exporter->dropped(), 0);
    EXPECT_EQ(exporter->exported(), 0);
    exporter.reset();
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 8s);
  }
}

TEST(Exporter, BadSettingsAreErrors) {
  OtlpOptions options;
  options.endpoint = "collector:4318";
  EXPECT_EQ(OtlpExporter::Create(options).status().code(), StatusCode::kInvalidArgument);
  options.endpoint = "http://collector:4318";
  options.headers = {{"a", "b\r\nc: d"}};
  EXPECT_EQ(OtlpExporter::Create(options).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace ink::testing_support
