#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace ink::internal {

void CheckFailed(const char* file, int line, const char* expression, const std::string& operands) {
  std::fprintf(stderr, "%s:%d: check failed: %s%s%s\n", file, line, expression,
               operands.empty() ? "" : ": ", operands.c_str());
  std::abort();
}

}  // namespace ink::internal
