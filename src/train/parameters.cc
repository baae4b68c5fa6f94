#include "train/parameters.h"

#include <cstring>
#include <map>

namespace ink {

Result<std::unique_ptr<ParameterStore>> ParameterStore::Create(Device& device, Model& model,
                                                               const MasterModel& master,
                                                               bool bfloat16) {
  std::unique_ptr<ParameterStore> store(new ParameterStore(device, bfloat16));
  auto align = [](int64_t floats) { return (floats + 15) / 16 * 16; };
  int64_t transposed_bytes = 0;
  std::map<const void*, int64_t> offsets;
  struct Place {
    int64_t values, transposed;
  };
  std::vector<Place> places;
  const DType type = bfloat16 ? DType::kBF16 : DType::kF32;
  auto add = [&](const void* data, const std::string& name) -> Parameter* {
    if (store->by_data_.contains(data)) return nullptr;
    const MasterTensor* tensor = master.Find(name);
    INK_CHECK(tensor != nullptr);
    auto parameter = std::make_unique<Parameter>();
    parameter->name = name;
    parameter->experts = tensor->experts;
    parameter->rows = tensor->rows;
    parameter->cols = tensor->cols;
    parameter->is_vector = tensor->is_vector;
    places.push_back({store->flat_size_, transposed_bytes});
    store->flat_size_ += align(tensor->size());
    store->num_parameters_ += tensor->size();
    store->by_data_[data] = parameter.get();
    store->parameters_.push_back(std::move(parameter));
    return store->parameters_.back().get();
  };
  for (Weight* weight : model.parameters().matrices) {
    Parameter* parameter = add(weight->packed.data, weight->name);
    if (parameter == nullptr) continue;
    parameter->panels = weight->packed;
    INK_CHECK(weight->packed.type == type);
    INK_ASSIGN_OR_RETURN(
        parameter->transposed,
        device.PlanPacked(type, parameter->cols, parameter->rows, parameter->experts));
    transposed_bytes += parameter->transposed.expert_bytes * parameter->experts;
    transposed_bytes = (transposed_bytes + 63) / 64 * 64;
  }
  for (VectorWeight* vector : model.parameters().vectors) add(vector->data, vector->name);

  const size_t bytes = static_cast<size_t>(store->flat_size_) * sizeof(float);
  INK_ASSIGN_OR_RETURN(store->value_buffer_, device.Allocate(bytes, LedgerEntry::kTraining));
  INK_ASSIGN_OR_RETURN(store->grad_buffer_, device.Allocate(bytes, LedgerEntry::kTraining));
  INK_ASSIGN_OR_RETURN(
      store->transposed_buffer_,
      device.Allocate(static_cast<size_t>(transposed_bytes), LedgerEntry::kTraining));
  store->values_ = reinterpret_cast<float*>(store->value_buffer_.data());
  store->grads_ = reinterpret_cast<float*>(store->grad_buffer_.data());
  for (size_t i = 0; i < places.size(); ++i) {
    Parameter& p = *store->parameters_[i];
    p.value = store->values_ + places[i].values;
    p.grad = store->grads_ + places[i].values;
    if (!p.is_vector) p.transposed.data = store->transposed_buffer_.data() + places[i].transposed;
    device.CopyToDevice(reinterpret_cast<std::byte*>(p.value), master.Find(p.name)->values.data(),
                        static_cast<size_t>(p.size()) * sizeof(float));
  }
  // Vectors are read in place: ops see the masters themselves.
  for (VectorWeight* vector : model.parameters().vectors) {
    Parameter* parameter = store->by_data_.at(vector->data);
    store->by_data_[parameter->value] = parameter;
    vector->data = parameter->value;
  }
  store->Repack();
  return store;
}

Result<std::unique_ptr<ParameterStore>> ParameterStore::CreateFree(Device& device,
                                                                   const MasterModel& tensors,
                                                                   bool bfloat16) {
  std::unique_ptr<ParameterStore> store(new ParameterStore(device, bfloat16));
  std::vector<int64_t> offsets;
  for (const MasterTensor& tensor : tensors.tensors) {
    auto parameter = std::make_unique<Parameter>();
    parameter->name = tensor.name;
    parameter->experts = tensor.experts;
    parameter->rows = tensor.rows;
    parameter->cols = tensor.cols;
    parameter->is_vector = tensor.is_vector;
    offsets.push_back(store->flat_size_);
    store->flat_size_ += (tensor.size() + 15) / 16 * 16;
    store->num_parameters_ += tensor.size();
    store->parameters_.push_back(std::move(parameter));
  }
  const size_t bytes = static_cast<size_t>(store->flat_size_) * sizeof(float);
  INK_ASSIGN_OR_RETURN(store->value_buffer_, device.Allocate(bytes, LedgerEntry::kTraining));
  INK_ASSIGN_OR_RETURN(store->grad_buffer_, device.Allocate(bytes, LedgerEntry::kTraining));
  store->values_ = reinterpret_cast<float*>(store->value_buffer_.data());
  store->grads_ = reinterpret_cast<float*>(store->grad_buffer_.data());
  for (size_t i = 0; i < offsets.size(); ++i) {
    Parameter& p = *store->parameters_[i];
    p.value = store->values_ + offsets[i];
    p.grad = store->grads_ + offsets[i];
    device.CopyToDevice(reinterpret_cast<std::byte*>(p.value), tensors.tensors[i].values.data(),
                        static_cast<size_t>(p.size()) * sizeof(float));
  }
  return store;
}

Parameter* ParameterStore::Find(std::string_view name) const {
  for (const auto& p : parameters_) {
    if (p->name == name) return p.get();
  }
  return nullptr;
}
Parameter* ParameterStore::Find(const Weight& weight) const {
  auto at = by_data_.find(weight.packed.data);
  return at == by_data_.end() ? nullptr : at->second;
}
Parameter* ParameterStore::Find(const VectorWeight& weight) const {
  auto at = by_data_.find(weight.data);
  return at == by_data_.end() ? nullptr : at->second;
}

void ParameterStore::Repack() {
  const TrainKernels& kernels = TrainKernelsFor(device_.ops().name);
  for (const auto& p : parameters_) {
    if (p->is_vector || p->panels.data == nullptr) continue;
    for (int e = 0; e < p->experts; ++e) {
      PackWeightParams pack;
      pack.w = p->value + e * p->rows * p->cols;
      pack.rows = p->rows;
      pack.cols = p->cols;
      pack.bfloat16 = bfloat16_;
      // The panels lie in the model's own buffer, which this store has taken over.
      pack.panels = const_cast<std::byte*>(p->panels.data) + e * p->panels.expert_bytes;
      pack.transposed = const_cast<std::byte*>(p->transposed.data) + e * p->transposed.expert_bytes;
      device_.Launch(kernels.pack_weight, pack);
    }
  }
}

void ParameterStore::ZeroGradients() {
  device_.Launch(TrainKernelsFor(device_.ops().name).fill, FillParams{grads_, flat_size_, 0.0f});
}

void ParameterStore::CopyTo(MasterModel* model) const {
  for (const auto& p : parameters_) {
    MasterTensor* tensor = model->Find(p->name);
    INK_CHECK(tensor != nullptr);
    device_.CopyToHost(tensor->values.data(), reinterpret_cast<const std::byte*>(p->value),
                       static_cast<size_t>(p->size()) * sizeof(float));
  }
}

}  // namespace ink
