#include "text/pre_tokenizer_table.h"

#include <algorithm>
#include <array>
#include <span>

#include "formats/quote.h"
#include "text/pre_tokenizer.h"

namespace ink {
namespace {

// Not regexes: rules that llama.cpp computes in code.
constexpr std::string_view kNumberGroups = "<numbers in threes from the right>";
constexpr std::string_view kAsciiDigitGroups = "<ASCII digits in threes from the right>";

constexpr std::string_view kContractions =
    "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
// The same as tokenizer.json files write it. (They also match U+017F, the long s, for s.)
constexpr std::string_view kContractionsIgnoringCase = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";

using Rules = std::vector<std::string>;

std::string Llama3(std::string_view numbers, std::string_view whitespace = R"(\s+(?!\S)|\s+)") {
  return std::string(kContractions) + R"(|[^\r\n\p{L}\p{N}]?\p{L}+|)" + std::string(numbers) +
         R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|)" + std::string(whitespace);
}

// Words with a change from small to capital letters inside are cut there. `upper` and `lower` are
// the classes of letters that may stand on the left and on the right; `tail` may follow a word.
std::string CaseWords(std::string_view upper, std::string_view lower, std::string_view tail,
                      std::string_view numbers) {
  const std::string u(upper), l(lower), t(tail);
  const std::string first = R"([^\r\n\p{L}\p{N}]?)";
  return first + u + "*" + l + "+" + t + "|" + first + u + "+" + l + "*" + t + "|" +
         std::string(numbers) + R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
}

// Letters without the ASCII small (capital) ones.
constexpr std::string_view kNotAsciiLower = R"([^\P{L}a-z])";
constexpr std::string_view kNotAsciiUpper = R"([^\P{L}A-Z])";
constexpr std::string_view kMarkOrNotAsciiLower = R"([\p{M}[^\P{L}a-z]])";
constexpr std::string_view kMarkOrNotAsciiUpper = R"([\p{M}[^\P{L}A-Z]])";
constexpr std::string_view kLetterOrMark = R"([\p{L}\p{M}])";

constexpr std::string_view kHan =
    R"(\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{20000}-\x{2A6DF}\x{2A700}-\x{2EBEF})"
    R"(\x{F900}-\x{FAFF}\x{2F800}-\x{2FA1F})";

// Punctuation and symbols, but not ~, which llama.cpp leaves out here; and the complement of these,
// letters and line ends.
constexpr std::string_view kMarksAndSymbols = R"([^~\p{L}\p{M}\p{N}\p{Z}\p{C}])";
constexpr std::string_view kNeither =
    R"([~\p{M}\p{N}\p{Z}\p{Cf}\p{Co}\p{Cs}\p{Cn}\x{0}-\x{9}\x{B}\x{C}\x{E}-\x{1F}\x{7F}-\x{9F}])";

const std::string& DeepSeek3() {
  static const std::string rule = R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|)" +
                                  std::string(kNeither) + R"(?[\p{L}\p{M}]+| ?)" +
                                  std::string(kMarksAndSymbols) +
                                  R"(+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  return rule;
}

// Ranges with the white space that lies in them left out: llama.cpp does not see it there.
constexpr std::string_view kDeepSeekPunctuation = R"(\s?[!-/:-~！-／：-～‘-‟\x{3001}\x{3002}]+)";
constexpr std::string_view kDeepSeekCjk =
    R"([一-龥\x{800}-\x{167F}\x{1681}-\x{1FFF}\x{200B}-\x{2027}\x{202A}-\x{202E})"
    R"(\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{4E00}가-\x{D7FF}]+)";
constexpr std::string_view kDeepSeekLetters =
    R"(\s?[A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-)"
    R"(\x{293}\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386})"
    R"(\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F})"
    R"(\x{531}-\x{556}\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA})"
    R"(\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-)"
    R"(\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59})"
    R"(\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-)"
    R"(\x{1FC4}\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC})"
    R"(\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-)"
    R"(\x{211D}\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-)"
    R"(\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4})"
    R"(\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F})"
    R"(\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-)"
    R"(\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3})"
    R"(\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF})"
    R"(\x{1E900}-\x{1E943}]+)";
constexpr std::string_view kBloom = R"( ?[^(\s|.,!?…。，、।۔،)]+)";
constexpr std::string_view kLines = R"([^\n]+|[\n]+)";

// The trailing run that reaches the end; from its first character on, so that a long run which does
// not is looked at once and not once for each of its characters.
constexpr std::string_view kFinalSpace = R"((?<!\s)\s++$)";

enum Flag : unsigned {
  kNone = 0,
  kIgnoreMerges = 1,
  kAddBos = 2,
  kCharacters = 4,
  kNewlineRuns = 8,
};

struct Row {
  std::vector<std::string_view> names;
  Rules rules;
  unsigned flags = kNone;
};

