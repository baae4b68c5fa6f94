#include "interrupt.h"

#include <csignal>

namespace ink::cli {
namespace {

volatile std::sig_atomic_t g_interrupted = 0;  // a signal handler has nothing else to write to

}  // namespace

InterruptGuard::InterruptGuard() {
  g_interrupted = 0;
  previous_ = std::signal(SIGINT, [](int) { g_interrupted = 1; });
}
InterruptGuard::~InterruptGuard() { std::signal(SIGINT, previous_); }
bool InterruptGuard::interrupted() const { return g_interrupted != 0; }

}  // namespace ink::cli
