// GGUF adapters by llama.cpp's convention: general.type "adapter", adapter.type "lora",
// adapter.lora.alpha, tensors NAME.lora_a {in, r} and NAME.lora_b {r, out}. Where the base
// interleaves the rows of Q and K, so does lora_b. An alpha of 0 means a scale of 1.
#include <algorithm>
#include <array>
#include <cmath>

#include "formats/gguf.h"
#include "formats/gguf_writer.h"
#include "formats/quote.h"
#include "model/adapter_files.h"
#include "model/hf_tensors.h"

namespace ink {
namespace {

struct Suffix {
  std::string_view text;
  AdapterPart part;
};
constexpr Suffix kSuffixes[] = {{".lora_a", AdapterPart::kA},
                                {".lora_b", AdapterPart::kB},
                                {".lora_magnitude", AdapterPart::kMagnitude}};

// Rows of `row_values` floats between the file's order and the canonical one.
std::vector<float> PermuteRows(const std::vector<float>& in, int64_t rows, int64_t row_values,
                               int heads, bool to_gguf) {
  std::vector<float> out(in.size());
  for (int64_t hf = 0; hf < rows; ++hf) {
    const int64_t gguf = GgufRowOfHf(hf, rows / heads);
    const int64_t from = to_gguf ? hf : gguf, to = to_gguf ? gguf : hf;
    std::copy_n(in.begin() + from * row_values, row_values, out.begin() + to * row_values);
  }
  return out;
}

Status CheckKey(const GgufFile& file, std::string_view key, std::string_view expected) {
  INK_ASSIGN_OR_RETURN(std::string_view value, file.metadata().GetString(key));
  if (value == expected) return OkStatus();
  return Unsupported(Mismatch(file.path(), key, Quoted(expected), Quoted(value)));
}

std::string UnknownTensor(const GgufFile& file, const GgufTensor& tensor,
                          const AdapterTarget& target) {
  return Mismatch(file.path(), "tensor " + Quoted(tensor.name),
                  "NAME.lora_a or NAME.lora_b of a matrix of the " + target.architecture + " model",
                  tensor.name.starts_with("token_embd.") ? "an adapter of the embedding"
                  : tensor.name.find(".lora_") == std::string_view::npos
                      ? "another tensor"
                      : "one of a matrix it does not have");
}

}  // namespace

Result<Adapter> ReadGgufAdapter(const std::string& path, const AdapterTarget& target) {
  INK_ASSIGN_OR_RETURN(GgufFile file, GgufFile::Open(path));
  const Metadata& m = file.metadata();
  if (!m.Has("general.type")) {
    return InvalidArgument(
        Mismatch(path, "general.type", "\"adapter\"", "no such key (a model, not an adapter)"));
  }
  INK_RETURN_IF_ERROR(CheckKey(file, "general.type", "adapter"));
  INK_RETURN_IF_ERROR(CheckKey(file, "adapter.type", "lora"));
  INK_ASSIGN_OR_RETURN(std::string_view arch, m.GetString("general.architecture"));
  if (arch != target.architecture) {
    return InvalidArgument(Mismatch(path, "general.architecture",
                                    Quoted(target.architecture) + " as the model's", Quoted(arch)));
  }
  if (m.Has("adapter.alora.invocation_tokens")) {
    return Unsupported(Mismatch(path, "adapter.alora.invocation_tokens",
                                "an adapter that is always active", "one that tokens switch on"));
  }
  Adapter adapter;
  adapter.path = path;
  INK_ASSIGN_OR_RETURN(adapter.alpha, m.GetFloat("adapter.lora.alpha"));
  if (!std::isfinite(adapter.alpha)) {
    return Corrupt(Mismatch(path, "adapter.lora.alpha", "a finite number", "another"));
  }
  if (m.Has("general.base_model.0.name")) {
    INK_ASSIGN_OR_RETURN(adapter.base_model, m.GetString("general.base_model.0.name"));
  }

  AdapterAssembler assembler(path, target);
  for (const GgufTensor& tensor : file.tensors()) {
    const Suffix* suffix = nullptr;
    for (const Suffix& row : kSuffixes) {
      if (tensor.name.ends_with(row.text)) suffix = &row;
    }
    const AdapterTarget::Matrix* matrix = nullptr;
    if (suffix != nullptr) {
      matrix = target.Find(tensor.name.substr(0, tensor.name.size() - suffix->text.size()));
    }
    if (matrix == nullptr) return Unsupported(UnknownTensor(file, tensor, target));
    AdapterTensor part{std::string(tensor.name), tensor.type, {}, tensor.data.data()};
    for (int d = tensor.num_dims - 1; d >= 0; --d) part.shape.push_back(tensor.dims[d]);
    // Writers drop or add trailing dimensions of 1 (a rank of 1 stays one).
    const size_t dims = suffix->part == AdapterPart::kMagnitude ? 1 : 2;
    while (part.shape.size() > dims && part.shape.front() == 1) {
      part.shape.erase(part.shape.begin());
    }
    if (part.shape.size() < dims) part.shape.insert(part.shape.begin(), 1);
    INK_RETURN_IF_ERROR(assembler.Add(*matrix, suffix->part, std::move(part)));
  }
  INK_RETURN_IF_ERROR(assembler.Finish(&adapter));
  for (Adapter::Matrix& out : adapter.matrices) {
    out.alpha = adapter.alpha == 0 ? static_cast<float>(out.rank) : adapter.alpha;
    const int heads = target.Find(out.name)->interleaved_heads;
    if (heads == 0) continue;
    out.b = PermuteRows(out.b, out.out, out.rank, heads, /*to_gguf=*/false);
    if (!out.magnitude.empty()) {
      out.magnitude = PermuteRows(out.magnitude, out.out, 1, heads, /*to_gguf=*/false);
    }
  }
  adapter.rank = adapter.matrices.front().rank;
  adapter.alpha = adapter.matrices.front().alpha;
  return adapter;
}

Status WriteGgufAdapter(const Adapter& adapter, const AdapterTarget& target,
                        const std::string& path) {
  INK_RETURN_IF_ERROR(CheckAdapter(adapter, target));
  GgufWriter writer(path);
  Metadata& m = writer.metadata();
  m.SetString("general.architecture", target.architecture);
  m.SetString("general.type", "adapter");
  m.SetString("adapter.type", "lora");
  if (!adapter.base_model.empty()) {
    m.SetU32("general.base_model.count", 1);
    m.SetString("general.base_model.0.name", adapter.base_model);
  }
  // The alpha whose scale alpha / r is the first matrix's own. An alpha of 0 would mean 1.
  const Adapter::Matrix& first = adapter.matrices.front();
  float alpha =
      adapter.rank_stabilized ? adapter.Scale(first) * static_cast<float>(first.rank) : first.alpha;
  if (alpha == 0) alpha = static_cast<float>(first.rank);
  m.SetF32("adapter.lora.alpha", alpha);
  for (const Adapter::Matrix& matrix : adapter.matrices) {
    const std::array<int64_t, 2> a = {matrix.in, matrix.rank}, b = {matrix.rank, matrix.out};
    INK_RETURN_IF_ERROR(writer.AddTensor(matrix.name + ".lora_a", DType::kF32, a));
    INK_RETURN_IF_ERROR(writer.AddTensor(matrix.name + ".lora_b", DType::kF32, b));
    if (!matrix.magnitude.empty()) {
      INK_RETURN_IF_ERROR(writer.AddTensor(matrix.name + ".lora_magnitude", DType::kF32,
                                           std::array<int64_t, 1>{matrix.out}));
    }
  }
  INK_RETURN_IF_ERROR(writer.Begin());
  for (const Adapter::Matrix& matrix : adapter.matrices) {
    std::vector<float> b = matrix.b, magnitude = matrix.magnitude;
    const float stored = alpha / static_cast<float>(matrix.rank);
    const float wanted = adapter.Scale(matrix);
    // A rank-stabilized alpha is rounded; a difference of rounding is none worth folding.
    if (std::abs(stored - wanted) > 1e-6f * std::abs(wanted)) {
      for (float& value : b) value *= wanted / stored;
    }
    if (const int heads = target.Find(matrix.name)->interleaved_heads; heads > 0) {
      b = PermuteRows(b, matrix.out, matrix.rank, heads, /*to_gguf=*/true);
      if (!magnitude.empty()) {
        magnitude = PermuteRows(magnitude, matrix.out, 1, heads, /*to_gguf=*/true);
      }
    }
    for (std::span<const float> values :
         {std::span(matrix.a), std::span<const float>(b), std::span<const float>(magnitude)}) {
      INK_RETURN_IF_ERROR(writer.Write(std::as_bytes(values)));
    }
  }
  return writer.Finish();
}

}  // namespace ink
