// The TOML parser, configured once: its classes differ with and without exceptions, yet bear the
// same names, so two settings in one program end in one of them running the other's code.
#pragma once

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>
