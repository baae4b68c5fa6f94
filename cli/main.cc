// inkstone: one program, one subcommand per file of this folder.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "command.h"
#include "common.h"

namespace ink::cli {
namespace {

struct Command {
  const char* name;
  const char* description;
  RegisterFunction register_options;
};

// One row per command: add the file cli/<name>.cc, its declaration in command.h, and a row here.
const std::vector<Command>& Commands() {
  static const std::vector<Command> commands = {
      // {name, one line for --help, registering function}
      {"convert", "GGUF file to Hugging Face folder and back", RegisterConvert},
      {"quantize", "write a model in other tensor types", RegisterQuantize},
      {"merge", "fold adapters into a model", RegisterMerge},
      {"imatrix", "how much each input of each matrix matters, for quantize", RegisterImatrix},
      {"run", "continue a text", RegisterRun},
      {"chat", "a conversation, with the model's chat template", RegisterChat},
      {"tokenize", "texts to token ids", RegisterTokenize},
      {"logits", "logits of every position, for checks", RegisterLogits},
      {"perplexity", "how well a model predicts a text", RegisterPerplexity},
      {"eval", "classify texts and compare with their labels", RegisterEval},
      {"plan", "every byte a model will use", RegisterPlan},
      {"bench", "speed of both phases against the machine's limits", RegisterBench},
      {"train", "train a model from a recipe", RegisterTrain},
      {"finetune", "adapt a model to data", RegisterFinetune},
      {"tokenizer", "train a tokenizer", RegisterTokenizer},
      {"template", "render a chat template on contexts", RegisterTemplate},
      {"constrain", "check or draw texts under a schema, grammar or pattern", RegisterConstrain},
      {"serve", "the engine behind the APIs that clients speak", RegisterServe},
      {"keys", "API keys of a server", RegisterKeys},
      {"loadtest", "load on any OpenAI server, with its latencies", RegisterLoadtest},
  };
  return commands;
}

const Command* FindCommand(std::string_view name) {
  for (const Command& command : Commands()) {
    if (name == command.name) return &command;
  }
  return nullptr;
}

// Levenshtein distance, for "did you mean".
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitute = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row[b.size()];
}

int UnknownCommand(std::string_view name) {
  const Command* nearest = nullptr;
  size_t best = 0;
  // A very long word is no typing error, and the distance is quadratic.
  if (name.size() <= 64) {
    for (const Command& command : Commands()) {
      const size_t distance = EditDistance(name, command.name);
      if (nearest == nullptr || distance < best) {
        nearest = &command;
        best = distance;
      }
    }
  }
  std::cerr << "inkstone: unknown command '" << name << "'";
  if (nearest != nullptr && best <= std::max<size_t>(2, name.size() / 3)) {
    std::cerr << ", did you mean '" << nearest->name << "'?\n";
  } else {
    std::cerr << " (inkstone --help lists the commands)\n";
  }
  return kExitUsage;
}

std::string OneLine(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

int Main(int argc, char** argv) {
  CLI::App app("Inkstone: runs, serves, trains and compresses language models.", "inkstone");
  app.set_version_flag("--version", "inkstone " INKSTONE_VERSION);
  app.set_help_flag("-h,--help", "show this help and exit");
  app.require_subcommand(0, 1);

  const Command* command = nullptr;
  if (argc > 1 && argv[1][0] != '-') {
    command = FindCommand(argv[1]);
    if (command == nullptr) return UnknownCommand(argv[1]);
  }
  CommandBody body;
  for (const Command& row : Commands()) {
    CLI::App* subcommand = app.add_subcommand(row.name, row.description);
    // Only the command in use registers its options: the others cost nothing at start.
    if (&row == command) body = row.register_options(*subcommand);
  }

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {  // --help, --version
    return app.exit(e) == 0 ? kExitOk : kExitFailure;
  } catch (const CLI::ParseError& e) {
    const std::string who = command == nullptr ? "inkstone" : std::string("inkstone ") + argv[1];
    std::cerr << who << ": " << OneLine(e.what()) << " (see " << who << " --help)\n";
    return kExitUsage;
  }
  if (command == nullptr) {
    std::cerr << "inkstone: a command is needed (inkstone --help lists them)\n";
    return kExitUsage;
  }
  try {
    return body();
  } catch (const std::bad_alloc&) {
    PrintError(command->name, "out of memory");
  } catch (const std::exception& e) {
    PrintError(command->name, e.what());
  }
  return kExitFailure;
}

}  // namespace
}  // namespace ink::cli

int main(int argc, char** argv) { return ink::cli::Main(argc, argv); }
