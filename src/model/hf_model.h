// A Hugging Face model folder, opened: config.json as metadata, and the tensors of its safetensors
// files under their GGUF names.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "formats/safetensors.h"
#include "model/hf_config.h"
#include "model/hf_tensors.h"
#include "tensor/dtype.h"

namespace ink {

class HfModel {
 public:
  struct Tensor {
    HfTensor form;
    DType type = DType::kF32;
    std::vector<int64_t> shape;  // [out, in] or [n]; of one expert
    // The data: one part, or one for each expert, all of the same type and shape.
    std::vector<const SafetensorsTensor*> parts;
  };

  HfModel() = default;
  HfModel(HfModel&&) noexcept = default;
  HfModel& operator=(HfModel&&) noexcept = default;

  /// Reads FOLDER/config.json and maps the safetensors files. Every tensor of the folder must be
  /// one that the architecture has (or one that IsForeignHfTensor knows), and the tensors that
  /// every model has must be there. Errors: kNotFound, kIo, kCorrupt, kUnsupported.
  static Result<HfModel> Open(const std::string& folder);

  const std::string& folder() const { return folder_; }
  const HfConfig& config() const { return config_; }
  const SafetensorsFile& file() const { return file_; }
  /// In the order of HfTensorsOf. The rope factors are in config(), not here.
  const std::vector<Tensor>& tensors() const { return tensors_; }
  /// By GGUF name; null when there is none.
  const Tensor* Find(std::string_view gguf_name) const;

 private:
  Status AddTensor(const HfTensor& form, size_t* used);
  Status CheckAllUsed(size_t used) const;

  std::string folder_;
  HfConfig config_;
  SafetensorsFile file_;
  std::vector<Tensor> tensors_;
  std::unordered_map<std::string, size_t> index_;  // GGUF name -> position in tensors_
};

/// True when `path` is a folder with a config.json in it.
bool IsHfFolder(const std::string& path);

}  // namespace ink
