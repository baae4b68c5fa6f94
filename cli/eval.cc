// inkstone eval: classification by label scoring.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "command.h"
#include "common.h"
#include "engine/label_scoring.h"
#include "loaded_model.h"
#include "text/label_prompt.h"

namespace ink::cli {
namespace {

constexpr std::string_view kCommand = "eval";

struct Options {
  EngineFlags engine;
  std::string jsonl;
  std::vector<std::string> labels;
  std::string label_template;  // empty: the model's, else the default
  std::string task = "labels";
  bool normalize = false;
  bool json = false;
};

struct Example {
  std::string prompt;
  std::string space;  // before the label
  int label;
};

std::string Trim(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t\r\n") + 1 - first);
}

// {"text", "label"} goes through the template; {"prompt", "completion"} is taken as it is.
Result<std::vector<Example>> ReadExamples(const Options& o, const std::string& label_template) {
  std::vector<Example> examples;
  INK_RETURN_IF_ERROR(ForEachLine(o.jsonl, [&](std::string_view line, int64_t) -> Status {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (!json.is_object()) return InvalidArgument("expected a JSON object");
    auto field = [&](const char* name) -> const std::string* {
      auto at = json.find(name);
      return at != json.end() && at->is_string() ? at->get_ptr<const std::string*>() : nullptr;
    };
    Example example;
    std::string label;
    if (const std::string* text = field("text"); text != nullptr && field("label") != nullptr) {
      example.prompt = LabelPrompt(label_template, *text);
      example.space = " ";
      label = *field("label");
    } else if (const std::string* prompt = field("prompt");
               prompt != nullptr && field("completion") != nullptr) {
      const std::string& completion = *field("completion");
      example.prompt = *prompt;
      label = Trim(completion);
      example.space = completion.substr(0, completion.find_first_not_of(" \t\r\n"));
    } else {
      return InvalidArgument(
          "expected strings \"text\" and \"label\", or \"prompt\" and \"completion\"");
    }
    const auto at = std::find(o.labels.begin(), o.labels.end(), label);
    if (at == o.labels.end()) {
      std::string list;
      for (const std::string& l : o.labels) list += (list.empty() ? "" : ", ") + l;
      return InvalidArgument("expected one of the labels " + list + ", got \"" + label + "\"");
    }
    example.label = static_cast<int>(at - o.labels.begin());
    examples.push_back(std::move(example));
    return OkStatus();
  }));
  if (examples.empty())
    return InvalidArgument(o.jsonl + ": expected JSON lines, the file has none");
  for (const Example& e : examples) {
    if (e.space != examples[0].space) {
      return InvalidArgument(o.jsonl + ": expected every completion to begin with the same space");
    }
  }
  return examples;
}

Status Evaluate(const Options& o) {
  for (size_t i = 0; i < o.labels.size(); ++i) {
    if (o.labels[i].empty()) return InvalidArgument("--labels: expected labels, one is empty");
    if (std::count(o.labels.begin(), o.labels.end(), o.labels[i]) > 1) {
      return InvalidArgument("--labels: \"" + o.labels[i] + "\" is there twice");
    }
  }
  if (o.labels.size() < 2) {
    return InvalidArgument("--labels: expected at least two labels, got " +
                           std::to_string(o.labels.size()));
  }
  INK_ASSIGN_OR_RETURN(LoadedModel loaded, LoadForCommand(o.engine, {}));
  std::string label_template = o.label_template;
  if (label_template.empty()) {
    INK_ASSIGN_OR_RETURN(
        const std::string_view own,
        loaded.source->metadata().GetString("inkstone.label_template", kDefaultLabelTemplate));
    label_template = own;
  }
  if (label_template.find("{text}") == std::string::npos) {
    return InvalidArgument("--template: expected {text} in it, got \"" + label_template + "\"");
  }
  INK_ASSIGN_OR_RETURN(const std::vector<Example> examples, ReadExamples(o, label_template));
  const Tokenizer& tokenizer = *loaded.tokenizer;
  std::vector<std::vector<int32_t>> prompts, labels;
  size_t longest_label = 0, longest = 0;
  for (const std::string& label : o.labels) {
    labels.push_back(tokenizer.Encode(examples[0].space + label, {.continues = true}));
    longest_label = std::max(longest_label, labels.back().size());
  }
  std::vector<int> truth;
  for (const Example& e : examples) {
    std::vector<int32_t> ids;
    if (tokenizer.add_bos() && tokenizer.bos_id() >= 0) ids.push_back(tokenizer.bos_id());
    const std::vector<int32_t> text = tokenizer.Encode(e.prompt);
    ids.insert(ids.end(), text.begin(), text.end());
    longest = std::max(longest, ids.size() + longest_label);
    prompts.push_back(std::move(ids));
    truth.push_back(e.label);
  }
  constexpr int64_t kSideBySide = 32;
  EngineFlags flags = o.engine;
  if (flags.context == 0) {
    // No more than the texts need, so that many run side by side in little memory.
    flags.context = std::min(loaded.model->info().context_length, static_cast<int64_t>(longest));
  }
  INK_ASSIGN_OR_RETURN(EngineConfig config, EngineConfigFrom(flags, *loaded.model, kSideBySide));
  config.token_budget = 2048;
  config.model_name = loaded.name;
  INK_RETURN_IF_ERROR(CheckMemory(loaded, config, flags.memory));
  INK_ASSIGN_OR_RETURN(auto engine,
                       Engine::Create(*loaded.model, *loaded.device, loaded.tokenizer, config));
  INK_RETURN_IF_ERROR(UseAdapters(loaded, *engine));
  LabelScoringOptions options;
  options.normalize_length = o.normalize;
  ProgressBar bar("eval", prompts.size());
  options.progress = [&](int64_t done, int64_t) { bar.Update(static_cast<uint64_t>(done)); };
  auto scores = ScoreLabels(*engine, prompts, labels, options);
  bar.Finish();
  if (!scores.ok()) return scores.status().WithContext(o.jsonl);
  const LabelMetrics metrics = MeasureLabels(*scores, truth);
  if (o.json) {
    nlohmann::ordered_json out;
    out["n"] = metrics.n;
    out["accuracy"] = metrics.accuracy;
    out["macro_f1"] = metrics.macro_f1;
    out["ece"] = metrics.ece;
    INK_RETURN_IF_ERROR(WriteOutput(out.dump() + "\n"));
  } else {
    char line[160];
    std::snprintf(line, sizeof(line),
                  "accuracy %.4f, macro F1 %.4f, calibration error %.4f (%lld examples)\n",
                  metrics.accuracy, metrics.macro_f1, metrics.ece,
                  static_cast<long long>(metrics.n));
    INK_RETURN_IF_ERROR(WriteOutput(line));
  }
  return FlushOutput();
}

}  // namespace

CommandBody RegisterEval(CLI::App& app) {
  auto o = std::make_shared<Options>();
  AddEngineFlags(app, o->engine);
  AddAdapterFlag(app, o->engine);
  app.add_option("--jsonl", o->jsonl,
                 "lines of {\"text\", \"label\"} or {\"prompt\", \"completion\"}; - for stdin")
      ->required();
  app.add_option("--labels", o->labels, "the labels, separated by commas")
      ->required()
      ->delimiter(',');
  app.add_option("--template", o->label_template,
                 "what stands before the label, {text} being the text (default: the one that the "
                 "model was tuned with)");
  app.add_option("--task", o->task, "labels: the most likely of the labels")
      ->check(CLI::IsMember({"labels"}));
  app.add_flag("--normalize", o->normalize, "log-probabilities per token of the label");
  app.add_flag("--json", o->json, "one JSON object on stdout");
  return [o] {
    Status status = Evaluate(*o);
    return status.ok() ? kExitOk : Fail(kCommand, status);
  };
}

}  // namespace ink::cli
