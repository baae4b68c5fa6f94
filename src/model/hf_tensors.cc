#include "model/hf_tensors.h"

#include <span>

#include "formats/quote.h"
#include "model/hf_architectures.h"

namespace ink {
namespace {

enum class Form { kPlain, kNorm, kQuery, kKey, kBias, kQueryBias, kKeyBias, kRouter, kExperts };

// A tensor of one layer; `hf` of experts has {} for the expert's number.
struct Row {
  std::string_view gguf;
  std::string_view hf;
  Form form;
};

constexpr Row kNorms[] = {
    {"attn_norm.weight", "input_layernorm.weight", Form::kNorm},
    {"ffn_norm.weight", "post_attention_layernorm.weight", Form::kNorm},
};
constexpr Row kGemmaNorms[] = {
    {"attn_norm.weight", "input_layernorm.weight", Form::kNorm},
    {"post_attention_norm.weight", "post_attention_layernorm.weight", Form::kNorm},
    {"ffn_norm.weight", "pre_feedforward_layernorm.weight", Form::kNorm},
    {"post_ffw_norm.weight", "post_feedforward_layernorm.weight", Form::kNorm},
};
constexpr Row kAttention[] = {
    {"attn_q.weight", "self_attn.q_proj.weight", Form::kQuery},
    {"attn_q.bias", "self_attn.q_proj.bias", Form::kQueryBias},
    {"attn_k.weight", "self_attn.k_proj.weight", Form::kKey},
    {"attn_k.bias", "self_attn.k_proj.bias", Form::kKeyBias},
    {"attn_v.weight", "self_attn.v_proj.weight", Form::kPlain},
    {"attn_v.bias", "self_attn.v_proj.bias", Form::kBias},
    {"attn_q_norm.weight", "self_attn.q_norm.weight", Form::kNorm},
    {"attn_k_norm.weight", "self_attn.k_norm.weight", Form::kNorm},
    {"attn_output.weight", "self_attn.o_proj.weight", Form::kPlain},
    {"attn_output.bias", "self_attn.o_proj.bias", Form::kBias},
};
constexpr Row kFusedAttention[] = {
    {"attn_qkv.weight", "self_attn.qkv_proj.weight", Form::kPlain},
    {"attn_output.weight", "self_attn.o_proj.weight", Form::kPlain},
};
constexpr Row kMlp[] = {
    {"ffn_gate.weight", "mlp.gate_proj.weight", Form::kPlain},
    {"ffn_gate.bias", "mlp.gate_proj.bias", Form::kBias},
    {"ffn_up.weight", "mlp.up_proj.weight", Form::kPlain},
    {"ffn_up.bias", "mlp.up_proj.bias", Form::kBias},
    {"ffn_down.weight", "mlp.down_proj.weight", Form::kPlain},
    {"ffn_down.bias", "mlp.down_proj.bias", Form::kBias},
};
constexpr Row kFusedMlp[] = {
    {"ffn_up.weight", "mlp.gate_up_proj.weight", Form::kPlain},
    {"ffn_down.weight", "mlp.down_proj.weight", Form::kPlain},
};
constexpr Row kMixtral[] = {
    {"ffn_gate_inp.weight", "block_sparse_moe.gate.weight", Form::kRouter},
    {"ffn_gate_exps.weight", "block_sparse_moe.experts.{}.w1.weight", Form::kExperts},
    {"ffn_up_exps.weight", "block_sparse_moe.experts.{}.w3.weight", Form::kExperts},
    {"ffn_down_exps.weight", "block_sparse_moe.experts.{}.w2.weight", Form::kExperts},
};
constexpr Row kQwenExperts[] = {
    {"ffn_gate_inp.weight", "mlp.gate.weight", Form::kRouter},
    {"ffn_gate_exps.weight", "mlp.experts.{}.gate_proj.weight", Form::kExperts},
    {"ffn_up_exps.weight", "mlp.experts.{}.up_proj.weight", Form::kExperts},
    {"ffn_down_exps.weight", "mlp.experts.{}.down_proj.weight", Form::kExperts},
};

struct Layout {
  std::string_view gguf;
  bool experts;
  std::span<const Row> norms, attention, mlp;
  bool interleaved;  // Q and K rows in GGUF
  bool minus_one;    // norms in Hugging Face
};

constexpr Layout kLayouts[] = {
    {"llama", false, kNorms, kAttention, kMlp, true, false},
    {"llama", true, kNorms, kAttention, kMixtral, true, false},
    {"qwen2", false, kNorms, kAttention, kMlp, false, false},
    {"qwen3", false, kNorms, kAttention, kMlp, false, false},
    {"qwen3moe", true, kNorms, kAttention, kQwenExperts, false, false},
    {"gemma2", false, kGemmaNorms, kAttention, kMlp, false, true},
    {"gemma3", false, kGemmaNorms, kAttention, kMlp, false, true},
    {"phi3", false, kNorms, kFusedAttention, kFusedMlp, false, false},
};

}  // namespace

std::string HfTensor::HfName(uint32_t expert) const {
  return experts == 0 ? hf : hf + std::to_string(expert) + hf_tail;
}

Result<std::vector<HfTensor>> HfTensorsOf(const Metadata& metadata, std::string_view prefix) {
  INK_ASSIGN_OR_RETURN(std::string_view arch, metadata.GetString("general.architecture"));
  const std::string base = std::string(arch) + ".";
  INK_ASSIGN_OR_RETURN(uint32_t experts, metadata.GetU32(base + "expert_count", 0));
  const Layout* layout = nullptr;
  for (const Layout& row : kLayouts) {
    if (row.gguf == arch && row.experts == (experts > 0)) layout = &row;
  }
  if (layout == nullptr) {
    return Unsupported(Mismatch(metadata.source(), "general.architecture",
                                "one with a Hugging Face form here (llama, qwen2, qwen3, qwen3moe, "
                                "gemma2, gemma3, phi3)",
                                Quoted(arch) + (experts > 0 ? " with experts" : "")));
  }
  INK_ASSIGN_OR_RETURN(uint32_t layers, metadata.GetU32(base + "block_count"));
  if (layers == 0 || layers > 4096) {
    return Corrupt(
        Mismatch(metadata.source(), base + "block_count", "1 to 4096", std::to_string(layers)));
  }
  INK_ASSIGN_OR_RETURN(std::vector<uint32_t> heads,
                       metadata.GetU32PerLayer(base + "attention.head_count", layers));
  std::vector<uint32_t> kv_heads = heads;
  if (metadata.Has(base + "attention.head_count_kv")) {
    INK_ASSIGN_OR_RETURN(kv_heads,
                         metadata.GetU32PerLayer(base + "attention.head_count_kv", layers));
  }

  std::vector<HfTensor> out;
  const std::string root(prefix);
  // lm_head stands beside "model." in most folders, inside the language model in multimodal ones.
  const std::string outer = root == "language_model.model." ? "language_model." : "";
  out.push_back({.gguf = "token_embd.weight", .hf = root + "embed_tokens.weight"});
  out.push_back({.gguf = "output_norm.weight",
                 .hf = root + "norm.weight",
                 .minus_one = layout->minus_one,
                 .keep_f32 = true});
  out.push_back({.gguf = "output.weight", .hf = outer + "lm_head.weight"});
  for (uint32_t layer = 0; layer < layers; ++layer) {
    const std::string gguf_base = "blk." + std::to_string(layer) + ".";
    const std::string hf_base = root + "layers." + std::to_string(layer) + ".";
    for (std::span<const Row> rows : {layout->norms, layout->attention, layout->mlp}) {
      for (const Row& row : rows) {
        HfTensor tensor;
        tensor.gguf = gguf_base + std::string(row.gguf);
        const size_t number = row.hf.find("{}");
        tensor.hf = hf_base + std::string(row.hf.substr(0, number));
        if (number != std::string_view::npos) {
          tensor.hf_tail = row.hf.substr(number + 2);
          tensor.experts = experts;
        }
        tensor.minus_one = layout->minus_one && row.form == Form::kNorm;
        tensor.keep_f32 = row.form != Form::kPlain && row.form != Form::kQuery &&
                          row.form != Form::kKey && row.form != Form::kExperts;
        if (layout->interleaved) {
          if (row.form == Form::kQuery || row.form == Form::kQueryBias) {
            tensor.permute_heads = heads[layer];
          } else if (row.form == Form::kKey || row.form == Form::kKeyBias) {
            tensor.permute_heads = kv_heads[layer];
          }
        }
        out.push_back(std::move(tensor));
      }
    }
  }
  return out;
}

bool IsForeignHfTensor(std::string_view name) {
  for (std::string_view suffix : {"rotary_emb.inv_freq", "rotary_emb.cos_cached",
                                  "rotary_emb.sin_cached", "self_attn.masked_bias"}) {
    if (name.ends_with(suffix)) return true;
  }
  for (std::string_view prefix :
       {"vision_tower.", "vision_model.", "multi_modal_projector.", "model.vision_tower.",
        "model.vision_model.", "model.multi_modal_projector.", "model.vision_embed_tokens."}) {
    if (name.starts_with(prefix)) return true;
  }
  return false;
}

}  // namespace ink
