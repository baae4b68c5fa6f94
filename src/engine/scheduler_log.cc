#include "engine/scheduler_log.h"

#include <charconv>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace ink {
namespace {

using Json = nlohmann::json;

template <typename Int>
void AppendInt(std::string& line, Int value) {
  char digits[24];
  line.append(digits, std::to_chars(digits, digits + sizeof(digits), value).ptr);
}

void AppendString(std::string& line, std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  line += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '"' && c != '\\') {
      line += c;
    } else {
      line += "\\u00";
      line += kHex[byte >> 4];
      line += kHex[byte & 15];
    }
  }
  line += '"';
}

// {"op":"name" or ,"name":value
void Begin(std::string& line, std::string_view op) { line.assign("{\"op\":\"").append(op) += '"'; }
void Key(std::string& line, std::string_view name) {
  line.append(",\"").append(name).append("\":");
}
template <typename Int>
void IntField(std::string& line, std::string_view name, Int value) {
  Key(line, name);
  AppendInt(line, value);
}
void StringField(std::string& line, std::string_view name, std::string_view value) {
  Key(line, name);
  AppendString(line, value);
}

// name: [[a,b],[c,d]] from rows, each given as a list of integers by `row`.
template <typename Rows, typename RowFn>
void RowsField(std::string& line, std::string_view name, const Rows& rows, RowFn row) {
  Key(line, name);
  line += '[';
  const char* comma = "";
  for (const auto& item : rows) {
    line += comma;
    comma = ",";
    line += '[';
    const char* inner = "";
    for (const int64_t value : row(item)) {
      line += inner;
      inner = ",";
      AppendInt(line, value);
    }
    line += ']';
  }
  line += ']';
}

template <typename Ints>
void IntsField(std::string& line, std::string_view name, const Ints& values) {
  Key(line, name);
  line += '[';
  const char* comma = "";
  for (const auto value : values) {
    line += comma;
    comma = ",";
    AppendInt(line, value);
  }
  line += ']';
}

/// Reads checked fields of one line; the first failure sticks.
class Reader {
 public:
  explicit Reader(const Json& json) : json_(json) {}

  template <typename Int>
  Int Integer(const char* name) {
    const auto it = json_.find(name);
    if (it == json_.end()) {
      Fail(std::string("field ") + name + " is missing");
      return 0;
    }
    return As<Int>(*it, name);
  }
  SequenceId Id() { return Integer<uint64_t>("id"); }

  std::string String(const char* name) {
    const auto it = json_.find(name);
    if (it == json_.end() || !it->is_string()) {
      Fail(std::string("field ") + name + " is not a string");
      return "";
    }
    // Undo the writer's \u0080..\u00ff, which the parser has turned into two bytes of UTF-8.
    const std::string& text = it->get_ref<const std::string&>();
    std::string bytes;
    for (size_t i = 0; i < text.size(); ++i) {
      const auto lead = static_cast<unsigned char>(text[i]);
      if (lead < 0x80) {
        bytes += text[i];
      } else if ((lead == 0xc2 || lead == 0xc3) && i + 1 < text.size()) {
        bytes += static_cast<char>((lead & 3) << 6 | (text[++i] & 0x3f));
      } else {
        Fail(std::string("field ") + name + " has a character above U+00FF");
        return "";
      }
    }
    return bytes;
  }

  template <typename Int>
  std::vector<Int> Integers(const char* name) {
    const auto it = json_.find(name);
    if (it == json_.end()) {
      Fail(std::string("field ") + name + " is missing");
      return {};
    }
    return AsList<Int>(*it, name);
  }

  std::vector<std::vector<int64_t>> Rows(const char* name) {
    std::vector<std::vector<int64_t>> rows;
    const auto it = json_.find(name);
    if (it == json_.end() || !it->is_array()) {
      Fail(std::string("field ") + name + " is not an array");
      return rows;
    }
    for (const Json& row : *it) rows.push_back(AsList<int64_t>(row, name));
    return rows;
  }

