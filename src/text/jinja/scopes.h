// Which names a block hides from the moment it is entered.
#pragma once

#include "text/jinja/ast.h"

namespace ink::jinja {

/// Fills the `hidden` lists of the tree. Jinja decides when it compiles a block where each name of
/// it lives: one that the block assigns outright before it reads it, and that no block around it
/// mentions, is the block's own, and undefined until assigned. Blocks within see that, even where
/// the context has a variable of the name.
void FindHiddenNames(Template* tree);

}  // namespace ink::jinja
