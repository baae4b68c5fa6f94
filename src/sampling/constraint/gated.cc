#include "sampling/constraint/gated.h"

#include <algorithm>
#include <utility>

namespace ink {

GatedConstraint::GatedConstraint(std::shared_ptr<const CompiledConstraint> constraint,
                                 const ReasoningGate& gate)
    : state_(constraint), constraint_(std::move(constraint)), gate_(gate) {
  const bool gated = gate.close >= 0;
  phase_ = gated && gate.opened      ? Phase::kReasoning
           : gated && gate.open >= 0 ? Phase::kStart
                                     : Phase::kAnswer;
}

void GatedConstraint::FillMask(std::span<uint32_t> mask) const {
  if (phase_ != Phase::kReasoning) {
    state_.FillMask(mask);
    if (phase_ == Phase::kStart) mask[gate_.open / 32] |= uint32_t{1} << (gate_.open % 32);
    return;
  }
  const auto size = static_cast<size_t>(constraint_->vocabulary()->vocab_size());
  std::fill(mask.begin(), mask.end(), uint32_t{0});
  std::fill(mask.begin(), mask.begin() + static_cast<ptrdiff_t>(size / 32), ~uint32_t{0});
  if (size % 32 != 0) mask[size / 32] = (uint32_t{1} << (size % 32)) - 1;
  for (const int32_t end : constraint_->vocabulary()->end_ids()) {
    mask[end / 32] &= ~(uint32_t{1} << (end % 32));
  }
}

bool GatedConstraint::AdvanceToken(int32_t id) {
  switch (phase_) {
    case Phase::kReasoning:
      if (id == gate_.close) phase_ = Phase::kAnswer;
      return true;
    case Phase::kStart:
      if (id == gate_.open) {
        phase_ = Phase::kReasoning;
        return true;
      }
      phase_ = Phase::kAnswer;
      break;
    case Phase::kAnswer:
      break;
  }
  return state_.AdvanceToken(id);
}

}  // namespace ink
