#include "engine/drafts.h"

#include <algorithm>

namespace ink {
namespace {

uint64_t Gram(std::span<const int32_t> tokens, int64_t end, int n) {
  uint64_t hash = static_cast<uint64_t>(n);
  for (int64_t i = end - n; i < end; ++i) {
    hash = (hash ^ static_cast<uint32_t>(tokens[i])) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 29;
  }
  return hash;
}

// Whether the n tokens before `a` equal those before `b`: hashes may collide.
bool SameGram(std::span<const int32_t> tokens, int64_t a, int64_t b, int n) {
  return std::equal(tokens.begin() + (a - n), tokens.begin() + a, tokens.begin() + (b - n));
}

}  // namespace

void PromptLookupDrafts::Extend(Index& index, std::span<const int32_t> tokens) {
  const int64_t size = static_cast<int64_t>(tokens.size());
  // A gram is entered when a token follows it, so that the sequence's own end finds earlier ones.
  for (int64_t end = std::max<int64_t>(2, index.indexed); end < size; ++end) {
    index.after2[Gram(tokens, end, 2)] = end;
    if (end >= 3) index.after3[Gram(tokens, end, 3)] = end;
  }
  index.indexed = size;
}

std::vector<std::vector<int32_t>> PromptLookupDrafts::Propose(std::span<const DraftQuery> queries) {
  std::vector<std::vector<int32_t>> drafts(queries.size());
  for (size_t q = 0; q < queries.size(); ++q) {
    std::span<const int32_t> tokens = queries[q].tokens;
    const int64_t size = static_cast<int64_t>(tokens.size());
    Index& index = index_[queries[q].id];
    if (index.indexed > size) index = Index{};  // the sequence was cut
    Extend(index, tokens);
    for (int n : {3, 2}) {
      if (size < n) continue;
      const auto& table = n == 3 ? index.after3 : index.after2;
      auto found = table.find(Gram(tokens, size, n));
      if (found == table.end() || !SameGram(tokens, found->second, size, n)) continue;
      // A repeat shorter than the draft goes on with the draft itself.
      for (int64_t i = 0; i < queries[q].max_tokens; ++i) {
        int64_t at = found->second + i;
        drafts[q].push_back(at < size ? tokens[at] : drafts[q][at - size]);
      }
      break;
    }
  }
  return drafts;
}

Result<std::unique_ptr<ModelDrafts>> ModelDrafts::Create(const Model& model, Device& device,
                                                         int max_seqs, int64_t max_context,
                                                         KvTypes types) {
  auto source = std::unique_ptr<ModelDrafts>(new ModelDrafts);
  RunnerConfig config;
  config.max_seqs = max_seqs;
  config.max_context = max_context;
  config.max_logit_rows = max_seqs;
  config.max_tokens = std::max<int64_t>(256, max_seqs);
  config.kv_types = types;
  const int64_t per_slot = BlocksFor(max_context);
  config.blocks.assign(model.info().groups.size(), per_slot * max_seqs);
  INK_ASSIGN_OR_RETURN(source->runner_, ModelRunner::Create(model, device, config));
  for (int slot = max_seqs - 1; slot >= 0; --slot) source->free_slots_.push_back(slot);
  for (int slot = 0; slot < max_seqs; ++slot) {
    std::vector<BlockId> table(per_slot);
    for (int64_t b = 0; b < per_slot; ++b) table[b] = static_cast<BlockId>(slot * per_slot + b);
    source->tables_.push_back(std::move(table));
  }
  return source;
}

ModelDrafts::State* ModelDrafts::StateOf(SequenceId id) {
  auto found = states_.find(id);
  if (found != states_.end()) return &found->second;
  if (free_slots_.empty()) return nullptr;
  int slot = free_slots_.back();
  free_slots_.pop_back();
  return &(states_[id] = State{slot, {}});
}

void ModelDrafts::Forget(SequenceId id) {
  auto found = states_.find(id);
  if (found == states_.end()) return;
  free_slots_.push_back(found->second.slot);
  states_.erase(found);
}

std::vector<std::vector<int32_t>> ModelDrafts::Propose(std::span<const DraftQuery> queries) {
  std::vector<std::vector<int32_t>> drafts(queries.size());
  struct Live {
    size_t query;
    State* state;
    std::vector<int32_t> tokens;  // known so far, drafts included
  };
  std::vector<Live> live;
  const int64_t max_context = runner_->config().max_context;
  for (size_t q = 0; q < queries.size(); ++q) {
    State* state = StateOf(queries[q].id);
    if (state == nullptr || queries[q].max_tokens <= 0) continue;
    Live item{q, state, {queries[q].tokens.begin(), queries[q].tokens.end()}};
    if (static_cast<int64_t>(item.tokens.size()) >= max_context) continue;
    // Keep what the last round computed and the target accepted.
    auto mismatch = std::mismatch(state->computed.begin(), state->computed.end(),
                                  item.tokens.begin(), item.tokens.end());
    size_t keep =
        std::min<size_t>(mismatch.first - state->computed.begin(), item.tokens.size() - 1);
    state->computed.resize(keep);
    live.push_back(std::move(item));
  }
  // Every round feeds what a sequence lacks, at most the runner's budget, and decodes one token
  // for each that has caught up.
  while (!live.empty()) {
    std::vector<RunSequence> run;
    std::vector<size_t> who;
    int64_t budget = runner_->config().max_tokens;
    for (size_t i = 0; i < live.size() && budget > 0; ++i) {
      Live& item = live[i];
      int64_t start = static_cast<int64_t>(item.state->computed.size());
      int64_t count = std::min<int64_t>(budget, static_cast<int64_t>(item.tokens.size()) - start);
      RunSequence sequence;
      sequence.tokens = std::span<const int32_t>(item.tokens).subspan(start, count);
      sequence.start = start;
      sequence.block_tables.assign(runner_->model().info().groups.size(),
                                   tables_[item.state->slot]);
      sequence.num_logits = start + count == static_cast<int64_t>(item.tokens.size()) ? 1 : 0;
      run.push_back(std::move(sequence));
      who.push_back(i);
      budget -= count;
    }
    std::vector<int32_t> chosen(run.size(), -1);
    runner_->Run(run, [&](size_t s, int64_t, std::span<const float> logits) {
      chosen[s] =
          static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    });
    for (size_t s = 0; s < run.size(); ++s) {
      Live& item = live[who[s]];
      item.state->computed.insert(item.state->computed.end(), run[s].tokens.begin(),
                                  run[s].tokens.end());
      if (chosen[s] < 0) continue;
      item.tokens.push_back(chosen[s]);
      drafts[item.query].push_back(chosen[s]);
    }
    std::erase_if(live, [&](const Live& item) {
      return static_cast<int>(drafts[item.query].size()) >= queries[item.query].max_tokens ||
             static_cast<int64_t>(item.tokens.size()) >= max_context;
    });
  }
  return drafts;
}

}  // namespace ink
