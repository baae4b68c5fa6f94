// From a ConstraintSpec to the tables of a machine.
#include <algorithm>

#include "sampling/constraint/machine.h"
#include "sampling/constraint/schema_compiler.h"

namespace ink::constraint {
namespace {

constexpr int kMaxTags = 1000;
constexpr size_t kMaxChoices = 100000;

}  // namespace

Status Machine::Build(const ConstraintSpec& spec,
                      std::shared_ptr<const VocabularyTrie> vocabulary) {
  vocabulary_ = std::move(vocabulary);
  const int32_t root = grammar_.AddRule();
  std::vector<Symbol> symbols;
  INK_RETURN_IF_ERROR(AddContent(spec, false, &symbols));
  grammar_.AddAlternative(root, std::move(symbols));
  INK_RETURN_IF_ERROR(grammar_.Finish(goals_));
  BuildLexers();
  return OkStatus();
}

Status Machine::AddContent(const ConstraintSpec& spec, bool inside_tag,
                           std::vector<Symbol>* symbols) {
  switch (spec.kind) {
    case ConstraintSpec::Kind::kJsonSchema: {
      SchemaCompiler compiler(options_, &goals_);
      INK_ASSIGN_OR_RETURN(const GoalId goal, compiler.Compile(spec.text));
      symbols->push_back({Symbol::Kind::kJson, goal});
      symbols->push_back({Symbol::Kind::kSpace, 0});
      return OkStatus();
    }
    case ConstraintSpec::Kind::kRegex: {
      INK_ASSIGN_OR_RETURN(const RegexPtr regex, ParseRegex(spec.text));
      INK_ASSIGN_OR_RETURN(Dfa dfa, RegexDfa(regex, false, options_.max_automaton_states));
      INK_ASSIGN_OR_RETURN(const Symbol text,
                           grammar_.AddText(std::make_shared<Dfa>(std::move(dfa))));
      symbols->push_back(text);
      return OkStatus();
    }
    case ConstraintSpec::Kind::kChoice: {
      if (spec.choices.empty() || spec.choices.size() > kMaxChoices) {
        return InvalidArgument("choice: " + std::to_string(spec.choices.size()) +
                               " texts to choose from, between 1 and " +
                               std::to_string(kMaxChoices) + " are needed");
      }
      std::vector<std::string> choices = spec.choices;
      std::sort(choices.begin(), choices.end());
      choices.erase(std::unique(choices.begin(), choices.end()), choices.end());
      for (const std::string& c : choices) {
        std::vector<uint32_t> characters;
        if (!DecodeUtf8(c, &characters)) return InvalidArgument("choice: a text is not UTF-8");
      }
      Dfa dfa = LiteralsDfa(choices);
      INK_ASSIGN_OR_RETURN(const Symbol text,
                           grammar_.AddText(std::make_shared<Dfa>(std::move(dfa))));
      symbols->push_back(text);
      return OkStatus();
    }
    case ConstraintSpec::Kind::kGrammar: {
      INK_ASSIGN_OR_RETURN(const int32_t rule,
                           ParseGbnf(spec.text, options_.max_automaton_states, &grammar_));
      symbols->push_back({Symbol::Kind::kRule, rule});
      return OkStatus();
    }
    case ConstraintSpec::Kind::kTags:
      if (inside_tag) return InvalidArgument("tags: a tag may not hold tags");
      return AddTags(spec, symbols);
  }
  return InvalidArgument("unknown kind of constraint");
}

Status Machine::AddTags(const ConstraintSpec& spec, std::vector<Symbol>* symbols) {
  if (spec.tags.empty()) return InvalidArgument("tags: at least one is needed");
  const int last = spec.max_tags > 0 ? spec.max_tags : std::max(spec.min_tags, 1);
  if (spec.min_tags < 0 || spec.max_tags < 0 || last > kMaxTags ||
      (spec.max_tags > 0 && spec.min_tags > spec.max_tags)) {
    return InvalidArgument("tags: between " + std::to_string(spec.min_tags) + " and " +
                           std::to_string(spec.max_tags) + " of them cannot be asked for");
  }
  std::vector<std::string> triggers = spec.triggers;
  if (triggers.empty() || !spec.free_text) {
    triggers.clear();
    for (const ConstraintSpec::Tag& tag : spec.tags) triggers.push_back(tag.begin);
  }
  std::sort(triggers.begin(), triggers.end());
  triggers.erase(std::unique(triggers.begin(), triggers.end()), triggers.end());
  // The shortest trigger that a tag begins with is the one that appears first.
  std::vector<int32_t> rules;
  for (size_t i = 0; i < triggers.size(); ++i) {
    if (triggers[i].empty()) return InvalidArgument("tags: a trigger or begin is empty");
    rules.push_back(grammar_.AddRule());
  }
  for (const ConstraintSpec::Tag& tag : spec.tags) {
    int32_t trigger = -1;
    for (size_t i = 0; i < triggers.size(); ++i) {
      if (tag.begin.compare(0, triggers[i].size(), triggers[i]) == 0 &&
          (trigger < 0 || triggers[i].size() < triggers[trigger].size())) {
        trigger = static_cast<int32_t>(i);
      }
    }
    if (trigger < 0) {
      return InvalidArgument("tags: " + QuoteJson(tag.begin) + " starts with no trigger");
    }
    std::vector<Symbol> part;
    const std::string rest = tag.begin.substr(triggers[trigger].size());
    if (!rest.empty()) {
      INK_ASSIGN_OR_RETURN(const Symbol text, grammar_.AddLiteral(rest));
      part.push_back(text);
    }
    if (tag.content != nullptr) INK_RETURN_IF_ERROR(AddContent(*tag.content, true, &part));
    if (!tag.end.empty()) {
      INK_ASSIGN_OR_RETURN(const Symbol text, grammar_.AddLiteral(tag.end));
      part.push_back(text);
    }
    grammar_.AddAlternative(rules[trigger], std::move(part));
  }
  // One rule for each number of tags so far, as far as it matters.
  std::vector<int32_t> after;
  for (int i = 0; i <= last; ++i) after.push_back(grammar_.AddRule());
  for (int i = 0; i <= last; ++i) {
    if (spec.max_tags > 0 && i == spec.max_tags) {
      grammar_.AddAlternative(after[i], {{Symbol::Kind::kSpace, 0}});
      continue;
    }
    const Symbol next = {Symbol::Kind::kRule, after[std::min(i + 1, last)]};
    if (spec.free_text) {
      const Symbol free = grammar_.AddFree(triggers, rules, i >= spec.min_tags);
      grammar_.AddAlternative(after[i], {free, next});
      continue;
    }
    if (i >= spec.min_tags) grammar_.AddAlternative(after[i], {{Symbol::Kind::kSpace, 0}});
    for (size_t k = 0; k < triggers.size(); ++k) {
      std::vector<Symbol> tag = {{Symbol::Kind::kSpace, 0}};
      const std::string text = (i > 0 ? spec.tag_separator : "") + triggers[k];
      INK_ASSIGN_OR_RETURN(const Symbol begin, grammar_.AddLiteral(text));
      tag.push_back(begin);
      tag.push_back({Symbol::Kind::kRule, rules[k]});
      tag.push_back(next);
      grammar_.AddAlternative(after[i], std::move(tag));
    }
  }
  symbols->push_back({Symbol::Kind::kRule, after[0]});
  return OkStatus();
}

void Machine::BuildLexers() {
  std::map<const StringSet*, int32_t> ids;
  for (const Goal& goal : goals_) {
    if (goal.strings == nullptr) {
      string_rule_.push_back(-1);
    } else {
      const auto [it, inserted] =
          ids.emplace(goal.strings.get(), static_cast<int32_t>(strings_.size()));
      if (inserted) {
        StringRule rule;
        rule.set = goal.strings;
        rule.bounded = rule.set->min > 0 || rule.set->max != kNoLimit;
        std::vector<uint8_t> alive;
        for (uint64_t s : rule.set->shortest) alive.push_back(s != UINT64_MAX);
        std::vector<uint8_t> collapse(alive.size(), 1);
        rule.lexer = std::make_unique<Lexer>(rule.set->dfa, Lexer::Mode::kJson, std::move(alive),
                                             std::move(collapse));
        strings_.push_back(std::move(rule));
      }
      string_rule_.push_back(it->second);
    }
    for (const auto& rule : goal.objects) {
      std::vector<uint8_t> collapse;
      for (size_t s = 0; s < rule->words.size(); ++s) {
        collapse.push_back(rule->words[s] == kManyWords && rule->ahead[s].empty());
      }
      key_lexers_.emplace(rule.get(), std::make_unique<Lexer>(rule->names, Lexer::Mode::kJson,
                                                              rule->alive, std::move(collapse)));
    }
  }
}

uint64_t Machine::memory_bytes() const {
  uint64_t bytes = mask_bytes_ + local_bytes_;
  for (const StringRule& rule : strings_) {
    bytes += rule.lexer->memory_bytes() + rule.set->dfa->next.size() * 4;
    if (rule.exact_lexer != nullptr) bytes += rule.exact_lexer->memory_bytes();
  }
  for (const auto& [rule, lexer] : key_lexers_) {
    bytes += lexer->memory_bytes() + rule->names->next.size() * 4;
  }
  for (const RawText& text : grammar_.texts) {
    bytes += text.lexer->memory_bytes() + text.dfa->next.size() * 4;
  }
  bytes += grammar_.free.size() * 64 + goals_.size() * sizeof(Goal);
  return bytes;
}

}  // namespace ink::constraint
