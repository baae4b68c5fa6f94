#include "text/split_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

#include "text/unicode.h"

namespace ink {
namespace {

// Bounds for hostile patterns: backtracking steps of one match, and the interpreter's memory.
constexpr uint32_t kMatchLimit = 10'000'000;
constexpr uint32_t kHeapLimitKib = 256 * 1024;

template <auto Free>
struct Deleter {
  template <typename T>
  void operator()(T* p) const {
    Free(p);
  }
};
using MatchData = std::unique_ptr<pcre2_match_data, Deleter<pcre2_match_data_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Deleter<pcre2_match_context_free>>;
using CompileContext = std::unique_ptr<pcre2_compile_context, Deleter<pcre2_compile_context_free>>;

}  // namespace

struct SplitRegex::Code {
  explicit Code(pcre2_code* c) : code(c) {}
  ~Code() { pcre2_code_free(code); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;

  pcre2_code* code;
  bool jit = false;
};

Result<SplitRegex> SplitRegex::Compile(std::string_view pattern) {
  INK_ASSIGN_OR_RETURN(const std::string translated, TranslateRegex(pattern));
  const CompileContext context(pcre2_compile_context_create(nullptr));
  if (context == nullptr) return OutOfMemory("no memory to compile a regex");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), 200);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &offset, context.get());
  if (code == nullptr) {
    std::array<PCRE2_UCHAR, 200> message{};
    pcre2_get_error_message(error, message.data(), message.size());
    return Unsupported("the regex " + std::string(pattern) +
                       " cannot be compiled: " + reinterpret_cast<const char*>(message.data()));
  }
  auto owned = std::make_shared<Code>(code);
  owned->jit = pcre2_jit_compile(code, PCRE2_JIT_COMPLETE) == 0;
  SplitRegex regex;
  regex.code_ = std::move(owned);
  return regex;
}

struct RegexMatcher::State {
  MatchData data;
  MatchContext context;  // only for the interpreter
};

RegexMatcher::RegexMatcher(const SplitRegex& regex)
    : code_(*regex.code_), state_(std::make_unique<State>()) {
  state_->data.reset(pcre2_match_data_create(1, nullptr));
}

RegexMatcher::~RegexMatcher() = default;

void SplitRegex::FindAll(std::string_view text, std::vector<Span>* matches) const {
  RegexMatcher(*this).FindAll(text, matches);
}

void RegexMatcher::FindAll(std::string_view text, std::vector<Span>* matches) {
  const MatchData& data = state_->data;
  MatchContext& context = state_->context;
  if (data == nullptr) return;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  static constexpr char kEmpty[] = "";
  if (subject == nullptr) subject = reinterpret_cast<PCRE2_SPTR>(kEmpty);

  const PCRE2_SIZE* ovector = pcre2_get_ovector_pointer(data.get());
  size_t pos = 0;
  size_t last_end = std::string_view::npos;
  while (pos <= text.size()) {
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    if (code_.jit) {
      rc = pcre2_jit_match(code_.code, subject, text.size(), pos, PCRE2_NO_UTF_CHECK, data.get(),
                           nullptr);
    }
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
      // Deep backtracking does not fit the JIT's 32 KiB; the interpreter's stack is on the heap.
      if (context == nullptr) {
        context.reset(pcre2_match_context_create(nullptr));
        if (context == nullptr) return;
        pcre2_set_match_limit(context.get(), kMatchLimit);
        pcre2_set_heap_limit(context.get(), kHeapLimitKib);
      }
      rc = pcre2_match(code_.code, subject, text.size(), pos, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                       data.get(), context.get());
    }
    if (rc < 0) return;  // no match, or a limit
    const Span span{ovector[0], ovector[1]};
    if (span.end < span.begin) return;  // \K in a look-ahead
    if (span.begin == span.end) {
      if (span.begin != last_end) matches->push_back(span);
      // Step over one character.
      const int length = Utf8Length(text.substr(span.end));
      pos = span.end + (length > 0 ? length : 1);
    } else {
      matches->push_back(span);
      pos = span.end;
    }
    last_end = span.end;
  }
}

}  // namespace ink
