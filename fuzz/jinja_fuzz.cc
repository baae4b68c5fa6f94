// layers: text
// Template source and context from one input: everything before a zero byte is the template, the
// rest the context as JSON (an empty object if it is none).
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t zero = input.find('\0');
  const std::string_view source = input.substr(0, zero);
  auto context = nlohmann::ordered_json::parse(
      zero == std::string_view::npos ? std::string_view("{}") : input.substr(zero + 1), nullptr,
      /*allow_exceptions=*/false);
  if (!context.is_object()) context = nlohmann::ordered_json::object();
  if (!context.contains("messages")) {
    context["messages"] = {{{"role", "user"}, {"content", "h\u00e9llo"}},
                           {{"role", "assistant"}, {"content", nullptr}, {"n", {1, 2.5, true}}}};
  }
  const auto parsed = ink::ChatTemplate::Parse(source);
  if (!parsed.ok()) return 0;
  ink::ChatTemplateOptions options;
  options.now = std::tm{};
  options.limits.max_output_bytes = 1 << 16;
  options.limits.max_memory_bytes = 8 << 20;
  options.limits.max_steps = 50'000;
  (void)parsed->Render(context, options);
  return 0;
}
