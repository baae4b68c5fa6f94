// Ctrl-C stops long work between two pieces, so that no temporary file stays behind.
#pragma once

namespace ink::cli {

/// While it lives, an interrupt is remembered instead of ending the process. One at a time.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  bool interrupted() const;

 private:
  void (*previous_)(int);
};

}  // namespace ink::cli
