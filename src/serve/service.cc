#include "serve/service.h"

#include <algorithm>
#include <utility>

#include "serve/handlers.h"
#include "serve/ids.h"
#include "serve/routes.h"

namespace ink {
namespace {

using Clock = std::chrono::steady_clock;

bool IsVisible(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

// The names of OpenTelemetry's semantic conventions for generative AI.
std::string_view OperationName(std::string_view path) {
  if (path.find("embed") != std::string_view::npos) return "embeddings";
  const bool text = path == "/v1/completions" || path == "/api/generate";
  return text ? "text_completion" : "chat";
}

bool Matches(const Route& route, std::string_view path) {
  if (path == route.path) return true;
  return route.prefix && path.size() > route.path.size() && path.starts_with(route.path) &&
         path[route.path.size()] == '/';
}

bool Contains(const std::vector<std::string>& list, const std::string& name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

// An adapter's name counts as a model's too: a key for "tales" alone need not have its base.
ApiStatus CheckAllowed(const KeyPolicy& policy, const RequestContext& context) {
  const std::string& name = context.model_name();
  if (!policy.models.empty() && !Contains(policy.models, context.model->name()) &&
      !Contains(policy.models, name)) {
    return ApiError{403, "this key may not use the model '" + name + "'", "model",
                    "model_not_allowed"};
  }
  if (context.adapter != nullptr && !policy.adapters.empty() && !Contains(policy.adapters, name)) {
    return ApiError{403, "this key may not use the adapter '" + name + "'", "model",
                    "adapter_not_allowed"};
  }
  return std::nullopt;
}

}  // namespace

Service::Service(ServiceOptions options)
    : options_(std::move(options)),
      limiter_(options_.keys.get()),
      models_(std::move(options_.models), options_.model_set) {
  for (const ModelSource& source : options_.sources) models_.SetSource(source);
  for (int i = 0; i < std::max(1, options_.num_workers); ++i) {
    workers_.emplace_back([this] { WorkerLoop(); });
  }
}

Service::~Service() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  // Requests use the metrics and the limiter, and none of them may be the last to hold a model: it
  // ends on the model's own thread.
  for (const auto& model : models_.Everything()) model->engine().CancelAll();
  std::unique_lock lock(mutex_);
  all_closed_.wait(lock, [this] { return open_requests_ == 0; });
}

std::shared_ptr<void> Service::OpenRequest() {
  {
    std::lock_guard lock(mutex_);
    ++open_requests_;
  }
  return std::shared_ptr<void>(this, [this](void*) {
    // Notified under the lock: the service may be gone as soon as it is free.
    std::lock_guard lock(mutex_);
    if (--open_requests_ == 0) all_closed_.notify_all();
  });
}

void Service::Handle(HttpRequest request, std::shared_ptr<ResponseWriter> writer) {
  const Clock::time_point received = Clock::now();
  if (request.path == "/health" && (request.method == "GET" || request.method == "HEAD")) {
    HttpResponse response;
    std::unique_lock lock(mutex_);
    const bool draining = draining_;
    lock.unlock();
    if (draining) response.status = 503;
    response.body = draining ? R"({"status":"draining"})" : R"({"status":"ok"})";
    writer->Send(std::move(response));
    return;
  }
  bool full = false;
  {
    std::lock_guard lock(mutex_);
    full = jobs_.size() >= options_.max_backlog;
    if (!full) jobs_.push({std::move(request), writer, received});
  }
  if (full) {
    ApiError error{429, "the server has too many requests to read", "", "queue_full", 1};
    writer->Send(ErrorResponse(ApiOfPath(request.path), error, ""));
    return;
  }
  wake_.notify_one();
}

void Service::WorkerLoop() {
  while (true) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop();
    }
    Process(std::move(job));
  }
}

