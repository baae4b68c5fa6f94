// Random schemas and values: the automaton accepts exactly what a plain validator finds valid, and
// everything it generates is valid.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "constraint/harness.h"
#include "constraint/validator.h"

namespace ink {
namespace {

using Json = nlohmann::json;
using constraint_testing::RandomText;
using constraint_testing::SmallVocabulary;
using constraint_testing::Validator;

class Generator {
 public:
  explicit Generator(Rng& rng) : rng_(rng) {}

  Json Schema(int depth) {
    if (depth <= 0 || Chance(8)) return Leaf();
    Json s = Json::object();
    const int keywords = 1 + static_cast<int>(rng_.Below(3));
    for (int i = 0; i < keywords; ++i) AddKeyword(s, depth);
    return s;
  }

  Json Value(int depth) {
    switch (rng_.Below(depth > 0 ? 8 : 5)) {
      case 0:
        return nullptr;
      case 1:
        return Chance(2);
      case 2:
      case 3:
        return Number();
      case 4:
        return Text();
      case 5: {
        Json a = Json::array();
        for (uint64_t n = rng_.Below(4); n > 0; --n) a.push_back(Value(depth - 1));
        return a;
      }
      default: {
        Json o = Json::object();
        for (uint64_t n = rng_.Below(4); n > 0; --n) o[Name()] = Value(depth - 1);
        return o;
      }
    }
  }

 private:
  bool Chance(uint64_t n) { return rng_.Below(n) == 0; }
  template <typename T>
  T Pick(std::initializer_list<T> list) {
    return *(list.begin() + rng_.Below(list.size()));
  }
  Json Number() {
    return Chance(3) ? Json(static_cast<double>(rng_.Below(13)) / 2 - 2)
                     : Json(static_cast<int>(rng_.Below(9)) - 2);
  }
  std::string Text() { return Pick<const char*>({"", "a", "b", "ab", "foo", "aé", "x y", "bar"}); }
  std::string Name() { return Pick<const char*>({"a", "b", "ab", "foo", "c"}); }
  const char* Pattern() { return Pick<const char*>({"^a", "b$", "^[ab]*$", "o", "^[^x]{2,3}$"}); }

  Json Leaf() {
    switch (rng_.Below(8)) {
      case 0:
        return true;
      case 1:
        return Json{{"const", Value(1)}};
      case 2:
        return Json{{"enum", {Value(1), Value(0), Value(0)}}};
      case 3:
        return Json{{"$ref", Pick<const char*>({"#/$defs/x", "#/$defs/y", "#"})}};
      case 4:
        return Chance(3) ? Json(false) : Json{{"minimum", Number()}};
      default:
        return Json{{"type", Pick<const char*>({"null", "boolean", "integer", "number", "string",
                                                "array", "object"})}};
    }
  }

  Json List(int depth) {
    Json list = Json::array();
    for (uint64_t n = 1 + rng_.Below(3); n > 0; --n) list.push_back(Schema(depth - 1));
    return list;
  }
  Json Map(int depth, bool patterns) {
    Json map = Json::object();
    for (uint64_t n = 1 + rng_.Below(3); n > 0; --n) {
      map[patterns ? Pattern() : Name()] = Schema(depth - 1);
    }
    return map;
  }

