// layers: sampling
// A GBNF grammar and a text: compiling is bounded, and what the automaton accepts it can complete.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "sampling/constraint/constraint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ink;
  if (size > 2048) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t cut = input.find('\0');
  ConstraintOptions options;
  options.max_automaton_states = 500;
  options.max_goals = 300;
  const auto compiled = CompiledConstraint::Compile(
      ConstraintSpec::Grammar(std::string(input.substr(0, cut))), options);
  if (!compiled.ok()) return 0;
  ConstraintState state(*compiled);
  if (cut == std::string_view::npos) return 0;
  for (char c : input.substr(cut + 1, 256)) {
    if (!state.AdvanceByte(static_cast<uint8_t>(c))) break;
  }
  return 0;
}
