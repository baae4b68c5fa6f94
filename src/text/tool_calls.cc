#include "text/tool_calls.h"

#include <algorithm>
#include <utility>

#include "text/tool_readers.h"

namespace ink {

using tool_calls::Emitter;
using tool_calls::FindMarker;
using tool_calls::Json;
using tool_calls::JsonSpan;
using tool_calls::Outcome;
using tool_calls::Progress;
using tool_calls::Reader;
using tool_calls::SkipBlanks;
using tool_calls::ToolSchemas;

namespace {

// Bytes at the end of `text` that begin a code point without completing it.
size_t IncompleteTail(std::string_view text) {
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;
    const size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
    return length > back ? back : 0;
  }
  return 0;
}

}  // namespace

class ChatOutputParser::Impl {
 public:
  Impl(ChatOutputFormat format, const ChatOutputOptions& options)
      : format_(std::move(format)),
        schemas_(options.tools),
        tools_(!schemas_.empty() && format_.style != ToolCallStyle::kNone),
        reasoning_(options.parse_reasoning && !format_.reasoning_open.empty()) {
    if (format_.style == ToolCallStyle::kChannels) {
      mode_ = Mode::kHeader;
    } else if (reasoning_ && options.reasoning_open) {
      mode_ = Mode::kReasoning;
      strip_blanks_ = true;
    }
    buffer_ = format_.implied_start;
    if (tools_) {
      for (const std::string& opener : format_.openers) markers_.push_back({opener, Action::kTool});
    }
    if (reasoning_) markers_.push_back({format_.reasoning_open, Action::kReasoning});
    for (const std::string& marker : format_.dropped) markers_.push_back({marker, Action::kDrop});
    // Where one marker begins another the longer one is meant.
    std::stable_sort(markers_.begin(), markers_.end(), [](const Marker& a, const Marker& b) {
      return a.text.size() > b.text.size();
    });
  }

  std::vector<ChatEvent> Feed(std::string_view piece) {
    buffer_ += piece;
    const size_t tail = IncompleteTail(buffer_);
    const std::string held = buffer_.substr(buffer_.size() - tail);
    buffer_.resize(buffer_.size() - tail);
    Run(false);
    buffer_ += held;
    return out_.Take();
  }

  std::vector<ChatEvent> Finish() {
    Run(true);
    if (mode_ == Mode::kContent) FlushBlanks();
    out_.End();
    return out_.Take();
  }

  int tool_calls() const { return out_.started(); }

 private:
  enum class Mode {
    kContent,
    kReasoning,
    kTool,    // reader_ reads
    kHeader,  // channels: before <|message|>
    kBody,    // channels: behind it
  };
  enum class Action { kTool, kReasoning, kDrop };
  struct Marker {
    std::string text;
    Action action;
  };

  void Run(bool final) {
    while (true) {
      bool more = false;
      switch (mode_) {
        case Mode::kContent:
          more = RunContent(final);
          break;
        case Mode::kReasoning:
          more = RunReasoning(final);
          break;
        case Mode::kTool:
          more = RunTool(final);
          break;
        case Mode::kHeader:
          more = RunHeader(final);
          break;
        case Mode::kBody:
          more = RunBody(final);
          break;
      }
      if (!more) return;
    }
  }

  // Reports answer or reasoning. Blanks at its end are held: before a marker they are layout.
  void Text(std::string_view text, bool reasoning) {
    if (strip_blanks_) text.remove_prefix(SkipBlanks(text));
    if (text.empty()) return;
    strip_blanks_ = false;
    const size_t last = text.find_last_not_of(" \t\r\n");
    const size_t solid = last == std::string_view::npos ? 0 : last + 1;
    if (solid > 0) {
      std::string whole = std::exchange(blanks_, "");
      whole += text.substr(0, solid);
      if (reasoning) {
        out_.Reasoning(whole);
      } else {
        out_.Content(whole);
        at_start_ = false;
      }
    }
    blanks_ += text.substr(solid);
  }

  void FlushBlanks() { out_.Content(std::exchange(blanks_, "")); }

  void Consume(size_t count) { buffer_.erase(0, count); }

