#include "compress/recipe.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <regex>
#include <utility>

namespace ink {
namespace {

constexpr std::array kRecipes = {
    Recipe{"f32", FileType::kF32, DType::kF32, "every value decoded"},
    Recipe{"f16", FileType::kF16, DType::kF16, "16 bits, range 65504"},
    Recipe{"bf16", FileType::kBF16, DType::kBF16, "16 bits, range of f32"},
    Recipe{"q8_0", FileType::kQ8_0, DType::kQ8_0, "8.5 bits, nearly lossless"},
    Recipe{"q6_k", FileType::kQ6_K, DType::kQ6_K, "6.6 bits"},
    Recipe{"q5_k_m", FileType::kQ5_K_M, DType::kQ5_K, "5.5 bits, sensitive tensors q6_k"},
    Recipe{"q5_k_s", FileType::kQ5_K_S, DType::kQ5_K, "5.5 bits"},
    Recipe{"q5_0", FileType::kQ5_0, DType::kQ5_0, "5.5 bits, blocks of 32"},
    Recipe{"q5_1", FileType::kQ5_1, DType::kQ5_1, "6 bits, blocks of 32 with offset"},
    Recipe{"q4_k_m", FileType::kQ4_K_M, DType::kQ4_K, "4.5 bits, sensitive tensors q6_k"},
    Recipe{"q4_k_s", FileType::kQ4_K_S, DType::kQ4_K, "4.5 bits, first layers q5_k"},
    Recipe{"iq4_nl", FileType::kIQ4_NL, DType::kIQ4_NL, "4.5 bits, uneven codes"},
    Recipe{"iq4_xs", FileType::kIQ4_XS, DType::kIQ4_XS, "4.25 bits, uneven codes"},
    Recipe{"q4_0", FileType::kQ4_0, DType::kQ4_0, "4.5 bits, blocks of 32"},
    Recipe{"q4_1", FileType::kQ4_1, DType::kQ4_1, "5 bits, blocks of 32 with offset"},
    Recipe{"mxfp4", FileType::kMXFP4, DType::kMXFP4, "4.25 bits, embeddings and output q8_0"},
    Recipe{"mxfp4_moe", FileType::kMXFP4, DType::kMXFP4, "experts mxfp4, all else q8_0"},
    Recipe{"q3_k_l", FileType::kQ3_K_L, DType::kQ3_K, "3.4 bits, sensitive tensors q5_k"},
    Recipe{"q3_k_m", FileType::kQ3_K_M, DType::kQ3_K, "3.4 bits, sensitive tensors q4_k"},
    Recipe{"q3_k_s", FileType::kQ3_K_S, DType::kQ3_K, "3.4 bits"},
    Recipe{"q2_k", FileType::kQ2_K, DType::kQ2_K, "2.6 bits, sensitive tensors q3_k and q4_k"},
};

// What a tensor does in its layer, as far as the mixtures tell tensors apart.
enum class Role { kTokenEmbedding, kOutput, kAttnV, kAttnK, kAttnOutput, kFfnDown, kOther };

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

Role RoleOf(std::string_view name) {
  if (name == "output.weight") return Role::kOutput;
  if (name == "token_embd.weight" || name == "per_layer_token_embd.weight") {
    return Role::kTokenEmbedding;
  }
  // Fused projections count as V, their most sensitive part.
  if (Contains(name, "attn_qkv.weight") || Contains(name, "attn_kv_b.weight") ||
      Contains(name, "attn_v.weight")) {
    return Role::kAttnV;
  }
  if (Contains(name, "attn_k.weight")) return Role::kAttnK;
  if (Contains(name, "attn_output.weight")) return Role::kAttnOutput;
  if (Contains(name, "ffn_down")) return Role::kFfnDown;
  return Role::kOther;
}

/// N of "blk.N.", or -1.
int64_t LayerOf(std::string_view name) {
  constexpr std::string_view kPrefix = "blk.";
  if (!name.starts_with(kPrefix)) return -1;
  name.remove_prefix(kPrefix.size());
  int64_t layer = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
  return error == std::errc() && end != name.data() + name.size() && *end == '.' ? layer : -1;
}

/// Whether a recipe may touch a tensor at all: matrices, and no norms, routers, positions, or the
/// small matrices of recurrent and vision layers, which gain nothing and lose much.
bool MayQuantize(const RecipeTensor& tensor) {
  if (tensor.num_dims < 2 || !tensor.name.ends_with("weight")) return false;
  constexpr std::array<std::string_view, 24> kKept = {
      "_norm.weight",
      "ffn_gate_inp.weight",
      "altup",
      "laurel",
      "per_layer_model_proj",
      "position_embd",
      "token_types.weight",
      "ssm_conv1d",
      "shortconv.conv.weight",
      "indexer.k_proj.weight",
      "indexer.q_proj.weight",
      "time_mix_first.weight",
      "time_mix_w",
      "time_mix_v",
      "time_mix_a",
      "time_mix_g1.weight",
      "time_mix_g2.weight",
      "time_mix_decay_w",
      "time_mix_lerp_fused",
      "attn_rel_b.weight",
      ".rel_pos",
      ".patch_embd",
      ".patch_merger",
      "pos_embd",
  };
  return std::none_of(kKept.begin(), kKept.end(),
                      [&](std::string_view part) { return Contains(tensor.name, part); });
}

/// The first and last eighth of the layers and every third between: where errors cost most.
bool UseMoreBits(int64_t index, int64_t count) {
  return index < count / 8 || index >= 7 * count / 8 || (index - count / 8) % 3 == 2;
}

// Position of a tensor among those of its role, and their number.
struct Place {
  int64_t index = 0;
  int64_t count = 0;
};

class Mixture {
 public:
  Mixture(const Recipe& recipe, const ModelTraits& traits, bool tied, bool has_importance)
      : recipe_(recipe), traits_(traits), tied_(tied), has_importance_(has_importance) {}

