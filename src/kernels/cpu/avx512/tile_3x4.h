// The inner loops of the tile that does most of prefill: 3 panels times 4 rows, in assembly.
//
// Why 3 x 4: a 512-bit store takes the place of about two vpdpbusd (measured), so both sets of
// accumulators, the integers of one group of columns and the totals, must stay in registers: 12 and
// 12, with 3 of weights and 4 of activations. 12 chains cover the latency of vpdpbusd (4 cycles,
// two a cycle), and a step loads 7 vectors for 12 multiplications: 3.5 of its 6 cycles. Why
// assembly: with 31 live registers GCC 12 spills.
//
// zmm0-11: integers, row j of panel i in 3 j + i. zmm12-23: totals alike. zmm24-26: the panels'
// weights or scales. zmm27-30: the rows' activations. zmm31: scratch.
//
// Nothing here may be included outside this folder.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ink::avx512 {

/// One segment of 3 panels and 4 rows. The assembly knows the offsets.
struct Tile3x4 {
  const void* codes[3];      // u8 [group of 4 columns][16][4]
  const void* scales[3];     // kScale256: int32 [group][16]
  const void* d[3];          // kScale32: float [block][16]; kScale256: float [16]
  const void* m[3];          // the same for mins
  const void* min_pairs[3];  // kScale256 with min: [group / 2][16] words of two int16
  const void* q;             // int8 [group of 4 columns][tile rows][4]
  const void* dx;            // kScale32: float [block][tile rows]; kScale256: float [tile rows]
  const void* sums;          // int32 negative sums: [block or 16 columns][tile rows]; or kScale32
                             // with min: float sum * scale
  const void* sum_pairs;     // words of two int16: [group / 2][tile rows]
  float* y;                  // [row][3][16], added to
  int64_t blocks;            // kScale32: blocks of 32 columns
  int64_t shift;             // log2 of the zero point
};
static_assert(offsetof(Tile3x4, q) == 120 && offsetof(Tile3x4, shift) == 168);

// clang-format off
#define INK_Z(n) "%%zmm" #n
// One row of a step: 4 of its values broadcast, multiplied with 4 columns of 3 panels.
#define INK_ROW(at, stride, j, a, b, c, x)                              \
  "vpbroadcastd " #at "*" #stride "+" #j "*4(%[q]), " INK_Z(x) "\n\t"   \
  "vpdpbusd " INK_Z(x) ", %%zmm24, " INK_Z(a) "\n\t"                    \
  "vpdpbusd " INK_Z(x) ", %%zmm25, " INK_Z(b) "\n\t"                    \
  "vpdpbusd " INK_Z(x) ", %%zmm26, " INK_Z(c) "\n\t"
#define INK_STEP(at, stride)                                            \
  "vmovdqu64 " #at "*64(%[a]), %%zmm24\n\t"                             \
  "vmovdqu64 " #at "*64(%[b]), %%zmm25\n\t"                             \
  "vmovdqu64 " #at "*64(%[c]), %%zmm26\n\t"                             \
  INK_ROW(at, stride, 0, 0, 1, 2, 27) INK_ROW(at, stride, 1, 3, 4, 5, 28)  \
  INK_ROW(at, stride, 2, 6, 7, 8, 29) INK_ROW(at, stride, 3, 9, 10, 11, 30)
#define INK_4_STEPS(stride) \
  INK_STEP(0, stride) INK_STEP(1, stride) INK_STEP(2, stride) INK_STEP(3, stride)
#define INK_8_STEPS(stride)                                             \
  INK_4_STEPS(stride)                                                   \
  INK_STEP(4, stride) INK_STEP(5, stride) INK_STEP(6, stride) INK_STEP(7, stride)

#define INK_LOAD3(from)                                                 \
  "movq " #from "(%[t]), %[a]\n\t"                                      \
  "movq " #from "+8(%[t]), %[b]\n\t"                                    \
  "movq " #from "+16(%[t]), %[c]\n\t"
