#include "formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>

#include "base/atomic_file.h"
#include "formats/quote.h"
#include "formats/safetensors_json.h"

namespace ink {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's limit
constexpr uint64_t kMaxIndexBytes = 100'000'000;

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

// Size, type and place of one tensor against the data section.
Status CheckTensor(const std::string& path, SafetensorsHeader::Tensor* tensor,
                   uint64_t data_bytes) {
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
  INK_ASSIGN_OR_RETURN(SafetensorsHeader parsed,
                       ParseSafetensorsHeader(std::string_view(header, header_bytes), name));

  const std::span<const std::byte> data = bytes.subspan(8 + header_bytes);
  for (SafetensorsHeader::Tensor& tensor : parsed.tensors) {
    INK_RETURN_IF_ERROR(CheckTensor(name, &tensor, data.size()));
  }
  std::stable_sort(parsed.tensors.begin(), parsed.tensors.end(),
                   [](const SafetensorsHeader::Tensor& a, const SafetensorsHeader::Tensor& b) {
                     return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
                   });
  uint64_t expected = 0;
  for (SafetensorsHeader::Tensor& tensor : parsed.tensors) {
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
  if (tensors_.size() > kSafetensorsMaxTensors) {
    return Corrupt(Mismatch(name, "tensor count of all shards",
                            "at most " + Text(kSafetensorsMaxTensors), Text(tensors_.size())));
  }
  for (auto& pair : parsed.metadata) {
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
  INK_ASSIGN_OR_RETURN(auto weight_map, ParseSafetensorsIndex(text, path));
  const std::string folder = std::filesystem::path(path).parent_path().string();
  std::set<std::string> names;
  for (const auto& [tensor, name] : weight_map) {
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
  for (const auto& [tensor, name] : weight_map) {
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
