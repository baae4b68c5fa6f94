#include "formats/safetensors_json.h"

#include <nlohmann/json.hpp>

#include "formats/quote.h"

namespace ink {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxDepth = 32;

std::string Text(uint64_t value) { return std::to_string(value); }

// What both JSON readers share: everything is refused until a subclass accepts it, so a document of
// another structure costs no memory. Events come from a parser that is not recursive.
class StrictSax : public Json::json_sax_t {
 public:
  explicit StrictSax(const std::string& path) : path_(path) {}

  const Status& status() const { return status_; }

  bool null() override { return Refuse("null"); }
  bool boolean(bool) override { return Refuse("a boolean"); }
  bool number_integer(number_integer_t value) override {
    return Refuse("the number " + std::to_string(value));
  }
  bool number_unsigned(number_unsigned_t value) override {
    return Refuse("the number " + std::to_string(value));
  }
  bool number_float(number_float_t, const string_t& text) override {
    return Refuse("the number " + Quoted(text));
  }
  bool string(string_t& value) override { return Refuse("the string " + Quoted(value)); }
  bool binary(binary_t&) override { return Refuse("binary data"); }
  bool start_object(size_t) override { return Refuse("an object"); }
  bool start_array(size_t) override { return Refuse("an array"); }
  bool parse_error(size_t position, const std::string& token,
                   const nlohmann::detail::exception& error) override {
    return Fail(Mismatch(path_, "JSON header", "valid JSON",
                         "an error at its byte " + Text(position) + ", near " + Quoted(token)));
  }

 protected:
  bool Fail(std::string message) {
    if (status_.ok()) status_ = Corrupt(std::move(message));
    return false;
  }
  virtual std::string Where() const = 0;
  virtual std::string Wanted() const = 0;
  bool Refuse(const std::string& found) { return Fail(Mismatch(path_, Where(), Wanted(), found)); }

  const std::string& path_;
  Status status_;
};

class HeaderSax : public StrictSax {
 public:
  using StrictSax::StrictSax;
  using Tensor = SafetensorsHeader::Tensor;

  std::vector<Tensor> tensors;
  std::vector<std::pair<std::string, std::string>> metadata;

  bool start_object(size_t) override {
    switch (state_) {
      case State::kStart:
        state_ = State::kNames;
        return true;
      case State::kTensor:
        state_ = State::kFields;
        return true;
      case State::kMetadata:
        state_ = State::kMetadataKeys;
        return true;
      default:
        return Refuse("an object");
    }
  }
  bool key(string_t& key) override {
    switch (state_) {
      case State::kNames:
        return StartTensor(key);
      case State::kFields:
        return StartField(key);
      case State::kMetadataKeys:
        key_ = key;
        state_ = State::kMetadataValue;
        return true;
      default:
        return Refuse("the key " + Quoted(key));
    }
  }
  bool end_object() override {
    switch (state_) {
      case State::kNames:
        state_ = State::kEnd;
        return true;
      case State::kMetadataKeys:
        state_ = State::kNames;
        return true;
      case State::kFields:
        return EndTensor();
      default:
        return Refuse("the end of an object");
    }
  }
  bool start_array(size_t) override {
    if (state_ == State::kShape) {
      state_ = State::kShapeItems;
    } else if (state_ == State::kOffsets) {
      state_ = State::kOffsetItems;
    } else {
      return Refuse("an array");
    }
    return true;
  }
  bool end_array() override {
    if (state_ == State::kOffsetItems && num_offsets_ != 2) {
      return Refuse(Text(num_offsets_) + " numbers");
    }
    state_ = State::kFields;
    return true;
  }
  bool string(string_t& value) override {
    if (state_ == State::kType) {
      tensors.back().info.type_name = value;
      state_ = State::kFields;
      return true;
    }
    if (state_ == State::kMetadataValue) {
      metadata.emplace_back(key_, value);
      state_ = State::kMetadataKeys;
      return true;
    }
    return Refuse("the string " + Quoted(value));
  }
  bool number_unsigned(number_unsigned_t value) override {
    Tensor* tensor = tensors.empty() ? nullptr : &tensors.back();
    if (state_ == State::kShapeItems && tensor->info.shape.size() < kSafetensorsMaxDims &&
        value >> 62 == 0) {
      tensor->info.shape.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (state_ == State::kOffsetItems && num_offsets_ < 2) {
      (num_offsets_ == 0 ? tensor->begin : tensor->end) = value;
      ++num_offsets_;
      return true;
    }
    return Refuse("the number " + Text(value));
  }

 protected:
  std::string Where() const override {
    switch (state_) {
      case State::kTensor:
      case State::kFields:
        return "tensor " + Quoted(tensors.back().info.name);
      case State::kType:
        return "tensor " + Quoted(tensors.back().info.name) + ": dtype";
      case State::kShape:
      case State::kShapeItems:
        return "tensor " + Quoted(tensors.back().info.name) + ": shape";
      case State::kOffsets:
      case State::kOffsetItems:
        return "tensor " + Quoted(tensors.back().info.name) + ": data_offsets";
      case State::kMetadata:
      case State::kMetadataKeys:
      case State::kMetadataValue:
        return "__metadata__";
      default:
        return "JSON header";
    }
  }
  std::string Wanted() const override {
    switch (state_) {
      case State::kTensor:
      case State::kFields:
        return "an object of dtype, shape and data_offsets, each once";
      case State::kType:
        return "a string";
      case State::kShape:
      case State::kShapeItems:
        return "an array of at most 16 sizes of 0 or more, each below 2^62";
      case State::kOffsets:
      case State::kOffsetItems:
        return "an array of 2 numbers of 0 or more";
      case State::kMetadata:
      case State::kMetadataKeys:
      case State::kMetadataValue:
        return "an object of strings";
      default:
        return "an object of tensors";
    }
  }

 private:
  enum class State {
    kStart,
    kNames,
    kTensor,
    kFields,
    kType,
    kShape,
    kShapeItems,
    kOffsets,
    kOffsetItems,
    kMetadata,
    kMetadataKeys,
    kMetadataValue,
    kEnd,
  };

  bool StartTensor(const std::string& name) {
    if (name == "__metadata__") {
      if (std::exchange(has_metadata_, true)) return Refuse("a second __metadata__");
      state_ = State::kMetadata;
      return true;
    }
    if (tensors.size() == kSafetensorsMaxTensors)
      return Refuse("more than " + Text(kSafetensorsMaxTensors));
    tensors.emplace_back();
    tensors.back().info.name = name;
    has_type_ = has_shape_ = has_offsets_ = false;
    num_offsets_ = 0;
    state_ = State::kTensor;
    return true;
  }

  bool StartField(const std::string& name) {
    if (name == "dtype" && !std::exchange(has_type_, true)) {
      state_ = State::kType;
    } else if (name == "shape" && !std::exchange(has_shape_, true)) {
      state_ = State::kShape;
    } else if (name == "data_offsets" && !std::exchange(has_offsets_, true)) {
      state_ = State::kOffsets;
    } else {
      return Refuse("the key " + Quoted(name));
    }
    return true;
  }

  bool EndTensor() {
    if (!has_type_) return Refuse("no dtype");
    if (!has_shape_) return Refuse("no shape");
    if (!has_offsets_) return Refuse("no data_offsets");
    state_ = State::kNames;
    return true;
  }

  State state_ = State::kStart;
  bool has_metadata_ = false;
  bool has_type_ = false, has_shape_ = false, has_offsets_ = false;
  size_t num_offsets_ = 0;
  std::string key_;
};

// The weight_map of an index; everything beside it is skipped.
class IndexSax : public StrictSax {
 public:
  using StrictSax::StrictSax;

