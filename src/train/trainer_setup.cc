#include <malloc.h>

#include <algorithm>
#include <filesystem>

#include "base/atomic_file.h"
#include "base/rng.h"
#include "text/gguf_vocab.h"
#include "text/tokenizer_json.h"
#include "train/four_bit_source.h"
#include "train/trainer_impl.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

std::string Under(const std::string& folder, const std::string& path) {
  if (folder.empty() || path.empty() || fs::path(path).is_absolute()) return path;
  return (fs::path(folder) / path).string();
}

Result<DType> OutputType(const std::string& name) {
  for (DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0}) {
    if (Info(type).name == name) return type;
  }
  return InvalidArgument(
      "[output] type: expected f32, f16, bf16 or q8_0 (quantize makes the "
      "others), got \"" +
      name + "\"");
}

// Documents are scored one by one where only a part of each counts.
bool ScoresDocuments(DataFormat format) {
  return format == DataFormat::kPrompt || format == DataFormat::kLabel ||
         format == DataFormat::kChat;
}

}  // namespace

Status Trainer::Prepare() {
  INK_RETURN_IF_ERROR(CheckOutput());
  std::error_code error;
  const bool begun = fs::exists(run_.out_folder, error);
  if (run_.resume && !begun) return NotFound(run_.out_folder + ": no run to resume");
  fs::create_directories(run_.out_folder, error);
  if (error) return IoError(run_.out_folder + ": cannot create the folder: " + error.message());
  const std::string newest = NewestCheckpointPath(Out("checkpoints"));
  if (!run_.resume && !newest.empty()) {
    return InvalidArgument(run_.out_folder + ": holds an earlier run; --resume goes on with it");
  }
  RemoveAbandoned();
  for (DataSource& source : recipe_.data) source.path = Under(run_.data_folder, source.path);
  recipe_.validation.path = Under(run_.data_folder, recipe_.validation.path);
  // A run that ended before its first checkpoint has nothing to lose: it begins anew.
  restores_ = run_.resume && !newest.empty();
  if (restores_) {
    INK_ASSIGN_OR_RETURN(start_, ReadNewestCheckpoint(Out("checkpoints")));
    if (start_.file.path() != newest) Note(newest + ": damaged, going on from an older one");
  } else if (run_.resume) {
    Note(run_.out_folder + ": no checkpoint yet, the run begins at its first step");
  }
  INK_RETURN_IF_ERROR(PrepareModel());
  if (restores_ && start_.recipe != Identity()) {
    return InvalidArgument(run_.out_folder + ": the checkpoint was made by another recipe" +
                           (run_.finetune ? " or base model" : "") + "; resume with that one");
  }
  INK_RETURN_IF_ERROR(PrepareData());
  // What setting up needed is free again, and not to be held in the allocator's reserve.
  malloc_trim(0);
  if (events_.planned) events_.planned(Plan(), parameters_->num_parameters(), steps_);
  return OkStatus();
}

void Trainer::RemoveAbandoned() {
  RemoveAbandonedFiles(run_.out_folder);
  RemoveAbandonedFiles(Out("checkpoints"));
  if (!run_.finetune) return;
  const fs::path result(run_.result_path);
  const std::string folder = result.parent_path().string();
  RemoveAbandonedFiles(folder.empty() ? "." : folder, result.filename().string() + ".tmp.");
  RemoveAbandonedFiles(run_.result_path, "adapter_");
}

Status Trainer::CheckOutput() {
  INK_ASSIGN_OR_RETURN(output_type_,
                       OutputType(recipe_.output_type.empty() ? "bf16" : recipe_.output_type));
  if (!run_.finetune) return OkStatus();
  INK_CHECK(run_.base != nullptr && run_.base_tokenizer != nullptr);
  const bool gguf = run_.result_path.ends_with(".gguf");
  if (recipe_.method == TuneMethod::kFull && !gguf) {
    return InvalidArgument(
        "--out: full fine-tuning writes a GGUF file, expected a path that ends "
        "in .gguf, got " +
        run_.result_path);
  }
  if (adapts() && !recipe_.output_type.empty()) {
    return InvalidArgument("[output] type: adapters are float32, expected none, got \"" +
                           recipe_.output_type + "\"");
  }
  return OkStatus();
}

