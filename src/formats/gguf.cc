#include "formats/gguf.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>

#include "formats/quote.h"

namespace ink {
namespace {

constexpr std::string_view kMagic = "GGUF";
// Far above any model (the largest have some thousand tensors and some hundred keys), so that a
// hostile header cannot make the index many times larger than the file itself.
constexpr uint64_t kMaxKeys = 1 << 16;
constexpr uint64_t kMaxTensors = 1 << 18;
constexpr uint64_t kMaxKeyBytes = 65535;  // the specification's limit
constexpr uint64_t kMaxShards = 99999;    // five digits in the file name
// The shortest possible encodings: length + 1 byte + type + 1 byte; length + 1 byte + dimension
// count + 1 dimension + type + offset.
constexpr uint64_t kMinKeyValueBytes = 8 + 1 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

std::string Text(uint64_t value) { return std::to_string(value); }

bool MulOverflows(uint64_t a, uint64_t b, uint64_t* product) {
  return __builtin_mul_overflow(a, b, product);
}

uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

// Reads a header front to back; every failure names the field and the byte where it should be.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& path) : bytes_(bytes), path_(path) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }
  const std::string& path() const { return path_; }

  Result<std::string_view> Take(std::string_view what, uint64_t size) {
    if (size > remaining()) {
      return Corrupt(Mismatch(path_, what,
                              Text(size) + " bytes at byte " + Text(position_) + " of the file",
                              Text(remaining()) + " before its end"));
    }
    const char* at = reinterpret_cast<const char*>(bytes_.data()) + position_;
    position_ += size;
    return std::string_view(at, size);
  }

  template <typename T>
  Result<T> Number(std::string_view what) {
    INK_ASSIGN_OR_RETURN(std::string_view bytes, Take(what, sizeof(T)));
    T value;
    std::memcpy(&value, bytes.data(), sizeof(T));
    return value;
  }

