#include "engine/engine.h"

#include <algorithm>
#include <string>

#include "engine/engine_state.h"

namespace ink {
namespace {

double Seconds(std::chrono::steady_clock::duration d) {
  return std::chrono::duration<double>(d).count();
}

SchedulerConfig MakeSchedulerConfig(const Model& model, const EngineConfig& config) {
  SchedulerConfig s;
  s.cache.groups = CacheGroups(model.info(), config.kv_types);
  s.cache.host_bytes = config.host_bytes;
  s.cache.prefix_cache = config.prefix_cache;
  s.max_num_seqs = config.max_seqs;
  s.token_budget = std::max(config.token_budget, config.max_seqs);
  s.max_chunk = config.max_chunk;
  s.max_waiting = config.max_waiting;
  s.preemption = config.preemption;
  s.policy = config.policy;
  const int64_t chunk = config.max_chunk > 0 ? config.max_chunk : s.token_budget;
  // Blocks for the planned sequences, each group's share committed at start (promise 2). A budget
  // of another size stretches or shrinks all groups alike.
  int64_t planned = 0;
  for (GroupSpec& group : s.cache.groups) {
    int64_t tokens = config.context;
    if (group.kind == GroupKind::kSlidingWindow) {
      tokens = std::min(tokens, group.window + chunk + kBlockTokens);
    }
    int64_t per_sequence = group.kind == GroupKind::kRecurrent ? 2 : BlocksFor(tokens) + 1;
    group.initial_blocks = per_sequence * config.max_seqs;
    planned += group.initial_blocks * group.block_bytes;
  }
  s.watermark_blocks = 1;
  for (GroupSpec& group : s.cache.groups) {
    if (config.kv_bytes > 0) {
      double share = static_cast<double>(config.kv_bytes) / static_cast<double>(planned);
      group.initial_blocks =
          std::max<int64_t>(2, static_cast<int64_t>(group.initial_blocks * share));
    } else {
      group.initial_blocks += s.watermark_blocks;
    }
    group.max_blocks = group.initial_blocks;
    s.cache.device_bytes += BlockPool::BytesFor(group.block_bytes, group.initial_blocks);
  }
  return s;
}

RunnerConfig MakeRunnerConfig(const Model& model, const EngineConfig& config,
                              const SchedulerConfig& scheduler) {
  RunnerConfig r;
  r.max_tokens = scheduler.token_budget;
  r.max_seqs = config.max_seqs;
  r.max_context = config.context;
  // Logits are wanted for one row per sequence, and for each draft; 16 rows keep the buffer of a
  // 128k vocabulary at 8 MiB.
  r.max_logit_rows = std::clamp<int64_t>(config.max_seqs, 1, 16);
  r.kv_types = config.kv_types;
  for (const GroupSpec& group : scheduler.cache.groups) r.blocks.push_back(group.initial_blocks);
  return r;
}

EngineConfig Normalize(const Model& model, EngineConfig config) {
  if (config.context <= 0) config.context = model.info().context_length;
  return config;
}

Status CheckConfig(const EngineConfig& config) {
  if (config.max_seqs < 1 || config.max_seqs > 4096) {
    return InvalidArgument("sequences: expected 1 to 4096, got " + std::to_string(config.max_seqs));
  }
  if (config.context > (int64_t{1} << 31) - 1) {
    return InvalidArgument("context: expected at most 2147483647, got " +
                           std::to_string(config.context));
  }
  return OkStatus();
}

}  // namespace

Engine::Engine(const Model& model, Device& device, std::shared_ptr<const Tokenizer> tokenizer,
               const EngineConfig& config)
    : model_(model),
      device_(device),
      tokenizer_(std::move(tokenizer)),
      config_(config),
      mask_((model.info().n_vocab + 31) / 32),
      step_weight_bytes_(StepWeightBytes(model)) {}

Engine::~Engine() {
  if (disk_ == nullptr) return;
  disk_->set_wait(true);
  scheduler_->SpillAll();
  scheduler_->set_spill(nullptr);
}

Result<ModelRunner::Plan> Engine::MakePlan(const Model& model, Device& device,
                                           const EngineConfig& raw) {
  EngineConfig config = Normalize(model, raw);
  INK_RETURN_IF_ERROR(CheckConfig(config));
  SchedulerConfig scheduler = MakeSchedulerConfig(model, config);
  return ModelRunner::MakePlan(model, device, MakeRunnerConfig(model, config, scheduler));
}

Result<std::unique_ptr<Engine>> Engine::Create(const Model& model, Device& device,
                                               std::shared_ptr<const Tokenizer> tokenizer,
                                               const EngineConfig& raw) {
  EngineConfig config = Normalize(model, raw);
  INK_RETURN_IF_ERROR(CheckConfig(config));
  if (tokenizer != nullptr && tokenizer->vocab_size() > model.info().n_vocab) {
    return InvalidArgument("vocabulary: expected at most " + std::to_string(model.info().n_vocab) +
                           " tokens (rows of the model's embedding), got " +
                           std::to_string(tokenizer->vocab_size()));
  }
  auto engine = std::unique_ptr<Engine>(new Engine(model, device, std::move(tokenizer), config));
  SchedulerConfig scheduler = MakeSchedulerConfig(model, config);
  INK_ASSIGN_OR_RETURN(engine->scheduler_, Scheduler::Create(scheduler));
  RunnerConfig runner = MakeRunnerConfig(model, config, scheduler);
  for (size_t g = 0; g < runner.blocks.size(); ++g) {
    const CacheManager& cache = engine->scheduler_->cache();
    runner.blocks[g] = cache.pool(static_cast<int32_t>(g)).id_limit();
    if (cache.has_host_blocks()) {
      const BlockPool& host = cache.host_pool(static_cast<int32_t>(g));
      runner.host_blocks.push_back(config.host_bytes / host.slab_bytes() * host.blocks_per_slab());
    }
  }
  INK_ASSIGN_OR_RETURN(engine->runner_, ModelRunner::Create(model, device, runner));
  if (config.kv_disk != nullptr) {
    if (engine->scheduler_->cache().has_recurrent()) {
      return Unsupported(
          "KV on disk: this model has recurrent layers, whose state is not kept there");
    }
    engine->disk_ = std::make_unique<DiskTier>(*config.kv_disk, engine->runner_->storage());
    engine->scheduler_->set_spill(engine->disk_.get());
  }
  engine->adapters_ =
      std::make_unique<AdapterSet>(model, device, runner.max_tokens, runner.max_logit_rows);
  engine->runner_->set_linear_hook(engine->adapters_.get());
  return engine;
}

Result<AdapterSet::Plan> Engine::MakeAdapterPlan(const Model& model, Device& device,
                                                 const EngineConfig& raw,
                                                 std::span<const Adapter> adapters) {
  EngineConfig config = Normalize(model, raw);
  INK_RETURN_IF_ERROR(CheckConfig(config));
  RunnerConfig runner = MakeRunnerConfig(model, config, MakeSchedulerConfig(model, config));
  return AdapterSet::MakePlan(model, device, adapters, runner.max_tokens, runner.max_logit_rows);
}

Status Engine::AddAdapter(const std::string& name, const Adapter& adapter) {
  return adapters_->Add(name, adapter);
}

Status Engine::RemoveAdapter(const std::string& name, bool drain) {
  INK_RETURN_IF_ERROR(adapters_->Remove(name, drain));
  std::erase_if(default_adapters_, [&](const AdapterUse& use) { return use.name == name; });
  return OkStatus();
}

Status Engine::SetDefaultAdapters(std::vector<AdapterUse> uses) {
  INK_RETURN_IF_ERROR(adapters_->Select(uses).status());
  default_adapters_ = std::move(uses);
  return OkStatus();
}

Result<RequestId> Engine::Submit(GenerationRequest spec) {
  const int64_t n_vocab = model_.info().n_vocab;
  const int64_t prompt = static_cast<int64_t>(spec.prompt.size());
  if (prompt == 0) return InvalidArgument("prompt: expected at least one token, got none");
  for (int32_t id : spec.prompt) {
    if (id < 0 || id >= n_vocab) {
      return InvalidArgument("prompt: expected token ids from 0 to " + std::to_string(n_vocab - 1) +
                             ", got " + std::to_string(id));
    }
  }
  const bool generates = spec.sampling.max_tokens != 0;
  const int64_t room = config_.context - prompt;
  if (room < (generates ? 1 : 0)) {
    return InvalidArgument("prompt: expected at most " +
                           std::to_string(config_.context - (generates ? 1 : 0)) +
                           " tokens (context of " + std::to_string(config_.context) + "), got " +
                           std::to_string(prompt));
  }
  if (spec.num_choices < 1 || spec.num_choices > 1024) {
    return InvalidArgument("n: expected 1 to 1024 choices, got " +
                           std::to_string(spec.num_choices));
  }
  if (spec.beam && spec.num_choices > spec.beam->width) {
    return InvalidArgument("n: expected at most the beam width " +
                           std::to_string(spec.beam->width) + ", got " +
                           std::to_string(spec.num_choices));
  }
  if (spec.sampling.max_tokens < 0 || spec.sampling.max_tokens > room) {
    if (spec.sampling.max_tokens > room && !spec.beam) {
      // The context is the shorter limit; the choice ends with "length" there.
    }
    spec.sampling.max_tokens = static_cast<int32_t>(room);
  }
  SamplerModel sampler_model;
  sampler_model.n_vocab = static_cast<int32_t>(n_vocab);
  if (tokenizer_ != nullptr) {
    auto ends = tokenizer_->end_of_generation();
    sampler_model.end_token_ids.assign(ends.begin(), ends.end());
    if (spec.sampling.dry_multiplier > 0 && !spec.sampling.dry_sequence_breakers.empty()) {
      sampler_model.dry_breakers = std::make_shared<DryBreakers>(ResolveDryBreakers(
          spec.sampling.dry_sequence_breakers, sampler_model.n_vocab,
          [&](int32_t id) {
            return id < tokenizer_->vocab_size() ? std::string(tokenizer_->TokenBytes(id)) : "";
          },
          [&](std::string_view text) { return tokenizer_->Encode(text); }));
    }
  }
  auto request = std::make_unique<Request>();
  request->id = next_request_++;
  request->timings.prompt_tokens = prompt;
  request->submitted = Clock::now();
  INK_ASSIGN_OR_RETURN(request->adapters,
                       adapters_->Select(spec.adapters ? *spec.adapters : default_adapters_));
  std::optional<Sampler> first;
  for (int c = 0; c < (spec.beam ? 1 : spec.num_choices); ++c) {
    INK_ASSIGN_OR_RETURN(Sampler sampler,
                         Sampler::Create(spec.sampling, sampler_model, spec.prompt, c));
    if (c == 0) {
      first = std::move(sampler);
    } else {
      request->choice_samplers.push_back(std::move(sampler));
    }
  }
  if (spec.beam) {
    spec.beam->max_tokens = spec.sampling.max_tokens;
    spec.beam->end_token_ids = sampler_model.end_token_ids;
    INK_ASSIGN_OR_RETURN(BeamSearch beams, BeamSearch::Create(*spec.beam));
    request->beams = std::move(beams);
  }
  SequenceRequest sequence;
  sequence.id = next_sequence_++;
  sequence.tokens = spec.prompt;
  sequence.max_total_tokens = prompt + spec.sampling.max_tokens;
  sequence.priority = spec.priority;
  sequence.key = spec.key;
  sequence.weight = spec.weight;
  if (spec.prompt_hidden) sequence.max_cached_tokens = 0;
  sequence.scope = {config_.model_name, request->adapters.scope(), spec.tenant,
                    std::string(Info(config_.kv_types.k).name) + ":" +
                        std::string(Info(config_.kv_types.v).name)};
  if (disk_ != nullptr && !spec.prompt_hidden) {
    (void)scheduler_->Restore(sequence.scope, spec.prompt, prompt - 1, *disk_);
  }
  INK_RETURN_IF_ERROR(scheduler_->Add(std::move(sequence)));
  request->open_choices = spec.num_choices;
  request->spec = std::move(spec);
  NewSequence(*request, next_sequence_ - 1, *std::move(first));
  RequestId id = request->id;
  requests_[id] = std::move(request);
  return id;
}

Engine::Sequence& Engine::NewSequence(Request& request, SequenceId id, Sampler sampler) {
  auto sequence = std::make_unique<Sequence>(
      id, &request, std::move(sampler), Detokenizer(tokenizer_, request.spec.text),
      StopChecker(request.spec.sampling.stop, request.spec.sampling.include_stop));
  if (request.spec.constraint != nullptr)
    sequence->constraint.emplace(request.spec.constraint, request.spec.reasoning);
  request.sequences.push_back(id);
  Sequence& out = *sequence;
  sequences_[id] = std::move(sequence);
  return out;
}

void Engine::RemoveSequence(SequenceId id) {
  auto found = sequences_.find(id);
  if (found == sequences_.end()) return;
  std::erase(found->second->request->sequences, id);
  if (drafts_ != nullptr) drafts_->Forget(id);
  sequences_.erase(found);
}

void Engine::Cancel(RequestId id) {
  auto found = requests_.find(id);
  if (found == requests_.end()) return;
  found->second->cancelled = true;
  for (SequenceId sequence : found->second->sequences) (void)scheduler_->Cancel(sequence);
}

bool Engine::HasWork() const { return scheduler_->HasWork(); }

void Engine::ProposeDrafts() {
  if (drafts_ == nullptr) return;
  std::vector<DraftQuery> queries;
  std::vector<Sequence*> who;
  for (auto& [id, sequence] : sequences_) {
    sequence->drafts.clear();
    const Request& request = *sequence->request;
    if (request.spec.max_draft_tokens <= 0 || request.beams || !request.has_token) continue;
    if (!scheduler_->IsRunning(id)) continue;
    int left = sequence->sampler.params().max_tokens - sequence->sampler.num_output();
    int want = std::min({sequence->draft_length, request.spec.max_draft_tokens, left - 1});
    if (want <= 0) continue;
    queries.push_back({id, scheduler_->tokens(id), want});
    who.push_back(sequence.get());
  }
  if (queries.empty()) return;
  std::vector<std::vector<int32_t>> drafts = drafts_->Propose(queries);
  for (size_t i = 0; i < queries.size(); ++i) {
    who[i]->drafts = std::move(drafts[i]);
    if (static_cast<int>(who[i]->drafts.size()) > queries[i].max_tokens) {
      who[i]->drafts.resize(queries[i].max_tokens);
    }
    INK_CHECK(
        scheduler_->RequestDrafts(queries[i].id, static_cast<int32_t>(who[i]->drafts.size())).ok());
  }
}

bool Engine::Step() {
  ProposeDrafts();
  SchedulerOutput output = scheduler_->Schedule();
  HandleOutcome(output);
  runner_->Apply(output.block_ops);
  if (!output.sequences.empty()) RunStep(output);
  return HasWork();
}

void Engine::HandleOutcome(const SchedulerOutput& output) {
  const Clock::time_point now = Clock::now();
  for (const auto& admission : output.admitted) {
    auto found = sequences_.find(admission.id);
    if (found == sequences_.end()) continue;
    Request& request = *found->second->request;
    if (request.was_scheduled) continue;
    request.was_scheduled = true;
    request.scheduled = now;
    request.timings.queue_s = Seconds(now - request.submitted);
    request.timings.cached_tokens = admission.num_cached_tokens;
  }
  for (SequenceId id : output.cancelled) {
    auto found = sequences_.find(id);
    if (found == sequences_.end()) continue;
    Request* request = found->second->request;
    RemoveSequence(id);
    if (request->sequences.empty()) FailRequest(*request, Cancelled("the request was cancelled"));
  }
  for (const auto& failure : output.failed) {
    auto found = sequences_.find(failure.id);
    if (found == sequences_.end()) continue;
    Request* request = found->second->request;
    RemoveSequence(failure.id);
    FailRequest(*request, OutOfMemory(failure.message));
  }
}

void Engine::RunStep(const SchedulerOutput& output) {
  const Clock::time_point begin = Clock::now();
  std::vector<RunSequence> run(output.sequences.size());
  std::vector<std::vector<int32_t>> with_drafts(output.sequences.size());
  std::vector<Sequence*> who(output.sequences.size());
  const int32_t num_groups = scheduler_->cache().num_groups();
  PhaseWork work;
  double kv_bytes = 0;
  bool prefills = false;
  for (size_t i = 0; i < output.sequences.size(); ++i) {
    const ScheduledSequence& scheduled = output.sequences[i];
    Sequence& sequence = *sequences_.at(scheduled.id);
    who[i] = &sequence;
    std::span<const int32_t> tokens = scheduler_->tokens(scheduled.id);
    const int32_t known = scheduled.num_tokens - scheduled.num_draft_tokens;
    run[i].tokens = tokens.subspan(scheduled.start, known);
    if (scheduled.num_draft_tokens > 0) {
      auto& joined = with_drafts[i];
      joined.assign(run[i].tokens.begin(), run[i].tokens.end());
      joined.insert(joined.end(), sequence.drafts.begin(),
                    sequence.drafts.begin() + scheduled.num_draft_tokens);
      run[i].tokens = joined;
    }
    run[i].start = scheduled.start;
    for (int32_t g = 0; g < num_groups; ++g) {
      run[i].block_tables.push_back(scheduler_->block_table(scheduled.id, g));
    }
    run[i].adapter = sequence.request->adapters.id();
    run[i].num_logits = scheduled.needs_logits ? scheduled.num_draft_tokens + 1 : 0;
    if (sequence.request->spec.prompt_logits &&
        scheduled.start < scheduler_->num_prompt_tokens(scheduled.id)) {
      const int64_t end = scheduled.start + scheduled.num_tokens;
      const int64_t from = std::max(scheduled.start, sequence.request->spec.prompt_logits_from);
      run[i].num_logits = std::max(run[i].num_logits, end - from);
    }
    run[i].wants_hidden = static_cast<bool>(sequence.request->spec.prompt_hidden) &&
                          scheduled.start < scheduler_->num_prompt_tokens(scheduled.id);
    sequence.sampled.clear();
    sequence.verifying = true;
    sequence.scored = false;
    if (scheduled.start + scheduled.num_tokens <= scheduler_->num_prompt_tokens(scheduled.id)) {
      totals_.prompt_tokens += scheduled.num_tokens;
      prefills = true;
    }
    work.tokens += scheduled.num_tokens;
    for (int64_t t = 0; t < scheduled.num_tokens; ++t) {
      if (prefills) break;  // counts in decode only
      kv_bytes +=
          static_cast<double>(KvReadBytes(model_.info(), config_.kv_types, scheduled.start + t));
    }
  }
  runner_->Run(
      run,
      [&](size_t s, int64_t row, std::span<const float> logits) {
        const ScheduledSequence& scheduled = output.sequences[s];
        const int64_t position = scheduled.start + scheduled.num_tokens - run[s].num_logits + row;
        Sequence& sequence = *who[s];
        const auto& teacher = sequence.request->spec.prompt_logits;
        if (teacher && position < scheduler_->num_prompt_tokens(scheduled.id)) {
          teacher(position, logits);
        }
        if (!scheduled.needs_logits) return;
        const int64_t first = run[s].num_logits - 1 - scheduled.num_draft_tokens;
        if (row >= first) OnLogits(scheduled, sequence, row - first, logits);
      },
      [&](size_t s, int64_t row, std::span<const float> hidden) {
        who[s]->request->spec.prompt_hidden(run[s].start + row, hidden);
      });
  ++totals_.steps;
  work.steps = 1;
  work.seconds = Seconds(Clock::now() - begin);
  work.flops =
      static_cast<double>(model_.info().flops_per_token) * static_cast<double>(work.tokens);
  work.bytes_read = static_cast<double>(step_weight_bytes_) + (prefills ? 0 : kv_bytes);
  totals_.step_seconds += work.seconds;
  (prefills ? prefill_meter_ : decode_meter_).Add(work);
  for (const ScheduledSequence& scheduled : output.sequences) Settle(scheduled);
}

Status Engine::CheckIntegrity() const {
  for (const auto& [id, sequence] : sequences_) {
    if (!scheduler_->Contains(id)) {
      return InvalidArgument("sequence " + std::to_string(id) +
                             ": known to the engine, not to the scheduler");
    }
  }
  return scheduler_->CheckIntegrity();
}

EngineStats Engine::stats() const {
  EngineStats stats = totals_;
  stats.scheduler = scheduler_->stats();
  stats.prefill = prefill_meter_.total();
  stats.decode = decode_meter_.total();
  stats.recent_prefill = prefill_meter_.recent();
  stats.recent_decode = decode_meter_.recent();
  return stats;
}

}  // namespace ink
