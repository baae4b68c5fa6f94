#include "serve/model_set.h"

#include <malloc.h>

#include <algorithm>
#include <utility>

namespace ink {

using Clock = std::chrono::steady_clock;

ModelSet::ModelSet(std::vector<std::shared_ptr<ServedModel>> loaded, Options options)
    : options_(std::move(options)) {
  for (auto& model : loaded) {
    Slot slot;
    slot.source.name = model->name();
    slot.model = std::move(model);
    slot.used = Clock::now();
    slots_.push_back(std::move(slot));
  }
  reaper_ = std::thread([this] { ReaperLoop(); });
}

ModelSet::~ModelSet() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  reaper_.join();
}

void ModelSet::SetSource(ModelSource source) {
  std::lock_guard lock(mutex_);
  if (auto found = IndexOf(source.name)) {
    slots_[*found].source = std::move(source);
    return;
  }
  Slot slot;
  slot.source = std::move(source);
  slots_.push_back(std::move(slot));
}

std::optional<size_t> ModelSet::IndexOf(const std::string& given) const {
  if (slots_.empty()) return std::nullopt;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].source.name == given) return i;
  }
  // Ollama's clients add the tag.
  std::string name = given;
  if (name.ends_with(":latest")) name.resize(name.size() - 7);
  if (name.empty() || name == "default") return 0;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].source.name == name) return i;
  }
  return std::nullopt;
}

std::optional<ModelSet::AdapterIndex> ModelSet::AdapterIndexOf(const std::string& given) const {
  std::string name = given;
  for (int pass = 0; pass < 2; ++pass) {
    for (size_t s = 0; s < slots_.size(); ++s) {
      const auto& adapters = slots_[s].source.adapters;
      for (size_t a = 0; a < adapters.size(); ++a) {
        if (adapters[a].name == name) return AdapterIndex{s, a};
      }
    }
    if (!name.ends_with(":latest")) break;
    name.resize(name.size() - 7);
  }
  return std::nullopt;
}

bool ModelSet::Has(const std::string& name) const {
  std::lock_guard lock(mutex_);
  return IndexOf(name).has_value() || AdapterIndexOf(name).has_value();
}

Result<ModelChoice> ModelSet::Find(const std::string& name) {
  std::string model_name;
  std::optional<AdapterSource> adapter;
  std::shared_ptr<std::mutex> loading;
  {
    std::lock_guard lock(mutex_);
    if (const auto index = IndexOf(name)) {
      model_name = slots_[*index].source.name;
    } else if (const auto at = AdapterIndexOf(name)) {
      const Slot& slot = slots_[at->slot];
      model_name = slot.source.name;
      adapter = slot.source.adapters[at->adapter];
      loading = slot.loading;
    } else {
      return ModelChoice();
    }
  }
  ModelChoice choice;
  INK_ASSIGN_OR_RETURN(choice.model, Wake(model_name));
  if (!adapter || choice.model == nullptr) return choice;
  AdapterTable& table = choice.model->adapters();
  choice.adapter = table.Use(adapter->name);
  if (choice.adapter != nullptr) return choice;
  // Not loaded since the model was woken: the first request that wants it does so.
  std::lock_guard one(*loading);
  choice.adapter = table.Use(adapter->name);
  if (choice.adapter != nullptr) return choice;
  INK_RETURN_IF_ERROR(table.Load(*adapter));
  choice.adapter = table.Use(adapter->name);
  std::lock_guard lock(mutex_);
  if (!AdapterIndexOf(adapter->name)) {
    // Unloaded meanwhile.
    (void)table.Unload(adapter->name);
    return ModelChoice();
  }
  return choice;
}