void Service::Process(Job job) {
  const HttpRequest& request = job.request;
  RequestContext context;
  context.open = OpenRequest();
  context.writer = job.writer;
  context.received = job.received;
  context.metrics = &metrics_;
  const std::string_view given_id = request.Header("x-request-id");
  context.request_id = !given_id.empty() && given_id.size() <= 128 && IsVisible(given_id)
                           ? std::string(given_id)
                           : "req_" + RandomHex(12);
  const std::optional<TraceParent> parent = ParseTraceparent(request.Header("traceparent"));
  if (parent) context.traceparent = request.Header("traceparent");
  const std::string method = request.method == "HEAD" ? "GET" : request.method;
  const Route* route = nullptr;
  bool path_known = false;
  std::string allow;
  for (const Route& row : Routes()) {
    if (!Matches(row, request.path)) continue;
    path_known = true;
    if (row.method == method) route = &row;
    allow += (allow.empty() ? "" : ", ") + std::string(row.method);
  }
  const StaticFile* file = nullptr;
  for (const StaticFile& row : options_.files) {
    if (row.path == request.path && method == "GET") file = &row;
  }
  context.route = route != nullptr ? route->path : file != nullptr ? "static" : "unknown";
  const ApiKind api = route != nullptr ? route->api : ApiOfPath(request.path);

  // Scrapes and the engine room's polling are no one's trace unless someone asks for it.
  if (options_.trace != nullptr &&
      (parent || (route != nullptr && route->kind == RouteKind::kBody))) {
    context.trace = RequestTrace::Begin(parent, request.Header("tracestate"), job.received);
  }
  if (context.trace != nullptr) {
    if (!parent) context.traceparent = context.trace->traceparent();
    context.trace->SetName(request.method.substr(0, 16) + " " + context.route);
    context.trace->Set("http.request.method", request.method.substr(0, 16));
    context.trace->Set("http.route", context.route);
    context.trace->Set("url.path", request.path.substr(0, 256));
    context.trace->Set("client.address", request.peer);
    context.trace->Set("inkstone.request_id", context.request_id);
  }

  Json record;
  record["request_id"] = context.request_id;
  if (!context.traceparent.empty()) record["trace_id"] = context.traceparent.substr(3, 32);
  record["method"] = request.method;
  record["path"] = request.path.substr(0, 256);
  record["peer"] = request.peer;
  auto shared = std::make_shared<Json>(std::move(record));
  context.on_end = [this, shared, route_name = context.route, received = job.received,
                    trace = context.trace](int status, std::string_view finish,
                                           const Usage& usage) {
    if (trace != nullptr) options_.trace->Add(trace->End(status, Clock::now()));
    const double seconds = std::chrono::duration<double>(Clock::now() - received).count();
    metrics_.HttpRequest(route_name, status, seconds);
    if (!options_.log) return;
    Json& done = *shared;
    done["status"] = status;
    done["seconds"] = seconds;
    if (!finish.empty()) {
      done["finish"] = finish;
      done["prompt_tokens"] = usage.prompt_tokens;
      done["cached_tokens"] = usage.cached_tokens;
      done["completion_tokens"] = usage.completion_tokens;
    }
    options_.log(done);
  };

  if (route == nullptr && file != nullptr) {
    HttpResponse response = FileResponse(*file, request);
    AddCommonHeaders(context, {}, &response);
    context.on_end(response.status, "", {});
    context.writer->Send(std::move(response));
    return;
  }
  std::optional<KeyInfo> key;
  ApiStatus error = Authorize(request, &key);
  if (!error && !AllowsHost(request)) {
    error = ApiError{403,
                     "without API keys this server answers to the names of this machine only "
                     "(localhost, 127.0.0.1, ::1), got the host '" +
                         std::string(request.Header("host").substr(0, 128)) + "'",
                     "", "host_not_allowed"};
  }
  if (key) (*shared)["key"] = key->id;
  const RequestContext kept = context;  // for an error's headers, after the context was handed on
  if (!error && route == nullptr) {
    error = path_known
                ? ApiError{405, "'" + request.path + "' takes " + allow + ", got " +
                                    request.method.substr(0, 16)}
                : ApiError{404, "no route '" + request.path.substr(0, 128) + "'", "", "not_found"};
  }
  if (!error) {
    try {
      error = Dispatch(*route, request, key, std::move(context));
    } catch (const Json::exception& e) {
      // A nested value of a type that no reader expected; its text names the types.
      error =
          BadRequest(std::string("request body: a value has the wrong type (") + e.what() + ")");
    } catch (const std::bad_alloc&) {
      error = ApiError{503, "out of memory while reading this request"};
    }
  }
  if (!error) return;
  HttpResponse response = ErrorResponse(api, *error, kept.request_id);
  if (error->http_status == 405) response.headers.emplace_back("Allow", allow);
  AddCommonHeaders(kept, {}, &response);
  (*shared)["error"] = error->message.substr(0, 512);
  if (kept.trace != nullptr) kept.trace->SetError(error->message.substr(0, 512));
  kept.on_end(error->http_status, "", {});
  kept.writer->Send(std::move(response));
}

