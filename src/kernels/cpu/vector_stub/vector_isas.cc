// A build without vector kernels: the reference does everything.
#include "kernels/cpu/vector_isas.h"

namespace ink {

std::span<const VectorIsa> VectorIsas() { return {}; }

}  // namespace ink