  Result<std::string_view> String(std::string_view what) {
    INK_ASSIGN_OR_RETURN(uint64_t size, Number<uint64_t>(what));
    return Take(what, size);
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string& path_;
  uint64_t position_ = 0;
};

struct Header {
  uint32_t version;
  uint64_t num_tensors;
  uint64_t num_keys;
};

Status CheckCount(const Cursor& in, std::string_view what, uint64_t count, uint64_t limit,
                  uint64_t min_bytes) {
  if (count > limit) {
    return Corrupt(Mismatch(in.path(), what, "at most " + Text(limit), Text(count)));
  }
  if (count > in.remaining() / min_bytes) {
    return Corrupt(Mismatch(in.path(), what,
                            "at most " + Text(in.remaining() / min_bytes) + " in the remaining " +
                                Text(in.remaining()) + " bytes",
                            Text(count)));
  }
  return OkStatus();
}

Result<Header> ReadHeader(Cursor& in) {
  INK_ASSIGN_OR_RETURN(std::string_view magic, in.Take("magic", kMagic.size()));
  if (magic != kMagic) return Corrupt(Mismatch(in.path(), "magic", "\"GGUF\"", Quoted(magic)));
  Header header;
  INK_ASSIGN_OR_RETURN(header.version, in.Number<uint32_t>("version"));
  if (header.version != 2 && header.version != 3) {
    const uint32_t swapped = __builtin_bswap32(header.version);
    if (swapped >= 1 && swapped <= 3) {
      return Unsupported(Mismatch(in.path(), "byte order", "little endian",
                                  "a big-endian file of version " + Text(swapped)));
    }
    return Unsupported(Mismatch(in.path(), "version", "2 or 3", Text(header.version)));
  }
  INK_ASSIGN_OR_RETURN(header.num_tensors, in.Number<uint64_t>("tensor count"));
  INK_ASSIGN_OR_RETURN(header.num_keys, in.Number<uint64_t>("metadata count"));
  INK_RETURN_IF_ERROR(
      CheckCount(in, "metadata count", header.num_keys, kMaxKeys, kMinKeyValueBytes));
  INK_RETURN_IF_ERROR(
      CheckCount(in, "tensor count", header.num_tensors, kMaxTensors, kMinTensorBytes));
  return header;
}

Status CheckBools(const Cursor& in, const std::string& what, std::string_view bytes) {
  for (char c : bytes) {
    if (c != 0 && c != 1) {
      return Corrupt(
          Mismatch(in.path(), what, "a bool of 0 or 1", Text(static_cast<unsigned char>(c))));
    }
  }
  return OkStatus();
}

Status UnknownType(const Cursor& in, const std::string& what, uint32_t type) {
  return Corrupt(Mismatch(in.path(), what, "a metadata type of 0 to 12", Text(type)));
}

Result<MetadataValue> ReadArray(Cursor& in, const std::string& what) {
  MetadataValue value;
  value.type = MetadataType::kArray;
  INK_ASSIGN_OR_RETURN(uint32_t element, in.Number<uint32_t>(what + ": element type"));
  value.element_type = static_cast<MetadataType>(element);
  INK_ASSIGN_OR_RETURN(uint64_t count, in.Number<uint64_t>(what + ": element count"));
  value.count = count;
  if (value.element_type == MetadataType::kArray) {
    return Unsupported(
        Mismatch(in.path(), what, "an array of scalars or strings", "an array of arrays"));
  }
  if (value.element_type == MetadataType::kString) {
    // Each string has at least its length, so the count is checked before the walk.
    if (count > in.remaining() / 8) {
      return Corrupt(Mismatch(in.path(), what + ": element count",
                              "at most " + Text(in.remaining() / 8) + " strings in the remaining " +
                                  Text(in.remaining()) + " bytes",
                              Text(count)));
    }
    INK_ASSIGN_OR_RETURN(std::string_view begin, in.Take(what, 0));
    const uint64_t start = in.position();
    const std::string element_name = what + ": string in array";
    for (uint64_t i = 0; i < count; ++i) {
      INK_RETURN_IF_ERROR(in.String(element_name).status());
    }
    value.encoded = std::string_view(begin.data(), in.position() - start);
    return value;
  }
  const int bytes = MetadataTypeBytes(value.element_type);
  if (bytes == 0) return UnknownType(in, what + ": element type", element);
  uint64_t size;
  if (MulOverflows(count, static_cast<uint64_t>(bytes), &size)) {
    size = std::numeric_limits<uint64_t>::max();
  }
  INK_ASSIGN_OR_RETURN(value.encoded, in.Take(what, size));
  if (value.element_type == MetadataType::kBool) {
    INK_RETURN_IF_ERROR(CheckBools(in, what, value.encoded));
  }
  return value;
}

Result<MetadataValue> ReadValue(Cursor& in, const std::string& what) {
  INK_ASSIGN_OR_RETURN(uint32_t type, in.Number<uint32_t>(what + ": type"));
  MetadataValue value;
  value.type = static_cast<MetadataType>(type);
  value.element_type = value.type;
  if (value.type == MetadataType::kArray) return ReadArray(in, what);
  if (value.type == MetadataType::kString) {
    INK_ASSIGN_OR_RETURN(value.encoded, in.String(what));
    return value;
  }
  const int bytes = MetadataTypeBytes(value.type);
  if (bytes == 0) return UnknownType(in, what + ": type", type);
  INK_ASSIGN_OR_RETURN(value.encoded, in.Take(what, static_cast<uint64_t>(bytes)));
  if (value.type == MetadataType::kBool) {
    INK_RETURN_IF_ERROR(CheckBools(in, what, value.encoded));
  }
  return value;
}

Status ReadMetadata(Cursor& in, uint64_t count, Metadata* metadata) {
  for (uint64_t i = 0; i < count; ++i) {
    const std::string nth = "metadata key " + Text(i);
    INK_ASSIGN_OR_RETURN(std::string_view key, in.String(nth));
    if (key.empty() || key.size() > kMaxKeyBytes) {
      return Corrupt(Mismatch(in.path(), nth, "1 to 65535 bytes", Text(key.size())));
    }
    INK_ASSIGN_OR_RETURN(MetadataValue value, ReadValue(in, "metadata key " + Quoted(key)));
    if (!metadata->AppendView(key, value)) {
      return Corrupt(Mismatch(in.path(), nth, "a key not used before", Quoted(key)));
    }
  }
  return OkStatus();
}

// Names of ggml types that exist but that Inkstone cannot hold, for the message alone.
std::string_view ForeignTypeName(uint32_t id) {
  switch (id) {
    case 4:
      return "q4_2 (removed from ggml)";
    case 5:
      return "q4_3 (removed from ggml)";
    case 9:
      return "q8_1";
    case 15:
      return "q8_k";
    case 16:
      return "iq2_xxs";
    case 17:
      return "iq2_xs";
    case 18:
      return "iq3_xxs";
    case 19:
      return "iq1_s";
    case 21:
      return "iq3_s";
    case 22:
      return "iq2_s";
    case 29:
      return "iq1_m";
    case 34:
      return "tq1_0";
    case 35:
      return "tq2_0";
    default:
      return "no type of that number is known";
  }
}

std::string SupportedTypes() {
  std::string out = "one of";
  for (const DTypeInfo& info : AllDTypes()) {
    if (info.type != DType::kNF4) out += " " + std::string(info.name);
  }
  return out;
}

// Sizes of a tensor from its dimensions and type, all products checked.
Status SizeTensor(const Cursor& in, const std::string& what, GgufTensor* tensor) {
  uint64_t values = 1;
  for (int64_t dim : tensor->dims) {
    if (MulOverflows(values, static_cast<uint64_t>(dim), &values) || values >> 62 != 0) {
      return Corrupt(Mismatch(in.path(), what + ": number of values", "less than 2^62",
                              "the product of " + tensor->ShapeString()));
    }
  }
  const DTypeInfo& info = Info(tensor->type);
  if (tensor->dims[0] % info.block_values != 0) {
    return Corrupt(Mismatch(in.path(), what + ": row length",
                            "a multiple of " + std::to_string(info.block_values) + " for type " +
                                std::string(info.name),
                            std::to_string(tensor->dims[0])));
  }
  if (MulOverflows(values / static_cast<uint64_t>(info.block_values),
                   static_cast<uint64_t>(info.block_bytes), &tensor->size)) {
    return Corrupt(Mismatch(in.path(), what + ": bytes", "less than 2^64",
                            Text(values) + " values of type " + std::string(info.name)));
  }
  return OkStatus();
}

// One tensor info; `offset` is still relative to the data section.
Result<GgufTensor> ReadTensor(Cursor& in, uint64_t i) {
  GgufTensor tensor;
  const std::string nth = "tensor " + Text(i) + ": name";
  INK_ASSIGN_OR_RETURN(tensor.name, in.String(nth));
  if (tensor.name.empty() || tensor.name.size() > kGgufMaxTensorName) {
    return Corrupt(Mismatch(in.path(), nth, "1 to " + Text(kGgufMaxTensorName) + " bytes",
                            Text(tensor.name.size())));
  }
  const std::string what = "tensor " + Quoted(tensor.name);
  INK_ASSIGN_OR_RETURN(uint32_t num_dims, in.Number<uint32_t>(what + ": dimension count"));
  if (num_dims < 1 || num_dims > kGgufMaxDims) {
    return Corrupt(Mismatch(in.path(), what + ": dimension count", "1 to 4", Text(num_dims)));
  }
  tensor.num_dims = static_cast<int>(num_dims);
  for (uint32_t d = 0; d < num_dims; ++d) {
    const std::string name = what + ": dimension " + Text(d);
    INK_ASSIGN_OR_RETURN(uint64_t dim, in.Number<uint64_t>(name));
    if (dim < 1 || dim >> 62 != 0) {
      return Corrupt(Mismatch(in.path(), name, "1 or more, below 2^62", Text(dim)));
    }
    tensor.dims[d] = static_cast<int64_t>(dim);
  }
  INK_ASSIGN_OR_RETURN(uint32_t id, in.Number<uint32_t>(what + ": type"));
  std::optional<DType> type = DTypeFromId(id);
  if (!type) {
    return Unsupported(Mismatch(in.path(), what + ": type", SupportedTypes(),
                                "ggml type " + Text(id) + ", " + std::string(ForeignTypeName(id))));
  }
  tensor.type = *type;
  INK_RETURN_IF_ERROR(SizeTensor(in, what, &tensor));
  INK_ASSIGN_OR_RETURN(tensor.offset, in.Number<uint64_t>(what + ": offset"));
  return tensor;
}

Result<uint64_t> ReadAlignment(const Metadata& metadata, const std::string& path) {
  INK_ASSIGN_OR_RETURN(uint32_t alignment,
                       metadata.GetU32(kGgufAlignmentKey, kGgufDefaultAlignment));
  if (alignment == 0 || (alignment & (alignment - 1)) != 0) {
    return Corrupt(Mismatch(path, kGgufAlignmentKey, "a power of two", Text(alignment)));
  }
  return alignment;
}

// The data section must be exactly the tensors, each padded to the alignment, in any order: what
// every writer makes and the reference reader demands. Anything else is a lie about some size.
Status CheckLayout(const std::string& path, std::span<const GgufTensor> tensors,
                   uint64_t data_bytes, uint64_t alignment) {
  std::vector<const GgufTensor*> order;
  order.reserve(tensors.size());
  for (const GgufTensor& tensor : tensors) {
    const std::string what = "tensor " + Quoted(tensor.name);
    if (tensor.offset % alignment != 0) {
      return Corrupt(Mismatch(path, what + ": offset", "a multiple of " + Text(alignment),
                              Text(tensor.offset)));
    }
    if (tensor.offset > data_bytes || tensor.size > data_bytes - tensor.offset) {
      return Corrupt(Mismatch(path, what + ": data",
                              Text(tensor.size) + " bytes at offset " + Text(tensor.offset),
                              "a data section of " + Text(data_bytes) + " bytes"));
    }
    order.push_back(&tensor);
  }
  std::sort(order.begin(), order.end(),
            [](const GgufTensor* a, const GgufTensor* b) { return a->offset < b->offset; });
  uint64_t expected = 0;  // no overflow: every end lies inside the file
  for (size_t i = 0; i < order.size(); ++i) {
    if (order[i]->offset != expected) {
      const bool overlap = order[i]->offset < expected;
      std::string wanted = Text(expected);
      if (i > 0) wanted += ", after " + Quoted(order[i - 1]->name);
      return Corrupt(Mismatch(
          path, "tensor " + Quoted(order[i]->name) + ": offset", wanted,
          Text(order[i]->offset) + (overlap ? " (the tensors overlap)" : " (a gap between them)")));
    }
    expected = AlignUp(order[i]->offset + order[i]->size, alignment);
  }
  if (data_bytes > expected) {
    return Corrupt(Mismatch(path, "data section", Text(expected) + " bytes",
                            Text(data_bytes) + " (the file is longer than its tensors)"));
  }
  return OkStatus();
}

}  // namespace

std::string GgufTensor::ShapeString() const {
  std::string out = "[";
  for (int d = 0; d < std::max(num_dims, 1); ++d) {
    if (d > 0) out += ", ";
    out += std::to_string(dims[static_cast<size_t>(d)]);
  }
  return out + "]";
}

Status GgufFile::AddShard(std::span<const std::byte> bytes, const std::string& name, int shard,
                          Metadata* metadata) {
  Cursor in(bytes, name);
  INK_ASSIGN_OR_RETURN(Header header, ReadHeader(in));
  if (shard == 0) version_ = header.version;
  INK_RETURN_IF_ERROR(ReadMetadata(in, header.num_keys, metadata));
  INK_ASSIGN_OR_RETURN(uint64_t alignment, ReadAlignment(*metadata, name));
  INK_RETURN_IF_ERROR(
      CheckCount(in, "tensor count", header.num_tensors, kMaxTensors, kMinTensorBytes));

  std::vector<GgufTensor> tensors;
  tensors.reserve(header.num_tensors);
  for (uint64_t i = 0; i < header.num_tensors; ++i) {
    INK_ASSIGN_OR_RETURN(GgufTensor tensor, ReadTensor(in, i));
    tensors.push_back(tensor);
  }
  if (tensors_.size() + tensors.size() > kMaxTensors) {
    return Corrupt(Mismatch(name, "tensor count of all shards", "at most " + Text(kMaxTensors),
                            Text(tensors_.size() + tensors.size())));
  }

  // A vocabulary-only file may end without padding.
  const uint64_t data_start = AlignUp(in.position(), alignment);
  if (data_start > bytes.size() && !tensors.empty()) {
    return Corrupt(Mismatch(name, "data section", "a start at byte " + Text(data_start),
                            "a file of " + Text(bytes.size()) + " bytes"));
  }
  const uint64_t data_bytes = bytes.size() - std::min<uint64_t>(data_start, bytes.size());
  INK_RETURN_IF_ERROR(CheckLayout(name, tensors, data_bytes, alignment));

  for (GgufTensor& tensor : tensors) {
    tensor.shard = shard;
    tensor.offset += data_start;
    tensor.data = bytes.subspan(tensor.offset, tensor.size);
    if (!index_.emplace(tensor.name, tensors_.size()).second) {
      return Corrupt(Mismatch(name, "tensor name", "a name not used before", Quoted(tensor.name)));
    }
    tensor_bytes_ += tensor.size;
    tensors_.push_back(tensor);
  }
  return OkStatus();
}

Result<GgufFile> GgufFile::FromBytes(std::span<const std::byte> bytes, std::string name) {
  GgufFile file;
  file.metadata_ = Metadata(name);
  INK_RETURN_IF_ERROR(file.AddShard(bytes, name, 0, &file.metadata_));
  INK_ASSIGN_OR_RETURN(uint64_t count, file.metadata_.GetU64(kGgufSplitCountKey, 1));
  if (count > 1) {
    return Unsupported(Mismatch(name, kGgufSplitCountKey, "1 for a model in memory", Text(count)));
  }
  return file;
}

Result<GgufFile> GgufFile::Open(const std::string& path) {
  GgufFile file;
  file.metadata_ = Metadata(path);
  INK_ASSIGN_OR_RETURN(MappedFile first, MappedFile::Open(path));
  file.files_.push_back(std::move(first));
  INK_RETURN_IF_ERROR(file.AddShard(file.files_[0].bytes(), path, 0, &file.metadata_));

  INK_ASSIGN_OR_RETURN(uint64_t count, file.metadata_.GetU64(kGgufSplitCountKey, 1));
  if (count <= 1) return file;
  if (count > kMaxShards) {
    return Corrupt(Mismatch(path, kGgufSplitCountKey, "at most " + Text(kMaxShards), Text(count)));
  }
  const int num_shards = static_cast<int>(count);
  INK_ASSIGN_OR_RETURN(uint64_t number, file.metadata_.GetU64(kGgufSplitNoKey));
  if (number != 0) {
    std::string wanted = "0, the first shard";
    if (number < count) {
      std::string prefix = GgufShardPrefix(path, static_cast<int>(number), num_shards);
      if (!prefix.empty()) wanted += " (" + GgufShardPath(prefix, 0, num_shards) + ")";
    }
    return InvalidArgument(Mismatch(path, kGgufSplitNoKey, wanted, Text(number)));
  }
  const std::string prefix = GgufShardPrefix(path, 0, num_shards);
  if (prefix.empty()) {
    return InvalidArgument(Mismatch(path, "file name of a first shard",
                                    "an end of " + Quoted(GgufShardPath("", 0, num_shards)),
                                    Quoted(path, 400)));
  }
  for (int shard = 1; shard < num_shards; ++shard) {
    const std::string name = GgufShardPath(prefix, shard, num_shards);
    Result<MappedFile> mapped = MappedFile::Open(name);
    if (!mapped.ok()) {
      return mapped.status().WithContext(path + ": shard " + std::to_string(shard + 1) + " of " +
                                         std::to_string(num_shards));
    }
    file.files_.push_back(std::move(mapped).value());
    Metadata metadata(name);
    INK_RETURN_IF_ERROR(file.AddShard(file.files_.back().bytes(), name, shard, &metadata));
    INK_ASSIGN_OR_RETURN(uint64_t own_number, metadata.GetU64(kGgufSplitNoKey));
    INK_ASSIGN_OR_RETURN(uint64_t own_count, metadata.GetU64(kGgufSplitCountKey));
    if (own_number != static_cast<uint64_t>(shard)) {
      return Corrupt(Mismatch(name, kGgufSplitNoKey, std::to_string(shard), Text(own_number)));
    }
    if (own_count != count) {
      return Corrupt(Mismatch(name, kGgufSplitCountKey, Text(count), Text(own_count)));
    }
  }
  INK_ASSIGN_OR_RETURN(uint64_t total,
                       file.metadata_.GetU64(kGgufSplitTensorsKey, file.tensors_.size()));
  if (total != file.tensors_.size()) {
    return Corrupt(Mismatch(path, kGgufSplitTensorsKey,
                            Text(file.tensors_.size()) + " (the shards' tensors)", Text(total)));
  }
  return file;
}

bool GgufFile::IsGguf(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return false;
  char magic[4] = {};
  const bool read = std::fread(magic, 1, sizeof(magic), file) == sizeof(magic);
  std::fclose(file);
  return read && std::string_view(magic, sizeof(magic)) == kMagic;
}

const GgufTensor* GgufFile::Find(std::string_view name) const {
  auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

Result<const GgufTensor*> GgufFile::Get(std::string_view name) const {
  const GgufTensor* tensor = Find(name);
  if (tensor != nullptr) return tensor;
  return NotFound(Mismatch(path(), "tensor " + Quoted(name), "to be present",
                           "no tensor of that name among " + Text(tensors_.size())));
}

void GgufFile::DropPages(const GgufTensor& tensor, uint64_t begin, uint64_t size) const {
  const size_t shard = static_cast<size_t>(tensor.shard);
  if (shard >= files_.size() || begin >= tensor.size) return;
  files_[shard].DropPages(tensor.offset + begin, std::min(size, tensor.size - begin));
}

std::string GgufShardPath(std::string_view prefix, int number, int count) {
  char tail[40];
  std::snprintf(tail, sizeof(tail), "-%05d-of-%05d.gguf", number + 1, count);
  return std::string(prefix) + tail;
}

std::string GgufShardPrefix(std::string_view path, int number, int count) {
  const std::string tail = GgufShardPath("", number, count);
  if (path.size() <= tail.size() || !path.ends_with(tail)) return "";
  return std::string(path.substr(0, path.size() - tail.size()));
}

}  // namespace ink
