// include/inkstone/: the library's face, in terms of the engine.
#include <cstring>

#include "engine/adapter_spec.h"
#include "engine/engine.h"
#include "engine/memory_plan.h"
#include "formats/gguf.h"
#include "inkstone/inkstone.h"
#include "inkstone/inkstone.hpp"
#include "model/hf_model.h"
#include "text/gguf_vocab.h"
#include "text/tokenizer_json.h"

namespace inkstone {

using ink::Result;
using ink::Status;

struct Session::Impl {
  ink::Ledger ledger;
  std::unique_ptr<ink::Device> device;
  std::unique_ptr<ink::WeightSource> source;
  std::unique_ptr<ink::Model> model;
  std::shared_ptr<const ink::Tokenizer> tokenizer;
  std::unique_ptr<ink::Engine> engine;
  std::shared_ptr<const ink::VocabularyTrie> trie;  // built for the first constraint

  Status Open(const ModelOptions& options);
  Result<Generation> Generate(std::string_view prompt, const GenerateOptions& options,
                              const TextFn& on_text);
};

Status Session::Impl::Open(const ModelOptions& options) {
  INK_ASSIGN_OR_RETURN(device, ink::CreateCpuDevice({options.threads, options.isa}, &ledger));
  INK_ASSIGN_OR_RETURN(source, ink::OpenWeightSource(options.path));
  if (ink::IsHfFolder(options.path)) {
    INK_ASSIGN_OR_RETURN(tokenizer, ink::TokenizerFromFolder(options.path));
  } else {
    INK_ASSIGN_OR_RETURN(tokenizer, ink::TokenizerFromGguf(source->metadata()));
  }
  ink::LoadOptions load;
  load.context = options.context;
  INK_ASSIGN_OR_RETURN(model, ink::LoadModel(*source, *device, load));
  ink::EngineConfig config;
  config.context = options.context;
  config.max_seqs = options.sequences;
  config.model_name = options.path;
  INK_ASSIGN_OR_RETURN(config.kv_types, ink::ParseKvTypes(options.cache_type));
  std::vector<ink::Adapter> adapters;
  std::vector<ink::AdapterUse> uses;
  for (const std::string& text : options.adapters) {
    INK_ASSIGN_OR_RETURN(const ink::AdapterSpec spec, ink::ParseAdapterSpec(text));
    INK_ASSIGN_OR_RETURN(ink::Adapter adapter,
                         ink::ReadAdapter(spec.path, model->adapter_target()));
    adapters.push_back(std::move(adapter));
    uses.push_back({spec.path, spec.scale});
  }
  INK_ASSIGN_OR_RETURN(
      ink::MemoryPlan plan,
      ink::PlanMemory(*model, *device, config, static_cast<int64_t>(tokenizer->memory_bytes()), 0,
                      adapters));
  INK_RETURN_IF_ERROR(ink::CheckBudget(plan, static_cast<uint64_t>(options.memory_bytes)));
  INK_ASSIGN_OR_RETURN(engine, ink::Engine::Create(*model, *device, tokenizer, config));
  for (size_t i = 0; i < adapters.size(); ++i) {
    INK_RETURN_IF_ERROR(engine->AddAdapter(uses[i].name, adapters[i]));
  }
  INK_RETURN_IF_ERROR(engine->SetDefaultAdapters(std::move(uses)));
  return ink::OkStatus();
}

Result<Generation> Session::Impl::Generate(std::string_view prompt, const GenerateOptions& options,
                                           const TextFn& on_text) {
  ink::GenerationRequest request;
  request.prompt = tokenizer->Encode(prompt, {.add_special = true, .parse_special = true});
  request.text.starts_text = prompt.empty();
  request.sampling.max_tokens = options.max_tokens;
  request.sampling.temperature = options.temperature;
  request.sampling.top_k = options.top_k;
  request.sampling.top_p = options.top_p;
  request.sampling.min_p = options.min_p;
  request.sampling.repetition_penalty = options.repetition_penalty;
  request.sampling.seed = options.seed;
  request.sampling.stop = options.stop;
  if (options.beam_width > 0) {
    request.beam = ink::BeamParams{};
    request.beam->width = options.beam_width;
  }
  if (!options.json_schema.empty()) {
    if (trie == nullptr) {
      std::vector<std::string> bytes(tokenizer->vocab_size());
      for (int32_t id = 0; id < tokenizer->vocab_size(); ++id) {
        if (!tokenizer->IsControl(id)) bytes[id] = tokenizer->TokenBytes(id);
      }
      std::span<const int32_t> ends = tokenizer->end_of_generation();
      trie = ink::VocabularyTrie::Build(std::move(bytes), {ends.begin(), ends.end()});
    }
    INK_ASSIGN_OR_RETURN(request.constraint,
                         ink::CompiledConstraint::Compile(
                             ink::ConstraintSpec::JsonSchema(options.json_schema), {}, trie));
  }
  Generation out;
  Status error;
  bool stop = false;
  request.on_event = [&](const ink::GenerationEvent& event) {
    if (!event.error.ok()) error = event.error;
    if (event.token >= 0) out.tokens.push_back(event.token);
    out.text += event.text;
    if (!event.text.empty() && on_text && !on_text(event.text)) stop = true;
    if (event.finish == ink::FinishReason::kLength) out.finish = Finish::kLength;
    if (event.timings != nullptr) {
      out.prompt_tokens = event.timings->prompt_tokens;
      out.cached_tokens = event.timings->cached_tokens;
      out.prefill_seconds = event.timings->prefill_s;
      out.decode_seconds = event.timings->decode_s;
    }
  };
  INK_ASSIGN_OR_RETURN(ink::RequestId id, engine->Submit(std::move(request)));
  bool cancelled = false;
  while (engine->Step()) {
    if (stop && !cancelled) {
      cancelled = true;
      engine->Cancel(id);
    }
  }
  if (cancelled) {
    out.finish = Finish::kCancelled;
    return out;
  }
  INK_RETURN_IF_ERROR(error);
  return out;
}

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::~Session() = default;

std::unique_ptr<Session> Session::Open(const ModelOptions& options, std::string* error) {
  auto impl = std::make_unique<Impl>();
  Status status = impl->Open(options);
  if (status.ok()) return std::make_unique<Session>(std::move(impl));
  if (error != nullptr) *error = status.message();
  return nullptr;
}

std::optional<Generation> Session::Generate(std::string_view prompt, const GenerateOptions& options,
                                            const TextFn& on_text, std::string* error) {
  auto result = impl_->Generate(prompt, options, on_text);
  if (result.ok()) return *std::move(result);
  if (error != nullptr) *error = result.status().message();
  return std::nullopt;
}

std::vector<int32_t> Session::Tokenize(std::string_view text, bool add_special) const {
  return impl_->tokenizer->Encode(text, {.add_special = add_special});
}

std::string Session::Detokenize(const std::vector<int32_t>& tokens) const {
  return ink::Decode(impl_->tokenizer, tokens);
}

int64_t Session::vocabulary_size() const { return impl_->model->info().n_vocab; }
int64_t Session::context_length() const { return impl_->engine->config().context; }

}  // namespace inkstone

