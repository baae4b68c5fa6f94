#include "model/hf_model.h"

#include <filesystem>
#include <unordered_set>

#include "formats/quote.h"

namespace ink {
namespace {

// What may stand before "embed_tokens.weight": plain models, multimodal models old and new, and
// folders of the bare model without its head.
constexpr std::string_view kPrefixes[] = {"model.", "language_model.model.",
                                          "model.language_model.", ""};

Result<std::string> FindPrefix(const SafetensorsFile& file) {
  for (std::string_view prefix : kPrefixes) {
    if (file.Find(std::string(prefix) + "embed_tokens.weight") != nullptr) {
      return std::string(prefix);
    }
  }
  return NotFound(Mismatch(file.path(), "tensor \"model.embed_tokens.weight\"", "to be present",
                           "no such tensor among " + std::to_string(file.tensors().size())));
}

}  // namespace

bool IsHfFolder(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(std::filesystem::path(path) / "config.json", error);
}

const HfModel::Tensor* HfModel::Find(std::string_view gguf_name) const {
  auto it = index_.find(std::string(gguf_name));
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

// Adds the tensor if the folder has it; `used` counts the file's tensors that were taken.
Status HfModel::AddTensor(const HfTensor& form, size_t* used) {
  const SafetensorsTensor* first = file_.Find(form.HfName(0));
  if (first == nullptr) return OkStatus();
  Tensor tensor{.form = form, .shape = first->shape, .parts = {first}};
  for (uint32_t expert = 1; expert < form.experts; ++expert) {
    INK_ASSIGN_OR_RETURN(const SafetensorsTensor* part, file_.Get(form.HfName(expert)));
    if (part->shape != first->shape || part->type_name != first->type_name) {
      return Corrupt(
          Mismatch(file_.path(), "tensor " + Quoted(part->name),
                   first->type_name + " " + first->ShapeString() + " as the first expert",
                   part->type_name + " " + part->ShapeString()));
    }
    tensor.parts.push_back(part);
  }
  const std::string what = "tensor " + Quoted(first->name);
  INK_ASSIGN_OR_RETURN(tensor.type, file_.TypeOf(*first));
  if (tensor.type != DType::kF32 && tensor.type != DType::kF16 && tensor.type != DType::kBF16 &&
      tensor.type != DType::kF64) {
    return Unsupported(
        Mismatch(file_.path(), what + ": dtype", "F32, F16, BF16 or F64", first->type_name));
  }
  if (first->shape.empty() || first->shape.size() > 2 || first->num_values() == 0) {
    return Corrupt(
        Mismatch(file_.path(), what + ": shape", "1 or 2 sizes above 0", first->ShapeString()));
  }
  const int64_t heads = form.permute_heads;
  if (heads > 0 && (first->shape[0] % heads != 0 || first->shape[0] / heads % 2 != 0)) {
    return Corrupt(Mismatch(file_.path(), what + ": rows",
                            std::to_string(heads) + " heads of an even number of rows",
                            std::to_string(first->shape[0])));
  }
  *used += tensor.parts.size();
  index_.emplace(form.gguf, tensors_.size());
  tensors_.push_back(std::move(tensor));
  return OkStatus();
}

Status HfModel::CheckAllUsed(size_t used) const {
  std::unordered_set<std::string_view> names;
  names.reserve(used);
  for (const Tensor& tensor : tensors_) {
    for (const SafetensorsTensor* part : tensor.parts) names.insert(part->name);
  }
  for (const SafetensorsTensor& tensor : file_.tensors()) {
    if (names.count(tensor.name) > 0 || IsForeignHfTensor(tensor.name)) continue;
    // A copy of the embedding that some tools store beside a model whose config ties them.
    if (config_.tied_embeddings && tensor.name.ends_with("lm_head.weight")) continue;
    return Unsupported(Mismatch(file_.path(), "tensor " + Quoted(tensor.name),
                                "a tensor of the architecture that config.json names",
                                "one that it does not have"));
  }
  return OkStatus();
}

Result<HfModel> HfModel::Open(const std::string& folder) {
  HfModel model;
  model.folder_ = folder;
  INK_ASSIGN_OR_RETURN(model.config_, ReadHfConfig(folder));
  INK_ASSIGN_OR_RETURN(model.file_, SafetensorsFile::Open(folder));
  INK_ASSIGN_OR_RETURN(std::string prefix, FindPrefix(model.file_));
  INK_ASSIGN_OR_RETURN(std::vector<HfTensor> forms, HfTensorsOf(model.config_.metadata, prefix));
  size_t used = 0;
  for (const HfTensor& form : forms) {
    if (form.gguf == "output.weight" && model.config_.tied_embeddings) continue;
    INK_RETURN_IF_ERROR(model.AddTensor(form, &used));
  }
  INK_RETURN_IF_ERROR(model.CheckAllUsed(used));

  for (const char* name : {"token_embd.weight", "output_norm.weight", "output.weight"}) {
    if (model.Find(name) != nullptr) continue;
    if (std::string_view(name) == "output.weight" && model.config_.tied_embeddings) continue;
    return NotFound(Mismatch(model.file_.path(), "tensor for " + Quoted(name),
                             std::string_view(name) == "output.weight"
                                 ? "lm_head.weight, since tie_word_embeddings is false"
                                 : "to be present",
                             "no such tensor"));
  }
  const Tensor* embedding = model.Find("token_embd.weight");
  if (embedding->shape[0] != int64_t{model.config_.vocab_size}) {
    return Corrupt(Mismatch(model.file_.path(), "rows of the embedding",
                            "vocab_size = " + std::to_string(model.config_.vocab_size),
                            std::to_string(embedding->shape[0])));
  }
  return model;
}

}  // namespace ink
