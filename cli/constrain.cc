// inkstone constrain: checks texts against a constraint, or draws texts from it, with the automaton
// that the sampler uses.
#include <CLI/CLI.hpp>
#include <bit>
#include <ctime>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/rng.h"
#include "command.h"
#include "common.h"
#include "loaded_model.h"
#include "sampling/constraint/constraint.h"
#include "sampling/constraint/tokenizer_vocabulary.h"

namespace ink::cli {
namespace {

constexpr std::string_view kCommand = "constrain";

struct Options {
  std::string schema, regex, grammar, jsonl, model;
  std::vector<std::string> choices;
  std::vector<std::string> documents;  // URI=FILE
  bool json_object = false;
  bool formats = false;
  bool stats = false;
  int max_whitespace = 64;
  int64_t samples = 0;
  uint64_t seed = 0;
  int64_t max_tokens = 256;
};

// Of this thread: what else runs on the machine does not count.
double CpuMicroseconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) * 1e-3;
}

Result<ConstraintSpec> ReadSpec(const Options& o) {
  const int given = !o.schema.empty() + !o.regex.empty() + !o.grammar.empty() + !o.choices.empty() +
                    o.json_object;
  if (given != 1) {
    return InvalidArgument(
        "exactly one of --schema, --json-object, --regex, --grammar and --choice is needed, got " +
        std::to_string(given));
  }
  if (!o.schema.empty()) {
    INK_ASSIGN_OR_RETURN(std::string text, ReadTextFile(o.schema));
    return ConstraintSpec::JsonSchema(std::move(text));
  }
  if (!o.grammar.empty()) {
    INK_ASSIGN_OR_RETURN(std::string text, ReadTextFile(o.grammar));
    return ConstraintSpec::Grammar(std::move(text));
  }
  if (!o.regex.empty()) return ConstraintSpec::Regex(o.regex);
  if (o.json_object) return ConstraintSpec::JsonObject();
  return ConstraintSpec::Choice(o.choices);
}

Status CheckTexts(const Options& o, std::shared_ptr<const CompiledConstraint> constraint) {
  const ConstraintState start(std::move(constraint));
  INK_RETURN_IF_ERROR(ForEachLine(o.jsonl, [&](std::string_view line, int64_t) -> Status {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (json.is_discarded() || !json.is_object() || !json.contains("text") ||
        !json["text"].is_string()) {
      return InvalidArgument("expected {\"text\": string}, got " + std::string(line.substr(0, 80)));
    }
    ConstraintState state = start;
    size_t offset = 0;
    const bool all = state.Advance(json["text"].get_ref<const std::string&>(), &offset);
    nlohmann::ordered_json answer;
    answer["accepted"] = all && state.IsAccepting();
    answer["offset"] = offset;
    return WriteOutput(answer.dump() + "\n");
  }));
  return FlushOutput();
}