  void Fail(std::string message) {
    if (error_.empty()) error_ = std::move(message);
  }
  const std::string& error() const { return error_; }

 private:
  template <typename Int>
  Int As(const Json& value, const char* name) {
    if (value.is_number_unsigned()) {
      const uint64_t number = value.get<uint64_t>();
      if (std::in_range<Int>(number)) return static_cast<Int>(number);
    } else if (value.is_number_integer()) {
      const int64_t number = value.get<int64_t>();
      if (std::in_range<Int>(number)) return static_cast<Int>(number);
    }
    Fail(std::string("field ") + name + " is not an integer in range");
    return 0;
  }

  template <typename Int>
  std::vector<Int> AsList(const Json& array, const char* name) {
    std::vector<Int> values;
    if (!array.is_array()) {
      Fail(std::string("field ") + name + " is not an array");
      return values;
    }
    values.reserve(array.size());
    for (const Json& value : array) values.push_back(As<Int>(value, name));
    return values;
  }

  const Json& json_;
  std::string error_;
};

SchedulerConfig ReadConfig(Reader& reader) {
  SchedulerConfig config;
  for (const auto& row : reader.Rows("groups")) {
    if (row.size() != 5 || row[0] < 0 || row[0] > static_cast<int>(GroupKind::kRecurrent)) {
      reader.Fail("field groups has a row that is not [kind 0..2, window, bytes, initial, max]");
      break;
    }
    config.cache.groups.push_back({static_cast<GroupKind>(row[0]), row[1], row[2], row[3], row[4]});
  }
  config.cache.device_bytes = reader.Integer<int64_t>("device_bytes");
  config.cache.host_bytes = reader.Integer<int64_t>("host_bytes");
  config.cache.prefix_cache = reader.Integer<int>("prefix_cache") != 0;
  config.cache.checkpoint_interval = reader.Integer<int64_t>("checkpoint_interval");
  config.cache.hash_seed = reader.Integer<uint64_t>("hash_seed");
  config.max_num_seqs = reader.Integer<int32_t>("max_num_seqs");
  config.token_budget = reader.Integer<int32_t>("token_budget");
  config.max_chunk = reader.Integer<int32_t>("max_chunk");
  config.max_waiting = reader.Integer<int64_t>("max_waiting");
  config.watermark_blocks = reader.Integer<int64_t>("watermark_blocks");
  config.preemption =
      reader.Integer<int>("swap") != 0 ? PreemptionMode::kSwap : PreemptionMode::kRecompute;
  config.policy = reader.String("policy");
  return config;
}

SequenceRequest ReadRequest(Reader& reader) {
  SequenceRequest request;
  request.id = reader.Id();
  request.tokens = reader.Integers<int32_t>("tokens");
  request.max_total_tokens = reader.Integer<int64_t>("max_total_tokens");
  request.max_cached_tokens = reader.Integer<int64_t>("max_cached_tokens");
  request.priority = reader.Integer<int32_t>("priority");
  request.key = reader.String("key");
  request.weight = reader.Integer<uint32_t>("weight");
  request.scope.model = reader.String("model");
  request.scope.adapter = reader.String("adapter");
  request.scope.tenant = reader.String("tenant");
  request.scope.cache_dtype = reader.String("cache_dtype");
  return request;
}