  std::vector<std::pair<std::string, std::string>> files;  // tensor name, file name
  bool has_map = false;

  bool null() override { return Skip("null"); }
  bool boolean(bool) override { return Skip("a boolean"); }
  bool number_integer(number_integer_t) override { return Skip("a number"); }
  bool number_unsigned(number_unsigned_t) override { return Skip("a number"); }
  bool number_float(number_float_t, const string_t&) override { return Skip("a number"); }
  bool string(string_t& value) override {
    if (!InMap()) return Skip("a string");
    if (files.size() == kSafetensorsMaxTensors)
      return Refuse("more than " + Text(kSafetensorsMaxTensors));
    files.emplace_back(key_, value);
    return true;
  }
  bool start_object(size_t) override {
    if (InMap() || depth_ == kMaxDepth) return Refuse("an object inside it");
    ++depth_;
    if (depth_ == 2 && key_ == "weight_map") {
      if (std::exchange(has_map, true)) return Refuse("a second one");
      in_map_ = true;
    }
    return true;
  }
  bool end_object() override {
    if (--depth_ == 1) in_map_ = false;
    return true;
  }
  bool start_array(size_t) override {
    if (MustBeMap() || depth_ == kMaxDepth) return Refuse("an array");
    ++depth_;
    return true;
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool key(string_t& key) override {
    if (depth_ == 1 || InMap()) key_ = key;
    return true;
  }

 protected:
  std::string Where() const override { return "weight_map"; }
  std::string Wanted() const override { return "an object of file names"; }

 private:
  bool InMap() const { return in_map_ && depth_ == 2; }
  // Where only an object may stand: the document itself, and the value of weight_map.
  bool MustBeMap() const { return InMap() || depth_ == 0 || (depth_ == 1 && key_ == "weight_map"); }
  bool Skip(const std::string& what) { return MustBeMap() ? Refuse(what) : true; }

  size_t depth_ = 0;
  bool in_map_ = false;
  std::string key_;
};

}  // namespace

Result<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json, const std::string& path) {
  HeaderSax sax(path);
  if (!Json::sax_parse(json.begin(), json.end(), &sax)) {
    if (!sax.status().ok()) return sax.status();
    return Corrupt(Mismatch(path, "JSON header", "valid JSON", "something else"));
  }
  return SafetensorsHeader{std::move(sax.tensors), std::move(sax.metadata)};
}

Result<std::vector<std::pair<std::string, std::string>>> ParseSafetensorsIndex(
    std::string_view json, const std::string& path) {
  IndexSax sax(path);
  if (!Json::sax_parse(json.begin(), json.end(), &sax)) {
    if (!sax.status().ok()) return sax.status();
    return Corrupt(Mismatch(path, "index", "valid JSON", "something else"));
  }
  if (!sax.has_map) return Corrupt(Mismatch(path, "index", "a weight_map", "none"));
  return std::move(sax.files);
}

}  // namespace ink
