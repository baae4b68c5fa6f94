#include "formats/metadata.h"

#include <bit>
#include <cstdio>
#include <cstring>
#include <limits>

#include "formats/quote.h"

namespace ink {
namespace {

static_assert(std::endian::native == std::endian::little, "values are read in place");

template <typename T>
T Load(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

template <typename T>
std::string Bytes(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(T));
}

template <typename T>
std::string Bytes(std::span<const T> values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size_bytes());
}

// An integer of any GGUF type: the sign apart, so that u64 fits.
struct Integer {
  bool negative;
  uint64_t bits;  // two's complement when negative
};

Integer LoadInteger(MetadataType type, const char* at) {
  int64_t value = 0;
  switch (type) {
    case MetadataType::kU8:
      value = Load<uint8_t>(at);
      break;
    case MetadataType::kI8:
      value = Load<int8_t>(at);
      break;
    case MetadataType::kU16:
      value = Load<uint16_t>(at);
      break;
    case MetadataType::kI16:
      value = Load<int16_t>(at);
      break;
    case MetadataType::kU32:
      value = Load<uint32_t>(at);
      break;
    case MetadataType::kI32:
      value = Load<int32_t>(at);
      break;
    case MetadataType::kU64:
      return {false, Load<uint64_t>(at)};
    case MetadataType::kI64:
      value = Load<int64_t>(at);
      break;
    default:
      INK_CHECK(false);
  }
  return {value < 0, static_cast<uint64_t>(value)};
}

std::string ToText(Integer value) {
  return value.negative ? std::to_string(static_cast<int64_t>(value.bits))
                        : std::to_string(value.bits);
}

double LoadFloat(MetadataType type, const char* at) {
  return type == MetadataType::kF32 ? static_cast<double>(Load<float>(at)) : Load<double>(at);
}

std::string EncodeStrings(auto values) {
  std::string out;
  for (const auto& value : values) {
    out += Bytes(static_cast<uint64_t>(value.size()));
    out += value;
  }
  return out;
}

MetadataValue ArrayOf(MetadataType element, size_t count) {
  return {.type = MetadataType::kArray, .element_type = element, .count = count};
}

}  // namespace

std::string_view MetadataTypeName(MetadataType type) {
  switch (type) {
    case MetadataType::kU8:
      return "u8";
    case MetadataType::kI8:
      return "i8";
    case MetadataType::kU16:
      return "u16";
    case MetadataType::kI16:
      return "i16";
    case MetadataType::kU32:
      return "u32";
    case MetadataType::kI32:
      return "i32";
    case MetadataType::kF32:
      return "f32";
    case MetadataType::kBool:
      return "bool";
    case MetadataType::kString:
      return "string";
    case MetadataType::kArray:
      return "array";
    case MetadataType::kU64:
      return "u64";
    case MetadataType::kI64:
      return "i64";
    case MetadataType::kF64:
      return "f64";
  }
  return "unknown";
}

int MetadataTypeBytes(MetadataType type) {
  switch (type) {
    case MetadataType::kU8:
    case MetadataType::kI8:
    case MetadataType::kBool:
      return 1;
    case MetadataType::kU16:
    case MetadataType::kI16:
      return 2;
    case MetadataType::kU32:
    case MetadataType::kI32:
    case MetadataType::kF32:
      return 4;
    case MetadataType::kU64:
    case MetadataType::kI64:
    case MetadataType::kF64:
      return 8;
    case MetadataType::kString:
    case MetadataType::kArray:
      return 0;
  }
  return 0;
}

bool IsInteger(MetadataType type) {
  return MetadataTypeBytes(type) > 0 && type != MetadataType::kBool && !IsFloat(type);
}

bool IsFloat(MetadataType type) { return type == MetadataType::kF32 || type == MetadataType::kF64; }

size_t StringArray::Iterator::Length() const { return static_cast<size_t>(Load<uint64_t>(at_)); }

std::vector<std::string_view> StringArray::ToVector() const {
  std::vector<std::string_view> out;
  out.reserve(size_);
  for (std::string_view text : *this) out.push_back(text);
  return out;
}

