#include "base/thread_priority.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace ink {
namespace {

// struct sched_attr of sched_setattr(2), its first version; no C library header of Debian 12 has
// it.
struct SchedAttr {
  uint32_t size = sizeof(SchedAttr);
  uint32_t policy = 0;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 0;
  uint64_t deadline = 0;
  uint64_t period = 0;
};
static_assert(sizeof(SchedAttr) == 48);

constexpr uint64_t kShortestSliceNs = 100'000;  // the kernel's lower bound

}  // namespace

void PreferShortSlices() {
  SchedAttr attr;
  if (syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) != 0) return;
  attr.size = sizeof(attr);
  attr.runtime = kShortestSliceNs;
  (void)syscall(SYS_sched_setattr, 0, &attr, 0);
}

}  // namespace ink
