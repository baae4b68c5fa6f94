// inkstone tokenizer train: makes a byte-level BPE vocabulary from text.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "command.h"
#include "common.h"
#include "train/trainer.h"

namespace ink::cli {
namespace {

struct Options {
  std::vector<std::string> files;
  std::string out;
  std::string pre = "gpt-2";
  int32_t vocabulary = 4096;
};

int Run(const Options& o) {
  std::vector<DataSource> data;
  for (const std::string& file : o.files) {
    DataSource source;
    source.path = file;
    if (file.ends_with(".jsonl")) source.format = DataFormat::kJsonText;
    data.push_back(source);
  }
  ProgressBar bar("merges", static_cast<uint64_t>(o.vocabulary));
  auto tokenizer = TrainTokenizer(data, o.vocabulary, o.pre, [&](int64_t done, int64_t) {
    bar.Update(static_cast<uint64_t>(done));
    return true;
  });
  bar.Finish();
  if (!tokenizer.ok()) return Fail("tokenizer", tokenizer.status());
  const Status written = WriteTokenizer(**tokenizer, o.out);
  if (!written.ok()) return Fail("tokenizer", written);
  std::cerr << o.out << ": " << (*tokenizer)->vocab_size() << " tokens\n";
  return kExitOk;
}

}  // namespace

CommandBody RegisterTokenizer(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* train = app.add_subcommand("train", "byte-level BPE from text files");
  train->add_option("files", options->files, "text files, folders of *.txt, or JSON lines (text)")
      ->required();
  train->add_option("-o,--out", options->out, "the GGUF vocabulary to write")->required();
  train->add_option("--vocab", options->vocabulary, "tokens, the bytes and <|endoftext|> included")
      ->check(CLI::Range(258, 1 << 22));
  train->add_option("--pre", options->pre,
                    "how text is cut into words: gpt-2, llama-bpe, qwen2 ..");
  app.require_subcommand(1);
  return [options] { return Run(*options); };
}

}  // namespace ink::cli
