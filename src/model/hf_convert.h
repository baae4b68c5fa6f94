// A model from a GGUF file to a Hugging Face folder and back. Weights keep their type where the
// other side has it; every value that is used in inference stays what it is, so that logits from
// both are bit-identical (a quantized GGUF compares to the same file decoded).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "formats/gguf.h"
#include "formats/metadata.h"
#include "model/hf_model.h"
#include "tensor/dtype.h"

namespace ink {

struct ConvertOptions {
  /// What quantized weights become in a Hugging Face folder: f32, f16 or bf16.
  DType dequantized = DType::kF32;
  /// Most tensor bytes in one output file, 0 for a single file.
  uint64_t max_shard_bytes = 0;
  /// Called now and then with bytes written so far and in all; false stops the work (kCancelled).
  std::function<bool(uint64_t done, uint64_t total)> progress;
};

/// A further file of the folder: name and content.
using NamedText = std::pair<std::string, std::string>;

/// Writes config.json, generation_config.json, model.safetensors (or shards with an index) and
/// `more_files` into `folder`, which is made if needed; config.json comes last, so a folder that
/// has one is complete. What could not be kept exactly goes to `warnings`. Errors: kUnsupported
/// (architecture or tensor without a Hugging Face form), kCorrupt, kIo, and kInvalidArgument where
/// the folder holds other weights, which a reader would take for part of this model.
Status ConvertGgufToHf(const GgufFile& in, const std::string& folder,
                       const std::vector<NamedText>& more_files, const ConvertOptions& options,
                       std::vector<std::string>* warnings);

/// Writes one GGUF file (or shards). `vocabulary` holds tokenizer.* keys, appended to the model's
/// own. Errors: kUnsupported, kCorrupt, kIo.
Status ConvertHfToGguf(const HfModel& in, const Metadata& vocabulary, const std::string& path,
                       const ConvertOptions& options);

}  // namespace ink
