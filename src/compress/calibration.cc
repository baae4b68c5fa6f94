#include "compress/calibration.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "formats/gguf_writer.h"
#include "ops/exec_context.h"
#include "ops/linear.h"
#include "tensor/align.h"

namespace ink {
namespace {

// Columns of one task; rows are added in order, so that sums do not depend on threads.
constexpr int64_t kTaskCols = 512;

PackedMatrix ExpertOf(const PackedMatrix& stack, int64_t expert) {
  PackedMatrix matrix = stack;
  matrix.data += expert * stack.expert_bytes;
  matrix.experts = 1;
  return matrix;
}

}  // namespace

Calibration::Sums& Calibration::SumsOf(const Weight& weight) {
  Sums& sums = sums_[weight.name];
  if (sums.counts.empty()) {
    sums.cols = weight.packed.cols;
    sums.counts.resize(static_cast<size_t>(weight.packed.experts));
    sums.squares.resize(static_cast<size_t>(weight.packed.experts * sums.cols));
  }
  return sums;
}

void Calibration::Add(Sums* sums, int64_t expert, const float* x, int64_t rows, int64_t stride) {
  double* squares = sums->squares.data() + expert * sums->cols;
  device_.host_pool().ParallelFor((sums->cols + kTaskCols - 1) / kTaskCols, [&](int64_t i, int) {
    const int64_t end = std::min(sums->cols, (i + 1) * kTaskCols);
    for (int64_t r = 0; r < rows; ++r) {
      const float* row = x + r * stride;
      for (int64_t c = i * kTaskCols; c < end; ++c) {
        squares[c] += static_cast<double>(row[c]) * static_cast<double>(row[c]);
      }
    }
  });
  sums->counts[static_cast<size_t>(expert)] += rows;
}

void Calibration::AfterLinear(ExecContext&, const Weight& weight, const VectorWeight*, Tensor x,
                              Tensor) {
  if (!output_ && (weight.name == "output.weight" || weight.name == "token_embd.weight")) return;
  if (x.rows == 0) return;
  const int64_t count = (x.rows - 1) * x.stride + x.cols;
  host_.resize(static_cast<size_t>(count));
  device_.CopyToHost(host_.data(), reinterpret_cast<const std::byte*>(x.data),
                     static_cast<size_t>(count) * sizeof(float));
  Add(&SumsOf(weight), 0, host_.data(), x.rows, x.stride);
}

void Calibration::AfterExperts(ExecContext& context, const MoeExpertsParams& p, const Weight& gate,
                               const Weight& up, const Weight& down) {
  if (!status_.ok() || p.num_tokens == 0) return;
  const int64_t slots = p.num_tokens * p.top_k;
  std::vector<int32_t> experts(static_cast<size_t>(slots));
  device_.CopyToHost(experts.data(), reinterpret_cast<const std::byte*>(p.experts),
                     static_cast<size_t>(slots) * sizeof(int32_t));
  host_.resize(static_cast<size_t>(p.num_tokens * p.dim));
  device_.CopyToHost(host_.data(), reinterpret_cast<const std::byte*>(p.x),
                     host_.size() * sizeof(float));
  // What the experts' down projections read exists only inside the op: compute it once more.
  LinearParams both = LinearParamsOf(ExpertOf(p.gate, 0), p.num_tokens);
  both.num_weights = 2;
  both.weights[1] = ExpertOf(p.up, 0);
  const int64_t x_bytes = AlignBytes(p.num_tokens * p.dim * 4);
  const int64_t hidden_bytes = AlignBytes(p.num_tokens * p.ffn_dim * 4);
  const int64_t total =
      x_bytes + 3 * hidden_bytes + static_cast<int64_t>(LinearWorkspaceBytes(both));
  if (total > static_cast<int64_t>(expert_scratch_.size())) {
    auto buffer = device_.Allocate(static_cast<size_t>(total), LedgerEntry::kActivations);
    if (!buffer.ok()) {
      status_ = buffer.status();
      return;
    }
    expert_scratch_ = std::move(buffer).value();
  }
  std::byte* base = expert_scratch_.data();
  auto* x = reinterpret_cast<float*>(base);
  auto* g = reinterpret_cast<float*>(base + x_bytes);
  auto* u = reinterpret_cast<float*>(base + x_bytes + hidden_bytes);
  auto* h = reinterpret_cast<float*>(base + x_bytes + 2 * hidden_bytes);
  std::vector<float> rows, hidden;
  for (int64_t e = 0; e < gate.packed.experts; ++e) {
    rows.clear();
    for (int64_t s = 0; s < slots; ++s) {
      if (experts[static_cast<size_t>(s)] != e) continue;
      const float* row = host_.data() + s / p.top_k * p.dim;
      rows.insert(rows.end(), row, row + p.dim);
    }
    const int64_t count = static_cast<int64_t>(rows.size()) / p.dim;
    if (count == 0) continue;
    Add(&SumsOf(gate), e, rows.data(), count, p.dim);
    Add(&SumsOf(up), e, rows.data(), count, p.dim);
    device_.CopyToDevice(base, rows.data(), rows.size() * sizeof(float));
    both.num_rows = count;
    both.weights[0] = ExpertOf(p.gate, e);
    both.weights[1] = ExpertOf(p.up, e);
    both.x = x;
    both.x_stride = p.dim;
    both.y[0] = g;
    both.y[1] = u;
    both.y_stride[0] = both.y_stride[1] = p.ffn_dim;
    both.workspace = base + x_bytes + 3 * hidden_bytes;
    context.Launch(device_.ops().linear, both);
    context.Launch(device_.ops().glu,
                   GluParams{g, u, h, count, p.ffn_dim, p.ffn_dim, p.ffn_dim, p.activation});
    hidden.resize(static_cast<size_t>(count * p.ffn_dim));
    device_.CopyToHost(hidden.data(), reinterpret_cast<const std::byte*>(h),
                       hidden.size() * sizeof(float));
    Add(&SumsOf(down), e, hidden.data(), count, p.ffn_dim);
  }
  // Experts that nobody chose must still be in the file.
  SumsOf(gate);
  SumsOf(up);
  SumsOf(down);
}

Status Calibration::Write(const std::string& path, const std::string& dataset, uint32_t chunks,
                          uint32_t chunk_size) const {
  INK_RETURN_IF_ERROR(status_);
  if (sums_.empty()) {
    return InvalidArgument(path +
                           ": importance matrix: expected at least one linear that ran, "
                           "got none");
  }
  GgufWriter writer(path);
  Metadata& m = writer.metadata();
  m.SetString("general.type", "imatrix");
  m.SetStrings("imatrix.datasets", std::vector<std::string>{dataset});
  m.SetU32("imatrix.chunk_count", chunks);
  m.SetU32("imatrix.chunk_size", chunk_size);
  for (const auto& [name, sums] : sums_) {
    const auto experts = static_cast<int64_t>(sums.counts.size());
    INK_RETURN_IF_ERROR(writer.AddTensor(name + ".in_sum2", DType::kF32,
                                         std::array<int64_t, 2>{sums.cols, experts}));
    INK_RETURN_IF_ERROR(
        writer.AddTensor(name + ".counts", DType::kF32, std::array<int64_t, 2>{1, experts}));
  }
  INK_RETURN_IF_ERROR(writer.Begin());
  for (const auto& [name, sums] : sums_) {
    const std::vector<float> squares(sums.squares.begin(), sums.squares.end());
    const std::vector<float> counts(sums.counts.begin(), sums.counts.end());
    for (float value : squares) {
      if (std::isfinite(value)) continue;
      return InvalidArgument(path + ": importance of " + name +
                             ": expected finite activations, got a NaN or infinity");
    }
    INK_RETURN_IF_ERROR(writer.Write(std::as_bytes(std::span(squares))));
    INK_RETURN_IF_ERROR(writer.Write(std::as_bytes(std::span(counts))));
  }
  return writer.Finish();
}

}  // namespace ink
