#include "train/low_rank.h"

#include <algorithm>
#include <cmath>

#include "base/rng.h"
#include "kernels/op_table.h"
#include "kernels/train_kernels.h"
#include "tensor/align.h"

namespace ink {
namespace {

// Rows brought back at a time: a block of about a MiB stays in the second-level cache until the
// product has read it.
int64_t BlockRows(const PackedMatrix& matrix) {
  const int64_t rows =
      std::max<int64_t>(16, (int64_t{1} << 18) / std::max<int64_t>(1, matrix.cols));
  return std::min(matrix.rows, rows / 16 * 16);
}

// "blk.3.attn_q.weight" -> "attn_q".
std::string Kind(const std::string& name) {
  std::string kind = name.substr(0, name.rfind('.'));
  const size_t dot = kind.rfind('.');
  return dot == std::string::npos ? kind : kind.substr(dot + 1);
}

bool Wanted(const AdapterTarget::Matrix& matrix, const std::string& target) {
  if (target == "all") return matrix.name.starts_with("blk.");
  const size_t dot = matrix.hf_module.rfind('.');
  const std::string module =
      dot == std::string::npos ? matrix.hf_module : matrix.hf_module.substr(dot + 1);
  return target == Kind(matrix.name) || (!module.empty() && target == module);
}

Result<std::vector<const AdapterTarget::Matrix*>> Choose(const AdapterTarget& target,
                                                         const std::vector<std::string>& wanted) {
  std::vector<const AdapterTarget::Matrix*> chosen;
  for (const std::string& name : wanted) {
    bool found = false;
    for (const AdapterTarget::Matrix& matrix : target.matrices) {
      if (!Wanted(matrix, name)) continue;
      if (matrix.experts) {
        if (name == "all") continue;
        return Unsupported("[adapter] targets: \"" + name +
                           "\" is a stack of experts, which adapters cannot change");
      }
      found = true;
      if (std::find(chosen.begin(), chosen.end(), &matrix) == chosen.end()) {
        chosen.push_back(&matrix);
      }
    }
    if (found) continue;
    std::vector<std::string> kinds;
    for (const AdapterTarget::Matrix& matrix : target.matrices) {
      const std::string kind = Kind(matrix.name);
      if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) kinds.push_back(kind);
    }
    std::string list;
    for (const std::string& kind : kinds) list += (list.empty() ? "" : ", ") + kind;
    return InvalidArgument("[adapter] targets: expected all or some of " + list + ", got \"" +
                           name + "\"");
  }
  return chosen;
}

}  // namespace

void UnpackRows(Device& device, const PackedMatrix& matrix, int64_t first, int64_t count,
                int32_t* ids, float* out) {
  std::vector<int32_t> host(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i)
    host[static_cast<size_t>(i)] = static_cast<int32_t>(first + i);
  device.CopyToDevice(reinterpret_cast<std::byte*>(ids), host.data(),
                      host.size() * sizeof(int32_t));
  device.Launch(device.ops().gather_rows, GatherRowsParams{matrix, ids, count, 1.0f, out});
}

size_t LinearGradInputWorkspaceBytes(const LinearGradInputParams& p) {
  MatmulParams product;
  product.m = p.num_rows;
  product.n = p.weight.cols;
  product.k = BlockRows(p.weight);
  return static_cast<size_t>(AlignBytes(product.k * p.weight.cols * 4)) +
         MatmulWorkspaceBytes(product);
}

