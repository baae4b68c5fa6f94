// A training run of a few seconds, through the command line.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "support/process.h"

namespace ink::testing_support {

/// Folder with data, recipes, and the runs made from them.
class TinyRun {
 public:
  explicit TinyRun(const std::string& name) : folder_(name) {
    std::mt19937 lot(1);
    const char* words[] = {"king",  "queen", "horse", "forest", "old", "young", "bread",
                           "three", "seven", "went",  "said",   "was", "had",   "and"};
    std::string lines;
    for (int i = 0; i < 40; ++i) {
      lines += "{\"text\": \"Once upon a time";
      for (int w = 0; w < 40; ++w) lines += std::string(" ") + words[lot() % 14];
      lines += ".\"}\n";
    }
    WriteContent(folder_ / "text.jsonl", lines);
    const std::string rest = R"(
[[data]]
path = "text.jsonl"
format = "jsonl"
weight = 1.5
[validation]
path = "text.jsonl"
format = "jsonl"
every = 5
bytes = 1000
[train]
steps = 24
batch_tokens = 192
micro_batch_tokens = 96
DROPOUT
[optimizer]
lr = 0.003
[schedule]
warmup = 4
[checkpoint]
every = 2
)";
    auto with = [&](const std::string& dropout) {
      std::string text = rest;
      return text.replace(text.find("DROPOUT"), 7, dropout);
    };
    WriteContent(folder_ / "train.toml", R"(
[model]
d_model = 192
layers = 2
heads = 4
kv_heads = 2
ffn = 512
context = 48
[tokenizer]
vocabulary = 300)" + with("dropout = 0.1"));
    WriteContent(folder_ / "lora.toml", R"([adapter]
method = "lora"
rank = 64
dropout = 0.1
targets = ["all"])" + with(""));
  }

  std::string operator/(const std::string& name) const { return folder_ / name; }

  /// The command that trains into `out`.
  std::vector<std::string> Train(const std::string& out, bool resume,
                                 const std::string& recipe = "train.toml") const {
    std::vector<std::string> c = {INK_PROGRAM, "train",        "--config", folder_ / recipe,
                                  "--data",    folder_.path(), "--out",    folder_ / out};
    return Finish(std::move(c), resume);
  }
  /// The command that fine-tunes whole/model.gguf with adapters into `out`.
  std::vector<std::string> Finetune(const std::string& out, bool resume,
                                    const std::string& recipe = "lora.toml") const {
    std::vector<std::string> c = {INK_PROGRAM,      "finetune",     "--config",
                                  folder_ / recipe, "-m",           folder_ / "whole/model.gguf",
                                  "--data",         folder_.path(), "--out",
                                  folder_ / out};
    return Finish(std::move(c), resume);
  }
  std::string log() const { return folder_ / "log"; }

 private:
  static std::vector<std::string> Finish(std::vector<std::string> c, bool resume) {
    c.insert(c.end(), {"-t", "1"});
    if (resume) c.push_back("--resume");
    return c;
  }
  TestFolder folder_;
};

}  // namespace ink::testing_support