#define INK_VECTORS3(at, x, y, z)                                       \
  "vmovdqu64 " at "(%[a]), " INK_Z(x) "\n\t"                            \
  "vmovdqu64 " at "(%[b]), " INK_Z(y) "\n\t"                            \
  "vmovdqu64 " at "(%[c]), " INK_Z(z) "\n\t"

// One vector of each panel's array at struct offset `from`, `at` bytes on; y is free here.
#define INK_VECTORS3_OF(from)                                           \
  "movq " #from "(%[t]), %[y]\n\t"                                      \
  "vmovdqu64 (%[y],%[at]), %%zmm24\n\t"                                 \
  "movq " #from "+8(%[t]), %[y]\n\t"                                    \
  "vmovdqu64 (%[y],%[at]), %%zmm25\n\t"                                 \
  "movq " #from "+16(%[t]), %[y]\n\t"                                   \
  "vmovdqu64 (%[y],%[at]), %%zmm26\n\t"

// Where the integers of 4 rows begin: at zero, or at minus the row's sum << shift (xmm31).
#define INK_ZERO(n) "vpxord " INK_Z(n) ", " INK_Z(n) ", " INK_Z(n) "\n\t"
#define INK_START_ZERO(stride)                                          \
  INK_ZERO(0) INK_ZERO(1) INK_ZERO(2) INK_ZERO(3) INK_ZERO(4) INK_ZERO(5) \
  INK_ZERO(6) INK_ZERO(7) INK_ZERO(8) INK_ZERO(9) INK_ZERO(10) INK_ZERO(11)
#define INK_SHIFTED(a, b, c)                                            \
  "vpslld %%xmm31, " INK_Z(a) ", " INK_Z(a) "\n\t"                      \
  "vmovdqa64 " INK_Z(a) ", " INK_Z(b) "\n\t"                            \
  "vmovdqa64 " INK_Z(a) ", " INK_Z(c) "\n\t"
#define INK_ONE_SUM(j, a, b, c)                                         \
  "vpbroadcastd " #j "*4(%[sums]), " INK_Z(a) "\n\t" INK_SHIFTED(a, b, c)
#define INK_TWO_SUMS(stride, j, a, b, c)                                \
  "vpbroadcastd " #j "*4(%[sums]), " INK_Z(a) "\n\t"                    \
  "vpaddd " #stride "+" #j "*4(%[sums])%{1to16%}, " INK_Z(a) ", " INK_Z(a) "\n\t" \
  INK_SHIFTED(a, b, c)
#define INK_START_ONE_SUM(stride)                                       \
  "vmovq 168(%[t]), %%xmm31\n\t"                                        \
  INK_ONE_SUM(0, 0, 1, 2) INK_ONE_SUM(1, 3, 4, 5)                       \
  INK_ONE_SUM(2, 6, 7, 8) INK_ONE_SUM(3, 9, 10, 11)
#define INK_START_TWO_SUMS(stride)                                      \
  "vmovq 168(%[t]), %%xmm31\n\t"                                        \
  INK_TWO_SUMS(stride, 0, 0, 1, 2) INK_TWO_SUMS(stride, 1, 3, 4, 5)     \
  INK_TWO_SUMS(stride, 2, 6, 7, 8) INK_TWO_SUMS(stride, 3, 9, 10, 11)

// total += scale * integer.
#define INK_SCALE(n, total, scale)                                      \
  "vpmulld " INK_Z(scale) ", " INK_Z(n) ", " INK_Z(n) "\n\t"            \
  "vpaddd " INK_Z(n) ", " INK_Z(total) ", " INK_Z(total) "\n\t"
#define INK_SCALE_ALL                                                   \
  INK_SCALE(0, 12, 24) INK_SCALE(1, 13, 25) INK_SCALE(2, 14, 26)        \
  INK_SCALE(3, 15, 24) INK_SCALE(4, 16, 25) INK_SCALE(5, 17, 26)        \
  INK_SCALE(6, 18, 24) INK_SCALE(7, 19, 25) INK_SCALE(8, 20, 26)        \
  INK_SCALE(9, 21, 24) INK_SCALE(10, 22, 25) INK_SCALE(11, 23, 26)