// In each row the first name is the one that is written. Rows with equal rules and flags differ
// only for llama.cpp's own purposes.
const std::vector<Row>& Rows() {
  static const std::string llama3 = Llama3(R"(\p{N}{1,3})");
  static const std::string qwen2 = Llama3(R"(\p{N})");
  static const std::string gpt2(kGpt2Regex);
  static const std::vector<Row> rows = {
      {{"default"}, {R"([\p{P}\$\+<=>\^~\|]+)", gpt2, R"(\p{N}+)", "[0-9][0-9][0-9]"}, kNone},
      {{"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
        "jina-v5-nano"},
       {llama3},
       kIgnoreMerges | kAddBos},
      {{"dbrx", "smaug-bpe", "glm4", "chatglm-bpe"}, {llama3}, kNone},
      {{"qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "stablelm2", "megrez", "hunyuan",
        "solar-open", "grok-2"},
       {qwen2},
       kNone},
      {{"qwen35"},
       {std::string(kContractions) +
        R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+)"
        R"(|\s+(?!\S)|\s+)"},
       kNone},
      {{"gpt-2", "phi-2", "jina-es", "jina-de", "gigachat", "jina-v2-es", "jina-v2-de", "a.x-4.0",
        "mellum", "modern-bert", "jina-v1-en", "jina-v2-code", "roberta-bpe", "mpt", "olmo", "jais",
        "trillion", "granite-docling", "exaone4"},
       {gpt2},
       kNone},
      {{"starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b",
        "mellum2"},
       {R"(\p{N})", gpt2},
       kNone},
      {{"falcon"}, {R"([\p{P}\$\+<=>\^~\|`]+)", gpt2, "[0-9][0-9][0-9]"}, kNone},
      {{"deepseek-llm"},
       {"[\r\n]", std::string(kDeepSeekLetters), std::string(kDeepSeekPunctuation),
        std::string(kFinalSpace), std::string(kDeepSeekCjk), R"(\p{N}+)"},
       kNone},
      {{"deepseek-coder"},
       {"[\r\n]", R"(\s?\p{L}+)", R"(\s?\p{P}+)", std::string(kDeepSeekCjk), R"(\p{N})"},
       kNone},
      {{"deepseek-v3", "hunyuan-dense", "joyai-llm"},
       {R"(\p{N}{1,3})", "[一-龥぀-ゟ゠-ヿ]+", DeepSeek3()},
       kNone},
      {{"gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"},
       {CaseWords(kNotAsciiLower, kNotAsciiUpper, std::string(kContractions) + "?",
                  R"(\p{N}{1,3})")},
       kNone},
      {{"granite-embed-multi-97m"},
       {CaseWords(kMarkOrNotAsciiLower, kMarkOrNotAsciiUpper, std::string(kContractions) + "?",
                  R"(\p{N}{1,3})")},
       kIgnoreMerges},
      {{"tekken"},
       {CaseWords(kNotAsciiLower, kNotAsciiUpper, "", R"(\p{N})")},
       kIgnoreMerges | kAddBos},
      {{"tiny_aya", "cohere2moe"},
       {std::string(kNumberGroups),
        CaseWords(kLetterOrMark, kLetterOrMark, std::string(kContractions) + "?", R"(\p{N}{1,3})")},
       kNone},
      {{"youtu"},
       {"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-"
        "ゟ゠-"
        "ヿ]"
        "+",
        CaseWords(kLetterOrMark, kLetterOrMark, std::string(kContractions) + "?", R"(\p{N})")},
       kIgnoreMerges},
      {{"kimi-k2"},
       {"[" + std::string(kHan) + R"(]+|[^\r\n\p{L}\p{N}]?[^\P{L})" + std::string(kHan) + "]+" +
        std::string(kContractions) +
        R"(?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
       kNone},
      {{"superbpe"}, {R"(\p{N}+)", std::string(kAsciiDigitGroups)}, kNone},
      {{"bailingmoe", "bailingmoe2", "llada-moe"},
       {R"('(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})"
        R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)"},
       kNone},
      {{"seed-coder"},
       {std::string(kContractions) +
        R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)"},
       kNone},
      {{"afmoe"},
       {std::string(kNumberGroups),
        "[一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-"
        "꧿가-"
        "힯ᄀ-"
        "ᇿ]"
        "+",
        DeepSeek3()},
       kNone},
      {{"laguna"}, {std::string(kLines), qwen2}, kNone},
      {{"exaone-moe"},
       {std::string(kContractions) +
        R"(|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?)"
        R"(|\s*[\r\n]|\s+(?!\S)|\s+)"},
       kNone},
      {{"minicpm5"}, {R"(\p{N}{1,3})", Llama3(R"(\p{N}+)")}, kIgnoreMerges},
      {{"jais-2"},
       {Llama3(R"(\p{N}{1,3})",
               R"(\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S))"
               R"(|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1})")},
       kNone},
      {{"poro-chat", "bloom", "gpt3-finnish"}, {std::string(kBloom)}, kNone},
      {{"viking"}, {std::string(kBloom), R"(\p{N})"}, kNone},
      {{"chameleon"},
       {"<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", "([\\t\\n]|    |  )",
        R"(\p{N})", R"([\p{P}!-/:-@\[-`{-~])", gpt2},
       kAddBos},
      {{"gemma4", "granite-embed-multi-311m"},
       {std::string(kLines)},
       kCharacters | kNewlineRuns | kAddBos},
      {{"sarvam-moe"}, {std::string(kLines)}, kCharacters},
  };
  return rows;
}