ApiStatus Service::Authorize(const HttpRequest& request, std::optional<KeyInfo>* key) {
  if (options_.keys == nullptr) return std::nullopt;
  auto unreadable = [](const Status& status) {
    // Closed, not open, when the database cannot be read.
    return ApiError{500, "keys cannot be checked: " + status.message()};
  };
  auto any = options_.keys->HasKeys();
  if (!any.ok()) return unreadable(any.status());
  if (!*any) return std::nullopt;
  std::string_view given = request.Header("x-api-key");
  std::string_view bearer = request.Header("authorization");
  if (bearer.size() > 7 && (bearer.starts_with("Bearer ") || bearer.starts_with("bearer "))) {
    given = bearer.substr(7);
  }
  while (!given.empty() && given.front() == ' ') given.remove_prefix(1);
  if (given.empty()) {
    return ApiError{401, "an API key is needed: send \"Authorization: Bearer KEY\"", "",
                    "missing_api_key"};
  }
  auto found = options_.keys->Check(given);
  if (!found.ok()) return unreadable(found.status());
  if (!found->has_value()) {
    return ApiError{401, "the API key is wrong or was revoked", "", "invalid_api_key"};
  }
  *key = std::move(*found);
  return std::nullopt;
}

bool Service::AllowsHost(const HttpRequest& request) {
  if (!options_.loopback_hosts_only) return true;
  if (options_.keys != nullptr) {
    auto any = options_.keys->HasKeys();
    if (any.ok() && *any) return true;
  }
  std::string_view host = request.Header("host");
  if (host.empty()) return true;  // HTTP/1.0, and no browser
  if (host.front() == '[') {
    host = host.substr(1, host.find(']') == std::string_view::npos ? 0 : host.find(']') - 1);
  } else {
    host = host.substr(0, host.rfind(':'));
  }
  std::string lower(host);
  for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  if (lower == "localhost" || lower.ends_with(".localhost") || lower == "::1") return true;
  // 127.0.0.0/8, and nothing that only begins so: "127.0.0.1.example.com".
  return lower.starts_with("127.") && lower.find_first_not_of("0123456789.") == std::string::npos;
}

