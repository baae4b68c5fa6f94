// Importance matrices: per weight matrix, the mean square of each input column over calibration
// text. A quantizer minimises sum_j importance[j] * error_j^2 over each row, the expected squared
// error of the output under uncorrelated inputs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"

namespace ink {

class ImportanceMatrix {
 public:
  /// Reads llama.cpp's imatrix files: GGUF (NAME.in_sum2 and NAME.counts per tensor) or the older
  /// binary form. Errors: kNotFound, kIo, kCorrupt.
  static Result<ImportanceMatrix> Load(const std::string& path);
  /// The older form from memory; `name` begins messages.
  static Result<ImportanceMatrix> ParseLegacy(std::span<const std::byte> bytes,
                                              const std::string& name);

  /// Values of a tensor, finite and >= 0: [num_experts][row length] in one vector (one expert for a
  /// plain matrix). Null when calibration did not cover it.
  const std::vector<float>* Find(std::string_view tensor) const;
  size_t size() const { return values_.size(); }

  const std::string& path() const { return path_; }
  /// Calibration text's name and its number of chunks, where the file tells.
  const std::string& dataset() const { return dataset_; }
  uint32_t chunks() const { return chunks_; }

 private:
  Status Add(const std::string& tensor, std::vector<float> values);

  std::string path_;
  std::string dataset_;
  uint32_t chunks_ = 0;
  std::unordered_map<std::string, std::vector<float>> values_;
};

}  // namespace ink