// Carries out one input; its refusal is part of the log, so the Status is not an error here.
void Apply(Scheduler& scheduler, const std::string& op, Reader& reader) {
  if (op == "add") {
    SequenceRequest request = ReadRequest(reader);
    if (reader.error().empty()) (void)scheduler.Add(std::move(request));
  } else if (op == "schedule") {
    scheduler.Schedule();
  } else if (op == "cancel" || op == "finish") {
    const SequenceId id = reader.Id();
    if (!reader.error().empty()) return;
    (void)(op == "cancel" ? scheduler.Cancel(id) : scheduler.Finish(id));
  } else if (op == "update" || op == "append") {
    const SequenceId id = reader.Id();
    const std::vector<int32_t> tokens = reader.Integers<int32_t>("tokens");
    if (!reader.error().empty()) return;
    (void)(op == "update" ? scheduler.Update(id, tokens) : scheduler.Append(id, tokens));
  } else if (op == "drafts") {
    const SequenceId id = reader.Id();
    const int32_t n = reader.Integer<int32_t>("n");
    if (reader.error().empty()) (void)scheduler.RequestDrafts(id, n);
  } else if (op == "truncate") {
    const SequenceId id = reader.Id();
    const int64_t n = reader.Integer<int64_t>("n");
    if (reader.error().empty()) (void)scheduler.Truncate(id, n);
  } else if (op == "fork") {
    const SequenceId id = reader.Id();
    const SequenceId child = reader.Integer<uint64_t>("child");
    if (reader.error().empty()) (void)scheduler.Fork(id, child);
  } else if (op == "release_unused" || op == "release_cached") {
    scheduler.ReleaseUnusedSlabs(op == "release_cached");
  } else if (op == "clear_prefix_cache") {
    scheduler.ClearPrefixCache();
  } else {
    reader.Fail("operation \"" + op + "\" is not known");
  }
}

}  // namespace

SchedulerLog::SchedulerLog(Sink sink) : sink_(std::move(sink)) {}

void SchedulerLog::Config(const SchedulerConfig& config) {
  Begin(line_, "config");
  RowsField(line_, "groups", config.cache.groups, [](const GroupSpec& group) {
    return std::vector<int64_t>{static_cast<int64_t>(group.kind), group.window, group.block_bytes,
                                group.initial_blocks, group.max_blocks};
  });
  IntField(line_, "device_bytes", config.cache.device_bytes);
  IntField(line_, "host_bytes", config.cache.host_bytes);
  IntField(line_, "prefix_cache", static_cast<int>(config.cache.prefix_cache));
  IntField(line_, "checkpoint_interval", config.cache.checkpoint_interval);
  IntField(line_, "hash_seed", config.cache.hash_seed);
  IntField(line_, "max_num_seqs", config.max_num_seqs);
  IntField(line_, "token_budget", config.token_budget);
  IntField(line_, "max_chunk", config.max_chunk);
  IntField(line_, "max_waiting", config.max_waiting);
  IntField(line_, "watermark_blocks", config.watermark_blocks);
  IntField(line_, "swap", static_cast<int>(config.preemption == PreemptionMode::kSwap));
  StringField(line_, "policy", config.policy);
  line_ += '}';
  sink_(line_);
}

void SchedulerLog::Add(const SequenceRequest& request) {
  Begin(line_, "add");
  IntField(line_, "id", request.id);
  IntField(line_, "max_total_tokens", request.max_total_tokens);
  IntField(line_, "max_cached_tokens", request.max_cached_tokens);
  IntField(line_, "priority", request.priority);
  StringField(line_, "key", request.key);
  IntField(line_, "weight", request.weight);
  StringField(line_, "model", request.scope.model);
  StringField(line_, "adapter", request.scope.adapter);
  StringField(line_, "tenant", request.scope.tenant);
  StringField(line_, "cache_dtype", request.scope.cache_dtype);
  IntsField(line_, "tokens", request.tokens);
  line_ += '}';
  sink_(line_);
}

void SchedulerLog::Id(std::string_view op, SequenceId id) {
  Begin(line_, op);
  IntField(line_, "id", id);
  line_ += '}';
  sink_(line_);
}

void SchedulerLog::Number(std::string_view op, SequenceId id, int64_t n) {
  Begin(line_, op);
  IntField(line_, "id", id);
  IntField(line_, "n", n);
  line_ += '}';
  sink_(line_);
}

