#include "gguf_input.h"

#include <unistd.h>

#include <filesystem>
#include <utility>

#include "default_model.h"
#include "loaded_model.h"
#include "model/hf_model.h"
#include "text/gguf_vocab.h"
#include "text/tokenizer_json.h"

namespace ink::cli {
namespace {

// GGUF readers want a token for each row of the embedding; Hugging Face models round the rows up.
Status PadVocabulary(const std::string& folder, uint32_t rows, TokenizerSpec* spec) {
  if (spec->tokens.size() > rows) {
    return Corrupt(folder + ": tokenizer.json: expected at most " + std::to_string(rows) +
                   " tokens, the rows of the embedding, found " +
                   std::to_string(spec->tokens.size()));
  }
  while (spec->tokens.size() < rows) {
    spec->tokens.push_back({.text = "[PAD" + std::to_string(spec->tokens.size()) + "]",
                            .type = TokenType::kUnused,
                            .in_model = false});
  }
  return ValidateSpec(*spec);
}

}  // namespace

Status ConvertFolder(const std::string& folder, const std::string& out,
                     const ConvertOptions& request, std::vector<std::string>* warnings) {
  INK_ASSIGN_OR_RETURN(HfModel in, HfModel::Open(folder));
  warnings->insert(warnings->end(), in.config().warnings.begin(), in.config().warnings.end());
  Metadata vocabulary(folder);
  if (!in.config().metadata.Has("general.name")) {
    const std::filesystem::path canonical = std::filesystem::weakly_canonical(folder);
    vocabulary.SetString("general.name", canonical.filename().string());
  }
  if (std::filesystem::exists(std::filesystem::path(folder) / "tokenizer.json")) {
    INK_ASSIGN_OR_RETURN(TokenizerSpec spec, SpecFromFolder(folder));
    INK_RETURN_IF_ERROR(PadVocabulary(folder, in.config().vocab_size, &spec));
    INK_RETURN_IF_ERROR(SpecToGguf(spec, vocabulary, warnings));
  } else {
    warnings->push_back(folder + ": no tokenizer.json, so the file gets no vocabulary");
  }
  return ConvertHfToGguf(in, vocabulary, out, request);
}

GgufInput::~GgufInput() {
  std::error_code ignored;
  if (!temporary_.empty()) std::filesystem::remove(temporary_, ignored);
}

GgufInput::GgufInput(GgufInput&& other) noexcept { *this = std::move(other); }

GgufInput& GgufInput::operator=(GgufInput&& other) noexcept {
  file_ = std::move(other.file_);
  path_ = std::move(other.path_);
  std::swap(temporary_, other.temporary_);
  return *this;
}

Result<GgufInput> GgufInput::Open(const std::string& path, const std::string& out,
                                  const ConvertOptions& request,
                                  std::vector<std::string>* warnings) {
  GgufInput input;
  std::error_code ignored;
  if (path.empty()) {
    if (DefaultModel().empty()) {
      return NotFound("no model: give one with -m (this build has no embedded default model)");
    }
    INK_ASSIGN_OR_RETURN(input.file_, GgufFile::FromBytes(DefaultModel(), kEmbeddedModel));
    return input;
  }
  input.path_ = path;
  if (std::filesystem::is_directory(path, ignored)) {
    input.temporary_ = out + ".input." + std::to_string(getpid()) + ".gguf";
    input.path_ = input.temporary_;
    INK_RETURN_IF_ERROR(ConvertFolder(path, input.temporary_, request, warnings));
  }
  INK_ASSIGN_OR_RETURN(input.file_, GgufFile::Open(input.path_));
  return input;
}

Result<std::unique_ptr<WeightSource>> GgufInput::OpenSource() const {
  return path_.empty() ? OpenGgufSourceFromBytes(DefaultModel(), kEmbeddedModel)
                       : OpenGgufSource(path_);
}

}  // namespace ink::cli
