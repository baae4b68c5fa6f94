// What the sandbox promises: hostile templates end with an error, and errors carry their line.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "text/chat_template.h"

namespace ink {
namespace {

using Json = nlohmann::ordered_json;

std::string Times(const std::string& text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

Status Outcome(const std::string& source, const ChatTemplateLimits& limits = {}) {
  const Result<ChatTemplate> parsed = ChatTemplate::Parse(source);
  if (!parsed.ok()) return parsed.status();
  ChatTemplateOptions options;
  options.limits = limits;
  return parsed->Render(Json::object(), options).status();
}

// Small limits, so that running into them takes no time.
ChatTemplateLimits Tight() {
  ChatTemplateLimits limits;
  limits.max_output_bytes = 1 << 16;
  limits.max_memory_bytes = 4 << 20;
  limits.max_steps = 200'000;
  return limits;
}

TEST(JinjaLimits, HostileTemplatesEndWithAnError) {
  const std::string deep_list =
      "{% set ns = namespace(x=[]) %}{% for i in range(10000) %}{% set ns.x = [ns.x] %}{% endfor "
      "%}";
  const std::string wide_list =
      "{% set ns = namespace(x=[]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}"
      "{% endfor %}";
  const std::vector<std::string> sources = {
      "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
      "{% for i in range(99999) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}",
      "{% set q = [1] %}{% for x in q %}{% set _ = q.append(1) %}{% endfor %}",
      "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}"
      "{% endfor %}",
      "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
      "{% set q = [] %}{% set _ = q.append(q) %}{% for a in q recursive %}{{ loop(a) }}{% endfor "
      "%}",
      "{% set ns = namespace(g=[1]) %}{% for i in range(1000) %}{% set ns.g = ns.g|map('string') %}"
      "{% endfor %}{{ ns.g|list }}",
      "{{ 'a' * 10 ** 12 }}",
      "{{ [1] * 10 ** 12 }}",
      "{{ '%999999999999d' % 1 }}",
      "{{ '%.99999999f' % 1 }}",
      "{{ '{:>999999999999}'.format(1) }}",
      "{{ 'x'|center(999999999999) }}",
      "{{ 'x\\n'|indent(999999999999) }}",
      "{{ [1]|batch(10 ** 15, 'x')|list }}",
      "{{ [1]|slice(10 ** 15)|list }}",
      "{{ ('x' * 100000).replace('', 'y' * 100000) }}",
      "{{ ('x ' * 1000000).split() }}",
      "{{ range(100001) }}",
      "{{ 2 ** 1000 }}",
      deep_list + "{{ ns.x }}",
      deep_list + "{{ ns.x|tojson }}",
      deep_list +
          "{% set ns.y = [] %}{% for i in range(10000) %}{% set ns.y = [ns.y] %}"
          "{% endfor %}{{ ns.x == ns.y }}",
      wide_list + "{{ ns.x }}",
      wide_list + "{{ ns.x|tojson }}",
      "{% set q = [] %}{% set _ = q.append(q) %}{{ q|tojson }}",
      "{{ " + Times("(", 5000) + "1" + Times(")", 5000) + " }}",
      "{{ " + Times("not ", 50000) + "1 }}",
      "{{ 1" + Times("+1", 50000) + " }}",
      "{{ x" + Times(".a", 50000) + " }}",
      Times("{% if 1 %}", 50000),
  };
  for (const std::string& source : sources) {
    EXPECT_FALSE(Outcome(source, Tight()).ok()) << source.substr(0, 200);
  }
}

TEST(JinjaLimits, DeepValuesAndCyclesAreFreed) {
  EXPECT_TRUE(Outcome("{% set ns = namespace(x=[]) %}{% for i in range(90000) %}"
                      "{% set ns.x = [ns.x] %}{% endfor %}")
                  .ok());
  EXPECT_TRUE(Outcome("{% set q = [1] %}{% set d = {'q': q} %}{% set _ = q.append(d) %}"
                      "{% set ns = namespace(q=q) %}{% set ns.ns = ns %}{{ q }}")
                  .ok());
}

TEST(JinjaLimits, ErrorsNameTheirKindAndLine) {
  EXPECT_EQ(Outcome("a\n{{ x.y }}").message(), "line 2: 'x' is undefined");
  EXPECT_EQ(Outcome("a\n\n{{ 1 + }}").message(),
            "line 3: expected an expression, got end of print statement");
  EXPECT_EQ(Outcome("{{ raise_exception('no tools here') }}").message(), "line 1: no tools here");
  EXPECT_EQ(Outcome("\n{% include 'a' %}").message(),
            "line 2: the tag 'include' needs other templates, which a chat template does not have");
  EXPECT_EQ(Outcome("{{ 'a'|nosuch }}").message(), "line 1: no filter named 'nosuch'");
  EXPECT_EQ(Outcome("{{ [1]|join('a', 'b', 'c') }}").message(),
            "line 1: join takes at most 2 argument(s), got 3");
  ChatTemplateLimits limits;
  limits.max_output_bytes = 3;
  EXPECT_EQ(Outcome("abcd", limits).code(), StatusCode::kOutOfMemory);
  EXPECT_FALSE(ChatTemplate::Parse("\xff").ok());
  EXPECT_FALSE(ChatTemplate::Parse("a")->Render(Json::array()).ok());
}

TEST(JinjaLimits, OneTemplateRendersOnManyThreads) {
  const Result<ChatTemplate> parsed =
      ChatTemplate::Parse("{% for i in range(n) %}{{ loop.index ~ ',' }}{% endfor %}{{ 'x' * n }}");
  ASSERT_TRUE(parsed.ok());
  std::vector<std::string> outputs(4);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] { outputs[t] = parsed->Render(Json{{"n", t}}).value(); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(outputs[0], "");
  EXPECT_EQ(outputs[3], "1,2,3,xxx");
}

TEST(ChatTemplateTime, ParsesAndRefuses) {
  const std::tm time = ParseLocalTime("2026-01-02T03:04:05").value();
  EXPECT_EQ(time.tm_year, 126);
  EXPECT_EQ(time.tm_wday, 5);
  EXPECT_EQ(time.tm_yday, 1);
  for (const char* text : {"", "2026", "2026-13-01T00:00:00", "2026-02-30T00:00:00",
                           "2026-01-02T03:04:05Z", "2026-01-02T24:00:00"}) {
    EXPECT_FALSE(ParseLocalTime(text).ok()) << text;
  }
}

}  // namespace
}  // namespace ink
