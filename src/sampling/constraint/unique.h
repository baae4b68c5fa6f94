// uniqueItems: which values an element must not have.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "sampling/constraint/thread.h"

namespace ink::constraint {

/// For element `index` of a unique array whose earlier elements are `used` (canonical texts): the
/// values that it must not have, so that the elements still required can all differ. Null where no
/// value is left.
std::shared_ptr<const Exclusion> NextExclusion(const ArrayRule& rule, uint64_t index,
                                               const std::vector<std::string>& used,
                                               const std::vector<Goal>& goals);

}  // namespace ink::constraint
