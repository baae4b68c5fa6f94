// What every WeightSource owes its callers. Runs on a source of any model.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "model/weight_source.h"
#include "quant/quant_format.h"

namespace ink::testing_support {

/// The canonical values of a matrix, or of a vector, as float32.
inline std::vector<float> CanonicalValues(const WeightSource& source, const std::string& name) {
  Result<std::vector<float>> vector = source.Vector(name);
  if (vector.ok()) return *vector;
  Result<SourceTensor> matrix = source.Matrix(name);
  EXPECT_TRUE(matrix.ok()) << matrix.status().message();
  std::vector<float> values;
  if (!matrix.ok()) return values;
  std::vector<float> row(static_cast<size_t>(matrix->cols));
  for (int e = 0; e < matrix->num_experts(); ++e) {
    for (int64_t r = 0; r < matrix->rows; ++r) {
      FindQuantFormat(matrix->type)->decode(matrix->Row(e, r), row.data(), matrix->cols);
      values.insert(values.end(), row.begin(), row.end());
    }
    source.DropPages(*matrix, e, 0, matrix->rows);
  }
  return values;
}

inline void CheckWeightSource(const WeightSource& source) {
  EXPECT_FALSE(source.path().empty());
  ASSERT_TRUE(source.metadata().GetString("general.architecture").ok());
  const std::vector<std::string> names = source.Names();
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
  for (const char* name : {"token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight"}) {
    EXPECT_TRUE(source.Has(name)) << name;
  }
  for (const std::string& name : names) {
    EXPECT_TRUE(source.Has(name)) << name;
    const bool is_vector = source.Vector(name).ok();
    Result<SourceTensor> matrix = source.Matrix(name);
    ASSERT_TRUE(is_vector || matrix.ok()) << name << ": " << matrix.status().message();
    const std::vector<float> first = CanonicalValues(source, name);
    EXPECT_FALSE(first.empty());
    // Dropped pages come back with the same content.
    const std::vector<float> second = CanonicalValues(source, name);
    EXPECT_EQ(first.size(), second.size());
    EXPECT_EQ(std::memcmp(first.data(), second.data(), first.size() * sizeof(float)), 0) << name;
    if (is_vector) continue;
    EXPECT_EQ(matrix->name, name);
    EXPECT_NE(FindQuantFormat(matrix->type), nullptr);
    EXPECT_EQ(first.size(),
              static_cast<size_t>(matrix->num_experts() * matrix->rows * matrix->cols));
    // Every stored row is some canonical row, once.
    std::set<const std::byte*> seen;
    for (int64_t r = 0; r < matrix->rows; ++r) seen.insert(matrix->Row(0, r));
    EXPECT_EQ(seen.size(), static_cast<size_t>(matrix->rows));
    EXPECT_EQ(*seen.begin(), matrix->experts[0]);
    EXPECT_EQ(*seen.rbegin(), matrix->experts[0] + (matrix->rows - 1) * matrix->row_bytes());
  }
  EXPECT_FALSE(source.Has("blk.0.no_such.weight"));
  EXPECT_EQ(source.Matrix("blk.0.no_such.weight").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(source.Vector("blk.0.no_such.weight").status().code(), StatusCode::kNotFound);
  EXPECT_FALSE(source.Vector("blk.0.attn_output.weight").ok());
}

/// Both sources of one model: the same tensors with the same values, bit for bit, and the same
/// types (the arithmetic of a matrix depends on its type).
inline void CheckSameWeights(const WeightSource& a, const WeightSource& b) {
  const std::vector<std::string> names_a = a.Names(), names_b = b.Names();
  EXPECT_EQ(std::set<std::string>(names_a.begin(), names_a.end()),
            std::set<std::string>(names_b.begin(), names_b.end()));
  for (const std::string& name : names_a) {
    EXPECT_EQ(a.Vector(name).ok(), b.Vector(name).ok()) << name;
    Result<SourceTensor> ma = a.Matrix(name), mb = b.Matrix(name);
    if (!a.Vector(name).ok()) {
      ASSERT_TRUE(ma.ok() && mb.ok()) << name;
      EXPECT_EQ(ma->rows, mb->rows) << name;
      EXPECT_EQ(ma->cols, mb->cols) << name;
      EXPECT_EQ(ma->num_experts(), mb->num_experts()) << name;
      EXPECT_EQ(Info(ma->type).name, Info(mb->type).name) << name;
    }
    const std::vector<float> va = CanonicalValues(a, name), vb = CanonicalValues(b, name);
    ASSERT_EQ(va.size(), vb.size()) << name;
    EXPECT_EQ(std::memcmp(va.data(), vb.data(), va.size() * sizeof(float)), 0) << name;
  }
}

}  // namespace ink::testing_support
