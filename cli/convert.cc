// inkstone convert: a model from a GGUF file to a Hugging Face folder and back.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "command.h"
#include "common.h"
#include "formats/gguf.h"
#include "gguf_input.h"
#include "interrupt.h"
#include "model/hf_convert.h"
#include "text/gguf_vocab.h"
#include "text/tokenizer_json.h"

namespace ink::cli {
namespace {

constexpr std::string_view kCommand = "convert";
// What the Hugging Face libraries cut at.
constexpr uint64_t kDefaultFolderShard = 5'000'000'000;

struct Options {
  std::string in;
  std::string out;
  std::string type = "f32";
  std::string shard;
};

void Warn(const std::vector<std::string>& warnings) {
  for (const std::string& warning : warnings) PrintWarning(kCommand, warning);
}

Status ToFolder(const Options& options, const ConvertOptions& request) {
  INK_ASSIGN_OR_RETURN(GgufFile in, GgufFile::Open(options.in));
  if (in.tensors().empty()) {
    return InvalidArgument(options.in +
                           ": expected a model, the file has no tensors (a vocabulary "
                           "only)");
  }
  std::vector<std::string> warnings;
  std::vector<NamedText> files;
  if (in.metadata().Has("tokenizer.ggml.model")) {
    INK_ASSIGN_OR_RETURN(TokenizerSpec spec, SpecFromGguf(in.metadata(), &warnings));
    INK_ASSIGN_OR_RETURN(WrittenTokenizer written, SpecToJson(spec));
    files.emplace_back("tokenizer.json", std::move(written.tokenizer_json));
    files.emplace_back("tokenizer_config.json", std::move(written.tokenizer_config));
  } else {
    warnings.push_back(options.in + ": no vocabulary, so the folder gets no tokenizer.json");
  }
  const Status status = ConvertGgufToHf(in, options.out, files, request, &warnings);
  Warn(warnings);
  return status;
}

Status ToFile(const Options& options, const ConvertOptions& request) {
  if (std::filesystem::is_directory(options.out)) {
    return InvalidArgument(options.out + ": expected the name of a GGUF file, it is a folder");
  }
  std::vector<std::string> warnings;
  const Status status = ConvertFolder(options.in, options.out, request, &warnings);
  Warn(warnings);
  return status;
}

Status Convert(const Options& options) {
  ConvertOptions request;
  const std::optional<DType> type = DTypeFromName(options.type);
  if (!type || (*type != DType::kF32 && *type != DType::kF16 && *type != DType::kBF16)) {
    return InvalidArgument("--type should be f32, f16 or bf16, it is '" + options.type + "'");
  }
  request.dequantized = *type;
  const bool from_folder = std::filesystem::is_directory(options.in);
  if (!from_folder && options.out.ends_with(".gguf")) {
    return InvalidArgument(options.out +
                           ": expected a folder for a GGUF input; inkstone quantize "
                           "writes GGUF files in other types");
  }
  request.max_shard_bytes = from_folder ? 0 : kDefaultFolderShard;
  if (!options.shard.empty()) {
    INK_ASSIGN_OR_RETURN(request.max_shard_bytes, ParseBytes(options.shard));
  }
  const InterruptGuard guard;
  std::unique_ptr<ProgressBar> bar;
  request.progress = [&](uint64_t done, uint64_t total) {
    if (bar == nullptr) bar = std::make_unique<ProgressBar>("convert", total);
    bar->Update(done);
    return !guard.interrupted();
  };
  return from_folder ? ToFile(options, request) : ToFolder(options, request);
}

int Run(const Options& options) {
  const Status status = Convert(options);
  return status.ok() ? kExitOk : Fail(kCommand, status);
}

}  // namespace

CommandBody RegisterConvert(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("IN", options->in, "GGUF file (or first shard), or Hugging Face folder")
      ->required();
  app.add_option("OUT", options->out, "the folder or file to write")->required();
  app.add_option("--type", options->type,
                 "what quantized weights become in a folder: f32 (default; logits stay those of "
                 "the decoded weights), f16 or bf16; plain weights keep their type");
  app.add_option("--max-shard-size", options->shard,
                 "most bytes of weights in one file, such as 2GB; 0: one file (default: 5GB in a "
                 "folder, one GGUF file)");
  app.footer(
      "From a folder it reads config.json, *.safetensors (with index) and tokenizer.json; it\n"
      "writes these, generation_config.json and tokenizer_config.json. Both forms of a model give\n"
      "the same logits, bit for bit.");
  return [options] { return Run(*options); };
}

}  // namespace ink::cli
