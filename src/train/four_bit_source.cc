#include "train/four_bit_source.h"

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "quant/quant_format.h"

namespace ink {
namespace {

class FourBitSource : public WeightSource {
 public:
  explicit FourBitSource(const WeightSource& base) : base_(base) {}
  const std::string& path() const override { return base_.path(); }
  const Metadata& metadata() const override { return base_.metadata(); }
  bool Has(std::string_view name) const override { return base_.Has(name); }
  std::vector<std::string> Names() const override { return base_.Names(); }
  Result<std::vector<float>> Vector(std::string_view name) const override {
    return base_.Vector(name);
  }

  Result<SourceTensor> Matrix(std::string_view name) const override {
    INK_ASSIGN_OR_RETURN(SourceTensor tensor, base_.Matrix(name));
    const bool is_float =
        tensor.type == DType::kF32 || tensor.type == DType::kF16 || tensor.type == DType::kBF16;
    const bool router = name.find("ffn_gate_inp") != std::string_view::npos;
    if (!is_float || router || tensor.cols % Info(kFourBitType).block_values != 0) return tensor;
    const std::lock_guard lock(mutex_);
    Encoded& encoded = encoded_[std::string(name)];
    const int64_t row_bytes = RowBytes(kFourBitType, tensor.cols);
    if (encoded.bytes.empty()) {
      encoded.rows_left = tensor.rows * tensor.num_experts();
      encoded.bytes.resize(static_cast<size_t>(row_bytes * encoded.rows_left));
      const QuantFormat* from = FindQuantFormat(tensor.type);
      const QuantFormat* to = FindQuantFormat(kFourBitType);
      std::vector<float> row(static_cast<size_t>(tensor.cols));
      std::byte* out = encoded.bytes.data();
      for (int e = 0; e < tensor.num_experts(); ++e) {
        for (int64_t r = 0; r < tensor.rows; ++r, out += row_bytes) {
          from->decode(tensor.Row(e, r), row.data(), tensor.cols);
          to->encode(row.data(), nullptr, out, tensor.cols);
        }
        base_.DropPages(tensor, e, 0, tensor.rows);
      }
    }
    SourceTensor out;
    out.name = tensor.name;
    out.type = kFourBitType;
    out.rows = tensor.rows;
    out.cols = tensor.cols;
    for (int e = 0; e < tensor.num_experts(); ++e) {
      out.experts.push_back(encoded.bytes.data() + e * tensor.rows * row_bytes);
    }
    return out;
  }

  void DropPages(const SourceTensor& tensor, int expert, int64_t first_row,
                 int64_t num_rows) const override {
    const std::lock_guard lock(mutex_);
    const auto at = encoded_.find(tensor.name);
    if (at == encoded_.end() || tensor.type != kFourBitType) {
      base_.DropPages(tensor, expert, first_row, num_rows);
      return;
    }
    at->second.rows_left -= num_rows;
    if (at->second.rows_left <= 0) encoded_.erase(at);
  }

 private:
  struct Encoded {
    std::vector<std::byte> bytes;
    int64_t rows_left = 0;
  };
  const WeightSource& base_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, Encoded> encoded_;
};

}  // namespace

std::unique_ptr<WeightSource> MakeFourBitSource(const WeightSource& base) {
  return std::make_unique<FourBitSource>(base);
}

}  // namespace ink