int64_t NumberArray::Int(size_t i) const {
  INK_CHECK_LT(i, size_);
  const char* at = encoded_.data() + i * static_cast<size_t>(MetadataTypeBytes(type_));
  if (type_ == MetadataType::kBool) return Load<uint8_t>(at) != 0;
  if (IsFloat(type_)) return static_cast<int64_t>(LoadFloat(type_, at));
  return static_cast<int64_t>(LoadInteger(type_, at).bits);
}

double NumberArray::Float(size_t i) const {
  INK_CHECK_LT(i, size_);
  const char* at = encoded_.data() + i * static_cast<size_t>(MetadataTypeBytes(type_));
  return IsFloat(type_) ? LoadFloat(type_, at) : static_cast<double>(Int(i));
}

std::string MetadataValue::ToString() const {
  if (type == MetadataType::kString) return Quoted(encoded);
  if (type == MetadataType::kArray) {
    std::string out = "[";
    out += MetadataTypeName(element_type);
    return out + " x " + std::to_string(count) + "]";
  }
  if (type == MetadataType::kBool) return Load<uint8_t>(encoded.data()) != 0 ? "true" : "false";
  if (IsFloat(type)) {
    char text[40];
    std::snprintf(text, sizeof(text), "%.9g", LoadFloat(type, encoded.data()));
    return text;
  }
  return ToText(LoadInteger(type, encoded.data()));
}

Status Metadata::Absent(std::string_view key, std::string_view expected) const {
  return NotFound(::ink::Mismatch(source_, "metadata key " + Quoted(key), expected, "no such key"));
}

Status Metadata::Mismatch(std::string_view key, std::string_view expected,
                          const MetadataValue& actual) const {
  std::string found(MetadataTypeName(actual.type));
  found += ' ';
  found += actual.ToString();
  return Corrupt(::ink::Mismatch(source_, "metadata key " + Quoted(key), expected, found));
}

const MetadataValue* Metadata::Find(std::string_view key) const {
  auto it = index_.find(key);
  return it == index_.end() ? nullptr : &entries_[it->second].value;
}

Result<uint64_t> Metadata::GetU64(std::string_view key) const {
  constexpr std::string_view kExpected = "an integer of 0 or more";
  const MetadataValue* value = Find(key);
  if (value == nullptr) return Absent(key, kExpected);
  if (!IsInteger(value->type)) return Mismatch(key, kExpected, *value);
  Integer integer = LoadInteger(value->type, value->encoded.data());
  if (integer.negative) return Mismatch(key, kExpected, *value);
  return integer.bits;
}

Result<uint32_t> Metadata::GetU32(std::string_view key) const {
  INK_ASSIGN_OR_RETURN(uint64_t value, GetU64(key));
  if (value > std::numeric_limits<uint32_t>::max()) {
    return Mismatch(key, "an integer below 2^32", *Find(key));
  }
  return static_cast<uint32_t>(value);
}

Result<int64_t> Metadata::GetI64(std::string_view key) const {
  constexpr std::string_view kExpected = "a signed integer of 64 bits";
  const MetadataValue* value = Find(key);
  if (value == nullptr) return Absent(key, kExpected);
  if (!IsInteger(value->type)) return Mismatch(key, kExpected, *value);
  Integer integer = LoadInteger(value->type, value->encoded.data());
  if (!integer.negative && integer.bits > uint64_t{std::numeric_limits<int64_t>::max()}) {
    return Mismatch(key, kExpected, *value);
  }
  return static_cast<int64_t>(integer.bits);
}

Result<float> Metadata::GetFloat(std::string_view key) const {
  constexpr std::string_view kExpected = "a number";
  const MetadataValue* value = Find(key);
  if (value == nullptr) return Absent(key, kExpected);
  if (IsFloat(value->type)) {
    return static_cast<float>(LoadFloat(value->type, value->encoded.data()));
  }
  if (!IsInteger(value->type)) return Mismatch(key, kExpected, *value);
  Integer integer = LoadInteger(value->type, value->encoded.data());
  return integer.negative ? static_cast<float>(static_cast<int64_t>(integer.bits))
                          : static_cast<float>(integer.bits);
}

Result<bool> Metadata::GetBool(std::string_view key) const {
  const MetadataValue* value = Find(key);
  if (value == nullptr) return Absent(key, "a bool");
  if (value->type != MetadataType::kBool) return Mismatch(key, "a bool", *value);
  return Load<uint8_t>(value->encoded.data()) != 0;
}

