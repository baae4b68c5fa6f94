#include "engine/model_runner.h"

#include <algorithm>
#include <cstring>

#include "ops/recorder.h"

namespace ink {
namespace {

size_t Align(size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

ModelRunner::InputLayout ModelRunner::LayoutInputs(const ModelInfo& info,
                                                   const RunnerConfig& config) {
  InputLayout layout;
  size_t at = 0;
  auto take = [&](size_t bytes) {
    size_t begin = at;
    at += Align(bytes);
    return begin;
  };
  const size_t tokens = static_cast<size_t>(config.max_tokens);
  const size_t seqs = static_cast<size_t>(config.max_seqs);
  layout.token_ids = take(tokens * 4);
  layout.positions = take(tokens * info.position_axes * 4);
  layout.sequences = take(seqs * sizeof(SequenceSpan));
  layout.cu_seqlens = take((seqs + 1) * 4);
  layout.rows = take(tokens * 4);
  layout.table_stride = BlocksFor(config.max_context);
  for (size_t g = 0; g < info.groups.size(); ++g) {
    layout.slots.push_back(take(tokens * 8));
    layout.tables.push_back(take(seqs * layout.table_stride * 4));
  }
  layout.total = at;
  return layout;
}

Result<int64_t> ModelRunner::MeasureArena(const Model& model, Device& device,
                                          const RunnerConfig& config) {
  Arena arena = Arena::Measuring();
  ExecContext context{device, arena};
  ForwardBatch batch;
  batch.num_tokens = config.max_tokens;
  batch.num_seqs = config.max_seqs;
  batch.n_axes = model.info().position_axes;
  batch.groups.resize(model.info().groups.size());
  StateView state;
  state.layers.resize(model.info().num_layers);
  for (size_t g = 0; g < model.info().groups.size(); ++g) {
    for (int layer : model.info().groups[g].layers) state.layers[layer].group = static_cast<int>(g);
  }
  Tensor hidden = model.Forward(context, batch, state);
  const int32_t dummy = 0;
  model.Logits(context, hidden, &dummy, std::min(config.max_logit_rows, config.max_tokens));
  return static_cast<int64_t>(arena.peak());
}

Result<ModelRunner::Plan> ModelRunner::MakePlan(const Model& model, Device& device,
                                                const RunnerConfig& config) {
  Plan plan;
  INK_ASSIGN_OR_RETURN(plan.activations, MeasureArena(model, device, config));
  InputLayout layout = LayoutInputs(model.info(), config);
  plan.inputs = 2 * static_cast<int64_t>(layout.total);
  plan.logits_host = config.max_logit_rows * model.info().n_vocab * 4;
  for (size_t g = 0; g < model.info().groups.size(); ++g) {
    int64_t bytes = GroupBlockBytes(model.info().groups[g], config.kv_types);
    plan.kv += bytes * config.blocks[g];
  }
  return plan;
}

Result<std::unique_ptr<ModelRunner>> ModelRunner::Create(const Model& model, Device& device,
                                                         const RunnerConfig& config) {
  auto runner = std::unique_ptr<ModelRunner>(new ModelRunner(model, device, config));
  INK_ASSIGN_OR_RETURN(int64_t arena_bytes, MeasureArena(model, device, config));
  INK_ASSIGN_OR_RETURN(runner->arena_buffer_,
                       device.Allocate(arena_bytes, LedgerEntry::kActivations));
  runner->layout_ = LayoutInputs(model.info(), config);
  INK_ASSIGN_OR_RETURN(runner->input_buffer_,
                       device.Allocate(runner->layout_.total, LedgerEntry::kInputs));
  runner->staging_.resize(runner->layout_.total);
  runner->host_logits_.resize(config.max_logit_rows * model.info().n_vocab);
  INK_ASSIGN_OR_RETURN(
      runner->storage_,
      KvStorage::Create(model.info(), config.kv_types, config.blocks, config.host_blocks, device));
  return runner;
}

ForwardBatch ModelRunner::FillBatch(std::span<const RunSequence> sequences) {
  const ModelInfo& info = model_.info();
  std::byte* host = staging_.data();
  std::byte* device = input_buffer_.data();
  auto* ids = reinterpret_cast<int32_t*>(host + layout_.token_ids);
  auto* positions = reinterpret_cast<int32_t*>(host + layout_.positions);
  auto* spans = reinterpret_cast<SequenceSpan*>(host + layout_.sequences);
  auto* cu = reinterpret_cast<int32_t*>(host + layout_.cu_seqlens);
  const int axes = info.position_axes;
  ForwardBatch batch;
  batch.num_seqs = static_cast<int>(sequences.size());
  batch.n_axes = axes;
  INK_CHECK_LE(batch.num_seqs, config_.max_seqs);
  int64_t token = 0;
  cu[0] = 0;
  for (size_t s = 0; s < sequences.size(); ++s) {
    const RunSequence& sequence = sequences[s];
    const int64_t count = static_cast<int64_t>(sequence.tokens.size());
    INK_CHECK_LE(token + count, config_.max_tokens);
    INK_CHECK_LE(sequence.start + count, config_.max_context);
    spans[s] = SequenceSpan{token,  count, sequence.start + count, sequence.mask, sequence.adapter,
                            nullptr};
    for (int64_t i = 0; i < count; ++i) {
      ids[token + i] = sequence.tokens[i];
      for (int a = 0; a < axes; ++a) {
        positions[(token + i) * axes + a] = static_cast<int32_t>(sequence.start + i);
      }
    }
    for (size_t g = 0; g < info.groups.size(); ++g) {
      std::span<const BlockId> table = sequence.block_tables[g];
      auto* slots = reinterpret_cast<int64_t*>(host + layout_.slots[g]) + token;
      auto* row = reinterpret_cast<int32_t*>(host + layout_.tables[g]) + s * layout_.table_stride;
      INK_CHECK_LE(static_cast<int64_t>(table.size()), layout_.table_stride);
      std::copy(table.begin(), table.end(), row);
      for (int64_t i = 0; i < count; ++i) {
        int64_t position = sequence.start + i;
        BlockId block = table[position / kBlockTokens];
        slots[i] =
            block == kNullBlock ? -1 : int64_t{block} * kBlockTokens + position % kBlockTokens;
      }
    }
    token += count;
    cu[s + 1] = static_cast<int32_t>(token);
  }
  batch.num_tokens = token;
  batch.token_ids = reinterpret_cast<const int32_t*>(device + layout_.token_ids);
  batch.positions = reinterpret_cast<const int32_t*>(device + layout_.positions);
  batch.sequences = reinterpret_cast<const SequenceSpan*>(device + layout_.sequences);
  batch.cu_seqlens = reinterpret_cast<const int32_t*>(device + layout_.cu_seqlens);
  for (size_t g = 0; g < info.groups.size(); ++g) {
    ForwardBatch::Group group;
    group.slots = reinterpret_cast<const int64_t*>(device + layout_.slots[g]);
    group.block_tables = reinterpret_cast<const int32_t*>(device + layout_.tables[g]);
    group.table_stride = layout_.table_stride;
    batch.groups.push_back(group);
  }
  device_.CopyToDevice(device, host, layout_.total);
  return batch;
}

void ModelRunner::Run(std::span<const RunSequence> sequences, const LogitsFn& logits,
                      const HiddenFn& hidden_rows) {
  if (sequences.empty()) return;
  ForwardBatch batch = FillBatch(sequences);
  Arena arena(arena_buffer_.data(), arena_buffer_.size());
  ExecContext context{device_, arena, nullptr, hook_};
  if (hook_ != nullptr) {
    hook_rows_.clear();
    int64_t first = 0;
    for (const RunSequence& sequence : sequences) {
      const auto count = static_cast<int64_t>(sequence.tokens.size());
      hook_rows_.push_back({first, count, sequence.adapter});
      first += count;
    }
    hook_->SetRows(hook_rows_);
  }
  Tensor hidden = model_.Forward(context, batch, storage_.view());

  struct Row {
    size_t sequence;
    int64_t index;
    int32_t token;
  };
  std::vector<Row> rows;
  int64_t end = 0;
  for (size_t s = 0; s < sequences.size(); ++s) {
    end += static_cast<int64_t>(sequences[s].tokens.size());
    for (int64_t i = 0; i < sequences[s].num_logits; ++i) {
      rows.push_back({s, i, static_cast<int32_t>(end - sequences[s].num_logits + i)});
    }
  }
  const int64_t n_vocab = model_.info().n_vocab;
  std::vector<int32_t> indices;
  for (size_t first = 0; first < rows.size(); first += config_.max_logit_rows) {
    size_t count = std::min<size_t>(config_.max_logit_rows, rows.size() - first);
    indices.clear();
    for (size_t i = 0; i < count; ++i) indices.push_back(rows[first + i].token);
    std::byte* device_rows = input_buffer_.data() + layout_.rows;
    device_.CopyToDevice(device_rows, indices.data(), count * 4);
    if (hook_ != nullptr) {
      hook_rows_.clear();
      for (size_t i = 0; i < count; ++i) {
        const int32_t adapter = sequences[rows[first + i].sequence].adapter;
        hook_rows_.push_back({static_cast<int64_t>(i), 1, adapter});
      }
      hook_->SetRows(hook_rows_);
    }
    ArenaScope scope(context);
    Tensor out = model_.Logits(context, hidden, reinterpret_cast<const int32_t*>(device_rows),
                               static_cast<int64_t>(count));
    device_.CopyToHost(host_logits_.data(), reinterpret_cast<const std::byte*>(out.data),
                       count * n_vocab * 4);
    for (size_t i = 0; i < count; ++i) {
      logits(rows[first + i].sequence, rows[first + i].index,
             {host_logits_.data() + i * n_vocab, static_cast<size_t>(n_vocab)});
    }
  }
  if (rows.empty()) device_.Synchronize();
  int64_t first_token = 0;
  for (size_t s = 0; s < sequences.size(); ++s) {
    const int64_t count = static_cast<int64_t>(sequences[s].tokens.size());
    if (sequences[s].wants_hidden) {
      const int64_t width = model_.info().d_model;
      INK_CHECK(hidden.contiguous());
      host_hidden_.resize(static_cast<size_t>(count * width));
      device_.CopyToHost(host_hidden_.data(),
                         reinterpret_cast<const std::byte*>(hidden.data) + first_token * width * 4,
                         static_cast<size_t>(count * width) * 4);
      for (int64_t i = 0; i < count; ++i) {
        hidden_rows(s, i, {host_hidden_.data() + i * width, static_cast<size_t>(width)});
      }
    }
    first_token += count;
  }
}

}  // namespace ink