ApiStatus Service::Dispatch(const Route& route, const HttpRequest& request,
                            const std::optional<KeyInfo>& key, RequestContext context) {
  const Json empty = Json::object();
  if (route.kind != RouteKind::kBody) {
    Json body = empty;
    if ((route.kind == RouteKind::kKeys || route.kind == RouteKind::kAdminModels ||
         route.kind == RouteKind::kAdminAdapters) &&
        !request.body.empty()) {
      auto parsed = ParseJsonBody(request.body);
      if (!parsed.ok()) return FromStatus(parsed.status());
      body = std::move(parsed).value();
    }
    Call call{body, std::move(context)};
    switch (route.kind) {
      case RouteKind::kModels: {
        std::string_view only = std::string_view(request.path).substr(route.path.size());
        if (!only.empty()) only.remove_prefix(1);
        if (!only.empty() && !models_.Has(std::string(only))) {
          return ApiError{404,
                          "The model '" + std::string(only.substr(0, 128)) + "' does not exist",
                          "model", "model_not_found"};
        }
        SendModels(call, only);
        return std::nullopt;
      }
      case RouteKind::kTags:
        SendTags(call);
        return std::nullopt;
      case RouteKind::kVersion:
        SendJson(call, {{"version", options_.version}});
        return std::nullopt;
      case RouteKind::kMemory:
        SendMemory(call);
        return std::nullopt;
      case RouteKind::kStats:
        SendStats(call);
        return std::nullopt;
      case RouteKind::kEngine:
        engine_room_.Send(std::move(call.context), models_.Loaded());
        return std::nullopt;
      case RouteKind::kOpenApi:
        SendJson(call, OpenApi());
        return std::nullopt;
      case RouteKind::kMetrics: {
        HttpResponse response;
        response.content_type = "text/plain; version=0.0.4; charset=utf-8";
        if (options_.trace != nullptr) {
          metrics_.SetTrace(options_.trace->exported(), options_.trace->dropped());
        }
        if (options_.kv_disk != nullptr) metrics_.SetKvDisk(options_.kv_disk->stats());
        response.body = metrics_.Render(models_.Loaded());
        AddCommonHeaders(call.context, {}, &response);
        call.context.on_end(200, "", {});
        call.context.writer->Send(std::move(response));
        return std::nullopt;
      }
      case RouteKind::kAdminModels:
        return HandleModels(request, key, call);
      case RouteKind::kAdminAdapters:
        return HandleAdapters(request, key, call);
      default:
        return HandleKeys(request, key, call);
    }
  }
  auto parsed = ParseJsonBody(request.body);
  if (!parsed.ok()) return FromStatus(parsed.status());
  const Json body = std::move(parsed).value();
  Call call{body, std::move(context)};
  call.strict = options_.strict;
  if (auto error = CheckFields(body, route.fields(), options_.strict, &call.warnings)) {
    return error;
  }
  FieldReader reader(body);
  std::string name;
  reader.String("model", &name);
  if (route.api == ApiKind::kOllama && name.empty()) reader.String("name", &name);
  if (!reader.ok()) return reader.error();
  auto choice = models_.Find(name);
  if (!choice.ok()) return FromStatus(choice.status());
  call.context.model = std::move(choice->model);
  call.context.adapter = std::move(choice->adapter);
  if (call.context.model == nullptr) {
    const std::string shown = name.substr(0, 128);
    ApiError error{404, "The model '" + shown + "' does not exist", "model", "model_not_found"};
    if (route.api == ApiKind::kOllama) error.message = "model '" + shown + "' not found";
    return error;
  }
  if (route.generates && call.context.trace != nullptr) {
    RequestTrace& trace = *call.context.trace;
    const std::string operation(OperationName(route.path));
    trace.SetName(operation + " " + call.context.model_name());
    trace.Set("gen_ai.operation.name", operation);
    trace.Set("gen_ai.provider.name", std::string("inkstone"));
    trace.Set("gen_ai.request.model", name.empty() ? call.context.model_name() : name);
  }
  call.defaults.adapters.emplace();
  if (call.context.adapter != nullptr) {
    call.defaults.adapters->push_back(call.context.adapter->use());
  }
  if (key) {
    if (auto refusal = CheckAllowed(key->policy, call.context)) return refusal;
    call.defaults.key = key->id;
    call.defaults.tenant = key->id;
    call.defaults.weight = key->policy.weight;
    call.defaults.priority = key->policy.priority;
    if (route.generates) {
      ApiError refusal;
      call.context.lease = limiter_.Admit(*key, &refusal);
      if (call.context.lease == nullptr) return refusal;
    }
  }
  return route.handle(call);
}

bool Service::Drain(Clock::time_point deadline) {
  {
    std::lock_guard lock(mutex_);
    draining_ = true;
  }
  const auto models = models_.Everything();
  for (const auto& model : models) model->engine().StopAccepting();
  bool idle = true;
  for (const auto& model : models) {
    if (!model->engine().WaitIdle(deadline)) idle = false;
  }
  return idle;
}

}  // namespace ink
