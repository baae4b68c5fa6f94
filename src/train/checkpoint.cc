#include "train/checkpoint.h"

#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/atomic_file.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMagic = "inkstone-checkpoint-2\n";

// What moves at a time: whole words of the checksum.
constexpr size_t kChunk = size_t{4} << 20;

// FNV-1a over 8-byte words: enough to tell a damaged file.
uint64_t Checksum(uint64_t hash, std::span<const std::byte> bytes) {
  size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data() + i, 8);
    hash = (hash ^ word) * 0x100000001b3ull;
  }
  for (; i < bytes.size(); ++i) hash = (hash ^ static_cast<uint64_t>(bytes[i])) * 0x100000001b3ull;
  return hash;
}

bool AllFinite(std::span<const std::byte> bytes) {
  for (size_t i = 0; i + sizeof(float) <= bytes.size(); i += sizeof(float)) {
    float value;
    std::memcpy(&value, bytes.data() + i, sizeof(float));
    if (!std::isfinite(value)) return false;
  }
  return true;
}

std::string Name(int64_t step) {
  std::string digits = std::to_string(step);
  digits.insert(0, digits.size() < 9 ? 9 - digits.size() : 0, '0');
  return "step-" + digits + ".ckpt";
}

// Newest first.
std::vector<std::string> Files(const std::string& folder) {
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-") && name.ends_with(".ckpt"))
      files.push_back(entry.path().string());
  }
  std::sort(files.rbegin(), files.rend());
  return files;
}

Result<Checkpoint> Read(const std::string& path) {
  INK_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  const std::string_view content(reinterpret_cast<const char*>(file.bytes().data()),
                                 file.bytes().size());
  auto damaged = [&](const std::string& what) { return Corrupt(path + ": " + what); };
  if (!content.starts_with(kMagic)) return damaged("expected a checkpoint of this program");
  const size_t end = content.find('\n', kMagic.size());
  if (end == std::string::npos) return damaged("the header does not end");
  const auto json =
      nlohmann::json::parse(content.substr(kMagic.size(), end - kMagic.size()), nullptr, false);
  if (!json.is_object()) return damaged("the header is not JSON");
  Checkpoint c;
  uint64_t values = 0, optimizer = 0;
  auto integer = [&](const char* key, auto* out) {
    auto at = json.find(key);
    if (at == json.end() || !at->is_number_integer()) return false;
    *out = at->get<std::decay_t<decltype(*out)>>();
    return true;
  };
  auto number = [&](const char* key, double* out) {
    auto at = json.find(key);
    if (at == json.end() || !at->is_number()) return false;
    *out = at->get<double>();
    return true;
  };
  if (!integer("step", &c.step) || !integer("optimizer_steps", &c.optimizer_steps) ||
      !integer("epoch", &c.epoch) || !integer("piece", &c.piece) || !integer("tokens", &c.tokens) ||
      !number("loss_mean", &c.loss_mean) || !number("loss_square", &c.loss_square) ||
      !number("best", &c.best) || !integer("values", &values) ||
      !integer("optimizer", &optimizer) || !json.contains("recipe") ||
      !json["recipe"].is_string()) {
    return damaged("the header lacks a field");
  }
  c.recipe = json["recipe"].get<std::string>();
  const uint64_t left = content.size() - end - 1;
  if (values > left || optimizer > left - values || left - values - optimizer != 8) {
    return damaged("expected " + std::to_string(values) + " + " + std::to_string(optimizer) +
                   " + 8 bytes after the header, got " + std::to_string(left));
  }
  c.values = file.bytes().subspan(end + 1, values);
  c.optimizer = file.bytes().subspan(end + 1 + values, optimizer);
  uint64_t hash = 1, checksum = 0;
  for (std::span<const std::byte> part : {c.values, c.optimizer}) {
    for (size_t at = 0; at < part.size(); at += kChunk) {
      const auto chunk = part.subspan(at, std::min(kChunk, part.size() - at));
      hash = Checksum(hash, chunk);
      file.DropPages(static_cast<size_t>(chunk.data() - file.bytes().data()), chunk.size());
    }
  }
  std::memcpy(&checksum, c.optimizer.data() + c.optimizer.size(), 8);
  if (hash != checksum) return damaged("wrong checksum");
  c.file = std::move(file);
  return c;
}

}  // namespace

