#include "model/adapter.h"

#include <cmath>
#include <filesystem>
#include <unordered_map>

#include "formats/gguf.h"
#include "formats/quote.h"
#include "model/adapter_files.h"
#include "model/hf_convert_values.h"
#include "model/hf_tensors.h"
#include "model/weight_source.h"

namespace ink {
namespace {

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

bool AllFinite(const std::vector<float>& values) {
  for (float value : values) {
    if (!std::isfinite(value)) return false;
  }
  return true;
}

}  // namespace

const AdapterTarget::Matrix* AdapterTarget::Find(std::string_view name) const {
  for (const Matrix& matrix : matrices) {
    if (matrix.name == name) return &matrix;
  }
  return nullptr;
}

const AdapterTarget::Matrix* AdapterTarget::FindModule(std::string_view hf_module) const {
  for (const Matrix& matrix : matrices) {
    if (!matrix.hf_module.empty() && matrix.hf_module == hf_module) return &matrix;
  }
  return nullptr;
}

Result<AdapterTarget> AdapterTargetOf(const WeightSource& source) {
  AdapterTarget target;
  INK_ASSIGN_OR_RETURN(std::string_view arch, source.metadata().GetString("general.architecture"));
  target.architecture = arch;
  constexpr std::string_view kSuffix = ".weight";
  // An architecture without a Hugging Face form still takes GGUF adapters.
  std::unordered_map<std::string, HfTensor> forms;
  if (auto known = HfTensorsOf(source.metadata()); known.ok()) {
    for (HfTensor& form : *known) forms.emplace(form.gguf, std::move(form));
  }
  std::vector<std::string> names = source.Names();
  const bool tied = !source.Has("output.weight");
  if (tied) names.push_back("output.weight");
  for (const std::string& name : names) {
    if (!name.ends_with(kSuffix) || name == "token_embd.weight") continue;
    AdapterTarget::Matrix matrix;
    matrix.name = name;
    matrix.tied = tied && name == "output.weight";
    auto tensor = source.Matrix(matrix.tied ? "token_embd.weight" : name);
    // Vectors (norms) and types that no weight has are nothing an adapter can change.
    if (!tensor.ok() || tensor->rows <= 1) continue;
    // A source may hold a decoded copy until the tensor's pages are dropped.
    if (name.find("ffn_gate_inp") != std::string::npos) {
      source.DropPages(*tensor, 0, 0, tensor->rows);
    }
    matrix.rows = tensor->rows;
    matrix.cols = tensor->cols;
    matrix.experts = tensor->num_experts() > 1;
    if (auto form = forms.find(name); form != forms.end()) {
      const HfTensor& f = form->second;
      matrix.experts = matrix.experts || f.experts > 0;
      matrix.interleaved_heads = static_cast<int>(f.permute_heads);
      if (f.experts == 0) {
        matrix.hf_module = f.hf.substr(0, f.hf.size() - kSuffix.size());
      }
      const int64_t heads = matrix.interleaved_heads;
      if (heads > 0 && matrix.rows % (2 * heads) != 0) {
        return Corrupt(Mismatch(source.path(), "tensor " + Quoted(name) + ": rows",
                                "a multiple of " + std::to_string(2 * heads) + " (heads)",
                                std::to_string(matrix.rows)));
      }
    }
    target.matrices.push_back(std::move(matrix));
  }
  return target;
}

float Adapter::Scale(const Matrix& matrix) const {
  const auto r = static_cast<float>(matrix.rank);
  return rank_stabilized ? matrix.alpha / std::sqrt(r) : matrix.alpha / r;
}

bool Adapter::dora() const {
  for (const Matrix& matrix : matrices) {
    if (!matrix.magnitude.empty()) return true;
  }
  return false;
}

int64_t Adapter::bytes() const {
  int64_t values = 0;
  for (const Matrix& m : matrices) {
    values += static_cast<int64_t>(m.a.size() + m.b.size() + m.magnitude.size());
  }
  return values * static_cast<int64_t>(sizeof(float));
}

Status CheckAdapter(const Adapter& adapter, const AdapterTarget& target) {
  const std::string& path = adapter.path;
  if (adapter.matrices.empty()) {
    return Corrupt(Mismatch(path, "adapter", "at least one matrix", "none"));
  }
  for (size_t i = 0; i < adapter.matrices.size(); ++i) {
    const Adapter::Matrix& m = adapter.matrices[i];
    const std::string what = "adapter of " + Quoted(m.name);
    const AdapterTarget::Matrix* matrix = target.Find(m.name);
    if (matrix == nullptr || matrix->experts) {
      return InvalidArgument(
          Mismatch(path, what,
                   "a matrix of the " + target.architecture + " model that is no stack of experts",
                   matrix == nullptr ? "none of that name" : "experts"));
    }
    for (size_t j = 0; j < i; ++j) {
      if (adapter.matrices[j].name == m.name) {
        return InvalidArgument(Mismatch(path, what, "each matrix once", "it twice"));
      }
    }
    if (m.in != matrix->cols || m.out != matrix->rows) {
      return InvalidArgument(Mismatch(path, what + ": [out, in]",
                                      ShapeText({matrix->rows, matrix->cols}) + " as in the model",
                                      ShapeText({m.out, m.in})));
    }
    if (m.rank < 1 || static_cast<int64_t>(m.a.size()) != m.rank * m.in ||
        static_cast<int64_t>(m.b.size()) != m.out * m.rank ||
        (!m.magnitude.empty() && static_cast<int64_t>(m.magnitude.size()) != m.out)) {
      return InvalidArgument(
          Mismatch(path, what + ": values of A, B and magnitude",
                   "rank * in, out * rank and out or none, at rank " + std::to_string(m.rank),
                   std::to_string(m.a.size()) + ", " + std::to_string(m.b.size()) + " and " +
                       std::to_string(m.magnitude.size())));
    }
    if (!std::isfinite(m.alpha) || !AllFinite(m.a) || !AllFinite(m.b) || !AllFinite(m.magnitude)) {
      return Corrupt(Mismatch(path, what, "finite values", "a NaN or infinity"));
    }
  }
  return OkStatus();
}

Status AdapterAssembler::Add(const AdapterTarget::Matrix& matrix, AdapterPart part,
                             AdapterTensor tensor) {
  if (matrix.experts) {
    return Unsupported(Mismatch(path_, "tensor " + Quoted(tensor.name),
                                "an adapter of a dense matrix",
                                "one of experts (" + matrix.name + ")"));
  }
  const std::string name = tensor.name;
  if (!found_[&matrix].emplace(part, std::move(tensor)).second) {
    return Corrupt(Mismatch(path_, "tensor " + Quoted(name), "one of its kind for " + matrix.name,
                            "a second one"));
  }
  return OkStatus();
}

Status AdapterAssembler::Shape(const AdapterTensor& tensor, std::vector<int64_t> expected,
                               std::string_view what) const {
  if (tensor.shape == expected) return OkStatus();
  return InvalidArgument(Mismatch(path_, "tensor " + Quoted(tensor.name) + ": shape",
                                  ShapeText(expected) + " (" + std::string(what) + ")",
                                  ShapeText(tensor.shape)));
}

Status AdapterAssembler::Decode(const AdapterTensor& tensor, std::vector<float>* out) const {
  if (tensor.type != DType::kF64 && FindQuantFormat(tensor.type) == nullptr) {
    return Unsupported(Mismatch(path_, "tensor " + Quoted(tensor.name) + ": type",
                                "a type that weights have", std::string(Info(tensor.type).name)));
  }
  int64_t count = 1;
  for (int64_t size : tensor.shape) count *= size;  // no overflow: the reader has the bytes
  const int block = Info(tensor.type).block_values;
  if (tensor.shape.back() % block != 0) {
    return Corrupt(Mismatch(path_, "tensor " + Quoted(tensor.name) + ": row length",
                            "a multiple of " + std::to_string(block),
                            std::to_string(tensor.shape.back())));
  }
  out->resize(static_cast<size_t>(count));
  DecodeValues(tensor.type, tensor.data, out->data(), count);
  if (AllFinite(*out)) return OkStatus();
  return Corrupt(
      Mismatch(path_, "tensor " + Quoted(tensor.name), "finite values", "a NaN or infinity"));
}

Status AdapterAssembler::Finish(Adapter* adapter) const {
  for (const AdapterTarget::Matrix& matrix : target_.matrices) {
    auto entry = found_.find(&matrix);
    if (entry == found_.end()) continue;
    const auto& parts = entry->second;
    auto a = parts.find(AdapterPart::kA), b = parts.find(AdapterPart::kB);
    auto magnitude = parts.find(AdapterPart::kMagnitude);
    if (a == parts.end() || b == parts.end()) {
      return Corrupt(Mismatch(path_, "adapter of " + matrix.name, "both A and B",
                              a != parts.end()   ? "A alone"
                              : b != parts.end() ? "B alone"
                                                 : "neither"));
    }
    Adapter::Matrix out;
    out.name = matrix.name;
    out.in = matrix.cols;
    out.out = matrix.rows;
    const std::vector<int64_t>& shape = a->second.shape;
    out.rank = shape.empty() ? 0 : shape[0];
    if (out.rank < 1) {
      return Corrupt(Mismatch(path_, "tensor " + Quoted(a->second.name) + ": shape",
                              "[rank, in] with a rank above 0", ShapeText(shape)));
    }
    INK_RETURN_IF_ERROR(Shape(a->second, {out.rank, out.in}, "rank, inputs of " + matrix.name));
    INK_RETURN_IF_ERROR(
        Shape(b->second, {out.out, out.rank}, "outputs of " + matrix.name + ", rank"));
    INK_RETURN_IF_ERROR(Decode(a->second, &out.a));
    INK_RETURN_IF_ERROR(Decode(b->second, &out.b));
    if (magnitude != parts.end()) {
      INK_RETURN_IF_ERROR(Shape(magnitude->second, {out.out}, "outputs of " + matrix.name));
      INK_RETURN_IF_ERROR(Decode(magnitude->second, &out.magnitude));
    }
    adapter->matrices.push_back(std::move(out));
  }
  if (adapter->matrices.empty()) {
    return Corrupt(Mismatch(path_, "adapter", "at least one matrix", "none"));
  }
  return OkStatus();
}

Result<Adapter> ReadAdapter(const std::string& path, const AdapterTarget& target) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (fs::is_directory(path, error)) return ReadPeftAdapter(path, target);
  if (!fs::exists(path, error)) {
    return NotFound(Mismatch(path, "adapter", "a GGUF file or a PEFT folder", "no such file"));
  }
  const std::string file = fs::path(path).filename().string();
  if (file == "adapter_config.json" || file == "adapter_model.safetensors") {
    const std::string folder = fs::path(path).parent_path().string();
    return ReadPeftAdapter(folder.empty() ? "." : folder, target);
  }
  if (GgufFile::IsGguf(path)) return ReadGgufAdapter(path, target);
  return Corrupt(Mismatch(path, "adapter", "a GGUF file or a PEFT folder", "another file"));
}

}  // namespace ink
