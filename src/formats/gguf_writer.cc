#include "formats/gguf_writer.h"

#include <algorithm>
#include <utility>

#include "formats/quote.h"

namespace ink {
namespace {

// ggml's own limit: 64 bytes with the terminating zero.
constexpr size_t kMaxWrittenName = kGgufMaxTensorName - 1;

std::string Text(uint64_t value) { return std::to_string(value); }

uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

class Encoder {
 public:
  template <typename T>
  void Number(T value) {
    out_.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  void String(std::string_view text) {
    Number(static_cast<uint64_t>(text.size()));
    out_ += text;
  }
  void KeyValue(std::string_view key, const MetadataValue& value) {
    String(key);
    Number(static_cast<uint32_t>(value.type));
    if (value.type == MetadataType::kArray) {
      Number(static_cast<uint32_t>(value.element_type));
      Number(static_cast<uint64_t>(value.count));
    } else if (value.type == MetadataType::kString) {
      Number(static_cast<uint64_t>(value.encoded.size()));
    }
    out_ += value.encoded;
  }
  void Pad(uint64_t alignment) { out_.resize(AlignUp(out_.size(), alignment)); }
  const std::string& text() const { return out_; }

 private:
  std::string out_;
};

// Keys that the writer computes itself.
bool IsOwnKey(std::string_view key) {
  return key == kGgufAlignmentKey || key == kGgufSplitNoKey || key == kGgufSplitCountKey ||
         key == kGgufSplitTensorsKey;
}

}  // namespace

GgufWriter::GgufWriter(std::string path) : GgufWriter(std::move(path), Options{}) {}

GgufWriter::GgufWriter(std::string path, Options options)
    : path_(std::move(path)), options_(options), metadata_(path_) {
  INK_CHECK(options_.alignment > 0 && (options_.alignment & (options_.alignment - 1)) == 0);
}

Status GgufWriter::AddTensor(std::string_view name, DType type, std::span<const int64_t> dims) {
  INK_CHECK(!begun_);
  const std::string what = "tensor " + Quoted(name);
  if (name.empty() || name.size() > kMaxWrittenName) {
    return InvalidArgument(Mismatch(path_, what + ": name",
                                    "1 to " + Text(kMaxWrittenName) + " bytes", Text(name.size())));
  }
  if (type == DType::kNF4) {
    return InvalidArgument(Mismatch(path_, what + ": type", "a type that GGUF files have", "nf4"));
  }
  if (dims.empty() || dims.size() > kGgufMaxDims) {
    return InvalidArgument(
        Mismatch(path_, what + ": dimension count", "1 to 4", Text(dims.size())));
  }
  const DTypeInfo& info = Info(type);
  Tensor tensor{.name = std::string(name),
                .type = type,
                .num_dims = static_cast<int>(dims.size()),
                .dims = {1, 1, 1, 1},
                .size = 0};
  uint64_t values = 1;
  for (size_t d = 0; d < dims.size(); ++d) {
    if (dims[d] < 1 || __builtin_mul_overflow(values, static_cast<uint64_t>(dims[d]), &values) ||
        values >> 55 != 0) {
      return InvalidArgument(Mismatch(path_, what + ": dimension " + Text(d),
                                      "1 or more, and less than 2^55 values in all",
                                      std::to_string(dims[d])));
    }
    tensor.dims[d] = dims[d];
  }
  if (dims[0] % info.block_values != 0) {
    return InvalidArgument(Mismatch(path_, what + ": row length",
                                    "a multiple of " + std::to_string(info.block_values) +
                                        " for type " + std::string(info.name),
                                    std::to_string(dims[0])));
  }
  tensor.size =
      values / static_cast<uint64_t>(info.block_values) * static_cast<uint64_t>(info.block_bytes);
  if (!names_.insert(tensor.name).second) {
    return InvalidArgument(Mismatch(path_, "tensor name", "a name not used before", Quoted(name)));
  }
  total_bytes_ += tensor.size;
  tensors_.push_back(std::move(tensor));
  return OkStatus();
}

void GgufWriter::PlanShards() {
  shards_.emplace_back();
  uint64_t offset = 0;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    Tensor& tensor = tensors_[i];
    if (options_.max_shard_bytes > 0 && offset > 0 &&
        offset + tensor.size > options_.max_shard_bytes) {
      shards_.emplace_back();
      shards_.back().first = i;
      offset = 0;
    }
    tensor.shard = static_cast<int>(shards_.size()) - 1;
    tensor.offset = offset;
    offset += AlignUp(tensor.size, options_.alignment);
    ++shards_.back().count;
  }
  if (shards_.size() == 1) {
    shards_[0].path = path_;
    return;
  }
  constexpr std::string_view kSuffix = ".gguf";
  std::string prefix = path_;
  if (prefix.ends_with(kSuffix)) prefix.resize(prefix.size() - kSuffix.size());
  for (size_t i = 0; i < shards_.size(); ++i) {
    shards_[i].path = GgufShardPath(prefix, static_cast<int>(i), static_cast<int>(shards_.size()));
  }
}

Status GgufWriter::WriteHeader(int shard) {
  const Shard& own = shards_[static_cast<size_t>(shard)];
  // Non-first shards carry the split keys alone, as gguf-split writes them.
  Metadata keys;
  if (shard == 0) {
    for (const Metadata::Entry& entry : metadata_.entries()) {
      if (!IsOwnKey(entry.key)) keys.AppendView(entry.key, entry.value);
    }
  }
  if (options_.alignment != kGgufDefaultAlignment) {
    keys.SetU32(kGgufAlignmentKey, options_.alignment);
  }
  if (shards_.size() > 1) {
    keys.SetU16(kGgufSplitNoKey, static_cast<uint16_t>(shard));
    keys.SetU16(kGgufSplitCountKey, static_cast<uint16_t>(shards_.size()));
    keys.SetI32(kGgufSplitTensorsKey, static_cast<int32_t>(tensors_.size()));
  }
  Encoder out;
  out.Number(uint32_t{0x46554747});  // "GGUF"
  out.Number(uint32_t{3});
  out.Number(static_cast<uint64_t>(own.count));
  out.Number(static_cast<uint64_t>(keys.size()));
  for (const Metadata::Entry& entry : keys.entries()) out.KeyValue(entry.key, entry.value);
  for (size_t i = own.first; i < own.first + own.count; ++i) {
    const Tensor& tensor = tensors_[i];
    out.String(tensor.name);
    out.Number(static_cast<uint32_t>(tensor.num_dims));
    for (int d = 0; d < tensor.num_dims; ++d) {
      out.Number(static_cast<uint64_t>(tensor.dims[static_cast<size_t>(d)]));
    }
    out.Number(static_cast<uint32_t>(tensor.type));
    out.Number(tensor.offset);
  }
  out.Pad(options_.alignment);
  return shards_[static_cast<size_t>(shard)].file.Write(out.text());
}

Status GgufWriter::Begin() {
  INK_CHECK(!begun_);
  PlanShards();
  if (shards_.size() > 65535) {
    return InvalidArgument(Mismatch(path_, "number of shards", "at most 65535",
                                    Text(shards_.size()) + "; raise the shard size"));
  }
  begun_ = true;
  for (size_t i = 0; i < shards_.size(); ++i) {
    INK_ASSIGN_OR_RETURN(shards_[i].file, AtomicFile::Create(shards_[i].path));
    INK_RETURN_IF_ERROR(WriteHeader(static_cast<int>(i)));
  }
  return OkStatus();
}

Status GgufWriter::FinishTensor() {
  const Tensor& tensor = tensors_[current_];
  const uint64_t padding = AlignUp(tensor.size, options_.alignment) - tensor.size;
  INK_RETURN_IF_ERROR(
      shards_[static_cast<size_t>(tensor.shard)].file.Write(std::string(padding, '\0')));
  ++current_;
  current_done_ = 0;
  return OkStatus();
}

Status GgufWriter::Write(std::span<const std::byte> bytes) {
  INK_CHECK(begun_);
  while (!bytes.empty()) {
    if (current_ == tensors_.size()) {
      return InvalidArgument(Mismatch(path_, "tensor data", Text(total_bytes_) + " bytes",
                                      Text(bytes.size()) + " more"));
    }
    const Tensor& tensor = tensors_[current_];
    const size_t n = std::min<uint64_t>(bytes.size(), tensor.size - current_done_);
    INK_RETURN_IF_ERROR(shards_[static_cast<size_t>(tensor.shard)].file.Write(bytes.subspan(0, n)));
    bytes = bytes.subspan(n);
    current_done_ += n;
    written_bytes_ += n;
    if (current_done_ == tensor.size) INK_RETURN_IF_ERROR(FinishTensor());
  }
  return OkStatus();
}

Status GgufWriter::Finish() {
  INK_CHECK(begun_);
  if (current_ < tensors_.size()) {
    return InvalidArgument(Mismatch(path_, "data of tensor " + Quoted(tensors_[current_].name),
                                    Text(tensors_[current_].size) + " bytes", Text(current_done_)));
  }
  // The first shard last: a set that has one is complete.
  for (size_t i = shards_.size(); i-- > 0;) INK_RETURN_IF_ERROR(shards_[i].file.Commit());
  return OkStatus();
}

std::vector<std::string> GgufWriter::paths() const {
  std::vector<std::string> out;
  for (const Shard& shard : shards_) out.push_back(shard.path);
  return out;
}

}  // namespace ink
