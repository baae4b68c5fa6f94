// The inner loop of products of bfloat16: 8 rows of one operand times 3 (2, 1) panels of 16 of the
// other, in assembly.
//
// Why 8 x 3: 24 chains of vdpbf16ps hide its latency, and a step of 24 multiplications (12 cycles)
// loads 3 vectors and 8 broadcasts, which the two load ports do in half of them; 8 x 2, which
// compilers manage, spills in GCC 12 as soon as stores follow the loop. Why in assembly: 24 sums, 3
// panels and 5 broadcasts are all 32 registers. Measured 95% of the peak with operands in L2.
//
// zmm0-23: sums, row j of panel i in 3 j + i. zmm24-26: the panels' words. zmm27-31: broadcasts in
// turn.
//
// Nothing here may be included outside this folder.
#pragma once

#include <cstdint>

namespace ink::avx512 {

/// One tile: c[row][0, 16 panels) = (load ? c : 0) + sum over words of a * panel, pairs of
/// bfloat16 a word, added up in one chain in the order of words.
struct Bf16Tile {
  const void* a;         // [word][8]
  const void* b[3];      // [word][16] of each panel
  int64_t words;         // at least 1
  float* c;              // 8 rows
  int64_t stride_bytes;  // between rows of c
};

// clang-format off
#define INK_BZ(n) "%%zmm" #n
#define INK_BROW3(k, j, x, s0, s1, s2)                                                         \
  "vpbroadcastd " #k "*32+" #j "*4(%[a]), " INK_BZ(x) "\n\t"                                   \
  "vdpbf16ps " INK_BZ(x) ", %%zmm24, " INK_BZ(s0) "\n\t"                                       \
  "vdpbf16ps " INK_BZ(x) ", %%zmm25, " INK_BZ(s1) "\n\t"                                       \
  "vdpbf16ps " INK_BZ(x) ", %%zmm26, " INK_BZ(s2) "\n\t"
#define INK_BROW2(k, j, x, s0, s1, s2)                                                         \
  "vpbroadcastd " #k "*32+" #j "*4(%[a]), " INK_BZ(x) "\n\t"                                   \
  "vdpbf16ps " INK_BZ(x) ", %%zmm24, " INK_BZ(s0) "\n\t"                                       \
  "vdpbf16ps " INK_BZ(x) ", %%zmm25, " INK_BZ(s1) "\n\t"
#define INK_BROW1(k, j, x, s0, s1, s2)                                                         \
  "vpbroadcastd " #k "*32+" #j "*4(%[a]), " INK_BZ(x) "\n\t"                                   \
  "vdpbf16ps " INK_BZ(x) ", %%zmm24, " INK_BZ(s0) "\n\t"
#define INK_BROWS(row, k)                                                                      \
  row(k, 0, 27, 0, 1, 2) row(k, 1, 28, 3, 4, 5) row(k, 2, 29, 6, 7, 8)                         \
  row(k, 3, 30, 9, 10, 11) row(k, 4, 31, 12, 13, 14) row(k, 5, 27, 15, 16, 17)                 \
  row(k, 6, 28, 18, 19, 20) row(k, 7, 29, 21, 22, 23)
#define INK_BPANEL(k, i, z) "vmovdqu64 " #k "*64(%[b" #i "]), " INK_BZ(z) "\n\t"
#define INK_BSTEP3(k)                                                                          \
  INK_BPANEL(k, 0, 24) INK_BPANEL(k, 1, 25) INK_BPANEL(k, 2, 26) INK_BROWS(INK_BROW3, k)
#define INK_BSTEP2(k) INK_BPANEL(k, 0, 24) INK_BPANEL(k, 1, 25) INK_BROWS(INK_BROW2, k)
#define INK_BSTEP1(k) INK_BPANEL(k, 0, 24) INK_BROWS(INK_BROW1, k)

// One row of sums: set to zero, with its place in c asked for; loaded; stored.
#define INK_BZERO(n) "vpxord " INK_BZ(n) ", " INK_BZ(n) ", " INK_BZ(n) "\n\t"
#define INK_BZERO3(s0, s1, s2)                                                                 \
  INK_BZERO(s0) INK_BZERO(s1) INK_BZERO(s2)                                                    \
  "prefetchw (%[to])\n\tprefetchw 64(%[to])\n\tprefetchw 128(%[to])\n\taddq %[stride], %[to]\n\t"
#define INK_BZERO2(s0, s1, s2)                                                                 \
  INK_BZERO(s0) INK_BZERO(s1)                                                                  \
  "prefetchw (%[to])\n\tprefetchw 64(%[to])\n\taddq %[stride], %[to]\n\t"
#define INK_BZERO1(s0, s1, s2)                                                                 \
  INK_BZERO(s0) "prefetchw (%[to])\n\taddq %[stride], %[to]\n\t"
#define INK_BLOAD3(s0, s1, s2)                                                                 \
  "vmovups (%[to]), " INK_BZ(s0) "\n\tvmovups 64(%[to]), " INK_BZ(s1) "\n\t"                   \
  "vmovups 128(%[to]), " INK_BZ(s2) "\n\taddq %[stride], %[to]\n\t"
#define INK_BLOAD2(s0, s1, s2)                                                                 \
  "vmovups (%[to]), " INK_BZ(s0) "\n\tvmovups 64(%[to]), " INK_BZ(s1) "\n\t"                   \
  "addq %[stride], %[to]\n\t"
#define INK_BLOAD1(s0, s1, s2) "vmovups (%[to]), " INK_BZ(s0) "\n\taddq %[stride], %[to]\n\t"
#define INK_BSTORE3(s0, s1, s2)                                                                \
  "vmovups " INK_BZ(s0) ", (%[to])\n\tvmovups " INK_BZ(s1) ", 64(%[to])\n\t"                   \
  "vmovups " INK_BZ(s2) ", 128(%[to])\n\taddq %[stride], %[to]\n\t"
#define INK_BSTORE2(s0, s1, s2)                                                                \
  "vmovups " INK_BZ(s0) ", (%[to])\n\tvmovups " INK_BZ(s1) ", 64(%[to])\n\t"                   \
  "addq %[stride], %[to]\n\t"
#define INK_BSTORE1(s0, s1, s2) "vmovups " INK_BZ(s0) ", (%[to])\n\taddq %[stride], %[to]\n\t"
#define INK_BSUMS(op)                                                                          \
  op(0, 1, 2) op(3, 4, 5) op(6, 7, 8) op(9, 10, 11)                                            \
  op(12, 13, 14) op(15, 16, 17) op(18, 19, 20) op(21, 22, 23)

#define INK_BTILE(start, step, store)                                                          \
  {                                                                                            \
    const void *a = tile.a, *b0 = tile.b[0], *b1 = tile.b[1], *b2 = tile.b[2];                 \
    int64_t four = tile.words / 4;                                                             \
    float* to = tile.c;                                                                        \
    asm volatile(                                                                              \
        INK_BSUMS(start)                                                                       \
        "movq %[c], %[to]\n\t"                                                                 \
        "testq %[four], %[four]\n\t"                                                           \
        "je 2f\n\t"                                                                            \
        ".p2align 5\n"                                                                         \
        "1:\n\t"                                                                               \
        step(0) step(1) step(2) step(3)                                                        \
        "addq $128, %[a]\n\t"                                                                  \
        "addq $256, %[b0]\n\t"                                                                 \
        "addq $256, %[b1]\n\t"                                                                 \
        "addq $256, %[b2]\n\t"                                                                 \
        "decq %[four]\n\t"                                                                     \
        "jne 1b\n"                                                                             \
        "2:\n\t"                                                                               \
        "movq %[words], %[four]\n\t"                                                           \
        "andq $3, %[four]\n\t"                                                                 \
        "je 4f\n"                                                                              \
        "3:\n\t"                                                                               \
        step(0)                                                                                \
        "addq $32, %[a]\n\t"                                                                   \
        "addq $64, %[b0]\n\t"                                                                  \
        "addq $64, %[b1]\n\t"                                                                  \
        "addq $64, %[b2]\n\t"                                                                  \
        "decq %[four]\n\t"                                                                     \
        "jne 3b\n"                                                                             \
        "4:\n\t"                                                                               \
        INK_BSUMS(store)                                                                       \
        : [a] "+r"(a), [b0] "+r"(b0), [b1] "+r"(b1), [b2] "+r"(b2), [four] "+r"(four),         \
          [to] "+r"(to)                                                                        \
        : [c] "m"(tile.c), [words] "m"(tile.words), [stride] "r"(tile.stride_bytes)            \
        : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",      \
          "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16",       \
          "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25",     \
          "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");                               \
  }

/// `tile.b` past kPanels are not read, but must be pointers.
template <int kPanels>
void RunBf16Tile(const Bf16Tile& tile, bool load) {
  static_assert(kPanels >= 1 && kPanels <= 3);
  if constexpr (kPanels == 3) {
    if (load) INK_BTILE(INK_BLOAD3, INK_BSTEP3, INK_BSTORE3)
    else INK_BTILE(INK_BZERO3, INK_BSTEP3, INK_BSTORE3)
  } else if constexpr (kPanels == 2) {
    if (load) INK_BTILE(INK_BLOAD2, INK_BSTEP2, INK_BSTORE2)
    else INK_BTILE(INK_BZERO2, INK_BSTEP2, INK_BSTORE2)
  } else {
    if (load) INK_BTILE(INK_BLOAD1, INK_BSTEP1, INK_BSTORE1)
    else INK_BTILE(INK_BZERO1, INK_BSTEP1, INK_BSTORE1)
  }
}
// clang-format on

}  // namespace ink::avx512
