#include "engine/adapter_weights.h"

#include <algorithm>
#include <cmath>

#include "quant/quant_format.h"
#include "tensor/align.h"

namespace ink {
namespace {

// Rows of the base that are decoded at a time for row norms.
constexpr int64_t kNormRows = 256;

double Dot(const float* a, const float* b, int64_t n) {
  constexpr int kLanes = 16;
  constexpr int64_t kBlock = 1024;  // floats summed in single precision before they join the total
  double total = 0;
  for (int64_t at = 0; at < n; at += kBlock) {
    const int64_t end = std::min(n, at + kBlock);
    float lanes[kLanes] = {};
    int64_t i = at;
    for (; i + kLanes <= end; i += kLanes) {
      for (int l = 0; l < kLanes; ++l) lanes[l] += a[i + l] * b[i + l];
    }
    for (; i < end; ++i) lanes[0] += a[i] * b[i];
    for (float lane : lanes) total += lane;
  }
  return total;
}

void Pack(Device& device, const float* values, std::byte* at, PackedMatrix* matrix) {
  const int panel_rows = device.panel_rows();
  const int64_t panels = (matrix->rows + panel_rows - 1) / panel_rows;
  const auto bytes = static_cast<size_t>(panels * matrix->panel_bytes);
  std::byte* out = device.BeginWrite(at, bytes);
  std::vector<const std::byte*> rows(static_cast<size_t>(panel_rows));
  for (int64_t p = 0; p < panels; ++p) {
    const int live = static_cast<int>(std::min<int64_t>(panel_rows, matrix->rows - p * panel_rows));
    for (int r = 0; r < live; ++r) {
      rows[r] = reinterpret_cast<const std::byte*>(values + (p * panel_rows + r) * matrix->cols);
    }
    device.PackPanel(*matrix, rows.data(), live, out + p * matrix->panel_bytes);
  }
  device.EndWrite(at, bytes);
  matrix->data = at;
}

// ww, wba and bb of every row of W.
void RowNorms(Device& device, const PackedMatrix& w, const Adapter::Matrix& m,
              AdapterWeights::Matrix* out) {
  const int64_t r = m.rank;
  std::vector<double> gram(static_cast<size_t>(r * r));  // A A^T
  for (int64_t i = 0; i < r; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      gram[i * r + j] = gram[j * r + i] = Dot(&m.a[i * m.in], &m.a[j * m.in], m.in);
    }
  }
  out->magnitude = m.magnitude;
  for (std::vector<double>* v : {&out->ww, &out->wba, &out->bb}) {
    v->resize(static_cast<size_t>(m.out));
  }
  const QuantFormat& format = *FindQuantFormat(w.type);
  const int64_t row_bytes = RowBytes(w.type, w.cols);
  std::vector<std::byte> stored(static_cast<size_t>(std::min(kNormRows, w.rows) * row_bytes));
  for (int64_t first = 0; first < w.rows; first += kNormRows) {
    const int64_t count = std::min(kNormRows, w.rows - first);
    for (int64_t i = 0; i < count; ++i) {
      device.UnpackRow(w, 0, first + i, stored.data() + i * row_bytes);
    }
    device.host_pool().ParallelFor(count, [&](int64_t i, int) {
      std::vector<float> row(static_cast<size_t>(w.cols));
      format.decode(stored.data() + i * row_bytes, row.data(), w.cols);
      const int64_t n = first + i;
      const float* b = &m.b[n * r];
      double wba = 0, bb = 0;
      for (int64_t j = 0; j < r; ++j) {
        wba += b[j] * Dot(row.data(), &m.a[j * m.in], m.in);
        for (int64_t k = 0; k < r; ++k) bb += static_cast<double>(b[j]) * gram[j * r + k] * b[k];
      }
      out->ww[n] = Dot(row.data(), row.data(), w.cols);
      out->wba[n] = wba;
      out->bb[n] = bb;
    });
  }
}

}  // namespace

std::vector<float> AdapterWeights::Matrix::Gain(float user_scale) const {
  const double s = static_cast<double>(scale) * user_scale;
  std::vector<float> gain(magnitude.size());
  for (size_t i = 0; i < gain.size(); ++i) {
    const double square = ww[i] + s * (2 * wba[i] + s * bb[i]);
    gain[i] = square > 0 ? static_cast<float>(magnitude[i] / std::sqrt(square)) : 0.0f;
  }
  return gain;
}

Result<AdapterWeights> AdapterWeights::Lay(const Adapter& adapter, const Model& model,
                                           Device& device, int64_t* bytes) {
  INK_RETURN_IF_ERROR(CheckAdapter(adapter, model.adapter_target()));
  AdapterWeights out;
  *bytes = 0;
  for (const Adapter::Matrix& m : adapter.matrices) {
    Matrix matrix;
    const bool tied = model.adapter_target().Find(m.name)->tied;
    const std::string name = tied ? "token_embd.weight" : m.name;
    for (const Weight* weight : model.parameters().matrices) {
      if (weight->name == name) matrix.weights.push_back(weight);
    }
    if (matrix.weights.empty()) {
      return Unsupported(adapter.path + ": adapter of \"" + m.name +
                         "\": expected a matrix that the model multiplies by, got one it does not "
                         "use");
    }
    matrix.scale = adapter.Scale(m);
    INK_ASSIGN_OR_RETURN(matrix.a, device.PlanPacked(DType::kF32, m.rank, m.in, 1));
    INK_ASSIGN_OR_RETURN(matrix.b, device.PlanPacked(DType::kF32, m.out, m.rank, 1));
    *bytes += AlignBytes(matrix.a.expert_bytes) + AlignBytes(matrix.b.expert_bytes);
    out.matrices_.push_back(std::move(matrix));
  }
  out.dora_ = adapter.dora();
  return out;
}

Result<int64_t> AdapterWeights::PlanBytes(const Adapter& adapter, const Model& model,
                                          Device& device) {
  int64_t bytes = 0;
  INK_RETURN_IF_ERROR(Lay(adapter, model, device, &bytes).status());
  // Gains of the scale it will be used with.
  for (const Adapter::Matrix& m : adapter.matrices) {
    bytes += AlignBytes(static_cast<int64_t>(m.magnitude.size() * sizeof(float)));
  }
  return bytes;
}

Result<std::shared_ptr<const AdapterWeights>> AdapterWeights::Create(const Adapter& adapter,
                                                                     const Model& model,
                                                                     Device& device) {
  int64_t bytes = 0;
  INK_ASSIGN_OR_RETURN(AdapterWeights laid, Lay(adapter, model, device, &bytes));
  auto out = std::make_shared<AdapterWeights>(std::move(laid));
  INK_ASSIGN_OR_RETURN(out->buffer_,
                       device.Allocate(static_cast<size_t>(bytes), LedgerEntry::kWeights));
  std::byte* at = out->buffer_.data();
  for (size_t i = 0; i < adapter.matrices.size(); ++i) {
    const Adapter::Matrix& m = adapter.matrices[i];
    Matrix& matrix = out->matrices_[i];
    Pack(device, m.a.data(), at, &matrix.a);
    at += AlignBytes(matrix.a.expert_bytes);
    Pack(device, m.b.data(), at, &matrix.b);
    at += AlignBytes(matrix.b.expert_bytes);
    if (!m.magnitude.empty()) RowNorms(device, matrix.weights[0]->packed, m, &matrix);
  }
  return std::shared_ptr<const AdapterWeights>(std::move(out));
}

}  // namespace ink
