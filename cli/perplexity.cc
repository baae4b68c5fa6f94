// inkstone perplexity: how well a model predicts a text.
#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "command.h"
#include "common.h"
#include "engine/perplexity.h"
#include "loaded_model.h"

namespace ink::cli {
namespace {

constexpr std::string_view kCommand = "perplexity";

struct Options {
  EngineFlags engine;
  std::string file;
  bool disjoint = false;
  bool json = false;
};

Status Measure(const Options& o) {
  INK_ASSIGN_OR_RETURN(std::string text, ReadTextFile(o.file));
  EngineFlags flags = o.engine;
  if (flags.context == 0) flags.context = 512;
  ModelLoadFlags load;
  INK_ASSIGN_OR_RETURN(LoadedModel loaded, LoadForCommand(flags, load));
  INK_ASSIGN_OR_RETURN(EngineConfig config, EngineConfigFrom(flags, *loaded.model, 1));
  config.prefix_cache = false;
  INK_RETURN_IF_ERROR(CheckMemory(loaded, config, flags.memory));
  INK_ASSIGN_OR_RETURN(auto engine,
                       Engine::Create(*loaded.model, *loaded.device, loaded.tokenizer, config));
  INK_RETURN_IF_ERROR(UseAdapters(loaded, *engine));
  std::vector<int32_t> tokens = loaded.tokenizer->Encode(text);
  PerplexityOptions options;
  options.window = flags.context;
  options.disjoint = o.disjoint;
  ProgressBar bar("perplexity", tokens.size());
  options.progress = [&](int64_t done, int64_t) { bar.Update(static_cast<uint64_t>(done)); };
  INK_ASSIGN_OR_RETURN(PerplexityResult result, Perplexity(*engine, tokens, options));
  bar.Finish();
  const double bits = result.nll / std::log(2.0) / static_cast<double>(text.size());
  if (o.json) {
    nlohmann::ordered_json out;
    out["perplexity"] = result.perplexity();
    out["stderr"] = result.standard_error();
    out["bits_per_byte"] = bits;
    out["tokens"] = result.tokens;
    out["bytes"] = text.size();
    INK_RETURN_IF_ERROR(WriteOutput(out.dump() + "\n"));
  } else {
    char line[160];
    std::snprintf(line, sizeof(line),
                  "perplexity %.4f +- %.4f, %.4f bits per byte (%lld tokens, %zu bytes)\n",
                  result.perplexity(), result.standard_error(), bits,
                  static_cast<long long>(result.tokens), text.size());
    INK_RETURN_IF_ERROR(WriteOutput(line));
  }
  return FlushOutput();
}

}  // namespace

CommandBody RegisterPerplexity(CLI::App& app) {
  auto o = std::make_shared<Options>();
  AddEngineFlags(app, o->engine);
  AddAdapterFlag(app, o->engine);
  app.add_option("-f,--file", o->file, "text file; - for stdin")->required();
  app.add_flag("--disjoint", o->disjoint,
               "llama.cpp's convention: windows side by side, second halves scored");
  app.add_flag("--json", o->json, "one JSON object on stdout");
  return [o] {
    Status status = Measure(*o);
    return status.ok() ? kExitOk : Fail(kCommand, status);
  };
}

}  // namespace ink::cli