  DType Choose(const RecipeTensor& tensor, Role role, Place place) const {
    if (role == Role::kOutput || (tied_ && role == Role::kTokenEmbedding)) return Output(tensor);
    if (recipe_.file_type == FileType::kMXFP4) {
      const bool expert = tensor.dims[2] > 1;
      const bool wanted = recipe_.name == "mxfp4" ? role != Role::kTokenEmbedding : expert;
      return wanted ? DType::kMXFP4 : DType::kQ8_0;
    }
    switch (role) {
      case Role::kAttnV:
        return AttnV(place);
      case Role::kAttnK:
        return eight_experts() ? DType::kQ8_0 : recipe_.type;
      case Role::kAttnOutput:
        return AttnOutput();
      case Role::kFfnDown:
        return FfnDown(place);
      default:
        return recipe_.type;
    }
  }

 private:
  bool eight_experts() const { return traits_.num_experts == 8; }
  bool falcon() const { return traits_.architecture == "falcon"; }
  int64_t group_size() const {
    return traits_.num_kv_heads > 0 ? traits_.num_heads / traits_.num_kv_heads : 0;
  }

  DType Output(const RecipeTensor& tensor) const {
    if (recipe_.file_type == FileType::kMXFP4 || falcon() ||
        tensor.dims[0] % Info(recipe_.type).block_values != 0) {
      return DType::kQ8_0;
    }
    return recipe_.type == DType::kQ8_0 ? DType::kQ8_0 : DType::kQ6_K;
  }

