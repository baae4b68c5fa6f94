#include "transport/otlp_exporter.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <utility>

namespace ink {
namespace {

constexpr std::chrono::milliseconds kFirstPause{1000};
constexpr std::chrono::milliseconds kLongestPause{30'000};

// {"partialSuccess": {"rejectedSpans": "3"}}; the number may be a number, too.
int64_t RejectedSpans(const std::string& body) {
  const Json json = Json::parse(body, nullptr, false);
  if (!json.is_object() || !json.contains("partialSuccess")) return 0;
  const Json& partial = json["partialSuccess"];
  if (!partial.is_object() || !partial.contains("rejectedSpans")) return 0;
  const Json& count = partial["rejectedSpans"];
  if (count.is_number_integer()) return count.get<int64_t>();
  int64_t value = 0;
  if (count.is_string()) {
    const std::string& text = count.get_ref<const std::string&>();
    std::from_chars(text.data(), text.data() + text.size(), value);
  }
  return value;
}

}  // namespace

Result<std::shared_ptr<OtlpExporter>> OtlpExporter::Create(OtlpOptions options) {
  INK_ASSIGN_OR_RETURN(Url url, ParseUrl(options.endpoint));
  std::string path = url.path;
  if (!path.ends_with("/v1/traces")) path += "/v1/traces";
  for (const auto& [name, value] : options.headers) {
    if (name.empty() || (name + value).find_first_of("\r\n") != std::string::npos) {
      return InvalidArgument("a header for the collector: expected a name and one line");
    }
  }
  INK_ASSIGN_OR_RETURN(auto client, HttpClient::Create(std::move(url), options.http));
  return std::shared_ptr<OtlpExporter>(
      new OtlpExporter(std::move(options), std::move(path), std::move(client)));
}

OtlpExporter::OtlpExporter(OtlpOptions options, std::string path,
                           std::unique_ptr<HttpClient> client)
    : options_(std::move(options)), path_(std::move(path)), client_(std::move(client)) {
  thread_ = std::thread([this] { Loop(); });
}

OtlpExporter::~OtlpExporter() {
  {
    std::unique_lock lock(mutex_);
    stop_ = true;
    wake_.notify_all();
    if (!ended_.wait_for(lock, options_.last_send, [this] { return done_; })) client_->Interrupt();
  }
  thread_.join();
}

void OtlpExporter::Add(std::vector<Span> spans) {
  std::lock_guard lock(mutex_);
  const size_t room = options_.max_queue - std::min(options_.max_queue, queue_.size());
  const size_t taken = std::min(room, spans.size());
  dropped_ += static_cast<int64_t>(spans.size() - taken);
  std::move(spans.begin(), spans.begin() + static_cast<ptrdiff_t>(taken),
            std::back_inserter(queue_));
  if (queue_.size() >= options_.max_batch) wake_.notify_one();
}

int64_t OtlpExporter::exported() const {
  std::lock_guard lock(mutex_);
  return exported_;
}

int64_t OtlpExporter::dropped() const {
  std::lock_guard lock(mutex_);
  return dropped_;
}

Status OtlpExporter::Send(const std::vector<Span>& batch, int64_t* rejected) {
  HttpHeaders headers = options_.headers;
  headers.emplace_back("Content-Type", "application/json");
  const SpanAttributes resource = {{"service.name", options_.service_name},
                                   {"service.version", options_.version},
                                   {"telemetry.sdk.name", std::string("inkstone")},
                                   {"telemetry.sdk.language", std::string("cpp")}};
  std::string answer;
  auto reply = client_->Request("POST", path_, headers, OtlpJson(batch, resource, options_.version),
                                [&](int, std::string_view piece) {
                                  if (answer.size() < (64 << 10)) answer += piece;
                                  return OkStatus();
                                });
  if (!reply.ok()) return Unavailable(reply.status().message());
  if (reply->status / 100 == 2) {
    *rejected = std::clamp<int64_t>(RejectedSpans(answer), 0, static_cast<int64_t>(batch.size()));
    return OkStatus();
  }
  const std::string text = "HTTP " + std::to_string(reply->status) + " " + answer.substr(0, 200);
  switch (reply->status) {
    case 429:
    case 502:
    case 503:
    case 504:  // OTLP's list of what is worth another try
      return Unavailable(text);
    default:
      return InvalidArgument(text);
  }
}

void OtlpExporter::Loop() {
  bool failing = false;
  auto tell = [&](const Status& status) {
    if (failing == !status.ok()) return;
    failing = !status.ok();
    if (!options_.log) return;
    options_.log(failing ? "traces do not reach " + options_.endpoint + ": " + status.message()
                         : "traces reach " + options_.endpoint + " again");
  };
  std::vector<Span> batch;
  std::chrono::milliseconds pause{0};  // not zero: `batch` failed
  std::unique_lock lock(mutex_);
  while (true) {
    if (pause.count() > 0) {
      wake_.wait_for(lock, pause, [this] { return stop_; });
    } else {
      wake_.wait_for(lock, options_.delay,
                     [this] { return stop_ || queue_.size() >= options_.max_batch; });
    }
    if (batch.empty()) {
      const auto end =
          queue_.begin() + static_cast<ptrdiff_t>(std::min(queue_.size(), options_.max_batch));
      batch.assign(std::make_move_iterator(queue_.begin()), std::make_move_iterator(end));
      queue_.erase(queue_.begin(), end);
    }
    if (batch.empty()) {
      if (stop_) break;
      continue;
    }
    const bool last_try = stop_;
    lock.unlock();
    int64_t rejected = 0;
    const Status status = Send(batch, &rejected);
    tell(status);
    lock.lock();
    if (status.code() == StatusCode::kUnavailable && !last_try) {
      pause = std::min(kLongestPause, std::max(kFirstPause, pause * 2));
      continue;
    }
    pause = std::chrono::milliseconds(0);
    const auto count = static_cast<int64_t>(batch.size());
    exported_ += status.ok() ? count - rejected : 0;
    dropped_ += status.ok() ? rejected : count;
    batch.clear();
    if (last_try && !status.ok()) break;
  }
  dropped_ += static_cast<int64_t>(queue_.size() + batch.size());
  queue_.clear();
  done_ = true;
  ended_.notify_all();
}

}  // namespace ink