struct inkstone_session {
  std::unique_ptr<inkstone::Session> session;
};

namespace {

void CopyError(const std::string& text, char* error, size_t error_size) {
  if (error == nullptr || error_size == 0) return;
  size_t n = std::min(text.size(), error_size - 1);
  std::memcpy(error, text.data(), n);
  error[n] = '\0';
}

}  // namespace

extern "C" {

inkstone_session* inkstone_open(const inkstone_model_options* options, char* error,
                                size_t error_size) {
  inkstone::ModelOptions o;
  if (options->path != nullptr) o.path = options->path;
  o.threads = options->threads;
  o.context = options->context;
  if (options->cache_type != nullptr) o.cache_type = options->cache_type;
  for (size_t i = 0; i < options->num_adapters; ++i) o.adapters.push_back(options->adapters[i]);
  std::string message;
  auto session = inkstone::Session::Open(o, &message);
  if (session == nullptr) {
    CopyError(message, error, error_size);
    return nullptr;
  }
  return new inkstone_session{std::move(session)};
}

int64_t inkstone_generate(inkstone_session* session, const char* prompt,
                          const inkstone_generate_options* options, inkstone_text_fn on_text,
                          void* user, char* error, size_t error_size) {
  inkstone::GenerateOptions o;
  o.max_tokens = options->max_tokens > 0 ? options->max_tokens : -1;
  o.temperature = options->temperature;
  o.top_k = options->top_k;
  o.top_p = options->top_p > 0 ? options->top_p : 1.0;
  o.seed = options->seed;
  std::string message;
  auto result = session->session->Generate(
      prompt, o,
      [&](std::string_view text) {
        return on_text == nullptr || on_text(text.data(), text.size(), user) != 0;
      },
      &message);
  if (!result) {
    CopyError(message, error, error_size);
    return -1;
  }
  return static_cast<int64_t>(result->tokens.size());
}

void inkstone_close(inkstone_session* session) { delete session; }

}  // extern "C"
