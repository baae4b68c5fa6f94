#include "model_fingerprint.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <vector>

#include "default_model.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace ink::cli {
namespace {

Status HashFile(const std::string& path, XXH3_state_t* state) {
  auto fail = [&] { return IoError("'" + path + "': " + std::strerror(errno)); };
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return fail();
  struct stat info {};
  Status status;
  if (fstat(file, &info) != 0) status = fail();
  const int64_t facts[] = {info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec};
  XXH3_128bits_update(state, facts, sizeof(facts));
  std::vector<char> piece(64 << 10);
  for (int64_t at = 0; status.ok() && at < info.st_size; at += 1 << 20) {
    const size_t want = at == 0 ? piece.size() : 4 << 10;
    const ssize_t got = pread(file, piece.data(), want, at);
    if (got < 0) {
      status = fail();
    } else {
      XXH3_128bits_update(state, piece.data(), static_cast<size_t>(got));
    }
  }
  close(file);
  return status;
}

}  // namespace

Result<std::string> ModelFingerprint(const std::string& path) {
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  std::error_code error;
  if (path.empty()) {
    XXH3_128bits_update(&state, DefaultModel().data(), DefaultModel().size());
  } else if (std::filesystem::is_directory(path, error)) {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
      const std::string extension = entry.path().extension().string();
      if (extension == ".safetensors" || extension == ".json") files.push_back(entry.path());
    }
    if (error) return IoError("'" + path + "': " + error.message());
    std::sort(files.begin(), files.end());
    for (const std::string& file : files) INK_RETURN_IF_ERROR(HashFile(file, &state));
  } else {
    INK_RETURN_IF_ERROR(HashFile(path, &state));
  }
  const XXH128_hash_t hash = XXH3_128bits_digest(&state);
  char text[40];
  std::snprintf(text, sizeof(text), "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return std::string(text);
}

}  // namespace ink::cli