// One text, uniformly among the allowed tokens at each step; completed where it would get too long.
Result<std::string> Draw(const std::shared_ptr<const CompiledConstraint>& constraint,
                         const Options& o, int64_t sample, double* mask_us, int64_t* masks) {
  const VocabularyTrie& v = *constraint->vocabulary();
  Rng rng(o.seed, static_cast<uint64_t>(sample));
  ConstraintState state(constraint);
  std::string text;
  std::vector<uint32_t> mask(v.mask_words());
  for (int64_t i = 0; i < o.max_tokens; ++i) {
    const double start = CpuMicroseconds();
    state.FillMask(mask);
    *mask_us += CpuMicroseconds() - start;
    ++*masks;
    uint64_t allowed = 0;
    for (uint32_t word : mask) allowed += static_cast<uint64_t>(std::popcount(word));
    if (allowed == 0) {
      return Unsupported(
          "the vocabulary has no token that may follow " +
          nlohmann::json(text).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
    }
    uint64_t pick = rng.Below(allowed);
    int32_t id = -1;
    for (size_t w = 0; w < mask.size() && id < 0; ++w) {
      const auto bits = static_cast<uint64_t>(std::popcount(mask[w]));
      if (pick >= bits) {
        pick -= bits;
        continue;
      }
      uint32_t word = mask[w];
      for (; pick > 0; --pick) word &= word - 1;
      id = static_cast<int32_t>(w * 32) + std::countr_zero(word);
    }
    if (!state.AdvanceToken(id)) {
      return Corrupt("the mask allows token " + std::to_string(id) + " that the automaton refuses");
    }
    if (state.IsClosed()) return text;
    text += v.token_bytes(id);
  }
  return text + state.Completion();
}

Status DrawTexts(const Options& o, const std::shared_ptr<const CompiledConstraint>& constraint,
                 double compile_us) {
  double mask_us = 0;
  int64_t masks = 0;
  for (int64_t i = 0; i < o.samples; ++i) {
    INK_ASSIGN_OR_RETURN(const std::string text, Draw(constraint, o, i, &mask_us, &masks));
    INK_RETURN_IF_ERROR(WriteOutput(
        nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
        "\n"));
  }
  INK_RETURN_IF_ERROR(FlushOutput());
  if (o.stats && masks > 0) {
    std::cerr << "compile " << compile_us / 1000 << " ms, " << masks << " masks, mean "
              << mask_us / static_cast<double>(masks) << " us, " << constraint->memory_bytes()
              << " bytes\n";
  }
  return OkStatus();
}

int Run(const Options& o) {
  const Status status = [&]() -> Status {
    const bool draw = o.samples > 0;
    if (draw == !o.jsonl.empty()) {
      return InvalidArgument("either --jsonl FILE or -m VOCAB --sample N is needed");
    }
    if (draw && o.model.empty()) return InvalidArgument("--sample needs a vocabulary (-m)");
    INK_ASSIGN_OR_RETURN(const ConstraintSpec spec, ReadSpec(o));
    ConstraintOptions options;
    options.max_whitespace = o.max_whitespace;
    options.enforce_formats = o.formats;
    for (const std::string& document : o.documents) {
      const size_t equals = document.find('=');
      if (equals == std::string::npos) {
        return InvalidArgument("--document: expected URI=FILE, got " + document);
      }
      INK_ASSIGN_OR_RETURN(options.documents[document.substr(0, equals)],
                           ReadTextFile(document.substr(equals + 1)));
    }
    std::shared_ptr<const VocabularyTrie> vocabulary;
    if (draw) {
      INK_ASSIGN_OR_RETURN(const auto tokenizer, LoadTokenizer(o.model));
      vocabulary = MakeVocabularyTrie(*tokenizer);
    }
    const double start = CpuMicroseconds();
    auto compiled = CompiledConstraint::Compile(spec, options, vocabulary);
    const double compile_us = CpuMicroseconds() - start;
    if (!compiled.ok()) {
      // Malformed or not enforceable: the request is wrong, whichever it is.
      return InvalidArgument(compiled.status().message());
    }
    return draw ? DrawTexts(o, *compiled, compile_us) : CheckTexts(o, *compiled);
  }();
  return status.ok() ? kExitOk : Fail(kCommand, status);
}

}  // namespace

CommandBody RegisterConstrain(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("--schema", o->schema, "a file with a JSON Schema (draft 2020-12)");
  app.add_flag("--json-object", o->json_object, "any JSON object");
  app.add_option("--regex", o->regex, "a regular expression that the whole text matches");
  app.add_option("--grammar", o->grammar, "a file with a GBNF grammar");
  app.add_option("--choice", o->choices, "one of these texts (give it several times)");
  app.add_option(
      "--jsonl", o->jsonl,
      "lines of {\"text\": ...}, - for stdin; each gives {\"accepted\": bool, \"offset\": "
      "n}: the first refused byte, or the length where the text is only incomplete");
  app.add_option("-m,--model", o->model, "the vocabulary to draw from");
  app.add_option("--sample", o->samples,
                 "draw this many texts, uniformly among the allowed tokens at each step, one JSON "
                 "string a line");
  app.add_option("--seed", o->seed, "of the draws");
  app.add_option("--max-tokens", o->max_tokens,
                 "a drawn text of that many tokens is completed by the shortest way");
  app.add_option("--max-whitespace", o->max_whitespace, "bytes of white space between JSON tokens");
  app.add_flag("--formats", o->formats, "enforce the format keyword");
  app.add_option("--document", o->documents, "URI=FILE: a schema that $ref may name");
  app.add_flag("--stats", o->stats, "with --sample: times on stderr");
  return [o] { return Run(*o); };
}

}  // namespace ink::cli
