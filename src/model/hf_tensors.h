// Names and forms of a model's tensors in Hugging Face folders and in GGUF files, from one table
// per architecture.
//
// Three things differ besides names:
//  - GGUF's "llama" interleaves the rows of each Q and K head: its row 2 i + j is the Hugging Face
//    row j * head_dim / 2 + i (the pairs that rope rotates lie side by side);
//  - Gemma's norm weights are stored as the factor minus one in Hugging Face folders;
//  - GGUF stacks the experts of a layer in one tensor [experts, out, in].
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "formats/metadata.h"

namespace ink {

struct HfTensor {
  std::string gguf;      // "blk.3.attn_q.weight"
  std::string hf;        // "model.layers.3.self_attn.q_proj.weight"; with experts, up to the number
  std::string hf_tail;   // with experts, what follows the number
  uint32_t experts = 0;  // 0: one tensor, else this many, stacked in GGUF
  uint32_t permute_heads = 0;  // 0: rows as they are, else this many heads interleaved in GGUF
  bool minus_one = false;      // Hugging Face holds the factor minus one
  bool keep_f32 = false;       // norms, biases and routers are f32 in every GGUF file

  /// The name in the Hugging Face folder, of one expert where there are experts.
  std::string HfName(uint32_t expert = 0) const;
};

/// Every tensor that a model with this metadata may have, whether or not a given file holds it, in
/// the order in which they are written. `prefix` is what stands before "embed_tokens.weight".
/// Errors: kNotFound and kCorrupt from the metadata, kUnsupported for another architecture.
Result<std::vector<HfTensor>> HfTensorsOf(const Metadata& metadata,
                                          std::string_view prefix = "model.");

/// Tensors of a Hugging Face folder that the language model does not use: buffers that older
/// versions stored, and the vision part of multimodal models.
bool IsForeignHfTensor(std::string_view name);

/// The GGUF row of Hugging Face row `row` where heads of `head_rows` rows (even) are interleaved.
inline int64_t GgufRowOfHf(int64_t row, int64_t head_rows) {
  const int64_t half = head_rows / 2;
  const int64_t in_head = row % head_rows;
  return row - in_head + in_head % half * 2 + in_head / half;
}

}  // namespace ink
