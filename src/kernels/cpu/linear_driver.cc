#include <algorithm>
#include <cstring>

#include "base/thread_pool.h"
#include "kernels/cpu/linear_kernels.h"

namespace ink {
namespace {

// Many rows: a block of 256 rows meets a group of 6 panels, segment by segment. The segment's
// activations (64 KiB of codes, 24 KiB of scales and sums) and the group's accumulators (256 x 96
// x 4 bytes = 96 KiB) stay in 1 MiB of L2 while all panels use them; step by step over all
// segments instead, activations came from L3 each time, 10 to 20% slower. A panel is unpacked once
// per row block, under 1% of the multiplications.
constexpr int64_t kRowBlock = 256;
constexpr int64_t kGroupPanels = 6;

// With few rows a weight is cut into this many pieces per thread: long ones, since every piece
// begins with a cold stream (37 KB pieces, taken in turn by two threads, read 28 GB/s where long
// ones read 50), and several, so that a late thread costs an eighth of a weight at most.
constexpr int64_t kPiecesPerThread = 4;

// With few rows the weights' stream decides. It runs through two panels at once and jumps at their
// ends, where hardware prefetchers lose it, and it pauses while unpacked codes are multiplied: left
// alone a core streams 18 GB/s of 30. So the kernels ask for the segment two steps ahead (9 KB of
// Q4_K, three times what 100 ns of latency need), line by line beside what they read: all at once
// the lines would wait for the core's 50 miss buffers.
constexpr int64_t kAheadSegments = 2;

// Panels of one step. With up to 16 rows integer formats go panel by panel, one sequential stream
// (two at a time read 18 GB/s of 28, one 25 to 29); with more, multiplications cost as much as the
// stream, and they are fastest in the widest step. Float formats need two chains of fma to hide
// their latency (30 against 26); products of bfloat16 take the widest step with many rows.
int PanelsPerStep(const LinearKernels& kernels, const PanelFormat& format, int64_t num_rows) {
  if (format.code_bits == 0) {
    const bool wide = format.kind == PanelKind::kBfloat16 && kernels.use_bfloat16;
    return wide && num_rows > kFewRows ? kernels.panels_per_step : 2;
  }
  return num_rows <= kernels.one_panel_rows ? 1 : kernels.panels_per_step;
}

// Asks for the segment that is unpacked next while this one is multiplied with many rows: left to
// the hardware, unpacking waited for L3 or memory, 4% of prefill.
void AskFor(const std::byte* data, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(data + i, 0, 2);
}

// Copies [rows][width] accumulators out; whole panels in pieces whose size the compiler knows.
void StoreRow(const float* from, int64_t width, const float* bias, float* to) {
  int64_t n = 0;
  if (bias == nullptr) {
    for (; n + kPanelRows <= width; n += kPanelRows) {
      std::memcpy(to + n, from + n, kPanelRows * sizeof(float));
    }
    for (; n < width; ++n) to[n] = from[n];
  } else {
    for (; n < width; ++n) to[n] = from[n] + bias[n];
  }
}

// Multiplies panels [first, first + group) of one weight with all rows, `step` panels at a time.
void RunPanels(const LinearKernels& kernels, const LinearParams& params,
               const LinearWorkspace& workspace, int weight, int64_t first, int64_t group, int step,
               std::byte* scratch) {
  const PackedMatrix& matrix = params.weights[weight];
  const PanelFormat& format = *FindPanelFormat(matrix.type);
  float* acc = reinterpret_cast<float*>(scratch + kPanelsPerStep * kUnpackBytes);
  const int64_t full_bytes = SegmentBytes(format, kSegmentCols);
  const bool look_ahead = params.num_rows <= kFewRows;
  const float* bias = params.bias[weight];
  const std::byte* end =
      matrix.data + (matrix.rows + kPanelRows - 1) / kPanelRows * matrix.panel_bytes;
  UnpackedPanel panels[kPanelsPerStep];
  for (UnpackedPanel& panel : panels) panel.num_rows = params.num_rows;
  for (int64_t row0 = 0; row0 < params.num_rows; row0 += kRowBlock) {
    const int64_t num = std::min(kRowBlock, params.num_rows - row0);
    // Accumulators of panel p start at p * num * 16: steps follow each other, [row][panel][16].
    std::memset(acc, 0, num * group * kPanelRows * sizeof(float));
    for (int64_t s = 0; s < workspace.num_segments; ++s) {
      const int cols =
          static_cast<int>(std::min<int64_t>(kSegmentCols, params.cols - s * kSegmentCols));
      for (int64_t p0 = 0; p0 < group; p0 += step) {
        const int count = static_cast<int>(std::min<int64_t>(step, group - p0));
        for (int p = 0; p < count; ++p) {
          const std::byte* segment =
              matrix.data + (first + p0 + p) * matrix.panel_bytes + s * full_bytes;
          // Segments and panels follow each other in memory; `step` panels are read side by side,
          // and after their ends come the next `step`.
          const std::byte* ahead = segment + kAheadSegments * full_bytes;
          if (s + kAheadSegments >= workspace.num_segments) {
            ahead += (step - 1) * matrix.panel_bytes;
          }
          panels[p].ahead = look_ahead && ahead < end ? ahead : nullptr;
          kernels.unpack(format, segment, cols, scratch + p * kUnpackBytes, &panels[p]);
        }
        if (!look_ahead) {
          const bool last = p0 + step >= group;
          const int64_t next = last ? 0 : p0 + step;
          const int64_t next_segment = last ? s + 1 : s;
          for (int64_t p = next; p < std::min<int64_t>(next + step, group); ++p) {
            if (next_segment == workspace.num_segments) break;
            AskFor(matrix.data + (first + p) * matrix.panel_bytes + next_segment * full_bytes,
                   std::min(full_bytes, matrix.panel_bytes - next_segment * full_bytes));
          }
        }
        kernels.accumulate(format, panels, count, cols, workspace, s, params.num_rows, row0, num,
                           acc + p0 * num * kPanelRows);
      }
    }
    for (int64_t p0 = 0; p0 < group; p0 += step) {
      const int64_t count = std::min<int64_t>(step, group - p0);
      const int64_t n0 = (first + p0) * kPanelRows;
      const int64_t width = std::min<int64_t>(count * kPanelRows, matrix.rows - n0);
      const float* from = acc + p0 * num * kPanelRows;
      for (int64_t r = 0; r < num; ++r, from += count * kPanelRows) {
        float* to = params.y[weight] + (row0 + r) * params.y_stride[weight] + n0;
        StoreRow(from, width, bias == nullptr ? nullptr : bias + n0, to);
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
    int64_t size = kGroupPanels;
    if (params.num_rows <= kFewRows) {
      const int64_t pieces = kPiecesPerThread * context.num_threads();
      size = (panels + 2 * pieces - 1) / (2 * pieces) * 2;
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
    const int step = PanelsPerStep(kernels, *FindPanelFormat(matrix.type), params.num_rows);
    // Few rows read each panel to its end before the next: one sequential stream.
    const int64_t group = params.num_rows <= kFewRows ? step : kGroupPanels;
    for (int64_t p = item * sizes[w]; p < end; p += group) {
      RunPanels(kernels, params, workspace, w, p, std::min(group, end - p), step,
                context.ThreadScratch(thread));
    }
  });
}

}  // namespace ink
