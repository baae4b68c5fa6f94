// Streams a continuation with the C++ library.   generate MODEL.gguf "Once upon a time"
#include <cstdio>

#include "inkstone/inkstone.hpp"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: generate MODEL PROMPT\n");
    return 2;
  }
  std::string error;
  auto session = inkstone::Session::Open({.path = argv[1]}, &error);
  if (session == nullptr) {
    std::fprintf(stderr, "%s\n", error.c_str());
    return 1;
  }
  inkstone::GenerateOptions options;
  options.max_tokens = 128;
  options.temperature = 0.8;
  options.top_k = 40;
  auto result = session->Generate(
      argv[2], options,
      [](std::string_view text) {
        std::fwrite(text.data(), 1, text.size(), stdout);
        return std::fflush(stdout) == 0;
      },
      &error);
  if (!result) {
    std::fprintf(stderr, "%s\n", error.c_str());
    return 1;
  }
  std::printf("\n%lld tokens in, %zu out, %.1f tokens/s\n",
              static_cast<long long>(result->prompt_tokens), result->tokens.size(),
              static_cast<double>(result->tokens.size()) / (result->decode_seconds + 1e-9));
  return 0;
}
