// Token masks against trying every token; random texts end well.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "constraint/harness.h"
#include "support/shared.h"

namespace ink {
namespace {

using constraint_testing::RandomText;
using constraint_testing::SmallVocabulary;

std::shared_ptr<const CompiledConstraint> Compile(const ConstraintSpec& spec,
                                                  const ConstraintOptions& options = {}) {
  static const auto vocabulary = SmallVocabulary();
  auto compiled = CompiledConstraint::Compile(spec, options, vocabulary);
  EXPECT_TRUE(compiled.ok()) << compiled.status().message();
  return compiled.ok() ? *compiled : nullptr;
}

void Exercise(const ConstraintSpec& spec, int texts, int tokens, int check,
              const ConstraintOptions& options = {}) {
  const auto compiled = Compile(spec, options);
  ASSERT_NE(compiled, nullptr);
  const ConstraintState start(compiled);
  const std::string shortest = start.Completion();
  ConstraintState whole(compiled);
  EXPECT_TRUE(whole.Advance(shortest)) << shortest;
  EXPECT_TRUE(whole.IsAccepting()) << shortest;
  for (int i = 0; i < texts; ++i) {
    Rng rng(17, static_cast<uint64_t>(i));
    const std::string text = RandomText(compiled, rng, 1 + i * tokens / texts, check);
    if (::testing::Test::HasFatalFailure()) return;
    ConstraintState again(compiled);
    size_t accepted = 0;
    EXPECT_TRUE(again.Advance(text, &accepted)) << text << " at " << accepted;
    EXPECT_TRUE(again.IsAccepting()) << text;
  }
}

class SchemaMask : public ::testing::TestWithParam<const char*> {};

TEST_P(SchemaMask, EqualsBruteForce) { Exercise(ConstraintSpec::JsonSchema(GetParam()), 8, 60, 4); }

INSTANTIATE_TEST_SUITE_P(
    Schemas, SchemaMask,
    ::testing::Values(
        "true", R"({"type":"object"})", R"({"type":"string"})", R"({"type":"number"})",
        R"({"type":"integer","minimum":-5,"maximum":120})",
        R"({"type":"string","minLength":2,"maxLength":7})",
        R"({"type":"string","pattern":"^[a-z]{2,5}$","minLength":3})",
        R"({"type":"string","pattern":"a+b"})",
        R"({"type":"string","pattern":"^(ab)*$","maxLength":5})",
        R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"}},
            "required":["name","age"],"additionalProperties":false})",
        R"({"type":"object","properties":{"name":{"maxLength":3},"foo":{"enum":["red","green",1]}},
            "required":["foo"]})",
        R"({"type":"array","items":{"type":"integer","minimum":0,"maximum":9},"minItems":2,
            "maxItems":4})",
        R"({"type":"array","items":{"enum":["red","green","blue"]},"uniqueItems":true})",
        R"({"type":"array","items":{"type":"string","maxLength":1},"uniqueItems":true,
            "minItems":2})",
        R"({"type":"array","items":{"type":"integer","minimum":1,"maximum":4},"uniqueItems":true})",
        R"({"uniqueItems":true,"type":"array"})",
        R"({"uniqueItems":true,"items":{"properties":{"a":{"maxLength":3}},"minProperties":1}})",
        R"({"type":"array","prefixItems":[true,{"const":"a"}],"uniqueItems":true,"minItems":2})",
        R"({"type":"array","prefixItems":[{"type":"boolean"},{"type":"boolean"}],
            "uniqueItems":true,"minItems":2})",
        R"({"type":"array","contains":{"const":1},"minContains":2,"maxContains":3})",
        R"({"oneOf":[{"type":"object","properties":{"kind":{"const":"a"},"id":{"type":"integer"}},
            "required":["kind","id"],"additionalProperties":false},
            {"type":"object","properties":{"kind":{"const":"b"},"value":{"type":"string"}},
            "required":["kind"],"additionalProperties":false}]})",
        R"({"type":"object","minProperties":2,
            "propertyNames":{"pattern":"^[ab]$"},"additionalProperties":{"type":"boolean"},
            "required":["a"],"maxProperties":2})",
        R"({"type":"object","patternProperties":{"^a":{"type":"integer"},"b$":{"minimum":3}},
            "additionalProperties":false,"minProperties":1})",
        R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},
            "required":["a"],"not":{"additionalProperties":{"type":"integer"}}})",
        R"({"$defs":{"n":{"type":"object","properties":{"value":{"type":"integer"},
            "next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},"required":["value","next"],
            "additionalProperties":false}},"$ref":"#/$defs/n"})",
        R"({"type":"object","properties":{"é":{"const":"é\n"},"a\"b":{"type":"null"}},
            "required":["é","a\"b"],"additionalProperties":false})",
        R"({"if":{"properties":{"kind":{"const":"a"}},"required":["kind"]},
            "then":{"required":["id"]},"else":{"required":["value"]},"type":"object",
            "maxProperties":2})",
        R"({"type":"object","dependentRequired":{"a":["b"],"b":["foo"]},"maxProperties":3,
            "minProperties":1})",
        R"({"type":"number","multipleOf":0.25,"exclusiveMinimum":0,"maximum":3})",
        R"({"type":"number","exclusiveMinimum":0.1,"exclusiveMaximum":0.1001})",
        R"({"anyOf":[{"type":"string","maxLength":2},{"type":"string","pattern":"^foo"}]})"));