  // The first marker in the buffer: its position, and which (null if it may only begin there).
  size_t FirstMarker(bool final, const Marker** found) const {
    size_t first = buffer_.size();
    *found = nullptr;
    for (const Marker& marker : markers_) {
      bool whole = false;
      const size_t at = FindMarker(buffer_, marker.text, final, &whole);
      // At one place a whole marker wins only over shorter ones: a longer one may still come.
      if (at < first) {
        first = at;
        *found = whole ? &marker : nullptr;
      }
    }
    return first;
  }

  // Whether the message so far may be a bare call: nothing but blanks before a bracket.
  bool BareCallBegins(size_t* at) const {
    if (!tools_ || !format_.bare_json || !at_start_) return false;
    *at = SkipBlanks(buffer_);
    return *at < buffer_.size() && (buffer_[*at] == '{' || buffer_[*at] == '[');
  }

  bool RunContent(bool final) {
    if (buffer_.empty()) return false;
    size_t bare = 0;
    if (BareCallBegins(&bare)) {
      // Blanks before a bare call are held with the text it may turn out to be.
      BeginTool(bare, true);
      return true;
    }
    const Marker* found = nullptr;
    const size_t at = FirstMarker(final, &found);
    Text(std::string_view(buffer_).substr(0, at), false);
    if (found == nullptr) {
      Consume(at);
      return false;
    }
    const Marker& marker = *found;
    switch (marker.action) {
      case Action::kTool:
        Consume(at);
        // Where the opening marker is a part of the call itself, the reader wants to see it.
        BeginTool(marker.text == format_.function_open ? 0 : marker.text.size(), false);
        break;
      case Action::kReasoning:
        Consume(at + marker.text.size());
        mode_ = Mode::kReasoning;
        blanks_.clear();
        strip_blanks_ = true;
        break;
      case Action::kDrop:
        Consume(at + marker.text.size());
        blanks_.clear();
        strip_blanks_ = true;
        break;
    }
    return true;
  }

  bool RunReasoning(bool final) {
    bool whole = false;
    const size_t at = FindMarker(buffer_, format_.reasoning_close, final, &whole);
    Text(std::string_view(buffer_).substr(0, at), true);
    Consume(whole ? at + format_.reasoning_close.size() : at);
    if (!whole) return false;
    mode_ = Mode::kContent;
    blanks_.clear();
    strip_blanks_ = true;
    return true;
  }

  // Starts a reader behind the first `opening` bytes of the buffer, which are text again if the
  // section turns out to be none.
  void BeginTool(size_t opening, bool bare) {
    raw_ = buffer_.substr(0, opening);
    Consume(opening);
    calls_before_ = out_.started();
    reader_ = tool_calls::MakeReader(format_, schemas_, bare);
    bare_ = bare;
    mode_ = Mode::kTool;
  }

  bool RunTool(bool final) {
    const Progress progress = reader_->Read(buffer_, final, &out_);
    if (out_.started() == calls_before_) raw_ += buffer_.substr(0, progress.consumed);
    Consume(progress.consumed);
    // The blanks held before a section go once it has proved to be one.
    if (out_.started() > calls_before_) blanks_.clear();
    if (progress.outcome == Outcome::kMore) return false;
    reader_.reset();
    mode_ = Mode::kContent;
    if (progress.outcome == Outcome::kDone) {
      strip_blanks_ = true;
      return true;
    }
    // Text after all. Of a bare one no further byte may begin a call; behind a marker the rest is
    // looked at again.
    at_start_ = false;
    if (bare_ || raw_.empty()) {
      Text(std::exchange(raw_, ""), false);
      if (!buffer_.empty() && bare_) return true;
      if (!buffer_.empty()) {
        // The marker itself is still in the buffer: step over its first byte.
        const size_t step = format_.function_open.size();
        Text(std::string_view(buffer_).substr(0, std::min(step, buffer_.size())), false);
        Consume(std::min(step, buffer_.size()));
      }
      return true;
    }
    Text(std::exchange(raw_, ""), false);
    return true;
  }

  // Channels (gpt-oss): [<|start|>assistant] [to=recipient] <|channel|>name [to=recipient] [type]
  // <|message|> text <|end|> | <|call|> | <|return|> ---------------------------------------------

