// layers: model
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "model/hf_config.h"
#include "model/hf_tensors.h"

// A config.json that is accepted can be written again, and what is written says the same.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  ink::Result<ink::HfConfig> config = ink::ParseHfConfig(text, "config.json");
  if (!config.ok()) {
    INK_CHECK(config.status().message().find("expected") != std::string::npos);
    return 0;
  }
  INK_CHECK(ink::HfTensorsOf(config->metadata).ok());
  ink::HfConfigExtras extras;
  extras.vocab_size = config->vocab_size;
  extras.tied_embeddings = config->tied_embeddings;
  extras.rope_freqs = config->rope_freqs;
  extras.rope_long = config->rope_long;
  extras.rope_short = config->rope_short;
  ink::Result<std::string> written = ink::HfConfigText(config->metadata, extras);
  if (!written.ok()) return 0;
  ink::Result<ink::HfConfig> again = ink::ParseHfConfig(*written, "written");
  INK_CHECK(again.ok());
  INK_CHECK(again->rope_freqs == config->rope_freqs);
  INK_CHECK(again->rope_long == config->rope_long);
  return 0;
}