void LinearGradInput(Device& device, const LinearGradInputParams& p) {
  const TrainKernels& kernels = TrainKernelsFor(device.ops().name);
  const int64_t block = BlockRows(p.weight);
  auto* rows = reinterpret_cast<float*>(p.workspace);
  for (int64_t first = 0; first < p.weight.rows; first += block) {
    const int64_t count = std::min(block, p.weight.rows - first);
    device.Launch(device.ops().gather_rows,
                  GatherRowsParams{p.weight, p.ids + first, count, 1.0f, rows});
    MatmulParams product;
    product.a = p.dy + first;
    product.a_stride = p.dy_stride;
    product.b = rows;
    product.b_stride = p.weight.cols;
    product.b_columns = true;
    product.c = p.dx;
    product.c_stride = p.dx_stride;
    product.m = p.num_rows;
    product.n = p.weight.cols;
    product.k = count;
    product.accumulate = p.accumulate || first > 0;
    product.bfloat16 = p.bfloat16;
    product.workspace = p.workspace + AlignBytes(block * p.weight.cols * 4);
    device.Launch(kernels.matmul, product);
  }
}

Result<std::unique_ptr<LowRankSet>> LowRankSet::Create(Device& device, Model& model,
                                                       const AdapterTarget& target,
                                                       const LowRankConfig& config, bool bfloat16,
                                                       uint64_t seed) {
  std::unique_ptr<LowRankSet> set(new LowRankSet(device, config));
  set->target_ = target;
  INK_ASSIGN_OR_RETURN(const auto chosen, Choose(set->target_, config.targets));
  MasterModel factors;
  uint64_t stream = 0;
  for (const AdapterTarget::Matrix* m : chosen) {
    if (config.rank > std::min(m->rows, m->cols)) {
      return InvalidArgument("[adapter] rank: expected at most " +
                             std::to_string(std::min(m->rows, m->cols)) + " for " + m->name +
                             ", got " + std::to_string(config.rank));
    }
    MasterTensor a{m->name + ".lora_a", 1, config.rank, m->cols, false, {}};
    a.values.resize(static_cast<size_t>(a.size()));
    Rng rng(seed, 0x10a0000 + stream++);
    const float bound = 1.0f / std::sqrt(static_cast<float>(m->cols));
    for (float& v : a.values) v = bound * static_cast<float>(2 * rng.Uniform() - 1);
    MasterTensor b{m->name + ".lora_b", 1, m->rows, config.rank, false, {}};
    b.values.resize(static_cast<size_t>(b.size()));
    factors.tensors.push_back(std::move(a));
    factors.tensors.push_back(std::move(b));
    if (config.dora) {
      MasterTensor magnitude{m->name + ".magnitude", 1, 1, m->rows, true, {}};
      magnitude.values.assign(static_cast<size_t>(m->rows), 1.0f);
      factors.tensors.push_back(std::move(magnitude));
    }
  }
  INK_ASSIGN_OR_RETURN(set->parameters_, ParameterStore::CreateFree(device, factors, bfloat16));
  const auto rank = static_cast<double>(config.rank);
  int64_t factor_floats = 0, workspace = 0;
  for (const AdapterTarget::Matrix* m : chosen) {
    auto one = std::make_unique<LowRank>();
    const std::string stored = m->tied ? "token_embd.weight" : m->name;
    for (const Weight* weight : model.parameters().matrices) {
      if (weight->name != stored) continue;
      if (one->weight == nullptr) one->weight = weight;
      set->by_weight_[weight] = one.get();
    }
    if (one->weight == nullptr) {
      return Unsupported("[adapter] targets: " + m->name +
                         " is no matrix of its own in this model");
    }
    const std::string bias = m->name.substr(0, m->name.rfind('.')) + ".bias";
    for (const VectorWeight* vector : model.parameters().vectors) {
      if (vector->name == bias && vector->data != nullptr) one->bias = vector;
    }
    one->a = set->parameters_->Find(m->name + ".lora_a");
    one->b = set->parameters_->Find(m->name + ".lora_b");
    if (config.dora) one->magnitude = set->parameters_->Find(m->name + ".magnitude");
    one->scale =
        static_cast<float>(config.alpha / (config.rank_stabilized ? std::sqrt(rank) : rank));
    one->dropout = static_cast<float>(config.dropout);
    if (config.dora) {
      factor_floats += 2 * ((m->rows + 15) / 16 * 16);
      const int64_t block = BlockRows(one->weight->packed);
      MatmulParams product;
      product.m = block;
      product.n = config.rank;
      product.k = m->cols;
      workspace = std::max(workspace, AlignBytes(block * 4) + AlignBytes(block * m->cols * 4) +
                                          AlignBytes(block * config.rank * 4) +
                                          static_cast<int64_t>(MatmulWorkspaceBytes(product)));
    }
    set->matrices_.push_back(m);
    set->all_.push_back(std::move(one));
  }
  if (!config.dora) return set;
  INK_ASSIGN_OR_RETURN(set->factors_, device.Allocate(static_cast<size_t>(factor_floats) * 4,
                                                      LedgerEntry::kTraining));
  INK_ASSIGN_OR_RETURN(set->workspace_,
                       device.Allocate(static_cast<size_t>(workspace), LedgerEntry::kTraining));
  auto* at = reinterpret_cast<float*>(set->factors_.data());
  for (const auto& one : set->all_) {
    const PackedMatrix& packed = one->weight->packed;
    one->factor = at;
    one->inverse_magnitude = at + (packed.rows + 15) / 16 * 16;
    at += 2 * ((packed.rows + 15) / 16 * 16);
    // The magnitudes begin as the rows' own norms.
    const int64_t block = BlockRows(packed);
    auto* ids = reinterpret_cast<int32_t*>(set->workspace_.data());
    auto* rows = reinterpret_cast<float*>(set->workspace_.data() + AlignBytes(block * 4));
    std::vector<double> squares(static_cast<size_t>(packed.rows));
    std::vector<float> norms(squares.size()), host(static_cast<size_t>(block * packed.cols));
    for (int64_t first = 0; first < packed.rows; first += block) {
      const int64_t count = std::min(block, packed.rows - first);
      UnpackRows(device, packed, first, count, ids, rows);
      device.CopyToHost(host.data(), reinterpret_cast<const std::byte*>(rows),
                        static_cast<size_t>(count * packed.cols) * sizeof(float));
      for (int64_t r = 0; r < count; ++r) {
        double sum = 0;
        for (int64_t c = 0; c < packed.cols; ++c) {
          const auto v = static_cast<double>(host[static_cast<size_t>(r * packed.cols + c)]);
          sum += v * v;
        }
        squares[static_cast<size_t>(first + r)] = sum;
        norms[static_cast<size_t>(first + r)] = static_cast<float>(std::sqrt(sum));
      }
    }
    device.CopyToDevice(reinterpret_cast<std::byte*>(one->magnitude->value), norms.data(),
                        norms.size() * sizeof(float));
    set->base_squares_.push_back(std::move(squares));
  }
  set->Refresh();
  return set;
}

