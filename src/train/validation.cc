#include "train/validation.h"

#include <algorithm>

namespace ink {

TextScore ScoreText(ModelStep& step, const std::vector<int32_t>& tokens, int64_t bytes,
                    int64_t context, int64_t max_tokens) {
  TextScore score;
  score.bytes = bytes;
  const auto n = static_cast<int64_t>(tokens.size());
  TrainBatch batch;
  auto flush = [&] {
    const StepLoss loss = step.Evaluate(batch);
    score.nats += loss.sum;
    score.tokens += loss.targets;
    batch.Clear();
  };
  for (int64_t start = 0, scored = 1; scored < n; start += context / 2) {
    const int64_t end = std::min(n, start + context);
    if (batch.num_tokens() + end - 1 - start > max_tokens) flush();
    for (int64_t i = start; i + 1 < end; ++i) {
      batch.tokens.push_back(tokens[static_cast<size_t>(i)]);
      batch.positions.push_back(static_cast<int32_t>(i - start));
      batch.targets.push_back(i + 1 >= scored ? tokens[static_cast<size_t>(i) + 1] : -1);
    }
    batch.lengths.push_back(end - 1 - start);
    scored = end;
  }
  if (batch.num_tokens() > 0) flush();
  return score;
}

DocumentScore ScoreDocuments(ModelStep& step, const std::vector<const Document*>& documents,
                             const std::vector<std::string>& labels, const Tokenizer& tokenizer,
                             int64_t context, int64_t max_tokens) {
  // Sequences side by side, each with the document and the label it stands for.
  struct Entry {
    size_t document;
    int label;  // -1: the document as it is
    int64_t first, length;
  };
  DocumentScore score;
  TrainBatch batch;
  std::vector<Entry> entries;
  std::vector<float> losses;
  std::vector<std::vector<double>> of_label(documents.size());
  auto flush = [&] {
    if (batch.num_tokens() == 0) return;
    step.Evaluate(batch, &losses);
    for (const Entry& e : entries) {
      double sum = 0;
      for (int64_t i = e.first; i < e.first + e.length; ++i) {
        const auto at = static_cast<size_t>(i);
        if (batch.targets[at] >= 0) sum += double{losses[at]};
      }
      if (e.label >= 0) {
        of_label[e.document][static_cast<size_t>(e.label)] = sum;
        continue;
      }
      score.nats += sum;
      for (int64_t i = e.first; i < e.first + e.length; ++i) {
        score.targets += batch.targets[static_cast<size_t>(i)] >= 0 ? 1 : 0;
      }
    }
    batch.Clear();
    entries.clear();
  };
  auto add = [&](size_t document, int label, const std::vector<int32_t>& tokens,
                 const std::vector<bool>& counts) {
    const auto n = static_cast<int64_t>(tokens.size());
    const int64_t start = std::max<int64_t>(0, n - 1 - context);
    const int64_t length = n - 1 - start;
    if (length < 1) return;
    if (batch.num_tokens() + length > max_tokens) flush();
    entries.push_back({document, label, batch.num_tokens(), length});
    for (int64_t i = start; i + 1 < n; ++i) {
      const auto next = static_cast<size_t>(i + 1);
      batch.tokens.push_back(tokens[static_cast<size_t>(i)]);
      batch.positions.push_back(static_cast<int32_t>(i - start));
      batch.targets.push_back(counts.empty() || counts[next] ? tokens[next] : -1);
    }
    batch.lengths.push_back(length);
  };
  std::vector<std::vector<int32_t>> ids;
  for (const std::string& label : labels) {
    ids.push_back(tokenizer.Encode(" " + label, {.continues = true}));
  }
  for (size_t d = 0; d < documents.size(); ++d) {
    const Document& document = *documents[d];
    add(d, -1, document.tokens, document.counts);
    if (document.label.empty()) continue;
    of_label[d].assign(labels.size(), 1e300);
    for (size_t l = 0; l < labels.size(); ++l) {
      std::vector<int32_t> tokens(document.tokens.begin(),
                                  document.tokens.begin() + document.prompt_tokens);
      std::vector<bool> counts(tokens.size(), false);
      tokens.insert(tokens.end(), ids[l].begin(), ids[l].end());
      counts.resize(tokens.size(), true);
      add(d, static_cast<int>(l), tokens, counts);
    }
  }
  flush();
  for (size_t d = 0; d < documents.size(); ++d) {
    if (of_label[d].empty()) continue;
    ++score.labelled;
    const auto best = std::min_element(of_label[d].begin(), of_label[d].end());
    const auto answer = static_cast<size_t>(best - of_label[d].begin());
    score.right += labels[answer] == documents[d]->label ? 1 : 0;
  }
  return score;
}

}  // namespace ink
