#include <map>

#include "formats/gguf.h"
#include "formats/gguf_writer.h"
#include "text/bpe_trainer.h"
#include "text/gguf_vocab.h"
#include "train/trainer.h"

namespace ink {

Result<std::shared_ptr<const Tokenizer>> TrainTokenizer(
    const std::vector<DataSource>& data, int32_t vocabulary, const std::string& pre,
    const std::function<bool(int64_t, int64_t)>& progress) {
  std::vector<std::string> texts;
  for (const DataSource& source : data) {
    INK_RETURN_IF_ERROR(ForEachText(source, [&](std::string_view text) {
      texts.emplace_back(text);
      return OkStatus();
    }));
  }
  BpeTrainerOptions options;
  options.vocab_size = vocabulary;
  options.pre_name = pre;
  options.special_tokens = {"<|endoftext|>"};
  options.bos = options.eos = options.pad = "<|endoftext|>";
  size_t next = 0;
  INK_ASSIGN_OR_RETURN(TokenizerSpec spec, TrainBpe(
                                               [&]() -> std::optional<std::string_view> {
                                                 if (next == texts.size()) return std::nullopt;
                                                 return texts[next++];
                                               },
                                               options, progress));
  return BuildTokenizer(std::move(spec));
}

Status WriteTokenizer(const Tokenizer& tokenizer, const std::string& path) {
  GgufWriter writer(path);
  writer.metadata().SetString("general.architecture", "llama");
  writer.metadata().SetString("general.type", "tokenizer");
  INK_RETURN_IF_ERROR(SpecToGguf(tokenizer.spec(), writer.metadata()));
  INK_RETURN_IF_ERROR(writer.Begin());
  return writer.Finish();
}

Result<std::shared_ptr<const Tokenizer>> ReadTokenizer(const std::string& path) {
  INK_ASSIGN_OR_RETURN(GgufFile file, GgufFile::Open(path));
  return TokenizerFromGguf(file.metadata());
}

}  // namespace ink