Result<std::shared_ptr<ServedModel>> ModelSet::Wake(const std::string& name) {
  ModelSource source;
  std::shared_ptr<std::mutex> loading;
  {
    std::lock_guard lock(mutex_);
    const auto index = IndexOf(name);
    if (!index) return std::shared_ptr<ServedModel>();
    Slot& slot = slots_[*index];
    slot.used = Clock::now();
    if (slot.model != nullptr) return slot.model;
    source = slot.source;
    loading = slot.loading;
  }
  // Of several requests that find it asleep one wakes it, and the others wait for that.
  std::lock_guard one(*loading);
  {
    std::lock_guard lock(mutex_);
    const auto index = IndexOf(source.name);
    if (!index) return std::shared_ptr<ServedModel>();
    if (slots_[*index].model != nullptr) return slots_[*index].model;
  }
  if (!options_.load) return Unavailable("model '" + source.name + "': it is not in memory");
  auto model = options_.load(source);
  if (!model.ok()) return model.status().WithContext("model '" + source.name + "'");
  std::lock_guard lock(mutex_);
  const auto index = IndexOf(source.name);
  if (!index) {
    draining_.push_back(*model);
    return std::shared_ptr<ServedModel>();
  }
  slots_[*index].model = *model;
  slots_[*index].used = Clock::now();
  return *model;
}

std::vector<std::shared_ptr<ServedModel>> ModelSet::Loaded() const {
  std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<ServedModel>> out;
  for (const Slot& slot : slots_) {
    if (slot.model != nullptr) out.push_back(slot.model);
  }
  return out;
}

std::vector<std::shared_ptr<ServedModel>> ModelSet::Everything() const {
  auto out = Loaded();
  std::lock_guard lock(mutex_);
  out.insert(out.end(), draining_.begin(), draining_.end());
  return out;
}

std::vector<ModelView> ModelSet::Views() const {
  std::lock_guard lock(mutex_);
  std::vector<ModelView> out;
  auto requests = [](const std::shared_ptr<ServedModel>& model) {
    return model == nullptr ? int64_t{0} : model->engine().snapshot().requests;
  };
  for (const Slot& slot : slots_) {
    out.push_back({slot.source, slot.model ? ModelState::kLoaded : ModelState::kReleased,
                   requests(slot.model), slot.model});
  }
  for (const auto& model : draining_) {
    ModelSource source;
    source.name = model->name();
    out.push_back({source, ModelState::kDraining, requests(model), model});
  }
  return out;
}

Status ModelSet::Load(const ModelSource& source) {
  if (source.name.empty() || source.name == "default" || source.name.size() > 200) {
    return InvalidArgument("name: expected 1 to 200 characters and not \"default\", got '" +
                           source.name.substr(0, 64) + "'");
  }
  if (!options_.load) return Unsupported("this server loads no further models");
  auto check = [&]() -> Status {
    if (const auto at = AdapterIndexOf(source.name)) {
      return InvalidArgument("name: '" + source.name + "' is an adapter of the model '" +
                             slots_[at->slot].source.name + "'");
    }
    for (const AdapterSource& adapter : source.adapters) {
      INK_RETURN_IF_ERROR(CheckAdapterName(adapter.name, source.name));
    }
    return OkStatus();
  };
  {
    std::lock_guard lock(mutex_);
    INK_RETURN_IF_ERROR(check());
  }
  auto model = options_.load(source);
  if (!model.ok()) return model.status();
  for (const AdapterSource& adapter : source.adapters) {
    if (Status status = (*model)->adapters().Load(adapter); !status.ok()) return status;
  }
  std::lock_guard lock(mutex_);
  INK_RETURN_IF_ERROR(check());
  for (Slot& slot : slots_) {
    if (slot.source.name != source.name) continue;
    if (slot.model != nullptr) draining_.push_back(std::move(slot.model));
    slot.source = source;
    slot.model = *std::move(model);
    slot.used = Clock::now();
    return OkStatus();
  }
  Slot slot;
  slot.source = source;
  slot.model = *std::move(model);
  slot.used = Clock::now();
  slots_.push_back(std::move(slot));
  return OkStatus();
}

Status ModelSet::Unload(const std::string& name) {
  std::lock_guard lock(mutex_);
  const auto index = IndexOf(name);
  if (!index) return NotFound("no model '" + name.substr(0, 128) + "'");
  Slot slot = std::move(slots_[*index]);
  slots_.erase(slots_.begin() + static_cast<ptrdiff_t>(*index));
  if (slot.model != nullptr) draining_.push_back(std::move(slot.model));
  return OkStatus();
}