  bool RunHeader(bool final) {
    static constexpr std::string_view kMessage = "<|message|>";
    const size_t end = buffer_.find(kMessage);
    if (end == std::string::npos) {
      // Text that begins like no header is an answer without one.
      const size_t start = SkipBlanks(buffer_);
      const std::string_view rest = std::string_view(buffer_).substr(start);
      const auto may_be = [&](std::string_view head) {
        return rest.starts_with(head) || head.starts_with(rest);
      };
      constexpr size_t kMaxHeader = 256;
      const bool header = rest.size() <= kMaxHeader &&
                          (may_be("<|channel|>") || may_be("to=") || may_be("<|start|>") ||
                           may_be("assistant") || may_be("<|end|>") || may_be("<|return|>"));
      if (header && !final) return false;
      if (header && rest.starts_with("<|")) {
        Consume(buffer_.size());
        return false;
      }
      OpenBody("final", "");
      return !buffer_.empty();
    }
    const std::string header = buffer_.substr(0, end);
    Consume(end + kMessage.size());
    std::string channel = "final";
    if (const size_t at = header.find("<|channel|>"); at != std::string::npos) {
      const size_t start = SkipBlanks(header, at + 11);
      channel = header.substr(start, header.find_first_of(" <\n", start) - start);
    }
    std::string recipient;
    if (const size_t at = header.find("to="); at != std::string::npos) {
      recipient = header.substr(at + 3, header.find_first_of(" <\n", at) - at - 3);
    }
    OpenBody(channel, recipient);
    return true;
  }

  void OpenBody(const std::string& channel, std::string recipient) {
    mode_ = Mode::kBody;
    blanks_.clear();
    strip_blanks_ = out_.started() > 0 || !at_start_;
    reasoning_channel_ = channel == "analysis" && reasoning_;
    calling_ = tools_ && !recipient.empty() && recipient != "assistant" && recipient != "all";
    if (!calling_) return;
    if (recipient.starts_with("functions.")) recipient.erase(0, 10);
    out_.Start(recipient, "");
  }

  bool RunBody(bool final) {
    static constexpr std::string_view kEnds[] = {"<|end|>", "<|call|>", "<|return|>", "<|start|>"};
    size_t first = buffer_.size();
    size_t length = 0;
    for (const std::string_view marker : kEnds) {
      bool whole = false;
      const size_t at = FindMarker(buffer_, marker, final, &whole);
      if (at < first) {
        first = at;
        length = whole ? marker.size() : 0;
      }
    }
    const std::string_view text = std::string_view(buffer_).substr(0, first);
    if (calling_) {
      out_.Arguments(text);
    } else {
      Text(text, reasoning_channel_);
    }
    Consume(first + length);
    if (length == 0) return false;
    if (calling_) out_.End();
    calling_ = false;
    blanks_.clear();
    mode_ = Mode::kHeader;
    return true;
  }

  const ChatOutputFormat format_;
  const ToolSchemas schemas_;
  const bool tools_;
  const bool reasoning_;
  std::vector<Marker> markers_;

  Mode mode_ = Mode::kContent;
  Emitter out_;
  std::string buffer_;         // text not yet understood
  std::string blanks_;         // at the end of what was reported, not reported yet
  bool strip_blanks_ = false;  // blanks here are layout
  bool at_start_ = true;       // no answer has been reported
  // kTool
  std::unique_ptr<Reader> reader_;
  std::string raw_;  // the section's text until it has proved to be one
  int calls_before_ = 0;
  bool bare_ = false;
  // kBody
  bool reasoning_channel_ = false;
  bool calling_ = false;
};

ChatOutputParser::ChatOutputParser(ChatOutputFormat format, const ChatOutputOptions& options)
    : impl_(std::make_unique<Impl>(std::move(format), options)) {}
ChatOutputParser::~ChatOutputParser() = default;
ChatOutputParser::ChatOutputParser(ChatOutputParser&&) noexcept = default;
ChatOutputParser& ChatOutputParser::operator=(ChatOutputParser&&) noexcept = default;

std::vector<ChatEvent> ChatOutputParser::Feed(std::string_view piece) { return impl_->Feed(piece); }
std::vector<ChatEvent> ChatOutputParser::Finish() { return impl_->Finish(); }
int ChatOutputParser::tool_calls() const { return impl_->tool_calls(); }

}  // namespace ink
