#include "text/label_prompt.h"

namespace ink {

std::string LabelPrompt(std::string_view label_template, std::string_view text) {
  constexpr std::string_view kSlot = "{text}";
  std::string out;
  size_t at = 0;
  while (true) {
    const size_t slot = label_template.find(kSlot, at);
    out += label_template.substr(at, slot - at);
    if (slot == std::string_view::npos) return out;
    out += text;
    at = slot + kSlot.size();
  }
}

}  // namespace ink
