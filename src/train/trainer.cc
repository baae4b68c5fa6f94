#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>

#include "base/atomic_file.h"
#include "base/rng.h"
#include "train/trainer_impl.h"

namespace ink {
namespace {

using Clock = std::chrono::steady_clock;

double Seconds(Clock::time_point since) {
  return std::chrono::duration<double>(Clock::now() - since).count();
}

}  // namespace

Status Trainer::Run() {
  INK_RETURN_IF_ERROR(Prepare());
  const Status done = Loop();
  // The curves of a run that stopped are worth having too.
  const Status drawn = Draw();
  return done.ok() ? drawn : done;
}

Status Trainer::Loop() {
  if (restores_) INK_RETURN_IF_ERROR(Restore());
  CountFlops();
  const auto started = Clock::now();
  auto last_checkpoint = started;
  const int64_t first_step = step_number_;
  while (step_number_ < steps_) {
    TrainEvents::Step event{};
    INK_RETURN_IF_ERROR(OneStep(&event));
    const double per_step = Seconds(started) / static_cast<double>(step_number_ - first_step);
    event.seconds_left = per_step * static_cast<double>(steps_ - step_number_);
    if (events_.step) events_.step(event);
    const bool last = step_number_ == steps_;
    const bool validates = !validation_.empty() || !validation_documents_.empty();
    if (validates && recipe_.validation_every > 0 &&
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
  if (!run_.finetune) return WriteResult(Out("model.gguf"));
  // The best by validation is there already; without validation the last is the result.
  std::error_code error;
  if (best_ < 1e300 && std::filesystem::exists(run_.result_path, error)) return OkStatus();
  return WriteResult(run_.result_path);
}

Status Trainer::OneStep(TrainEvents::Step* event) {
  const auto started = Clock::now();
  int64_t tokens = 0, targets = 0;
  double weight = 0;
  size_t used = 0;
  while (tokens < recipe_.batch_tokens) {
    if (used == window_.size()) window_.emplace_back();
    // No more than the step still wants, but always room for a whole piece.
    const int64_t room =
        std::max(context_, std::min(recipe_.micro_batch_tokens, recipe_.batch_tokens - tokens));
    order_->NextBatch(room, &window_[used]);
    tokens += window_[used].num_tokens();
    targets += window_[used].num_targets();
    weight += window_[used].target_weight();
    ++used;
  }
  parameters_->ZeroGradients();
  double sum = 0;
  // Normalized by the window's true number of targets, whatever the micro-batches hold.
  const float scale = weight > 0 ? static_cast<float>(1.0 / weight) : 0.0f;
  for (size_t i = 0; i < used; ++i) {
    // What dropout takes away is a function of seed, step and micro-batch, so resuming is exact.
    const uint64_t seed = (recipe_.seed << 40) ^ (static_cast<uint64_t>(step_number_) << 34) ^
                          (static_cast<uint64_t>(i) << 22);
    sum += step_->ForwardBackward(window_[i], scale, seed).sum;
  }
  const double loss = weight > 0 ? sum / weight : 0;
  const double norm = optimizer_->GradientNorm();
  ++step_number_;
  tokens_ += tokens;
  if (!std::isfinite(loss) || !std::isfinite(norm)) {
    return InvalidArgument("step " + std::to_string(step_number_) + ": " + WhatIsNoNumber(loss) +
                           " is not a number; " + LastCheckpoint());
  }
  const double lr_scale = ScheduleAt(recipe_, step_number_ - 1, steps_);
  const bool skip = IsSpike(loss);
  if (!skip) {
    const double clip = recipe_.clip > 0 && norm > recipe_.clip ? recipe_.clip / norm : 1.0;
    optimizer_->Step(lr_scale, clip);
    if (adapters_ != nullptr) adapters_->Refresh();
    loss_mean_ = loss_mean_ == 0 ? loss : 0.98 * loss_mean_ + 0.02 * loss;
    loss_square_ = loss_square_ == 0 ? loss * loss : 0.98 * loss_square_ + 0.02 * loss * loss;
  }
  const double seconds = std::max(1e-9, Seconds(started));
  const double flops =
      body_flops_ * static_cast<double>(tokens) + head_flops_ * static_cast<double>(targets);
  *event = {step_number_,
            steps_,
            loss,
            norm,
            lr_scale * double{recipe_.optimizer.lr},
            static_cast<double>(tokens) / seconds,
            flops / seconds,
            tokens_,
            0,
            skip};
  Log({{"step", step_number_},
       {"loss", loss},
       {"norm", norm},
       {"lr", event->lr},
       {"tokens", tokens_},
       {"tokens_per_second", event->tokens_per_second},
       {"skipped", skip}});
  return OkStatus();
}

std::string Trainer::WhatIsNoNumber(double loss) const {
  if (!std::isfinite(loss)) return "the loss";
  std::vector<float> gradient;
  for (const auto& p : parameters_->all()) {
    gradient.resize(static_cast<size_t>(p->size()));
    device_.CopyToHost(gradient.data(), reinterpret_cast<const std::byte*>(p->grad),
                       gradient.size() * sizeof(float));
    for (float g : gradient) {
      if (!std::isfinite(g)) return "the gradient of " + p->name;
    }
  }
  return "the gradient's norm";
}

std::string Trainer::LastCheckpoint() const {
  const std::string path = NewestCheckpointPath(Out("checkpoints"));
  return path.empty() ? "there is no checkpoint yet" : "the last good checkpoint is " + path;
}

bool Trainer::IsSpike(double loss) const {
  constexpr int64_t kSettled = 50;  // steps before the mean says anything
  if (recipe_.skip_spike <= 0 || step_number_ <= kSettled || loss_mean_ == 0) return false;
  const double deviation = std::sqrt(std::max(1e-12, loss_square_ - loss_mean_ * loss_mean_));
  return loss > loss_mean_ + recipe_.skip_spike * deviation;
}

// 6 per weight that multiplies a token (4 where only inputs have gradients), and for attention 12
// per dimension of the heads and key, a token seeing half the context on average.
void Trainer::CountFlops() {
  const ModelInfo& info = model_->info();
  const double per_weight = adapts() ? 2.0 : 3.0;
  double attention = 0;
  for (const Weight* weight : model_->parameters().matrices) {
    if (weight->name.ends_with("attn_output.weight")) {
      attention +=
          12.0 * static_cast<double>(weight->packed.cols) * static_cast<double>(context_) / 2;
    }
  }
  body_flops_ = per_weight * static_cast<double>(info.flops_per_token) + attention;
  head_flops_ = per_weight * 2.0 * static_cast<double>(info.d_model * info.n_vocab);
}

Status Trainer::Validate() {
  TrainEvents::Validation event{step_number_, "bits per byte", 0, 0, false};
  nlohmann::ordered_json line = {{"step", step_number_}};
  double value = 0;
  if (validation_documents_.empty()) {
    const TextScore score =
        ScoreText(*step_, validation_, validation_bytes_, validation_context_, max_tokens_);
    value = event.value = score.bits_per_byte();
    line["bits_per_byte"] = value;
  } else {
    const DocumentScore score =
        ScoreDocuments(*step_, validation_documents_, labels_, *tokenizer_, context_, max_tokens_);
    event.metric = "loss";
    value = event.value = score.loss();
    line["validation_loss"] = score.loss();
    if (score.labelled > 0) {
      event.accuracy = score.accuracy();
      line["accuracy"] = score.accuracy();
      // The most accurate is best; of equally accurate ones that of lower loss.
      value = 1 - score.accuracy() + 1e-6 * score.loss();
    }
  }
  if (!std::isfinite(value)) {
    return InvalidArgument("step " + std::to_string(step_number_) +
                           ": the validation loss is not a number; " + LastCheckpoint());
  }
  event.best = value < best_;
  line["best"] = event.best;
  Log(line);
  if (event.best) {
    best_ = value;
    INK_RETURN_IF_ERROR(WriteResult(run_.finetune ? run_.result_path : Out("best.gguf")));
  }
  if (events_.validated) events_.validated(event);
  if (!recipe_.sample_prompt.empty() && events_.sampled) {
    events_.sampled(step_number_, Sample());
  }
  return Draw();
}

// Top-k sampling, the whole text again for each token: short samples only.
std::string Trainer::Sample() {
  constexpr int kTop = 40;
  std::vector<int32_t> ids = tokenizer_->Encode(recipe_.sample_prompt);
  std::string text = recipe_.sample_prompt;
  for (int64_t i = 0; i < recipe_.sample_tokens && !ids.empty(); ++i) {
    TrainBatch batch;
    const size_t from =
        ids.size() > static_cast<size_t>(context_) ? ids.size() - static_cast<size_t>(context_) : 0;
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
    for (size_t k = 0; k < top; ++k) total += std::exp((logits[order[k]] - logits[order[0]]) / 0.8);
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

Status Trainer::Draw() {
  if (log_.empty()) return OkStatus();
  INK_RETURN_IF_ERROR(WriteFileAtomic(Out("log.jsonl"), log_));
  auto svg = DrawCurves(log_);
  return svg.ok() ? WriteFileAtomic(Out("curves.svg"), *svg) : OkStatus();
}

Status Trainer::Save() {
  Checkpoint c;
  c.step = step_number_;
  c.optimizer_steps = optimizer_->steps();
  c.epoch = order_->epoch();
  c.piece = order_->piece();
  c.tokens = tokens_;
  c.loss_mean = loss_mean_;
  c.loss_square = loss_square_;
  c.best = best_;
  c.recipe = Identity();
  c.values = {reinterpret_cast<const std::byte*>(parameters_->values()),
              static_cast<size_t>(parameters_->flat_size()) * sizeof(float)};
  c.optimizer = optimizer_->state();
  // The log first: resuming cuts what it has beyond the checkpoint, but cannot bring back lines.
  Status saved = WriteFileAtomic(Out("log.jsonl"), log_);
  if (saved.ok()) saved = WriteCheckpoint(Out("checkpoints"), c, recipe_.keep, &device_);
  return saved.ok() ? saved : Status(saved.code(), saved.message() + "; " + LastCheckpoint());
}

Status Trainer::WriteResult(const std::string& path) {
  if (adapters_ != nullptr) {
    const Adapter adapter = adapters_->ToAdapter(run_.base_name);
    return path.ends_with(".gguf") ? WriteGgufAdapter(adapter, target_, path)
                                   : WritePeftAdapter(adapter, target_, path);
  }
  return WriteMasterModel(
      master_, path,
      [&](const MasterTensor& t) {
        const auto base = base_types_.find(t.name);
        return recipe_.output_type.empty() && base != base_types_.end() ? base->second
                                                                        : output_type_;
      },
      [&](const MasterTensor& t) {
        const Parameter* p = parameters_->Find(t.name);
        if (p == nullptr) return t.values;
        std::vector<float> values(static_cast<size_t>(p->size()));
        device_.CopyToHost(values.data(), reinterpret_cast<const std::byte*>(p->value),
                           values.size() * sizeof(float));
        return values;
      });
}

int64_t TrainPlan::total() const {
  int64_t sum = 0;
  for (const auto& [name, bytes] : entries) sum += bytes;
  return sum;
}

Status RunTraining(Device& device, const TrainRun& run, const TrainEvents& events) {
  return Trainer(device, run, events).Run();
}

}  // namespace ink
