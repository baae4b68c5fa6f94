#include "formats/safetensors_writer.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "formats/quote.h"
#include "formats/safetensors.h"

namespace ink {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr std::string_view kSuffix = ".safetensors";

std::string Text(uint64_t value) { return std::to_string(value); }

// Bytes that are not UTF-8 become U+FFFD instead of an exception; AddTensor refuses such names.
std::string Dump(const OrderedJson& json, int indent) {
  return json.dump(indent, ' ', false, OrderedJson::error_handler_t::replace);
}

bool IsUtf8(std::string_view text) {
  const std::string quoted = Dump(OrderedJson(std::string(text)), -1);
  OrderedJson back = OrderedJson::parse(quoted, nullptr, false);
  return back.is_string() && back.get_ref<const std::string&>() == text;
}

std::string FileName(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(std::string path)
    : SafetensorsWriter(std::move(path), Options{}) {}

SafetensorsWriter::SafetensorsWriter(std::string path, Options options)
    : path_(std::move(path)), options_(options) {}

void SafetensorsWriter::AddMetadata(std::string key, std::string value) {
  INK_CHECK(!begun_);
  metadata_.emplace_back(std::move(key), std::move(value));
}

Status SafetensorsWriter::AddTensor(std::string_view name, DType type,
                                    std::span<const int64_t> shape) {
  INK_CHECK(!begun_);
  const std::string what = "tensor " + Quoted(name);
  if (name.empty() || name == "__metadata__" || !IsUtf8(name)) {
    return InvalidArgument(
        Mismatch(path_, "tensor name", "UTF-8 text other than \"__metadata__\"", Quoted(name)));
  }
  if (SafetensorsTypeName(type).empty()) {
    return InvalidArgument(Mismatch(path_, what + ": type",
                                    "one that safetensors files have (f32, f16, bf16, ...)",
                                    Info(type).name));
  }
  Tensor tensor{.name = std::string(name),
                .type = type,
                .shape = std::vector<int64_t>(shape.begin(), shape.end())};
  const std::optional<uint64_t> bytes = SafetensorsBytes(shape, type);
  if (!bytes || *bytes >> 56 != 0 || shape.size() > kSafetensorsMaxDims) {
    return InvalidArgument(Mismatch(path_, what + ": shape",
                                    "at most 16 sizes of 0 or more, less than 2^56 bytes in all",
                                    SafetensorsTensor{.shape = tensor.shape}.ShapeString()));
  }
  tensor.size = *bytes;
  if (!names_.insert(tensor.name).second) {
    return InvalidArgument(Mismatch(path_, "tensor name", "a name not used before", Quoted(name)));
  }
  total_bytes_ += tensor.size;
  tensors_.push_back(std::move(tensor));
  return OkStatus();
}

void SafetensorsWriter::PlanShards() {
  shards_.emplace_back();
  uint64_t bytes = 0;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (options_.max_shard_bytes > 0 && bytes > 0 &&
        bytes + tensors_[i].size > options_.max_shard_bytes) {
      shards_.emplace_back();
      bytes = 0;
    }
    bytes += tensors_[i].size;
    tensors_[i].shard = static_cast<int>(shards_.size()) - 1;
    shards_.back().tensors.push_back(i);
  }
  for (Shard& shard : shards_) {
    std::stable_sort(shard.tensors.begin(), shard.tensors.end(), [this](size_t a, size_t b) {
      return Info(tensors_[a].type).block_bytes > Info(tensors_[b].type).block_bytes;
    });
    order_.insert(order_.end(), shard.tensors.begin(), shard.tensors.end());
  }
  if (shards_.size() == 1) {
    shards_[0].path = path_;
    return;
  }
  std::string prefix = path_;
  if (prefix.ends_with(kSuffix)) prefix.resize(prefix.size() - kSuffix.size());
  for (size_t i = 0; i < shards_.size(); ++i) {
    char tail[64];
    std::snprintf(tail, sizeof(tail), "-%05zu-of-%05zu.safetensors", i + 1, shards_.size());
    shards_[i].path = prefix + tail;
  }
  index_path_ = prefix + std::string(kSuffix) + ".index.json";
}

std::string SafetensorsWriter::HeaderOf(const Shard& shard) const {
  OrderedJson header = OrderedJson::object();
  if (!metadata_.empty()) {
    OrderedJson& metadata = header["__metadata__"] = OrderedJson::object();
    for (const auto& [key, value] : metadata_) metadata[key] = value;
  }
  std::string text = Dump(header, -1);
  text.pop_back();
  // Entry by entry: an ordered object looks each key up by a linear search.
  uint64_t offset = 0;
  for (size_t i : shard.tensors) {
    const Tensor& tensor = tensors_[i];
    if (text.size() > 1) text += ',';
    text += Dump(OrderedJson(tensor.name), -1);
    OrderedJson entry;
    entry["dtype"] = std::string(SafetensorsTypeName(tensor.type));
    entry["shape"] = tensor.shape;
    entry["data_offsets"] = {offset, offset + tensor.size};
    text += ':';
    text += Dump(entry, -1);
    offset += tensor.size;
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data starts at a multiple of 8
  const uint64_t size = text.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + text;
}

std::string SafetensorsWriter::IndexText() const {
  nlohmann::json map = nlohmann::json::object();  // sorted, as the Hugging Face libraries write it
  for (const Tensor& tensor : tensors_) {
    map[tensor.name] = FileName(shards_[static_cast<size_t>(tensor.shard)].path);
  }
  OrderedJson index;
  index["metadata"]["total_size"] = total_bytes_;
  index["weight_map"] = map;
  return Dump(index, 2) + "\n";
}

Status SafetensorsWriter::Begin() {
  INK_CHECK(!begun_);
  begun_ = true;
  PlanShards();
  for (Shard& shard : shards_) {
    INK_ASSIGN_OR_RETURN(shard.file, AtomicFile::Create(shard.path));
    INK_RETURN_IF_ERROR(shard.file.Write(HeaderOf(shard)));
  }
  SkipFinished();
  return OkStatus();
}

void SafetensorsWriter::SkipFinished() {
  while (current_ < order_.size() && current_done_ == tensors_[order_[current_]].size) {
    ++current_;
    current_done_ = 0;
  }
}

Status SafetensorsWriter::Write(std::span<const std::byte> bytes) {
  INK_CHECK(begun_);
  while (!bytes.empty()) {
    if (current_ == order_.size()) {
      return InvalidArgument(Mismatch(path_, "tensor data", Text(total_bytes_) + " bytes",
                                      Text(bytes.size()) + " more"));
    }
    const Tensor& tensor = tensors_[order_[current_]];
    const size_t n = std::min<uint64_t>(bytes.size(), tensor.size - current_done_);
    INK_RETURN_IF_ERROR(shards_[static_cast<size_t>(tensor.shard)].file.Write(bytes.subspan(0, n)));
    bytes = bytes.subspan(n);
    current_done_ += n;
    written_bytes_ += n;
    SkipFinished();
  }
  return OkStatus();
}

Status SafetensorsWriter::Finish() {
  INK_CHECK(begun_);
  if (current_ < order_.size()) {
    const Tensor& tensor = tensors_[order_[current_]];
    return InvalidArgument(Mismatch(path_, "data of tensor " + Quoted(tensor.name),
                                    Text(tensor.size) + " bytes", Text(current_done_)));
  }
  for (Shard& shard : shards_) INK_RETURN_IF_ERROR(shard.file.Commit());
  return index_path_.empty() ? OkStatus() : WriteFileAtomic(index_path_, IndexText());
}

std::vector<std::string> SafetensorsWriter::paths() const {
  std::vector<std::string> out;
  for (const Shard& shard : shards_) out.push_back(shard.path);
  if (!index_path_.empty()) out.push_back(index_path_);
  return out;
}

}  // namespace ink
