// An engine's prefix cache on disk: what is evicted is written, what a prompt needs is read.
#pragma once

#include <vector>

#include "cache/cache_manager.h"
#include "cache/disk_store.h"
#include "engine/kv_storage.h"

namespace ink {

/// Engine's thread only; `store` and `storage` outlive it. Writing costs that thread a copy (the
/// store has a thread for the rest); reading happens when a request is submitted, between two
/// steps: a fraction of a millisecond for a block whose 32 tokens would take as many forward
/// passes.
class DiskTier final : public SpillListener, public RestoreSource {
 public:
  DiskTier(DiskStore& store, KvStorage& storage) : store_(store), storage_(storage) {}

  /// While true, spilled blocks wait for the disk rather than being dropped: at the end.
  void set_wait(bool wait) { wait_ = wait; }

  void OnSpill(const CacheScope& scope, std::span<const int32_t> prefix, int32_t group,
               BlockId block) override {
    std::byte* bytes = Staging(group);
    storage_.Read(group, block, bytes);
    store_.Put(scope, prefix, group, {bytes, staging_.size()}, wait_);
  }
  bool Has(const CacheScope& scope, std::span<const int32_t> prefix, int32_t group) override {
    return store_.Has(scope, prefix, group);
  }
  bool Fill(const CacheScope& scope, std::span<const int32_t> prefix, int32_t group,
            BlockId block) override {
    std::byte* bytes = Staging(group);
    if (!store_.Get(scope, prefix, group, {bytes, staging_.size()})) return false;
    storage_.Write(group, block, bytes);
    return true;
  }

 private:
  std::byte* Staging(int32_t group) {
    staging_.resize(static_cast<size_t>(storage_.block_bytes(group)));
    return staging_.data();
  }

  DiskStore& store_;
  KvStorage& storage_;
  std::vector<std::byte> staging_;
  bool wait_ = false;
};

}  // namespace ink
