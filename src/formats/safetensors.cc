#include "formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/atomic_file.h"
#include "formats/quote.h"

namespace ink {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's limit
constexpr uint64_t kMaxIndexBytes = 100'000'000;
constexpr size_t kMaxTensors = 1 << 18;
constexpr size_t kMaxDepth = 32;

std::string Text(uint64_t value) { return std::to_string(value); }

struct TypeRow {
  std::string_view name;
  int bits;
  std::optional<DType> type;
};

// All types of the reference implementation; those without a DType are an error only when used.
constexpr TypeRow kTypes[] = {
    {"F32", 32, DType::kF32},     {"F16", 16, DType::kF16},     {"BF16", 16, DType::kBF16},
    {"F64", 64, DType::kF64},     {"I8", 8, DType::kI8},        {"I16", 16, DType::kI16},
    {"I32", 32, DType::kI32},     {"I64", 64, DType::kI64},     {"U8", 8, std::nullopt},
    {"BOOL", 8, std::nullopt},    {"U16", 16, std::nullopt},    {"U32", 32, std::nullopt},
    {"U64", 64, std::nullopt},    {"F8_E4M3", 8, std::nullopt}, {"F8_E5M2", 8, std::nullopt},
    {"F8_E8M0", 8, std::nullopt}, {"F6_E2M3", 6, std::nullopt}, {"F6_E3M2", 6, std::nullopt},
    {"F4", 4, std::nullopt},      {"C64", 64, std::nullopt},
};

const TypeRow* FindType(std::string_view name) {
  for (const TypeRow& row : kTypes) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

// The product of a shape, unless it overflows.
std::optional<uint64_t> Product(std::span<const int64_t> shape) {
  uint64_t values = 1;
  for (int64_t dim : shape) {
    if (dim < 0 || __builtin_mul_overflow(values, static_cast<uint64_t>(dim), &values)) return {};
  }
  return values;
}

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

  struct Tensor {
    SafetensorsTensor info;
    uint64_t begin = 0, end = 0;  // in the data section
  };
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
    if (tensors.size() == kMaxTensors) return Refuse("more than " + Text(kMaxTensors));
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
    if (files.size() == kMaxTensors) return Refuse("more than " + Text(kMaxTensors));
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

// Size, type and place of one tensor against the data section.
Status CheckTensor(const std::string& path, HeaderSax::Tensor* tensor, uint64_t data_bytes) {
  SafetensorsTensor& info = tensor->info;
  const std::string what = "tensor " + Quoted(info.name);
  if (tensor->end < tensor->begin || tensor->end > data_bytes) {
    return Corrupt(Mismatch(path, what + ": data_offsets",
                            "a range in the data section of " + Text(data_bytes) + " bytes",
                            "[" + Text(tensor->begin) + ", " + Text(tensor->end) + "]"));
  }
  info.size = tensor->end - tensor->begin;
  const std::optional<uint64_t> values = Product(info.shape);
  if (!values || *values >> 56 != 0) {
    return Corrupt(Mismatch(path, what + ": number of values", "less than 2^56",
                            "the product of " + info.ShapeString()));
  }
  const TypeRow* row = FindType(info.type_name);
  if (row == nullptr) return OkStatus();  // TypeOf names it when the tensor is used
  info.type = row->type;
  const uint64_t bits = *values * static_cast<uint64_t>(row->bits);
  if (bits % 8 != 0 || bits / 8 != info.size) {
    return Corrupt(
        Mismatch(path, what + ": bytes",
                 Text((bits + 7) / 8) + " for " + info.type_name + " " + info.ShapeString(),
                 Text(info.size)));
  }
  return OkStatus();
}

}  // namespace

int64_t SafetensorsTensor::num_values() const {
  int64_t values = 1;
  for (int64_t dim : shape) values *= dim;
  return values;
}

std::string SafetensorsTensor::ShapeString() const {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) out += ", ";
    out += std::to_string(shape[i]);
  }
  return out + "]";
}