Status WriteCheckpoint(const std::string& folder, const Checkpoint& c, int keep, Device* device) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return IoError(folder + ": cannot create the folder: " + error.message());
  nlohmann::ordered_json json = {{"step", c.step},
                                 {"optimizer_steps", c.optimizer_steps},
                                 {"epoch", c.epoch},
                                 {"piece", c.piece},
                                 {"tokens", c.tokens},
                                 {"loss_mean", c.loss_mean},
                                 {"loss_square", c.loss_square},
                                 {"best", c.best},
                                 {"values", c.values.size()},
                                 {"optimizer", c.optimizer.size()},
                                 {"recipe", c.recipe}};
  INK_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(folder + "/" + Name(c.step)));
  INK_RETURN_IF_ERROR(file.Write(kMagic));
  INK_RETURN_IF_ERROR(file.Write(json.dump() + "\n"));
  uint64_t hash = 1;
  std::vector<std::byte> host(device != nullptr ? kChunk : 0);
  const std::span<const std::byte> parts[] = {c.values, c.optimizer};
  for (const std::span<const std::byte>& part : parts) {
    for (size_t at = 0; at < part.size(); at += kChunk) {
      std::span<const std::byte> chunk = part.subspan(at, std::min(kChunk, part.size() - at));
      if (device != nullptr) {
        device->CopyToHost(host.data(), chunk.data(), chunk.size());
        chunk = {host.data(), chunk.size()};
      }
      if (&part == &parts[0] && !AllFinite(chunk)) {
        return InvalidArgument("step " + std::to_string(c.step) +
                               ": a weight is not a number after it, so no checkpoint is made");
      }
      hash = Checksum(hash, chunk);
      INK_RETURN_IF_ERROR(file.Write(chunk));
    }
  }
  INK_RETURN_IF_ERROR(file.Write(std::as_bytes(std::span(&hash, 1))));
  INK_RETURN_IF_ERROR(file.Commit());
  const std::vector<std::string> files = Files(folder);
  for (size_t i = static_cast<size_t>(keep); i < files.size(); ++i) fs::remove(files[i], error);
  return OkStatus();
}

void CopyFromCheckpoint(const Checkpoint& c, std::span<const std::byte> part, Device& device,
                        std::byte* to) {
  for (size_t at = 0; at < part.size(); at += kChunk) {
    const auto chunk = part.subspan(at, std::min(kChunk, part.size() - at));
    device.CopyToDevice(to + at, chunk.data(), chunk.size());
    device.Synchronize();
    c.file.DropPages(static_cast<size_t>(chunk.data() - c.file.bytes().data()), chunk.size());
  }
}

std::string NewestCheckpointPath(const std::string& folder) {
  const std::vector<std::string> files = Files(folder);
  return files.empty() ? "" : files.front();
}

void RemoveAbandonedFiles(const std::string& folder, const std::string& prefix) {
  constexpr std::string_view kMark = ".tmp.";
  std::error_code error;
  std::vector<fs::path> abandoned;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    const size_t at = name.rfind(kMark);
    if (at == std::string::npos || !name.starts_with(prefix)) continue;
    pid_t pid = 0;
    const char* end = name.data() + name.size();
    const auto read = std::from_chars(name.data() + at + kMark.size(), end, pid);
    if (read.ec != std::errc() || read.ptr != end || pid <= 0) continue;
    // Signal 0 asks only whether the process is there.
    if (kill(pid, 0) != 0 && errno == ESRCH) abandoned.push_back(entry.path());
  }
  for (const fs::path& path : abandoned) fs::remove(path, error);
}

Result<Checkpoint> ReadNewestCheckpoint(const std::string& folder) {
  Status first;
  for (const std::string& path : Files(folder)) {
    auto checkpoint = Read(path);
    if (checkpoint.ok()) return checkpoint;
    if (first.ok()) first = checkpoint.status();
  }
  if (!first.ok()) return first;
  return NotFound(folder + ": no checkpoint to resume from");
}

}  // namespace ink
