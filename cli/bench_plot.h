#pragma once

#include <string>

#include "bench_measure.h"

namespace ink::cli {

/// An SVG of two panels: the roofline with every result on it, and cost per token against batch,
/// flat for prefill and falling for decode.
std::string PlotBench(const BenchReport& report);

}  // namespace ink::cli
