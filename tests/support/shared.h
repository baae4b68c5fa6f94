// Access to the reference data beside the checkout (../shared). Tests that need it skip, with a
// printed reason, only where the folder is absent.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

namespace ink::testing_support {

inline bool HasShared() { return std::filesystem::exists(INK_SHARED_DIR "/goldens"); }
inline std::string Shared(const std::string& path) { return INK_SHARED_DIR "/" + path; }

}  // namespace ink::testing_support

#define INK_NEEDS_SHARED()                  \
  if (!::ink::testing_support::HasShared()) \
  GTEST_SKIP() << "no " << INK_SHARED_DIR "/goldens here: reference data is absent"
