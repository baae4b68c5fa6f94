// How well the model in training does on texts that it does not learn from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "text/tokenizer.h"
#include "train/data.h"
#include "train/model_step.h"

namespace ink {

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

/// Loss on what counts in documents, and for labelled ones how often the label is the most likely
/// of all that occur, as `eval` decides it.
struct DocumentScore {
  double nats = 0;
  int64_t targets = 0;
  int64_t labelled = 0, right = 0;

  double loss() const { return targets > 0 ? nats / static_cast<double>(targets) : 0; }
  double accuracy() const {
    return labelled > 0 ? static_cast<double>(right) / static_cast<double>(labelled) : 0;
  }
};
/// `labels`: all that occur. Documents longer than `context` are scored on their last tokens.
DocumentScore ScoreDocuments(ModelStep& step, const std::vector<const Document*>& documents,
                             const std::vector<std::string>& labels, const Tokenizer& tokenizer,
                             int64_t context, int64_t max_tokens);

}  // namespace ink