PreTokenizerInfo MakeInfo(const Row& row) {
  PreTokenizerInfo info;
  for (const std::string& rule : row.rules) {
    PreTokenizerStep step;
    if (rule == kNumberGroups || rule == kAsciiDigitGroups) {
      step.kind = PreTokenizerStep::Kind::kDigitGroups;
      step.digits = rule == kNumberGroups ? PreTokenizerStep::DigitKind::kNumberClass
                                          : PreTokenizerStep::DigitKind::kDecimalAscii;
    } else {
      step.pattern = rule;
    }
    info.steps.push_back(std::move(step));
  }
  info.byte_level = (row.flags & kCharacters) == 0;
  info.ignore_merges = (row.flags & kIgnoreMerges) != 0;
  info.add_bos = (row.flags & kAddBos) != 0;
  info.newline_runs_whole = (row.flags & kNewlineRuns) != 0;
  if (info.byte_level) {
    PreTokenizerStep bytes{.kind = PreTokenizerStep::Kind::kByteLevel};
    // ByteLevel brings GPT-2's rule itself.
    bytes.use_regex = row.rules.back() == kGpt2Regex;
    if (bytes.use_regex) info.steps.pop_back();
    info.steps.push_back(std::move(bytes));
  }
  return info;
}

// Two ways to write the same steps become one.
std::vector<PreTokenizerStep> Canonical(const std::vector<PreTokenizerStep>& steps) {
  using Kind = PreTokenizerStep::Kind;
  std::vector<PreTokenizerStep> out;
  const auto regex = [](std::string_view pattern) {
    PreTokenizerStep step;
    step.pattern = pattern;
    return step;
  };
  for (const PreTokenizerStep& step : steps) {
    if (step.kind == Kind::kDigits && step.individual_digits) {
      out.push_back(regex(R"(\p{N})"));
      continue;
    }
    if (step.kind == Kind::kByteLevel && step.use_regex && !step.add_prefix_space) {
      out.push_back(regex(kGpt2Regex));
      PreTokenizerStep bytes = step;
      bytes.use_regex = false;
      out.push_back(std::move(bytes));
      continue;
    }
    PreTokenizerStep copy = step;
    if (step.kind == Kind::kSplit && step.pattern_is_regex) {
      // Everything is a match in rules that end in |\s+, so what happens to the rest is the same.
      const bool covers_all = step.pattern.ends_with(R"(|\s+)");
      if (step.behavior == SplitBehavior::kRemoved && step.invert && covers_all) {
        copy.behavior = SplitBehavior::kIsolated;
        copy.invert = false;
      }
      const size_t at = copy.pattern.find(kContractionsIgnoringCase);
      if (at != std::string::npos) {
        copy.pattern.replace(at, kContractionsIgnoringCase.size(), kContractions);
      }
      if (copy.pattern == R"(\s+$)") copy.pattern = kFinalSpace;
    }
    out.push_back(std::move(copy));
  }
  return out;
}

}  // namespace

Result<PreTokenizerInfo> FindPreTokenizer(std::string_view name) {
  if (name.empty()) name = "default";
  for (const Row& row : Rows()) {
    if (std::find(row.names.begin(), row.names.end(), name) != row.names.end()) {
      return MakeInfo(row);
    }
  }
  return Unsupported("tokenizer.ggml.pre is " + Quoted(name) +
                     ", expected the name of a known pre-tokenizer such as \"llama-bpe\"");
}

std::string NameOfPreTokenizer(const TokenizerSpec& spec) {
  const std::vector<PreTokenizerStep> wanted = Canonical(spec.pre_tokenizer);
  for (const Row& row : Rows()) {
    const PreTokenizerInfo info = MakeInfo(row);
    if (info.ignore_merges != spec.model.ignore_merges ||
        info.newline_runs_whole != spec.model.newline_runs_whole) {
      continue;
    }
    if (Canonical(info.steps) != wanted) continue;
    const bool stated =
        std::find(row.names.begin(), row.names.end(), spec.pre_name) != row.names.end();
    return stated ? spec.pre_name : std::string(row.names.front());
  }
  return "";
}

std::string NearNameOfPreTokenizer(const TokenizerSpec& spec) {
  static constexpr std::string_view kCasePrefix =
      R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)";
  for (const PreTokenizerStep& step : spec.pre_tokenizer) {
    if (step.kind != PreTokenizerStep::Kind::kSplit || !step.pattern.starts_with(kCasePrefix)) {
      continue;
    }
    return step.pattern.find("(?i:") != std::string::npos ? "gpt-4o" : "tekken";
  }
  return "";
}

std::vector<std::string_view> PreTokenizerNames() {
  std::vector<std::string_view> names;
  for (const Row& row : Rows()) names.insert(names.end(), row.names.begin(), row.names.end());
  return names;
}

}  // namespace ink
