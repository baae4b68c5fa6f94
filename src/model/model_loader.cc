#include "model/model_loader.h"
#include "tensor/align.h"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace ink {
namespace {

// Source pages that may be resident at a time while packing (DESIGN promise 2).
constexpr int64_t kDropBytes = 16 << 20;

std::string Shape(int experts, int64_t rows, int64_t cols) {
  std::string text = "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]";
  return experts == 1 ? text : std::to_string(experts) + " x " + text;
}

}  // namespace

std::string ModelLoader::SharedName(std::string_view name) const {
  constexpr std::string_view kPrefix = "blk.", kKey = "inkstone.shared_layers";
  if (!name.starts_with(kPrefix) || !metadata().Has(kKey)) return std::string(name);
  const size_t dot = name.find('.', kPrefix.size());
  auto layers = metadata().GetInts(kKey);
  size_t layer = 0;
  const char* first = name.data() + kPrefix.size();
  if (dot == std::string_view::npos || !layers.ok() ||
      std::from_chars(first, name.data() + dot, layer).ptr != name.data() + dot ||
      layer >= layers->size()) {
    return std::string(name);
  }
  const int64_t owner = layers->Int(layer);
  if (owner < 0 || owner >= static_cast<int64_t>(layer)) return std::string(name);
  return std::string(kPrefix) + std::to_string(owner) + std::string(name.substr(dot));
}

Status ModelLoader::Matrix(std::string_view given_name, int64_t rows, int64_t cols, Weight* out,
                           int experts) {
  const std::string name = SharedName(given_name);
  INK_ASSIGN_OR_RETURN(SourceTensor tensor, source_.Matrix(name));
  if (tensor.rows != rows || tensor.cols != cols || tensor.num_experts() != experts) {
    return Corrupt(source_.path() + ": tensor " + std::string(name) + ": expected shape " +
                   Shape(experts, rows, cols) + ", got " +
                   Shape(tensor.num_experts(), tensor.rows, tensor.cols));
  }
  if (name != given_name) {
    for (const PendingMatrix& owner : matrices_) {
      if (owner.weight->name != name) continue;
      *out = *owner.weight;
      shared_matrices_.emplace_back(out, owner.weight);
      return OkStatus();
    }
  }
  auto packed = device_.PlanPacked(tensor.type, rows, cols, experts);
  if (!packed.ok()) {
    return packed.status().WithContext(source_.path() + ": tensor " + std::string(name));
  }
  out->name = name;
  out->packed = *packed;
  matrices_.push_back({std::move(tensor), out, bytes_});
  bytes_ += AlignBytes(packed->expert_bytes * experts);
  return OkStatus();
}

Status ModelLoader::Vector(std::string_view given_name, int64_t size, VectorWeight* out) {
  const std::string name = SharedName(given_name);
  INK_ASSIGN_OR_RETURN(std::vector<float> values, source_.Vector(name));
  if (static_cast<int64_t>(values.size()) != size) {
    return Corrupt(source_.path() + ": tensor " + std::string(name) + ": expected " +
                   std::to_string(size) + " values, got " + std::to_string(values.size()));
  }
  if (name != given_name) {
    for (const PendingVector& owner : vectors_) {
      if (owner.computed || owner.vector->name != name) continue;
      *out = *owner.vector;
      shared_vectors_.emplace_back(out, owner.vector);
      return OkStatus();
    }
  }
  Computed(name, std::move(values), out);
  vectors_.back().computed = false;
  return OkStatus();
}

Status ModelLoader::OptionalVector(std::string_view name, int64_t size, VectorWeight* out) {
  return Has(name) ? Vector(name, size, out) : OkStatus();
}

void ModelLoader::Computed(std::string name, std::vector<float> values, VectorWeight* out) {
  out->name = std::move(name);
  out->size = static_cast<int64_t>(values.size());
  int64_t offset = bytes_;
  bytes_ += AlignBytes(out->size * 4);
  vectors_.push_back({std::move(values), out, offset, true});
}

