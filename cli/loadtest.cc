// inkstone loadtest: closed- or open-loop load on any server with OpenAI's completions route.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "base/rng.h"
#include "command.h"
#include "common.h"
#include "transport/http_client.h"

namespace ink::cli {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::ordered_json;

constexpr std::string_view kCommand = "loadtest";

struct Options {
  std::string url;
  std::string key;
  std::string model = "default";
  int requests = 64;
  int concurrency = 8;
  double rate = 0;  // > 0: open loop
  std::string trace;
  int input_words = 128;
  int shared_words = 0;
  int output_tokens = 64;
  bool chat = false;
  uint64_t seed = 1;
  double slo_ttft_ms = 0;
  double slo_tpot_ms = 0;
  int timeout_s = 600;
  bool new_connections = false;
  bool insecure = false;
  std::string ca_file;
  bool json = false;
};

struct Planned {
  double at_s = 0;  // open loop: when it is sent
  int input_words = 0;
  int output_tokens = 0;
};

struct Outcome {
  bool ok = false;
  std::string error;
  double ttft = 0;
  double e2e = 0;
  std::vector<double> gaps;
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  double tpot() const {
    return completion_tokens > 1 ? (e2e - ttft) / static_cast<double>(completion_tokens - 1) : 0;
  }
};

double Seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

// Words whose tokens are few in any vocabulary, different in each request.
std::string Words(Rng& rng, int count) {
  static constexpr const char* kWords[] = {"the", "cat", "was", "on",  "a",    "big", "red", "day",
                                           "and", "sun", "he",  "saw", "blue", "to",  "fly", "up"};
  std::string text;
  for (int i = 0; i < count; ++i) {
    if (i > 0) text += ' ';
    text += kWords[rng.Below(std::size(kWords))];
  }
  return text;
}

class Load {
 public:
  Load(const Options& o, Url url, std::vector<Planned> plan)
      : o_(o), url_(std::move(url)), plan_(std::move(plan)), outcomes_(plan_.size()) {
    Rng rng(o.seed);
    shared_ = Words(rng, o.shared_words);
    if (!shared_.empty()) shared_ += ' ';
  }

  /// All requests; returns the seconds they took together.
  double Run(bool open_loop, const std::function<void(size_t done)>& progress) {
    std::atomic<size_t> next{0};
    begin_ = Clock::now();
    std::vector<std::thread> threads;
    const size_t count = open_loop ? plan_.size() : std::min<size_t>(plan_.size(), o_.concurrency);
    for (size_t t = 0; t < count; ++t) {
      threads.emplace_back([&, t] {
        if (open_loop) {
          // One thread per request: a late answer never delays the next request.
          std::this_thread::sleep_until(begin_ + std::chrono::duration_cast<Clock::duration>(
                                                     std::chrono::duration<double>(plan_[t].at_s)));
          RunOne(t, nullptr);
          return;
        }
        std::unique_ptr<HttpClient> client;  // kept from one request to the next
        for (size_t i; (i = next++) < plan_.size();) RunOne(i, &client);
      });
    }
    while (done_.load() < plan_.size()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      progress(done_.load());
    }
    for (std::thread& thread : threads) thread.join();
    return Seconds(Clock::now() - begin_);
  }
  const std::vector<Outcome>& outcomes() const { return outcomes_; }
  int64_t connections() const { return connections_; }

 private:
  void RunOne(size_t index, std::unique_ptr<HttpClient>* kept) {
    Outcome& outcome = outcomes_[index];
    std::unique_ptr<HttpClient> own;
    std::unique_ptr<HttpClient>& client = kept == nullptr || o_.new_connections ? own : *kept;
    const Status status = Request(index, client, &outcome);
    if (!status.ok()) outcome.error = status.message();
    outcome.ok = status.ok();
    ++done_;
  }

