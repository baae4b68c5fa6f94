// layers: text
// A model's output cut into pieces: the first byte picks the family and the size of the pieces.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "text/tool_calls.h"

namespace {

// Text that a template of each family contains.
constexpr std::array<std::string_view, 16> kMarkers = {
    "<tool_call></tool_call><think></think>",
    "<tool_calls>[",
    "[TOOL_CALLS][ARGS][THINK][/THINK]",
    "[TOOL_CALLS]",
    "<|tool_calls_section_begin|>",
    "<｜tool▁calls▁begin｜><think></think>",
    "<｜DSML｜",
    "<tool_call><function=<parameter=",
    "<minimax:tool_call>",
    "]<]minimax[>[<invoke name=",
    "<arg_key>",
    "<|python_tag|>",
    "<|tools_prefix|>",
    "<|tool_call_start|>",
    "<|tool_call>call:<|channel>thought",
    "<|channel|><|message|>",
};

const std::vector<ink::ChatOutputFormat>& Formats() {
  static const std::vector<ink::ChatOutputFormat> formats = [] {
    std::vector<ink::ChatOutputFormat> out;
    for (const std::string_view markers : kMarkers) {
      const auto parsed = ink::ChatTemplate::Parse("{{ tools }}{#" + std::string(markers) + "#}");
      out.push_back(ink::DetectChatOutputFormat(parsed.value()));
    }
    return out;
  }();
  return formats;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  static const auto tools = nlohmann::ordered_json::parse(
      R"([{"function": {"name": "f", "parameters": {"properties": {"s": {"type": "string"},
          "n": {"type": "integer"}}}}}])");
  ink::ChatOutputOptions options;
  options.tools = &tools;
  options.reasoning_open = (data[1] & 1) != 0;
  ink::ChatOutputParser parser(Formats()[data[0] % kMarkers.size()], options);
  const size_t piece = 1 + (data[1] >> 1) % 16;
  int open = 0;
  const auto check = [&open](const std::vector<ink::ChatEvent>& events) {
    for (const ink::ChatEvent& event : events) {
      if (event.kind == ink::ChatEvent::Kind::kToolCallStart) ++open;
      if (event.kind == ink::ChatEvent::Kind::kToolCallEnd) --open;
      if (open < 0 || open > 1) std::abort();
    }
  };
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  for (size_t at = 0; at < text.size(); at += piece) check(parser.Feed(text.substr(at, piece)));
  check(parser.Finish());
  if (open != 0) std::abort();
  return 0;
}
