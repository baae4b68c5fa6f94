// Status and Result<T>: how the outside world's failures (file, request, memory) travel.
// A bug in Inkstone itself is INK_CHECK (check.h) instead.
#pragma once

#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "base/check.h"

namespace ink {

enum class StatusCode {
  kOk,
  kInvalidArgument,  // a value the caller gave is wrong
  kNotFound,         // a file, tensor, model or key does not exist
  kIo,               // the operating system refused (disk full, permission, short read)
  kCorrupt,          // a file's content contradicts its format
  kUnsupported,      // well formed, but Inkstone has no implementation for it
  kOutOfMemory,      // a byte budget would be exceeded; the message shows the arithmetic
  kCancelled,
  kUnavailable,  // queue full, draining; try again later
};

/// The code's name in the field's own words, e.g. "not found".
std::string_view StatusCodeName(StatusCode code);

/// Success, or a code and one sentence that says what, expected and actual.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

  /// The same failure with `context` and ": " before the message; success stays success.
  Status WithContext(std::string_view context) const;

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

inline Status OkStatus() { return Status(); }
Status InvalidArgument(std::string message);
Status NotFound(std::string message);
Status IoError(std::string message);
Status Corrupt(std::string message);
Status Unsupported(std::string message);
Status OutOfMemory(std::string message);
Status Cancelled(std::string message);
Status Unavailable(std::string message);

/// A T or the Status that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}        // NOLINT: implicit
  Result(Status status) : state_(std::in_place_index<1>, std::move(status)) {  // NOLINT: implicit
    INK_CHECK(!std::get<1>(state_).ok());
  }

  bool ok() const { return state_.index() == 0; }
  Status status() const { return ok() ? Status() : std::get<1>(state_); }

  /// The value; calling these on a failure is a bug.
  T& value() & {
    INK_CHECK(ok());
    return std::get<0>(state_);
  }
  const T& value() const& {
    INK_CHECK(ok());
    return std::get<0>(state_);
  }
  T&& value() && {
    INK_CHECK(ok());
    return std::move(std::get<0>(state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::variant<T, Status> state_;
};

}  // namespace ink

#define INK_CONCAT_INNER(a, b) a##b
#define INK_CONCAT(a, b) INK_CONCAT_INNER(a, b)

#define INK_RETURN_IF_ERROR(expr)              \
  do {                                         \
    ::ink::Status ink_status_ = (expr);        \
    if (!ink_status_.ok()) return ink_status_; \
  } while (0)

/// INK_ASSIGN_OR_RETURN(auto x, MakeX()): declares or assigns, or returns the failure.
#define INK_ASSIGN_OR_RETURN(lhs, expr) \
  INK_ASSIGN_OR_RETURN_INNER(INK_CONCAT(ink_result_, __LINE__), lhs, expr)
#define INK_ASSIGN_OR_RETURN_INNER(result, lhs, expr) \
  auto result = (expr);                               \
  if (!result.ok()) return result.status();           \
  lhs = std::move(result).value()
