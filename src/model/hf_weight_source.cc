#include <filesystem>
#include <mutex>
#include <unordered_map>

#include "formats/quote.h"
#include "model/hf_convert_values.h"
#include "model/hf_model.h"
#include "model/weight_source.h"

namespace ink {
namespace {

class HfWeightSource : public WeightSource {
 public:
  explicit HfWeightSource(HfModel model) : model_(std::move(model)) {}

  const std::string& path() const override { return model_.folder(); }
  const Metadata& metadata() const override { return model_.config().metadata; }
  bool Has(std::string_view name) const override {
    return Factors(name) != nullptr || model_.Find(name) != nullptr;
  }
  std::vector<std::string> Names() const override {
    std::vector<std::string> names;
    for (std::string_view name : kFactorNames) {
      if (Factors(name) != nullptr) names.emplace_back(name);
    }
    for (const HfModel::Tensor& tensor : model_.tensors()) names.push_back(tensor.form.gguf);
    return names;
  }

  Result<SourceTensor> Matrix(std::string_view name) const override {
    INK_ASSIGN_OR_RETURN(const HfModel::Tensor* tensor, Get(name));
    if (tensor->shape.size() != 2 || FindQuantFormat(tensor->type) == nullptr) {
      return Unsupported(Wrong(*tensor, "a matrix of F32, F16 or BF16"));
    }
    SourceTensor out{.name = tensor->form.gguf,
                     .type = tensor->type,
                     .rows = tensor->shape[0],
                     .cols = tensor->shape[1]};
    if (tensor->form.keep_f32 && tensor->type != DType::kF32) {
      out.type = DType::kF32;
      out.experts.push_back(Decoded(*tensor));
      return out;
    }
    for (const SafetensorsTensor* part : tensor->parts) out.experts.push_back(part->data.data());
    return out;
  }

  Result<std::vector<float>> Vector(std::string_view name) const override {
    if (const std::vector<float>* factors = Factors(name)) return *factors;
    INK_ASSIGN_OR_RETURN(const HfModel::Tensor* tensor, Get(name));
    if (tensor->shape.size() != 1 || tensor->parts.size() != 1) {
      return Corrupt(Wrong(*tensor, "a vector"));
    }
    std::vector<float> values(static_cast<size_t>(tensor->shape[0]));
    const std::byte* data = tensor->parts[0]->data.data();
    if (tensor->form.minus_one) {
      DecodePlusOne(tensor->type, data, values.data(), tensor->shape[0]);
    } else {
      DecodeValues(tensor->type, data, values.data(), tensor->shape[0]);
    }
    return values;
  }

  void DropPages(const SourceTensor& tensor, int expert, int64_t first_row,
                 int64_t num_rows) const override {
    const HfModel::Tensor* stored = model_.Find(tensor.name);
    if (stored == nullptr) return;
    if (tensor.type != stored->type) {  // a decoded copy
      if (first_row + num_rows < tensor.rows) return;
      std::lock_guard lock(mutex_);
      decoded_.erase(tensor.name);
      return;
    }
    model_.file().DropPages(*stored->parts[static_cast<size_t>(expert)],
                            static_cast<uint64_t>(first_row * tensor.row_bytes()),
                            static_cast<uint64_t>(num_rows * tensor.row_bytes()));
  }

 private:
  static constexpr std::string_view kFactorNames[] = {
      "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"};

  // The rope factors that config.json implies, null when it has none of that name.
  const std::vector<float>* Factors(std::string_view name) const {
    const std::vector<float>* factors = nullptr;
    if (name == kFactorNames[0]) factors = &model_.config().rope_freqs;
    if (name == kFactorNames[1]) factors = &model_.config().rope_long;
    if (name == kFactorNames[2]) factors = &model_.config().rope_short;
    return factors == nullptr || factors->empty() ? nullptr : factors;
  }

  Result<const HfModel::Tensor*> Get(std::string_view name) const {
    const HfModel::Tensor* tensor = model_.Find(name);
    if (tensor != nullptr) return tensor;
    return NotFound(path() + ": no tensor for " + std::string(name));
  }

  std::string Wrong(const HfModel::Tensor& tensor, std::string_view expected) const {
    return Mismatch(path(), "tensor " + Quoted(tensor.parts[0]->name), expected,
                    tensor.parts[0]->type_name + " " + tensor.parts[0]->ShapeString());
  }

  // GGUF files hold routers in f32, and the arithmetic of a matrix depends on its type; so that
  // both sources agree, a router of another type is decoded until its pages are dropped.
  const std::byte* Decoded(const HfModel::Tensor& tensor) const {
    std::lock_guard lock(mutex_);
    std::vector<float>& values = decoded_[tensor.form.gguf];
    const SafetensorsTensor& part = *tensor.parts[0];
    if (values.empty()) {
      values.resize(static_cast<size_t>(part.num_values()));
      DecodeValues(tensor.type, part.data.data(), values.data(), part.num_values());
    }
    return reinterpret_cast<const std::byte*>(values.data());
  }

  HfModel model_;
  mutable std::mutex mutex_;
  mutable std::unordered_map<std::string, std::vector<float>> decoded_;
};

}  // namespace

Result<std::unique_ptr<WeightSource>> OpenHfSource(const std::string& folder) {
  INK_ASSIGN_OR_RETURN(HfModel model, HfModel::Open(folder));
  return std::unique_ptr<WeightSource>(std::make_unique<HfWeightSource>(std::move(model)));
}

Result<std::unique_ptr<WeightSource>> OpenWeightSource(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error) ? OpenHfSource(path) : OpenGgufSource(path);
}

}  // namespace ink
