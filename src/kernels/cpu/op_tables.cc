// The CPU's tables, best first, and which of them this machine runs.
#include <string>
#include <vector>

#include "kernels/cpu/adapt.h"
#include "kernels/cpu/gather_rows.h"
#include "kernels/cpu/moe.h"
#include "kernels/cpu/reference/kernels_attn.h"
#include "kernels/cpu/reference/linear.h"
#include "kernels/cpu/vector_isas.h"
#include "kernels/op_table.h"

namespace ink {
namespace {

void ReferenceMoe(const MoeExpertsParams& params, const KernelContext& context) noexcept {
  cpu::MoeExperts(reference::Linear, reference::Glu, params, context);
}

constexpr OpTable kReference = {
    .name = "reference",
    .linear = reference::Linear,
    .gather_rows = cpu::GatherRows,
    .take_rows = cpu::TakeRows,
    .replace_rows = cpu::ReplaceRows,
    .rms_norm = reference::RmsNorm,
    .add = reference::Add,
    .scale = reference::Scale,
    .adapt = cpu::Adapt,
    .softcap = reference::Softcap,
    .glu = reference::Glu,
    .rope = reference::Rope,
    .kv_store = reference::KvStore,
    .attention = reference::Attention,
    .moe_route = cpu::MoeRoute,
    .moe_experts = ReferenceMoe,
};

std::vector<const OpTable*> FindTables() {
  std::vector<const OpTable*> tables;
  for (const VectorIsa& isa : VectorIsas()) tables.push_back(isa.ops);
  tables.push_back(&kReference);
  return tables;
}

}  // namespace

std::span<const OpTable* const> CpuOpTables() {
  static const std::vector<const OpTable*> tables =
      FindTables();  // immutable facts about the machine
  return tables;
}

Result<const OpTable*> FindCpuOpTable(std::string_view name) {
  if (name.empty()) return CpuOpTables().front();
  std::string known;
  for (const OpTable* table : CpuOpTables()) {
    if (table->name == name) return table;
    known += (known.empty() ? "" : ", ") + std::string(table->name);
  }
  return InvalidArgument("instruction set: expected one of " + known + ", got \"" +
                         std::string(name) + "\"");
}

}  // namespace ink