std::string Trainer::Identity() const {
  if (!run_.finetune) return run_.recipe_text;
  const ModelInfo& info = model_->info();
  return run_.recipe_text + "\n# base: " + info.architecture + " " + info.name + ", " +
         std::to_string(info.num_parameters) + " parameters\n";
}

Status Trainer::PrepareTokenizer(const WeightSource* base) {
  const std::string saved = Out("tokenizer.gguf");
  std::error_code error;
  if (run_.finetune) {
    tokenizer_ = run_.base_tokenizer;
    return OkStatus();
  }
  if (run_.resume && fs::exists(saved, error)) {
    INK_ASSIGN_OR_RETURN(tokenizer_, ReadTokenizer(saved));
    return OkStatus();
  }
  if (!recipe_.tokenizer_file.empty()) {
    INK_ASSIGN_OR_RETURN(tokenizer_,
                         ReadTokenizer(Under(run_.data_folder, recipe_.tokenizer_file)));
  } else if (base != nullptr) {
    if (fs::is_directory(recipe_.from, error)) {
      INK_ASSIGN_OR_RETURN(tokenizer_, TokenizerFromFolder(recipe_.from));
    } else {
      INK_ASSIGN_OR_RETURN(tokenizer_, TokenizerFromGguf(base->metadata()));
    }
  } else {
    Note("training a tokenizer of " + std::to_string(recipe_.vocabulary) + " tokens");
    INK_ASSIGN_OR_RETURN(tokenizer_, TrainTokenizer(recipe_.data, recipe_.vocabulary,
                                                    recipe_.pre_tokenizer, nullptr));
  }
  return WriteTokenizer(*tokenizer_, saved);
}

Status Trainer::PrepareModel() {
  std::unique_ptr<WeightSource> opened;
  const WeightSource* base = run_.base;
  if (base == nullptr && !recipe_.from.empty()) {
    INK_ASSIGN_OR_RETURN(opened, OpenWeightSource(recipe_.from));
    base = opened.get();
  }
  INK_RETURN_IF_ERROR(PrepareTokenizer(base));
  const TrainKernels& kernels = TrainKernelsFor(device_.ops().name);
  bfloat16_ = recipe_.bfloat16 && kernels.bfloat16;
  if (recipe_.bfloat16 && !bfloat16_) {
    Note("this machine has no bfloat16 arithmetic: training in float32");
  }
  if (adapts()) {
    INK_RETURN_IF_ERROR(PrepareAdapters(*base));
  } else {
    INK_RETURN_IF_ERROR(PrepareFull(base));
  }
  if (model_->info().n_vocab < tokenizer_->vocab_size()) {
    return InvalidArgument("the tokenizer has " + std::to_string(tokenizer_->vocab_size()) +
                           " tokens, the model only " + std::to_string(model_->info().n_vocab));
  }
  context_ = recipe_.shape.context;
  if (base != nullptr) {
    context_ = context_ > 0 ? std::min(context_, model_->info().context_length)
                            : std::min<int64_t>(model_->info().context_length, 512);
  }
  ModelStep::Options options;
  options.bfloat16 = bfloat16_;
  options.recompute = recipe_.recompute;
  options.dropout = recipe_.dropout;
  options.token_dropout = recipe_.token_dropout;
  options.max_tokens = std::max(recipe_.micro_batch_tokens, context_);
  // A frozen head is unpacked anew for each chunk: longer ones, so that this costs little.
  if (adapts()) options.loss_chunk_bytes = int64_t{32} << 20;
  // A GPU wants few large launches.
  if (device_.name() == "cuda") options.loss_chunk_bytes = int64_t{256} << 20;
  INK_ASSIGN_OR_RETURN(step_,
                       ModelStep::Create(device_, *model_, *parameters_, options, adapters_.get()));
  max_tokens_ = options.max_tokens;
  INK_ASSIGN_OR_RETURN(optimizer_,
                       Optimizer::Create(device_, *parameters_, recipe_.optimizer, bfloat16_));
  return OkStatus();
}

