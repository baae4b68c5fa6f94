// inkstone run: the continuation of a text.
#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "command.h"
#include "common.h"
#include "loaded_model.h"
#include "sampling_flags.h"

namespace ink::cli {
namespace {

constexpr std::string_view kCommand = "run";

struct Options {
  EngineFlags engine;
  SamplingFlags sampling;
  std::string prompt;
  std::string file;
  int64_t tokens = -1;
  int beam = 0;
  double length_penalty = 1.0;
  std::string early_stopping = "false";
  std::string draft_model;
  int draft_tokens = 0;
  bool lookup = false;
  std::string schema, regex, grammar;
  int logprobs = -1;
  bool special = false;
  bool json = false;
};

volatile std::sig_atomic_t g_interrupted = 0;

Result<std::shared_ptr<const CompiledConstraint>> MakeConstraint(const Options& o,
                                                                 const Tokenizer& tokenizer) {
  const int given = !o.schema.empty() + !o.regex.empty() + !o.grammar.empty();
  if (given == 0) return std::shared_ptr<const CompiledConstraint>();
  if (given > 1) {
    return InvalidArgument("expected one of --schema, --regex and --grammar, got several");
  }
  ConstraintSpec spec;
  if (!o.schema.empty()) {
    INK_ASSIGN_OR_RETURN(std::string text, ReadTextFile(o.schema));
    spec = ConstraintSpec::JsonSchema(std::move(text));
  } else if (!o.grammar.empty()) {
    INK_ASSIGN_OR_RETURN(std::string text, ReadTextFile(o.grammar));
    spec = ConstraintSpec::Grammar(std::move(text));
  } else {
    spec = ConstraintSpec::Regex(o.regex);
  }
  std::vector<std::string> bytes(tokenizer.vocab_size());
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (!tokenizer.IsControl(id)) bytes[id] = tokenizer.TokenBytes(id);
  }
  std::span<const int32_t> ends = tokenizer.end_of_generation();
  auto trie = VocabularyTrie::Build(std::move(bytes), {ends.begin(), ends.end()});
  return CompiledConstraint::Compile(spec, {}, trie);
}

std::string_view FinishName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kEndToken:
      return "stop";
    case FinishReason::kStopToken:
      return "stop_token";
    case FinishReason::kStopString:
      return "stop_string";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kNone:
      break;
  }
  return "none";
}