const LowRank* LowRankSet::Find(const Weight& weight) const {
  auto at = by_weight_.find(&weight);
  return at == by_weight_.end() ? nullptr : at->second;
}

int64_t LowRankSet::state_bytes() const {
  int64_t host = 0;
  for (const auto& squares : base_squares_) host += static_cast<int64_t>(squares.size()) * 8;
  return host + static_cast<int64_t>(factors_.size() + workspace_.size());
}

// |w_j + s b_j A|^2 = |w_j|^2 + 2 s b_j . (A w_j) + s^2 b_j (A A^T) b_j^T.
void LowRankSet::Refresh() {
  if (!config_.dora) return;
  const TrainKernels& kernels = TrainKernelsFor(device_.ops().name);
  const int64_t rank = config_.rank;
  const auto r = static_cast<size_t>(rank);
  for (size_t i = 0; i < all_.size(); ++i) {
    const LowRank& one = *all_[i];
    const PackedMatrix& packed = one.weight->packed;
    const int64_t block = BlockRows(packed), cols = packed.cols;
    const auto n = static_cast<size_t>(packed.rows);
    std::vector<float> a(r * static_cast<size_t>(cols)), b(n * r), magnitude(n), wa(n * r);
    auto fetch = [&](std::vector<float>& to, const float* from) {
      device_.CopyToHost(to.data(), reinterpret_cast<const std::byte*>(from),
                         to.size() * sizeof(float));
    };
    fetch(a, one.a->value);
    fetch(b, one.b->value);
    fetch(magnitude, one.magnitude->value);
    auto* ids = reinterpret_cast<int32_t*>(workspace_.data());
    auto* rows = reinterpret_cast<float*>(workspace_.data() + AlignBytes(block * 4));
    auto* products = rows + AlignBytes(block * cols * 4) / 4;
    for (int64_t first = 0; first < packed.rows; first += block) {
      const int64_t count = std::min(block, packed.rows - first);
      UnpackRows(device_, packed, first, count, ids, rows);
      MatmulParams p;
      p.a = rows;
      p.a_stride = p.b_stride = p.k = cols;
      p.b = one.a->value;
      p.c = products;
      p.c_stride = p.n = rank;
      p.m = count;
      p.workspace = reinterpret_cast<std::byte*>(products) + AlignBytes(block * rank * 4);
      device_.Launch(kernels.matmul, p);
      device_.CopyToHost(wa.data() + first * rank, reinterpret_cast<const std::byte*>(products),
                         static_cast<size_t>(count * rank) * sizeof(float));
    }
    std::vector<double> gram(r * r);
    for (size_t p = 0; p < r; ++p) {
      for (size_t q = 0; q < r; ++q) {
        double sum = 0;
        for (size_t c = 0; c < static_cast<size_t>(cols); ++c) {
          sum += double{a[p * static_cast<size_t>(cols) + c]} *
                 double{a[q * static_cast<size_t>(cols) + c]};
        }
        gram[p * r + q] = sum;
      }
    }
    const auto s = double{one.scale};
    std::vector<float> factor(n), inverse(n);
    for (size_t j = 0; j < n; ++j) {
      double square = base_squares_[i][j];
      for (size_t p = 0; p < r; ++p) {
        const auto bp = double{b[j * r + p]};
        square += 2 * s * bp * double{wa[j * r + p]};
        for (size_t q = 0; q < r; ++q)
          square += s * s * bp * double{b[j * r + q]} * gram[p * r + q];
      }
      const double norm = std::sqrt(std::max(square, 1e-20));
      factor[j] = static_cast<float>(double{magnitude[j]} / norm);
      inverse[j] = magnitude[j] != 0 ? 1.0f / magnitude[j] : 0.0f;
    }
    device_.CopyToDevice(reinterpret_cast<std::byte*>(one.factor), factor.data(), n * 4);
    device_.CopyToDevice(reinterpret_cast<std::byte*>(one.inverse_magnitude), inverse.data(),
                         n * 4);
  }
}

