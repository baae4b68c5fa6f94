// Small templates with the output that Jinja2 3.1 gives (tests/text/jinja_cases.jsonl: the context,
// then [template, output] or, where rendering is an error, [template]), and the published templates
// of the shared goldens.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "support/shared.h"
#include "text/chat_template.h"

namespace ink {
namespace {

using Json = nlohmann::ordered_json;
using testing_support::Shared;

ChatTemplateOptions FixedClock() {
  ChatTemplateOptions options;
  options.now = ParseLocalTime("2026-01-02T03:04:05").value();
  return options;
}

Result<std::string> RenderText(const std::string& source, const Json& context) {
  const Result<ChatTemplate> parsed = ChatTemplate::Parse(source);
  if (!parsed.ok()) return parsed.status();
  return parsed->Render(context, FixedClock());
}

TEST(JinjaCases, GiveTheOutputOfJinja2) {
  std::ifstream file(INK_SOURCE_DIR "/tests/text/jinja_cases.jsonl");
  std::string line;
  ASSERT_TRUE(std::getline(file, line));
  const Json context = Json::parse(line);
  int cases = 0;
  while (std::getline(file, line)) {
    const Json row = Json::parse(line);
    const Result<std::string> text = RenderText(row[0].get<std::string>(), context);
    if (row.size() == 1) {
      EXPECT_FALSE(text.ok()) << row[0] << "\nis an error, but gave: " << *text;
    } else {
      ASSERT_TRUE(text.ok()) << row[0] << "\n" << text.status().message();
      EXPECT_EQ(*text, row[1].get<std::string>()) << row[0];
    }
    ++cases;
  }
  EXPECT_GT(cases, 1000);
}

TEST(JinjaGoldens, PublishedTemplatesGiveTheirExpectedText) {
  INK_NEEDS_SHARED();
  std::ifstream file(Shared("goldens/templates/expected.jsonl"));
  ASSERT_TRUE(file.good());
  std::map<std::string, Result<ChatTemplate>> templates;
  std::string line;
  int cases = 0;
  while (std::getline(file, line)) {
    const Json row = Json::parse(line);
    const std::string name = row["template"];
    auto place = templates.find(name);
    if (place == templates.end()) {
      std::ifstream source(Shared("goldens/templates/" + name), std::ios::binary);
      std::stringstream text;
      text << source.rdbuf();
      place = templates.emplace(name, ChatTemplate::Parse(text.str())).first;
      ASSERT_TRUE(place->second.ok()) << name << ": " << place->second.status().message();
    }
    const Result<std::string> text = place->second->Render(row["context"], FixedClock());
    if (row.contains("error")) {
      ASSERT_FALSE(text.ok()) << name << " " << row["case"];
      EXPECT_NE(text.status().message().find(row["error"].get<std::string>()), std::string::npos)
          << text.status().message();
    } else {
      ASSERT_TRUE(text.ok()) << name << " " << row["case"] << ": " << text.status().message();
      EXPECT_EQ(*text, row["output"].get<std::string>()) << name << " " << row["case"];
    }
    ++cases;
  }
  EXPECT_GT(cases, 200);
}

}  // namespace
}  // namespace ink
