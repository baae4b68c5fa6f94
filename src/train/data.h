// Training text: readers, tokenization, and the order in which pieces are seen.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/label_prompt.h"
#include "text/tokenizer.h"
#include "train/model_step.h"

namespace ink {

enum class DataFormat {
  kText,      // a file is one document; of a folder, each *.txt
  kJsonText,  // JSON lines {"text": ...}
  kPrompt,    // JSON lines {"prompt": ..., "completion": ...}: loss on the completion
  kLabel,     // JSON lines {"text": ..., "label": ...}: loss on the label after the text's template
  kChat,      // JSON lines {"messages": [{"role", "content"}]}: loss on what the assistant says
};

struct DataSource {
  std::string path;
  DataFormat format = DataFormat::kText;
  double weight = 1;  // how often its documents are seen per epoch; fractions by lot
  std::string label_template{kDefaultLabelTemplate};  // kLabel (text/label_prompt.h)
};

/// Calls `text` with each document's plain text, for tokenizer training and byte counts. For prompt
/// and chat data the parts follow each other. Errors: kNotFound, kInvalidArgument (empty file, not
/// UTF-8, not JSON, a field missing), naming file and line.
Status ForEachText(const DataSource& source, const std::function<Status(std::string_view)>& text);

struct Document {
  std::vector<int32_t> tokens;  // ends with the end-of-text token
  std::vector<bool> counts;     // whether predicting tokens[i] counts; empty: all do
  std::string label;            // kLabel
  int64_t prompt_tokens = 0;    // kLabel: what stands before the label
};

/// Reads and tokenizes. Errors: those of ForEachText; kInvalidArgument for chat data when the
/// tokenizer has no template, or one whose output does not grow with the conversation.
Result<std::vector<Document>> ReadDocuments(const DataSource& source, const Tokenizer& tokenizer);

/// The order of training: documents cut into pieces of at most `context` tokens, shuffled anew in
/// each epoch. A function of the seed alone, so a position (epoch, piece) says it all.
class PieceOrder {
 public:
  struct Input {
    const std::vector<Document>* documents;
    double weight;
  };
  struct Options {
    double prompt_weight = 0;  // how much a target counts that a document does not count by itself
    /// How much each token before a label counts, learning the label's first token in place of
    /// the text's next one: the whole text shapes the answer, not only its last place.
    double label_weight = 0;
    /// Share of a prompt's tokens that are read as random ones of [0, n_vocab): no single word can
    /// be learned by heart. Their targets stay.
    double noise = 0;
    int64_t n_vocab = 0;
  };
  PieceOrder(std::vector<Input> inputs, int64_t context, uint64_t seed)
      : PieceOrder(std::move(inputs), context, seed, Options{}) {}
  PieceOrder(std::vector<Input> inputs, int64_t context, uint64_t seed, const Options& options);

  /// Fills `batch` with whole pieces up to `max_tokens`; moves on. At least one piece.
  void NextBatch(int64_t max_tokens, TrainBatch* batch);

  int64_t epoch() const { return epoch_; }
  int64_t piece() const { return piece_; }
  int64_t tokens_per_epoch() const { return epoch_tokens_; }
  int64_t memory_bytes() const { return static_cast<int64_t>(pieces_.capacity() * sizeof(Piece)); }
  void Seek(int64_t epoch, int64_t piece);

 private:
  struct Piece {
    const Document* document;
    int64_t first, length;
  };
  void BuildEpoch();

  std::vector<Input> inputs_;
  int64_t context_;
  uint64_t seed_;
  Options options_;
  std::vector<Piece> pieces_;
  int64_t epoch_ = 0, piece_ = 0;
  int64_t epoch_tokens_ = 0;
};

}  // namespace ink
