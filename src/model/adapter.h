// Low-rank adapters as host-side values, and their files.
//
// LoRA (Hu et al. 2021): y = W x + scale B (A x) with scale = alpha / r, or alpha / sqrt(r) for
// rank-stabilized LoRA (Kalajdzievski 2023). DoRA (Liu et al. 2024) replaces W by
// diag(m / |W + scale B A|_row) (W + scale B A), where m is trained. Names and row order are the
// canonical ones (weight_source.h), whatever the file's.
//
// Files are hostile input: every size is checked against the model before it is used, and every
// error names file, tensor, expected and actual.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace ink {

class WeightSource;

/// What adapters may change in a model: its matrices by name, shape and form.
struct AdapterTarget {
  struct Matrix {
    std::string name;           // canonical: "blk.3.attn_q.weight"; "output.weight" also when tied
    std::string hf_module;      // "model.layers.3.self_attn.q_proj"; "" without a Hugging Face form
    int64_t rows = 0;           // out
    int64_t cols = 0;           // in
    int interleaved_heads = 0;  // heads whose rows GGUF files interleave (GgufRowOfHf), or 0
    bool experts = false;       // a stack: adapters cannot change it
    bool tied = false;          // output.weight, stored as token_embd.weight
  };
  std::string architecture;
  std::vector<Matrix> matrices;  // in the model's order

  /// Null when there is none of that name.
  const Matrix* Find(std::string_view name) const;
  const Matrix* FindModule(std::string_view hf_module) const;
};

/// Errors: those of the source's metadata and tensors.
Result<AdapterTarget> AdapterTargetOf(const WeightSource& source);

struct Adapter {
  struct Matrix {
    std::string name;  // of the weight, as in AdapterTarget
    int64_t rank = 0, in = 0, out = 0;
    float alpha = 0;
    std::vector<float> a;          // [rank, in]
    std::vector<float> b;          // [out, rank]
    std::vector<float> magnitude;  // [out] of DoRA, else empty
  };
  std::string path;        // where it was read, for messages
  std::string base_model;  // name of the model it was trained on, as the file says; may be empty
  int64_t rank = 0;        // of most matrices (the file's default)
  float alpha = 0;         // likewise
  bool rank_stabilized = false;
  std::vector<Matrix> matrices;  // in the target's order

  /// alpha / rank or alpha / sqrt(rank).
  float Scale(const Matrix& matrix) const;
  bool dora() const;
  /// Bytes of all values.
  int64_t bytes() const;
};

/// Reads a PEFT folder (adapter_config.json and adapter_model.safetensors; either file's own path
/// is accepted too) or a GGUF adapter. Errors: kNotFound, kIo, kCorrupt (a size or value that
/// contradicts the file or the model), kUnsupported (an adapter kind, tensor or option that has no
/// implementation here: experts, embeddings, biases, fully trained modules, ..), kInvalidArgument
/// (made for another architecture or another width).
Result<Adapter> ReadAdapter(const std::string& path, const AdapterTarget& target);

/// Writes FOLDER/adapter_model.safetensors (float32) and FOLDER/adapter_config.json, which comes
/// last. Errors: kInvalidArgument (a matrix that the target lacks or shapes that differ),
/// kUnsupported (an architecture without a Hugging Face form), kIo.
Status WritePeftAdapter(const Adapter& adapter, const AdapterTarget& target,
                        const std::string& folder);

/// Writes a GGUF adapter (float32) by llama.cpp's convention. That format knows one alpha and
/// scale alpha / r only: matrices whose scale is another get it folded into B, and a magnitude
/// (DoRA) is stored as NAME.lora_magnitude, which other programs refuse. Errors as above.
Status WriteGgufAdapter(const Adapter& adapter, const AdapterTarget& target,
                        const std::string& path);

/// Shapes, ranks and values of an adapter against the target; readers and writers call it.
Status CheckAdapter(const Adapter& adapter, const AdapterTarget& target);

}  // namespace ink
