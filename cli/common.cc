#include "common.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>

#include "command.h"

namespace ink::cli {
namespace {

Status OpenError(const std::string& path) {
  const int error = errno;
  const std::string message = "cannot open '" + path + "': " + std::strerror(error);
  return error == ENOENT ? NotFound(message) : IoError(message);
}

// Runs `use(stream)` on the file, or on standard input for "-".
template <typename Use>
Status WithInput(const std::string& path, Use use) {
  if (path == "-") return use(std::cin);
  std::ifstream file(path, std::ios::binary);
  if (!file) return OpenError(path);
  INK_RETURN_IF_ERROR(use(file));
  if (file.bad()) return IoError("reading '" + path + "' failed: " + std::strerror(errno));
  return OkStatus();
}

}  // namespace

void PrintError(std::string_view command, std::string_view message) {
  std::cerr << "inkstone " << command << ": " << message << "\n";
}

void PrintError(std::string_view command, const Status& status) {
  PrintError(command, status.message());
}

void PrintWarning(std::string_view command, std::string_view message) {
  std::cerr << "inkstone " << command << ": warning: " << message << "\n";
}

int Fail(std::string_view command, const Status& status) {
  PrintError(command, status);
  return status.code() == StatusCode::kInvalidArgument ? kExitUsage : kExitFailure;
}

Result<std::string> ReadTextFile(const std::string& path) {
  std::string text;
  INK_RETURN_IF_ERROR(WithInput(path, [&](std::istream& in) {
    // A directory opens as a file on Linux and fails on the first read only.
    char buffer[1 << 16];
    while (in.read(buffer, sizeof(buffer)) || in.gcount() > 0) {
      text.append(buffer, static_cast<size_t>(in.gcount()));
    }
    return in.bad() ? IoError("cannot read '" + path + "': " + std::strerror(errno)) : OkStatus();
  }));
  return text;
}

Status ForEachLine(const std::string& path,
                   const std::function<Status(std::string_view, int64_t)>& line) {
  return WithInput(path, [&](std::istream& in) {
    std::string text;
    for (int64_t number = 1; std::getline(in, text); ++number) {
      if (!text.empty() && text.back() == '\r') text.pop_back();
      if (text.find_first_not_of(" \t") == std::string::npos) continue;
      const Status status = line(text, number);
      if (!status.ok()) return status.WithContext(path + ":" + std::to_string(number));
    }
    return in.bad() ? IoError("cannot read '" + path + "': " + std::strerror(errno)) : OkStatus();
  });
}

Status WriteOutput(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) {
    return IoError(std::string("cannot write to standard output: ") + std::strerror(errno));
  }
  return OkStatus();
}

Status FlushOutput() {
  if (std::fflush(stdout) != 0) {
    return IoError(std::string("cannot write to standard output: ") + std::strerror(errno));
  }
  return OkStatus();
}

Result<uint64_t> ParseBytes(std::string_view text) {
  const Status bad = InvalidArgument("'" + std::string(text) +
                                     "' is not a byte count such as 4096, 512M, 1.5GiB or 2GB");
  size_t digits = 0;
  while (digits < text.size() &&
         (std::isdigit(static_cast<unsigned char>(text[digits])) != 0 || text[digits] == '.')) {
    ++digits;
  }
  const std::string number(text.substr(0, digits));
  std::string unit(text.substr(digits));
  for (char& c : unit) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  char* end = nullptr;
  const double value = std::strtod(number.c_str(), &end);
  if (number.empty() || *end != '\0') return bad;
  double scale = 1;
  if (!unit.empty() && unit != "B") {
    static constexpr std::string_view kPrefixes = "KMGT";
    const size_t power = kPrefixes.find(unit[0]);
    if (power == std::string_view::npos) return bad;
    const std::string suffix = unit.substr(1);
    if (suffix != "" && suffix != "B" && suffix != "IB") return bad;
    scale = std::pow(suffix == "B" ? 1000.0 : 1024.0, static_cast<double>(power + 1));
  }
  const double bytes = value * scale;
  // 2^63 bytes: beyond any machine, and below it the conversion is defined.
  if (!(bytes >= 0 && bytes < 9.2e18)) return bad;
  return static_cast<uint64_t>(bytes);
}

std::string RequestedIsa() {
  const char* value = std::getenv("INKSTONE_ISA");
  return value == nullptr ? "" : value;
}

void AddEngineFlags(CLI::App& app, EngineFlags& flags) {
  app.add_option("-m,--model", flags.model,
                 "model: a GGUF file or Hugging Face folder (default: the embedded model)");
  app.add_option("-t,--threads", flags.threads, "compute threads (default: one per core)")
      ->check(CLI::Range(1, 4096));
  app.add_option("--context", flags.context,
                 "tokens of context per sequence (default: the model's own)")
      ->check(CLI::PositiveNumber);
  app.add_option("--sequences", flags.sequences, "sequences that may run at once")
      ->check(CLI::PositiveNumber);
  app.add_option("--cache-type", flags.cache_type, "KV cache type (default: f16)")
      ->check(CLI::IsMember({"f32", "f16", "bf16", "q8_0", "q4_0"}));
  app.add_option_function<std::string>(
      "--memory",
      [&flags](const std::string& text) {
        auto bytes = ParseBytes(text);
        if (!bytes.ok()) throw CLI::ValidationError("--memory", bytes.status().message());
        flags.memory = *bytes;
      },
      "hard cap on memory in bytes, e.g. 6GiB (default: none)");
}

void AddAdapterFlag(CLI::App& app, EngineFlags& flags) {
  app.add_option("--adapter", flags.adapters,
                 "low-rank adapter, FILE or FILE:SCALE: a PEFT folder or a GGUF file; may be "
                 "repeated, all apply in this order")
      ->allow_extra_args(false);
}

ProgressBar::ProgressBar(std::string label, uint64_t total)
    : label_(std::move(label)),
      total_(total),
      on_terminal_(isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      last_draw_(start_) {}

ProgressBar::~ProgressBar() { Finish(); }

void ProgressBar::Update(uint64_t done) {
  if (!on_terminal_) return;
  const Clock::time_point now = Clock::now();
  // Work of under a second shows nothing; ten pictures a second are enough for an eye.
  if (now - start_ < std::chrono::seconds(1)) return;
  if (drawn_ && now - last_draw_ < std::chrono::milliseconds(100)) return;
  last_draw_ = now;
  drawn_ = true;

  const double elapsed = std::chrono::duration<double>(now - start_).count();
  std::string line = "\r\x1b[K" + label_ + " ";
  char text[96];
  if (total_ == 0) {
    std::snprintf(text, sizeof(text), "%llu", static_cast<unsigned long long>(done));
    line += text;
  } else {
    const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total_));
    constexpr int kWidth = 30;
    const int filled = static_cast<int>(share * kWidth);
    line += "[" + std::string(filled, '#') + std::string(kWidth - filled, ' ') + "]";
    const double left = share > 0 ? elapsed * (1 - share) / share : 0;
    std::snprintf(text, sizeof(text), " %3.0f%%  %.0f s left", share * 100, left);
    line += text;
  }
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
}

void ProgressBar::Finish() {
  if (drawn_) {
    std::fputs("\r\x1b[K", stderr);
    std::fflush(stderr);
  }
  drawn_ = false;
  on_terminal_ = false;
}

}  // namespace ink::cli
