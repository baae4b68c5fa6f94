#include "engine/step_cost.h"

#include <algorithm>
#include <map>

namespace ink {

int64_t StepWeightBytes(const Model& model) {
  int64_t bytes = model.info().weight_bytes;
  bool has_output = false;
  for (const Weight* w : model.parameters().matrices) has_output |= w->name == "output.weight";
  for (const Weight* w : model.parameters().matrices) {
    if (has_output && w->name == "token_embd.weight") bytes -= w->packed.expert_bytes;
  }
  return bytes;
}

int64_t KvReadBytes(const ModelInfo& info, KvTypes types, int64_t position) {
  int64_t bytes = 0;
  for (const LayerGroup& group : info.groups) {
    int64_t visible = position + 1;
    if (group.window > 0) visible = std::min(visible, group.window);
    bytes += GroupBlockBytes(group, types) * visible / kBlockTokens;
  }
  return bytes;
}

ComputeLimit DominantLimit(const Model& model, std::string_view isa) {
  std::map<ComputeLimit, int64_t> weights;
  for (const Weight* w : model.parameters().matrices) {
    ComputeLimit limit = ComputeLimit::kInt8;
    if (w->packed.type == DType::kF32 || w->packed.type == DType::kF16) limit = ComputeLimit::kFp32;
    if (w->packed.type == DType::kBF16) {
      limit = isa == "avx512" ? ComputeLimit::kBf16 : ComputeLimit::kFp32;
    }
    weights[limit] += w->packed.rows * w->packed.cols * w->packed.experts;
  }
  auto best = std::max_element(weights.begin(), weights.end(),
                               [](auto& a, auto& b) { return a.second < b.second; });
  return best == weights.end() ? ComputeLimit::kInt8 : best->first;
}

PhaseWork& PhaseWork::operator+=(const PhaseWork& other) {
  steps += other.steps;
  tokens += other.tokens;
  seconds += other.seconds;
  flops += other.flops;
  bytes_read += other.bytes_read;
  return *this;
}

void PhaseMeter::Add(const PhaseWork& step) {
  total_ += step;
  last_[next_++ % kRecent] = step;
}

PhaseWork PhaseMeter::recent() const {
  PhaseWork sum;
  for (const PhaseWork& step : last_) sum += step;
  return sum;
}

}  // namespace ink
