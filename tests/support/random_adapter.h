// Random adapters, and a weight source with an adapter folded in: the oracle for everything that
// applies adapters.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "model/adapter.h"
#include "model/weight_source.h"
#include "quant/quant_format.h"

namespace ink::testing_support {

/// An adapter of every matrix that can have one, ranks and alphas unlike. A and B are normal times
/// `size`.
inline Adapter RandomAdapter(const AdapterTarget& target, bool rank_stabilized, bool dora,
                             uint64_t seed = 5, float size = 1.0f) {
  Adapter adapter;
  adapter.path = "random";
  adapter.base_model = "someone/base";
  adapter.rank_stabilized = rank_stabilized;
  adapter.rank = 4;
  adapter.alpha = 12;
  Rng rng(seed);
  int64_t n = 0;
  for (const AdapterTarget::Matrix& matrix : target.matrices) {
    if (matrix.experts) continue;
    Adapter::Matrix m;
    m.name = matrix.name;
    m.in = matrix.cols;
    m.out = matrix.rows;
    m.rank = n % 5 == 3 ? 2 : 4;
    m.alpha = n % 7 == 4 ? 3.5f : 12.0f;
    ++n;
    m.a.resize(static_cast<size_t>(m.rank * m.in));
    m.b.resize(static_cast<size_t>(m.rank * m.out));
    for (float& x : m.a) x = size * rng.Normal();
    for (float& x : m.b) x = size * rng.Normal();
    if (dora) {
      m.magnitude.resize(static_cast<size_t>(m.out));
      for (float& x : m.magnitude) x = 1 + static_cast<float>(rng.Uniform());
    }
    adapter.matrices.push_back(std::move(m));
  }
  return adapter;
}

/// W (or its change so far) [out, in] with the adapter folded in, by the formulas of adapter.h in
/// double precision. DoRA's norm is that of `base` + s B A, where base is the unchanged matrix.
inline void FoldIn(const Adapter& adapter, const Adapter::Matrix& m, double user_scale,
                   const std::vector<double>& base, std::vector<double>* w) {
  const double r = static_cast<double>(m.rank);
  const double s = user_scale * (adapter.rank_stabilized ? m.alpha / std::sqrt(r) : m.alpha / r);
  for (int64_t o = 0; o < m.out; ++o) {
    double square = 0;
    for (int64_t i = 0; i < m.in; ++i) {
      double change = 0;
      for (int64_t j = 0; j < m.rank; ++j) {
        change += static_cast<double>(m.b[o * m.rank + j]) * m.a[j * m.in + i];
      }
      (*w)[o * m.in + i] += s * change;
      const double v = base[o * m.in + i] + s * change;
      square += v * v;
    }
    if (m.magnitude.empty()) continue;
    const double gain = m.magnitude[o] / std::sqrt(square);
    for (int64_t i = 0; i < m.in; ++i) (*w)[o * m.in + i] *= gain;
  }
}

/// A source whose matrices are float32 with adapters folded in, one after the other. Output heads
/// that are tied become a matrix of their own.
class FoldedSource : public WeightSource {
 public:
  explicit FoldedSource(const WeightSource& base) : base_(base) {}

  void Fold(const Adapter& adapter, double user_scale) {
    for (const Adapter::Matrix& m : adapter.matrices) {
      const std::string stored = base_.Has(m.name) ? m.name : "token_embd.weight";
      auto tensor = base_.Matrix(stored);
      ASSERT_TRUE(tensor.ok()) << tensor.status().message();
      std::vector<double> original;
      std::vector<float> row(static_cast<size_t>(m.in));
      for (int64_t o = 0; o < m.out; ++o) {
        FindQuantFormat(tensor->type)->decode(tensor->Row(0, o), row.data(), m.in);
        original.insert(original.end(), row.begin(), row.end());
      }
      std::vector<double>& now = exact_.try_emplace(m.name, original).first->second;
      FoldIn(adapter, m, user_scale, original, &now);
      folded_[m.name].assign(now.begin(), now.end());
    }
  }

  const std::string& path() const override { return base_.path(); }
  const Metadata& metadata() const override { return base_.metadata(); }
  bool Has(std::string_view name) const override {
    return base_.Has(name) || folded_.count(std::string(name)) > 0;
  }
  std::vector<std::string> Names() const override { return base_.Names(); }
  Result<SourceTensor> Matrix(std::string_view name) const override {
    auto folded = folded_.find(std::string(name));
    if (folded == folded_.end()) return base_.Matrix(name);
    INK_ASSIGN_OR_RETURN(SourceTensor out,
                         base_.Matrix(base_.Has(name) ? name : "token_embd.weight"));
    out.name = name;
    out.type = DType::kF32;
    out.interleaved_heads = 0;
    out.experts = {reinterpret_cast<const std::byte*>(folded->second.data())};
    return out;
  }
  Result<std::vector<float>> Vector(std::string_view name) const override {
    return base_.Vector(name);
  }
  void DropPages(const SourceTensor&, int, int64_t, int64_t) const override {}

 private:
  const WeightSource& base_;
  std::map<std::string, std::vector<double>> exact_;
  std::map<std::string, std::vector<float>> folded_;
};

}  // namespace ink::testing_support
