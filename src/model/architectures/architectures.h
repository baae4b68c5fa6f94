// One loading function per architecture; registry.cc lists them.
#pragma once

#include <memory>

#include "model/model.h"
#include "model/model_loader.h"

namespace ink {

Result<std::unique_ptr<Model>> LoadLlama(ModelLoader& loader);
Result<std::unique_ptr<Model>> LoadQwen2(ModelLoader& loader);
Result<std::unique_ptr<Model>> LoadQwen3(ModelLoader& loader);
Result<std::unique_ptr<Model>> LoadQwen3Moe(ModelLoader& loader);
Result<std::unique_ptr<Model>> LoadGemma2(ModelLoader& loader);
Result<std::unique_ptr<Model>> LoadGemma3(ModelLoader& loader);
Result<std::unique_ptr<Model>> LoadPhi3(ModelLoader& loader);

}  // namespace ink
