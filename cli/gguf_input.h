// Models as GGUF files, for commands that rewrite tensors: a file, the embedded default model, or a
// Hugging Face folder by way of a temporary file.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "formats/gguf.h"
#include "model/hf_convert.h"
#include "model/weight_source.h"

namespace ink::cli {

/// A Hugging Face folder as one GGUF file, vocabulary included. Errors: those of HfModel,
/// SpecFromFolder and ConvertHfToGguf.
Status ConvertFolder(const std::string& folder, const std::string& out,
                     const ConvertOptions& request, std::vector<std::string>* warnings);

class GgufInput {
 public:
  GgufInput() = default;
  /// Removes the temporary file.
  ~GgufInput();
  GgufInput(GgufInput&& other) noexcept;
  GgufInput& operator=(GgufInput&& other) noexcept;

  /// `path` is a GGUF file or a folder; empty means the embedded default model. A folder becomes a
  /// file beside `out`, which needs as much room as the folder's weights.
  static Result<GgufInput> Open(const std::string& path, const std::string& out,
                                const ConvertOptions& request, std::vector<std::string>* warnings);

  const GgufFile& file() const { return file_; }
  /// The same tensors under canonical names.
  Result<std::unique_ptr<WeightSource>> OpenSource() const;

 private:
  GgufFile file_;
  std::string path_;  // empty: embedded
  std::string temporary_;
};

}  // namespace ink::cli
