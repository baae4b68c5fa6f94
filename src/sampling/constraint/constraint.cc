#include "sampling/constraint/constraint.h"

#include <algorithm>

#include "base/check.h"
#include "sampling/constraint/machine.h"

namespace ink {

using constraint::History;
using constraint::Machine;
using constraint::Thread;
using constraint::Threads;

namespace {

// A text this much longer than what is needed is worth moving.
constexpr uint64_t kTrimBytes = 512;
constexpr size_t kMaxCompletion = size_t{4} << 20;

}  // namespace

ConstraintSpec ConstraintSpec::JsonSchema(std::string schema) {
  ConstraintSpec spec;
  spec.text = std::move(schema);
  return spec;
}

ConstraintSpec ConstraintSpec::JsonObject() { return JsonSchema(R"({"type":"object"})"); }

ConstraintSpec ConstraintSpec::Regex(std::string pattern) {
  ConstraintSpec spec;
  spec.kind = Kind::kRegex;
  spec.text = std::move(pattern);
  return spec;
}

ConstraintSpec ConstraintSpec::Choice(std::vector<std::string> choices) {
  ConstraintSpec spec;
  spec.kind = Kind::kChoice;
  spec.choices = std::move(choices);
  return spec;
}

ConstraintSpec ConstraintSpec::Grammar(std::string gbnf) {
  ConstraintSpec spec;
  spec.kind = Kind::kGrammar;
  spec.text = std::move(gbnf);
  return spec;
}

ConstraintSpec ConstraintSpec::Tags(std::vector<Tag> tags, std::vector<std::string> triggers) {
  ConstraintSpec spec;
  spec.kind = Kind::kTags;
  spec.tags = std::move(tags);
  spec.triggers = std::move(triggers);
  return spec;
}

CompiledConstraint::CompiledConstraint() = default;
CompiledConstraint::~CompiledConstraint() = default;

Result<std::shared_ptr<const CompiledConstraint>> CompiledConstraint::Compile(
    const ConstraintSpec& spec, const ConstraintOptions& options,
    std::shared_ptr<const VocabularyTrie> vocabulary) {
  std::shared_ptr<CompiledConstraint> compiled(new CompiledConstraint());
  compiled->vocabulary_ = std::move(vocabulary);
  compiled->machine_ = std::make_unique<Machine>(options);
  INK_RETURN_IF_ERROR(compiled->machine_->Build(spec, compiled->vocabulary_));
  return std::shared_ptr<const CompiledConstraint>(std::move(compiled));
}

uint64_t CompiledConstraint::memory_bytes() const {
  std::lock_guard<std::mutex> lock(machine_->mutex);
  return sizeof(*this) + machine_->memory_bytes();
}

ConstraintState::ConstraintState(std::shared_ptr<const CompiledConstraint> constraint)
    : constraint_(std::move(constraint)) {
  std::lock_guard<std::mutex> lock(constraint_->machine_->mutex);
  threads_ = constraint_->machine_->Start();
}

ConstraintState::ConstraintState(const ConstraintState&) = default;
ConstraintState::ConstraintState(ConstraintState&&) noexcept = default;
ConstraintState& ConstraintState::operator=(const ConstraintState&) = default;
ConstraintState& ConstraintState::operator=(ConstraintState&&) noexcept = default;
ConstraintState::~ConstraintState() = default;

bool ConstraintState::AdvanceByte(uint8_t byte) {
  const char c = static_cast<char>(byte);
  return Advance(std::string_view(&c, 1));
}

bool ConstraintState::Advance(std::string_view bytes, size_t* accepted) {
  if (accepted != nullptr) *accepted = 0;
  if (bytes.empty()) return true;
  if (closed_) return false;
  Machine& machine = *constraint_->machine_;
  std::lock_guard<std::mutex> lock(machine.mutex);
  History history{history_, base_};
  const size_t before = history_.size();
  Threads threads = threads_, next;
  for (size_t i = 0; i < bytes.size(); ++i) {
    history_.push_back(bytes[i]);
    next.clear();
    for (const Thread& t : threads) {
      machine.Step(t, static_cast<uint8_t>(bytes[i]), history, next);
    }
    if (next.empty()) {
      history_.resize(before);
      return false;
    }
    std::swap(threads, next);
    if (accepted != nullptr) *accepted = i + 1;
  }
  threads_ = std::move(threads);
  uint64_t oldest = history.end();
  for (const Thread& t : threads_) oldest = std::min(oldest, Machine::Oldest(t));
  if (oldest - base_ > kTrimBytes || oldest == history.end()) {
    history_.erase(0, static_cast<size_t>(oldest - base_));
    base_ = oldest;
  }
  return true;
}

bool ConstraintState::AdvanceToken(int32_t id) {
  const VocabularyTrie* vocabulary = constraint_->vocabulary();
  INK_CHECK(vocabulary != nullptr);
  if (id < 0 || id >= vocabulary->vocab_size() || closed_) return false;
  if (vocabulary->IsEnd(id)) {
    if (!IsAccepting()) return false;
    closed_ = true;
    return true;
  }
  const std::string_view bytes = vocabulary->token_bytes(id);
  return !bytes.empty() && Advance(bytes);
}

bool ConstraintState::IsAccepting() const {
  Machine& machine = *constraint_->machine_;
  std::lock_guard<std::mutex> lock(machine.mutex);
  return std::any_of(threads_.begin(), threads_.end(),
                     [&](const Thread& t) { return machine.Accepting(t); });
}

void ConstraintState::FillMask(std::span<uint32_t> mask) const {
  const VocabularyTrie* vocabulary = constraint_->vocabulary();
  INK_CHECK(vocabulary != nullptr);
  INK_CHECK(mask.size() >= vocabulary->mask_words());
  std::fill(mask.begin(), mask.end(), 0);
  if (closed_) return;
  Machine& machine = *constraint_->machine_;
  std::lock_guard<std::mutex> lock(machine.mutex);
  std::string bytes = history_;
  const History history{bytes, base_};
  bool accepting = false;
  for (const Thread& t : threads_) {
    machine.AddMask(t, history, mask.first(vocabulary->mask_words()));
    accepting = accepting || machine.Accepting(t);
  }
  if (!accepting) return;
  for (int32_t id : vocabulary->end_ids()) mask[id / 32] |= 1u << (id % 32);
}

std::string ConstraintState::ForcedBytes(size_t limit) const {
  std::string out;
  if (closed_) return out;
  Machine& machine = *constraint_->machine_;
  std::lock_guard<std::mutex> lock(machine.mutex);
  std::string bytes = history_;
  const History history{bytes, base_};
  Threads threads = threads_, next, only;
  while (out.size() < limit) {
    if (std::any_of(threads.begin(), threads.end(),
                    [&](const Thread& t) { return machine.Accepting(t); })) {
      return out;
    }
    int forced = -1;
    for (int b = 0; b < 256; ++b) {
      bytes.push_back(static_cast<char>(b));
      next.clear();
      for (const Thread& t : threads) machine.Step(t, static_cast<uint8_t>(b), history, next);
      bytes.pop_back();
      if (next.empty()) continue;
      if (forced >= 0) return out;
      forced = b;
      std::swap(only, next);
    }
    if (forced < 0) return out;
    std::swap(threads, only);
    bytes.push_back(static_cast<char>(forced));
    out += static_cast<char>(forced);
  }
  return out;
}

std::string ConstraintState::Completion() const {
  if (closed_) return "";
  Machine& machine = *constraint_->machine_;
  std::lock_guard<std::mutex> lock(machine.mutex);
  std::string bytes = history_;
  const History history{bytes, base_};
  const Thread* nearest = nullptr;
  uint64_t least = UINT64_MAX;
  for (const Thread& t : threads_) {
    const uint64_t remaining =
        threads_.size() == 1 || machine.Accepting(t) ? 0 : machine.Remaining(t, history);
    if (remaining >= least && nearest != nullptr) continue;
    least = remaining;
    nearest = &t;
  }
  if (nearest == nullptr) return "";
  Thread thread = *nearest;
  while (!machine.Accepting(thread) && bytes.size() - history_.size() < kMaxCompletion) {
    // Every thread can be completed: that it cannot be found is a bug.
    INK_CHECK(machine.GoTowardsEnd(thread, history));
  }
  return bytes.substr(history_.size());
}

}  // namespace ink