Result<int64_t> ModelLoader::RowsOf(std::string_view name) const {
  INK_ASSIGN_OR_RETURN(SourceTensor tensor, source_.Matrix(name));
  return tensor.rows;
}

void ModelLoader::Pack(const PendingMatrix& pending, std::byte* base, int64_t total,
                       int64_t* done) {
  const SourceTensor& tensor = pending.tensor;
  const PackedMatrix& packed = pending.weight->packed;
  const int panel_rows = device_.panel_rows();
  const int64_t panels = (tensor.rows + panel_rows - 1) / panel_rows;
  // Whole panels whose source fits the page budget.
  const int64_t step =
      std::max<int64_t>(1, kDropBytes / std::max<int64_t>(1, tensor.row_bytes() * panel_rows));
  for (int e = 0; e < tensor.num_experts(); ++e) {
    std::byte* expert = base + pending.offset + e * packed.expert_bytes;
    for (int64_t first = 0; first < panels; first += step) {
      int64_t count = std::min(step, panels - first);
      std::byte* out =
          device_.BeginWrite(expert + first * packed.panel_bytes, count * packed.panel_bytes);
      device_.host_pool().ParallelFor(count, [&](int64_t i, int) {
        const std::byte* rows[64];
        int64_t row0 = (first + i) * panel_rows;
        int live = static_cast<int>(std::min<int64_t>(panel_rows, tensor.rows - row0));
        for (int r = 0; r < live; ++r) rows[r] = tensor.Row(e, row0 + r);
        device_.PackPanel(packed, rows, live, out + i * packed.panel_bytes);
      });
      device_.EndWrite(expert + first * packed.panel_bytes, count * packed.panel_bytes);
      int64_t row0 = first * panel_rows;
      source_.DropPages(tensor, e, row0, std::min(count * panel_rows, tensor.rows - row0));
      *done += count * packed.panel_bytes;
      if (options_.progress != nullptr) options_.progress(options_.progress_argument, *done, total);
    }
  }
}

Status ModelLoader::Load(Model* model) {
  ModelInfo& info = model->info_;
  INK_ASSIGN_OR_RETURN(model->adapter_target_, AdapterTargetOf(source_));
  info.weight_bytes = bytes_;
  info.num_parameters = 0;
  for (const PendingMatrix& m : matrices_) {
    info.num_parameters += m.tensor.rows * m.tensor.cols * m.tensor.num_experts();
    model->parameters_.matrices.push_back(m.weight);
  }
  for (const PendingVector& v : vectors_) {
    if (v.computed) continue;
    info.num_parameters += v.vector->size;
    model->parameters_.vectors.push_back(v.vector);
  }
  for (const auto& [weight, owner] : shared_matrices_)
    model->parameters_.matrices.push_back(weight);
  for (const auto& [vector, owner] : shared_vectors_) model->parameters_.vectors.push_back(vector);
  if (options_.plan_only) return OkStatus();
  INK_ASSIGN_OR_RETURN(Buffer buffer, device_.Allocate(bytes_, LedgerEntry::kWeights));
  int64_t done = 0;
  for (const PendingMatrix& matrix : matrices_) {
    Pack(matrix, buffer.data(), bytes_, &done);
    matrix.weight->packed.data = buffer.data() + matrix.offset;
  }
  for (const PendingVector& vector : vectors_) {
    std::byte* to = buffer.data() + vector.offset;
    device_.CopyToDevice(to, vector.values.data(), vector.values.size() * sizeof(float));
    vector.vector->data = reinterpret_cast<const float*>(to);
  }
  for (const auto& [weight, owner] : shared_matrices_) weight->packed.data = owner->packed.data;
  for (const auto& [vector, owner] : shared_vectors_) vector->data = owner->data;
  model->buffers_.push_back(std::move(buffer));
  return OkStatus();
}

}  // namespace ink