Adapter LowRankSet::ToAdapter(const std::string& base_model) const {
  Adapter adapter;
  adapter.path = "the adapter in training";
  adapter.base_model = base_model;
  adapter.rank = config_.rank;
  adapter.alpha = static_cast<float>(config_.alpha);
  adapter.rank_stabilized = config_.rank_stabilized;
  auto fetch = [&](const Parameter& p) {
    std::vector<float> values(static_cast<size_t>(p.size()));
    device_.CopyToHost(values.data(), reinterpret_cast<const std::byte*>(p.value),
                       values.size() * sizeof(float));
    return values;
  };
  for (const AdapterTarget::Matrix& matrix : target_.matrices) {  // in the target's order
    for (size_t i = 0; i < all_.size(); ++i) {
      if (matrices_[i] != &matrix) continue;
      Adapter::Matrix m;
      m.name = matrix.name;
      m.rank = config_.rank;
      m.in = matrix.cols;
      m.out = matrix.rows;
      m.alpha = adapter.alpha;
      m.a = fetch(*all_[i]->a);
      m.b = fetch(*all_[i]->b);
      if (all_[i]->magnitude != nullptr) m.magnitude = fetch(*all_[i]->magnitude);
      adapter.matrices.push_back(std::move(m));
    }
  }
  return adapter;
}

}  // namespace ink