  DType AttnV(Place place) const {
    // With eight experts attention is a small part of the file.
    if (eight_experts()) return DType::kQ8_0;
    DType type = recipe_.type;
    switch (recipe_.file_type) {
      case FileType::kQ2_K:
        type = group_size() >= 4 ? DType::kQ4_K : DType::kQ3_K;
        break;
      case FileType::kQ3_K_M:
        type = place.index < 2 ? DType::kQ5_K : DType::kQ4_K;
        break;
      case FileType::kQ3_K_L:
        type = DType::kQ5_K;
        break;
      case FileType::kQ4_K_S:
        if (place.index < 4) type = DType::kQ5_K;
        break;
      case FileType::kQ4_K_M:
      case FileType::kQ5_K_M:
        if (UseMoreBits(place.index, place.count)) type = DType::kQ6_K;
        break;
      case FileType::kIQ4_NL:
      case FileType::kIQ4_XS:
        if (group_size() >= 4) type = DType::kQ5_K;
        break;
      default:
        break;
    }
    // Llama 70B: eight heads share one V, so it is small and much depends on it.
    const bool llama_70b = traits_.architecture == "llama" && traits_.num_layers == 80 &&
                           traits_.num_heads != traits_.num_kv_heads;
    if (llama_70b && (type == DType::kQ3_K || type == DType::kQ4_K)) type = DType::kQ5_K;
    return type;
  }

  DType AttnOutput() const {
    const FileType file = recipe_.file_type;
    if (falcon()) return file == FileType::kQ3_K_L ? DType::kQ4_K : recipe_.type;
    if (eight_experts()) {
      const bool raised = file == FileType::kQ2_K || file == FileType::kQ3_K_S ||
                          file == FileType::kQ3_K_M || file == FileType::kQ4_K_S ||
                          file == FileType::kQ4_K_M || file == FileType::kIQ4_NL ||
                          file == FileType::kIQ4_XS;
      return raised ? DType::kQ5_K : recipe_.type;
    }
    if (file == FileType::kQ2_K) return DType::kQ3_K;
    if (file == FileType::kQ3_K_M) return DType::kQ4_K;
    if (file == FileType::kQ3_K_L) return DType::kQ5_K;
    return recipe_.type;
  }

  DType FfnDown(Place place) const {
    const bool first_eighth = place.index < place.count / 8;
    const bool first_sixteenth = place.index < place.count / 16;
    const bool more = UseMoreBits(place.index, place.count);
    switch (recipe_.file_type) {
      case FileType::kQ2_K:
        return DType::kQ3_K;
      case FileType::kQ3_K_M:
        if (first_sixteenth) return DType::kQ5_K;
        return !falcon() || more ? DType::kQ4_K : DType::kQ3_K;
      case FileType::kQ3_K_L:
        return falcon() ? DType::kQ4_K : DType::kQ5_K;
      case FileType::kQ4_K_M:
        if (falcon() && !first_sixteenth) return more ? DType::kQ5_K : DType::kQ4_K;
        return falcon() || more ? DType::kQ6_K : DType::kQ4_K;
      case FileType::kQ4_K_S:
        return !falcon() && first_eighth ? DType::kQ5_K : DType::kQ4_K;
      case FileType::kQ5_K_M:
        return more ? DType::kQ6_K : DType::kQ5_K;
      case FileType::kIQ4_NL:
      case FileType::kIQ4_XS:
        return first_eighth && !has_importance_ ? DType::kQ5_K : recipe_.type;
      case FileType::kQ4_0:
        return first_eighth && has_importance_ ? DType::kQ4_1 : DType::kQ4_0;
      case FileType::kQ5_0:
        return first_eighth && has_importance_ ? DType::kQ5_1 : DType::kQ5_0;
      default:
        return recipe_.type;
    }
  }

