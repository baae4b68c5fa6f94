// The architectures Inkstone runs: one row each.
#include <array>
#include <string>

#include "model/architectures/architectures.h"

namespace ink {
namespace {

struct Architecture {
  std::string_view name;  // general.architecture
  Result<std::unique_ptr<Model>> (*load)(ModelLoader& loader);
};

constexpr std::array kArchitectures = {
    Architecture{"llama", LoadLlama},   Architecture{"qwen2", LoadQwen2},
    Architecture{"qwen3", LoadQwen3},   Architecture{"qwen3moe", LoadQwen3Moe},
    Architecture{"gemma2", LoadGemma2}, Architecture{"gemma3", LoadGemma3},
    Architecture{"phi3", LoadPhi3},
};

constexpr auto kNames = [] {
  std::array<std::string_view, kArchitectures.size()> names;
  for (size_t i = 0; i < names.size(); ++i) names[i] = kArchitectures[i].name;
  return names;
}();

}  // namespace

std::span<const std::string_view> KnownArchitectures() { return kNames; }

Result<std::unique_ptr<Model>> LoadModel(const WeightSource& source, Device& device,
                                         const LoadOptions& options) {
  INK_ASSIGN_OR_RETURN(std::string_view name, source.metadata().GetString("general.architecture"));
  std::string known;
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.name == name) {
      ModelLoader loader(source, device, options);
      return architecture.load(loader);
    }
    known += (known.empty() ? "" : ", ") + std::string(architecture.name);
  }
  return Unsupported(source.path() + ": general.architecture: expected one of " + known +
                     ", got \"" + std::string(name) + "\"");
}

}  // namespace ink
