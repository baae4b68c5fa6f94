// Ordered key-value metadata with GGUF's value types: what a GGUF header holds, what a writer puts
// there, and what a Hugging Face config.json is translated into, so that model code reads one kind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"

namespace ink {

/// Numeric values are those of GGUF files (gguf_metadata_value_type).
enum class MetadataType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

/// "u32", "string", ...; "unknown" for a value outside the enum.
std::string_view MetadataTypeName(MetadataType type);
/// Bytes of one value of a scalar type; 0 for strings, arrays and values outside the enum.
int MetadataTypeBytes(MetadataType type);
bool IsInteger(MetadataType type);
bool IsFloat(MetadataType type);

/// The strings of an array, read in order from GGUF's encoding (u64 length, bytes, ...). A view:
/// valid while the metadata (and the file under it) lives. Nothing is indexed; take ToVector()
/// where random access is needed.
class StringArray {
 public:
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = std::string_view;
    using difference_type = std::ptrdiff_t;
    using pointer = const std::string_view*;
    using reference = std::string_view;

    Iterator() = default;
    explicit Iterator(const char* at) : at_(at) {}
    std::string_view operator*() const { return {at_ + 8, Length()}; }
    Iterator& operator++() {
      at_ += 8 + Length();
      return *this;
    }
    Iterator operator++(int) {
      Iterator before = *this;
      ++*this;
      return before;
    }
    bool operator==(const Iterator& other) const { return at_ == other.at_; }

   private:
    size_t Length() const;
    const char* at_ = nullptr;
  };

  StringArray() = default;
  StringArray(size_t size, std::string_view encoded) : size_(size), encoded_(encoded) {}

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  Iterator begin() const { return Iterator(encoded_.data()); }
  Iterator end() const { return Iterator(encoded_.data() + encoded_.size()); }
  std::vector<std::string_view> ToVector() const;

 private:
  size_t size_ = 0;
  std::string_view encoded_;
};

/// The numbers of an array as a view of packed, possibly unaligned values.
class NumberArray {
 public:
  NumberArray() = default;
  NumberArray(MetadataType type, size_t size, std::string_view encoded)
      : type_(type), size_(size), encoded_(encoded) {}

  MetadataType type() const { return type_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  /// Value `i` < size(), converted.
  int64_t Int(size_t i) const;
  double Float(size_t i) const;

 private:
  MetadataType type_ = MetadataType::kU8;
  size_t size_ = 0;
  std::string_view encoded_;
};

/// One value, as a view.
struct MetadataValue {
  MetadataType type = MetadataType::kU8;
  MetadataType element_type = MetadataType::kU8;  // of an array, else the same as `type`
  size_t count = 1;                               // elements of an array, else 1
  // GGUF's encoding, little endian: a string's bytes without its length, an array's elements
  // without type and count (strings in it each with their u64 length).
  std::string_view encoded;

  /// The value in words for a message or a listing: `42`, `"llama"`, `[string x 32000]`.
  std::string ToString() const;
};

/// Keys in file order. Movable, not copyable (values may point into a mapped file or into this
/// object's own storage); CopyFrom makes a deep copy.
///
/// A getter fails with kNotFound when the key is absent, and with kCorrupt when it has another type
/// or does not fit; a getter with a fallback fails only in the second case.
class Metadata {
 public:
  struct Entry {
    std::string_view key;
    MetadataValue value;
  };

  Metadata() = default;
  /// `source` (a path) begins every message.
  explicit Metadata(std::string source) : source_(std::move(source)) {}
  Metadata(Metadata&&) noexcept = default;
  Metadata& operator=(Metadata&&) noexcept = default;

  const std::string& source() const { return source_; }
  std::span<const Entry> entries() const { return entries_; }
  size_t size() const { return entries_.size(); }
  /// Null when there is no such key.
  const MetadataValue* Find(std::string_view key) const;
  bool Has(std::string_view key) const { return Find(key) != nullptr; }

  /// Integers of any width and sign are accepted where the value fits.
  Result<uint32_t> GetU32(std::string_view key) const;
  Result<uint32_t> GetU32(std::string_view key, uint32_t fallback) const;
  Result<uint64_t> GetU64(std::string_view key) const;
  Result<uint64_t> GetU64(std::string_view key, uint64_t fallback) const;
  Result<int64_t> GetI64(std::string_view key) const;
  Result<int64_t> GetI64(std::string_view key, int64_t fallback) const;
  /// f32 or f64, finite or not; integers too, since some writers store 10000 for 10000.0.
  Result<float> GetFloat(std::string_view key) const;
  Result<float> GetFloat(std::string_view key, float fallback) const;
  Result<bool> GetBool(std::string_view key) const;
  Result<bool> GetBool(std::string_view key, bool fallback) const;
  /// A view into the metadata.
  Result<std::string_view> GetString(std::string_view key) const;
  Result<std::string_view> GetString(std::string_view key, std::string_view fallback) const;

  Result<StringArray> GetStrings(std::string_view key) const;
  /// An array of any integer type (values above 2^63-1 are refused) / of f32 or f64.
  Result<NumberArray> GetInts(std::string_view key) const;
  Result<NumberArray> GetFloats(std::string_view key) const;
  /// One u32 for each of `count` layers: a scalar counts for all, an array must have `count`
  /// elements or more (GGUF writers pad it).
  Result<std::vector<uint32_t>> GetU32PerLayer(std::string_view key, size_t count) const;

  // Setters append, or replace the value of an existing key at its place.
  void SetU8(std::string_view key, uint8_t value);
  void SetI8(std::string_view key, int8_t value);
  void SetU16(std::string_view key, uint16_t value);
  void SetI16(std::string_view key, int16_t value);
  void SetU32(std::string_view key, uint32_t value);
  void SetI32(std::string_view key, int32_t value);
  void SetU64(std::string_view key, uint64_t value);
  void SetI64(std::string_view key, int64_t value);
  void SetF32(std::string_view key, float value);
  void SetF64(std::string_view key, double value);
  void SetBool(std::string_view key, bool value);
  void SetString(std::string_view key, std::string_view value);
  void SetStrings(std::string_view key, std::span<const std::string_view> values);
  void SetStrings(std::string_view key, std::span<const std::string> values);
  void SetI32s(std::string_view key, std::span<const int32_t> values);
  void SetU32s(std::string_view key, std::span<const uint32_t> values);
  void SetF32s(std::string_view key, std::span<const float> values);
  void SetBools(std::string_view key, std::span<const bool> values);
  void SetBytes(std::string_view key, std::span<const uint8_t> values);  // array of u8
  /// A deep copy of a value of another Metadata.
  void Set(std::string_view key, const MetadataValue& value);
  /// Does nothing when there is no such key.
  void Erase(std::string_view key);
  /// Deep copies every entry of `other` (replacing equal keys).
  void CopyFrom(const Metadata& other);

  /// For readers: appends a view whose bytes outlive this object and whose key is new (else false).
  bool AppendView(std::string_view key, const MetadataValue& value);

 private:
  void Put(std::string_view key, MetadataValue value, std::string encoded);
  Status Absent(std::string_view key, std::string_view expected) const;
  Status Mismatch(std::string_view key, std::string_view expected,
                  const MetadataValue& actual) const;

  std::string source_;
  std::vector<Entry> entries_;
  std::unordered_map<std::string_view, size_t> index_;  // key -> position in entries_
  std::deque<std::string> owned_;                       // stable addresses for keys and values
};

}  // namespace ink
