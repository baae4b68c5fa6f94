#include "serve/adapter_table.h"

#include <malloc.h>

#include <ctime>
#include <utility>

namespace ink {
namespace {

AdapterView ViewOf(const ServedAdapter& adapter, int64_t requests, bool draining) {
  return {adapter.source, adapter.bytes, adapter.created, requests, draining};
}

}  // namespace

Status AdapterTable::Load(const AdapterSource& source) {
  const std::string context = "adapter '" + source.name + "'";
  auto read = ReadAdapter(source.path, target_);
  if (!read.ok()) return read.status().WithContext(context);
  Adapter adapter = std::move(read).value();

  auto made = std::make_unique<ServedAdapter>();
  made->source = source;
  made->engine_name = source.name + "#" + std::to_string(next_serial_++);
  made->created = std::time(nullptr);
  int64_t bytes = 0;
  Status status;
  engine_.Run([&](Engine& engine) {
    auto planned = engine.AdapterBytes(adapter);
    if (planned.ok()) bytes = *planned;
    status = planned.status();
  });
  if (!status.ok()) return status.WithContext(context);
  auto add = [&] {
    Status added;
    engine_.Run([&](Engine& engine) {
      added = engine.AddAdapter(made->engine_name, adapter);
      for (const AdapterInfo& info : engine.adapters()) {
        if (info.name == made->engine_name) made->bytes = info.bytes;
      }
    });
    return added;
  };
  status = budget_ ? budget_(bytes, add) : add();
  adapter = {};
  malloc_trim(0);  // its host copy
  if (!status.ok()) return status.WithContext(context);

  Held held(made.release(), [&engine = engine_](const ServedAdapter* gone) {
    // Draining, should the engine still hold a request of a client that went away.
    engine.Post([name = gone->engine_name](Engine& e) { (void)e.RemoveAdapter(name, true); });
    delete gone;
  });
  std::lock_guard lock(mutex_);
  Held& entry = adapters_[source.name];
  if (entry != nullptr) draining_.push_back(entry);
  entry = std::move(held);
  return OkStatus();
}

Status AdapterTable::Unload(const std::string& name) {
  std::lock_guard lock(mutex_);
  auto found = adapters_.find(name);
  if (found == adapters_.end()) return NotFound("no adapter '" + name.substr(0, 128) + "'");
  draining_.push_back(found->second);
  adapters_.erase(found);
  return OkStatus();
}

std::shared_ptr<const ServedAdapter> AdapterTable::Use(const std::string& name) const {
  std::lock_guard lock(mutex_);
  auto found = adapters_.find(name);
  if (found == adapters_.end()) return nullptr;
  // An owner of its own, so that the copies within a request do not count as requests.
  return {found->second.get(), [held = found->second](const ServedAdapter*) {}};
}

std::vector<AdapterView> AdapterTable::Views() const {
  std::lock_guard lock(mutex_);
  std::vector<AdapterView> out;
  for (const auto& [name, held] : adapters_) {
    out.push_back(ViewOf(*held, held.use_count() - 1, false));
  }
  std::erase_if(draining_, [](const auto& weak) { return weak.expired(); });
  for (const auto& weak : draining_) {
    if (auto held = weak.lock()) out.push_back(ViewOf(*held, held.use_count() - 1, true));
  }
  return out;
}

}  // namespace ink