  Status Request(size_t index, std::unique_ptr<HttpClient>& client, Outcome* outcome) {
    Rng rng(o_.seed * 1000003 + index + 1);
    const std::string text = shared_ + Words(rng, plan_[index].input_words);
    ordered_json body;
    body["model"] = o_.model;
    if (o_.chat) {
      body["messages"] = ordered_json::array({{{"role", "user"}, {"content", text}}});
    } else {
      body["prompt"] = text;
    }
    body["max_tokens"] = plan_[index].output_tokens;
    body["stream"] = true;
    body["stream_options"] = {{"include_usage", true}};
    body["ignore_eos"] = true;
    const std::string payload = body.dump();
    HttpHeaders headers = {{"Content-Type", "application/json"}};
    if (!o_.key.empty()) headers.emplace_back("Authorization", "Bearer " + o_.key);
    const Clock::time_point sent = Clock::now();
    if (client == nullptr) {
      HttpClientOptions options;
      options.io_timeout = std::chrono::seconds(o_.timeout_s);
      options.verify = !o_.insecure;
      options.ca_file = o_.ca_file;
      INK_ASSIGN_OR_RETURN(client, HttpClient::Create(url_, std::move(options)));
    }
    std::string events, refusal;
    Clock::time_point last = sent;
    int64_t pieces = 0;
    size_t received = 0;
    const int64_t opened = client->connections();
    auto reply =
        client->Request("POST", url_.path + (o_.chat ? "/v1/chat/completions" : "/v1/completions"),
                        headers, payload, [&](int status, std::string_view piece) -> Status {
                          const Clock::time_point now = Clock::now();
                          received += piece.size();
                          if (received > (size_t{64} << 20))
                            return IoError("the answer is over 64 MiB");
                          if (status != 200) {
                            refusal += piece.substr(0, 200 - std::min<size_t>(200, refusal.size()));
                            return OkStatus();
                          }
                          events += piece;
                          for (size_t end; (end = events.find("\n\n")) != std::string::npos;
                               events.erase(0, end + 2)) {
                            INK_RETURN_IF_ERROR(TakeEvent(events.substr(0, end), sent, now, &last,
                                                          &pieces, outcome));
                          }
                          return OkStatus();
                        });
    connections_ += client->connections() - opened;
    if (!reply.ok()) return reply.status();
    if (reply->status != 200) {
      return IoError("HTTP " + std::to_string(reply->status) + " " + refusal);
    }
    if (pieces == 0) return IoError("the answer has no text");
    if (outcome->completion_tokens == 0) outcome->completion_tokens = pieces;
    return OkStatus();
  }

  static Status TakeEvent(const std::string& event, Clock::time_point sent, Clock::time_point now,
                          Clock::time_point* last, int64_t* pieces, Outcome* outcome) {
    if (!event.starts_with("data: ") || event == "data: [DONE]") return OkStatus();
    const auto data = ordered_json::parse(event.substr(6), nullptr, false);
    if (!data.is_object()) return Corrupt("an event is not JSON: " + event.substr(0, 100));
    if (data.contains("error")) return IoError("in the stream: " + data["error"].dump());
    if (data.contains("usage") && data["usage"].is_object()) {
      outcome->prompt_tokens = data["usage"].value("prompt_tokens", int64_t{0});
      outcome->completion_tokens = data["usage"].value("completion_tokens", int64_t{0});
    }
    if (!data.contains("choices") || data["choices"].empty()) return OkStatus();
    const ordered_json& choice = data["choices"][0];
    std::string text;
    if (choice.contains("text") && choice["text"].is_string()) text = choice["text"];
    if (choice.contains("delta") && choice["delta"].is_object()) {
      for (const auto& [name, value] : choice["delta"].items()) {
        if (name != "role" && value.is_string()) text += value.get<std::string>();
      }
    }
    if (text.empty()) return OkStatus();
    if (++*pieces == 1) {
      outcome->ttft = Seconds(now - sent);
    } else {
      outcome->gaps.push_back(Seconds(now - *last));
    }
    *last = now;
    outcome->e2e = Seconds(now - sent);
    return OkStatus();
  }