Status SafetensorsFile::AddShard(std::span<const std::byte> bytes, const std::string& name,
                                 int shard) {
  if (bytes.size() < 8) {
    return Corrupt(
        Mismatch(name, "header length", "8 bytes at the start", "a file of " + Text(bytes.size())));
  }
  uint64_t header_bytes;
  std::memcpy(&header_bytes, bytes.data(), 8);
  const uint64_t limit = std::min<uint64_t>(kMaxHeaderBytes, bytes.size() - 8);
  if (header_bytes < 2 || header_bytes > limit) {
    return Corrupt(Mismatch(name, "header length", "2 to " + Text(limit), Text(header_bytes)));
  }
  const char* header = reinterpret_cast<const char*>(bytes.data()) + 8;
  if (*header != '{') {
    return Corrupt(
        Mismatch(name, "JSON header", "a first byte \"{\"", Quoted(std::string_view(header, 1))));
  }
  HeaderSax sax(name);
  if (!Json::sax_parse(header, header + header_bytes, &sax)) {
    if (!sax.status().ok()) return sax.status();
    return Corrupt(Mismatch(name, "JSON header", "valid JSON", "something else"));
  }

  const std::span<const std::byte> data = bytes.subspan(8 + header_bytes);
  for (HeaderSax::Tensor& tensor : sax.tensors) {
    INK_RETURN_IF_ERROR(CheckTensor(name, &tensor, data.size()));
  }
  std::stable_sort(sax.tensors.begin(), sax.tensors.end(),
                   [](const HeaderSax::Tensor& a, const HeaderSax::Tensor& b) {
                     return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
                   });
  uint64_t expected = 0;
  for (HeaderSax::Tensor& tensor : sax.tensors) {
    if (tensor.begin != expected) {
      return Corrupt(Mismatch(
          name, "tensor " + Quoted(tensor.info.name) + ": data_offsets",
          "a start at " + Text(expected) + ", the end of the tensor before it",
          Text(tensor.begin) + (tensor.begin < expected ? " (they overlap)" : " (a gap)")));
    }
    expected = tensor.end;
    tensor.info.shard = shard;
    tensor.info.data = data.subspan(tensor.begin, tensor.info.size);
    tensor.info.offset = 8 + header_bytes + tensor.begin;
    tensor_bytes_ += tensor.info.size;
    tensors_.push_back(std::move(tensor.info));
  }
  if (expected != data.size()) {
    return Corrupt(Mismatch(name, "data section", Text(expected) + " bytes, the end of the tensors",
                            Text(data.size())));
  }
  if (tensors_.size() > kMaxTensors) {
    return Corrupt(Mismatch(name, "tensor count of all shards", "at most " + Text(kMaxTensors),
                            Text(tensors_.size())));
  }
  for (auto& pair : sax.metadata) {
    if (std::find(metadata_.begin(), metadata_.end(), pair) == metadata_.end()) {
      metadata_.push_back(std::move(pair));
    }
  }
  return OkStatus();
}

Status SafetensorsFile::BuildIndex() {
  index_.reserve(tensors_.size());
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (!index_.emplace(tensors_[i].name, i).second) {
      return Corrupt(
          Mismatch(path_, "tensor name", "a name not used before", Quoted(tensors_[i].name)));
    }
  }
  return OkStatus();
}

Status SafetensorsFile::AddFile(const std::string& path) {
  INK_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  files_.push_back(std::move(file));
  return AddShard(files_.back().bytes(), path, static_cast<int>(files_.size()) - 1);
}

Result<SafetensorsFile> SafetensorsFile::FromBytes(std::span<const std::byte> bytes,
                                                   std::string name) {
  SafetensorsFile file;
  file.path_ = std::move(name);
  INK_RETURN_IF_ERROR(file.AddShard(bytes, file.path_, 0));
  INK_RETURN_IF_ERROR(file.BuildIndex());
  return file;
}

