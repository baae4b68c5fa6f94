#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/rng.h"
#include "model/model.h"
#include "text/gguf_vocab.h"
#include "text/tokenizer_json.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double Seconds(Clock::time_point since) {
  return std::chrono::duration<double>(Clock::now() - since).count();
}

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

class Trainer {
 public:
  Trainer(Device& device, const TrainRun& run, const TrainEvents& events)
      : device_(device), run_(run), recipe_(run.recipe), events_(events) {}

  Status Run() {
    INK_RETURN_IF_ERROR(Prepare());
    const Status done = Loop();
    // The curves of a run that stopped are worth having too.
    const Status drawn = Draw();
    return done.ok() ? drawn : done;
  }

 private:
  std::string Out(const char* name) const { return run_.out_folder + "/" + name; }
  void Note(const std::string& what) {
    if (events_.note) events_.note(what);
  }

  Status Prepare() {
    INK_ASSIGN_OR_RETURN(output_type_, OutputType(recipe_.output_type));
    std::error_code error;
    fs::create_directories(run_.out_folder, error);
    if (error) return IoError(run_.out_folder + ": cannot create the folder: " + error.message());
    if (!run_.resume && fs::exists(Out("checkpoints"), error)) {
      return InvalidArgument(run_.out_folder + ": holds an earlier run; --resume goes on with it");
    }
    for (DataSource& source : recipe_.data) source.path = Under(run_.data_folder, source.path);
    recipe_.validation.path = Under(run_.data_folder, recipe_.validation.path);
    if (run_.resume) {
      INK_ASSIGN_OR_RETURN(start_, ReadNewestCheckpoint(Out("checkpoints")));
      if (start_.recipe != run_.recipe_text) {
        return InvalidArgument(run_.out_folder +
                               ": the checkpoint was made by another recipe; resume with that one");
      }
    }
    INK_RETURN_IF_ERROR(PrepareModel());
    return PrepareData();
  }

