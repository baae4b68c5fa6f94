#include "cache/types.h"

namespace ink {

std::string_view GroupKindName(GroupKind kind) {
  switch (kind) {
    case GroupKind::kFullAttention:
      return "full";
    case GroupKind::kSlidingWindow:
      return "sliding";
    case GroupKind::kRecurrent:
      return "recurrent";
  }
  return "unknown";
}

}  // namespace ink
