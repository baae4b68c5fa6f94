// inkstone serve: the engine behind the interfaces that clients already speak.
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "base/toml.h"
#include "command.h"
#include "common.h"
#include "serve/service.h"
#include "serve_models.h"
#include "transport/otlp_exporter.h"
#include "transport/transport.h"
#include "web_page.h"

namespace ink::cli {
namespace {

constexpr std::string_view kCommand = "serve";

struct Options {
  EngineFlags engine;
  HttpOptions http;
  std::string config;
  std::string db;
  std::string name;
  std::string chat_template;
  std::string policy = "fair";
  int max_waiting = 512;
  int token_budget = 512;
  int drain_seconds = 60;
  std::string idle_release = "keep";
  double peak_gops = 0;
  double peak_read_gbps = 0;
  std::string otlp_endpoint;
  std::string otlp_ca_file;
  std::string otlp_service = "inkstone";
  std::vector<std::string> otlp_headers;  // NAME=VALUE
  std::vector<ModelSource> models;        // further ones, of the configuration
  std::string kv_disk;
  uint64_t kv_disk_bytes = uint64_t{16} << 30;
  std::vector<std::string> adapters;
  std::vector<AdapterSource> first_adapters;  // of the first model
  bool strict = false;
  bool quiet = false;
};

// A value of the configuration file, where the command line has not set the flag.
template <typename T>
Status FromFile(const toml::table& file, const CLI::App& app, const char* key, const char* flag,
                T* out) {
  const toml::node_view<const toml::node> node = file[key];
  if (!node || app.count(flag) > 0) return OkStatus();
  if (auto value = node.value<T>()) {
    *out = *value;
    return OkStatus();
  }
  return InvalidArgument(std::string("configuration: '") + key +
                         "' has a value of the wrong type or range");
}

// "models/foo-q4.gguf" is served as "foo-q4".
std::string ServedName(const Options& o) {
  if (!o.name.empty()) return o.name;
  if (o.engine.model.empty()) return "inkling";
  std::filesystem::path path(o.engine.model);
  if (path.filename().empty()) path = path.parent_path();
  return path.extension() == ".gguf" ? path.stem().string() : path.filename().string();
}

// Every name is one model or one adapter.
Status CheckNames(const Options& o) {
  std::set<std::string> seen = {"", "default"};
  auto check = [&](const std::string& name) {
    return seen.insert(name).second
               ? OkStatus()
               : InvalidArgument("the name '" + name +
                                 "': expected each model and adapter to have its own");
  };
  INK_RETURN_IF_ERROR(check(ServedName(o)));
  for (const AdapterSource& adapter : o.first_adapters) INK_RETURN_IF_ERROR(check(adapter.name));
  for (const ModelSource& model : o.models) {
    INK_RETURN_IF_ERROR(check(model.name));
    for (const AdapterSource& adapter : model.adapters) INK_RETURN_IF_ERROR(check(adapter.name));
  }
  return OkStatus();
}

// The [[name]] tables of `file`; none where it has none.
Result<std::vector<const toml::table*>> Tables(const toml::table& file, const std::string& name) {
  std::vector<const toml::table*> tables;
  if (!file.contains(name)) return tables;
  const Status bad = InvalidArgument("configuration: expected [[" + name + "]] tables");
  const toml::array* list = file[name].as_array();
  if (list == nullptr) return bad;
  for (const toml::node& node : *list) {
    const toml::table* table = node.as_table();
    if (table == nullptr) return bad;
    tables.push_back(table);
  }
  return tables;
}

// [[models]] tables: name, path, context, sequences.
Status ReadModels(const toml::table& file, std::vector<ModelSource>* out) {
  INK_ASSIGN_OR_RETURN(const std::vector<const toml::table*> tables, Tables(file, "models"));
  for (const toml::table* table : tables) {
    ModelSource source;
    for (const auto& [key, value] : *table) {
      const std::string name(key.str());
      if (name == "name" && value.is_string()) {
        source.name = *value.value<std::string>();
      } else if (name == "path" && value.is_string()) {
        source.path = *value.value<std::string>();
      } else if (name == "context" && value.is_integer()) {
        source.context = *value.value<int64_t>();
      } else if (name == "sequences" && value.is_integer()) {
        source.sequences = *value.value<int64_t>();
      } else {
        return InvalidArgument("configuration: models: unknown setting or bad value '" + name +
                               "', expected name, path, context, sequences");
      }
    }
    if (source.name.empty() || source.path.empty()) {
      return InvalidArgument("configuration: models: expected a name and a path");
    }
    out->push_back(std::move(source));
  }
  return OkStatus();
}

// [[adapters]] tables: name, path, scale, model (absent: the first).
Status ReadAdapters(const toml::table& file, const std::string& first, Options& o) {
  INK_ASSIGN_OR_RETURN(const std::vector<const toml::table*> tables, Tables(file, "adapters"));
  for (const toml::table* table : tables) {
    AdapterSource source;
    std::string model = first;
    for (const auto& [key, value] : *table) {
      const std::string name(key.str());
      if (name == "name" && value.is_string()) {
        source.name = *value.value<std::string>();
      } else if (name == "path" && value.is_string()) {
        source.path = *value.value<std::string>();
      } else if (name == "scale" && value.is_number()) {
        source.scale = static_cast<float>(*value.value<double>());
      } else if (name == "model" && value.is_string()) {
        model = *value.value<std::string>();
      } else {
        return InvalidArgument("configuration: adapters: unknown setting or bad value '" + name +
                               "', expected name, path, scale, model");
      }
    }
    if (source.name.empty() || source.path.empty()) {
      return InvalidArgument("configuration: adapters: expected a name and a path");
    }
    if (model == first) {
      o.first_adapters.push_back(std::move(source));
      continue;
    }
    auto of = std::find_if(o.models.begin(), o.models.end(),
                           [&](const ModelSource& m) { return m.name == model; });
    if (of == o.models.end()) {
      return InvalidArgument("configuration: adapters: no model '" + model + "'");
    }
    of->adapters.push_back(std::move(source));
  }
  return OkStatus();
}

// "keep", "at-once", or seconds.
Result<std::chrono::milliseconds> ReleaseAfter(const std::string& text) {
  if (text == "keep") return std::chrono::milliseconds(-1);
  if (text == "at-once") return std::chrono::milliseconds(0);
  char* end = nullptr;
  const double seconds = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != 0 || !(seconds >= 0) || seconds > 1e8) {
    return InvalidArgument("--idle-release: expected keep, at-once or seconds, got '" + text + "'");
  }
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

Status ReadConfig(const CLI::App& app, Options& o) {
  const toml::parse_result parsed = toml::parse_file(o.config);
  if (!parsed) {
    return InvalidArgument("'" + o.config + "' line " +
                           std::to_string(parsed.error().source().begin.line) + ": " +
                           std::string(parsed.error().description()));
  }
  const toml::table& file = parsed.table();
  static constexpr std::string_view kKnown[] = {
      "model",         "threads",        "context",
      "sequences",     "cache_type",     "memory",
      "host",          "port",           "db",
      "name",          "policy",         "max_waiting",
      "strict",        "token_budget",   "tls_cert",
      "tls_key",       "quiet",          "drain_seconds",
      "chat_template", "max_body_bytes", "max_connections",
      "idle_release",  "models",         "adapters",
      "otlp_endpoint", "otlp_headers",   "otlp_ca_file",
      "otlp_service",  "kv_disk",        "kv_disk_bytes",
      "peak_gops",     "peak_read_gbps"};
  for (const auto& [key, value] : file) {
    if (std::find(std::begin(kKnown), std::end(kKnown), key.str()) == std::end(kKnown)) {
      return InvalidArgument("configuration: unknown setting '" + std::string(key.str()) + "'");
    }
  }
  INK_RETURN_IF_ERROR(FromFile(file, app, "model", "--model", &o.engine.model));
  INK_RETURN_IF_ERROR(FromFile(file, app, "threads", "--threads", &o.engine.threads));
  INK_RETURN_IF_ERROR(FromFile(file, app, "context", "--context", &o.engine.context));
  INK_RETURN_IF_ERROR(FromFile(file, app, "sequences", "--sequences", &o.engine.sequences));
  INK_RETURN_IF_ERROR(FromFile(file, app, "cache_type", "--cache-type", &o.engine.cache_type));
  INK_RETURN_IF_ERROR(FromFile(file, app, "idle_release", "--idle-release", &o.idle_release));
  INK_RETURN_IF_ERROR(ReadModels(file, &o.models));
  INK_RETURN_IF_ERROR(FromFile(file, app, "peak_gops", "--peak-gops", &o.peak_gops));
  INK_RETURN_IF_ERROR(FromFile(file, app, "peak_read_gbps", "--peak-read-gbps", &o.peak_read_gbps));
  INK_RETURN_IF_ERROR(FromFile(file, app, "otlp_endpoint", "--otlp-endpoint", &o.otlp_endpoint));
  INK_RETURN_IF_ERROR(FromFile(file, app, "otlp_ca_file", "--otlp-ca-file", &o.otlp_ca_file));
  INK_RETURN_IF_ERROR(FromFile(file, app, "otlp_service", "--otlp-service", &o.otlp_service));
  if (file.contains("otlp_headers") && app.count("--otlp-headers") == 0) {
    const toml::array* headers = file["otlp_headers"].as_array();
    if (headers == nullptr || !headers->is_homogeneous<std::string>()) {
      return InvalidArgument("configuration: otlp_headers: expected a list of \"NAME=VALUE\"");
    }
    for (const toml::node& header : *headers) {
      o.otlp_headers.push_back(*header.value<std::string>());
    }
  }
  std::string memory;
  INK_RETURN_IF_ERROR(FromFile(file, app, "memory", "--memory", &memory));
  if (!memory.empty()) {
    INK_ASSIGN_OR_RETURN(o.engine.memory, ParseBytes(memory));
  }
  INK_RETURN_IF_ERROR(FromFile(file, app, "host", "--host", &o.http.host));
  INK_RETURN_IF_ERROR(FromFile(file, app, "port", "--port", &o.http.port));
  INK_RETURN_IF_ERROR(FromFile(file, app, "db", "--db", &o.db));
  INK_RETURN_IF_ERROR(FromFile(file, app, "name", "--name", &o.name));
  INK_RETURN_IF_ERROR(FromFile(file, app, "chat_template", "--chat-template", &o.chat_template));
  INK_RETURN_IF_ERROR(FromFile(file, app, "policy", "--policy", &o.policy));
  INK_RETURN_IF_ERROR(FromFile(file, app, "max_waiting", "--max-waiting", &o.max_waiting));
  INK_RETURN_IF_ERROR(FromFile(file, app, "token_budget", "--token-budget", &o.token_budget));
  INK_RETURN_IF_ERROR(FromFile(file, app, "strict", "--strict", &o.strict));
  INK_RETURN_IF_ERROR(FromFile(file, app, "quiet", "--quiet", &o.quiet));
  INK_RETURN_IF_ERROR(FromFile(file, app, "tls_cert", "--tls-cert", &o.http.tls_certificate));
  INK_RETURN_IF_ERROR(FromFile(file, app, "tls_key", "--tls-key", &o.http.tls_key));
  INK_RETURN_IF_ERROR(FromFile(file, app, "drain_seconds", "--drain-seconds", &o.drain_seconds));
  INK_RETURN_IF_ERROR(
      FromFile(file, app, "max_body_bytes", "--max-body-bytes", &o.http.max_body_bytes));
  INK_RETURN_IF_ERROR(
      FromFile(file, app, "max_connections", "--max-connections", &o.http.max_connections));
  INK_RETURN_IF_ERROR(FromFile(file, app, "kv_disk", "--kv-disk", &o.kv_disk));
  std::string disk_bytes;
  INK_RETURN_IF_ERROR(FromFile(file, app, "kv_disk_bytes", "--kv-disk-bytes", &disk_bytes));
  if (!disk_bytes.empty()) {
    INK_ASSIGN_OR_RETURN(o.kv_disk_bytes, ParseBytes(disk_bytes));
  }
  return ReadAdapters(file, ServedName(o), o);
}

// One structured line, with the time.
void LogLine(spdlog::logger& logger, const char* level, const nlohmann::ordered_json& record) {
  nlohmann::ordered_json line;
  line["time"] =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  line["level"] = level;
  for (const auto& [key, value] : record.items()) line[key] = value;
  logger.info(line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

Result<std::shared_ptr<SpanSink>> MakeExporter(const Options& o,
                                               std::shared_ptr<spdlog::logger> logger) {
  OtlpOptions options;
  options.endpoint = o.otlp_endpoint;
  options.service_name = o.otlp_service;
  options.version = INKSTONE_VERSION;
  options.http.ca_file = o.otlp_ca_file;
  options.http.connect_timeout = std::chrono::seconds(5);
  options.http.io_timeout = std::chrono::seconds(10);  // the OpenTelemetry SDKs' own
  for (const std::string& header : o.otlp_headers) {
    const size_t equal = header.find('=');
    if (equal == 0 || equal == std::string::npos) {
      return InvalidArgument("--otlp-headers: expected NAME=VALUE");
    }
    options.headers.emplace_back(header.substr(0, equal), header.substr(equal + 1));
  }
  options.log = [logger](const std::string& sentence) {
    LogLine(*logger, "warning", {{"message", sentence}});
  };
  INK_ASSIGN_OR_RETURN(auto exporter, OtlpExporter::Create(std::move(options)));
  return std::shared_ptr<SpanSink>(std::move(exporter));
}

Status Serve(const CLI::App& app, Options& o) {
  if (!o.config.empty()) INK_RETURN_IF_ERROR(ReadConfig(app, o));
  for (const std::string& text : o.adapters) {
    INK_ASSIGN_OR_RETURN(AdapterSource source, ParseServedAdapter(text));
    o.first_adapters.push_back(std::move(source));
  }
  INK_RETURN_IF_ERROR(CheckNames(o));
  // Before any thread exists, so that all of them leave these signals to this one.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

  std::shared_ptr<KeyStore> keys;
  bool has_keys = false;
  if (!o.db.empty()) {
    INK_ASSIGN_OR_RETURN(auto opened, KeyStore::Open(o.db));
    keys = std::move(opened);
    INK_ASSIGN_OR_RETURN(has_keys, keys->HasKeys());
  }
  if (!has_keys && !IsLoopback(o.http.host)) {
    return InvalidArgument("--host " + o.http.host +
                           ": without an API key the server listens on loopback only; make a key "
                           "with 'inkstone keys create --db FILE' and give --db FILE");
  }
  // Last to go: requests write to it until the engine is gone.
  INK_ASSIGN_OR_RETURN(std::unique_ptr<Transport> transport, CreateHttpTransport(o.http));

  // Before the models, which write to it when they go.
  std::shared_ptr<DiskStore> kv_disk;
  if (!o.kv_disk.empty()) {
    INK_ASSIGN_OR_RETURN(auto opened,
                         DiskStore::Open(o.kv_disk, static_cast<int64_t>(o.kv_disk_bytes),
                                         [](const std::string& sentence) {
                                           std::fprintf(stderr, "inkstone serve: %s\n",
                                                        sentence.c_str());
                                         }));
    kv_disk = std::move(opened);
  }
  ServeLoader::Settings settings;
  settings.kv_disk = kv_disk.get();
  settings.engine = o.engine;
  settings.policy = o.policy;
  settings.max_waiting = o.max_waiting;
  settings.token_budget = o.token_budget;
  settings.first = ServedName(o);
  settings.peaks = {o.peak_gops * 1e9, o.peak_read_gbps * 1e9};
  if (!o.chat_template.empty()) {
    INK_ASSIGN_OR_RETURN(settings.chat_template, ReadTextFile(o.chat_template));
  }
  ServeLoader loader(std::move(settings));
  ModelSource first;
  first.name = ServedName(o);
  first.path = o.engine.model;
  first.adapters = o.first_adapters;
  ServiceOptions service_options;
  {
    INK_ASSIGN_OR_RETURN(auto model, loader.Load(first, true));
    for (const AdapterSource& adapter : first.adapters) {
      INK_RETURN_IF_ERROR(model->adapters().Load(adapter));
    }
    service_options.models.push_back(std::move(model));
  }
  service_options.sources = {first};
  service_options.sources.insert(service_options.sources.end(), o.models.begin(), o.models.end());
  service_options.model_set.load = [&loader](const ModelSource& source) {
    return loader.Load(source, false);
  };
  INK_ASSIGN_OR_RETURN(service_options.model_set.idle_release, ReleaseAfter(o.idle_release));
  service_options.loopback_hosts_only = IsLoopback(o.http.host);
  service_options.keys = keys;
  service_options.kv_disk = kv_disk;
  service_options.strict = o.strict;
  service_options.version = INKSTONE_VERSION;
  service_options.files = WebPage();
  auto logger =
      std::make_shared<spdlog::logger>("serve", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("%v");
  if (!o.quiet) {
    service_options.log = [logger](const nlohmann::ordered_json& record) {
      LogLine(*logger, record.value("status", 200) >= 500 ? "error" : "info", record);
    };
  }
  if (!o.otlp_endpoint.empty()) {
    INK_ASSIGN_OR_RETURN(service_options.trace, MakeExporter(o, logger));
  }
  Service service(std::move(service_options));
  INK_RETURN_IF_ERROR(transport->Start(service.handler()));
  INK_RETURN_IF_ERROR(WriteOutput("listening on " + transport->url() + "\n"));
  INK_RETURN_IF_ERROR(FlushOutput());

  int signal = 0;
  sigwait(&signals, &signal);
  std::fprintf(stderr, "inkstone serve: draining, at most %d s; again to stop now\n",
               o.drain_seconds);
  // The load balancer is told by /health, which is answered until the end.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(o.drain_seconds);
  bool drained = false;
  while (!drained && std::chrono::steady_clock::now() < deadline) {
    drained = service.Drain(
        std::min(deadline, std::chrono::steady_clock::now() + std::chrono::milliseconds(200)));
    const timespec none = {0, 0};
    if (!drained && sigtimedwait(&signals, nullptr, &none) > 0) break;
  }
  transport->StopAccepting();
  // Last bytes of the last answers.
  for (int i = 0; i < 20 && drained && transport->num_connections() > 0; ++i) {
    const timespec pause = {0, 50'000'000};
    nanosleep(&pause, nullptr);
  }
  transport->Stop();
  return drained ? OkStatus() : Cancelled("stopped with requests still running");
}

}  // namespace

CommandBody RegisterServe(CLI::App& app) {
  auto o = std::make_shared<Options>();
  AddEngineFlags(app, o->engine);
  app.add_option("--host", o->http.host, "address to listen on")->capture_default_str();
  app.add_option("--port", o->http.port, "port; 0 picks a free one")->capture_default_str();
  app.add_option("--config", o->config, "TOML file with any of these settings");
  app.add_option("--db", o->db, "key database (inkstone keys)");
  app.add_option("--name", o->name, "the model's name for clients (default: of its file)");
  app.add_option(
      "--kv-disk", o->kv_disk,
      "folder for cached prefixes that leave memory; they are found again after a restart");
  app.add_option_function<std::string>(
         "--kv-disk-bytes",
         [o](const std::string& text) {
           auto bytes = ParseBytes(text);
           if (!bytes.ok()) {
             throw CLI::ValidationError("--kv-disk-bytes", bytes.status().message());
           }
           o->kv_disk_bytes = *bytes;
         },
         "bound on the files there, least recently used go first")
      ->default_str("16GiB");
  app.add_option("--adapter", o->adapters,
                 "adapter of the model, served as a model NAME: NAME=FILE or NAME=FILE:SCALE, a "
                 "PEFT folder or a GGUF file; may be repeated");
  app.add_option("--chat-template", o->chat_template, "Jinja file instead of the model's own");
  app.add_option("--policy", o->policy, "who is served first")
      ->check(CLI::IsMember({"fair", "fcfs", "priority"}))
      ->capture_default_str();
  app.add_option("--max-waiting", o->max_waiting, "requests in the queue; more get 429")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--token-budget", o->token_budget, "tokens per step, prefill and decode together")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--max-body-bytes", o->http.max_body_bytes, "largest request body")
      ->capture_default_str();
  app.add_option("--max-connections", o->http.max_connections, "open connections")
      ->capture_default_str();
  app.add_option("--tls-cert", o->http.tls_certificate, "PEM certificate chain: serve HTTPS");
  app.add_option("--tls-key", o->http.tls_key, "PEM private key");
  app.add_option("--drain-seconds", o->drain_seconds, "how long SIGTERM waits for running requests")
      ->check(CLI::Range(0, 86400))
      ->capture_default_str();
  app.add_option("--idle-release", o->idle_release,
                 "when an idle model leaves memory: keep, at-once, or after that many seconds")
      ->capture_default_str();
  app.add_option("--peak-gops", o->peak_gops,
                 "what MFU is a share of, 10^9 operations per second (default: measured at start)")
      ->check(CLI::PositiveNumber);
  app.add_option("--peak-read-gbps", o->peak_read_gbps,
                 "what MBU is a share of, 10^9 bytes per second (default: measured at start)")
      ->check(CLI::PositiveNumber);
  // The names of the OpenTelemetry SDKs' own variables; a flag wins.
  app.add_option("--otlp-endpoint", o->otlp_endpoint,
                 "OpenTelemetry collector that receives traces, e.g. http://127.0.0.1:4318")
      ->envname("OTEL_EXPORTER_OTLP_ENDPOINT");
  app.add_option("--otlp-headers", o->otlp_headers, "headers for the collector, NAME=VALUE,...")
      ->delimiter(',')
      ->envname("OTEL_EXPORTER_OTLP_HEADERS");
  app.add_option("--otlp-ca-file", o->otlp_ca_file, "PEM certificates the collector may have")
      ->envname("OTEL_EXPORTER_OTLP_CERTIFICATE");
  app.add_option("--otlp-service", o->otlp_service, "service.name of the traces")
      ->envname("OTEL_SERVICE_NAME")
      ->capture_default_str();
  app.add_flag("--strict", o->strict, "unknown request fields are errors");
  app.add_flag("--quiet", o->quiet, "no line per request on stderr");
  return [o, &app] {
    Status status = Serve(app, *o);
    return status.ok() ? kExitOk : Fail(kCommand, status);
  };
}

}  // namespace ink::cli
