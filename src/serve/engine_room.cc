#include "serve/engine_room.h"

#include <optional>
#include <utility>

#include "serve/handlers.h"

namespace ink {
namespace {

using Clock = std::chrono::steady_clock;

Json RequestJson(const RequestView& r) {
  Json json;
  json["id"] = r.id;
  json["phase"] = RequestPhaseName(r.phase);
  json["age_s"] = r.age_s;
  json["queue_s"] = r.queue_s;
  json["prefill_s"] = r.prefill_s;
  json["decode_s"] = r.decode_s;
  json["prompt_tokens"] = r.prompt_tokens;
  json["cached_tokens"] = r.cached_tokens;
  json["computed_tokens"] = r.computed_tokens;
  json["completion_tokens"] = r.completion_tokens;
  json["max_tokens"] = r.max_tokens;
  json["sequences"] = r.sequences;
  if (r.phase == RequestPhase::kEnded) {
    json["outcome"] = r.outcome;
  } else {
    json["blocks"] = r.blocks;
  }
  return json;
}

Json GroupJson(const BlockGroupView& g) {
  Json json;
  json["kind"] = GroupKindName(g.kind);
  if (g.window > 0) json["window"] = g.window;
  json["block_tokens"] = kBlockTokens;
  json["block_bytes"] = g.block_bytes;
  json["blocks"] = g.blocks;
  json["free"] = g.free;
  json["cached"] = g.cached;
  json["owned"] = g.owned;
  json["shared"] = g.shared;
  json["blocks_per_cell"] = g.blocks_per_cell;
  json["map"] = g.map;
  return json;
}

// What does not change while the model is loaded.
Json ModelFacts(const ServedModel& model) {
  Json json;
  json["model"] = model.name();
  json["architecture"] = model.info().architecture;
  json["parameters"] = model.info().num_parameters;
  json["weight_bytes"] = model.info().weight_bytes;
  json["context"] = model.context();
  json["peak_flops"] = model.options().peak_ops;
  json["peak_read_bytes_per_second"] = model.options().peak_read_bytes;
  json["chat_template"] = model.has_template();
  return json;
}

Json PhaseJson(const PhaseWork& total, const PhaseWork& recent, const ServedModelOptions& options) {
  Json json;
  json["steps"] = total.steps;
  json["seconds"] = total.seconds;
  json["flops"] = total.flops;
  json["bytes_read"] = total.bytes_read;
  const Utilization use = UtilizationOf(recent, options);
  json["mfu"] = use.mfu ? Json(*use.mfu) : Json();
  json["mbu"] = use.mbu ? Json(*use.mbu) : Json();
  return json;
}

// On the engine's thread. `peaks` are the options' alone: the model itself is not to be held here.
std::string DescribeEngine(Json json, Engine& engine, const ServedModelOptions& peaks) {
  const EngineStats stats = engine.stats();
  const EngineView view = engine.View();
  json["at"] = std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
  json["max_sequences"] = engine.config().max_seqs;
  json["requests"] = view.num_requests;
  json["running"] = stats.scheduler.num_running;
  json["waiting"] = stats.scheduler.num_waiting;
  json["swapped"] = stats.scheduler.num_swapped;
  json["preemptions"] = stats.scheduler.num_preemptions;
  json["prefix_cache_queries"] = stats.scheduler.prompt_tokens_queried;
  json["prefix_cache_hits"] = stats.scheduler.prompt_tokens_hit;
  json["prompt_tokens"] = stats.prompt_tokens;
  json["generated_tokens"] = stats.generated_tokens;
  json["steps"] = stats.steps;
  json["step_seconds"] = stats.step_seconds;
  json["phases"] = {{"prefill", PhaseJson(stats.prefill, stats.recent_prefill, peaks)},
                    {"decode", PhaseJson(stats.decode, stats.recent_decode, peaks)}};
  json["groups"] = Json::array();
  for (const BlockGroupView& group : view.groups) json["groups"].push_back(GroupJson(group));
  json["in_flight"] = Json::array();
  for (const RequestView& r : view.running) json["in_flight"].push_back(RequestJson(r));
  json["ended"] = Json::array();
  for (const RequestView& r : view.ended) json["ended"].push_back(RequestJson(r));
  return DumpJson(json);
}

// One answer made of several engines' parts.
struct Gather {
  RequestContext context;
  std::mutex mutex;
  std::vector<std::string> parts;
  size_t missing = 0;

  void Put(size_t index, std::string part) {
    {
      std::lock_guard lock(mutex);
      parts[index] = std::move(part);
      if (--missing > 0) return;
    }
    Answer();
  }

  void Answer() {
    HttpResponse response;
    response.body = "{\"models\":[";
    for (size_t i = 0; i < parts.size(); ++i) {
      if (i > 0) response.body += ',';
      response.body += parts[i];
    }
    response.body += "]}";
    response.headers.emplace_back("Cache-Control", "no-store");
    AddCommonHeaders(context, {}, &response);
    if (context.on_end) context.on_end(200, "", {});
    context.writer->Send(std::move(response));
  }
};

}  // namespace

void EngineRoom::Send(RequestContext context,
                      const std::vector<std::shared_ptr<ServedModel>>& models) {
  auto gather = std::make_shared<Gather>();
  gather->context = std::move(context);
  gather->parts.resize(models.size());
  gather->missing = models.size();
  if (models.empty()) {
    gather->Answer();
    return;
  }
  std::vector<std::shared_ptr<Shown>> shown;
  {
    std::lock_guard lock(mutex_);
    std::map<std::string, std::shared_ptr<Shown>> kept;  // without models that went away
    for (const auto& model : models) {
      auto& entry = shown_[model->name()];
      if (entry == nullptr) entry = std::make_shared<Shown>();
      kept[model->name()] = entry;
      shown.push_back(entry);
    }
    shown_.swap(kept);
  }
  // The text if it is fresh. Looked at again on the engine's thread: of many who ask during one
  // long step, the first one's description serves all.
  auto fresh = [](Shown& entry) -> std::optional<std::string> {
    std::lock_guard lock(entry.mutex);
    if (entry.json.empty() || Clock::now() - entry.at > kFresh) return std::nullopt;
    return entry.json;
  };
  for (size_t i = 0; i < models.size(); ++i) {
    if (auto text = fresh(*shown[i])) {
      gather->Put(i, *std::move(text));
      continue;
    }
    // Not the model itself: its last owner must not be its own engine's thread.
    ServedModelOptions peaks;
    peaks.peak_ops = models[i]->options().peak_ops;
    peaks.peak_read_bytes = models[i]->options().peak_read_bytes;
    models[i]->engine().Post([gather, i, fresh, entry = shown[i], facts = ModelFacts(*models[i]),
                              peaks](Engine& engine) {
      auto text = fresh(*entry);
      if (!text) {
        text = DescribeEngine(facts, engine, peaks);
        std::lock_guard lock(entry->mutex);
        entry->json = *text;
        entry->at = Clock::now();
      }
      gather->Put(i, *std::move(text));
    });
  }
}

}  // namespace ink