  void AddKeyword(Json& s, int depth) {
    switch (rng_.Below(32)) {
      case 0:
        s["type"] = {"object", "array"};
        break;
      case 1:
        s["type"] = Pick<const char*>({"integer", "number", "string", "array", "object"});
        break;
      case 2:
        s["minimum"] = Number();
        break;
      case 3:
        s["exclusiveMaximum"] = Number();
        break;
      case 4:
        s["multipleOf"] = Pick<double>({1, 2, 0.5, 3});
        break;
      case 5:
        s["minLength"] = rng_.Below(3);
        break;
      case 6:
        s["maxLength"] = rng_.Below(4);
        break;
      case 7:
        s["pattern"] = Pattern();
        break;
      case 8:
      case 9:
        s["properties"] = Map(depth, false);
        break;
      case 10:
        s["patternProperties"] = Map(depth, true);
        break;
      case 11:
        s["additionalProperties"] = Schema(depth - 1);
        break;
      case 12:
      case 13:
        s["required"] = Chance(2) ? Json{Name()} : Json{"a", "b"};
        break;
      case 14:
        s["propertyNames"] = Chance(2) ? Json{{"pattern", Pattern()}} : Json{{"maxLength", 1}};
        break;
      case 15:
        s["minProperties"] = rng_.Below(3);
        break;
      case 16:
        s["maxProperties"] = rng_.Below(3);
        break;
      case 17:
        s["items"] = Schema(depth - 1);
        break;
      case 18:
        s["prefixItems"] = List(depth);
        break;
      case 19:
        s["contains"] = Schema(depth - 1);
        if (Chance(2)) s["minContains"] = rng_.Below(3);
        if (Chance(2)) s["maxContains"] = rng_.Below(3);
        break;
      case 20:
        s["minItems"] = rng_.Below(3);
        break;
      case 21:
        s["maxItems"] = rng_.Below(4);
        break;
      case 22:
        s["uniqueItems"] = true;
        break;
      case 23:
        s["allOf"] = List(depth);
        break;
      case 24:
        s["anyOf"] = List(depth);
        break;
      case 25:
        s["oneOf"] = List(depth);
        break;
      case 26:
        s["not"] = Schema(depth - 1);
        break;
      case 27:
        s["if"] = Schema(depth - 1);
        if (!Chance(3)) s["then"] = Schema(depth - 1);
        if (!Chance(3)) s["else"] = Schema(depth - 1);
        break;
      case 28:
        s["dependentRequired"] = {{Name(), {Name()}}};
        break;
      case 29:
        s["dependentSchemas"] = {{Name(), Schema(depth - 1)}};
        break;
      case 30:
        s["unevaluatedProperties"] = Chance(2) ? Json(false) : Schema(depth - 1);
        break;
      default:
        s["unevaluatedItems"] = Chance(2) ? Json(false) : Schema(depth - 1);
    }
  }

  Rng& rng_;
};

// Doubles decide what the plain validator sees: texts whose numbers they do not hold say nothing.
bool HoldsInDoubles(const std::string& text) {
  size_t digits = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    digits = text[i] >= '0' && text[i] <= '9' ? digits + 1 : 0;
    if (digits > 14) return false;
    if ((text[i] == 'e' || text[i] == 'E') && i > 0 && text[i - 1] >= '0' && text[i - 1] <= '9') {
      return false;
    }
  }
  return true;
}

TEST(RandomSchema, AcceptsWhatIsValid) {
  const auto vocabulary = SmallVocabulary();
  int compiled_schemas = 0, impossible = 0, refused = 0, valid_values = 0, generated = 0;
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    Rng rng(seed, 5);
    Generator generator(rng);
    Json schema = generator.Schema(3);
    if (!schema.is_object()) continue;
    schema["$defs"] = {{"x", generator.Schema(1)}, {"y", generator.Schema(2)}};
    SCOPED_TRACE(schema.dump());
    const auto compiled =
        CompiledConstraint::Compile(ConstraintSpec::JsonSchema(schema.dump()), {}, vocabulary);
    Validator validator(schema);
    if (!compiled.ok()) {
      const std::string message = compiled.status().message();
      ASSERT_EQ(compiled.status().code(), StatusCode::kUnsupported) << message;
      if (message.find("no value can satisfy") == std::string::npos) {
        ++refused;
        continue;
      }
      ++impossible;
      for (int i = 0; i < 40; ++i) {
        const Json value = generator.Value(3);
        ASSERT_FALSE(validator.Valid(value) && !validator.endless()) << value.dump();
      }
      continue;
    }
    ++compiled_schemas;
    for (int i = 0; i < 40; ++i) {
      const Json value = generator.Value(3);
      const bool valid = validator.Valid(value);
      if (validator.endless()) break;
      valid_values += valid;
      ConstraintState state(*compiled);
      size_t accepted = 0;
      const bool accepts = state.Advance(value.dump(), &accepted) && state.IsAccepting();
      ASSERT_EQ(accepts, valid) << value.dump() << " offset " << accepted;
    }
    for (int i = 0; i < 2; ++i) {
      const std::string text = RandomText(*compiled, rng, 15, seed % 8 == 0 ? 5 : 0);
      if (HasFatalFailure() || HasNonfatalFailure()) return;
      const Json value = Json::parse(text, nullptr, false);
      ASSERT_FALSE(value.is_discarded()) << text;
      if (!HoldsInDoubles(text)) continue;
      ++generated;
      ASSERT_TRUE(validator.Valid(value) || validator.endless()) << text;
    }
  }
  std::cout << compiled_schemas << " schemas enforced, " << impossible << " impossible, " << refused
            << " refused; " << valid_values << " valid values, " << generated << " generated\n";
  EXPECT_GT(compiled_schemas, 1000);
  EXPECT_GT(valid_values, 5000);
  EXPECT_LT(refused, (compiled_schemas + impossible) / 10);
}

}  // namespace
}  // namespace ink
