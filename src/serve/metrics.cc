#include "serve/metrics.h"

#include <malloc.h>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <map>

#include "serve/served_model.h"

namespace ink {
namespace {

using prometheus::Histogram;

// vLLM's buckets, so that dashboards made for them fit.
const Histogram::BucketBoundaries kTtftBuckets = {
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,  0.25,  0.5,   0.75,
    1.0,   2.5,   5.0,  7.5,  10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0};
const Histogram::BucketBoundaries kItlBuckets = {
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3,
    0.4,   0.5,    0.75,  1.0,  2.5,   5.0,  7.5,   10,  20,   40,  80};
const Histogram::BucketBoundaries kLatencyBuckets = {0.3,  0.5,  0.8,  1.0,   1.5,   2.0,   2.5,
                                                     5.0,  10.0, 15.0, 20.0,  30.0,  40.0,  50.0,
                                                     60.0, 120., 240., 480.0, 960.0, 1920., 7680.};
const Histogram::BucketBoundaries kTokenBuckets = {
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000};
const Histogram::BucketBoundaries kHttpBuckets = {
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300};

}  // namespace

Utilization UtilizationOf(const PhaseWork& work, const ServedModelOptions& options) {
  Utilization use;
  if (work.seconds <= 0) return use;
  if (options.peak_ops > 0) use.mfu = work.flops / work.seconds / options.peak_ops;
  if (options.peak_read_bytes > 0) {
    use.mbu = work.bytes_read / work.seconds / options.peak_read_bytes;
  }
  return use;
}

struct Metrics::Impl {
  prometheus::Registry registry;

  Histogram& MakeHistogram(const char* name, const char* help,
                           const Histogram::BucketBoundaries& buckets) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add({}, buckets);
  }
  prometheus::Family<prometheus::Gauge>& Gauges(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
  }
  prometheus::Family<prometheus::Counter>& Counters(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
  }

  Histogram& ttft = MakeHistogram("inkstone_time_to_first_token_seconds",
                                  "Request received to first token", kTtftBuckets);
  Histogram& itl = MakeHistogram("inkstone_inter_token_latency_seconds",
                                 "Gap between two tokens of a choice", kItlBuckets);
  Histogram& e2e = MakeHistogram("inkstone_e2e_request_latency_seconds",
                                 "Request received to last token", kLatencyBuckets);
  Histogram& queue =
      MakeHistogram("inkstone_request_queue_time_seconds", "Waiting to be scheduled", kTtftBuckets);
  Histogram& prefill = MakeHistogram("inkstone_request_prefill_time_seconds",
                                     "Scheduled to first token", kTtftBuckets);
  Histogram& decode = MakeHistogram("inkstone_request_decode_time_seconds",
                                    "First token to last token", kLatencyBuckets);
  Histogram& prompt_length =
      MakeHistogram("inkstone_request_prompt_tokens", "Tokens of a prompt", kTokenBuckets);
  Histogram& generated_length = MakeHistogram("inkstone_request_generation_tokens",
                                              "Tokens generated for a request", kTokenBuckets);
  prometheus::Family<prometheus::Counter>& success =
      Counters("inkstone_request_success_total", "Generations that ended, by reason");
  prometheus::Family<prometheus::Counter>& http =
      Counters("inkstone_http_requests_total", "Answers by route and status");
  prometheus::Family<Histogram>& http_seconds = prometheus::BuildHistogram()
                                                    .Name("inkstone_http_request_duration_seconds")
                                                    .Help("Request received to answer complete")
                                                    .Register(registry);
  prometheus::Family<prometheus::Gauge>& memory =
      Gauges("inkstone_memory_bytes", "The memory ledger, by entry");

