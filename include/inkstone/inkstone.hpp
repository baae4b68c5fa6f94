// Inkstone as a C++ library: load a model, generate text, stream it. Self-contained: only the
// standard library is included. Errors are values; nothing throws, prints or exits.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace inkstone {

/// How to load a model. Zero and empty mean "choose".
struct ModelOptions {
  std::string path;          // GGUF file (or first shard) or Hugging Face folder
  int threads = 0;           // 0: one per core
  int64_t context = 0;       // tokens per sequence at most; 0: the model's own
  int sequences = 1;         // that may run at once
  std::string cache_type;    // "f16" (default), "f32", "bf16", "q8_0", "q4_0", or "K:V"
  std::string isa;           // "avx512", "avx2", "reference"; empty: the best one
  int64_t memory_bytes = 0;  // hard cap on the planned total; 0: none
  /// Low-rank adapters, "FILE" or "FILE:SCALE" (PEFT folders or GGUF files), applied in this order.
  std::vector<std::string> adapters;
};

/// What to generate. Defaults: greedy off, temperature 1, nothing cut.
struct GenerateOptions {
  int max_tokens = -1;       // -1: to the end of the context
  double temperature = 1.0;  // 0 is greedy
  int top_k = 0;             // 0: off
  double top_p = 1.0;        // over what top_k left
  double min_p = 0.0;
  double repetition_penalty = 1.0;
  uint64_t seed = 0;
  int beam_width = 0;  // > 0: beam search instead of sampling
  std::vector<std::string> stop;
  std::string json_schema;  // the text will validate against it
};

/// Why generation ended.
enum class Finish { kStop, kLength, kCancelled };

struct Generation {
  std::string text;
  std::vector<int32_t> tokens;
  Finish finish = Finish::kStop;
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // of the prompt, from the prefix cache
  double prefill_seconds = 0;
  double decode_seconds = 0;
};

/// Gets whole UTF-8 characters as they come; false stops the generation.
using TextFn = std::function<bool(std::string_view text)>;

/// A loaded model with its cache. Not thread-safe: one call at a time per object.
class Session {
 public:
  /// Null on failure, with one clear sentence in *error.
  static std::unique_ptr<Session> Open(const ModelOptions& options, std::string* error);
  ~Session();

  /// Continues `prompt`. Nothing on failure, with the reason in *error. Prefixes of earlier prompts
  /// are reused from the cache.
  std::optional<Generation> Generate(std::string_view prompt, const GenerateOptions& options,
                                     const TextFn& on_text, std::string* error);

  std::vector<int32_t> Tokenize(std::string_view text, bool add_special = false) const;
  std::string Detokenize(const std::vector<int32_t>& tokens) const;
  int64_t vocabulary_size() const;
  int64_t context_length() const;

  struct Impl;
  explicit Session(std::unique_ptr<Impl> impl);

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace inkstone