  const Recipe& recipe_;
  const ModelTraits& traits_;
  bool tied_;
  bool has_importance_;
};

/// `type`, or the nearest type whose blocks divide rows of `row` values.
DType FallBack(DType type, int64_t row) {
  if (row % Info(type).block_values == 0) return type;
  switch (type) {
    case DType::kIQ4_XS:
      type = DType::kIQ4_NL;
      break;
    case DType::kQ2_K:
    case DType::kQ3_K:
      type = DType::kQ4_0;
      break;
    case DType::kQ4_K:
      type = DType::kQ5_0;
      break;
    case DType::kQ5_K:
      type = DType::kQ5_1;
      break;
    case DType::kQ6_K:
      type = DType::kQ8_0;
      break;
    default:
      break;
  }
  return row % Info(type).block_values == 0 ? type : DType::kF16;
}

/// Tensors that could not get their type, gathered so that a model of odd width gives a few
/// warnings and not hundreds.
class Misfits {
 public:
  void Add(const RecipeTensor& tensor, DType wanted, DType used) {
    for (Group& group : groups_) {
      if (group.row != tensor.dims[0] || group.wanted != wanted || group.used != used) continue;
      ++group.count;
      return;
    }
    groups_.push_back({std::string(tensor.name), tensor.dims[0], wanted, used, 1});
  }

  void AppendWarnings(std::vector<std::string>* warnings) const {
    for (const Group& group : groups_) {
      const std::string others =
          group.count > 1 ? " and " + std::to_string(group.count - 1) + " more" : "";
      warnings->push_back(group.first + others + ": rows of " + std::to_string(group.row) +
                          " values are no multiple of " +
                          std::to_string(Info(group.wanted).block_values) + " as " +
                          std::string(Info(group.wanted).name) + " needs; using " +
                          std::string(Info(group.used).name));
    }
  }

