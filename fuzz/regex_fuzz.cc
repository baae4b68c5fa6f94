// layers: sampling
// A regular expression or (after a first byte 'g') a GBNF grammar, and a text.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "sampling/constraint/constraint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ink;
  if (size < 1 || size > 2048) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t cut = input.find('\0');
  const std::string text(input.substr(1, cut == std::string_view::npos ? cut : cut - 1));
  ConstraintOptions options;
  options.max_automaton_states = 1000;
  const auto compiled = CompiledConstraint::Compile(
      data[0] == 'g' ? ConstraintSpec::Grammar(text) : ConstraintSpec::Regex(text), options);
  if (!compiled.ok()) return 0;
  ConstraintState state(*compiled);
  if (cut != std::string_view::npos) {
    for (char c : input.substr(cut + 1)) {
      if (!state.AdvanceByte(static_cast<uint8_t>(c))) break;
    }
  }
  const std::string rest = state.Completion();
  INK_CHECK(state.Advance(rest));
  INK_CHECK(state.IsAccepting());
  return 0;
}
