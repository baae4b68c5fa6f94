#include "serve/output_parser.h"

#include <algorithm>

#include "serve/ids.h"

namespace ink {
namespace {

// Length of the longest end of `text` that `mark` starts with, the whole mark excepted.
size_t PartialEnd(std::string_view text, std::string_view mark) {
  if (mark.empty()) return 0;
  for (size_t n = std::min(text.size(), mark.size() - 1); n > 0; --n) {
    if (text.substr(text.size() - n) == mark.substr(0, n)) return n;
  }
  return 0;
}

bool IsBlank(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

}  // namespace

OutputParser::OutputParser(const OutputOptions& options)
    : options_(options),
      mode_(options.starts_in_reasoning ? Mode::kReasoning : Mode::kStart),
      skip_blank_(options.starts_in_reasoning) {}

ParsedText OutputParser::Add(std::string_view text) {
  ParsedText out;
  if (options_.reasoning_begin.empty() && !options_.tools) {
    out.text = text;
    return out;
  }
  pending_ += text;
  Advance(false, &out);
  return out;
}

ParsedText OutputParser::Flush() {
  ParsedText out;
  Advance(true, &out);
  return out;
}

void OutputParser::Advance(bool final, ParsedText* out) {
  while (!pending_.empty() || (final && mode_ == Mode::kTool)) {
    if (skip_blank_) {
      size_t n = 0;
      while (n < pending_.size() && IsBlank(pending_[n])) ++n;
      pending_.erase(0, n);
      if (pending_.empty() && !(final && mode_ == Mode::kTool)) return;
      skip_blank_ = false;
    }
    switch (mode_) {
      case Mode::kStart: {
        // Only the first text that is not white space decides what this is.
        size_t blank = 0;
        while (blank < pending_.size() && IsBlank(pending_[blank])) ++blank;
        const std::string_view rest = std::string_view(pending_).substr(blank);
        const std::string_view mark = options_.reasoning_begin;
        if (!mark.empty() && rest.starts_with(mark)) {
          pending_.erase(0, blank + mark.size());
          mode_ = Mode::kReasoning;
          skip_blank_ = true;
          continue;
        }
        if (!final && (rest.empty() || (!mark.empty() && mark.starts_with(rest)))) return;
        if (options_.tools && options_.tool_begin.empty() && rest.starts_with("{")) {
          mode_ = Mode::kMaybeJson;
          continue;
        }
        mode_ = Mode::kAnswer;
        continue;
      }
      case Mode::kReasoning: {
        const size_t end = pending_.find(options_.reasoning_end);
        if (end != std::string::npos) {
          size_t keep = end;
          while (keep > 0 && IsBlank(pending_[keep - 1])) --keep;
          out->reasoning.append(pending_, 0, keep);
          pending_.erase(0, end + options_.reasoning_end.size());
          mode_ = options_.tools && options_.tool_begin.empty() ? Mode::kStart : Mode::kAnswer;
          skip_blank_ = true;
          continue;
        }
        size_t hold = final ? 0 : PartialEnd(pending_, options_.reasoning_end);
        // White space before the end mark is the mark's.
        while (!final && hold < pending_.size() && IsBlank(pending_[pending_.size() - hold - 1])) {
          ++hold;
        }
        out->reasoning.append(pending_, 0, pending_.size() - hold);
        pending_.erase(0, pending_.size() - hold);
        return;
      }
      case Mode::kAnswer: {
        const std::string_view mark = options_.tools ? options_.tool_begin : std::string_view();
        const size_t begin = mark.empty() ? std::string::npos : pending_.find(mark);
        if (begin != std::string::npos) {
          size_t keep = begin;
          while (keep > 0 && IsBlank(pending_[keep - 1])) --keep;
          out->text.append(pending_, 0, keep);
          pending_.erase(0, begin + mark.size());
          mode_ = Mode::kTool;
          continue;
        }
        size_t hold = final ? 0 : PartialEnd(pending_, mark);
        while (!final && !mark.empty() && hold < pending_.size() &&
               IsBlank(pending_[pending_.size() - hold - 1])) {
          ++hold;
        }
        out->text.append(pending_, 0, pending_.size() - hold);
        pending_.erase(0, pending_.size() - hold);
        return;
      }
      case Mode::kTool: {
        const size_t end =
            options_.tool_end.empty() ? std::string::npos : pending_.find(options_.tool_end);
        if (end == std::string::npos && !final) return;
        const std::string inner = pending_.substr(0, end);
        // What is no call is shown as it came: nothing a model said is lost.
        if (!TakeCalls(inner, out)) out->text += options_.tool_begin + inner;
        pending_.erase(0, end == std::string::npos ? end : end + options_.tool_end.size());
        mode_ = Mode::kAnswer;
        skip_blank_ = true;
        if (final && pending_.empty()) return;
        continue;
      }
      case Mode::kMaybeJson:
        if (!final) return;
        if (!TakeCalls(pending_, out)) out->text += pending_;
        pending_.clear();
        return;
    }
  }
}

bool OutputParser::TakeCalls(std::string_view text, ParsedText* out) {
  Json value;
  if (text.size() > (size_t{1} << 20)) return false;
  auto one = ParseJsonBody(text);
  if (one.ok()) {
    value = std::move(one).value();
  } else {
    auto list = ParseJsonBody("{\"calls\":" + std::string(text) + "}");
    if (!list.ok()) return false;
    value = list->at("calls");
  }
  auto is_call = [&](const Json& call) {
    if (!call.is_object() || !call.contains("name") || !call["name"].is_string()) return false;
    const auto& names = options_.tool_names;
    return std::find(names.begin(), names.end(), call["name"].get<std::string>()) != names.end();
  };
  if (value.is_array()) {
    if (value.empty() || !std::all_of(value.begin(), value.end(), is_call)) return false;
    for (const Json& call : value) AddCall(call, out);
    return true;
  }
  if (!is_call(value)) return false;
  AddCall(value, out);
  return true;
}

void OutputParser::AddCall(const Json& call, ParsedText* out) {
  ToolCall made;
  made.id = "call_" + RandomHex(12);
  made.name = call["name"].get<std::string>();
  auto arguments = call.find("arguments");
  if (arguments == call.end()) arguments = call.find("parameters");
  if (arguments == call.end()) {
    made.arguments = "{}";
  } else {
    made.arguments = arguments->is_string() ? arguments->get<std::string>() : DumpJson(*arguments);
  }
  out->tool_calls.push_back({static_cast<int>(calls_.size()), made.id, made.name, made.arguments});
  calls_.push_back(std::move(made));
}

OutputOptions DetectOutputOptions(std::string_view chat_template, std::string_view prompt,
                                  const Json& tools) {
  OutputOptions options;
  if (chat_template.find("<think>") != std::string_view::npos) {
    options.reasoning_begin = "<think>";
    options.reasoning_end = "</think>";
    size_t end = prompt.size();
    while (end > 0 && IsBlank(prompt[end - 1])) --end;
    options.starts_in_reasoning = prompt.substr(0, end).ends_with("<think>");
  }
  if (tools.is_array() && !tools.empty()) {
    options.tools = true;
    if (chat_template.find("[TOOL_CALLS]") != std::string_view::npos) {
      options.tool_begin = "[TOOL_CALLS]";
    } else if (chat_template.find("<tool_call>") != std::string_view::npos) {
      options.tool_begin = "<tool_call>";
      options.tool_end = "</tool_call>";
    }
    for (const Json& tool : tools) {
      if (tool.is_object() && tool.contains("function")) {
        options.tool_names.push_back(tool["function"].value("name", ""));
      }
    }
  }
  return options;
}

}  // namespace ink
