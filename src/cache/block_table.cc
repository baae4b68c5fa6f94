#include "cache/block_table.h"

#include "base/check.h"

namespace ink {

void BlockTable::PushNull() {
  INK_CHECK_EQ(first_live_, size());
  blocks_.push_back(kNullBlock);
  ++first_live_;
}

BlockId BlockTable::Pop() {
  const BlockId block = blocks_.back();
  blocks_.pop_back();
  if (first_live_ > size()) first_live_ = size();
  return block;
}

BlockId BlockTable::DropFirstLive() {
  INK_CHECK_LT(first_live_, size());
  const BlockId block = blocks_[first_live_];
  blocks_[first_live_++] = kNullBlock;
  return block;
}

void BlockTable::Clear() {
  blocks_.clear();
  first_live_ = 0;
}

}  // namespace ink
