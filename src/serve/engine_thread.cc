#include "serve/engine_thread.h"

#include <future>
#include <utility>

#include "base/thread_priority.h"

namespace ink {

EngineThread::EngineThread(std::unique_ptr<Engine> engine)
    : engine_(std::move(engine)),
      tokenizer_(engine_->shared_tokenizer()),
      config_(engine_->config()) {
  PublishStep();
  engine_thread_ = std::thread([this] { EngineLoop(); });
  delivery_thread_ = std::thread([this] { DeliveryLoop(); });
}

EngineThread::~EngineThread() {
  {
    std::lock_guard lock(mutex_);
    accepting_ = false;
    stop_ = true;
  }
  CancelAll();
  wake_.notify_all();
  engine_thread_.join();
  {
    std::lock_guard lock(delivery_mutex_);
    delivery_stop_ = true;
  }
  delivery_wake_.notify_all();
  delivery_thread_.join();
}

EngineThread::Ticket EngineThread::Submit(GenerationRequest request, Callback callback) {
  auto shared = std::make_shared<const Callback>(std::move(callback));
  bool accepted = false;
  Ticket ticket = 0;
  {
    std::lock_guard lock(mutex_);
    ticket = next_ticket_++;
    ++open_requests_;
    accepted = accepting_;
    if (accepted) {
      // std::function wants copyable captures.
      auto held = std::make_shared<GenerationRequest>(std::move(request));
      mailbox_.push_back([this, ticket, held, shared] { Start(ticket, std::move(*held), shared); });
      busy_ = true;
    }
  }
  if (accepted) {
    wake_.notify_one();
    return ticket;
  }
  TokenEvent event;
  event.error = Unavailable("the server is shutting down and takes no new requests");
  event.last = true;
  event.at = std::chrono::steady_clock::now();
  {
    std::lock_guard lock(delivery_mutex_);
    deliveries_.push_back({shared, std::move(event)});
  }
  delivery_wake_.notify_one();
  return ticket;
}

void EngineThread::Cancel(Ticket ticket) {
  Post([this, ticket](Engine& engine) {
    auto found = running_.find(ticket);
    if (found != running_.end()) engine.Cancel(found->second);
  });
}

void EngineThread::CancelAll() {
  Post([this](Engine& engine) {
    // Cancel may end a request at once, which changes the table.
    std::vector<RequestId> ids;
    for (const auto& [ticket, id] : running_) ids.push_back(id);
    for (RequestId id : ids) engine.Cancel(id);
  });
}

void EngineThread::Post(std::function<void(Engine&)> fn) {
  {
    std::lock_guard lock(mutex_);
    mailbox_.push_back([this, fn = std::move(fn)] { fn(*engine_); });
    busy_ = true;
  }
  wake_.notify_one();
}

void EngineThread::Run(const std::function<void(Engine&)>& fn) {
  // Shared: the waiter may be gone before set_value returns.
  auto done = std::make_shared<std::promise<void>>();
  std::future<void> finished = done->get_future();
  Post([&fn, done](Engine& engine) {
    fn(engine);
    done->set_value();
  });
  finished.wait();
}

void EngineThread::StopAccepting() {
  std::lock_guard lock(mutex_);
  accepting_ = false;
}

bool EngineThread::WaitIdle(std::chrono::steady_clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  return idle_.wait_until(lock, deadline, [this] { return !busy_ && open_requests_ == 0; });
}

EngineSnapshot EngineThread::snapshot() const {
  std::lock_guard lock(mutex_);
  EngineSnapshot out = snapshot_;
  out.requests = open_requests_;
  return out;
}

void EngineThread::Hand(const std::shared_ptr<const Callback>& callback, TokenEvent event) {
  event.at = std::chrono::steady_clock::now();
  produced_.push_back({callback, std::move(event)});
}

void EngineThread::Start(Ticket ticket, GenerationRequest request,
                         std::shared_ptr<const Callback> callback) {
  request.on_event = [this, ticket, callback](const GenerationEvent& from) {
    TokenEvent event;
    event.choice = from.choice;
    event.token = from.token;
    event.text = from.text;
    if (from.sample != nullptr) event.sample = *from.sample;
    event.finish = from.finish;
    event.matched_stop = from.matched_stop;
    event.error = from.error;
    event.last = from.last;
    if (from.timings != nullptr) event.timings = *from.timings;
    if (from.last) running_.erase(ticket);
    Hand(callback, std::move(event));
  };
  auto id = engine_->Submit(std::move(request));
  TokenEvent event;
  if (!id.ok()) {
    event.error = id.status();
    event.last = true;
  } else {
    running_[ticket] = *id;
    event.kind = TokenEvent::Kind::kAccepted;
  }
  Hand(callback, std::move(event));
}

void EngineThread::PublishStep() {
  EngineSnapshot next;
  next.stats = engine_->stats();
  const CacheManager& cache = engine_->scheduler().cache();
  for (int32_t g = 0; g < cache.num_groups(); ++g) {
    next.kv_blocks += cache.pool(g).num_blocks();
    next.kv_blocks_used += cache.pool(g).num_owned();
    next.kv_blocks_cached += cache.pool(g).num_cached();
  }
  next.kv_bytes = cache.device_bytes();
  next.prefix_index_bytes = cache.index_bytes();
  std::lock_guard lock(mutex_);
  snapshot_ = next;
}

void EngineThread::EngineLoop() {
  std::vector<std::function<void()>> mail;
  bool work = false;
  while (true) {
    {
      std::unique_lock lock(mutex_);
      if (!work && mailbox_.empty()) {
        busy_ = false;
        idle_.notify_all();
        wake_.wait(lock, [this] { return !mailbox_.empty() || stop_; });
      }
      if (!work && mailbox_.empty() && stop_) return;
      mail.swap(mailbox_);
    }
    for (auto& letter : mail) letter();
    mail.clear();
    work = engine_->HasWork();
    if (work) work = engine_->Step();
    PublishStep();
    if (!produced_.empty()) {
      {
        std::lock_guard lock(delivery_mutex_);
        if (deliveries_.empty()) {
          deliveries_.swap(produced_);
        } else {
          for (Delivery& d : produced_) deliveries_.push_back(std::move(d));
          produced_.clear();
        }
      }
      delivery_wake_.notify_one();
    }
  }
}

void EngineThread::DeliveryLoop() {
  PreferShortSlices();
  std::vector<Delivery> batch;
  while (true) {
    {
      std::unique_lock lock(delivery_mutex_);
      delivery_wake_.wait(lock, [this] { return !deliveries_.empty() || delivery_stop_; });
      if (deliveries_.empty()) return;
      batch.swap(deliveries_);
    }
    int64_t ended = 0;
    for (Delivery& delivery : batch) {
      (*delivery.callback)(delivery.event);
      if (delivery.event.last) ++ended;
      delivery.callback.reset();
    }
    batch.clear();
    if (ended > 0) {
      std::lock_guard lock(mutex_);
      open_requests_ -= ended;
      idle_.notify_all();
    }
  }
}

}  // namespace ink