TEST(Mask, Formats) {
  ConstraintOptions options;
  options.enforce_formats = true;
  for (const char* format :
       {"date", "time", "date-time", "email", "hostname", "ipv4", "ipv6", "uuid", "uri",
        "uri-reference", "duration", "json-pointer", "relative-json-pointer"}) {
    SCOPED_TRACE(format);
    Exercise(
        ConstraintSpec::JsonSchema(R"({"type":"string","format":")" + std::string(format) + "\"}"),
        3, 12, 4, options);
  }
}

TEST(Mask, RegexChoiceGrammar) {
  Exercise(ConstraintSpec::Regex("(foo|bar)+[0-9]{1,3}(é|.)?"), 6, 12, 1);
  Exercise(ConstraintSpec::Regex(R"(\w+@\w+\.com)"), 6, 12, 1);
  Exercise(ConstraintSpec::Regex(R"(a*\b.*)"), 4, 12, 2);
  Exercise(ConstraintSpec::Choice({"red", "green", "re", "the name", "é"}), 6, 4, 1);
  Exercise(ConstraintSpec::Grammar(R"(root ::= "[" ws (value ("," ws value)*)? "]" ws
value ::= root | number | "\"" [^"\\]* "\""
number ::= "-"? [0-9]+ ("." [0-9]+)?
ws ::= [ \t\n]{0,3} # white space
)"),
           8, 30, 2);
  Exercise(
      ConstraintSpec::Grammar("root ::= (x | \"a\"){2,4} x*\nx ::= \"(\" root? \")\" | \"\"\n"), 6,
      20, 1);
}

TEST(Mask, Tags) {
  ConstraintSpec spec = ConstraintSpec::Tags(
      {{"<tool_call>",
        std::make_shared<ConstraintSpec>(ConstraintSpec::JsonSchema(
            R"({"type":"object","properties":{"name":{"const":"foo"}},"required":["name"],
                "additionalProperties":false})")),
        "</tool_call>"},
       {"<tool>", std::make_shared<ConstraintSpec>(ConstraintSpec::Choice({"a", "ab"})), "!"}},
      {"<tool"});
  Exercise(spec, 6, 20, 1);
  spec.min_tags = 1;
  spec.max_tags = 2;
  Exercise(spec, 6, 20, 1);
  spec.free_text = false;
  spec.tag_separator = ",";
  spec.min_tags = 2;
  Exercise(spec, 6, 20, 1);
}

TEST(Mask, SuiteSchemas) {
  INK_NEEDS_SHARED();
  int n = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(testing_support::Shared("goldens/jsonschema"))) {
    if (entry.path().extension() != ".json") continue;
    std::ifstream in(entry.path());
    for (const auto& group : nlohmann::ordered_json::parse(in)) {
      const ConstraintSpec spec = ConstraintSpec::JsonSchema(group["schema"].dump());
      if (!CompiledConstraint::Compile(spec).ok()) continue;
      SCOPED_TRACE(group["schema"].dump());
      // The metaschemas are large; every schema gets texts, some get every token tried.
      Exercise(spec, 3, 25, group["schema"].dump().size() < 1000 && ++n % 4 == 0 ? 6 : 0);
      if (HasFatalFailure()) return;
    }
  }
}

}  // namespace
}  // namespace ink