#define INK_TOTALS_ZERO                                                 \
  INK_ZERO(12) INK_ZERO(13) INK_ZERO(14) INK_ZERO(15) INK_ZERO(16) INK_ZERO(17) \
  INK_ZERO(18) INK_ZERO(19) INK_ZERO(20) INK_ZERO(21) INK_ZERO(22) INK_ZERO(23)

// y of 4 rows and 3 panels; slot = 3 j + i.
#define INK_SLOTS(each)                                                 \
  each(0, 12, 24, 0) each(1, 13, 25, 0) each(2, 14, 26, 0)              \
  each(3, 15, 24, 1) each(4, 16, 25, 1) each(5, 17, 26, 1)              \
  each(6, 18, 24, 2) each(7, 19, 25, 2) each(8, 20, 26, 2)              \
  each(9, 21, 24, 3) each(10, 22, 25, 3) each(11, 23, 26, 3)
#define INK_LOAD_Y(slot, total, i, j) "vmovups " #slot "*64(%[y]), " INK_Z(total) "\n\t"
#define INK_STORE_Y(slot, total, i, j) "vmovups " INK_Z(total) ", " #slot "*64(%[y])\n\t"

// total (int32) becomes y + float(total) * (d * dx).
#define INK_FINISH(slot, total, i, j)                                   \
  "vmulps " #j "*4(%[dx])%{1to16%}, " INK_Z(i) ", %%zmm31\n\t"          \
  "vcvtdq2ps " INK_Z(total) ", " INK_Z(total) "\n\t"                    \
  "vfmadd213ps " #slot "*64(%[y]), %%zmm31, " INK_Z(total) "\n\t"
// .. - float(mins) * (dmin * dx), where slot counts the mins' registers.
#define INK_FINISH_MIN(slot, total, i, j)                               \
  "vmulps " #j "*4(%[dx])%{1to16%}, " INK_Z(i) ", %%zmm31\n\t"          \
  "vcvtdq2ps " INK_Z(slot) ", " INK_Z(slot) "\n\t"                      \
  "vfnmadd231ps %%zmm31, " INK_Z(slot) ", " INK_Z(total) "\n\t"
// y += float(integers) * (d * dx) for one block of 32.
#define INK_BLOCK(slot, total, i, j)                                    \
  "vmulps " #j "*4(%[dx])%{1to16%}, " INK_Z(i) ", %%zmm31\n\t"          \
  "vcvtdq2ps " INK_Z(slot) ", " INK_Z(slot) "\n\t"                      \
  "vfmadd231ps %%zmm31, " INK_Z(slot) ", " INK_Z(total) "\n\t"
#define INK_BLOCK_MIN(slot, total, i, j) \
  "vfmadd231ps " #j "*4(%[sums])%{1to16%}, " INK_Z(i) ", " INK_Z(total) "\n\t"

// mins[slot] += min pair * sum pair, for one pair of groups.
#define INK_PAIR_ROW(stride, at, j, a, b, c, x)                         \
  "vpbroadcastd " #at "*" #stride "+" #j "*4(%[sums]), " INK_Z(x) "\n\t" \
  "vpdpwssd " INK_Z(x) ", %%zmm24, " INK_Z(a) "\n\t"                    \
  "vpdpwssd " INK_Z(x) ", %%zmm25, " INK_Z(b) "\n\t"                    \
  "vpdpwssd " INK_Z(x) ", %%zmm26, " INK_Z(c) "\n\t"
