// INK_CHECK: a condition that only a bug in Inkstone can break. Prints both operands and aborts.
#pragma once

#include <sstream>
#include <string>

namespace ink::internal {

[[noreturn]] void CheckFailed(const char* file, int line, const char* expression,
                              const std::string& operands);

template <typename A, typename B>
[[noreturn]] void CheckOpFailed(const char* file, int line, const char* expression, const A& a,
                                const B& b) {
  std::ostringstream operands;
  operands << a << " vs " << b;
  CheckFailed(file, line, expression, operands.str());
}

}  // namespace ink::internal

#define INK_CHECK(condition)                                                            \
  do {                                                                                  \
    if (!(condition)) ::ink::internal::CheckFailed(__FILE__, __LINE__, #condition, ""); \
  } while (0)

#define INK_CHECK_OP(op, a, b)                                                               \
  do {                                                                                       \
    const auto& ink_a_ = (a);                                                                \
    const auto& ink_b_ = (b);                                                                \
    if (!(ink_a_ op ink_b_))                                                                 \
      ::ink::internal::CheckOpFailed(__FILE__, __LINE__, #a " " #op " " #b, ink_a_, ink_b_); \
  } while (0)

#define INK_CHECK_EQ(a, b) INK_CHECK_OP(==, a, b)
#define INK_CHECK_NE(a, b) INK_CHECK_OP(!=, a, b)
#define INK_CHECK_LT(a, b) INK_CHECK_OP(<, a, b)
#define INK_CHECK_LE(a, b) INK_CHECK_OP(<=, a, b)
#define INK_CHECK_GT(a, b) INK_CHECK_OP(>, a, b)
#define INK_CHECK_GE(a, b) INK_CHECK_OP(>=, a, b)