// `model`: whose adapter it shall be.
Status ModelSet::CheckAdapterName(const std::string& name, const std::string& model) const {
  if (name.empty() || name == "default" || name.size() > 200 || name.ends_with(":latest")) {
    return InvalidArgument(
        "adapter: expected a name of 1 to 200 characters, not \"default\" and without \":latest\", "
        "got '" +
        name.substr(0, 64) + "'");
  }
  for (const Slot& slot : slots_) {
    if (slot.source.name == name) {
      return InvalidArgument("adapter: '" + name + "' is the name of a model");
    }
  }
  if (name == model) return InvalidArgument("adapter: '" + name + "' is the name of a model");
  const auto at = AdapterIndexOf(name);
  if (at && slots_[at->slot].source.name != model) {
    return InvalidArgument("adapter: '" + name + "' is an adapter of the model '" +
                           slots_[at->slot].source.name + "'");
  }
  return OkStatus();
}

Status ModelSet::LoadAdapter(const std::string& model_name, const AdapterSource& source) {
  std::string owner;
  {
    std::lock_guard lock(mutex_);
    const auto index = IndexOf(model_name);
    if (!index) return NotFound("no model '" + model_name.substr(0, 128) + "'");
    owner = slots_[*index].source.name;
    INK_RETURN_IF_ERROR(CheckAdapterName(source.name, owner));
  }
  INK_ASSIGN_OR_RETURN(const std::shared_ptr<ServedModel> model, Wake(owner));
  if (model == nullptr) return NotFound("no model '" + owner + "'");
  INK_RETURN_IF_ERROR(model->adapters().Load(source));
  std::lock_guard lock(mutex_);
  const auto index = IndexOf(owner);
  Status status = CheckAdapterName(source.name, owner);
  if (!index || slots_[*index].model != model) {
    status = Unavailable("model '" + owner + "': exchanged while its adapter was being loaded");
  }
  if (!status.ok()) {
    (void)model->adapters().Unload(source.name);
    return status;
  }
  auto& listed = slots_[*index].source.adapters;
  auto same = std::find_if(listed.begin(), listed.end(),
                           [&](const AdapterSource& a) { return a.name == source.name; });
  if (same == listed.end()) {
    listed.push_back(source);
  } else {
    *same = source;
  }
  return OkStatus();
}

Status ModelSet::UnloadAdapter(const std::string& name) {
  std::lock_guard lock(mutex_);
  const auto at = AdapterIndexOf(name);
  if (!at) return NotFound("no adapter '" + name.substr(0, 128) + "'");
  Slot& slot = slots_[at->slot];
  const std::string own = slot.source.adapters[at->adapter].name;
  slot.source.adapters.erase(slot.source.adapters.begin() + static_cast<ptrdiff_t>(at->adapter));
  // Not there where the model was woken and nobody has asked for the adapter since.
  if (slot.model != nullptr) (void)slot.model->adapters().Unload(own);
  return OkStatus();
}

void ModelSet::ReaperLoop() {
  constexpr auto kPeriod = std::chrono::milliseconds(100);
  std::unique_lock lock(mutex_);
  while (!stop_) {
    wake_.wait_for(lock, kPeriod, [this] { return stop_; });
    const bool releases = options_.idle_release.count() >= 0 && options_.load;
    for (Slot& slot : slots_) {
      if (!releases || slot.model == nullptr) continue;
      // One owner: no request holds it, and none can get it while the lock is held.
      if (slot.model.use_count() > 1 || slot.model->engine().snapshot().requests > 0) {
        slot.used = Clock::now();
        continue;
      }
      if (Clock::now() - slot.used >= options_.idle_release) {
        draining_.push_back(std::move(slot.model));
        slot.model = nullptr;
      }
    }
    std::vector<std::shared_ptr<ServedModel>> gone;
    for (size_t i = 0; i < draining_.size();) {
      if (draining_[i].use_count() > 1) {
        ++i;
        continue;
      }
      gone.push_back(std::move(draining_[i]));
      draining_.erase(draining_.begin() + static_cast<ptrdiff_t>(i));
    }
    if (gone.empty()) continue;
    lock.unlock();
    gone.clear();
    malloc_trim(0);  // what the allocator kept of them
    lock.lock();
  }
}

}  // namespace ink
