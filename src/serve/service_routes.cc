// The routes that are about the server itself.
#include <algorithm>

#include "serve/handlers.h"
#include "serve/routes.h"
#include "serve/service.h"

namespace ink {
namespace {

bool Named(std::string_view name, std::string_view given) {
  return given == name || (given.ends_with(":latest") && given.substr(0, given.size() - 7) == name);
}

std::string_view StateName(ModelState state) {
  switch (state) {
    case ModelState::kLoaded:
      return "loaded";
    case ModelState::kReleased:
      return "released";
    default:
      return "draining";
  }
}

Json ModelJson(const ModelView& view) {
  Json json;
  json["id"] = view.source.name;
  json["object"] = "model";
  json["created"] = view.model == nullptr ? 0 : view.model->created();
  json["owned_by"] = "inkstone";
  json["state"] = StateName(view.state);
  if (view.model == nullptr) return json;
  const ServedModel& model = *view.model;
  json["max_model_len"] = model.context();
  json["architecture"] = model.info().architecture;
  json["chat_template"] = model.has_template();  // ours: whether it is made for conversations
  return json;
}

// As vLLM lists them: an adapter is a model with a parent.
Json AdapterJson(const ModelView& view, const AdapterSource& adapter, const Json& model) {
  Json json = model;
  json["id"] = adapter.name;
  json["created"] = 0;
  json["parent"] = view.source.name;
  json["scale"] = adapter.scale;
  json["state"] = "released";  // comes back with the first request for it
  if (view.model == nullptr) return json;
  for (const AdapterView& loaded : view.model->adapters().Views()) {
    if (loaded.draining || loaded.source.name != adapter.name) continue;
    json["created"] = loaded.created;
    json["state"] = "loaded";
  }
  return json;
}

std::string IsoTime(int64_t seconds) {
  const std::time_t time = seconds;
  std::tm parts{};
  gmtime_r(&time, &parts);
  char text[40];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

constexpr Field kModelFields[] = {
    {"name", FieldUse::kHonoured, R"({"type":"string"})"},
    {"path", FieldUse::kHonoured, R"({"type":"string"})"},
    {"adapters", FieldUse::kHonoured,
     R"({"type":"array","items":{"type":"object","required":["name","path"],"properties":)"
     R"({"name":{"type":"string"},"path":{"type":"string"},"scale":{"type":"number"}}}})"},
    {"context", FieldUse::kHonoured, R"({"type":"integer","minimum":0})"},
    {"sequences", FieldUse::kHonoured, R"({"type":"integer","minimum":0})"},
};

constexpr Field kAdapterFields[] = {
    {"name", FieldUse::kHonoured, R"({"type":"string"})"},
    {"path", FieldUse::kHonoured, R"({"type":"string"})"},
    {"scale", FieldUse::kHonoured, R"({"type":"number"})"},
    {"model", FieldUse::kHonoured, R"({"type":"string"})"},
};

constexpr Field kAdapterName[] = {{"name", FieldUse::kHonoured, R"({"type":"string"})"}};

void ReadAdapterSource(FieldReader& reader, AdapterSource* source) {
  double scale = 1;
  reader.String("name", &source->name);
  reader.String("path", &source->path);
  // No sane factor is larger; products with weights stay finite.
  reader.Number("scale", &scale, -1e6, 1e6);
  source->scale = static_cast<float>(scale);
  if (source->name.empty()) reader.Fail("name", "expected a name, got none");
  if (source->path.empty()) reader.Fail("path", "expected the file or folder of the adapter");
}

// What may change the server: an admin key, or without any key a body that no form of a web page
// can send without asking first.
ApiStatus CheckAdmin(const HttpRequest& request, const std::optional<KeyInfo>& key) {
  if (key && !key->policy.admin) {
    return ApiError{403, "an admin key is needed", "", "admin_only"};
  }
  if (request.method == "POST" && !key &&
      !request.Header("content-type").starts_with("application/json")) {
    return ApiError{415, "expected the content type application/json", "", "content_type"};
  }
  return std::nullopt;
}

constexpr Field kKeyFields[] = {
    {"name", FieldUse::kHonoured, ""},
    {"models", FieldUse::kHonoured, ""},
    {"adapters", FieldUse::kHonoured, ""},
    {"requests_per_minute", FieldUse::kHonoured, ""},
    {"tokens_per_minute", FieldUse::kHonoured, ""},
    {"tokens_per_day", FieldUse::kHonoured, ""},
    {"max_concurrency", FieldUse::kHonoured, ""},
    {"priority", FieldUse::kHonoured, ""},
    {"weight", FieldUse::kHonoured, ""},
    {"admin", FieldUse::kHonoured, ""},
};

}  // namespace

FieldTable AdminModelFields() { return kModelFields; }
FieldTable AdminAdapterLoadFields() { return kAdapterFields; }
FieldTable AdminAdapterUnloadFields() { return kAdapterName; }

void Service::SendModels(Call& call, std::string_view only) {
  Json list = Json::array();
  for (const ModelView& view : models_.Views()) {
    if (view.state == ModelState::kDraining) continue;
    const Json model = ModelJson(view);
    const bool first = list.empty();
    if (!only.empty() && (Named(view.source.name, only) || (first && Named("default", only)))) {
      SendJson(call, model);
      return;
    }
    list.push_back(model);
    for (const AdapterSource& adapter : view.source.adapters) {
      Json item = AdapterJson(view, adapter, model);
      if (!only.empty() && Named(adapter.name, only)) {
        SendJson(call, std::move(item));
        return;
      }
      list.push_back(std::move(item));
    }
  }
  SendJson(call, {{"object", "list"}, {"data", std::move(list)}});
}

void Service::SendTags(Call& call) {
  Json list = Json::array();
  auto add = [&](const ServedModel& model, const std::string& name, const std::string& parent,
                 int64_t created, int64_t size) {
    const std::string& family = model.info().architecture;
    Json item;
    item["name"] = name + ":latest";
    item["model"] = name + ":latest";
    item["modified_at"] = IsoTime(created);
    item["size"] = size;
    item["digest"] = "";
    item["details"] = {{"parent_model", parent},
                       {"format", "gguf"},
                       {"family", family},
                       {"families", Json::array({family})},
                       {"parameter_size", std::to_string(model.info().num_parameters)},
                       {"quantization_level", ""}};
    list.push_back(std::move(item));
  };
  for (const auto& model : models_.Loaded()) {
    const int64_t size = model->info().weight_bytes;
    add(*model, model->name(), "", model->created(), size);
    for (const AdapterView& adapter : model->adapters().Views()) {
      if (adapter.draining) continue;
      add(*model, adapter.source.name, model->name(), adapter.created, size + adapter.bytes);
    }
  }
  SendJson(call, {{"models", std::move(list)}});
}

void Service::SendMemory(Call& call) {
  const MemoryReport report = ReportMemory(models_.Loaded());
  Json entries;
  for (const auto& [name, bytes] : report.entries) entries[name] = bytes;
  Json body;
  body["total"] = report.total;
  body["entries"] = std::move(entries);
  if (options_.kv_disk != nullptr) {
    const DiskStoreStats disk = options_.kv_disk->stats();
    body["kv_disk"] = {{"bytes", disk.bytes},           {"max_bytes", disk.max_bytes},
                       {"files", disk.files},           {"hits", disk.hits},
                       {"read_bytes", disk.read_bytes}, {"written_bytes", disk.written_bytes},
                       {"dropped", disk.dropped},       {"rejected", disk.rejected},
                       {"writable", disk.writable},     {"host_bytes", disk.host_bytes}};
  }
  body["process"] = {{"resident", report.process.resident}, {"peak", report.process.peak}};
  SendJson(call, std::move(body));
}

void Service::SendStats(Call& call) {
  Json models = Json::array();
  for (const auto& model : models_.Loaded()) {
    const EngineSnapshot s = model->engine().snapshot();
    Json item;
    item["model"] = model->name();
    item["requests"] = s.requests;
    item["running"] = s.stats.scheduler.num_running;
    item["waiting"] = s.stats.scheduler.num_waiting;
    item["swapped"] = s.stats.scheduler.num_swapped;
    item["preemptions"] = s.stats.scheduler.num_preemptions;
    item["prefix_cache_queries"] = s.stats.scheduler.prompt_tokens_queried;
    item["prefix_cache_hits"] = s.stats.scheduler.prompt_tokens_hit;
    item["kv_blocks"] = s.kv_blocks;
    item["kv_blocks_used"] = s.kv_blocks_used;
    item["kv_blocks_cached"] = s.kv_blocks_cached;
    item["kv_bytes"] = s.kv_bytes;
    item["steps"] = s.stats.steps;
    item["step_seconds"] = s.stats.step_seconds;
    item["prompt_tokens"] = s.stats.prompt_tokens;
    item["generated_tokens"] = s.stats.generated_tokens;
    models.push_back(std::move(item));
  }
  SendJson(call, {{"models", std::move(models)}});
}

ApiStatus Service::HandleModels(const HttpRequest& request, const std::optional<KeyInfo>& key,
                                Call& call) {
  if (auto refusal = CheckAdmin(request, key)) return refusal;
  if (request.method != "POST") {
    Json data = Json::array();
    for (const ModelView& view : models_.Views()) {
      Json item = ModelJson(view);
      item["path"] = view.source.path;
      item["requests"] = view.requests;
      data.push_back(std::move(item));
    }
    SendJson(call, {{"object", "list"}, {"data", std::move(data)}});
    return std::nullopt;
  }
  const bool load = request.path == "/v1/admin/models/load";
  if (auto error = CheckFields(call.body, kModelFields, true, &call.warnings)) return error;
  FieldReader reader(call.body);
  ModelSource source;
  reader.String("name", &source.name);
  reader.String("path", &source.path);
  reader.Integer("context", &source.context, 0);
  reader.Integer("sequences", &source.sequences, 0, 4096);
  if (const Json* list = reader.List("adapters")) {
    for (size_t i = 0; i < list->size(); ++i) {
      if (!list->at(i).is_object()) {
        reader.Fail("adapters", "expected objects with name, path and scale");
        break;
      }
      FieldReader item(list->at(i), "adapters[" + std::to_string(i) + "].");
      ReadAdapterSource(item, &source.adapters.emplace_back());
      if (!item.ok()) return item.error();
    }
  }
  if (reader.ok() && source.name.empty()) reader.Fail("name", "expected a name, got none");
  if (!reader.ok()) return reader.error();
  Status status;
  if (!load) {
    status = models_.Unload(source.name);
  } else if (source.path.empty() && models_.Has(source.name)) {
    status = models_.Find(source.name).status();  // wakes it
  } else if (source.path.empty()) {
    return BadRequest("'path': expected the file or folder of the model", "path");
  } else {
    status = models_.Load(source);
  }
  if (!status.ok()) return FromStatus(status);
  SendJson(call, {{"name", source.name}, {"state", load ? "loaded" : "unloaded"}});
  return std::nullopt;
}

ApiStatus Service::HandleAdapters(const HttpRequest& request, const std::optional<KeyInfo>& key,
                                  Call& call) {
  if (auto refusal = CheckAdmin(request, key)) return refusal;
  if (request.method != "POST") {
    Json data = Json::array();
    for (const ModelView& view : models_.Views()) {
      Json item;
      auto add = [&](const AdapterSource& source, std::string_view state) -> Json& {
        item = Json::object();
        item["id"] = source.name;
        item["model"] = view.source.name;
        item["path"] = source.path;
        item["scale"] = source.scale;
        item["state"] = state;
        item["bytes"] = 0;
        item["requests"] = 0;
        return data.emplace_back(std::move(item));
      };
      std::vector<AdapterView> loaded;
      if (view.model != nullptr) loaded = view.model->adapters().Views();
      if (view.state != ModelState::kDraining) {
        for (const AdapterSource& source : view.source.adapters) {
          const bool there = std::any_of(loaded.begin(), loaded.end(), [&](const AdapterView& a) {
            return !a.draining && a.source.name == source.name;
          });
          if (!there) add(source, "released");
        }
      }
      for (const AdapterView& adapter : loaded) {
        const bool draining = adapter.draining || view.state == ModelState::kDraining;
        Json& json = add(adapter.source, draining ? "draining" : "loaded");
        json["bytes"] = adapter.bytes;
        json["requests"] = adapter.requests;
      }
    }
    SendJson(call, {{"object", "list"}, {"data", std::move(data)}});
    return std::nullopt;
  }
  const bool load = request.path == "/v1/admin/adapters/load";
  const FieldTable fields = load ? FieldTable(kAdapterFields) : FieldTable(kAdapterName);
  if (auto error = CheckFields(call.body, fields, true, &call.warnings)) return error;
  FieldReader reader(call.body);
  AdapterSource source;
  std::string model;
  if (load) {
    ReadAdapterSource(reader, &source);
    reader.String("model", &model);
  } else if (!reader.String("name", &source.name) && reader.ok()) {
    reader.Fail("name", "expected a name, got none");
  }
  if (!reader.ok()) return reader.error();
  const Status status =
      load ? models_.LoadAdapter(model, source) : models_.UnloadAdapter(source.name);
  if (!status.ok()) {
    ApiError error = FromStatus(status);
    if (status.code() == StatusCode::kCorrupt) error.http_status = 400;  // the file's fault
    return error;
  }
  SendJson(call, {{"name", source.name}, {"state", load ? "loaded" : "unloaded"}});
  return std::nullopt;
}

ApiStatus Service::HandleKeys(const HttpRequest& request, const std::optional<KeyInfo>& key,
                              Call& call) {
  if (options_.keys == nullptr) {
    return ApiError{404, "this server was started without a key database (--db)", "", "no_keys"};
  }
  // The first key is made on the machine itself, by `inkstone keys`.
  if (!key || !key->policy.admin) {
    return ApiError{403, "an admin key is needed", "", "admin_only"};
  }
  KeyStore& keys = *options_.keys;
  constexpr std::string_view kBase = "/v1/admin/keys";
  std::string_view rest = std::string_view(request.path).substr(kBase.size());
  if (request.method != "POST") {
    auto list = keys.List();
    if (!list.ok()) return FromStatus(list.status());
    Json data = Json::array();
    for (const KeyInfo& info : *list) data.push_back(KeyJson(info));
    SendJson(call, {{"object", "list"}, {"data", std::move(data)}});
    return std::nullopt;
  }
  if (rest.empty()) {
    if (auto error = CheckFields(call.body, kKeyFields, true, &call.warnings)) return error;
    FieldReader reader(call.body);
    KeyPolicy p;
    std::string name;
    int32_t weight = 1;
    reader.String("name", &name);
    reader.Strings("models", &p.models, false);
    reader.Strings("adapters", &p.adapters, false);
    reader.Integer("requests_per_minute", &p.requests_per_minute, 0);
    reader.Integer("tokens_per_minute", &p.tokens_per_minute, 0);
    reader.Integer("tokens_per_day", &p.tokens_per_day, 0);
    reader.Int32("max_concurrency", &p.max_concurrency, 0);
    reader.Int32("priority", &p.priority, -1000000, 1000000);
    reader.Int32("weight", &weight, 1, 1024);
    reader.Bool("admin", &p.admin);
    if (!reader.ok()) return reader.error();
    p.weight = static_cast<uint32_t>(weight);
    auto made = keys.Create(name, p);
    if (!made.ok()) return FromStatus(made.status());
    Json body = KeyJson(made->info);
    body["key"] = made->secret;
    SendJson(call, std::move(body), 201);
    return std::nullopt;
  }
  rest.remove_prefix(1);
  const size_t slash = rest.find('/');
  const std::string id(rest.substr(0, slash));
  const std::string_view action =
      slash == std::string_view::npos ? std::string_view() : rest.substr(slash + 1);
  if (action == "rotate") {
    auto made = keys.Rotate(id);
    if (!made.ok()) return FromStatus(made.status());
    Json body = KeyJson(made->info);
    body["key"] = made->secret;
    SendJson(call, std::move(body));
    return std::nullopt;
  }
  if (action == "revoke") {
    if (Status status = keys.Revoke(id); !status.ok()) return FromStatus(status);
    SendJson(call, {{"id", id}, {"revoked", true}});
    return std::nullopt;
  }
  return ApiError{404, "no such action on a key: expected rotate or revoke", "", "not_found"};
}

Json Service::OpenApi() const {
  Json paths = Json::object();
  for (const Route& route : Routes()) {
    Json operation;
    operation["summary"] = route.summary;
    if (route.fields != nullptr) {
      Json properties = Json::object();
      for (const Field& field : route.fields()) {
        const std::string name(field.name);
        if (properties.contains(name)) continue;  // the first row counts
        Json schema = field.schema.empty() ? Json::object() : Json::parse(field.schema);
        if (field.use == FieldUse::kNoEffect) schema["description"] = "accepted, no effect";
        if (field.use == FieldUse::kUnsupported) {
          schema["description"] = "not supported: an error";
          if (!field.neutral.empty()) {
            schema["description"] = "not supported: an error unless " + std::string(field.neutral);
          }
        }
        properties[name] = std::move(schema);
      }
      Json schema = {{"type", "object"}, {"properties", std::move(properties)}};
      if (options_.strict) schema["additionalProperties"] = false;
      operation["requestBody"] = {
          {"required", true}, {"content", {{"application/json", {{"schema", std::move(schema)}}}}}};
    }
    operation["responses"] = {
        {"200", {{"description", "OK"}}},
        {"4XX", {{"description", "an error in the shape of this route's API"}}}};
    std::string method(route.method);
    std::transform(method.begin(), method.end(), method.begin(),
                   [](char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
    paths[std::string(route.path)][method] = std::move(operation);
  }
  paths["/health"]["get"] = {{"summary", "Whether the server answers; needs no key"},
                             {"responses", {{"200", {{"description", "OK"}}}}}};
  Json api;
  api["openapi"] = "3.1.0";
  api["info"] = {{"title", "Inkstone"}, {"version", options_.version}};
  api["components"] = {{"securitySchemes", {{"key", {{"type", "http"}, {"scheme", "bearer"}}}}}};
  api["security"] = Json::array({Json::object(), {{"key", Json::array()}}});
  api["paths"] = std::move(paths);
  return api;
}

}  // namespace ink