Result<SafetensorsFile> SafetensorsFile::OpenIndex(const std::string& path) {
  INK_ASSIGN_OR_RETURN(std::string text, ReadFile(path, kMaxIndexBytes));
  IndexSax sax(path);
  if (!Json::sax_parse(text, &sax)) {
    if (!sax.status().ok()) return sax.status();
    return Corrupt(Mismatch(path, "index", "valid JSON", "something else"));
  }
  if (!sax.has_map) return Corrupt(Mismatch(path, "index", "a weight_map", "none"));
  const std::string folder = std::filesystem::path(path).parent_path().string();
  std::set<std::string> names;
  for (const auto& [tensor, name] : sax.files) {
    if (name.empty() || name == "." || name == ".." ||
        name.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) {
      return Corrupt(Mismatch(path, "weight_map of tensor " + Quoted(tensor),
                              "the name of a file in the same folder", Quoted(name)));
    }
    names.insert(name);
  }
  SafetensorsFile file;
  file.path_ = path;
  std::map<std::string, int> shard_of;
  for (const std::string& name : names) {
    shard_of[name] = static_cast<int>(file.files_.size());
    INK_RETURN_IF_ERROR(file.AddFile(folder.empty() ? name : folder + "/" + name));
  }
  INK_RETURN_IF_ERROR(file.BuildIndex());
  for (const auto& [tensor, name] : sax.files) {
    const SafetensorsTensor* found = file.Find(tensor);
    if (found == nullptr || found->shard != shard_of[name]) {
      return Corrupt(Mismatch(path, "tensor " + Quoted(tensor), "to be in " + Quoted(name),
                              found == nullptr ? "no such tensor" : "it in another shard"));
    }
  }
  return file;
}

Result<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    const std::string single = path + "/" + std::string(kSafetensorsName);
    const std::string index = path + "/" + std::string(kSafetensorsIndexName);
    if (std::filesystem::exists(single, error)) return Open(single);
    if (std::filesystem::exists(index, error)) return OpenIndex(index);
    return NotFound(Mismatch(
        path, "folder",
        std::string(kSafetensorsName) + " or " + std::string(kSafetensorsIndexName) + " in it",
        "neither"));
  }
  if (path.ends_with(".index.json")) return OpenIndex(path);
  SafetensorsFile file;
  file.path_ = path;
  INK_RETURN_IF_ERROR(file.AddFile(path));
  INK_RETURN_IF_ERROR(file.BuildIndex());
  return file;
}

const SafetensorsTensor* SafetensorsFile::Find(std::string_view name) const {
  auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

Result<const SafetensorsTensor*> SafetensorsFile::Get(std::string_view name) const {
  const SafetensorsTensor* tensor = Find(name);
  if (tensor != nullptr) return tensor;
  return NotFound(Mismatch(path_, "tensor " + Quoted(name), "to be present",
                           "no tensor of that name among " + Text(tensors_.size())));
}

Result<DType> SafetensorsFile::TypeOf(const SafetensorsTensor& tensor) const {
  if (tensor.type) return *tensor.type;
  std::string supported = "one of";
  for (const TypeRow& row : kTypes) {
    if (row.type) supported += " " + std::string(row.name);
  }
  return Unsupported(Mismatch(path_, "dtype of tensor " + Quoted(tensor.name), supported,
                              Quoted(tensor.type_name)));
}

void SafetensorsFile::DropPages(const SafetensorsTensor& tensor, uint64_t begin,
                                uint64_t size) const {
  const size_t shard = static_cast<size_t>(tensor.shard);
  if (shard >= files_.size() || begin >= tensor.size) return;
  files_[shard].DropPages(tensor.offset + begin, std::min(size, tensor.size - begin));
}

std::optional<uint64_t> SafetensorsBytes(std::span<const int64_t> shape, DType type) {
  const std::optional<uint64_t> values = Product(shape);
  uint64_t bytes;
  if (!values || Info(type).quantized ||
      __builtin_mul_overflow(*values, static_cast<uint64_t>(Info(type).block_bytes), &bytes)) {
    return std::nullopt;
  }
  return bytes;
}

std::string_view SafetensorsTypeName(DType type) {
  for (const TypeRow& row : kTypes) {
    if (row.type == type) return row.name;
  }
  return "";
}

}  // namespace ink