void SchedulerLog::Tokens(std::string_view op, SequenceId id, std::span<const int32_t> tokens) {
  Begin(line_, op);
  IntField(line_, "id", id);
  IntsField(line_, "tokens", tokens);
  line_ += '}';
  sink_(line_);
}

void SchedulerLog::Fork(SequenceId parent, SequenceId child) {
  Begin(line_, "fork");
  IntField(line_, "id", parent);
  IntField(line_, "child", child);
  line_ += '}';
  sink_(line_);
}

void SchedulerLog::Output(const SchedulerOutput& output) {
  line_ = "{\"out\":";
  AppendInt(line_, output.step);
  Key(line_, "sequences");  // ids may exceed int64, so rows are written by hand
  line_ += '[';
  for (size_t i = 0; i < output.sequences.size(); ++i) {
    const ScheduledSequence& sequence = output.sequences[i];
    line_ += i == 0 ? "[" : ",[";
    AppendInt(line_, sequence.id);
    for (const int64_t value : {sequence.start, static_cast<int64_t>(sequence.num_tokens),
                                static_cast<int64_t>(sequence.num_draft_tokens),
                                static_cast<int64_t>(sequence.needs_logits)}) {
      line_ += ',';
      AppendInt(line_, value);
    }
    line_ += ']';
  }
  line_ += ']';
  RowsField(line_, "block_ops", output.block_ops, [](const BlockOp& op) {
    return std::vector<int64_t>{static_cast<int64_t>(op.kind), op.group, op.src, op.dst, op.count};
  });
  std::vector<SequenceId> ids;
  std::vector<int64_t> details;
  for (const auto& admission : output.admitted) {
    ids.push_back(admission.id);
    details.push_back(admission.swapped_in ? -1 : admission.num_cached_tokens);
  }
  IntsField(line_, "admitted", ids);
  IntsField(line_, "cached_tokens", details);
  ids.clear();
  details.clear();
  for (const auto& preemption : output.preempted) {
    ids.push_back(preemption.id);
    details.push_back(preemption.swapped_out);
  }
  IntsField(line_, "preempted", ids);
  IntsField(line_, "swapped", details);
  IntsField(line_, "finished", output.finished);
  IntsField(line_, "cancelled", output.cancelled);
  ids.clear();
  for (const auto& failure : output.failed) ids.push_back(failure.id);
  IntsField(line_, "failed", ids);
  line_ += '}';
  sink_(line_);
}

void SchedulerLog::Failure(const Status& status) {
  line_ = "{\"error\":";
  AppendString(line_, status.message());
  line_ += '}';
  sink_(line_);
}

Result<std::string> ReplaySchedulerLog(std::string_view log) {
  std::string replayed;
  SchedulerLog writer([&replayed](std::string_view line) { (replayed += line) += '\n'; });
  std::unique_ptr<Scheduler> scheduler;
  int64_t line_number = 0;
  while (!log.empty()) {
    const size_t end = std::min(log.find('\n'), log.size());
    const std::string_view line = log.substr(0, end);
    log.remove_prefix(std::min(end + 1, log.size()));
    ++line_number;
    const std::string where = "scheduler log, line " + std::to_string(line_number) + ": ";
    const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) return Corrupt(where + "not a JSON object");
    if (json.contains("out") || json.contains("error")) continue;
    Reader reader(json);
    const std::string op = reader.String("op");
    if (reader.error().empty()) {
      if ((op == "config") != (scheduler == nullptr)) {
        return Corrupt(where + "operation \"" + op + "\", expected one config and it first");
      }
      if (op == "config") {
        const SchedulerConfig config = ReadConfig(reader);
        if (reader.error().empty()) {
          auto created = Scheduler::Create(config, &writer);
          if (!created.ok()) return created.status().WithContext(where + "config");
          scheduler = std::move(created).value();
        }
      } else {
        Apply(*scheduler, op, reader);
      }
    }
    if (!reader.error().empty()) return Corrupt(where + reader.error());
  }
  return replayed;
}

}  // namespace ink
