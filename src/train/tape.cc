#include "train/tape.h"

#include <algorithm>
#include <cstring>

#include "kernels/op_table.h"
#include "tensor/align.h"

namespace ink {
namespace {

// While planning, zones lie far apart at addresses that are never touched.
constexpr int64_t kPlanZone = int64_t{1} << 42;

}  // namespace

Tape::Tape(Device& device, const ParameterStore* parameters, const TapeOptions& options,
           const LowRankSet* adapters)
    : device_(device),
      kernels_(TrainKernelsFor(device.ops().name)),
      parameters_(parameters),
      options_(options),
      adapters_(adapters) {}

void Tape::BeginPlan() {
  planning_ = true;
  for (int i = 0; i < 3; ++i) zones_[i] = Zone{kPlanZone * (i + 1), 0, 0};
  workspace_bytes_ = 0;
  Reset();
}

Status Tape::EndPlan() {
  planning_ = false;
  activation_bytes_ = 0;
  for (Zone& zone : zones_) {
    zone.base = activation_bytes_;
    activation_bytes_ += zone.peak;
  }
  activations_.Reset();
  gradients_.Reset();
  workspace_.Reset();
  const auto bytes = static_cast<size_t>(activation_bytes_);
  INK_ASSIGN_OR_RETURN(activations_, device_.Allocate(bytes, LedgerEntry::kTraining));
  INK_ASSIGN_OR_RETURN(gradients_, device_.Allocate(bytes, LedgerEntry::kTraining));
  INK_ASSIGN_OR_RETURN(workspace_, device_.Allocate(workspace_bytes_, LedgerEntry::kTraining));
  std::vector<int32_t> ids(static_cast<size_t>(frozen_rows_));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
  INK_ASSIGN_OR_RETURN(frozen_ids_,
                       device_.Allocate(ids.size() * sizeof(int32_t), LedgerEntry::kTraining));
  if (!ids.empty()) device_.CopyToDevice(frozen_ids_.data(), ids.data(), ids.size() * 4);
  Reset();
  return OkStatus();
}

void Tape::Reset() {
  for (Zone& zone : zones_) zone.used = 0;
  allocations_.clear();
  nodes_.clear();
  layers_.clear();
  layer_ = kOutside;
}

Tape::Mark Tape::Here() const {
  INK_CHECK_EQ(layer_, kOutside);
  return {nodes_.size(), allocations_.size(), static_cast<size_t>(zones_[0].used)};
}

Tensor Tape::AllocateIn(int index, int64_t rows, int64_t cols, int layer) {
  Zone& zone = zones_[index];
  const int64_t at = zone.base + zone.used;
  zone.used += AlignBytes(rows * cols * static_cast<int64_t>(sizeof(float)));
  zone.peak = std::max(zone.peak, zone.used);
  if (!planning_) INK_CHECK_LE(zone.used, zone.peak);
  const auto base = planning_ ? uintptr_t{0} : reinterpret_cast<uintptr_t>(activations_.data());
  auto* data = reinterpret_cast<float*>(base + static_cast<uintptr_t>(at));
  if (!planning_) {
    INK_CHECK_LE(at + rows * cols * static_cast<int64_t>(sizeof(float)), activation_bytes_);
  }
  allocations_.push_back({data, rows * cols, false, layer});
  return {data, rows, cols, cols};
}

Tensor Tape::Allocate(int64_t rows, int64_t cols) {
  const bool in_zone = options_.recompute && layer_ != kOutside;
  return AllocateIn(in_zone ? 1 + layer_ % 2 : 0, rows, cols, layer_);
}

void Tape::BeginLayer(int layer, Tensor input) {
  INK_CHECK_EQ(layer_, kOutside);
  INK_CHECK_EQ(layer, static_cast<int>(layers_.size()));
  LayerState state;
  state.input = input;
  state.first_record = nodes_.size();
  if (options_.recompute) {
    if (layer > 0) {
      state.kept = AllocateIn(0, input.rows, input.cols, kOutside);
      if (!planning_) {
        INK_CHECK(input.contiguous());
        device_.CopyOnDevice(reinterpret_cast<std::byte*>(state.kept.data),
                             reinterpret_cast<const std::byte*>(input.data),
                             static_cast<size_t>(input.size()) * sizeof(float));
      }
    }
    if (layer >= 2) layers_[static_cast<size_t>(layer) - 2].resident = false;
    zones_[1 + layer % 2].used = 0;
  }
  layers_.push_back(state);
  layer_ = layer;
}

void Tape::EndLayer(int layer, Tensor) {
  INK_CHECK_EQ(layer, layer_);
  layers_.back().end_record = nodes_.size();
  layer_ = kOutside;
}

void Tape::NeedWorkspace(size_t bytes) { workspace_bytes_ = std::max(workspace_bytes_, bytes); }

void Tape::Record(const OpRecord& record) {
  Node node{record, layer_, {}};
  node.stream = static_cast<int64_t>(nodes_.size());
  nodes_.push_back(node);
  if (planning_) {
    PlanRecord(record);
  } else {
    std::visit([&](const auto& r) { DropResult(node, r.y); }, record);
  }
}

DenseAttentionParams Tape::AttentionCall(const AttentionRecord& r, Tensor lse) {
  DenseAttentionParams p;
  p.q = r.q.data;
  p.k = r.k.data;
  p.v = r.v.data;
  p.out = r.y.data;
  p.lse = lse.data;
  p.q_stride = r.q.stride;
  p.k_stride = r.k.stride;
  p.v_stride = r.v.stride;
  p.out_stride = r.y.stride;
  p.sequences = r.params.sequences;
  p.num_seqs = r.params.num_seqs;
  p.num_heads = r.params.num_heads;
  p.num_kv_heads = r.num_kv_heads;
  p.head_dim = r.params.cache.head_dim;
  p.scale = r.params.scale;
  p.softcap = r.params.softcap;
  p.sliding_window = r.params.sliding_window;
  p.bfloat16 = options_.bfloat16;
  // While planning, no sequence is known: the longest that the batch can hold.
  p.max_tokens = r.q.rows;
  if (!planning_) {
    p.max_tokens = 0;
    for (int i = 0; i < p.num_seqs; ++i) {
      p.max_tokens = std::max(p.max_tokens, p.sequences[i].num_tokens);
      INK_CHECK(p.sequences[i].mask == MaskKind::kCausal);
    }
  }
  p.workspace = workspace_.data();
  return p;
}

void Tape::Attention(const AttentionRecord& record) {
  INK_CHECK(record.params.sinks == nullptr);
  Tensor lse = Allocate(record.q.rows, record.params.num_heads);
  nodes_.push_back({record, layer_, lse});
  if (planning_) {
    NeedWorkspace(DenseAttentionWorkspaceBytes(AttentionCall(record, lse), device_.num_threads()));
  } else {
    RunForward(nodes_.back());
  }
}

void Tape::PlanRecord(const OpRecord& record) {
  if (const auto* r = std::get_if<LinearRecord>(&record)) {
    LinearParams forward;
    forward.num_rows = r->x.rows;
    forward.cols = r->x.cols;
    forward.num_weights = 1;
    forward.weights[0] = r->weight->packed;
    NeedWorkspace(LinearWorkspaceBytes(forward));
    const Parameter* parameter = parameters_->Find(*r->weight);
    if (parameter == nullptr) {
      // A block of rows at a time: never the whole weight, which is why it stays packed.
      frozen_rows_ = std::max(frozen_rows_, r->weight->packed.rows);
      LinearGradInputParams frozen;
      frozen.num_rows = r->x.rows;
      frozen.weight = r->weight->packed;
      NeedWorkspace(LinearGradInputWorkspaceBytes(frozen));
      return;
    }
    MatmulParams dx;
    dx.m = r->x.rows;
    dx.n = r->x.cols;
    dx.k = r->y.cols;
    dx.b_packed = parameter->transposed;
    NeedWorkspace(MatmulWorkspaceBytes(dx));
    MatmulParams dw;
    dw.m = r->y.cols;
    dw.n = r->x.cols;
    dw.k = r->x.rows;
    NeedWorkspace(MatmulWorkspaceBytes(dw));
  } else if (const auto* n = std::get_if<RmsNormRecord>(&record)) {
    NeedWorkspace(static_cast<size_t>(n->weight->size) * kGradParts * sizeof(float));
  } else if (const auto* rope = std::get_if<RopeRecord>(&record)) {
    NeedWorkspace(static_cast<size_t>(rope->x.size()) * sizeof(float));
  }
}

Tape::Allocation* Tape::Owner(const float* data) {
  // Zones are reused by layers of the same parity: the current layer's results come first, then
  // those of the layer before it (its input), then what lies outside all layers.
  auto search = [&](auto wanted) -> Allocation* {
    for (size_t i = allocations_.size(); i-- > 0;) {
      Allocation& a = allocations_[i];
      if (wanted(a.layer) && data >= a.data && data < a.data + a.size) return &a;
    }
    return nullptr;
  };
  if (!options_.recompute) return search([](int) { return true; });
  const int layer = layer_;
  if (layer != kOutside) {
    if (Allocation* a = search([&](int l) { return l == layer; })) return a;
    if (Allocation* a = search([&](int l) { return l == layer - 1; })) return a;
  } else if (!layers_.empty()) {
    const int last = static_cast<int>(layers_.size()) - 1;
    if (Allocation* a = search([&](int l) { return l == last; })) return a;
  }
  return search([](int l) { return l == kOutside; });
}

Tensor Tape::GradientFor(Tensor x, bool* fresh) {
  if (fresh != nullptr) *fresh = false;
  Allocation* owner = Owner(x.data);
  if (owner == nullptr) return {};
  auto to_gradient = [&](const float* p) {
    return reinterpret_cast<float*>(gradients_.data() +
                                    (reinterpret_cast<const std::byte*>(p) - activations_.data()));
  };
  Tensor gradient = x;
  gradient.data = to_gradient(x.data);
  if (!owner->has_gradient) {
    owner->has_gradient = true;
    if (fresh != nullptr && x.size() == owner->size) {
      *fresh = true;
    } else {
      device_.Launch(kernels_.fill, FillParams{to_gradient(owner->data), owner->size, 0.0f});
    }
  }
  return gradient;
}

Tensor Tape::Gradient(Tensor x) { return GradientFor(x, nullptr); }

Tensor Tape::FreshGradient(Tensor x) {
  bool fresh = false;
  const Tensor gradient = GradientFor(x, &fresh);
  INK_CHECK(fresh);
  return gradient;
}

bool Tape::HasGradient(Tensor y) {
  Allocation* owner = Owner(y.data);
  return owner != nullptr && owner->has_gradient;
}

Tensor Tape::Incoming(Tensor y) { return GradientFor(y, nullptr); }

void Tape::Restore(int layer) {
  LayerState& state = layers_[static_cast<size_t>(layer)];
  // Later layers of the other parity have written over the input, even where the layer's own
  // results are still there.
  if (!state.kept.empty()) {
    device_.CopyOnDevice(reinterpret_cast<std::byte*>(state.input.data),
                         reinterpret_cast<const std::byte*>(state.kept.data),
                         static_cast<size_t>(state.kept.size()) * sizeof(float));
  }
  if (state.resident) return;
  for (size_t i = state.first_record; i < state.end_record; ++i) RunForward(nodes_[i]);
  state.resident = true;
}

void Tape::BackwardTo(const Mark& mark) {
  for (size_t i = nodes_.size(); i-- > mark.records;) {
    if (layer_ != nodes_[i].layer) {
      layer_ = nodes_[i].layer;
      if (layer_ != kOutside) Restore(layer_);
    }
    RunBackward(nodes_[i]);
  }
  layer_ = kOutside;
  Forget(mark);
}

void Tape::Forget(const Mark& mark) {
  nodes_.erase(nodes_.begin() + static_cast<std::ptrdiff_t>(mark.records), nodes_.end());
  allocations_.erase(allocations_.begin() + static_cast<std::ptrdiff_t>(mark.allocations),
                     allocations_.end());
  zones_[0].used = static_cast<int64_t>(mark.used);
  if (mark.records == 0) layers_.clear();
}

}  // namespace ink
