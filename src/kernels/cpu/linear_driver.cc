#include <algorithm>
#include <cstring>

#include "base/thread_pool.h"
#include "kernels/cpu/linear_kernels.h"

namespace ink {
namespace {

// Rows whose accumulators stay in L1/L2 while a panel pair's segments pass: 256 rows x 32 outputs
// x 4 bytes = 32 KiB, beside 8 KiB of unpacked codes and a 2 KiB activation tile in 48 KiB of L1.
// A panel is unpacked once per row block: at 256 rows that is 1 to 2% of the multiplications.
constexpr int64_t kRowBlock = 256;

// A thread takes work of at least this many bytes of weights, or one panel pair when many rows make
// a pair long. 64 KiB streams for about 2 us: hand-out costs 2%, imbalance at the end of a
// 1 MiB weight stays below 6%.
constexpr int64_t kChunkBytes = 64 << 10;

// With few rows the weights' stream decides. It runs through two panels at once and jumps at their
// ends, where hardware prefetchers lose it, and it pauses while unpacked codes are multiplied: left
// alone a core streams 18 GB/s of 30. So the kernels ask for the segment two steps ahead (9 KB of
// Q4_K, three times what 100 ns of latency need), line by line beside what they read: all at once
// the lines would wait for the core's 50 miss buffers.
constexpr int64_t kAheadSegments = 2;
constexpr int64_t kAheadRows = 32;  // beyond, multiplications hide the latency

// Panels of one step. Measured for one row (GB/s of 28): integer formats one panel at a time 25 to
// 29, two at a time 18, since the second stream starts anew every 2 to 4 KB; float formats need two
// chains of fma to hide their latency (30 against 26).
int PanelsPerStep(const PanelFormat& format, int64_t num_rows) {
  return format.code_bits > 0 && num_rows <= kAheadRows ? 1 : kPanelsPerStep;
}

// Segment `segment` of panel `panel`, or what follows it in reading order; null past the end.
const std::byte* SegmentAhead(const PackedMatrix& matrix, int64_t panel, int count, int64_t segment,
                              int64_t num_segments, int64_t full_bytes) {
  for (; segment >= num_segments; segment -= num_segments) panel += count;
  if (panel * kPanelRows >= matrix.rows) return nullptr;
  return matrix.data + panel * matrix.panel_bytes + segment * full_bytes;
}

// Multiplies panels [first, first + count) (count <= 2) of one weight with all rows.
void RunPanels(const LinearKernels& kernels, const LinearParams& params,
               const LinearWorkspace& workspace, int weight, int64_t first, int count,
               std::byte* scratch) {
  const PackedMatrix& matrix = params.weights[weight];
  const PanelFormat& format = *FindPanelFormat(matrix.type);
  std::byte* unpack_scratch = scratch;
  float* acc = reinterpret_cast<float*>(scratch + kPanelsPerStep * kUnpackBytes);
  const int64_t full_bytes = SegmentBytes(format, kSegmentCols);
  const bool look_ahead = params.num_rows <= kAheadRows;
  for (int64_t row0 = 0; row0 < params.num_rows; row0 += kRowBlock) {
    int64_t num = std::min(kRowBlock, params.num_rows - row0);
    std::memset(acc, 0, num * count * kPanelRows * sizeof(float));
    for (int64_t s = 0; s < workspace.num_segments; ++s) {
      int cols = static_cast<int>(std::min<int64_t>(kSegmentCols, params.cols - s * kSegmentCols));
      UnpackedPanel panels[kPanelsPerStep];
      for (int p = 0; p < count; ++p) {
        panels[p].few_rows = look_ahead;
        if (look_ahead) {
          panels[p].ahead = SegmentAhead(matrix, first + p, count, s + kAheadSegments,
                                         workspace.num_segments, full_bytes);
        }
        kernels.unpack(format, matrix.data + (first + p) * matrix.panel_bytes + s * full_bytes,
                       cols, unpack_scratch + p * kUnpackBytes, &panels[p]);
      }
      kernels.accumulate(format, panels, count, cols, workspace, s, params.num_rows, row0, num,
                         acc);
    }
    float* y = params.y[weight];
    const float* bias = params.bias[weight];
    int64_t n0 = first * kPanelRows;
    int64_t width = std::min<int64_t>(count * kPanelRows, matrix.rows - n0);
    for (int64_t r = 0; r < num; ++r) {
      const float* from = acc + r * count * kPanelRows;
      float* to = y + (row0 + r) * params.y_stride[weight] + n0;
      if (bias == nullptr) {
        std::memcpy(to, from, width * sizeof(float));
      } else {
        for (int64_t n = 0; n < width; ++n) to[n] = from[n] + bias[n0 + n];
      }
    }
  }
}

}  // namespace

void RunLinear(const LinearKernels& kernels, const LinearParams& params,
               const KernelContext& context) noexcept {
  if (params.num_rows == 0) return;
  LinearWorkspace workspace;
  PlanLinearWorkspace(params, kernels.use_bfloat16, &workspace);

  // Activations: one item is a tile of up to 8 rows, all columns.
  const int64_t num_tiles = (params.num_rows + 7) / 8;
  auto pack = [&](int64_t item, int) {
    int64_t end = std::min(params.num_rows, item * 8 + 8);
    for (int64_t row = item * 8; row < end;) {
      int tile = TileRows(row, params.num_rows);
      for (int64_t s = 0; s < workspace.num_segments; ++s) {
        int cols =
            static_cast<int>(std::min<int64_t>(kSegmentCols, params.cols - s * kSegmentCols));
        kernels.pack_tile(params.x + row * params.x_stride + s * kSegmentCols, params.x_stride,
                          tile, cols, row, s, params.num_rows, workspace);
      }
      row += tile;
    }
  };
  if (num_tiles == 1) {
    pack(0, 0);
  } else {
    context.pool->ParallelFor(num_tiles, pack);
  }

  int64_t total = 0;
  int64_t counts[kMaxLinearWeights];
  int64_t sizes[kMaxLinearWeights];
  for (int w = 0; w < params.num_weights; ++w) {
    const PackedMatrix& matrix = params.weights[w];
    int64_t panels = (matrix.rows + kPanelRows - 1) / kPanelRows;
    int64_t size = kPanelsPerStep;
    if (params.num_rows < 32) {
      size = std::max<int64_t>(size, kChunkBytes / matrix.panel_bytes / 2 * 2);
    }
    sizes[w] = size;
    counts[w] = (panels + size - 1) / size;
    total += counts[w];
  }
  context.pool->ParallelFor(total, [&](int64_t item, int thread) {
    int w = 0;
    while (item >= counts[w]) item -= counts[w++];
    const PackedMatrix& matrix = params.weights[w];
    int64_t panels = (matrix.rows + kPanelRows - 1) / kPanelRows;
    int64_t end = std::min(panels, (item + 1) * sizes[w]);
    const int64_t step = PanelsPerStep(*FindPanelFormat(matrix.type), params.num_rows);
    for (int64_t p = item * sizes[w]; p < end; p += step) {
      RunPanels(kernels, params, workspace, w, p,
                static_cast<int>(std::min<int64_t>(step, end - p)), context.ThreadScratch(thread));
    }
  });
}

}  // namespace ink
