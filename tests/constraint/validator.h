// A plain JSON Schema validator (draft 2020-12, no remote references): recursive, on whole values,
// written from the specification's sections without regard to how the automaton works.
#pragma once

#include <cmath>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <string>

namespace ink::constraint_testing {

class Validator {
 public:
  using Json = nlohmann::json;
  explicit Validator(const Json& root) : root_(root) {}

  bool Valid(const Json& value) {
    depth_ = 0;
    endless_ = false;
    return Check(root_, value).ok;
  }
  /// The last answer means nothing: references went round in a circle.
  bool endless() const { return endless_; }

 private:
  struct Outcome {
    bool ok = true;
    std::set<std::string> properties;  // evaluated
    std::set<size_t> items;
  };

  static size_t Characters(const std::string& s) {
    size_t n = 0;
    for (char c : s) n += (c & 0xC0) != 0x80;
    return n;
  }
  // By characters, not bytes.
  static std::wstring Wide(const std::string& s) {
    std::wstring out;
    for (size_t i = 0; i < s.size();) {
      const auto lead = static_cast<unsigned char>(s[i]);
      const int more = lead < 0x80 ? 0 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
      wchar_t c = more == 0 ? lead : lead & (0x3F >> more);
      for (int k = 1; k <= more; ++k) c = c << 6 | (s[i + static_cast<size_t>(k)] & 0x3F);
      out += c;
      i += static_cast<size_t>(more) + 1;
    }
    return out;
  }
  static bool Matches(const std::string& pattern, const std::string& text) {
    return std::regex_search(Wide(text), std::wregex(Wide(pattern)));
  }
  // Numbers compare by value, whatever their C++ type.
  static bool Equal(const Json& a, const Json& b) {
    if (a.is_number() && b.is_number()) return a.get<double>() == b.get<double>();
    if (a.type() != b.type()) return false;
    if (a.is_array()) {
      if (a.size() != b.size()) return false;
      for (size_t i = 0; i < a.size(); ++i) {
        if (!Equal(a[i], b[i])) return false;
      }
      return true;
    }
    if (a.is_object()) {
      if (a.size() != b.size()) return false;
      for (auto it = a.begin(); it != a.end(); ++it) {
        if (!b.contains(it.key()) || !Equal(it.value(), b[it.key()])) return false;
      }
      return true;
    }
    return a == b;
  }
  static bool IsType(const std::string& type, const Json& v) {
    if (type == "null") return v.is_null();
    if (type == "boolean") return v.is_boolean();
    if (type == "string") return v.is_string();
    if (type == "array") return v.is_array();
    if (type == "object") return v.is_object();
    if (type == "number") return v.is_number();
    return v.is_number() && std::floor(v.get<double>()) == v.get<double>();
  }

  void Apply(const Json& schema, const Json& v, Outcome& out) {
    const Outcome o = Check(schema, v);
    out.ok = out.ok && o.ok;
    out.properties.insert(o.properties.begin(), o.properties.end());
    out.items.insert(o.items.begin(), o.items.end());
  }
  static void Note(const Outcome& o, Outcome& out) {
    out.properties.insert(o.properties.begin(), o.properties.end());
    out.items.insert(o.items.begin(), o.items.end());
  }

  Outcome Check(const Json& s, const Json& v) {
    Outcome out;
    if (depth_ > 100) {
      endless_ = true;
      return out;
    }
    ++depth_;
    out = CheckKeywords(s, v);
    --depth_;
    return out;
  }

  Outcome CheckKeywords(const Json& s, const Json& v) {
    Outcome out;
    if (s.is_boolean()) {
      out.ok = s.get<bool>();
      return out;
    }
    if (s.contains("$ref"))
      Apply(root_.at(Json::json_pointer(s["$ref"].get<std::string>().substr(1))), v, out);
    if (s.contains("type")) {
      bool any = false;
      if (s["type"].is_array()) {
        for (const auto& t : s["type"]) any = any || IsType(t, v);
      } else {
        any = IsType(s["type"], v);
      }
      out.ok = out.ok && any;
    }
    if (s.contains("const")) out.ok = out.ok && Equal(s["const"], v);
    if (s.contains("enum")) {
      bool any = false;
      for (const auto& e : s["enum"]) any = any || Equal(e, v);
      out.ok = out.ok && any;
    }
    if (v.is_number()) Number(s, v.get<double>(), out);
    if (v.is_string()) String(s, v.get<std::string>(), out);
    if (v.is_array()) Array(s, v, out);
    if (v.is_object()) Object(s, v, out);
    if (s.contains("allOf")) {
      for (const auto& sub : s["allOf"]) Apply(sub, v, out);
    }
    for (const char* keyword : {"anyOf", "oneOf"}) {
      if (!s.contains(keyword)) continue;
      int passed = 0;
      for (const auto& sub : s[keyword]) {
        const Outcome o = Check(sub, v);
        if (!o.ok) continue;
        ++passed;
        Note(o, out);
      }
      out.ok = out.ok && (keyword[0] == 'a' ? passed > 0 : passed == 1);
    }
    if (s.contains("not")) out.ok = out.ok && !Check(s["not"], v).ok;
    if (s.contains("if")) {
      const Outcome o = Check(s["if"], v);
      if (o.ok) {
        Note(o, out);
        if (s.contains("then")) Apply(s["then"], v, out);
      } else if (s.contains("else")) {
        Apply(s["else"], v, out);
      }
    }
    if (v.is_object() && s.contains("unevaluatedProperties")) {
      for (auto it = v.begin(); it != v.end(); ++it) {
        if (out.properties.contains(it.key())) continue;
        out.ok = Check(s["unevaluatedProperties"], it.value()).ok && out.ok;
        out.properties.insert(it.key());
      }
    }
    if (v.is_array() && s.contains("unevaluatedItems")) {
      for (size_t i = 0; i < v.size(); ++i) {
        if (out.items.contains(i)) continue;
        out.ok = Check(s["unevaluatedItems"], v[i]).ok && out.ok;
        out.items.insert(i);
      }
    }
    // A schema that fails leaves no annotations.
    if (!out.ok) {
      out.properties.clear();
      out.items.clear();
    }
    return out;
  }

