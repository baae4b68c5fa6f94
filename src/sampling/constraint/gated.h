// A constraint on the answer of a model that reasons first: nothing is constrained until the
// reasoning has ended, except that the text cannot end inside it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "sampling/constraint/constraint.h"

namespace ink {

/// The tokens around the reasoning. Without them (-1) the constraint holds from the first token.
struct ReasoningGate {
  int32_t open = -1;    // may be the first token; -1: reasoning cannot be opened
  int32_t close = -1;   // the constraint's text begins behind it
  bool opened = false;  // the prompt has opened it
};

/// A value, as ConstraintState is.
class GatedConstraint {
 public:
  GatedConstraint(std::shared_ptr<const CompiledConstraint> constraint, const ReasoningGate& gate);

  /// As ConstraintState's.
  void FillMask(std::span<uint32_t> mask) const;
  bool AdvanceToken(int32_t id);
  bool reasoning() const { return phase_ == Phase::kReasoning; }

 private:
  enum class Phase { kStart, kReasoning, kAnswer };

  ConstraintState state_;
  std::shared_ptr<const CompiledConstraint> constraint_;
  ReasoningGate gate_;
  Phase phase_;
};

}  // namespace ink