  // Counters that the engine keeps: set to its value at each rendering.
  void SetCounter(prometheus::Family<prometheus::Counter>& family, const std::string& model,
                  double value) {
    prometheus::Counter& counter = family.Add({{"model_name", model}});
    if (value > counter.Value()) counter.Increment(value - counter.Value());
  }
  prometheus::Family<prometheus::Gauge>& running =
      Gauges("inkstone_num_requests_running", "Sequences that hold blocks");
  prometheus::Family<prometheus::Gauge>& waiting =
      Gauges("inkstone_num_requests_waiting", "Sequences in the queue");
  prometheus::Family<prometheus::Gauge>& swapped =
      Gauges("inkstone_num_requests_swapped", "Waiting sequences whose cache is in host memory");
  prometheus::Family<prometheus::Gauge>& kv_usage =
      Gauges("inkstone_kv_cache_usage_perc", "Share of KV blocks that sequences own, 0 to 1");
  prometheus::Family<prometheus::Gauge>& kv_cached =
      Gauges("inkstone_kv_cache_cached_perc", "Share of KV blocks kept for prefix reuse, 0 to 1");
  prometheus::Family<prometheus::Counter>& prefix_queries =
      Counters("inkstone_prefix_cache_queries_total", "Prompt tokens looked up");
  prometheus::Family<prometheus::Counter>& prefix_hits =
      Counters("inkstone_prefix_cache_hits_total", "Prompt tokens found in the prefix cache");
  prometheus::Family<prometheus::Counter>& preemptions =
      Counters("inkstone_num_preemptions_total", "Sequences that lost their blocks for a while");
  prometheus::Family<prometheus::Counter>& prompt_tokens =
      Counters("inkstone_prompt_tokens_total", "Tokens computed in prefill");
  prometheus::Family<prometheus::Counter>& generation_tokens =
      Counters("inkstone_generation_tokens_total", "Tokens sampled");
  prometheus::Family<prometheus::Counter>& steps =
      Counters("inkstone_engine_steps_total", "Forward passes");
  prometheus::Family<prometheus::Counter>& step_seconds =
      Counters("inkstone_engine_step_seconds_total", "Time inside forward passes");
  prometheus::Family<prometheus::Counter>& disk_hits =
      Counters("inkstone_kv_disk_hits_total", "KV blocks read from disk and used");
  prometheus::Family<prometheus::Counter>& disk_read =
      Counters("inkstone_kv_disk_read_bytes_total", "Bytes of these blocks");
  prometheus::Family<prometheus::Counter>& disk_written =
      Counters("inkstone_kv_disk_written_bytes_total", "Bytes of KV blocks written to disk");
  prometheus::Family<prometheus::Counter>& disk_dropped = Counters(
      "inkstone_kv_disk_dropped_total", "KV blocks not written: the queue or the disk was full");
  prometheus::Family<prometheus::Counter>& disk_rejected =
      Counters("inkstone_kv_disk_rejected_total", "Damaged files that were removed");
  prometheus::Family<prometheus::Gauge>& disk_bytes =
      Gauges("inkstone_kv_disk_bytes", "Bytes of KV files on disk");
  prometheus::Family<prometheus::Gauge>& disk_writable =
      Gauges("inkstone_kv_disk_writable", "0 once writing was given up");
  prometheus::Family<prometheus::Counter>& phase_seconds = Counters(
      "inkstone_phase_seconds_total", "Time of steps with prompt tokens, and of pure decode steps");
  prometheus::Family<prometheus::Counter>& phase_flops =
      Counters("inkstone_phase_flops_total", "Arithmetic of the steps, attention excluded");
  prometheus::Family<prometheus::Counter>& phase_bytes =
      Counters("inkstone_phase_bytes_read_total", "Weights and, in decode, KV that the steps read");
  prometheus::Family<prometheus::Gauge>& mfu =
      Gauges("inkstone_mfu", "Share of the peak arithmetic in the last 64 steps of a phase");
  prometheus::Family<prometheus::Gauge>& mbu =
      Gauges("inkstone_mbu", "Share of the peak read bandwidth in the last 64 steps of a phase");
  prometheus::Family<prometheus::Gauge>& peak_flops =
      Gauges("inkstone_peak_flops", "Measured at the start: operations per second");
  prometheus::Family<prometheus::Gauge>& peak_read =
      Gauges("inkstone_peak_read_bytes_per_second", "Measured at the start");

