// One named table of kernels per instruction set. A kernel enqueues nothing itself: Device::Launch
// does; on a CPU it runs at once on the context's thread pool.
#pragma once

#include <span>
#include <string_view>

#include "base/status.h"
#include "kernels/op_params.h"

namespace ink {

struct OpTable {
  std::string_view name;  // "reference", "avx2", "avx512"
  void (*linear)(const LinearParams&, const KernelContext&) noexcept;
  void (*gather_rows)(const GatherRowsParams&, const KernelContext&) noexcept;
  void (*take_rows)(const TakeRowsParams&, const KernelContext&) noexcept;
  void (*replace_rows)(const ReplaceRowsParams&, const KernelContext&) noexcept;
  void (*rms_norm)(const RmsNormParams&, const KernelContext&) noexcept;
  void (*add)(const AddParams&, const KernelContext&) noexcept;
  void (*scale)(const ScaleParams&, const KernelContext&) noexcept;
  void (*adapt)(const AdaptParams&, const KernelContext&) noexcept;
  void (*softcap)(const SoftcapParams&, const KernelContext&) noexcept;
  void (*glu)(const GluParams&, const KernelContext&) noexcept;
  void (*rope)(const RopeParams&, const KernelContext&) noexcept;
  void (*kv_store)(const KvStoreParams&, const KernelContext&) noexcept;
  void (*attention)(const AttentionParams&, const KernelContext&) noexcept;
  void (*moe_route)(const MoeRouteParams&, const KernelContext&) noexcept;
  void (*moe_experts)(const MoeExpertsParams&, const KernelContext&) noexcept;
};

/// Workspace that a Linear needs: packed activations, with their scales and sums. Depends on
/// num_rows, cols and the weights' types; pointers may still be null.
size_t LinearWorkspaceBytes(const LinearParams& params);

/// Workspace of MoeExperts.
size_t MoeWorkspaceBytes(const MoeExpertsParams& params);

/// The CPU tables this machine can run, best first; "reference" is always the last.
std::span<const OpTable* const> CpuOpTables();

/// The table called `name`, the best one when `name` is empty. Errors: kInvalidArgument naming the
/// tables that exist here.
Result<const OpTable*> FindCpuOpTable(std::string_view name);

}  // namespace ink
