// Training text: readers, tokenization, and the order in which pieces are seen.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/tokenizer.h"
#include "train/model_step.h"

namespace ink {

enum class DataFormat {
  kText,      // a file is one document; of a folder, each *.txt
  kJsonText,  // JSON lines {"text": ...}
  kPrompt,    // JSON lines {"prompt": ..., "completion": ...}: loss on the completion
  kChat,      // JSON lines {"messages": [{"role", "content"}]}: loss on what the assistant says
};

struct DataSource {
  std::string path;
  DataFormat format = DataFormat::kText;
  double weight = 1;  // how often its documents are seen per epoch; fractions by lot
};

/// Calls `text` with each document's plain text, for tokenizer training and byte counts. For prompt
/// and chat data the parts follow each other. Errors: kNotFound, kInvalidArgument (empty file, not
/// UTF-8, not JSON, a field missing), naming file and line.
Status ForEachText(const DataSource& source, const std::function<Status(std::string_view)>& text);

struct Document {
  std::vector<int32_t> tokens;  // ends with the end-of-text token
  std::vector<bool> counts;     // whether predicting tokens[i] counts; empty: all do
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
  PieceOrder(std::vector<Input> inputs, int64_t context, uint64_t seed);

  /// Fills `batch` with whole pieces up to `max_tokens`; moves on. At least one piece.
  void NextBatch(int64_t max_tokens, TrainBatch* batch);

  int64_t epoch() const { return epoch_; }
  int64_t piece() const { return piece_; }
  int64_t tokens_per_epoch() const { return epoch_tokens_; }
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
  std::vector<Piece> pieces_;
  int64_t epoch_ = 0, piece_ = 0;
  int64_t epoch_tokens_ = 0;
};

/// Bits per byte of `text` under the model as `perplexity` measures it: windows of `context` tokens
/// advance by half, each token is scored once; the first token is not scored.
struct TextScore {
  double nats = 0;
  int64_t tokens = 0;
  int64_t bytes = 0;
  double bits_per_byte() const { return nats / 0.6931471805599453 / static_cast<double>(bytes); }
};
TextScore ScoreText(ModelStep& step, const std::vector<int32_t>& tokens, int64_t bytes,
                    int64_t context, int64_t max_tokens);

}  // namespace ink