Status Trainer::PrepareFull(const WeightSource* base) {
  if (base != nullptr) {
    INK_ASSIGN_OR_RETURN(master_, ReadMasterModel(*base));
    for (const MasterTensor& t : master_.tensors) {
      if (t.is_vector) continue;
      INK_ASSIGN_OR_RETURN(const SourceTensor tensor, base->Matrix(t.name));
      base_types_[t.name] = tensor.type;
    }
  } else {
    recipe_.shape.n_vocab = tokenizer_->vocab_size();
    INK_ASSIGN_OR_RETURN(master_, InitModel(recipe_.shape, recipe_.seed));
  }
  if (!run_.finetune) INK_RETURN_IF_ERROR(SpecToGguf(tokenizer_->spec(), master_.metadata));
  {
    const auto source = MakeSource(master_, bfloat16_ ? DType::kBF16 : DType::kF32);
    INK_ASSIGN_OR_RETURN(model_, LoadModel(*source, device_, {}));
  }
  INK_ASSIGN_OR_RETURN(own_parameters_,
                       ParameterStore::Create(device_, *model_, master_, bfloat16_));
  parameters_ = own_parameters_.get();
  for (MasterTensor& t : master_.tensors) {
    largest_tensor_ = std::max(largest_tensor_, t.size() * 4);
    // On the device now. What no op reads as a weight (rope factors) stays as it is.
    if (parameters_->Find(t.name) != nullptr) std::vector<float>().swap(t.values);
  }
  return OkStatus();
}

Status Trainer::PrepareAdapters(const WeightSource& base) {
  INK_ASSIGN_OR_RETURN(target_, AdapterTargetOf(base));
  std::unique_ptr<WeightSource> four_bit;
  if (recipe_.method == TuneMethod::kQLora) four_bit = MakeFourBitSource(base);
  INK_ASSIGN_OR_RETURN(model_, LoadModel(four_bit != nullptr ? *four_bit : base, device_, {}));
  INK_ASSIGN_OR_RETURN(adapters_, LowRankSet::Create(device_, *model_, target_, recipe_.adapter,
                                                     bfloat16_, recipe_.seed));
  parameters_ = &adapters_->parameters();
  largest_tensor_ = parameters_->flat_size() * 4;
  return OkStatus();
}

Status Trainer::PrepareData() {
  documents_.reserve(recipe_.data.size());
  std::vector<PieceOrder::Input> inputs;
  uint64_t stream = 0;
  for (const DataSource& source : recipe_.data) {
    INK_ASSIGN_OR_RETURN(auto documents, ReadDocuments(source, *tokenizer_));
    if (recipe_.validation_share > 0) {
      Rng rng(recipe_.seed, 0x5e7a000 + stream++);
      std::vector<Document> kept;
      for (Document& d : documents) {
        const bool held = rng.Uniform() < recipe_.validation_share;
        (held ? held_back_ : kept).push_back(std::move(d));
      }
      documents = std::move(kept);
    }
    for (const Document& d : documents) {
      if (!d.label.empty() && std::find(labels_.begin(), labels_.end(), d.label) == labels_.end()) {
        labels_.push_back(d.label);
      }
    }
    documents_.push_back(std::move(documents));
    inputs.push_back({&documents_.back(), source.weight});
    if (source.format == DataFormat::kLabel && source.label_template != kDefaultLabelTemplate) {
      master_.metadata.SetString("inkstone.label_template", source.label_template);
    }
  }
  order_ = std::make_unique<PieceOrder>(
      inputs, context_, recipe_.seed,
      PieceOrder::Options{recipe_.prompt_loss, recipe_.label_loss, recipe_.token_noise,
                          tokenizer_->vocab_size()});
  if (order_->tokens_per_epoch() == 0) {
    return InvalidArgument("the data has no token to predict");
  }
  steps_ = recipe_.steps;
  if (steps_ == 0) {
    steps_ = std::max<int64_t>(
        1, static_cast<int64_t>(recipe_.epochs * static_cast<double>(order_->tokens_per_epoch()) /
                                static_cast<double>(recipe_.batch_tokens)));
  }
  return PrepareValidation();
}

