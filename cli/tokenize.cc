// inkstone tokenize: texts to token ids.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "command.h"
#include "common.h"
#include "loaded_model.h"

namespace ink::cli {
namespace {

constexpr std::string_view kCommand = "tokenize";

struct Options {
  std::string model;
  std::string jsonl;
  bool special = false;
};

Status Tokenize(const Options& o) {
  INK_ASSIGN_OR_RETURN(auto tokenizer, LoadTokenizer(o.model));
  INK_RETURN_IF_ERROR(ForEachLine(o.jsonl, [&](std::string_view line, int64_t) -> Status {
    auto json = nlohmann::json::parse(line, nullptr, false);
    if (json.is_discarded() || !json.is_object() || !json.contains("text") ||
        !json["text"].is_string()) {
      return InvalidArgument("expected {\"text\": string}, got " + std::string(line.substr(0, 80)));
    }
    auto ids = tokenizer->Encode(json["text"].get_ref<const std::string&>(),
                                 {.add_special = o.special, .parse_special = o.special});
    return WriteOutput(nlohmann::json{{"ids", ids}}.dump() + "\n");
  }));
  return FlushOutput();
}

}  // namespace

CommandBody RegisterTokenize(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("-m,--model", o->model, "GGUF file (a vocabulary is enough) or folder")
      ->required();
  app.add_option("--jsonl", o->jsonl, "lines of {\"text\": ...}; - for stdin")->required();
  app.add_flag("--special", o->special, "add and recognise special tokens");
  return [o] {
    Status status = Tokenize(*o);
    return status.ok() ? kExitOk : Fail(kCommand, status);
  };
}

}  // namespace ink::cli
