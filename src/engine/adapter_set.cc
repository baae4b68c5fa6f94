#include "engine/adapter_set.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>
#include <utility>

#include "ops/elementwise.h"
#include "ops/linear.h"
#include "tensor/align.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace ink {
namespace {

// Adapters of one request; far above use, and a bound on the work a request can ask for.
constexpr size_t kMaxUses = 64;

// 128 bits over everything that decides what an adapter does.
std::string ContentHash(const Adapter& adapter) {
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  for (const Adapter::Matrix& m : adapter.matrices) {
    const int64_t sizes[] = {static_cast<int64_t>(m.name.size()), m.rank, m.in, m.out,
                             static_cast<int64_t>(m.magnitude.size())};
    const float scale = adapter.Scale(m);
    XXH3_128bits_update(&state, sizes, sizeof(sizes));
    XXH3_128bits_update(&state, m.name.data(), m.name.size());
    XXH3_128bits_update(&state, &scale, sizeof(scale));
    for (const std::vector<float>* values : {&m.a, &m.b, &m.magnitude}) {
      XXH3_128bits_update(&state, values->data(), values->size() * sizeof(float));
    }
  }
  const XXH128_hash_t hash = XXH3_128bits_digest(&state);
  char text[40];
  std::snprintf(text, sizeof(text), "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text;
}

}  // namespace

AdapterSet::Lease& AdapterSet::Lease::operator=(Lease&& other) noexcept {
  if (this == &other) return *this;
  Reset();
  set_ = std::exchange(other.set_, nullptr);
  id_ = std::exchange(other.id_, -1);
  return *this;
}

void AdapterSet::Lease::Reset() {
  if (set_ != nullptr && id_ >= 0) set_->Release(id_);
  set_ = nullptr;
  id_ = -1;
}

const std::string& AdapterSet::Lease::scope() const {
  static const std::string kNone;
  return id_ < 0 ? kNone : set_->selections_[id_]->scope;
}

int64_t AdapterSet::ScratchSizes::bytes() const {
  return AlignBytes(low * 4) + AlignBytes(delta * 4) + AlignBytes(workspace);
}

void AdapterSet::ScratchSizes::Cover(const AdapterWeights::Matrix& matrix, int64_t max_rows,
                                     int64_t max_logit_rows) {
  // The vocabulary projection sees few rows at a time; were there more, Apply cuts them.
  const std::string& name = matrix.weights[0]->name;
  const bool output = name == "output.weight" || name == "token_embd.weight";
  const int64_t rows = output ? std::min(max_rows, max_logit_rows) : max_rows;
  low = std::max(low, rows * matrix.a.rows);
  delta = std::max(delta, rows * matrix.b.rows);
  for (const PackedMatrix* m : {&matrix.a, &matrix.b}) {
    workspace =
        std::max(workspace, static_cast<int64_t>(LinearWorkspaceBytes(LinearParamsOf(*m, rows))));
  }
}

Status AdapterSet::GrowScratch(const AdapterWeights& weights) {
  ScratchSizes sizes = sizes_;
  for (const AdapterWeights::Matrix& matrix : weights.matrices()) {
    sizes.Cover(matrix, max_rows_, max_logit_rows_);
  }
  if (sizes.bytes() > static_cast<int64_t>(scratch_.size())) {
    INK_ASSIGN_OR_RETURN(
        scratch_, device_.Allocate(static_cast<size_t>(sizes.bytes()), LedgerEntry::kActivations));
  }
  sizes_ = sizes;
  return OkStatus();
}

Status AdapterSet::Add(const std::string& name, const Adapter& adapter) {
  if (name.empty() || name.size() > 256) {
    return InvalidArgument("adapter name: expected 1 to 256 bytes, got " +
                           std::to_string(name.size()));
  }
  if (entries_.count(name) > 0) {
    return InvalidArgument("adapter \"" + name + "\": expected a new name, got one in use");
  }
  Entry entry;
  INK_ASSIGN_OR_RETURN(entry.weights, AdapterWeights::Create(adapter, model_, device_));
  INK_ASSIGN_OR_RETURN(entry.bytes, AdapterWeights::PlanBytes(adapter, model_, device_));
  INK_RETURN_IF_ERROR(GrowScratch(*entry.weights));
  entry.serial = next_serial_++;
  entry.content = ContentHash(adapter);
  entries_.emplace(name, std::move(entry));
  return OkStatus();
}

Status AdapterSet::Remove(const std::string& name, bool drain) {
  auto found = entries_.find(name);
  if (found == entries_.end()) return NotFound("adapter \"" + name + "\": no such adapter");
  if (found->second.requests == 0) {
    entries_.erase(found);
    return OkStatus();
  }
  if (!drain) {
    return Unavailable("adapter \"" + name + "\": expected no request that uses it, got " +
                       std::to_string(found->second.requests));
  }
  found->second.draining = true;
  return OkStatus();
}

std::vector<AdapterInfo> AdapterSet::List() const {
  std::vector<AdapterInfo> out;
  for (const auto& [name, entry] : entries_) {
    out.push_back({name, entry.bytes, entry.requests, entry.draining});
  }
  return out;
}

Result<std::shared_ptr<const AdapterSet::Gains>> AdapterSet::GainsOf(const Entry& entry,
                                                                     float scale) {
  std::weak_ptr<const Gains>& known = gains_[{entry.serial, scale}];
  if (auto gains = known.lock()) return gains;
  auto gains = std::make_shared<Gains>();
  int64_t bytes = 0;
  const auto& matrices = entry.weights->matrices();
  for (const auto& m : matrices) bytes += AlignBytes(static_cast<int64_t>(m.magnitude.size()) * 4);
  INK_ASSIGN_OR_RETURN(gains->buffer,
                       device_.Allocate(static_cast<size_t>(bytes), LedgerEntry::kWeights));
  std::byte* at = gains->buffer.data();
  for (const auto& m : matrices) {
    if (m.magnitude.empty()) {
      gains->of_matrix.push_back(nullptr);
      continue;
    }
    const std::vector<float> values = m.Gain(scale);
    device_.CopyToDevice(at, values.data(), values.size() * 4);
    gains->of_matrix.push_back(reinterpret_cast<const float*>(at));
    at += AlignBytes(static_cast<int64_t>(values.size()) * 4);
  }
  std::shared_ptr<const Gains> out = std::move(gains);
  known = out;
  return out;
}

Result<AdapterSet::Lease> AdapterSet::Select(std::span<const AdapterUse> uses) {
  if (uses.size() > kMaxUses) {
    return InvalidArgument("adapters: expected at most " + std::to_string(kMaxUses) +
                           " in one request, got " + std::to_string(uses.size()));
  }
  std::set<std::string_view> seen;
  std::string key, scope;
  std::vector<const AdapterUse*> live;
  for (const AdapterUse& use : uses) {
    auto found = entries_.find(use.name);
    if (found == entries_.end() || found->second.draining) {
      std::string known;
      for (const auto& [name, entry] : entries_) {
        if (!entry.draining) known += (known.empty() ? "" : ", ") + name;
      }
      return NotFound("adapter: expected one of " + (known.empty() ? "(none loaded)" : known) +
                      ", got \"" + use.name + "\"");
    }
    if (!std::isfinite(use.scale)) {
      return InvalidArgument("scale of adapter \"" + use.name +
                             "\": expected a finite number, got another");
    }
    if (!seen.insert(use.name).second) {
      return InvalidArgument("adapter \"" + use.name + "\": expected each name once, got it twice");
    }
    if (use.scale == 0) continue;
    char scale[48];
    std::snprintf(scale, sizeof(scale), "*%a", static_cast<double>(use.scale));
    const char* join = key.empty() ? "" : "+";
    key += join + std::to_string(found->second.serial) + scale;
    scope += join + found->second.content + scale;
    live.push_back(&use);
  }
  Lease lease;
  if (live.empty()) return lease;
  int32_t id = -1;
  for (size_t i = 0; i < selections_.size(); ++i) {
    if (selections_[i] == nullptr) {
      if (id < 0) id = static_cast<int32_t>(i);
    } else if (selections_[i]->key == key) {
      id = static_cast<int32_t>(i);
      break;
    }
  }
  if (id < 0) {
    id = static_cast<int32_t>(selections_.size());
    selections_.emplace_back();
  }
  if (selections_[id] == nullptr) {
    auto selection = std::make_unique<Selection>();
    selection->key = key;
    selection->scope = scope;
    for (const AdapterUse* use : live) {
      const Entry& entry = entries_.at(use->name);
      selection->names.push_back(use->name);
      selection->weights.push_back(entry.weights);
      std::shared_ptr<const Gains> gains;
      if (entry.weights->dora()) {
        INK_ASSIGN_OR_RETURN(gains, GainsOf(entry, use->scale));
        selection->gains.push_back(gains);
      }
      const auto& matrices = entry.weights->matrices();
      for (size_t m = 0; m < matrices.size(); ++m) {
        const Term term{&matrices[m], matrices[m].scale * use->scale,
                        gains != nullptr ? gains->of_matrix[m] : nullptr};
        for (const Weight* weight : matrices[m].weights) selection->terms[weight].push_back(term);
      }
    }
    selections_[id] = std::move(selection);
  }
  Selection& selection = *selections_[id];
  ++selection.requests;
  for (const std::string& name : selection.names) ++entries_.at(name).requests;
  lease.set_ = this;
  lease.id_ = id;
  return lease;
}

void AdapterSet::Release(int32_t id) {
  Selection& selection = *selections_[id];
  for (const std::string& name : selection.names) {
    auto entry = entries_.find(name);
    INK_CHECK(entry != entries_.end());
    if (--entry->second.requests == 0 && entry->second.draining) entries_.erase(entry);
  }
  if (--selection.requests > 0) return;
  selections_[id].reset();
  std::erase_if(gains_, [](const auto& item) { return item.second.expired(); });
}

Status AdapterSet::CoverPlanned(const Adapter& adapter, Device& device, int64_t max_rows,
                                int64_t max_logit_rows, ScratchSizes* sizes) {
  for (const Adapter::Matrix& m : adapter.matrices) {
    AdapterWeights::Matrix matrix;
    Weight named{m.name, {}};
    matrix.weights = {&named};
    INK_ASSIGN_OR_RETURN(matrix.a, device.PlanPacked(DType::kF32, m.rank, m.in, 1));
    INK_ASSIGN_OR_RETURN(matrix.b, device.PlanPacked(DType::kF32, m.out, m.rank, 1));
    sizes->Cover(matrix, max_rows, max_logit_rows);
  }
  return OkStatus();
}

Result<AdapterSet::Plan> AdapterSet::MakePlan(const Model& model, Device& device,
                                              std::span<const Adapter> adapters, int64_t max_rows,
                                              int64_t max_logit_rows) {
  Plan plan;
  ScratchSizes sizes;
  for (const Adapter& adapter : adapters) {
    INK_ASSIGN_OR_RETURN(int64_t bytes, AdapterWeights::PlanBytes(adapter, model, device));
    plan.weights += bytes;
    INK_RETURN_IF_ERROR(CoverPlanned(adapter, device, max_rows, max_logit_rows, &sizes));
  }
  if (!adapters.empty()) plan.activations = sizes.bytes();
  return plan;
}

Result<int64_t> AdapterSet::PlanAdd(const Adapter& adapter) const {
  INK_ASSIGN_OR_RETURN(int64_t bytes, AdapterWeights::PlanBytes(adapter, model_, device_));
  ScratchSizes sizes = sizes_;
  INK_RETURN_IF_ERROR(CoverPlanned(adapter, device_, max_rows_, max_logit_rows_, &sizes));
  // Larger scratch is taken before the smaller one goes.
  if (sizes.bytes() > static_cast<int64_t>(scratch_.size())) bytes += sizes.bytes();
  return bytes;
}

void AdapterSet::SetRows(std::span<const SequenceRows> rows) {
  rows_.clear();
  for (const SequenceRows& row : rows) {
    if (row.adapter < 0 || row.num_rows == 0) continue;
    if (!rows_.empty() && rows_.back().adapter == row.adapter &&
        rows_.back().first_row + rows_.back().num_rows == row.first_row) {
      rows_.back().num_rows += row.num_rows;
    } else {
      rows_.push_back(row);
    }
  }
}

void AdapterSet::AfterLinear(ExecContext& context, const Weight& weight, const VectorWeight* bias,
                             Tensor x, Tensor y) {
  for (const SequenceRows& row : rows_) {
    const Selection& selection = *selections_[row.adapter];
    auto found = selection.terms.find(&weight);
    if (found == selection.terms.end()) continue;
    INK_CHECK_LE(row.first_row + row.num_rows, x.rows);
    for (const Term& term : found->second) {
      Apply(context, term, bias, x.Rows(row.first_row, row.num_rows),
            y.Rows(row.first_row, row.num_rows));
    }
  }
}

void AdapterSet::Apply(ExecContext& context, const Term& term, const VectorWeight* bias, Tensor x,
                       Tensor y) {
  const PackedMatrix &a = term.matrix->a, &b = term.matrix->b;
  const int64_t step = std::min({x.rows, sizes_.low / a.rows, sizes_.delta / b.rows});
  INK_CHECK_GT(step, 0);
  auto* low = reinterpret_cast<float*>(scratch_.data());
  auto* delta = reinterpret_cast<float*>(scratch_.data() + AlignBytes(sizes_.low * 4));
  std::byte* workspace =
      scratch_.data() + AlignBytes(sizes_.low * 4) + AlignBytes(sizes_.delta * 4);
  for (int64_t first = 0; first < x.rows; first += step) {
    const int64_t count = std::min(step, x.rows - first);
    LinearParams down = LinearParamsOf(a, count);
    down.x = x.data + first * x.stride;
    down.x_stride = x.stride;
    down.y[0] = low;
    down.y_stride[0] = a.rows;
    down.workspace = workspace;
    context.Launch(device_.ops().linear, down);
    LinearParams up = LinearParamsOf(b, count);
    up.x = low;
    up.x_stride = a.rows;
    up.y[0] = delta;
    up.y_stride[0] = b.rows;
    up.workspace = workspace;
    context.Launch(device_.ops().linear, up);
    Adapt(context, y.Rows(first, count), delta, term.scale, term.gain, bias);
  }
}

}  // namespace ink
