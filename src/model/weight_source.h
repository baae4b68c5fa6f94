// Where a model's metadata and tensors come from: a GGUF file or a Hugging Face folder. Both yield
// the same canonical tensors under GGUF's names ("blk.0.attn_q.weight"), so that model code knows
// one form and both sources of one model give bit-identical logits:
//   - rows of Q and K in Hugging Face order (GGUF's Llama files permute them per head),
//   - norm weights as the factor that multiplies (Gemma's + 1 resolved),
//   - the experts of a layer stacked.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "formats/metadata.h"
#include "tensor/dtype.h"

namespace ink {

/// A matrix, or a stack of `experts` of them, by rows. The bytes belong to the source.
struct SourceTensor {
  std::string name;
  DType type = DType::kF32;
  int64_t rows = 0;  // of one expert
  int64_t cols = 0;
  std::vector<const std::byte*> experts;  // first stored row of each expert
  // Heads whose rows are stored pairwise interleaved (GGUF's Llama): canonical row
  // h * d + half * d / 2 + i is stored row h * d + 2 * i + half. 0: stored in canonical order.
  int interleaved_heads = 0;

  int num_experts() const { return static_cast<int>(experts.size()); }
  int64_t row_bytes() const { return RowBytes(type, cols); }
  /// Bytes of canonical row `row` of expert `expert`.
  const std::byte* Row(int expert, int64_t row) const;
};

/// Seam: tests/model/weight_source_conformance.h runs on every implementation. Immutable and
/// thread-safe once opened.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  /// Path, for messages.
  virtual const std::string& path() const = 0;
  /// GGUF's keys, whatever the source ("general.architecture", "llama.block_count", ..).
  virtual const Metadata& metadata() const = 0;
  virtual bool Has(std::string_view name) const = 0;
  /// Canonical names of all tensors, in the source's order.
  virtual std::vector<std::string> Names() const = 0;
  /// Errors: kNotFound, kCorrupt, kUnsupported (a type no weight can have).
  virtual Result<SourceTensor> Matrix(std::string_view name) const = 0;
  /// A one-dimensional tensor as float32 in canonical order. Errors as Matrix.
  virtual Result<std::vector<float>> Vector(std::string_view name) const = 0;
  /// The tensor's pages may leave the resident set: everything was read.
  virtual void DropPages(const SourceTensor& tensor, int expert, int64_t first_row,
                         int64_t num_rows) const = 0;
};

/// Opens `path`: a GGUF file (or the first shard), or a folder with config.json. Errors name the
/// path and what is wrong.
Result<std::unique_ptr<WeightSource>> OpenWeightSource(const std::string& path);

/// Opens a folder with config.json and safetensors files as a source (see hf_model.h).
Result<std::unique_ptr<WeightSource>> OpenHfSource(const std::string& folder);

/// Opens a GGUF file as a source. A file without tensors is an error here.
Result<std::unique_ptr<WeightSource>> OpenGgufSource(const std::string& path);

/// The same from memory that outlives the source (an embedded model); `name` begins messages.
Result<std::unique_ptr<WeightSource>> OpenGgufSourceFromBytes(std::span<const std::byte> bytes,
                                                              std::string name);

}  // namespace ink