Status Generate(const Options& o) {
  INK_ASSIGN_OR_RETURN(LoadedModel loaded, LoadForCommand(o.engine, {}));
  const Tokenizer& tokenizer = *loaded.tokenizer;
  std::string prompt = o.prompt;
  if (!o.file.empty()) {
    INK_ASSIGN_OR_RETURN(prompt, ReadTextFile(o.file));
  }
  INK_ASSIGN_OR_RETURN(SamplingParams sampling, SamplingFrom(o.sampling, tokenizer));
  sampling.max_tokens = static_cast<int32_t>(o.tokens);
  sampling.logprobs = o.logprobs;

  GenerationRequest request;
  request.prompt = tokenizer.Encode(prompt, {.add_special = true, .parse_special = true});
  if (request.prompt.empty()) {
    // A model without bos cannot start from nothing.
    return InvalidArgument("prompt: expected text (-p or -f): this vocabulary has no begin token");
  }
  request.sampling = sampling;
  request.text = {.skip_special = !o.special, .starts_text = prompt.empty()};
  INK_ASSIGN_OR_RETURN(request.constraint, MakeConstraint(o, tokenizer));
  if (o.beam > 0) {
    BeamParams beam;
    beam.width = o.beam;
    beam.length_penalty = o.length_penalty;
    if (o.early_stopping == "true") beam.early_stopping = EarlyStopping::kTrue;
    if (o.early_stopping == "never") beam.early_stopping = EarlyStopping::kNever;
    request.beam = beam;
  }

  INK_ASSIGN_OR_RETURN(EngineConfig config,
                       EngineConfigFrom(o.engine, *loaded.model, o.beam > 0 ? o.beam : 1));
  config.model_name = loaded.name;
  if (o.engine.context == 0 && o.tokens >= 0) {
    // Nothing beyond prompt and answer will be used.
    config.context =
        std::min<int64_t>(config.context, static_cast<int64_t>(request.prompt.size()) + o.tokens);
  }
  INK_RETURN_IF_ERROR(CheckMemory(loaded, config, o.engine.memory));
  INK_ASSIGN_OR_RETURN(auto engine,
                       Engine::Create(*loaded.model, *loaded.device, loaded.tokenizer, config));
  INK_RETURN_IF_ERROR(UseAdapters(loaded, *engine));
  std::unique_ptr<Model> draft;
  std::unique_ptr<WeightSource> draft_source;
  if (!o.draft_model.empty()) {
    INK_ASSIGN_OR_RETURN(draft_source, OpenWeightSource(o.draft_model));
    INK_ASSIGN_OR_RETURN(draft, LoadModel(*draft_source, *loaded.device, {}));
    if (draft->info().n_vocab != loaded.model->info().n_vocab) {
      return InvalidArgument("--draft-model: expected a vocabulary of " +
                             std::to_string(loaded.model->info().n_vocab) + ", got " +
                             std::to_string(draft->info().n_vocab));
    }
    INK_ASSIGN_OR_RETURN(auto drafts, ModelDrafts::Create(*draft, *loaded.device, config.max_seqs,
                                                          config.context, config.kv_types));
    engine->set_drafts(std::move(drafts));
  } else if (o.lookup) {
    engine->set_drafts(std::make_unique<PromptLookupDrafts>());
  }
  if (!o.draft_model.empty() || o.lookup) {
    request.max_draft_tokens = o.draft_tokens > 0 ? o.draft_tokens : 16;
  }

  std::string text;
  std::vector<int32_t> ids;
  nlohmann::ordered_json logprobs = nlohmann::ordered_json::array();
  FinishReason finish = FinishReason::kNone;
  GenerationTimings timings;
  Status failure;
  request.on_event = [&](const GenerationEvent& event) {
    if (!event.error.ok()) failure = event.error;
    if (event.token >= 0) ids.push_back(event.token);
    text += event.text;
    if (!o.json && !event.text.empty()) {
      failure = WriteOutput(event.text);
      if (failure.ok()) failure = FlushOutput();
    }
    if (event.sample != nullptr) {
      nlohmann::ordered_json top = nlohmann::ordered_json::array();
      for (const TokenLogprob& t : event.sample->top_logprobs) {
        top.push_back({{"id", t.id}, {"logprob", t.logprob}});
      }
      logprobs.push_back(
          {{"id", event.token}, {"logprob", event.sample->logprob}, {"top", std::move(top)}});
    }
    if (event.finish != FinishReason::kNone) finish = event.finish;
    if (event.timings != nullptr) timings = *event.timings;
  };
  INK_ASSIGN_OR_RETURN(RequestId id, engine->Submit(std::move(request)));
  auto previous = std::signal(SIGINT, [](int) { g_interrupted = 1; });
  bool cancelled = false;
  while (engine->Step()) {
    if ((g_interrupted || !failure.ok()) && !cancelled) {
      cancelled = true;
      engine->Cancel(id);
    }
  }
  std::signal(SIGINT, previous);
  if (!failure.ok() && !(cancelled && failure.code() == StatusCode::kCancelled)) return failure;
  if (!o.json) {
    INK_RETURN_IF_ERROR(WriteOutput("\n"));
    std::fprintf(stderr,
                 "load %.2f s | prefill %lld tokens in %.3f s (%.1f tokens/s) | decode %lld tokens "
                 "in %.3f s (%.1f tokens/s)",
                 loaded.load_s, static_cast<long long>(timings.prompt_tokens), timings.prefill_s,
                 timings.prefill_s > 0 ? timings.prompt_tokens / timings.prefill_s : 0.0,
                 static_cast<long long>(timings.completion_tokens), timings.decode_s,
                 timings.decode_s > 0 ? (timings.completion_tokens - 1) / timings.decode_s : 0.0);
    if (timings.draft_tokens > 0) {
      std::fprintf(stderr, " | drafts %lld of %lld accepted",
                   static_cast<long long>(timings.accepted_tokens),
                   static_cast<long long>(timings.draft_tokens));
    }
    std::fprintf(stderr, " | seed %llu\n", static_cast<unsigned long long>(sampling.seed));
    if (g_interrupted) return Cancelled("interrupted");
    return FlushOutput();
  }
  nlohmann::ordered_json out;
  out["text"] = text;
  out["ids"] = ids;
  out["finish_reason"] = g_interrupted ? "cancelled" : std::string(FinishName(finish));
  out["prompt_tokens"] = timings.prompt_tokens;
  out["completion_tokens"] = timings.completion_tokens;
  out["timings"] = {
      {"load_s", loaded.load_s}, {"prefill_s", timings.prefill_s}, {"decode_s", timings.decode_s}};
  if (o.beam > 0) {
    out["sampler_chain"] = {{{"stage", "beam"}, {"width", o.beam}}};
  } else {
    out["sampler_chain"] = ChainToJson(sampling);
  }
  if (timings.draft_tokens > 0) {
    out["drafts"] = {{"proposed", timings.draft_tokens}, {"accepted", timings.accepted_tokens}};
  }
  if (o.logprobs >= 0) out["logprobs"] = std::move(logprobs);
  INK_RETURN_IF_ERROR(
      WriteOutput(out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"));
  return FlushOutput();
}

}  // namespace

CommandBody RegisterRun(CLI::App& app) {
  auto o = std::make_shared<Options>();
  AddEngineFlags(app, o->engine);
  AddAdapterFlag(app, o->engine);
  auto* prompt = app.add_option("-p,--prompt", o->prompt, "text to continue");
  app.add_option("-f,--file", o->file, "file with the text to continue; - for stdin")
      ->excludes(prompt);
  app.add_option("-n,--tokens", o->tokens, "tokens to generate at most (default: to the end)")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 31));
  AddSamplingFlags(app, o->sampling);
  app.add_option("--beam", o->beam, "beam search of this width")->check(CLI::Range(1, 1024));
  app.add_option("--length-penalty", o->length_penalty, "beams: exponent of the length");
  app.add_option("--early-stopping", o->early_stopping, "beams: when to stop")
      ->check(CLI::IsMember({"false", "true", "never"}));
  app.add_option("--draft-model", o->draft_model, "smaller model that drafts tokens");
  app.add_flag("--prompt-lookup", o->lookup, "draft from repeats in the text itself");
  app.add_option("--draft-tokens", o->draft_tokens, "tokens drafted per step at most")
      ->check(CLI::Range(1, 64));
  app.add_option("--schema", o->schema, "JSON Schema file the text must satisfy");
  app.add_option("--regex", o->regex, "regular expression the text must match");
  app.add_option("--grammar", o->grammar, "GBNF grammar file the text must follow");
  app.add_option("--logprobs", o->logprobs, "with --json: log-probabilities of N top tokens");
  app.add_flag("--special", o->special, "print control tokens too");
  app.add_flag("--json", o->json, "one JSON object on stdout");
  return [o] {
    Status status = Generate(*o);
    return status.ok() ? kExitOk : Fail(kCommand, status);
  };
}

}  // namespace ink::cli