Status Trainer::PrepareValidation() {
  if (!recipe_.validation.path.empty() && ScoresDocuments(recipe_.validation.format)) {
    INK_ASSIGN_OR_RETURN(held_back_, ReadDocuments(recipe_.validation, *tokenizer_));
  } else if (!recipe_.validation.path.empty()) {
    std::string text;
    INK_RETURN_IF_ERROR(ForEachText(recipe_.validation, [&](std::string_view part) {
      text += part;
      return OkStatus();
    }));
    if (recipe_.validation_bytes > 0 &&
        text.size() > static_cast<size_t>(recipe_.validation_bytes)) {
      size_t end = static_cast<size_t>(recipe_.validation_bytes);
      while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
      text.resize(end);
    }
    validation_bytes_ = static_cast<int64_t>(text.size());
    validation_ = tokenizer_->Encode(text);
    const int64_t wanted = recipe_.validation_context > 0 ? recipe_.validation_context : context_;
    validation_context_ = std::min(wanted, max_tokens_);
  }
  for (const Document& d : held_back_) {
    validation_documents_.push_back(&d);
    if (!d.label.empty() && std::find(labels_.begin(), labels_.end(), d.label) == labels_.end()) {
      labels_.push_back(d.label);
    }
  }
  if (recipe_.validation_share > 0 && held_back_.empty()) {
    return InvalidArgument("[validation] share: no document was held back, the data is too small");
  }
  std::sort(labels_.begin(), labels_.end());
  return OkStatus();
}

TrainPlan Trainer::Plan() const {
  const int64_t flat = parameters_->flat_size() * 4;
  // The model's own buffer, and the transposed panels of what is trained.
  int64_t packed = model_->info().weight_bytes;
  for (const auto& p : parameters_->all()) packed += p->transposed.expert_bytes * p->experts;
  int64_t data = static_cast<int64_t>(validation_.capacity()) * 4;
  auto count = [&](const std::vector<Document>& documents) {
    for (const Document& d : documents) {
      data += static_cast<int64_t>(sizeof(Document) + d.tokens.capacity() * 4 +
                                   d.counts.capacity() / 8);
    }
  };
  for (const auto& documents : documents_) count(documents);
  count(held_back_);
  data += order_->memory_bytes() + recipe_.batch_tokens * 16;
  const int64_t loss = step_->loss_bytes();
  TrainPlan plan;
  plan.entries = {{adapts() ? "adapters (float32)" : "weights (float32)", flat},
                  {adapts() ? "frozen weights (packed)" : "weights (packed)", packed},
                  {"gradients", flat},
                  {"optimizer", optimizer_->state_bytes() + optimizer_->scratch_bytes()},
                  {"activations", step_->activation_bytes() - loss / 2},
                  {"gradients of activations", step_->activation_bytes() - loss / 2},
                  {"loss", loss},
                  {"workspace", step_->workspace_bytes() +
                                    (adapters_ != nullptr ? adapters_->state_bytes() : 0)},
                  {"data", data},
                  {"vocabulary", static_cast<int64_t>(tokenizer_->memory_bytes())},
                  // A tensor at a time goes to a file, a checkpoint a few MiB at a time.
                  {"files being written", largest_tensor_ + (int64_t{8} << 20)},
                  {"program", run_.program_bytes}};
  return plan;
}

Status Trainer::Restore() {
  const auto bytes = static_cast<size_t>(parameters_->flat_size()) * sizeof(float);
  if (start_.values.size() != bytes) {
    return Corrupt(Out("checkpoints") + ": expected " + std::to_string(bytes) +
                   " bytes of weights, got " + std::to_string(start_.values.size()));
  }
  if (start_.optimizer.size() != optimizer_->state().size()) {
    return Corrupt(Out("checkpoints") + ": optimizer state: expected " +
                   std::to_string(optimizer_->state().size()) + " bytes, got " +
                   std::to_string(start_.optimizer.size()));
  }
  CopyFromCheckpoint(start_, start_.values, device_,
                     reinterpret_cast<std::byte*>(parameters_->values()));
  CopyFromCheckpoint(start_, start_.optimizer, device_, optimizer_->state().data());
  parameters_->Repack();
  if (adapters_ != nullptr) adapters_->Refresh();
  optimizer_->set_steps(start_.optimizer_steps);
  order_->Seek(start_.epoch, start_.piece);
  step_number_ = start_.step;
  tokens_ = start_.tokens;
  loss_mean_ = start_.loss_mean;
  loss_square_ = start_.loss_square;
  best_ = start_.best;
  start_ = {};
  // The log goes on where the checkpoint was.
  auto log = ReadFile(Out("log.jsonl"));
  if (!log.ok()) return OkStatus();
  for (size_t at = 0; at < log->size();) {
    size_t end = log->find('\n', at);
    if (end == std::string::npos) break;
    const std::string line = log->substr(at, end + 1 - at);
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (json.is_object() && json.value("step", int64_t{0}) <= step_number_) log_ += line;
    at = end + 1;
  }
  return OkStatus();
}

}  // namespace ink