  static void Number(const Json& s, double x, Outcome& out) {
    if (s.contains("minimum")) out.ok = out.ok && x >= s["minimum"].get<double>();
    if (s.contains("maximum")) out.ok = out.ok && x <= s["maximum"].get<double>();
    if (s.contains("exclusiveMinimum")) out.ok = out.ok && x > s["exclusiveMinimum"].get<double>();
    if (s.contains("exclusiveMaximum")) out.ok = out.ok && x < s["exclusiveMaximum"].get<double>();
    if (s.contains("multipleOf")) {
      out.ok = out.ok && std::fmod(x, s["multipleOf"].get<double>()) == 0;
    }
  }
  static void String(const Json& s, const std::string& x, Outcome& out) {
    if (s.contains("minLength")) out.ok = out.ok && Characters(x) >= s["minLength"].get<size_t>();
    if (s.contains("maxLength")) out.ok = out.ok && Characters(x) <= s["maxLength"].get<size_t>();
    if (s.contains("pattern")) out.ok = out.ok && Matches(s["pattern"], x);
  }
  void Array(const Json& s, const Json& v, Outcome& out) {
    const size_t n = v.size();
    if (s.contains("minItems")) out.ok = out.ok && n >= s["minItems"].get<size_t>();
    if (s.contains("maxItems")) out.ok = out.ok && n <= s["maxItems"].get<size_t>();
    if (s.value("uniqueItems", false)) {
      for (size_t i = 0; i < n; ++i) {
        for (size_t j = i + 1; j < n; ++j) out.ok = out.ok && !Equal(v[i], v[j]);
      }
    }
    const size_t prefix = s.contains("prefixItems") ? s["prefixItems"].size() : 0;
    for (size_t i = 0; i < n; ++i) {
      if (i < prefix) {
        out.ok = Check(s["prefixItems"][i], v[i]).ok && out.ok;
        out.items.insert(i);
      } else if (s.contains("items")) {
        out.ok = Check(s["items"], v[i]).ok && out.ok;
        out.items.insert(i);
      }
    }
    if (s.contains("contains")) {
      size_t count = 0;
      for (size_t i = 0; i < n; ++i) {
        if (!Check(s["contains"], v[i]).ok) continue;
        ++count;
        out.items.insert(i);
      }
      out.ok = out.ok && count >= s.value("minContains", size_t{1});
      if (s.contains("maxContains")) out.ok = out.ok && count <= s["maxContains"].get<size_t>();
    }
  }
  void Object(const Json& s, const Json& v, Outcome& out) {
    if (s.contains("required")) {
      for (const auto& name : s["required"]) out.ok = out.ok && v.contains(name.get<std::string>());
    }
    if (s.contains("minProperties")) {
      out.ok = out.ok && v.size() >= s["minProperties"].get<size_t>();
    }
    if (s.contains("maxProperties")) {
      out.ok = out.ok && v.size() <= s["maxProperties"].get<size_t>();
    }
    if (s.contains("dependentRequired")) {
      for (auto it = s["dependentRequired"].begin(); it != s["dependentRequired"].end(); ++it) {
        if (!v.contains(it.key())) continue;
        for (const auto& name : it.value()) {
          out.ok = out.ok && v.contains(name.get<std::string>());
        }
      }
    }
    if (s.contains("dependentSchemas")) {
      for (auto it = s["dependentSchemas"].begin(); it != s["dependentSchemas"].end(); ++it) {
        if (v.contains(it.key())) Apply(it.value(), v, out);
      }
    }
    for (auto it = v.begin(); it != v.end(); ++it) {
      bool named = false;
      if (s.contains("properties") && s["properties"].contains(it.key())) {
        named = true;
        out.ok = Check(s["properties"][it.key()], it.value()).ok && out.ok;
      }
      if (s.contains("patternProperties")) {
        for (auto p = s["patternProperties"].begin(); p != s["patternProperties"].end(); ++p) {
          if (!Matches(p.key(), it.key())) continue;
          named = true;
          out.ok = Check(p.value(), it.value()).ok && out.ok;
        }
      }
      if (!named && s.contains("additionalProperties")) {
        named = true;
        out.ok = Check(s["additionalProperties"], it.value()).ok && out.ok;
      }
      if (named) out.properties.insert(it.key());
      if (s.contains("propertyNames")) {
        out.ok = Check(s["propertyNames"], Json(it.key())).ok && out.ok;
      }
    }
  }

  const Json& root_;
  int depth_ = 0;
  bool endless_ = false;
};

}  // namespace ink::constraint_testing
