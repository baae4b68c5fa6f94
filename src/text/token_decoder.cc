#include "text/token_decoder.h"

#include <array>
#include <memory>
#include <utility>

#include "text/split_regex.h"
#include "text/unicode.h"

namespace ink {
namespace {

using Kind = DecoderStep::Kind;

void ReplaceAll(std::string_view from, std::string_view to, std::string* text) {
  if (from.empty()) return;
  for (size_t i = text->find(from); i != std::string::npos; i = text->find(from, i + to.size())) {
    text->replace(i, from.size(), to);
  }
}

// Hugging Face's clean-up of tokenization artefacts.
void CleanUp(std::string* text) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kRules = {
      {{" .", "."},
       {" ?", "?"},
       {" !", "!"},
       {" ,", ","},
       {" ' ", "'"},
       {" n't", "n't"},
       {" 'm", "'m"},
       {" do not", " don't"},
       {" 's", "'s"},
       {" 've", "'ve"},
       {" 're", "'re"}}};
  for (const auto& [from, to] : kRules) ReplaceAll(from, to, text);
}

class Decoder {
 public:
  Status Build(const std::vector<DecoderStep>& steps, DecodeTable* table) {
    bool fused = false;
    for (const DecoderStep& step : steps) {
      if (step.kind == Kind::kFuse) {
        fused = true;
        continue;
      }
      if (step.kind == Kind::kStrip && fused) {
        if (step.content != " " || step.stop != 0) {
          return Unsupported("decoder Strip behind Fuse with content \"" + step.content +
                             "\" and stop " + std::to_string(step.stop) +
                             ", only leading spaces are supported there");
        }
        if (step.start > 0) {
          table->leading_space =
              step.start == 1 ? LeadingSpace::kStripOne : LeadingSpace::kStripAll;
        }
        continue;
      }
      if (step.kind == Kind::kWordPiece) table->leading_space = LeadingSpace::kStripOne;
      if (step.kind == Kind::kMetaspace && step.prepend != PrependScheme::kNever) {
        table->leading_space = LeadingSpace::kStripAll;
      }
      if (step.kind == Kind::kBpe) table->drops_final_space = true;
      Compiled compiled{.step = step};
      if (step.kind == Kind::kReplace && step.pattern_is_regex) {
        INK_ASSIGN_OR_RETURN(SplitRegex regex, SplitRegex::Compile(step.pattern));
        compiled.regex = std::make_unique<SplitRegex>(std::move(regex));
      }
      steps_.push_back(std::move(compiled));
    }
    return OkStatus();
  }

  std::string Apply(std::string text) const {
    for (const Compiled& compiled : steps_) ApplyStep(compiled, &text);
    return text;
  }

 private:
  struct Compiled {
    DecoderStep step;
    std::unique_ptr<SplitRegex> regex;
  };

  static void ApplyStep(const Compiled& compiled, std::string* text) {
    const DecoderStep& step = compiled.step;
    switch (step.kind) {
      case Kind::kByteLevel: {
        std::string bytes;
        if (PrintableToBytes(*text, &bytes)) *text = std::move(bytes);
        return;
      }
      case Kind::kWordPiece:
        if (text->starts_with(step.content)) {
          text->erase(0, step.content.size());
        } else {
          *text = " " + *text;
        }
        if (step.cleanup) CleanUp(text);
        return;
      case Kind::kMetaspace:
        ReplaceAll(step.content, " ", text);
        return;
      case Kind::kBpe:
        ReplaceAll(step.content, " ", text);
        return;
      case Kind::kByteFallback: {
        const int byte = ParseByteToken(*text);
        if (byte >= 0) *text = static_cast<char>(byte);
        return;
      }
      case Kind::kFuse:
        return;
      case Kind::kStrip:
        for (int32_t i = 0; i < step.start && text->starts_with(step.content); ++i) {
          text->erase(0, step.content.size());
        }
        for (int32_t i = 0; i < step.stop && text->ends_with(step.content); ++i) {
          text->erase(text->size() - step.content.size());
        }
        return;
      case Kind::kReplace: {
        if (compiled.regex == nullptr) {
          ReplaceAll(step.pattern, step.content, text);
          return;
        }
        if (!IsValidUtf8(*text)) return;
        std::vector<Span> matches;
        compiled.regex->FindAll(*text, &matches);
        for (auto it = matches.rbegin(); it != matches.rend(); ++it) {
          text->replace(it->begin, it->end - it->begin, step.content);
        }
        return;
      }
    }
  }

  std::vector<Compiled> steps_;
};

}  // namespace

Result<DecodeTable> MakeDecodeTable(const TokenizerSpec& spec) {
  DecodeTable table;
  Decoder decoder;
  INK_RETURN_IF_ERROR(decoder.Build(spec.decoder, &table));
  std::vector<bool> verbatim(spec.tokens.size());
  if (spec.added_decode_verbatim) {
    for (const AddedToken& token : spec.added) verbatim[token.id] = true;
  }
  table.offsets.reserve(spec.tokens.size() + 1);
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    table.offsets.push_back(static_cast<uint32_t>(table.bytes.size()));
    const std::string& text = spec.tokens[id].text;
    table.bytes += verbatim[id] ? text : decoder.Apply(text);
    if (table.bytes.size() >= size_t{1} << 32) {
      return Unsupported("a vocabulary whose tokens decode to 4 GiB of text or more");
    }
  }
  table.offsets.push_back(static_cast<uint32_t>(table.bytes.size()));
  return table;
}

}  // namespace ink
