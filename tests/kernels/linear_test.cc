#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/rng.h"
#include "base/thread_pool.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/panels.h"
#include "kernels/cpu/reference/linear.h"
#include "kernels/op_table.h"
#include "quant/quant_format.h"

namespace ink {
namespace {

struct AlignedBytes {
  explicit AlignedBytes(size_t size)
      : data(static_cast<std::byte*>(std::aligned_alloc(64, (size + 127) / 64 * 64))) {}
  ~AlignedBytes() { std::free(data); }
  AlignedBytes(const AlignedBytes&) = delete;
  AlignedBytes& operator=(const AlignedBytes&) = delete;
  std::byte* data;
};

std::vector<float> Normals(Rng& rng, int64_t n, float scale = 1) {
  std::vector<float> v(n);
  for (float& x : v) x = scale * rng.Normal();
  return v;
}

std::vector<std::byte> Encode(DType type, const std::vector<float>& values) {
  std::vector<std::byte> bytes(RowBytes(type, static_cast<int64_t>(values.size())));
  FindQuantFormat(type)->encode(values.data(), nullptr, bytes.data(),
                                static_cast<int64_t>(values.size()));
  return bytes;
}

void PackMatrix(const PanelFormat& format, const std::byte* file, int64_t rows, int64_t cols,
                std::byte* out) {
  for (int64_t r = 0; r < rows; r += kPanelRows, out += PanelBytes(format, cols)) {
    const std::byte* pointers[kPanelRows];
    int live = static_cast<int>(std::min<int64_t>(kPanelRows, rows - r));
    for (int i = 0; i < live; ++i) pointers[i] = file + (r + i) * RowBytes(format.type, cols);
    PackPanel(format, pointers, live, cols, out);
  }
}

// Every bit pattern must survive, not only what our encoders write.
TEST(Panels, PackingIsABijection) {
  Rng rng(1);
  for (const DTypeInfo& info : AllDTypes()) {
    const PanelFormat* format = FindPanelFormat(info.type);
    if (format == nullptr) continue;
    for (int64_t rows : {1, 16, 21}) {
      for (int64_t cols : {int64_t{info.block_values}, int64_t{256}, int64_t{512},
                           int64_t{info.block_values == 256 ? 768 : 352}}) {
        if (cols % info.block_values != 0) continue;
        int64_t row_bytes = RowBytes(info.type, cols);
        std::vector<std::byte> file(rows * row_bytes);
        for (auto& b : file) b = static_cast<std::byte>(rng.Next());
        int64_t panel_bytes = PanelBytes(*format, cols);
        std::vector<std::byte> packed(PackedBytes(*format, rows, cols));
        PackMatrix(*format, file.data(), rows, cols, packed.data());
        for (int64_t r = 0; r < rows; ++r) {
          std::vector<std::byte> row(row_bytes);
          UnpackRow(*format, packed.data() + r / 16 * panel_bytes, static_cast<int>(r % 16), cols,
                    row.data());
          ASSERT_EQ(std::memcmp(row.data(), file.data() + r * row_bytes, row_bytes), 0)
              << info.name << " row " << r << " cols " << cols;
        }
        if (cols % 256 == 0 && rows == 16) {
          EXPECT_LE(panel_bytes, 16 * row_bytes * 1.03) << info.name;
        }
      }
    }
  }
}

struct LinearCase {
  LinearCase(DType type, int64_t rows, int64_t cols, int64_t num_rows, uint64_t seed, bool bias)
      : format(FindPanelFormat(type)),
        packed(PackedBytes(*format, rows, cols) + 8192),
        weights(rows * cols) {
    Rng rng(seed);
    weights = Normals(rng, rows * cols, 0.1f);
    auto file = Encode(type, weights);
    FindQuantFormat(type)->decode(file.data(), weights.data(), rows * cols);
    int64_t panel_bytes = PanelBytes(*format, cols);
    PackMatrix(*format, file.data(), rows, cols, packed.data);
    x_stride = cols + 3;
    x = Normals(rng, num_rows * x_stride);
    bias_values = Normals(rng, rows);
    y.resize(num_rows * (rows + 5));
    params.x = x.data();
    params.x_stride = x_stride;
    params.num_rows = num_rows;
    params.cols = cols;
    params.num_weights = 1;
    params.weights[0] = {packed.data, type, rows, cols, panel_bytes, 0, 1};
    params.bias[0] = bias ? bias_values.data() : nullptr;
    params.y[0] = y.data();
    params.y_stride[0] = rows + 5;
    workspace = std::make_unique<AlignedBytes>(LinearWorkspaceBytes(params));
    params.workspace = workspace->data;
  }
  std::vector<float> Run(void (*linear)(const LinearParams&, const KernelContext&) noexcept,
                         int threads) {
    ThreadPool pool(threads);
    AlignedBytes scratch(kKernelScratchBytes * threads);
    KernelContext context{&pool, scratch.data, kKernelScratchBytes};
    std::fill(y.begin(), y.end(), -7.0f);
    linear(params, context);
    return y;
  }
  const PanelFormat* format;
  AlignedBytes packed;
  std::vector<float> weights, x, bias_values, y;
  int64_t x_stride = 0;
  std::unique_ptr<AlignedBytes> workspace;
  LinearParams params;
};

std::vector<DType> WeightTypes() {
  std::vector<DType> types;
  for (const DTypeInfo& info : AllDTypes()) {
    if (FindPanelFormat(info.type) != nullptr) types.push_back(info.type);
  }
  return types;
}

// The reference against float64: what int8 activations cost is at most 1/127 of the largest
// activation of a block per product, so the error of a sum of K is a random walk of that size.
TEST(Linear, ReferenceMatchesFloat64) {
  for (DType type : WeightTypes()) {
    LinearCase c(type, 20, 512, 3, 11, true);
    auto y = c.Run(reference::Linear, 2);
    double error = 0, norm = 0;
    for (int64_t m = 0; m < 3; ++m) {
      for (int64_t n = 0; n < 20; ++n) {
        double want = c.bias_values[n];
        for (int64_t k = 0; k < 512; ++k) {
          want += double{c.x[m * c.x_stride + k]} * c.weights[n * 512 + k];
        }
        double got = y[m * c.params.y_stride[0] + n];
        error += (got - want) * (got - want);
        norm += want * want;
      }
    }
    double limit = c.format->code_bits == 0 ? 1e-6 : 0.015;
    EXPECT_LT(std::sqrt(error / norm), limit) << Info(type).name;
  }
}

// Integer formats and float32 arithmetic are defined exactly, so tables agree bit for bit; BF16 may
// round activations to bfloat16 (2^-9 each).
TEST(Linear, EveryTableAgreesWithTheReference) {
  for (DType type : WeightTypes()) {
    int64_t block = Info(type).block_values;
    for (int64_t cols : {block, int64_t{256}, 7 * block, int64_t{768}}) {
      for (int64_t rows : {1, 16, 17, 48}) {
        for (int64_t num_rows : {1, 2, 3, 7, 8, 13, 33, 300}) {
          // The slow reference: many rows and odd shapes for some formats only.
          const bool is_long = num_rows > 40;
          if (is_long && (rows != 48 || cols != 256 || Info(type).block_values < 256)) continue;
          if (cols == 768 && num_rows > 13) continue;
          LinearCase c(type, rows, cols, num_rows, rows * 1000 + cols + num_rows, rows == 17);
          auto want = c.Run(reference::Linear, 1);
          for (const OpTable* table : CpuOpTables()) {
            auto got = c.Run(table->linear, 2);
            for (size_t i = 0; i < want.size(); ++i) {
              if (c.format->kind == PanelKind::kBfloat16) {
                // An activation rounded to bfloat16 is off by at most 2^-9 of itself.
                int64_t m = static_cast<int64_t>(i) / c.params.y_stride[0];
                int64_t n = static_cast<int64_t>(i) % c.params.y_stride[0];
                float bound = 1e-6f;
                for (int64_t k = 0; n < rows && k < cols; ++k) {
                  bound += std::fabs(c.x[m * c.x_stride + k] * c.weights[n * cols + k]) / 256;
                }
                ASSERT_NEAR(got[i], want[i], bound) << table->name << " " << Info(type).name;
              } else {
                ASSERT_EQ(got[i], want[i])
                    << table->name << " " << Info(type).name << " rows " << rows << " cols " << cols
                    << " M " << num_rows << " at " << i;
              }
            }
          }
        }
      }
    }
  }
}

// One arithmetic for both phases: a row alone gives the bits it gives in a batch, on any number of
// threads.
TEST(Linear, RowsDoNotDependOnTheBatch) {
  for (DType type : WeightTypes()) {
    for (const OpTable* table : CpuOpTables()) {
      // Products of bfloat16 have another tile for many rows, in blocks of 256.
      const int64_t num_rows = type == DType::kBF16 ? 261 : 23;
      LinearCase c(type, 70, 512, num_rows, 5, false);
      auto all = c.Run(table->linear, 3);
      auto again = c.Run(table->linear, 1);
      ASSERT_EQ(all, again) << table->name << " " << Info(type).name;
      LinearParams whole = c.params;
      for (int64_t m = 0; m < num_rows; ++m) {
        c.params = whole;
        c.params.num_rows = 1;
        c.params.x = whole.x + m * whole.x_stride;
        auto one = c.Run(table->linear, 1);
        for (int64_t n = 0; n < 70; ++n) {
          ASSERT_EQ(one[n], all[m * whole.y_stride[0] + n]) << table->name << Info(type).name;
        }
      }
    }
  }
}

}  // namespace
}  // namespace ink
