// A tiny model in training, with batches of random tokens.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "kernels/device.h"
#include "model/model.h"
#include "train/master_model.h"
#include "train/model_step.h"
#include "train/parameters.h"

namespace ink::testing_support {

inline ModelShape TinyShape(const std::string& architecture) {
  ModelShape shape;
  shape.architecture = architecture;
  shape.d_model = 48;
  shape.ffn_dim = 72;
  shape.num_layers = 3;
  shape.num_heads = 4;
  shape.num_kv_heads = 2;
  shape.head_dim = 12;
  shape.n_vocab = 61;
  shape.context = 128;
  shape.tied = architecture != "phi3" && architecture != "qwen3";
  if (architecture == "qwen3moe") {
    // All experts take part: a choice that changes within a finite difference has no slope.
    shape.num_experts = shape.experts_per_token = 3;
  }
  if (architecture.starts_with("gemma")) shape.sliding_window = 5;
  return shape;
}

struct Training {
  Ledger ledger;
  std::unique_ptr<Device> device;
  MasterModel master;
  std::unique_ptr<Model> model;
  std::unique_ptr<ParameterStore> parameters;
  std::unique_ptr<ModelStep> step;
};

inline std::unique_ptr<Training> MakeTraining(const ModelShape& shape, bool bfloat16,
                                              bool recompute = false, std::string_view isa = "",
                                              bool lively = true) {
  auto t = std::make_unique<Training>();
  CpuDeviceOptions device_options;
  device_options.num_threads = 2;
  device_options.isa = isa;
  auto device = CreateCpuDevice(device_options, &t->ledger);
  EXPECT_TRUE(device.ok()) << device.status().message();
  t->device = std::move(*device);
  auto master = InitModel(shape, 7);
  EXPECT_TRUE(master.ok()) << master.status().message();
  t->master = std::move(*master);
  if (lively) {
    // Larger weights than those of a fresh model, so that every path carries a real signal.
    Rng rng(11);
    for (MasterTensor& tensor : t->master.tensors) {
      for (float& v : tensor.values) {
        v = tensor.is_vector ? v + 0.3f * rng.Normal() : 0.25f * rng.Normal();
      }
    }
  }
  auto source = MakeSource(t->master, bfloat16 ? DType::kBF16 : DType::kF32);
  auto model = LoadModel(*source, *t->device, {});
  EXPECT_TRUE(model.ok()) << model.status().message();
  t->model = std::move(*model);
  auto parameters = ParameterStore::Create(*t->device, *t->model, t->master, bfloat16);
  EXPECT_TRUE(parameters.ok());
  t->parameters = std::move(*parameters);
  ModelStep::Options options;
  options.bfloat16 = bfloat16;
  options.recompute = recompute;
  options.max_tokens = 96;
  options.loss_chunk_bytes = 20 * shape.n_vocab * 4;  // several chunks in a batch
  auto step = ModelStep::Create(*t->device, *t->model, *t->parameters, options);
  EXPECT_TRUE(step.ok());
  t->step = std::move(*step);
  return t;
}

inline void AppendSequence(TrainBatch& batch, int64_t length, int64_t vocab, Rng& rng) {
  for (int64_t i = 0; i < length; ++i) {
    batch.tokens.push_back(static_cast<int32_t>(rng.Below(vocab)));
    batch.positions.push_back(static_cast<int32_t>(i));
    batch.targets.push_back(rng.Below(5) == 0 ? -1 : static_cast<int32_t>(rng.Below(vocab)));
  }
  batch.lengths.push_back(length);
}

}  // namespace ink::testing_support
