// layers: model
// Adapter files: the first byte picks the form; of a PEFT folder, the configuration ends at the
// first NUL and the weights follow.
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "model/adapter.h"

namespace {

ink::AdapterTarget Target() {
  ink::AdapterTarget target;
  target.architecture = "llama";
  target.matrices = {
      {.name = "blk.0.attn_q.weight",
       .hf_module = "model.layers.0.self_attn.q_proj",
       .rows = 8,
       .cols = 4,
       .interleaved_heads = 2},
      {.name = "blk.0.ffn_up.weight",
       .hf_module = "model.layers.0.mlp.up_proj",
       .rows = 6,
       .cols = 4},
      {.name = "blk.0.ffn_up_exps.weight", .rows = 6, .cols = 4, .experts = true},
      {.name = "output.weight", .hf_module = "lm_head", .rows = 5, .cols = 4, .tied = true},
  };
  return target;
}

void Write(const std::string& path, std::string_view text) {
  std::ofstream(path, std::ios::binary)
      .write(text.data(), static_cast<std::streamsize>(text.size()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static const std::string folder =
      (std::filesystem::temp_directory_path() / ("adapter_fuzz_" + std::to_string(getpid())))
          .string();
  static const ink::AdapterTarget target = Target();
  std::filesystem::create_directories(folder);
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  std::string path = folder;
  if (data[0] % 2 == 0) {
    path += "/adapter.gguf";
    Write(path, text);
  } else {
    const size_t end = text.find('\0');
    Write(folder + "/adapter_config.json", text.substr(0, end));
    Write(folder + "/adapter_model.safetensors",
          end == std::string_view::npos ? "" : text.substr(end + 1));
  }
  const ink::Result<ink::Adapter> adapter = ink::ReadAdapter(path, target);
  if (adapter.ok()) {
    INK_CHECK(ink::CheckAdapter(*adapter, target).ok());
  } else {
    INK_CHECK(!adapter.status().message().empty());
  }
  return 0;
}
