#include "compress/importance.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "base/mapped_file.h"
#include "formats/gguf.h"

namespace ink {
namespace {

constexpr std::string_view kSumsSuffix = ".in_sum2";
constexpr std::string_view kCountsSuffix = ".counts";

// Reads the little-endian fields of the older form, each checked against what is left.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  size_t left() const { return bytes_.size() - at_; }
  bool done() const { return left() == 0; }

  Result<int32_t> Int(const std::string& what) {
    if (left() < 4) return Short(what, 4);
    int32_t value;
    std::memcpy(&value, bytes_.data() + at_, 4);
    at_ += 4;
    return value;
  }

  Result<std::string> String(const std::string& what) {
    INK_ASSIGN_OR_RETURN(const int32_t length, Int(what + " length"));
    if (length < 0 || static_cast<size_t>(length) > left()) return Short(what, length);
    std::string text(reinterpret_cast<const char*>(bytes_.data() + at_),
                     static_cast<size_t>(length));
    at_ += text.size();
    return text;
  }

  Result<std::vector<float>> Floats(const std::string& what, int32_t count) {
    if (count < 1 || static_cast<size_t>(count) > left() / 4) {
      return Short(what, int64_t{count} * 4);
    }
    std::vector<float> values(static_cast<size_t>(count));
    std::memcpy(values.data(), bytes_.data() + at_, values.size() * 4);
    at_ += values.size() * 4;
    return values;
  }

 private:
  Status Short(const std::string& what, int64_t wanted) const {
    return Corrupt(name_ + ": importance matrix: " + what + " at byte " + std::to_string(at_) +
                   " needs " + std::to_string(wanted) + " bytes, the file has " +
                   std::to_string(left()) + " left");
  }

  std::span<const std::byte> bytes_;
  const std::string& name_;
  size_t at_ = 0;
};

Result<std::vector<float>> TensorFloats(const GgufTensor& tensor, const std::string& path) {
  if (tensor.type != DType::kF32) {
    return Corrupt(path + ": importance matrix: tensor " + std::string(tensor.name) +
                   " should be f32, it is " + std::string(Info(tensor.type).name));
  }
  std::vector<float> values(tensor.data.size() / 4);
  std::memcpy(values.data(), tensor.data.data(), values.size() * 4);
  return values;
}

}  // namespace

Status ImportanceMatrix::Add(const std::string& tensor, std::vector<float> values) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i]) && values[i] >= 0.0f) continue;
    return Corrupt(path_ + ": importance of " + tensor + " at index " + std::to_string(i) +
                   " should be finite and not negative, it is " + std::to_string(values[i]));
  }
  if (!values_.emplace(tensor, std::move(values)).second) {
    return Corrupt(path_ + ": importance matrix: two entries for " + tensor);
  }
  return OkStatus();
}

Result<ImportanceMatrix> ImportanceMatrix::Load(const std::string& path) {
  if (!GgufFile::IsGguf(path)) {
    INK_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
    return ParseLegacy(file.bytes(), path);
  }
  INK_ASSIGN_OR_RETURN(const GgufFile file, GgufFile::Open(path));
  ImportanceMatrix matrix;
  matrix.path_ = path;
  INK_ASSIGN_OR_RETURN(matrix.chunks_, file.metadata().GetU32("imatrix.chunk_count", 0));
  if (file.metadata().Has("imatrix.datasets")) {
    INK_ASSIGN_OR_RETURN(const StringArray datasets,
                         file.metadata().GetStrings("imatrix.datasets"));
    if (!datasets.empty()) matrix.dataset_ = *datasets.begin();
  }
  for (const GgufTensor& sums : file.tensors()) {
    if (!sums.name.ends_with(kSumsSuffix)) continue;
    const std::string name(sums.name.substr(0, sums.name.size() - kSumsSuffix.size()));
    INK_ASSIGN_OR_RETURN(const GgufTensor* counts_tensor,
                         file.Get(name + std::string(kCountsSuffix)));
    INK_ASSIGN_OR_RETURN(std::vector<float> values, TensorFloats(sums, path));
    INK_ASSIGN_OR_RETURN(const std::vector<float> counts, TensorFloats(*counts_tensor, path));
    if (counts.empty() || values.size() % counts.size() != 0) {
      return Corrupt(path + ": importance matrix: " + name + " has " +
                     std::to_string(values.size()) + " sums, no multiple of its " +
                     std::to_string(counts.size()) + " counts");
    }
    const size_t row = values.size() / counts.size();
    for (size_t e = 0; e < counts.size(); ++e) {
      for (size_t j = 0; j < row; ++j) {
        float& value = values[e * row + j];
        // An expert that no calibration token reached: all columns alike.
        value = counts[e] > 0.0f ? value / counts[e] : 1.0f;
      }
    }
    INK_RETURN_IF_ERROR(matrix.Add(name, std::move(values)));
  }
  if (matrix.values_.empty()) {
    return Corrupt(path + ": importance matrix: expected tensors named NAME.in_sum2, found none");
  }
  return matrix;
}

Result<ImportanceMatrix> ImportanceMatrix::ParseLegacy(std::span<const std::byte> bytes,
                                                       const std::string& name) {
  ImportanceMatrix matrix;
  matrix.path_ = name;
  Cursor cursor(bytes, name);
  INK_ASSIGN_OR_RETURN(const int32_t entries, cursor.Int("number of entries"));
  // Each entry takes 16 bytes or more.
  if (entries < 1 || static_cast<size_t>(entries) > bytes.size() / 16) {
    return Corrupt(name + ": importance matrix: number of entries should be 1 to " +
                   std::to_string(bytes.size() / 16) + " in a file of this size, it is " +
                   std::to_string(entries));
  }
  for (int32_t i = 0; i < entries; ++i) {
    const std::string label = "entry " + std::to_string(i);
    INK_ASSIGN_OR_RETURN(const std::string tensor, cursor.String(label + "'s name"));
    INK_ASSIGN_OR_RETURN(const int32_t calls, cursor.Int(label + "'s number of calls"));
    INK_ASSIGN_OR_RETURN(const int32_t count, cursor.Int(label + "'s number of values"));
    INK_ASSIGN_OR_RETURN(std::vector<float> values, cursor.Floats(label + "'s values", count));
    if (calls > 0) {
      for (float& value : values) value /= static_cast<float>(calls);
    }
    INK_RETURN_IF_ERROR(matrix.Add(tensor, std::move(values)));
  }
  if (cursor.done()) return matrix;
  INK_ASSIGN_OR_RETURN(const int32_t chunks, cursor.Int("number of chunks"));
  matrix.chunks_ = chunks > 0 ? static_cast<uint32_t>(chunks) : 0;
  if (!cursor.done()) {
    INK_ASSIGN_OR_RETURN(matrix.dataset_, cursor.String("name of the data set"));
  }
  return matrix;
}

const std::vector<float>* ImportanceMatrix::Find(std::string_view tensor) const {
  const auto it = values_.find(std::string(tensor));
  return it == values_.end() ? nullptr : &it->second;
}

}  // namespace ink