Result<std::string_view> Metadata::GetString(std::string_view key) const {
  const MetadataValue* value = Find(key);
  if (value == nullptr) return Absent(key, "a string");
  if (value->type != MetadataType::kString) return Mismatch(key, "a string", *value);
  return value->encoded;
}

Result<uint32_t> Metadata::GetU32(std::string_view key, uint32_t fallback) const {
  return Has(key) ? GetU32(key) : Result<uint32_t>(fallback);
}
Result<uint64_t> Metadata::GetU64(std::string_view key, uint64_t fallback) const {
  return Has(key) ? GetU64(key) : Result<uint64_t>(fallback);
}
Result<int64_t> Metadata::GetI64(std::string_view key, int64_t fallback) const {
  return Has(key) ? GetI64(key) : Result<int64_t>(fallback);
}
Result<float> Metadata::GetFloat(std::string_view key, float fallback) const {
  return Has(key) ? GetFloat(key) : Result<float>(fallback);
}
Result<bool> Metadata::GetBool(std::string_view key, bool fallback) const {
  return Has(key) ? GetBool(key) : Result<bool>(fallback);
}
Result<std::string_view> Metadata::GetString(std::string_view key,
                                             std::string_view fallback) const {
  return Has(key) ? GetString(key) : Result<std::string_view>(fallback);
}

Result<StringArray> Metadata::GetStrings(std::string_view key) const {
  constexpr std::string_view kExpected = "an array of strings";
  const MetadataValue* value = Find(key);
  if (value == nullptr) return Absent(key, kExpected);
  if (value->type != MetadataType::kArray || value->element_type != MetadataType::kString) {
    return Mismatch(key, kExpected, *value);
  }
  return StringArray(value->count, value->encoded);
}

Result<NumberArray> Metadata::GetInts(std::string_view key) const {
  constexpr std::string_view kExpected = "an array of integers below 2^63";
  const MetadataValue* value = Find(key);
  if (value == nullptr) return Absent(key, kExpected);
  if (value->type != MetadataType::kArray || !IsInteger(value->element_type)) {
    return Mismatch(key, kExpected, *value);
  }
  if (value->element_type == MetadataType::kU64) {
    for (size_t i = 0; i < value->count; ++i) {
      if (Load<uint64_t>(value->encoded.data() + i * 8) >> 63 != 0) {
        return Mismatch(key, kExpected, *value);
      }
    }
  }
  return NumberArray(value->element_type, value->count, value->encoded);
}

Result<NumberArray> Metadata::GetFloats(std::string_view key) const {
  constexpr std::string_view kExpected = "an array of f32 or f64";
  const MetadataValue* value = Find(key);
  if (value == nullptr) return Absent(key, kExpected);
  if (value->type != MetadataType::kArray || !IsFloat(value->element_type)) {
    return Mismatch(key, kExpected, *value);
  }
  return NumberArray(value->element_type, value->count, value->encoded);
}

Result<std::vector<uint32_t>> Metadata::GetU32PerLayer(std::string_view key, size_t count) const {
  const MetadataValue* found = Find(key);
  if (found == nullptr || found->type != MetadataType::kArray) {
    INK_ASSIGN_OR_RETURN(uint32_t value, GetU32(key));
    return std::vector<uint32_t>(count, value);
  }
  INK_ASSIGN_OR_RETURN(NumberArray values, GetInts(key));
  const std::string expected = "an integer below 2^32, or " + std::to_string(count) + " of them";
  if (values.size() < count) return Mismatch(key, expected, *found);
  std::vector<uint32_t> out(count);
  for (size_t i = 0; i < count; ++i) {
    const int64_t value = values.Int(i);
    if (value < 0 || value > int64_t{std::numeric_limits<uint32_t>::max()}) {
      return Mismatch(key, expected, *found);
    }
    out[i] = static_cast<uint32_t>(value);
  }
  return out;
}

bool Metadata::AppendView(std::string_view key, const MetadataValue& value) {
  if (!index_.emplace(key, entries_.size()).second) return false;
  entries_.push_back({key, value});
  return true;
}

void Metadata::Put(std::string_view key, MetadataValue value, std::string encoded) {
  owned_.push_back(std::move(encoded));
  value.encoded = owned_.back();
  auto it = index_.find(key);
  if (it != index_.end()) {
    entries_[it->second].value = value;
    return;
  }
  owned_.emplace_back(key);
  INK_CHECK(AppendView(owned_.back(), value));
}

