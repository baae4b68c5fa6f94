// One suite that every SchedulerPolicy passes, and what each promises beyond it.
#include "engine/scheduler_policy.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/rng.h"

namespace ink {
namespace {

std::unique_ptr<SchedulerPolicy> Make(std::string_view name) {
  auto policy = MakeSchedulerPolicy(name);
  EXPECT_TRUE(policy.ok());
  return std::move(policy).value();
}

class Conformance : public testing::TestWithParam<const char*> {
 protected:
  PolicyEntry& New(int32_t priority = 0, std::string key = "", uint32_t weight = 1) {
    auto entry = std::make_unique<PolicyEntry>();
    entry->id = 100 + entries_.size();
    entry->arrival = entries_.size();
    entry->priority = priority;
    entry->key = std::move(key);
    entry->weight = weight;
    policy_->Register(*entry);
    entries_.push_back(std::move(entry));
    return *entries_.back();
  }

  std::unique_ptr<SchedulerPolicy> policy_ = Make(GetParam());
  std::vector<std::unique_ptr<PolicyEntry>> entries_;
};

INSTANTIATE_TEST_SUITE_P(SchedulerPolicy, Conformance, testing::Values("fcfs", "priority", "fair"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(Conformance, NameIsTheOneItWasMadeBy) { EXPECT_EQ(policy_->name(), GetParam()); }

TEST_P(Conformance, EqualsAreServedInOrderOfArrival) {
  for (int i = 0; i < 5; ++i) New(3, "same");
  for (const int i : {3, 0, 4, 2, 1}) policy_->Enqueue(*entries_[i]);
  for (int i = 0; i < 5; ++i) {
    ASSERT_EQ(policy_->Next(), entries_[i].get());
    policy_->Dequeue(*entries_[i]);
  }
  EXPECT_EQ(policy_->Next(), nullptr);
}

TEST_P(Conformance, APreemptedEntryComesBeforeLaterEquals) {
  PolicyEntry& first = New();
  PolicyEntry& second = New();
  policy_->Enqueue(first);
  policy_->Enqueue(second);
  policy_->Dequeue(first);
  policy_->Enqueue(first);
  EXPECT_EQ(policy_->Next(), &first);
}

TEST_P(Conformance, NeverPreemptsAnEqual) {
  PolicyEntry& a = New(5, "k");
  PolicyEntry& b = New(5, "k");
  EXPECT_FALSE(policy_->MayPreempt(a, b));
  EXPECT_FALSE(policy_->MayPreempt(b, a));
}

// Next is always the waiting entry of smallest rank; ranks are a total order; preemption for
// admission only ever goes down in rank.
TEST_P(Conformance, RandomOperationsKeepTheOrder) {
  for (uint64_t seed = 0; seed < 5; ++seed) {
    policy_ = Make(GetParam());
    entries_.clear();
    Rng rng(seed);
    std::set<PolicyEntry*> waiting, away;
    for (int step = 0; step < 1500; ++step) {
      auto pick = [&](const std::set<PolicyEntry*>& from) {
        // By id, not by address: addresses differ from run to run.
        std::map<SequenceId, PolicyEntry*> by_id;
        for (PolicyEntry* entry : from) by_id[entry->id] = entry;
        return std::next(by_id.begin(), rng.Below(by_id.size()))->second;
      };
      switch (rng.Below(5)) {
        case 0:
          away.insert(&New(static_cast<int32_t>(rng.Below(3)) - 1,
                           "k" + std::to_string(rng.Below(4)),
                           1 + static_cast<uint32_t>(rng.Below(3))));
          break;
        case 1:
          if (away.empty()) break;
          {
            PolicyEntry* entry = pick(away);
            policy_->Enqueue(*entry);
            away.erase(entry);
            waiting.insert(entry);
          }
          break;
        case 2:
          if (waiting.empty()) break;
          {
            PolicyEntry* entry = pick(waiting);
            policy_->Dequeue(*entry);
            waiting.erase(entry);
            away.insert(entry);
          }
          break;
        case 3:
          if (!away.empty()) policy_->Charge(*pick(away), 1 + rng.Below(500));
          break;
        case 4:
          if (away.size() < 8) break;
          {
            PolicyEntry* entry = pick(away);
            policy_->Forget(*entry);
            away.erase(entry);
          }
          break;
      }
      ASSERT_EQ(policy_->num_waiting(), static_cast<int64_t>(waiting.size()));
      const PolicyEntry* smallest = nullptr;
      std::set<Rank> ranks;
      for (PolicyEntry* entry : waiting) {
        ASSERT_TRUE(ranks.insert(policy_->RankOf(*entry)).second);
        if (smallest == nullptr || policy_->RankOf(*entry) < policy_->RankOf(*smallest)) {
          smallest = entry;
        }
      }
      ASSERT_EQ(policy_->Next(), smallest);
      for (PolicyEntry* entry : away) {
        if (smallest != nullptr && policy_->MayPreempt(*smallest, *entry)) {
          ASSERT_LT(policy_->RankOf(*smallest), policy_->RankOf(*entry));
        }
      }
    }
  }
}

TEST(SchedulerPolicy, UnknownNameListsTheKnownOnes) {
  const auto policy = MakeSchedulerPolicy("lottery");
  ASSERT_FALSE(policy.ok());
  for (const char* name : {"lottery", "fcfs", "priority", "fair"}) {
    EXPECT_NE(policy.status().message().find(name), std::string::npos);
  }
}

TEST(SchedulerPolicy, PriorityGoesBeforeArrival) {
  const auto policy = Make("priority");
  PolicyEntry low{.id = 1, .arrival = 0, .priority = -1};
  PolicyEntry high{.id = 2, .arrival = 1, .priority = 7};
  policy->Enqueue(low);
  policy->Enqueue(high);
  EXPECT_EQ(policy->Next(), &high);
  EXPECT_TRUE(policy->MayPreempt(high, low));
  EXPECT_FALSE(policy->MayPreempt(low, high));
}

// Always serving Next and charging it, keys share tokens in proportion to their weights.
TEST(SchedulerPolicy, FairSharesFollowWeights) {
  const auto policy = Make("fair");
  std::vector<std::unique_ptr<PolicyEntry>> entries;
  const uint32_t weights[] = {1, 2, 5};
  for (int i = 0; i < 300; ++i) {
    // All of the first key's arrive before any of the second's.
    entries.push_back(
        std::make_unique<PolicyEntry>(PolicyEntry{.id = static_cast<SequenceId>(i),
                                                  .arrival = static_cast<uint64_t>(i),
                                                  .key = "key" + std::to_string(i / 100),
                                                  .weight = weights[i / 100]}));
    policy->Register(*entries.back());
    policy->Enqueue(*entries.back());
  }
  std::map<std::string, int64_t> served;
  Rng rng(3);
  for (int i = 0; i < 120; ++i) {
    const PolicyEntry* next = policy->Next();
    const int64_t tokens = 50 + rng.Below(100);
    served[next->key] += tokens;
    policy->Dequeue(*next);
    policy->Charge(*next, tokens);
  }
  const double unit = static_cast<double>(served["key0"] + served["key1"] + served["key2"]) / 8;
  EXPECT_NEAR(served["key0"] / unit, 1, 0.15);
  EXPECT_NEAR(served["key1"] / unit, 2, 0.15);
  EXPECT_NEAR(served["key2"] / unit, 5, 0.15);
}

TEST(SchedulerPolicy, FairOwesNothingForTimeAway) {
  const auto policy = Make("fair");
  PolicyEntry busy{.id = 1, .arrival = 0, .key = "busy"};
  policy->Register(busy);
  policy->Charge(busy, 1000000);
  PolicyEntry newcomer{.id = 2, .arrival = 1, .key = "new"};
  policy->Register(newcomer);
  EXPECT_EQ(policy->RankOf(newcomer).major, policy->RankOf(busy).major);
  policy->Charge(newcomer, 10);
  policy->Forget(newcomer);
  PolicyEntry again{.id = 3, .arrival = 2, .key = "new"};
  policy->Register(again);  // leaving for a moment clears no debt
  EXPECT_GT(policy->RankOf(again).major, policy->RankOf(busy).major);
}

TEST(SchedulerPolicy, FairForgetsIdleKeys) {
  const auto policy = Make("fair");
  PolicyEntry busy{.id = 1, .arrival = 0, .key = "busy"};
  policy->Register(busy);
  int32_t largest = 0;
  for (int i = 0; i < 30000; ++i) {
    PolicyEntry entry{.id = 2, .arrival = 1, .key = "key" + std::to_string(i)};
    policy->Register(entry);
    policy->Charge(entry, 5);
    largest = std::max(largest, entry.key_slot);
    policy->Forget(entry);
  }
  EXPECT_LT(largest, 5000);
}

}  // namespace
}  // namespace ink
