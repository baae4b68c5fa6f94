// Threads that must answer soon beside threads that compute.
#pragma once

namespace ink {

/// Asks the kernel to run the calling thread soon after it wakes, in short slices: what it needs is
/// microseconds, and on a busy machine it would wait for the end of a compute thread's slice of
/// some milliseconds. Its share of the processor stays the same, and no privilege is needed.
/// Linux 6.12 and later (the slice of EEVDF, sched(7)); nothing happens elsewhere.
void PreferShortSlices();

}  // namespace ink
