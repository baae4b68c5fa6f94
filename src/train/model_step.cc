#include "train/model_step.h"

#include <algorithm>

#include "kernels/train_kernels.h"

namespace ink {

void TrainBatch::Clear() {
  tokens.clear();
  positions.clear();
  targets.clear();
  weights.clear();
  lengths.clear();
}

int64_t TrainBatch::num_targets() const {
  return std::count_if(targets.begin(), targets.end(), [](int32_t t) { return t >= 0; });
}

double TrainBatch::target_weight() const {
  if (weights.empty()) return static_cast<double>(num_targets());
  double sum = 0;
  for (size_t i = 0; i < targets.size(); ++i) {
    if (targets[i] >= 0) sum += double{weights[i]};
  }
  return sum;
}

ModelStep::ModelStep(Device& device, const Model& model, const ParameterStore& parameters,
                     const Options& options, const LowRankSet* adapters)
    : device_(device),
      model_(model),
      kernels_(TrainKernelsFor(device.ops().name)),
      options_(options),
      tape_(
          device, &parameters,
          TapeOptions{options.bfloat16, options.recompute, options.dropout, options.token_dropout},
          adapters),
      adapted_(adapters != nullptr) {
  // No cache: attention reads K and V of the batch. Only the layers' count matters.
  state_.layers.resize(static_cast<size_t>(model.info().num_layers));
  for (size_t g = 0; g < model.info().groups.size(); ++g) {
    for (int layer : model.info().groups[g].layers) {
      state_.layers[static_cast<size_t>(layer)].group = static_cast<int>(g);
    }
  }
}

int64_t ModelStep::loss_bytes() const { return 2 * loss_rows_ * model_.info().n_vocab * 4; }

Result<std::unique_ptr<ModelStep>> ModelStep::Create(Device& device, const Model& model,
                                                     const ParameterStore& parameters,
                                                     const Options& options,
                                                     const LowRankSet* adapters) {
  INK_CHECK_GT(options.max_tokens, 0);
  std::unique_ptr<ModelStep> step(new ModelStep(device, model, parameters, options, adapters));
  step->loss_rows_ = std::clamp<int64_t>(options.loss_chunk_bytes / (model.info().n_vocab * 4), 16,
                                         options.max_tokens);
  step->tape_.BeginPlan();
  Arena arena = Arena::Measuring();
  ExecContext context{device, arena, &step->tape_};
  if (step->adapted_) context.linear_hook = &step->tape_;
  ForwardBatch batch;
  batch.num_tokens = options.max_tokens;
  batch.groups.resize(model.info().groups.size());
  Tensor hidden = step->RunModel(context, batch);
  const int32_t any_row = 0;  // while measuring nothing reads it
  model.Logits(context, hidden, &any_row, step->loss_rows_);
  INK_RETURN_IF_ERROR(step->tape_.EndPlan());
  step->scratch_bytes_ = static_cast<int64_t>(arena.peak());
  INK_ASSIGN_OR_RETURN(step->scratch_, device.Allocate(arena.peak() + 64, LedgerEntry::kTraining));
  INK_ASSIGN_OR_RETURN(step->losses_,
                       device.Allocate(options.max_tokens * sizeof(float), LedgerEntry::kTraining));
  INK_ASSIGN_OR_RETURN(step->ids_, device.Allocate(options.max_tokens * 5 * sizeof(int32_t),
                                                   LedgerEntry::kTraining));
  return step;
}

Tensor ModelStep::RunModel(ExecContext& context, const ForwardBatch& batch) {
  return model_.Forward(context, batch, state_);
}

StepLoss ModelStep::ForwardBackward(const TrainBatch& batch, float grad_scale, uint64_t seed) {
  tape_.SetTraining(true, seed);
  return Run(batch, true, grad_scale, nullptr);
}

StepLoss ModelStep::Evaluate(const TrainBatch& batch, std::vector<float>* losses) {
  tape_.SetTraining(false, 0);
  return Run(batch, false, 0, losses);
}

ForwardBatch ModelStep::Upload(const TrainBatch& batch, std::vector<SequenceSpan>* spans) {
  const int64_t n = batch.num_tokens();
  auto* ids = reinterpret_cast<int32_t*>(ids_.data());
  int32_t* positions = ids + options_.max_tokens;
  int32_t* targets = positions + options_.max_tokens;
  const auto bytes = static_cast<size_t>(n) * sizeof(int32_t);
  device_.CopyToDevice(reinterpret_cast<std::byte*>(ids), batch.tokens.data(), bytes);
  device_.CopyToDevice(reinterpret_cast<std::byte*>(positions), batch.positions.data(), bytes);
  device_.CopyToDevice(reinterpret_cast<std::byte*>(targets), batch.targets.data(), bytes);
  int64_t first = 0;
  for (int64_t length : batch.lengths) {
    SequenceSpan span;
    span.first_token = first;
    span.num_tokens = span.kv_length = length;
    spans->push_back(span);
    first += length;
  }
  INK_CHECK_EQ(first, n);
  ForwardBatch forward;
  forward.num_tokens = n;
  forward.num_seqs = static_cast<int>(spans->size());
  forward.token_ids = ids;
  forward.positions = positions;
  forward.sequences = spans->data();
  forward.groups.resize(model_.info().groups.size());

  return forward;
}

std::vector<float> ModelStep::LastLogits(const TrainBatch& batch) {
  std::vector<SequenceSpan> spans;
  const ForwardBatch forward = Upload(batch, &spans);
  tape_.SetTraining(false, 0);
  tape_.Reset();
  Arena arena(scratch_.data(), static_cast<size_t>(scratch_bytes_) + 64);
  ExecContext context{device_, arena, &tape_};
  if (adapted_) context.linear_hook = &tape_;
  const Tensor hidden = RunModel(context, forward);
  const Tensor logits = model_.Logits(context, hidden.Rows(hidden.rows - 1, 1), nullptr, 1);
  std::vector<float> out(static_cast<size_t>(logits.cols));
  device_.CopyToHost(out.data(), reinterpret_cast<const std::byte*>(logits.data),
                     out.size() * sizeof(float));
  tape_.Reset();
  return out;
}

StepLoss ModelStep::Run(const TrainBatch& batch, bool backward, float grad_scale,
                        std::vector<float>* losses) {
  const int64_t n = batch.num_tokens();
  INK_CHECK_LE(n, options_.max_tokens);
  INK_CHECK_EQ(static_cast<int64_t>(batch.targets.size()), n);
  INK_CHECK_EQ(static_cast<int64_t>(batch.positions.size()), n);
  if (losses != nullptr) losses->assign(static_cast<size_t>(n), 0.0f);
  StepLoss total;
  total.targets = batch.num_targets();
  if (total.targets == 0) return total;  // nothing to learn, and no gradient to add

  std::vector<SequenceSpan> spans;
  const ForwardBatch forward = Upload(batch, &spans);
  // Only rows that have a target pass the output head: in labelled data few have.
  std::vector<int32_t> rows_of, targets_of;
  std::vector<float> weights_of;
  for (int64_t i = 0; i < n; ++i) {
    const auto at = static_cast<size_t>(i);
    if (batch.targets[at] < 0) continue;
    rows_of.push_back(static_cast<int32_t>(i));
    targets_of.push_back(batch.targets[at]);
    weights_of.push_back(batch.weights.empty() ? 1.0f : batch.weights[at]);
  }
  auto* ids = reinterpret_cast<int32_t*>(ids_.data());
  int32_t* targets = ids + 2 * options_.max_tokens;
  int32_t* rows_at = ids + 3 * options_.max_tokens;
  auto* weights = reinterpret_cast<float*>(ids + 4 * options_.max_tokens);
  const auto count = static_cast<int64_t>(rows_of.size());
  const auto count_bytes = static_cast<size_t>(count) * 4;
  device_.CopyToDevice(reinterpret_cast<std::byte*>(targets), targets_of.data(), count_bytes);
  device_.CopyToDevice(reinterpret_cast<std::byte*>(rows_at), rows_of.data(), count_bytes);
  device_.CopyToDevice(reinterpret_cast<std::byte*>(weights), weights_of.data(), count_bytes);
  tape_.Reset();
  Arena arena(scratch_.data(), static_cast<size_t>(scratch_bytes_) + 64);
  ExecContext context{device_, arena, &tape_};
  if (adapted_) context.linear_hook = &tape_;
  const Tensor hidden = RunModel(context, forward);
  const Tape::Mark mark = tape_.Here();
  std::vector<float> chunk_losses(static_cast<size_t>(loss_rows_));
  for (int64_t first = 0; first < count; first += loss_rows_) {
    const int64_t rows = std::min(loss_rows_, count - first);
    const size_t scratch_mark = arena.used();
    const Tensor logits = count == n
                              ? model_.Logits(context, hidden.Rows(first, rows), nullptr, rows)
                              : model_.Logits(context, hidden, rows_at + first, rows);
    CrossEntropyParams loss;
    loss.logits = logits.data;
    loss.targets = targets + first;
    loss.loss = reinterpret_cast<float*>(losses_.data());
    loss.weights = batch.weights.empty() ? nullptr : weights + first;
    loss.rows = rows;
    loss.vocab = logits.cols;
    loss.grad_scale = grad_scale;
    if (backward) loss.dlogits = tape_.FreshGradient(logits).data;
    device_.Launch(kernels_.cross_entropy, loss);
    if (backward) {
      tape_.BackwardTo(mark);
    } else {
      tape_.Forget(mark);
    }
    arena.Rewind(scratch_mark);
    device_.CopyToHost(chunk_losses.data(), losses_.data(),
                       static_cast<size_t>(rows) * sizeof(float));
    for (int64_t i = 0; i < rows; ++i) {
      const auto at = static_cast<size_t>(first + i);
      const float value = chunk_losses[static_cast<size_t>(i)];
      total.sum += double{value} * double{weights_of[at]};
      if (losses != nullptr) (*losses)[static_cast<size_t>(rows_of[at])] = value;
    }
  }
  if (backward) tape_.Backward();
  tape_.Reset();
  return total;
}

}  // namespace ink
