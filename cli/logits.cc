// inkstone logits: the logits of every position, teacher-forced, however the prefill is cut.
#include <CLI/CLI.hpp>
#include <memory>
#include <sstream>

#include "base/atomic_file.h"
#include "base/rng.h"
#include "command.h"
#include "common.h"
#include "loaded_model.h"

namespace ink::cli {
namespace {

constexpr std::string_view kCommand = "logits";

struct Options {
  EngineFlags engine;
  std::string ids;
  std::string out;
  int64_t chunk = 0;
  int64_t beside = 0;
  int64_t reuse = 0;
};

Result<std::vector<int32_t>> ReadIds(const std::string& path) {
  INK_ASSIGN_OR_RETURN(std::string text, ReadTextFile(path));
  std::istringstream words(text);
  std::vector<int32_t> ids;
  std::string word;
  while (words >> word) {
    try {
      size_t used = 0;
      ids.push_back(std::stoi(word, &used));
      if (used != word.size()) throw std::invalid_argument("");
    } catch (const std::exception&) {
      return InvalidArgument(path + ": expected white-space separated token ids, got \"" + word +
                             "\"");
    }
  }
  if (ids.empty()) return InvalidArgument(path + ": expected at least one token id, got none");
  return ids;
}

// Sequences that share the steps of the one of interest: random prompts that go on decoding.
Status SubmitNeighbours(Engine& engine, int64_t count, int64_t length, int64_t n_vocab) {
  Rng rng(20240229);
  for (int64_t i = 0; i < count; ++i) {
    GenerationRequest request;
    int64_t size = 1 + static_cast<int64_t>(rng.Below(length));
    for (int64_t t = 0; t < size; ++t) {
      request.prompt.push_back(static_cast<int32_t>(rng.Below(n_vocab)));
    }
    request.sampling.ignore_eos = true;
    request.sampling.seed = rng.Next();
    request.sampling.max_tokens = 1 + static_cast<int32_t>(rng.Below(length));
    INK_RETURN_IF_ERROR(engine.Submit(std::move(request)).status());
  }
  return OkStatus();
}

Status Logits(const Options& o) {
  INK_ASSIGN_OR_RETURN(std::vector<int32_t> ids, ReadIds(o.ids));
  ModelLoadFlags load;
  load.tokenizer = false;
  INK_ASSIGN_OR_RETURN(LoadedModel loaded, LoadForCommand(o.engine, load));
  const int64_t n = static_cast<int64_t>(ids.size());
  EngineFlags flags = o.engine;
  if (flags.cache_type.empty()) flags.cache_type = "f32";
  INK_ASSIGN_OR_RETURN(EngineConfig config, EngineConfigFrom(flags, *loaded.model, o.beside + 1));
  config.model_name = loaded.name;
  // Room for neighbours twice as long; the context itself is checked against the ids.
  if (n > config.context) {
    return InvalidArgument("--ids: expected at most " + std::to_string(config.context) +
                           " tokens (context), got " + std::to_string(n));
  }
  config.context = std::min(config.context, 2 * n + 2);
  config.max_chunk = static_cast<int32_t>(o.chunk);
  if (o.reuse < 0 || o.reuse > n) {
    return InvalidArgument("--reuse: expected 0 to " + std::to_string(n) + ", got " +
                           std::to_string(o.reuse));
  }
  INK_RETURN_IF_ERROR(CheckMemory(loaded, config, o.engine.memory));
  INK_ASSIGN_OR_RETURN(auto engine, Engine::Create(*loaded.model, *loaded.device, nullptr, config));
  INK_RETURN_IF_ERROR(UseAdapters(loaded, *engine));
  INK_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(o.out));
  Status failure;
  int64_t next = 0;  // first position not yet written
  auto teacher_force = [&](int64_t count, int64_t from) -> Status {
    GenerationRequest request;
    request.prompt.assign(ids.begin(), ids.begin() + count);
    request.sampling.max_tokens = 0;
    request.prompt_logits_from = from;
    request.prompt_logits = [&](int64_t position, std::span<const float> logits) {
      if (position != next || !failure.ok()) return;
      ++next;
      failure = file.Write(std::as_bytes(logits));
    };
    request.on_event = [&](const GenerationEvent& event) {
      if (!event.error.ok()) failure = event.error;
    };
    return engine->Submit(std::move(request)).status();
  };
  if (o.reuse > 0) {
    INK_RETURN_IF_ERROR(teacher_force(o.reuse, 0));
    while (engine->Step()) {
    }
    INK_RETURN_IF_ERROR(failure);
  }
  INK_RETURN_IF_ERROR(SubmitNeighbours(*engine, o.beside, n, loaded.model->info().n_vocab));
  if (next < n) INK_RETURN_IF_ERROR(teacher_force(n, next));
  while (next < n && failure.ok() && engine->Step()) {
  }
  INK_RETURN_IF_ERROR(failure);
  INK_CHECK_EQ(next, n);
  return file.Commit();
}

}  // namespace

CommandBody RegisterLogits(CLI::App& app) {
  auto o = std::make_shared<Options>();
  AddEngineFlags(app, o->engine);
  AddAdapterFlag(app, o->engine);
  app.add_option("--ids", o->ids, "file of white-space separated token ids; - for stdin")
      ->required();
  app.add_option("--out", o->out, "raw little-endian float32 [n_tokens, n_vocab]")->required();
  app.add_option("--chunk", o->chunk, "prefill in chunks of this many tokens")
      ->check(CLI::PositiveNumber);
  app.add_option("--beside", o->beside, "random sequences that run beside")
      ->check(CLI::Range(0, 1024));
  app.add_option("--reuse", o->reuse, "first tokens that come from the prefix cache")
      ->check(CLI::NonNegativeNumber);
  return [o] {
    Status status = Logits(*o);
    return status.ok() ? kExitOk : Fail(kCommand, status);
  };
}

}  // namespace ink::cli
