// JSON-Schema-Test-Suite, draft 2020-12: each test is decided rightly, or its schema is refused by
// name before any text is looked at.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "sampling/constraint/constraint.h"
#include "support/shared.h"

namespace ink {
namespace {

using Json = nlohmann::ordered_json;

// Upper-case hexadecimal escapes for every character of every string, blanks everywhere.
std::string Escaped(const std::string& compact) {
  std::string out;
  bool inside = false;
  for (size_t i = 0; i < compact.size(); ++i) {
    const char c = compact[i];
    if (inside && c == '\\') {
      out += compact.substr(i, compact[i + 1] == 'u' ? 6 : 2);
      i += compact[i + 1] == 'u' ? 5 : 1;
    } else if (c == '"') {
      inside = !inside;
      out += c;
    } else if (inside) {
      char hex[8];
      snprintf(hex, sizeof(hex), "\\u%04X", static_cast<unsigned>(c));
      out += hex;
    } else {
      out += c;
      if (c == ',' || c == ':' || c == '{' || c == '[') out += "\r\n \t";
    }
  }
  return " " + out + "\n";
}

TEST(JsonSchemaSuite, DecidedOrRefused) {
  INK_NEEDS_SHARED();
  int decided = 0, refused = 0, wrong = 0, groups = 0, groups_refused = 0;
  std::map<std::string, int> reasons;
  std::set<std::filesystem::path> files;
  for (const auto& entry :
       std::filesystem::directory_iterator(testing_support::Shared("goldens/jsonschema"))) {
    if (entry.path().extension() == ".json") files.insert(entry.path());
  }
  ASSERT_FALSE(files.empty());
  for (const auto& path : files) {
    std::ifstream in(path);
    for (const Json& group : Json::parse(in)) {
      ++groups;
      const std::string name =
          path.stem().string() + ": " + group["description"].get<std::string>();
      const auto compiled =
          CompiledConstraint::Compile(ConstraintSpec::JsonSchema(group["schema"].dump()));
      if (!compiled.ok()) {
        refused += static_cast<int>(group["tests"].size());
        ++groups_refused;
        EXPECT_NE(compiled.status().message().find(':'), std::string::npos);
        if (getenv("INK_SUITE_VERBOSE")) {
          std::cout << name << " | " << compiled.status().message() << "\n";
        }
        continue;
      }
      for (const Json& test : group["tests"]) {
        const bool valid = test["valid"].get<bool>();
        const std::string texts[] = {test["data"].dump(), test["data"].dump(3),
                                     test["data"].dump(-1, ' ', true),
                                     Escaped(test["data"].dump(-1, ' ', true))};
        bool right = true;
        for (const std::string& text : texts) {
          ConstraintState state(*compiled);
          size_t accepted = 0;
          const bool all = state.Advance(text, &accepted);
          const bool accepts = all && state.IsAccepting();
          right = right && accepts == valid;
          EXPECT_EQ(accepts, valid) << name << " / " << test["description"] << "\n"
                                    << text << "\noffset " << accepted;
        }
        ++(right ? decided : wrong);
      }
    }
  }
  std::cout << "tests decided " << decided << ", refused " << refused << ", wrong " << wrong
            << "; groups " << groups - groups_refused << " of " << groups << "\n";
  EXPECT_EQ(wrong, 0);
  EXPECT_GE(decided, 1180);
}

}  // namespace
}  // namespace ink
