// Quantization recipes: which type each tensor of a model gets. The mixtures are those that GGUF
// users know from llama.cpp's quantize (src/llama-quant.cpp), so that a file named Q4_K_M holds
// what the name promises.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "formats/metadata.h"
#include "tensor/dtype.h"

namespace ink {

/// Values of general.file_type in GGUF metadata (llama_ftype).
enum class FileType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ8_0 = 7,
  kQ5_0 = 8,
  kQ5_1 = 9,
  kQ2_K = 10,
  kQ3_K_S = 11,
  kQ3_K_M = 12,
  kQ3_K_L = 13,
  kQ4_K_S = 14,
  kQ4_K_M = 15,
  kQ5_K_S = 16,
  kQ5_K_M = 17,
  kQ6_K = 18,
  kIQ4_NL = 25,
  kIQ4_XS = 30,
  kBF16 = 32,
  kMXFP4 = 38,
};

struct Recipe {
  std::string_view name;  // "q4_k_m"
  FileType file_type;
  DType type;  // of most weights
  std::string_view description;
};

std::span<const Recipe> AllRecipes();
/// By name, case ignored; "q3_k", "q4_k" and "q5_k" are the _m mixtures. Null if there is none.
const Recipe* FindRecipe(std::string_view name);

/// What the mixtures depend on.
struct ModelTraits {
  std::string architecture;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t num_experts = 0;

  /// From GGUF keys; absent ones stay 0, which selects the plain case. Errors: kCorrupt.
  static Result<ModelTraits> FromMetadata(const Metadata& metadata);
};

struct RecipeTensor {
  std::string_view name;  // GGUF name
  DType type = DType::kF32;
  int num_dims = 0;
  std::array<int64_t, 4> dims = {1, 1, 1, 1};  // row length first
};

/// The first override whose `pattern` (ECMAScript regular expression, searched in the tensor's
/// name) matches decides.
struct TypeOverride {
  std::string pattern;
  DType type;
  /// "PATTERN=TYPE", split at the last '='. Errors: kInvalidArgument.
  static Result<TypeOverride> Parse(std::string_view text);
};

struct RecipeOptions {
  bool pure = false;            // every matrix gets the recipe's type
  bool has_importance = false;  // an importance matrix guards the fragile layers
  std::vector<TypeOverride> overrides;
};

struct TypeChoice {
  std::vector<DType> types;           // one per tensor
  std::vector<std::string> warnings;  // a row that the type does not divide, an unused override
};

/// Norms, biases, routers and other small tensors keep their type (F32 decodes them too). Errors:
/// kInvalidArgument (a bad pattern).
Result<TypeChoice> ChooseTypes(const Recipe& recipe, const ModelTraits& traits,
                               std::span<const RecipeTensor> tensors, const RecipeOptions& options);

}  // namespace ink
