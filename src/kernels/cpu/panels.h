// The panel layout of weights on CPUs, shared by all instruction sets.
//
// A panel is 16 output rows; it is cut into segments of 256 input columns (the last may be
// shorter). A segment holds the rows' integer codes in "canonical order", byte
//   (k / 4) * 64 + row * 4 + k % 4,
// so that 64 bytes are what one vpdpbusd multiplies with 4 activations: 16 rows x 4 columns. Codes
// narrower than a byte are cut into planes of 4, 2 and 1 bits; with j = canonical byte / 64 (the
// group of 4 columns, 0..63) and i = canonical byte % 64:
//   4-bit plane: group j of block b = j / 8 sits in byte [b * 4 + j % 4][i], low nibble when
//                j % 8 < 4, else high nibble;
//   2-bit plane: byte [j / 4][i], bits 2 * (j % 4);
//   1-bit plane: byte [j / 8][i], bit j % 8.
// After the planes come the block scales, transposed so that one vector holds 16 rows. Float
// formats are [column][row] (BF16: [column / 2][row][column % 2], odd column counts padded).
// Segments are padded to 64 bytes. Nothing is lost: UnpackRow returns the file's bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/op_params.h"
#include "tensor/dtype.h"

namespace ink {

inline constexpr int kPanelRows = 16;
inline constexpr int kSegmentCols = 256;

/// How a format's codes meet the activations.
enum class PanelKind {
  kFloat32,   // F32, F16: float32 activations, one fma chain over k
  kBfloat16,  // BF16: pairs of bfloat16 where the CPU has vdpbf16ps, else as kFloat32
  kScale32,   // one float scale per 32 columns: Q4_0 .. Q8_0, IQ4_NL, MXFP4
  kScale256,  // one float scale per 256 columns, integer scales per 16 or 32: K-quants, IQ4_XS
};

struct PanelFormat {
  DType type;
  PanelKind kind;
  int code_bits;   // 8, 4, 5 (4+1), 6 (4+2), 3 (2+1), 2; 0 for floats
  int zero_shift;  // value = code - (1 << zero_shift); -1: code is the value (formats with mins)
  bool has_min;
  int groups;               // integer scales per 256 columns (8 or 16), kScale256 only
  int scale_bytes_per_row;  // per block (32 or 256 columns)
};

/// The panel format of a weight type, or null when the type cannot be packed.
const PanelFormat* FindPanelFormat(DType type);

/// Bytes of a segment of `cols` (<= 256) columns, of one panel of `cols` columns, of a matrix.
int64_t SegmentBytes(const PanelFormat& format, int64_t cols);
int64_t PanelBytes(const PanelFormat& format, int64_t cols);
int64_t PackedBytes(const PanelFormat& format, int64_t rows, int64_t cols);

/// Fills one panel from up to 16 rows in file format; missing rows become zero. Rows come as
/// pointers, since a source may permute them or keep them apart.
void PackPanel(const PanelFormat& format, const std::byte* const* rows, int num_rows, int64_t cols,
               std::byte* out);

/// One row back in file format (RowBytes(type, cols) bytes), given its panel.
void UnpackRow(const PanelFormat& format, const std::byte* panel, int row, int64_t cols,
               std::byte* out);

/// Offsets of the parts of a segment of `cols` columns, in bytes from its start.
struct SegmentParts {
  int64_t bits4 = 0, bits2 = 0, bits1 = 0, bytes = 0;  // planes (bytes: 8-bit codes)
  int64_t scales = 0;                                  // first scale array
};
SegmentParts PartsOf(const PanelFormat& format, int64_t cols);

/// The arithmetic's view of one row of a segment, for the reference kernel and tests.
struct SegmentRow {
  uint8_t codes[kSegmentCols];  // unsigned; table formats hold table value + (1 << zero_shift)
  float d[8];                   // kScale32: per block; kScale256: d[0]
  float m[8];                   // kScale32 with min: per block; kScale256: m[0] = dmin
  int32_t scales[16];           // kScale256: per group
  int32_t mins[16];             // kScale256 with min: per group
};
void ReadSegmentRow(const PanelFormat& format, const std::byte* segment, int row, int64_t cols,
                    SegmentRow* out);

/// Code tables of IQ4_NL/IQ4_XS (value + 128) and MXFP4 (2 * value + 16).
extern const uint8_t kIq4Codes[16];
extern const uint8_t kFp4Codes[16];

}  // namespace ink
