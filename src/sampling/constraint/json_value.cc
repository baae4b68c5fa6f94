#include "sampling/constraint/json_value.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_set>

namespace ink::constraint {
namespace {

// Builds a JsonValue from nlohmann's events, which give the text of every non-integer number.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Builder(int max_depth) : max_depth_(max_depth) {}

  bool null() override { return Add(Make(JsonValue::Kind::kNull)); }
  bool boolean(bool v) override {
    return Add(Make(v ? JsonValue::Kind::kTrue : JsonValue::Kind::kFalse));
  }
  bool number_integer(number_integer_t v) override { return Number(std::to_string(v)); }
  bool number_unsigned(number_unsigned_t v) override { return Number(std::to_string(v)); }
  bool number_float(number_float_t, const string_t& s) override { return Number(s); }
  bool string(string_t& v) override {
    JsonValue value = Make(JsonValue::Kind::kString);
    value.text = std::move(v);
    return Add(std::move(value));
  }
  bool binary(binary_t&) override { return false; }
  bool start_object(size_t) override { return Open(JsonValue::Kind::kObject); }
  bool start_array(size_t) override { return Open(JsonValue::Kind::kArray); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }
  bool key(string_t& v) override {
    if (!keys_.back().insert(v).second) {
      error_ = "duplicate key " + QuoteJson(v);
      return false;
    }
    pending_keys_.back() = std::move(v);
    return true;
  }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    error_ = "malformed JSON at byte " + std::to_string(position);
    return false;
  }

  JsonValue root_;
  std::string error_;

 private:
  static JsonValue Make(JsonValue::Kind kind) {
    JsonValue v;
    v.kind = kind;
    return v;
  }
  bool Number(const std::string& text) {
    JsonValue v = Make(JsonValue::Kind::kNumber);
    v.number = Decimal::Parse(text);
    return Add(std::move(v));
  }
  bool Add(JsonValue v) {
    if (open_.empty()) {
      root_ = std::move(v);
    } else if (open_.back().IsArray()) {
      open_.back().items.push_back(std::move(v));
    } else {
      open_.back().members.emplace_back(std::move(pending_keys_.back()), std::move(v));
    }
    return true;
  }
  bool Open(JsonValue::Kind kind) {
    if (static_cast<int>(open_.size()) >= max_depth_) {
      error_ = "JSON nested deeper than " + std::to_string(max_depth_) + " levels";
      return false;
    }
    open_.push_back(Make(kind));
    keys_.emplace_back();
    pending_keys_.emplace_back();
    return true;
  }
  bool Close() {
    JsonValue v = std::move(open_.back());
    open_.pop_back();
    keys_.pop_back();
    pending_keys_.pop_back();
    return Add(std::move(v));
  }

  int max_depth_;
  std::vector<JsonValue> open_;
  std::vector<std::unordered_set<std::string>> keys_;
  std::vector<std::string> pending_keys_;
};

}  // namespace

const JsonValue* JsonValue::Find(std::string_view key) const {
  for (const auto& [name, value] : members) {
    if (name == key) return &value;
  }
  return nullptr;
}

bool JsonValue::operator==(const JsonValue& other) const {
  if (kind != other.kind) return false;
  switch (kind) {
    case Kind::kNumber:
      return number == other.number;
    case Kind::kString:
      return text == other.text;
    case Kind::kArray:
      return items == other.items;
    case Kind::kObject: {
      if (members.size() != other.members.size()) return false;
      std::vector<const JsonMember*> a, b;
      for (const auto& m : members) a.push_back(&m);
      for (const auto& m : other.members) b.push_back(&m);
      const auto by_key = [](const auto* x, const auto* y) { return x->first < y->first; };
      std::sort(a.begin(), a.end(), by_key);
      std::sort(b.begin(), b.end(), by_key);
      for (size_t i = 0; i < a.size(); ++i) {
        if (a[i]->first != b[i]->first || !(a[i]->second == b[i]->second)) return false;
      }
      return true;
    }
    default:
      return true;
  }
}

std::string JsonValue::ToString() const {
  switch (kind) {
    case Kind::kNull:
      return "null";
    case Kind::kFalse:
      return "false";
    case Kind::kTrue:
      return "true";
    case Kind::kNumber:
      return number.ToString();
    case Kind::kString:
      return QuoteJson(text);
    case Kind::kArray: {
      std::string out = "[";
      for (size_t i = 0; i < items.size(); ++i) out += (i ? "," : "") + items[i].ToString();
      return out + "]";
    }
    case Kind::kObject: {
      std::string out = "{";
      for (size_t i = 0; i < members.size(); ++i) {
        out += (i ? "," : "") + QuoteJson(members[i].first) + ":" + members[i].second.ToString();
      }
      return out + "}";
    }
  }
  return "";
}

Result<JsonValue> ParseJson(std::string_view text, int max_depth) {
  Builder builder(max_depth);
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &builder)) {
    return InvalidArgument(builder.error_.empty() ? "malformed JSON" : builder.error_);
  }
  return std::move(builder.root_);
}

std::string QuoteJson(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += "\\u00";
          out += kHex[static_cast<unsigned char>(c) >> 4];
          out += kHex[c & 15];
        } else {
          out += c;
        }
    }
  }
  return out + "\"";
}

}  // namespace ink::constraint