 private:
  struct Group {
    std::string first;
    int64_t row;
    DType wanted;
    DType used;
    int count;
  };
  std::vector<Group> groups_;
};

/// The place of each tensor in its role, counted in the order of layers.
std::vector<Place> Places(const ModelTraits& traits, std::span<const RecipeTensor> tensors) {
  std::vector<Place> places(tensors.size());
  std::vector<size_t> order(tensors.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const int64_t layer_a = LayerOf(tensors[a].name);
    const int64_t layer_b = LayerOf(tensors[b].name);
    return layer_a != layer_b ? layer_a < layer_b : tensors[a].name < tensors[b].name;
  });
  int64_t num_v = 0;
  int64_t num_down = 0;
  for (const size_t i : order) {
    const Role role = RoleOf(tensors[i].name);
    if (role == Role::kAttnV) places[i].index = num_v++;
    if (role != Role::kFfnDown) continue;
    // A layer of experts may hold several such tensors.
    const int64_t layer = LayerOf(tensors[i].name);
    places[i].index = traits.num_experts > 1 && layer >= 0 ? layer : num_down;
    ++num_down;
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Role role = RoleOf(tensors[i].name);
    if (role == Role::kAttnV) places[i].count = num_v;
    if (role == Role::kFfnDown) {
      places[i].count = traits.num_layers > 0 ? traits.num_layers : num_down;
    }
  }
  return places;
}

bool IsFloatWeight(DType type) {
  return Info(type).quantized || type == DType::kF32 || type == DType::kF16 || type == DType::kBF16;
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

}  // namespace

std::span<const Recipe> AllRecipes() { return kRecipes; }

const Recipe* FindRecipe(std::string_view name) {
  std::string wanted = Lower(name);
  if (wanted == "q3_k" || wanted == "q4_k" || wanted == "q5_k") wanted += "_m";
  for (const Recipe& recipe : kRecipes) {
    if (recipe.name == wanted) return &recipe;
  }
  return nullptr;
}

Result<ModelTraits> ModelTraits::FromMetadata(const Metadata& metadata) {
  ModelTraits traits;
  INK_ASSIGN_OR_RETURN(const std::string_view architecture,
                       metadata.GetString("general.architecture", ""));
  traits.architecture = architecture;
  const std::string prefix = traits.architecture + ".";
  INK_ASSIGN_OR_RETURN(traits.num_layers, metadata.GetU32(prefix + "block_count", 0));
  INK_ASSIGN_OR_RETURN(traits.num_experts, metadata.GetU32(prefix + "expert_count", 0));
  // Head counts may differ by layer; the first one's decides, as in llama.cpp.
  const auto first = [&](const std::string& key) -> Result<int64_t> {
    const MetadataValue* value = metadata.Find(key);
    if (value == nullptr) return int64_t{0};
    if (value->type != MetadataType::kArray) return metadata.GetI64(key);
    INK_ASSIGN_OR_RETURN(const NumberArray numbers, metadata.GetInts(key));
    return numbers.empty() ? int64_t{0} : numbers.Int(0);
  };
  INK_ASSIGN_OR_RETURN(traits.num_heads, first(prefix + "attention.head_count"));
  INK_ASSIGN_OR_RETURN(traits.num_kv_heads, first(prefix + "attention.head_count_kv"));
  if (traits.num_kv_heads == 0) traits.num_kv_heads = traits.num_heads;
  return traits;
}

Result<TypeOverride> TypeOverride::Parse(std::string_view text) {
  const size_t split = text.rfind('=');
  if (split == std::string_view::npos || split == 0 || split + 1 == text.size()) {
    return InvalidArgument("tensor type \"" + std::string(text) +
                           "\": expected NAME_REGEX=TYPE, for example attn_v=q8_0");
  }
  const std::string_view name = text.substr(split + 1);
  const std::optional<DType> type = DTypeFromName(name);
  if (!type.has_value() || !IsFloatWeight(*type) || *type == DType::kNF4) {
    std::string known;
    for (const DTypeInfo& info : AllDTypes()) {
      if (!IsFloatWeight(info.type) || info.type == DType::kNF4) continue;
      if (!known.empty()) known += ", ";
      known += info.name;
    }
    return InvalidArgument("tensor type \"" + std::string(text) + "\": unknown type \"" +
                           std::string(name) + "\", expected one of " + known);
  }
  return TypeOverride{std::string(text.substr(0, split)), *type};
}

Result<TypeChoice> ChooseTypes(const Recipe& recipe, const ModelTraits& traits,
                               std::span<const RecipeTensor> tensors,
                               const RecipeOptions& options) {
  std::vector<std::regex> patterns;
  for (const TypeOverride& entry : options.overrides) {
    try {
      patterns.emplace_back(entry.pattern, std::regex::ECMAScript | std::regex::optimize);
    } catch (const std::regex_error& error) {
      return InvalidArgument("tensor type pattern \"" + entry.pattern +
                             "\" is no regular expression: " + error.what());
    }
  }
  std::vector<bool> used(patterns.size(), false);
  const bool tied = std::none_of(tensors.begin(), tensors.end(), [](const RecipeTensor& tensor) {
    return tensor.name == "output.weight";
  });
  const Mixture mixture(recipe, traits, tied, options.has_importance);
  const std::vector<Place> places = Places(traits, tensors);
  TypeChoice choice;
  Misfits misfits;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const RecipeTensor& tensor = tensors[i];
    if (!IsFloatWeight(tensor.type) || (!MayQuantize(tensor) && recipe.type != DType::kF32)) {
      choice.types.push_back(tensor.type);
      continue;
    }
    DType type = recipe.type;
    const std::string name(tensor.name);
    size_t k = 0;
    while (k < patterns.size() && !std::regex_search(name, patterns[k])) ++k;
    if (k < patterns.size()) {
      type = options.overrides[k].type;
      used[k] = true;
    } else if (!options.pure && Info(recipe.type).quantized) {
      type = mixture.Choose(tensor, RoleOf(tensor.name), places[i]);
    }
    const DType fitting = FallBack(type, tensor.dims[0]);
    if (fitting != type) misfits.Add(tensor, type, fitting);
    choice.types.push_back(fitting);
  }
  misfits.AppendWarnings(&choice.warnings);
  for (size_t k = 0; k < used.size(); ++k) {
    if (used[k]) continue;
    choice.warnings.push_back("tensor type pattern \"" + options.overrides[k].pattern +
                              "\" decides no tensor");
  }
  return choice;
}

}  // namespace ink