  const Options& o_;
  const Url url_;
  const std::vector<Planned> plan_;
  std::vector<Outcome> outcomes_;
  std::string shared_;
  Clock::time_point begin_;
  std::atomic<size_t> done_{0};
  std::atomic<int64_t> connections_{0};
};

// Linear interpolation between order statistics, as numpy's default.
ordered_json Distribution(std::vector<double> values) {
  ordered_json json;
  std::sort(values.begin(), values.end());
  auto at = [&](double q) {
    if (values.empty()) return 0.0;
    const double place = q * static_cast<double>(values.size() - 1);
    const size_t low = static_cast<size_t>(place);
    const size_t high = std::min(low + 1, values.size() - 1);
    return values[low] + (values[high] - values[low]) * (place - static_cast<double>(low));
  };
  double sum = 0;
  for (double v : values) sum += v;
  json["mean"] = values.empty() ? 0 : 1e3 * sum / static_cast<double>(values.size());
  json["p50"] = 1e3 * at(0.5);
  json["p90"] = 1e3 * at(0.9);
  json["p95"] = 1e3 * at(0.95);
  json["p99"] = 1e3 * at(0.99);
  json["max"] = 1e3 * at(1);
  return json;
}

Result<std::vector<Planned>> MakePlan(const Options& o) {
  std::vector<Planned> plan;
  if (!o.trace.empty()) {
    INK_RETURN_IF_ERROR(ForEachLine(o.trace, [&](std::string_view line, int64_t) {
      const auto row = ordered_json::parse(line, nullptr, false);
      if (!row.is_object() || !row.contains("at") || !row["at"].is_number()) {
        return InvalidArgument("expected {\"at\": seconds, \"input\": words, \"output\": tokens}");
      }
      plan.push_back({row["at"].get<double>(), row.value("input", o.input_words),
                      row.value("output", o.output_tokens)});
      return OkStatus();
    }));
    if (plan.size() > 10000) return InvalidArgument("--trace: expected at most 10000 requests");
    return plan;
  }
  Rng rng(o.seed ^ 0x9e3779b97f4a7c15u);
  double at = 0;
  for (int i = 0; i < o.requests; ++i) {
    plan.push_back({at, o.input_words, o.output_tokens});
    if (o.rate > 0) at += -std::log(1 - rng.Uniform()) / o.rate;
  }
  return plan;
}

Status Run(const Options& o) {
  auto parsed = ParseUrl(o.url);
  if (!parsed.ok()) return parsed.status().WithContext("--url");
  Url url = *std::move(parsed);
  if (url.path.ends_with("/v1")) url.path.resize(url.path.size() - 3);
  INK_ASSIGN_OR_RETURN(std::vector<Planned> plan, MakePlan(o));
  const bool open_loop = o.rate > 0 || !o.trace.empty();
  ProgressBar bar("requests", plan.size());
  Load load(o, std::move(url), std::move(plan));
  const double seconds = load.Run(open_loop, [&](size_t done) { bar.Update(done); });
  bar.Finish();

  std::vector<double> ttft, tpot, itl, e2e;
  int64_t prompt = 0, completion = 0, completed = 0, good = 0;
  std::string first_error;
  for (const Outcome& outcome : load.outcomes()) {
    if (!outcome.ok) {
      if (first_error.empty()) first_error = outcome.error;
      continue;
    }
    ++completed;
    prompt += outcome.prompt_tokens;
    completion += outcome.completion_tokens;
    ttft.push_back(outcome.ttft);
    if (outcome.completion_tokens > 1) tpot.push_back(outcome.tpot());
    e2e.push_back(outcome.e2e);
    itl.insert(itl.end(), outcome.gaps.begin(), outcome.gaps.end());
    const bool meets = (o.slo_ttft_ms <= 0 || 1e3 * outcome.ttft <= o.slo_ttft_ms) &&
                       (o.slo_tpot_ms <= 0 || 1e3 * outcome.tpot() <= o.slo_tpot_ms);
    if (meets) ++good;
  }
  const int64_t failed = static_cast<int64_t>(load.outcomes().size()) - completed;
  ordered_json out;
  out["mode"] = !o.trace.empty() ? "trace" : o.rate > 0 ? "poisson" : "closed";
  out["completed"] = completed;
  out["failed"] = failed;
  out["connections"] = load.connections();
  out["seconds"] = seconds;
  out["prompt_tokens"] = prompt;
  out["completion_tokens"] = completion;
  out["requests_per_second"] = static_cast<double>(completed) / seconds;
  out["output_tokens_per_second"] = static_cast<double>(completion) / seconds;
  out["total_tokens_per_second"] = static_cast<double>(prompt + completion) / seconds;
  out["goodput_requests_per_second"] = static_cast<double>(good) / seconds;
  out["ttft_ms"] = Distribution(ttft);
  out["tpot_ms"] = Distribution(tpot);
  out["itl_ms"] = Distribution(itl);
  out["e2e_ms"] = Distribution(e2e);
  if (!first_error.empty()) out["first_error"] = first_error;
  if (o.json) {
    INK_RETURN_IF_ERROR(
        WriteOutput(out.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n"));
  } else {
    std::string text;
    char line[256];
    std::snprintf(
        line, sizeof(line),
        "%lld completed, %lld failed in %.2f s\n%.1f output tokens/s, %.1f tokens/s with "
        "prompts, %.2f requests/s, goodput %.2f requests/s\n%-8s %10s %10s %10s %10s %10s\n",
        static_cast<long long>(completed), static_cast<long long>(failed), seconds,
        static_cast<double>(completion) / seconds,
        static_cast<double>(prompt + completion) / seconds,
        static_cast<double>(completed) / seconds, static_cast<double>(good) / seconds, "ms", "mean",
        "p50", "p90", "p99", "max");
    text += line;
    for (const char* name : {"ttft_ms", "tpot_ms", "itl_ms", "e2e_ms"}) {
      const ordered_json& d = out[name];
      std::snprintf(line, sizeof(line), "%-8.*s %10.2f %10.2f %10.2f %10.2f %10.2f\n",
                    static_cast<int>(std::strlen(name) - 3), name, d["mean"].get<double>(),
                    d["p50"].get<double>(), d["p90"].get<double>(), d["p99"].get<double>(),
                    d["max"].get<double>());
      text += line;
    }
    INK_RETURN_IF_ERROR(WriteOutput(text));
  }
  INK_RETURN_IF_ERROR(FlushOutput());
  if (failed > 0) return IoError(std::to_string(failed) + " requests failed: " + first_error);
  return OkStatus();
}

}  // namespace

CommandBody RegisterLoadtest(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("--url", o->url, "server, e.g. http://127.0.0.1:8080 or https://...")->required();
  app.add_option("--key", o->key, "API key");
  app.add_option("--model", o->model, "model to ask for")->capture_default_str();
  app.add_option("--requests", o->requests, "how many")->check(CLI::Range(1, 10000));
  app.add_option("--concurrency", o->concurrency, "closed loop: requests in flight")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  auto* rate = app.add_option("--rate", o->rate, "open loop: Poisson arrivals per second")
                   ->check(CLI::PositiveNumber);
  app.add_option("--trace", o->trace,
                 "open loop: JSON lines {\"at\": seconds, \"input\": words, \"output\": tokens}")
      ->excludes(rate);
  app.add_option("--input", o->input_words, "words of a prompt")->check(CLI::Range(1, 1 << 20));
  app.add_option("--shared", o->shared_words, "words that all prompts start with")
      ->check(CLI::Range(0, 1 << 20));
  app.add_option("--output", o->output_tokens, "tokens to generate")->check(CLI::Range(1, 1 << 20));
  app.add_flag("--chat", o->chat, "use /v1/chat/completions");
  app.add_option("--seed", o->seed, "of prompts and arrivals");
  app.add_option("--slo-ttft", o->slo_ttft_ms, "goodput: time to first token, ms");
  app.add_option("--slo-tpot", o->slo_tpot_ms, "goodput: time per output token, ms");
  app.add_option("--timeout", o->timeout_s, "seconds without a byte before a request fails")
      ->check(CLI::Range(1, 86400));
  app.add_flag("--new-connections", o->new_connections,
               "a connection for each request (closed loop: otherwise kept)");
  app.add_option("--ca-file", o->ca_file, "https: PEM certificates to trust");
  app.add_flag("--insecure", o->insecure, "https: any certificate will do");
  app.add_flag("--json", o->json, "one JSON object on stdout");
  return [o] {
    Status status = Run(*o);
    return status.ok() ? kExitOk : Fail(kCommand, status);
  };
}

}  // namespace ink::cli