void Metadata::SetU8(std::string_view key, uint8_t value) {
  Put(key, {.type = MetadataType::kU8, .element_type = MetadataType::kU8}, Bytes(value));
}
void Metadata::SetI8(std::string_view key, int8_t value) {
  Put(key, {.type = MetadataType::kI8, .element_type = MetadataType::kI8}, Bytes(value));
}
void Metadata::SetU16(std::string_view key, uint16_t value) {
  Put(key, {.type = MetadataType::kU16, .element_type = MetadataType::kU16}, Bytes(value));
}
void Metadata::SetI16(std::string_view key, int16_t value) {
  Put(key, {.type = MetadataType::kI16, .element_type = MetadataType::kI16}, Bytes(value));
}
void Metadata::SetU32(std::string_view key, uint32_t value) {
  Put(key, {.type = MetadataType::kU32, .element_type = MetadataType::kU32}, Bytes(value));
}
void Metadata::SetI32(std::string_view key, int32_t value) {
  Put(key, {.type = MetadataType::kI32, .element_type = MetadataType::kI32}, Bytes(value));
}
void Metadata::SetU64(std::string_view key, uint64_t value) {
  Put(key, {.type = MetadataType::kU64, .element_type = MetadataType::kU64}, Bytes(value));
}
void Metadata::SetI64(std::string_view key, int64_t value) {
  Put(key, {.type = MetadataType::kI64, .element_type = MetadataType::kI64}, Bytes(value));
}
void Metadata::SetF32(std::string_view key, float value) {
  Put(key, {.type = MetadataType::kF32, .element_type = MetadataType::kF32}, Bytes(value));
}
void Metadata::SetF64(std::string_view key, double value) {
  Put(key, {.type = MetadataType::kF64, .element_type = MetadataType::kF64}, Bytes(value));
}
void Metadata::SetBool(std::string_view key, bool value) {
  Put(key, {.type = MetadataType::kBool, .element_type = MetadataType::kBool},
      std::string(1, value ? '\1' : '\0'));
}
void Metadata::SetString(std::string_view key, std::string_view value) {
  Put(key, {.type = MetadataType::kString, .element_type = MetadataType::kString},
      std::string(value));
}

void Metadata::SetStrings(std::string_view key, std::span<const std::string_view> values) {
  Put(key, ArrayOf(MetadataType::kString, values.size()), EncodeStrings(values));
}
void Metadata::SetStrings(std::string_view key, std::span<const std::string> values) {
  Put(key, ArrayOf(MetadataType::kString, values.size()), EncodeStrings(values));
}
void Metadata::SetI32s(std::string_view key, std::span<const int32_t> values) {
  Put(key, ArrayOf(MetadataType::kI32, values.size()), Bytes(values));
}
void Metadata::SetU32s(std::string_view key, std::span<const uint32_t> values) {
  Put(key, ArrayOf(MetadataType::kU32, values.size()), Bytes(values));
}
void Metadata::SetF32s(std::string_view key, std::span<const float> values) {
  Put(key, ArrayOf(MetadataType::kF32, values.size()), Bytes(values));
}
void Metadata::SetBytes(std::string_view key, std::span<const uint8_t> values) {
  Put(key, ArrayOf(MetadataType::kU8, values.size()), Bytes(values));
}
void Metadata::SetBools(std::string_view key, std::span<const bool> values) {
  std::string encoded;
  for (bool value : values) encoded += value ? '\1' : '\0';
  Put(key, ArrayOf(MetadataType::kBool, values.size()), std::move(encoded));
}

void Metadata::Set(std::string_view key, const MetadataValue& value) {
  Put(key, value, std::string(value.encoded));
}

void Metadata::Erase(std::string_view key) {
  auto it = index_.find(key);
  if (it == index_.end()) return;
  entries_.erase(entries_.begin() + static_cast<ptrdiff_t>(it->second));
  index_.clear();
  for (size_t i = 0; i < entries_.size(); ++i) index_.emplace(entries_[i].key, i);
}

void Metadata::CopyFrom(const Metadata& other) {
  for (const Entry& entry : other.entries_) Set(entry.key, entry.value);
}

}  // namespace ink