  Status PrepareTokenizer(const WeightSource* base) {
    const std::string saved = Out("tokenizer.gguf");
    std::error_code error;
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

  Status PrepareModel() {
    std::unique_ptr<WeightSource> base;
    if (!recipe_.from.empty()) {
      INK_ASSIGN_OR_RETURN(base, OpenWeightSource(recipe_.from));
    }
    INK_RETURN_IF_ERROR(PrepareTokenizer(base.get()));
    if (base != nullptr) {
      INK_ASSIGN_OR_RETURN(master_, ReadMasterModel(*base));
    } else {
      recipe_.shape.n_vocab = tokenizer_->vocab_size();
      INK_ASSIGN_OR_RETURN(master_, InitModel(recipe_.shape, recipe_.seed));
    }
    INK_RETURN_IF_ERROR(SpecToGguf(tokenizer_->spec(), master_.metadata));
    const TrainKernels& kernels = TrainKernelsFor(device_.ops().name);
    bfloat16_ = recipe_.bfloat16 && kernels.bfloat16;
    if (recipe_.bfloat16 && !bfloat16_) {
      Note("this machine has no bfloat16 arithmetic: training in float32");
    }
    {
      const auto source = MakeSource(master_, bfloat16_ ? DType::kBF16 : DType::kF32);
      INK_ASSIGN_OR_RETURN(model_, LoadModel(*source, device_, {}));
    }
    if (model_->info().n_vocab < tokenizer_->vocab_size()) {
      return InvalidArgument("the tokenizer has " + std::to_string(tokenizer_->vocab_size()) +
                             " tokens, the model only " + std::to_string(model_->info().n_vocab));
    }
    context_ = recipe_.from.empty()
                   ? recipe_.shape.context
                   : std::min(recipe_.shape.context, model_->info().context_length);
    INK_ASSIGN_OR_RETURN(parameters_, ParameterStore::Create(device_, *model_, master_, bfloat16_));
    ModelStep::Options options;
    options.bfloat16 = bfloat16_;
    options.recompute = recipe_.recompute;
    options.max_tokens = std::max(recipe_.micro_batch_tokens, context_);
    // A GPU wants few large launches.
    if (device_.name() == "cuda") options.loss_chunk_bytes = int64_t{256} << 20;
    INK_ASSIGN_OR_RETURN(step_, ModelStep::Create(device_, *model_, *parameters_, options));
    max_tokens_ = options.max_tokens;
    INK_ASSIGN_OR_RETURN(optimizer_,
                         Optimizer::Create(device_, *parameters_, recipe_.optimizer, bfloat16_));
    return OkStatus();
  }

  Status PrepareData() {
    int64_t tokens = 0;
    documents_.reserve(recipe_.data.size());
    std::vector<PieceOrder::Input> inputs;
    for (const DataSource& source : recipe_.data) {
      INK_ASSIGN_OR_RETURN(auto documents, ReadDocuments(source, *tokenizer_));
      for (const Document& d : documents) tokens += static_cast<int64_t>(d.tokens.size());
      documents_.push_back(std::move(documents));
      inputs.push_back({&documents_.back(), source.weight});
    }
    order_ = std::make_unique<PieceOrder>(inputs, context_, recipe_.seed);
    if (order_->tokens_per_epoch() == 0) {
      return InvalidArgument("the data has no token to predict");
    }
    steps_ = recipe_.steps;
    if (steps_ == 0) {
      steps_ = std::max<int64_t>(
          1, static_cast<int64_t>(recipe_.epochs * static_cast<double>(order_->tokens_per_epoch()) /
                                  static_cast<double>(recipe_.batch_tokens)));
    }
    if (!recipe_.validation.path.empty()) {
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
    TrainPlan plan;
    const int64_t flat = parameters_->flat_size() * 4;
    int64_t panels = 0;
    for (const auto& p : parameters_->all()) {
      panels += (p->panels.expert_bytes + p->transposed.expert_bytes) * p->experts;
    }
    plan.entries = {
        {"weights (float32)", flat},
        {"weights (packed)", panels},
        {"gradients", flat},
        {"optimizer", optimizer_->state_bytes()},
        {"activations", step_->activation_bytes() - step_->loss_bytes() / 2},
        {"gradients of activations", step_->activation_bytes() - step_->loss_bytes() / 2},
        {"loss", step_->loss_bytes()},
        {"workspace", step_->workspace_bytes()},
        {"data", tokens * 4}};
    if (events_.planned) events_.planned(plan, parameters_->num_parameters(), steps_);
    return OkStatus();
  }

  Status Restore() {
    const auto bytes = static_cast<size_t>(parameters_->flat_size()) * sizeof(float);
    if (start_.values.size() != bytes) {
      return Corrupt(Out("checkpoints") + ": expected " + std::to_string(bytes) +
                     " bytes of weights, got " + std::to_string(start_.values.size()));
    }
    device_.CopyToDevice(reinterpret_cast<std::byte*>(parameters_->values()), start_.values.data(),
                         bytes);
    parameters_->Repack();
    INK_RETURN_IF_ERROR(optimizer_->Load(start_.optimizer, start_.optimizer_steps));
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

  Status Loop() {
    if (run_.resume) INK_RETURN_IF_ERROR(Restore());
    const auto started = Clock::now();
    auto last_checkpoint = started;
    const int64_t first_step = step_number_;
    int64_t seen_here = 0;
    const double flops = FlopsPerToken();
    std::vector<TrainBatch> window;
    while (step_number_ < steps_) {
      const auto step_started = Clock::now();
      int64_t tokens = 0, targets = 0;
      size_t used = 0;
      while (tokens < recipe_.batch_tokens) {
        if (used == window.size()) window.emplace_back();
        // No more than the step still wants, but always room for a whole piece.
        const int64_t room =
            std::max(context_, std::min(recipe_.micro_batch_tokens, recipe_.batch_tokens - tokens));
        order_->NextBatch(room, &window[used]);
        tokens += window[used].num_tokens();
        targets += window[used].num_targets();
        ++used;
      }
      parameters_->ZeroGradients();
      double sum = 0;
      // Normalized by the window's true number of targets, whatever the micro-batches hold.
      const float scale = targets > 0 ? 1.0f / static_cast<float>(targets) : 0.0f;
      for (size_t i = 0; i < used; ++i) sum += step_->ForwardBackward(window[i], scale).sum;
      const double loss = targets > 0 ? sum / static_cast<double>(targets) : 0;
      const double norm = optimizer_->GradientNorm();
      ++step_number_;
      tokens_ += tokens;
      seen_here += tokens;
      if (!std::isfinite(loss) || !std::isfinite(norm)) {
        return InvalidArgument("step " + std::to_string(step_number_) + ": the " +
                               (std::isfinite(loss) ? "gradient" : "loss") +
                               " is not a number; the last good checkpoint is in " +
                               Out("checkpoints"));
      }
      const double lr_scale = ScheduleAt(recipe_, step_number_ - 1, steps_);
      const bool skip = IsSpike(loss);
      if (!skip) {
        const double clip = recipe_.clip > 0 && norm > recipe_.clip ? recipe_.clip / norm : 1.0;
        optimizer_->Step(lr_scale, clip);
        loss_mean_ = loss_mean_ == 0 ? loss : 0.98 * loss_mean_ + 0.02 * loss;
        loss_square_ = loss_square_ == 0 ? loss * loss : 0.98 * loss_square_ + 0.02 * loss * loss;
      }
      const double seconds = std::max(1e-9, Seconds(step_started));
      const double per_step = Seconds(started) / static_cast<double>(step_number_ - first_step);
      TrainEvents::Step event{step_number_,
                              steps_,
                              loss,
                              norm,
                              lr_scale * double{recipe_.optimizer.lr},
                              static_cast<double>(tokens) / seconds,
                              flops * static_cast<double>(tokens) / seconds,
                              tokens_,
                              per_step * static_cast<double>(steps_ - step_number_),
                              skip};
      Log({{"step", step_number_},
           {"loss", loss},
           {"norm", norm},
           {"lr", event.lr},
           {"tokens", tokens_},
           {"tokens_per_second", event.tokens_per_second},
           {"skipped", skip}});
      if (events_.step) events_.step(event);
      const bool last = step_number_ == steps_;
      if (!validation_.empty() && recipe_.validation_every > 0 &&
          (step_number_ % recipe_.validation_every == 0 || last)) {
        INK_RETURN_IF_ERROR(Validate());
      }
      const bool stop = events_.stop && events_.stop();
      const bool timed = recipe_.checkpoint_minutes > 0 &&
                         Seconds(last_checkpoint) >= recipe_.checkpoint_minutes * 60;
      if (step_number_ % recipe_.checkpoint_every == 0 || timed || last || stop) {
        INK_RETURN_IF_ERROR(Save());
        last_checkpoint = Clock::now();
      }
      if (stop && !last) return Cancelled("stopped after step " + std::to_string(step_number_));
    }
    INK_RETURN_IF_ERROR(WriteModel(Out("model.gguf")));
    return OkStatus();
  }

  bool IsSpike(double loss) const {
    constexpr int64_t kSettled = 50;  // steps before the mean says anything
    if (recipe_.skip_spike <= 0 || step_number_ <= kSettled || loss_mean_ == 0) return false;
    const double deviation = std::sqrt(std::max(1e-12, loss_square_ - loss_mean_ * loss_mean_));
    return loss > loss_mean_ + recipe_.skip_spike * deviation;
  }

  // 6 per weight that multiplies a token, and for attention 12 per dimension of the heads and key,
  // a token seeing half the context on average.
  double FlopsPerToken() const {
    const ModelInfo& info = model_->info();
    double head = 2.0 * static_cast<double>(info.d_model * info.n_vocab);
    double attention = 0;
    for (const MasterTensor& t : master_.tensors) {
      if (t.name.ends_with("attn_output.weight")) {
        attention += 12.0 * static_cast<double>(t.cols) * static_cast<double>(context_) / 2;
      }
    }
    return 3.0 * (static_cast<double>(info.flops_per_token) + head) + attention;
  }

  Status Validate() {
    const TextScore score =
        ScoreText(*step_, validation_, validation_bytes_, validation_context_, max_tokens_);
    const double bits = score.bits_per_byte();
    if (!std::isfinite(bits)) {
      return InvalidArgument("step " + std::to_string(step_number_) +
                             ": the validation loss is not a number; the last good checkpoint is "
                             "in " +
                             Out("checkpoints"));
    }
    const bool best = bits < best_;
    Log({{"step", step_number_}, {"bits_per_byte", bits}, {"best", best}});
    if (best) {
      best_ = bits;
      INK_RETURN_IF_ERROR(WriteModel(Out("best.gguf")));
    }
    if (events_.validated) events_.validated(step_number_, bits, best);
    if (!recipe_.sample_prompt.empty() && events_.sampled) {
      events_.sampled(step_number_, Sample());
    }
    return Draw();
  }

  // Top-k sampling, the whole text again for each token: short samples only.
  std::string Sample() {
    constexpr int kTop = 40;
    std::vector<int32_t> ids = tokenizer_->Encode(recipe_.sample_prompt);
    std::string text = recipe_.sample_prompt;
    for (int64_t i = 0; i < recipe_.sample_tokens && !ids.empty(); ++i) {
      TrainBatch batch;
      const size_t from = ids.size() > static_cast<size_t>(context_)
                              ? ids.size() - static_cast<size_t>(context_)
                              : 0;
      for (size_t k = from; k < ids.size(); ++k) {
        batch.tokens.push_back(ids[k]);
        batch.positions.push_back(static_cast<int32_t>(k - from));
        batch.targets.push_back(-1);
      }
      batch.lengths.push_back(batch.num_tokens());
      const std::vector<float> logits = step_->LastLogits(batch);
      std::vector<int32_t> order(logits.size());
      for (size_t k = 0; k < order.size(); ++k) order[k] = static_cast<int32_t>(k);
      const size_t top = std::min<size_t>(kTop, order.size());
      std::partial_sort(order.begin(), order.begin() + static_cast<int64_t>(top), order.end(),
                        [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
      double total = 0;
      for (size_t k = 0; k < top; ++k)
        total += std::exp((logits[order[k]] - logits[order[0]]) / 0.8);
      double lot =
          total * RandomUniform(recipe_.seed, 1, static_cast<uint64_t>(step_number_ * 4096 + i));
      int32_t next = order[0];
      for (size_t k = 0; k < top; ++k) {
        lot -= std::exp((logits[order[k]] - logits[order[0]]) / 0.8);
        next = order[k];
        if (lot <= 0) break;
      }
      if (next >= tokenizer_->vocab_size() || tokenizer_->IsEndOfGeneration(next)) break;
      ids.push_back(next);
      text += tokenizer_->TokenBytes(next);
    }
    return text;
  }

  void Log(const nlohmann::ordered_json& line) { log_ += line.dump() + "\n"; }

  Status Draw() {
    if (log_.empty()) return OkStatus();
    INK_RETURN_IF_ERROR(WriteFileAtomic(Out("log.jsonl"), log_));
    auto svg = DrawCurves(log_);
    return svg.ok() ? WriteFileAtomic(Out("curves.svg"), *svg) : OkStatus();
  }

  Status Save() {
    Checkpoint c;
    c.step = step_number_;
    c.optimizer_steps = optimizer_->steps();
    c.epoch = order_->epoch();
    c.piece = order_->piece();
    c.tokens = tokens_;
    c.loss_mean = loss_mean_;
    c.loss_square = loss_square_;
    c.best = best_;
    c.recipe = run_.recipe_text;
    c.values.resize(static_cast<size_t>(parameters_->flat_size()) * sizeof(float));
    device_.CopyToHost(c.values.data(), reinterpret_cast<const std::byte*>(parameters_->values()),
                       c.values.size());
    optimizer_->Save(&c.optimizer);
    INK_RETURN_IF_ERROR(WriteCheckpoint(Out("checkpoints"), c, recipe_.keep));
    return WriteFileAtomic(Out("log.jsonl"), log_);
  }

  Status WriteModel(const std::string& path) {
    parameters_->CopyTo(&master_);
    return WriteMasterModel(master_, path, output_type_);
  }

  Device& device_;
  const TrainRun& run_;
  TrainRecipe recipe_;
  const TrainEvents& events_;
  DType output_type_ = DType::kBF16;
  std::shared_ptr<const Tokenizer> tokenizer_;
  MasterModel master_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<ParameterStore> parameters_;
  std::unique_ptr<ModelStep> step_;
  std::unique_ptr<Optimizer> optimizer_;
  std::vector<std::vector<Document>> documents_;
  std::unique_ptr<PieceOrder> order_;
  std::vector<int32_t> validation_;
  int64_t validation_bytes_ = 0, validation_context_ = 0;
  Checkpoint start_;
  bool bfloat16_ = true;
  int64_t context_ = 0, max_tokens_ = 0, steps_ = 0, step_number_ = 0, tokens_ = 0;
  double loss_mean_ = 0, loss_square_ = 0, best_ = 1e300;
  std::string log_;
};

}  // namespace

int64_t TrainPlan::total() const {
  int64_t sum = 0;
  for (const auto& [name, bytes] : entries) sum += bytes;
  return sum;
}

Status RunTraining(Device& device, const TrainRun& run, const TrainEvents& events) {
  return Trainer(device, run, events).Run();
}

}  // namespace ink