#define INK_PAIR(stride, at)                                            \
  INK_VECTORS3(#at "*64", 24, 25, 26)                                   \
  INK_PAIR_ROW(stride, at, 0, 0, 1, 2, 27) INK_PAIR_ROW(stride, at, 1, 3, 4, 5, 28) \
  INK_PAIR_ROW(stride, at, 2, 6, 7, 8, 29) INK_PAIR_ROW(stride, at, 3, 9, 10, 11, 30)
#define INK_4_PAIRS(stride) \
  INK_PAIR(stride, 0) INK_PAIR(stride, 1) INK_PAIR(stride, 2) INK_PAIR(stride, 3)
#define INK_8_PAIRS(stride)                                             \
  INK_4_PAIRS(stride)                                                   \
  INK_PAIR(stride, 4) INK_PAIR(stride, 5) INK_PAIR(stride, 6) INK_PAIR(stride, 7)
#define INK_MINS(pairs)                                                 \
  INK_LOAD3(96) "movq 144(%[t]), %[sums]\n\t" INK_START_ZERO(0) pairs   \
  INK_LOAD3(72) INK_VECTORS3("", 24, 25, 26) INK_SLOTS(INK_FINISH_MIN)

#define INK_CLOBBERS                                                                        \
  "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9", "zmm10",  \
  "zmm11", "zmm12", "zmm13", "zmm14", "zmm15", "zmm16", "zmm17", "zmm18", "zmm19", "zmm20", \
  "zmm21", "zmm22", "zmm23", "zmm24", "zmm25", "zmm26", "zmm27", "zmm28", "zmm29", "zmm30", \
  "zmm31", "cc", "memory"

// A whole segment of 256 columns with integer scales per `bytes_w / 64 * 4` columns.
#define INK_SCALE256(groups, stride, start, steps, bytes_w, bytes_q, bytes_sums, mins)      \
  {                                                                                         \
    const void *a, *b, *c, *q, *sums;                                                       \
    int64_t at;                                                                             \
    asm volatile(                                                                           \
        INK_LOAD3(0)                                                                        \
        "movq 120(%[t]), %[q]\n\t"                                                          \
        "movq 136(%[t]), %[sums]\n\t"                                                       \
        "xorl %k[at], %k[at]\n\t"                                                           \
        INK_TOTALS_ZERO                                                                     \
        ".p2align 5\n"                                                                      \
        "1:\n\t"                                                                            \
        start(stride) steps(stride)                                                         \
        INK_VECTORS3_OF(24)                                                                 \
        INK_SCALE_ALL                                                                       \
        "addq $" #bytes_w ", %[a]\n\t"                                                      \
        "addq $" #bytes_w ", %[b]\n\t"                                                      \
        "addq $" #bytes_w ", %[c]\n\t"                                                      \
        "addq $" #bytes_q ", %[q]\n\t"                                                      \
        "addq $" #bytes_sums ", %[sums]\n\t"                                                \
        "addq $64, %[at]\n\t"                                                               \
        "cmpq $" #groups "*64, %[at]\n\t"                                                   \
        "jne 1b\n\t"                                                                        \
        "movq 152(%[t]), %[y]\n\t"                                                          \
        "movq 128(%[t]), %[dx]\n\t"                                                         \
        INK_LOAD3(48) INK_VECTORS3("", 24, 25, 26)                                          \
        INK_SLOTS(INK_FINISH)                                                               \
        mins                                                                                \
        INK_SLOTS(INK_STORE_Y)                                                              \
        : [a] "=&r"(a), [b] "=&r"(b), [c] "=&r"(c), [q] "=&r"(q), [sums] "=&r"(sums),      \
          [at] "=&r"(at), [y] "=&r"(y), [dx] "=&r"(dx)                                      \
        : [t] "r"(&tile)                                                                    \
        : INK_CLOBBERS);                                                                    \
  }

// A segment of blocks of 32 columns, each with a float scale.
#define INK_SCALE32(stride, start, mins)                                                    \
  {                                                                                         \
    const void *a, *b, *c, *q, *sums;                                                       \
    int64_t at;                                                                             \
    asm volatile(                                                                           \
        INK_LOAD3(0)                                                                        \
        "movq 120(%[t]), %[q]\n\t"                                                          \
        "movq 136(%[t]), %[sums]\n\t"                                                       \
        "movq 128(%[t]), %[dx]\n\t"                                                         \
        "movq 152(%[t]), %[y]\n\t"                                                          \
        "xorl %k[at], %k[at]\n\t"                                                           \
        INK_SLOTS(INK_LOAD_Y)                                                               \
        ".p2align 5\n"                                                                      \
        "1:\n\t"                                                                            \
        start(stride) INK_8_STEPS(stride)                                                   \
        INK_VECTORS3_OF(48)                                                                 \
        INK_SLOTS(INK_BLOCK)                                                                \
        mins                                                                                \
        "addq $512, %[a]\n\t"                                                               \
        "addq $512, %[b]\n\t"                                                               \
        "addq $512, %[c]\n\t"                                                               \
        "addq $8*" #stride ", %[q]\n\t"                                                     \
        "addq $" #stride ", %[dx]\n\t"                                                      \
        "addq $" #stride ", %[sums]\n\t"                                                    \
        "addq $64, %[at]\n\t"                                                               \
        "movq 160(%[t]), %[y]\n\t"                                                          \
        "shlq $6, %[y]\n\t"                                                                 \
        "cmpq %[y], %[at]\n\t"                                                              \
        "jne 1b\n\t"                                                                        \
        "movq 152(%[t]), %[y]\n\t"                                                          \
        INK_SLOTS(INK_STORE_Y)                                                              \
        : [a] "=&r"(a), [b] "=&r"(b), [c] "=&r"(c), [q] "=&r"(q), [sums] "=&r"(sums),      \
          [at] "=&r"(at), [y] "=&r"(y), [dx] "=&r"(dx)                                      \
        : [t] "r"(&tile)                                                                    \
        : INK_CLOBBERS);                                                                    \
  }
#define INK_BLOCK_MINS                                                                      \
  INK_VECTORS3_OF(72)                                                                       \
  INK_SLOTS(INK_BLOCK_MIN)

/// kStride: bytes from one group of 4 columns to the next in q, 4 times the packed tile's rows (8
/// or 4); the tile's other arrays have that many values of 4 bytes in a row.
template <int kStride, int kGroups, bool kMin>
void RunScale256(const Tile3x4& tile) {
  float* y;
  const void* dx;
  static_assert(kStride == 16 || kStride == 32);
  static_assert(kGroups == 8 || kGroups == 16);
  if constexpr (kStride == 32 && kGroups == 8 && kMin) {
    INK_SCALE256(8, 32, INK_START_ZERO, INK_8_STEPS, 512, 256, 0, INK_MINS(INK_4_PAIRS(32)))
  } else if constexpr (kStride == 32 && kGroups == 8) {
    INK_SCALE256(8, 32, INK_START_TWO_SUMS, INK_8_STEPS, 512, 256, 64, "")
  } else if constexpr (kStride == 32 && kMin) {
    INK_SCALE256(16, 32, INK_START_ZERO, INK_4_STEPS, 256, 128, 0, INK_MINS(INK_8_PAIRS(32)))
  } else if constexpr (kStride == 32) {
    INK_SCALE256(16, 32, INK_START_ONE_SUM, INK_4_STEPS, 256, 128, 32, "")
  } else if constexpr (kGroups == 8 && kMin) {
    INK_SCALE256(8, 16, INK_START_ZERO, INK_8_STEPS, 512, 128, 0, INK_MINS(INK_4_PAIRS(16)))
  } else if constexpr (kGroups == 8) {
    INK_SCALE256(8, 16, INK_START_TWO_SUMS, INK_8_STEPS, 512, 128, 32, "")
  } else if constexpr (kMin) {
    INK_SCALE256(16, 16, INK_START_ZERO, INK_4_STEPS, 256, 64, 0, INK_MINS(INK_8_PAIRS(16)))
  } else {
    INK_SCALE256(16, 16, INK_START_ONE_SUM, INK_4_STEPS, 256, 64, 16, "")
  }
}

template <int kStride, bool kMin>
void RunScale32(const Tile3x4& tile) {
  float* y;
  const void* dx;
  static_assert(kStride == 16 || kStride == 32);
  if constexpr (kStride == 32 && kMin) {
    INK_SCALE32(32, INK_START_ZERO, INK_BLOCK_MINS)
  } else if constexpr (kStride == 32) {
    INK_SCALE32(32, INK_START_ONE_SUM, "")
  } else if constexpr (kMin) {
    INK_SCALE32(16, INK_START_ZERO, INK_BLOCK_MINS)
  } else {
    INK_SCALE32(16, INK_START_ONE_SUM, "")
  }
}
// clang-format on

}  // namespace ink::avx512
