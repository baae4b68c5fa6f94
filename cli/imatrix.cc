// inkstone imatrix: how much each input of each matrix matters on a text.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <memory>
#include <vector>

#include "command.h"
#include "common.h"
#include "compress/calibration.h"
#include "interrupt.h"
#include "loaded_model.h"

namespace ink::cli {
namespace {

constexpr std::string_view kCommand = "imatrix";

struct Options {
  EngineFlags engine;
  std::string file;
  std::string out;
  int64_t chunks = 0;
  bool output = false;
};

Status Calibrate(const Options& o) {
  INK_ASSIGN_OR_RETURN(std::string text, ReadTextFile(o.file));
  EngineFlags flags = o.engine;
  if (flags.context == 0) flags.context = 512;
  INK_ASSIGN_OR_RETURN(LoadedModel loaded, LoadForCommand(flags, {}));
  INK_ASSIGN_OR_RETURN(EngineConfig config, EngineConfigFrom(flags, *loaded.model, 1));
  config.prefix_cache = false;  // every token must be computed
  INK_RETURN_IF_ERROR(CheckMemory(loaded, config, flags.memory));
  INK_ASSIGN_OR_RETURN(auto engine,
                       Engine::Create(*loaded.model, *loaded.device, loaded.tokenizer, config));
  const Tokenizer& tokenizer = *loaded.tokenizer;
  const std::vector<int32_t> tokens = tokenizer.Encode(text);
  const int64_t bos = tokenizer.add_bos() && tokenizer.bos_id() >= 0 ? 1 : 0;
  const int64_t length = flags.context - bos;  // text tokens of a chunk
  if (length < 1) {
    return InvalidArgument("--context: expected at least 2 tokens, got " +
                           std::to_string(flags.context));
  }
  int64_t chunks = static_cast<int64_t>(tokens.size()) / length;
  if (chunks == 0) {
    return InvalidArgument(o.file + ": expected at least one chunk of " + std::to_string(length) +
                           " tokens, got a text of " + std::to_string(tokens.size()));
  }
  if (o.chunks > 0) chunks = std::min(chunks, o.chunks);
  Calibration calibration(*loaded.device, o.output);
  engine->runner().set_linear_hook(&calibration);
  const InterruptGuard guard;
  ProgressBar bar("imatrix", static_cast<uint64_t>(chunks));
  for (int64_t c = 0; c < chunks; ++c) {
    GenerationRequest request;
    if (bos) request.prompt.push_back(tokenizer.bos_id());
    const auto first = tokens.begin() + c * length;
    request.prompt.insert(request.prompt.end(), first, first + length);
    request.sampling.max_tokens = 0;
    // All positions' logits, for the vocabulary projection's input.
    if (o.output) request.prompt_logits = [](int64_t, std::span<const float>) {};
    Status failure;
    request.on_event = [&](const GenerationEvent& event) {
      if (!event.error.ok()) failure = event.error;
    };
    INK_RETURN_IF_ERROR(engine->Submit(std::move(request)).status());
    while (engine->Step()) {
    }
    INK_RETURN_IF_ERROR(failure);
    INK_RETURN_IF_ERROR(calibration.status());
    bar.Update(static_cast<uint64_t>(c) + 1);
    if (guard.interrupted()) return Cancelled("interrupted; no file was written");
  }
  bar.Finish();
  INK_RETURN_IF_ERROR(calibration.Write(o.out, std::filesystem::path(o.file).filename().string(),
                                        static_cast<uint32_t>(chunks),
                                        static_cast<uint32_t>(flags.context)));
  INK_RETURN_IF_ERROR(WriteOutput(o.out + ": " + std::to_string(calibration.sums().size()) +
                                  " matrices over " + std::to_string(chunks) + " chunks of " +
                                  std::to_string(flags.context) + " tokens\n"));
  return FlushOutput();
}

}  // namespace

CommandBody RegisterImatrix(CLI::App& app) {
  auto o = std::make_shared<Options>();
  AddEngineFlags(app, o->engine);
  app.add_option("-f,--file", o->file, "calibration text; - for stdin")->required();
  app.add_option("-o,--output", o->out, "GGUF file to write")->required();
  app.add_option("--chunks", o->chunks, "chunks of --context tokens (512) at most; default: all")
      ->check(CLI::PositiveNumber);
  app.add_flag("--process-output", o->output, "the vocabulary projection too");
  return [o] {
    const Status status = Calibrate(*o);
    return status.ok() ? kExitOk : Fail(kCommand, status);
  };
}

}  // namespace ink::cli
