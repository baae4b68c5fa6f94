// Semantics at the edges: texts, states, grammars, tags, hostile input.
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "constraint/harness.h"

namespace ink {
namespace {

using constraint_testing::SmallVocabulary;

std::shared_ptr<const CompiledConstraint> Compile(const ConstraintSpec& spec,
                                                  const ConstraintOptions& options = {}) {
  auto compiled = CompiledConstraint::Compile(spec, options, SmallVocabulary());
  EXPECT_TRUE(compiled.ok()) << compiled.status().message();
  return compiled.ok() ? *compiled : nullptr;
}

std::string Refusal(const ConstraintSpec& spec, const ConstraintOptions& options = {}) {
  const auto compiled = CompiledConstraint::Compile(spec, options);
  EXPECT_FALSE(compiled.ok());
  return compiled.status().message();
}

bool Accepts(const std::shared_ptr<const CompiledConstraint>& c, std::string_view text) {
  ConstraintState state(c);
  return state.Advance(text) && state.IsAccepting();
}

// The offset of the first refused byte; the length where there is none.
size_t Offset(const std::shared_ptr<const CompiledConstraint>& c, std::string_view text) {
  ConstraintState state(c);
  size_t accepted = 0;
  state.Advance(text, &accepted);
  return accepted;
}

TEST(Json, FollowsRfc8259) {
  const auto any = Compile(ConstraintSpec::JsonSchema("{}"));
  for (const char* text : {"0",
                           "-0",
                           "10",
                           "1.5",
                           "1e5",
                           "1E+5",
                           "0e0",
                           "-1.25e-007",
                           "true",
                           "false",
                           "null",
                           "\"\"",
                           "\"\\u0041\\n\\/\"",
                           "\"\\ud83d\\ude00\"",
                           "\"é😀\x7f\"",
                           "[]",
                           "[ ]",
                           "[1 , [] ]",
                           "{}",
                           "{\"a\" : {\"\":[]}}",
                           " \t\r\n1 \n",
                           "[1e308]"}) {
    EXPECT_TRUE(Accepts(any, text)) << text;
  }
  for (const char* text : {"",
                           "01",
                           "-",
                           "+1",
                           ".5",
                           "1.",
                           "1e",
                           "1e+",
                           "tru",
                           "True",
                           "\"",
                           "\"\t\"",
                           "\"\\x\"",
                           "\"\\u12g4\"",
                           "\"\\ud800\"",
                           "\"\\ud800a\"",
                           "\"\\udc00\"",
                           "\"\\ud800\\u0041\"",
                           "[,]",
                           "[1,]",
                           "[1 2]",
                           "{,}",
                           "{\"a\"}",
                           "{\"a\":}",
                           "{\"a\":1,}",
                           "{a:1}",
                           "1 1",
                           "\"\xff\"",
                           "\"\xc0\x80\"",
                           "\"\xed\xa0\x80\"",
                           "\"\xf4\x90\x80\x80\"",
                           "{\"a\":1,\"a\":2}",
                           "{\"a\":1,\"\\u0061\":2}",
                           "1e400",
                           "1e-400",
                           "NaN",
                           "'a'"}) {
    EXPECT_FALSE(Accepts(any, text)) << text;
  }
}

TEST(Json, RefusesAtTheFirstHopelessByte) {
  const auto c = Compile(ConstraintSpec::JsonSchema(
      R"({"type":"object","properties":{"name":{"enum":["red","green"]},
          "n":{"type":"integer","minimum":10,"maximum":25}},
          "required":["name"],"additionalProperties":false})"));
  EXPECT_EQ(Offset(c, R"({"name":"rod"})"), 10u);
  EXPECT_EQ(Offset(c, R"({"no":1})"), 3u);
  EXPECT_EQ(Offset(c, R"({"n":12,"n":12})"), 10u);
  EXPECT_EQ(Offset(c, R"({"n":12})"), 7u);
  EXPECT_EQ(Offset(c, R"({"name":"red",)"), 14u);
  EXPECT_EQ(Offset(c, R"({"name":"red","n":12,)"), 20u);  // no name is left
  EXPECT_EQ(Offset(c, R"({"n":3})"), 5u);                 // 3e0 is too small, 3e1 too large
  EXPECT_EQ(Offset(c, R"({"n":2})"), 6u);                 // 20 would do, 2 does not
  EXPECT_TRUE(Accepts(c, R"({"n":1.2e1,"name":"red"})"));
  EXPECT_TRUE(Accepts(c, R"({"n":250e-1,"name":"red"})"));
  EXPECT_EQ(Offset(c, "[1]"), 0u);
}

TEST(Json, BoundsWhiteSpace) {
  ConstraintOptions options;
  options.max_whitespace = 3;
  const auto c = Compile(ConstraintSpec::JsonSchema("{}"), options);
  EXPECT_TRUE(Accepts(c, "   [   1   ,   2   ]   "));
  EXPECT_EQ(Offset(c, "[    1]"), 4u);
  EXPECT_EQ(Offset(c, "1    "), 4u);
}

TEST(Json, NumbersAreExact) {
  const auto c = Compile(ConstraintSpec::JsonSchema(R"({"multipleOf":0.01})"));
  EXPECT_TRUE(Accepts(c, "0.29"));
  EXPECT_TRUE(Accepts(c, "12345678901234567890.07"));
  EXPECT_FALSE(Accepts(c, "0.291"));
  const auto big = Compile(
      ConstraintSpec::JsonSchema(R"({"exclusiveMinimum":9007199254740993,"type":"integer"})"));
  EXPECT_FALSE(Accepts(big, "9007199254740993"));
  EXPECT_TRUE(Accepts(big, "9007199254740994"));
}

TEST(Json, DraftsAndDocuments) {
  const auto old = Compile(ConstraintSpec::JsonSchema(
      R"({"$schema":"http://json-schema.org/draft-07/schema#","items":[{"type":"integer"}],
          "additionalItems":false,"definitions":{"a":{"type":"string"}},
          "properties":{"x":{"$ref":"#/definitions/a","type":"null"}},
          "dependencies":{"x":["y"]}})"));
  EXPECT_TRUE(Accepts(old, "[1]"));
  EXPECT_FALSE(Accepts(old, "[1,2]"));
  EXPECT_TRUE(Accepts(old, R"({"x":"s","y":1})"));
  EXPECT_FALSE(Accepts(old, R"({"x":"s"})"));
  ConstraintOptions options;
  options.documents["http://example.com/defs.json"] = R"({"$defs":{"n":{"type":"integer"}}})";
  const auto remote = Compile(
      ConstraintSpec::JsonSchema(R"({"$ref":"http://example.com/defs.json#/$defs/n"})"), options);
  EXPECT_TRUE(Accepts(remote, "3"));
  EXPECT_FALSE(Accepts(remote, "\"3\""));
  EXPECT_NE(Refusal(ConstraintSpec::JsonSchema(R"({"$ref":"http://example.com/x.json"})"))
                .find("http://example.com/x.json"),
            std::string::npos);
}

TEST(Json, RefusalsNameTheKeyword) {
  const std::pair<const char*, const char*> cases[] = {
      {R"~({"properties":{"a":{"pattern":"(?=x)"}}})~", "pattern"},
      {R"({"not":{"uniqueItems":true}})", "uniqueItems"},
      {R"({"type":"strin"})", "type"},
      {R"({"minLength":-1})", "minLength"},
      {R"({"items":[{}]})", "items"},
      {R"({"$ref":"#/$defs/none"})", "$ref"},
      {R"({"$ref":"#"})", "$ref"},
      {R"({"allOf":[{"$ref":"#"}]})", "$ref"},
      {R"({"allOf":[]})", "allOf"},
      {R"({"$schema":"http://example.com/dialect"})", "$schema"},
      {R"({"enum":[]})", "enum"},
      {R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})", "properties"},
      {R"({"multipleOf":0})", "multipleOf"},
      {R"({"a":1)", "malformed JSON"},
      {R"({"type":"null","type":"null"})", "duplicate key"},
  };
  for (const auto& [schema, keyword] : cases) {
    EXPECT_NE(Refusal(ConstraintSpec::JsonSchema(schema)).find(keyword), std::string::npos)
        << schema << ": " << Refusal(ConstraintSpec::JsonSchema(schema));
  }
}

TEST(Json, HostileSchemasAreBounded) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::string> schemas;
  // Nesting, and alternatives that multiply.
  schemas.push_back(std::string(100000, '['));
  std::string deep;
  for (int i = 0; i < 5000; ++i) deep += "{\"not\":";
  schemas.push_back(deep + "{}" + std::string(5000, '}'));
  std::string one_of = R"({"oneOf":[)";
  for (int i = 0; i < 25; ++i) {
    one_of += (i ? "," : "") + std::string(R"({"properties":{"a)") + std::to_string(i) +
              R"(":{"type":"integer"},"b)" + std::to_string(i) + R"(":{"minimum":3}}})";
  }
  schemas.push_back(one_of + "]}");
  std::string dependent = R"({"dependentRequired":{)";
  for (int i = 0; i < 40; ++i) {
    dependent += (i ? "," : "") + std::string("\"a") + std::to_string(i) + "\":[\"b" +
                 std::to_string(i) + "\"]";
  }
  schemas.push_back(dependent + "}}");
  // A shortest text of 2^40 bytes.
  std::string doubling = R"({"$ref":"#/$defs/d0","$defs":{)";
  for (int i = 0; i < 40; ++i) {
    const std::string next = R"({"$ref":"#/$defs/d)" + std::to_string(i + 1) + "\"}";
    doubling += "\"d" + std::to_string(i) + R"(":{"type":"array","prefixItems":[)" + next + "," +
                next + R"(],"minItems":2},)";
  }
  schemas.push_back(doubling + R"("d40":{"type":"null"}}})");
  schemas.push_back(R"({"type":"array","items":{"type":"null"},"minItems":1000000000000})");
  schemas.push_back(R"({"pattern":"(a|b)*a(a|b){60}","minLength":3})");
  schemas.push_back(R"({"patternProperties":{"a.{9}$":{},"b.{9}$":{},"c.{9}$":{},"d.{9}$":{}}})");
  schemas.push_back(R"({"contains":{"const":1},"minContains":100000,"maxContains":200000})");
  schemas.push_back(R"({"not":{"minLength":100000}})");
  schemas.push_back(R"({"minimum":1e999999999})");
  for (const std::string& schema : schemas) {
    const auto compiled = CompiledConstraint::Compile(ConstraintSpec::JsonSchema(schema));
    if (compiled.ok()) {
      ConstraintState state(*compiled);
      EXPECT_TRUE(state.Advance(state.Completion())) << schema.substr(0, 80);
    }
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  EXPECT_LT(took.count(), 120.0);
  EXPECT_NE(Refusal(ConstraintSpec::JsonSchema(schemas[4])).find("shortest text"),
            std::string::npos);
}

TEST(Json, DeepTextsDoNotRecurse) {
  const auto c = Compile(ConstraintSpec::JsonSchema("{}"));
  {
    ConstraintState state(c);
    EXPECT_TRUE(state.Advance(std::string(200000, '[')));
    const ConstraintState copy = state;
    EXPECT_EQ(copy.Completion(), std::string(200000, ']'));
  }
  EXPECT_TRUE(Accepts(c, std::string(10000, '[') + std::string(10000, ']')));
}

TEST(State, ForksRollsBackAndCloses) {
  const auto c = Compile(ConstraintSpec::JsonSchema(
                             R"({"type":"object","properties":{"a":{"const":"x"}},"required":["a"],
          "additionalProperties":false})"),
                         {.max_whitespace = 0});
  ConstraintState state(c);
  EXPECT_EQ(state.ForcedBytes(), "{\"");  // behind it an escape may stand for the name
  EXPECT_TRUE(state.Advance("{\"a"));
  const ConstraintState kept = state;
  EXPECT_FALSE(state.Advance("\":\"y"));
  EXPECT_TRUE(state.Advance("\":\"x\"}"));
  EXPECT_TRUE(state.IsAccepting());
  ConstraintState other = kept;
  EXPECT_EQ(other.Completion(), "\":\"x\"}");
  EXPECT_FALSE(other.AdvanceToken(1));  // an end token, too early
  EXPECT_TRUE(state.AdvanceToken(1));
  EXPECT_TRUE(state.IsClosed());
  EXPECT_FALSE(state.AdvanceToken(1));
  EXPECT_FALSE(state.Advance(" "));
  EXPECT_FALSE(state.AdvanceToken(0));  // an unused token
  EXPECT_FALSE(other.AdvanceToken(-1));
  EXPECT_FALSE(other.AdvanceToken(1 << 30));
}

TEST(State, ForcedBytes) {
  ConstraintState state(Compile(ConstraintSpec::Regex("abc(de|df)g?")));
  EXPECT_EQ(state.ForcedBytes(), "abcd");
  EXPECT_EQ(state.ForcedBytes(2), "ab");
  EXPECT_TRUE(state.Advance("abcde"));
  EXPECT_EQ(state.ForcedBytes(), "");  // the text may end here
}

TEST(State, OneConstraintServesManyThreads) {
  const auto c = Compile(ConstraintSpec::JsonSchema(
      R"({"type":"array","items":{"type":"object","properties":{"name":{"type":"string"},
          "age":{"type":"integer"}},"required":["name"]}})"));
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < 4; ++i) {
    threads.emplace_back([&c, i] {
      for (uint64_t k = 0; k < 5; ++k) {
        Rng rng(i, k);
        const std::string text = constraint_testing::RandomText(c, rng, 30, 0);
        EXPECT_TRUE(Accepts(c, text)) << text;
      }
    });
  }
  for (std::thread& t : threads) t.join();
}

TEST(Grammar, Gbnf) {
  const auto c = Compile(ConstraintSpec::Grammar(R"(# a list
root ::= ("- " item)+
item ::= [^\n]+ "\n"   # to the end of the line
)"));
  EXPECT_TRUE(Accepts(c, "- é\n- two\n"));
  EXPECT_FALSE(Accepts(c, "- one"));
  const auto expression = Compile(ConstraintSpec::Grammar(R"~(
root  ::= (expr "=" ws term "\n"){1,2}
expr  ::= term ([-+*/] term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \t\n]*
)~"));
  EXPECT_TRUE(Accepts(expression, "(a +2)*b = 3\n"));
  EXPECT_TRUE(Accepts(expression, "1=1\nx=(((y)))\n"));
  EXPECT_FALSE(Accepts(expression, "(a+2*b = 3\n"));
  EXPECT_FALSE(Accepts(expression, "1=1\n1=1\n1=1\n"));
  // Palindromes need the stack, and stay ambiguous to the end.
  const auto palindrome =
      Compile(ConstraintSpec::Grammar("root ::= \"a\" root \"a\" | \"b\" root \"b\" | [ab]?\n"));
  EXPECT_TRUE(Accepts(palindrome, "abbabba"));
  EXPECT_FALSE(Accepts(palindrome, "abbabab"));
  EXPECT_TRUE(Accepts(
      Compile(ConstraintSpec::Grammar("root ::= \"\\x41\\u00e9\\U0001F600\" [\\]^-]")), "Aé😀]"));
}

TEST(Grammar, Refusals) {
  const std::pair<const char*, const char*> cases[] = {
      {"root ::= root \"a\" | \"b\"", "left recursion"},
      {"root ::= x \"a\"\nx ::= y?  root | \"b\"\ny ::= \"c\"", "left recursion"},
      {"root ::= missing", "missing"},
      {"x ::= \"a\"", "root"},
      {"root ::= \"a", "quote"},
      {"root ::= [a", "]"},
      {"root ::= (\"a\"", ")"},
      {"root = \"a\"", "::="},
      {"root ::= \"a\"\nroot ::= \"b\"", "twice"},
      {"root ::= \"a\" root", "completed"},
      {"root ::= <think>", "tokens"},
      {"root ::= \"a\"{3,2}", "order"},
      {"root ::= []", "completed"},
  };
  for (const auto& [text, part] : cases) {
    EXPECT_NE(Refusal(ConstraintSpec::Grammar(text)).find(part), std::string::npos)
        << text << ": " << Refusal(ConstraintSpec::Grammar(text));
  }
  EXPECT_FALSE(CompiledConstraint::Compile(ConstraintSpec::Choice({})).ok());
  EXPECT_FALSE(CompiledConstraint::Compile(ConstraintSpec::Choice({"\xff"})).ok());
  EXPECT_FALSE(CompiledConstraint::Compile(ConstraintSpec::Regex("a\\b\\Bc")).ok());
}

TEST(Tags, FreeTextAroundToolCalls) {
  const auto call = std::make_shared<ConstraintSpec>(ConstraintSpec::JsonSchema(
      R"({"type":"object","properties":{"name":{"const":"add"},"arguments":{"type":"object",
          "properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}},
          "required":["name","arguments"],"additionalProperties":false})"));
  ConstraintSpec spec =
      ConstraintSpec::Tags({{"<tool_call>\n", call, "\n</tool_call>"}}, {"<tool_call>"});
  const auto c = Compile(spec);
  const std::string good =
      "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>";
  EXPECT_TRUE(Accepts(c, ""));
  EXPECT_TRUE(Accepts(c, "Hello <tool_cal> { \xff"));
  EXPECT_TRUE(Accepts(c, "Let me see. " + good + "\n" + good + " done"));
  EXPECT_FALSE(Accepts(c, "Let me see. <tool_call>"));
  EXPECT_EQ(Offset(c, "x<tool_call>{"), 12u);
  EXPECT_EQ(Offset(c, "<tool_call>\n{\"name\": \"sub"), 22u);
  spec.min_tags = 1;
  spec.max_tags = 1;
  const auto exactly = Compile(spec);
  EXPECT_FALSE(Accepts(exactly, "Hello"));
  EXPECT_TRUE(Accepts(exactly, "Hello" + good + "\n"));
  EXPECT_FALSE(Accepts(exactly, good + good));
  EXPECT_FALSE(Accepts(exactly, good + "more"));
  ConstraintState start(exactly);
  EXPECT_TRUE(Accepts(exactly, start.Completion()));
  spec.free_text = false;
  spec.max_tags = 0;
  const auto only = Compile(spec);
  EXPECT_TRUE(Accepts(only, "\n" + good + "\n\n" + good));
  EXPECT_FALSE(Accepts(only, "Hello" + good));
  spec.triggers = {"[call]"};
  spec.free_text = true;
  EXPECT_FALSE(CompiledConstraint::Compile(spec).ok());
}

}  // namespace
}  // namespace ink