  void SetPhase(const ServedModel& model, const char* phase, const PhaseWork& total,
                const PhaseWork& recent) {
    const prometheus::Labels labels = {{"model_name", model.name()}, {"phase", phase}};
    auto count = [&](prometheus::Family<prometheus::Counter>& family, double value) {
      prometheus::Counter& counter = family.Add(labels);
      if (value > counter.Value()) counter.Increment(value - counter.Value());
    };
    count(phase_seconds, total.seconds);
    count(phase_flops, total.flops);
    count(phase_bytes, total.bytes_read);
    const Utilization use = UtilizationOf(recent, model.options());
    if (use.mfu) mfu.Add(labels).Set(*use.mfu);
    if (use.mbu) mbu.Add(labels).Set(*use.mbu);
  }
  prometheus::Family<prometheus::Gauge>& rss =
      Gauges("inkstone_process_resident_bytes", "Memory by the operating system's count");
  prometheus::Family<prometheus::Gauge>& flops =
      Gauges("inkstone_model_flops_per_token", "Arithmetic of a token, attention excluded");
  prometheus::Family<prometheus::Gauge>& weight_bytes =
      Gauges("inkstone_model_weight_bytes", "Packed weights, read by each decode step");
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

void Metrics::TimeToFirstToken(double seconds) { impl_->ttft.Observe(seconds); }
void Metrics::InterTokenLatency(double seconds) { impl_->itl.Observe(seconds); }

void Metrics::GenerationEnded(std::string_view reason, double total_s,
                              const GenerationTimings& timings) {
  impl_->success.Add({{"finished_reason", std::string(reason)}}).Increment();
  impl_->e2e.Observe(total_s);
  impl_->queue.Observe(timings.queue_s);
  impl_->prefill.Observe(timings.prefill_s);
  impl_->decode.Observe(timings.decode_s);
  impl_->prompt_length.Observe(static_cast<double>(timings.prompt_tokens));
  impl_->generated_length.Observe(static_cast<double>(timings.completion_tokens));
}

void Metrics::HttpRequest(std::string_view route, int status, double seconds) {
  const std::string name(route);
  impl_->http.Add({{"handler", name}, {"status", std::to_string(status)}}).Increment();
  impl_->http_seconds.Add({{"handler", name}}, kHttpBuckets).Observe(seconds);
}

void Metrics::SetTrace(int64_t exported, int64_t dropped) {
  auto set = [&](const char* result, int64_t value) {
    prometheus::Counter& counter =
        impl_->Counters("inkstone_trace_spans_total", "Spans sent to the collector, and lost ones")
            .Add({{"result", result}});
    counter.Increment(std::max(0.0, static_cast<double>(value) - counter.Value()));
  };
  set("exported", exported);
  set("dropped", dropped);
}

void Metrics::SetKvDisk(const DiskStoreStats& stats) {
  auto set = [](prometheus::Family<prometheus::Counter>& family, int64_t value) {
    prometheus::Counter& counter = family.Add({});
    const auto now = static_cast<double>(value);
    if (now > counter.Value()) counter.Increment(now - counter.Value());
  };
  set(impl_->disk_hits, stats.hits);
  set(impl_->disk_read, stats.read_bytes);
  set(impl_->disk_written, stats.written_bytes);
  set(impl_->disk_dropped, stats.dropped);
  set(impl_->disk_rejected, stats.rejected);
  impl_->disk_bytes.Add({}).Set(static_cast<double>(stats.bytes));
  impl_->disk_writable.Add({}).Set(stats.writable ? 1 : 0);
}

std::string Metrics::Render(const std::vector<std::shared_ptr<ServedModel>>& models) {
  for (const auto& model : models) {
    const EngineSnapshot s = model->engine().snapshot();
    const prometheus::Labels labels = {{"model_name", model->name()}};
    const std::string& name = model->name();
    impl_->running.Add(labels).Set(static_cast<double>(s.stats.scheduler.num_running));
    impl_->waiting.Add(labels).Set(static_cast<double>(s.stats.scheduler.num_waiting));
    impl_->swapped.Add(labels).Set(static_cast<double>(s.stats.scheduler.num_swapped));
    const double blocks = std::max<double>(1, static_cast<double>(s.kv_blocks));
    impl_->kv_usage.Add(labels).Set(static_cast<double>(s.kv_blocks_used) / blocks);
    impl_->kv_cached.Add(labels).Set(static_cast<double>(s.kv_blocks_cached) / blocks);
    impl_->SetCounter(impl_->prefix_queries, name,
                      static_cast<double>(s.stats.scheduler.prompt_tokens_queried));
    impl_->SetCounter(impl_->prefix_hits, name,
                      static_cast<double>(s.stats.scheduler.prompt_tokens_hit));
    impl_->SetCounter(impl_->preemptions, name,
                      static_cast<double>(s.stats.scheduler.num_preemptions));
    impl_->SetCounter(impl_->prompt_tokens, name, static_cast<double>(s.stats.prompt_tokens));
    impl_->SetCounter(impl_->generation_tokens, name,
                      static_cast<double>(s.stats.generated_tokens));
    impl_->SetCounter(impl_->steps, name, static_cast<double>(s.stats.steps));
    impl_->SetCounter(impl_->step_seconds, name, s.stats.step_seconds);
    impl_->SetPhase(*model, "prefill", s.stats.prefill, s.stats.recent_prefill);
    impl_->SetPhase(*model, "decode", s.stats.decode, s.stats.recent_decode);
    if (model->options().peak_ops > 0) impl_->peak_flops.Add(labels).Set(model->options().peak_ops);
    if (model->options().peak_read_bytes > 0) {
      impl_->peak_read.Add(labels).Set(model->options().peak_read_bytes);
    }
    impl_->flops.Add(labels).Set(static_cast<double>(model->info().flops_per_token));
    impl_->weight_bytes.Add(labels).Set(static_cast<double>(model->info().weight_bytes));
  }
  const MemoryReport report = ReportMemory(models);
  for (const auto& [entry, bytes] : report.entries) {
    impl_->memory.Add({{"entry", entry}}).Set(static_cast<double>(bytes));
  }
  impl_->rss.Add({}).Set(static_cast<double>(report.process.resident));
  return prometheus::TextSerializer().Serialize(impl_->registry.Collect());
}

MemoryReport ReportMemory(const std::vector<std::shared_ptr<ServedModel>>& models) {
  std::map<LedgerEntry, int64_t> bytes;
  std::vector<const Ledger*> seen;
  for (const auto& model : models) {
    const Ledger* ledger = model->ledger();
    if (ledger != nullptr && std::find(seen.begin(), seen.end(), ledger) == seen.end()) {
      seen.push_back(ledger);
      for (int i = 0; i < static_cast<int>(LedgerEntry::kCount); ++i) {
        bytes[static_cast<LedgerEntry>(i)] += ledger->bytes(static_cast<LedgerEntry>(i));
      }
    }
    bytes[LedgerEntry::kVocabulary] += model->options().vocabulary_bytes;
    bytes[LedgerEntry::kProgram] =
        std::max(bytes[LedgerEntry::kProgram], model->options().program_bytes);
    bytes[LedgerEntry::kHostCaches] +=
        model->constraint_bytes() + model->engine().snapshot().prefix_index_bytes;
  }
  MemoryReport report;
  report.process = ReadProcessMemory();
  const struct mallinfo2 heap = mallinfo2();
  // Freed but kept by the allocator for reuse.
  bytes[LedgerEntry::kReserve] += static_cast<int64_t>(heap.fordblks);
  // The program grows while it runs: pages of its file are read as they are needed (the embedded
  // model's among them), connections and requests live on the heap. Buffers of a device are on
  // neither; of the heap, what has an entry of its own is not counted twice.
  const int64_t named = bytes[LedgerEntry::kVocabulary] + bytes[LedgerEntry::kHostCaches];
  const auto in_use = static_cast<int64_t>(heap.uordblks + heap.hblkhd);
  bytes[LedgerEntry::kProgram] = std::max(
      bytes[LedgerEntry::kProgram], report.process.file + std::max<int64_t>(0, in_use - named));
  for (const auto& [entry, count] : bytes) {
    report.entries.emplace_back(LedgerEntryName(entry), count);
    report.total += count;
  }
  return report;
}

}  // namespace ink
