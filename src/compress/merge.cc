#include "compress/merge.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "model/hf_tensors.h"

namespace ink {
namespace {

class Folding : public RowTransform {
 public:
  Folding(const AdapterTarget& target, std::span<const MergeAdapter> adapters) {
    for (const MergeAdapter& use : adapters) {
      if (use.scale == 0) continue;  // as in the engine: left out
      for (const Adapter::Matrix& m : use.adapter->matrices) {
        Matrix& matrix = matrices_[m.name];
        matrix.target = target.Find(m.name);
        matrix.terms.push_back(
            {&m, static_cast<double>(use.adapter->Scale(m)) * static_cast<double>(use.scale)});
        unties_output_ = unties_output_ || matrix.target->tied;
      }
    }
  }

  bool Changes(std::string_view tensor) const override {
    return matrices_.find(tensor) != matrices_.end();
  }
  bool UntiesOutput() const override { return unties_output_; }

  void Apply(std::string_view tensor, int64_t row, std::span<float> values) const override {
    const Matrix& matrix = matrices_.find(tensor)->second;
    if (const int heads = matrix.target->interleaved_heads; heads > 0) {
      row = HfRowOfGguf(row, matrix.target->rows / heads);
    }
    std::vector<double> w(values.begin(), values.end()), change(values.size());
    for (const Term& term : matrix.terms) {
      const Adapter::Matrix& m = *term.matrix;
      std::fill(change.begin(), change.end(), 0.0);
      for (int64_t j = 0; j < m.rank; ++j) {
        const double b = term.scale * m.b[row * m.rank + j];
        const float* a = &m.a[j * m.in];
        for (size_t i = 0; i < change.size(); ++i) change[i] += b * a[i];
      }
      double square = 0;
      for (size_t i = 0; i < w.size(); ++i) {
        w[i] += change[i];
        const double changed = static_cast<double>(values[i]) + change[i];
        square += changed * changed;
      }
      if (m.magnitude.empty()) continue;
      const double gain = square > 0 ? m.magnitude[row] / std::sqrt(square) : 0.0;
      for (double& value : w) value *= gain;
    }
    std::transform(w.begin(), w.end(), values.begin(),
                   [](double value) { return static_cast<float>(value); });
  }

 private:
  struct Term {
    const Adapter::Matrix* matrix;
    double scale;
  };
  struct Matrix {
    const AdapterTarget::Matrix* target = nullptr;
    std::vector<Term> terms;
  };

  // The inverse of GgufRowOfHf.
  static int64_t HfRowOfGguf(int64_t row, int64_t head_rows) {
    const int64_t in_head = row % head_rows;
    return row - in_head + in_head % 2 * (head_rows / 2) + in_head / 2;
  }

  std::map<std::string, Matrix, std::less<>> matrices_;
  bool unties_output_ = false;
};

}  // namespace

Result<QuantizeReport> MergeAdapters(const GgufFile& base, const AdapterTarget& target,
                                     std::span<const MergeAdapter> adapters, const std::string& out,
                                     QuantizeOptions options, ThreadPool& pool) {
  if (adapters.empty()) {
    return InvalidArgument(base.path() + ": merge: expected at least one adapter, got none");
  }
  for (const MergeAdapter& use : adapters) {
    INK_RETURN_IF_ERROR(CheckAdapter(*use.adapter, target));
    if (!std::isfinite(use.scale)) {
      return InvalidArgument(use.adapter->path + ": scale: expected a finite number, got another");
    }
  }
  const Folding folding(target, adapters);
  options.transform = &folding;
  return QuantizeGguf(base, out, options, pool);
}

}  // namespace ink
