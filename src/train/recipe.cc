#include "train/recipe.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "base/toml.h"

namespace ink {
namespace {

std::string Where(const std::string& name, const toml::node& node) {
  return name + ":" + std::to_string(node.source().begin.line);
}

// Reads the keys of one table and remembers which were asked for; Finish refuses the rest.
class Table {
 public:
  Table(const std::string& name, std::string title, const toml::table* table)
      : name_(name), title_(std::move(title)), table_(table) {}

  bool present() const { return table_ != nullptr; }
  Table& Int(const char* key, int64_t* out, int64_t low, int64_t high) {
    if (const toml::node* node = Find(key)) {
      auto value = node->value_exact<int64_t>();
      if (!value || *value < low || *value > high) {
        Fail(*node, key,
             "a whole number from " + std::to_string(low) + " to " + std::to_string(high));
      } else {
        *out = *value;
      }
    }
    return *this;
  }
  Table& Int(const char* key, int* out, int64_t low, int64_t high) {
    int64_t value = *out;
    Int(key, &value, low, high);
    *out = static_cast<int>(value);
    return *this;
  }
  Table& Number(const char* key, double* out, double low, double high) {
    if (const toml::node* node = Find(key)) {
      auto value = node->value<double>();
      if (!value || !(*value >= low) || !(*value <= high)) {
        Fail(*node, key, "a number from " + Short(low) + " to " + Short(high));
      } else {
        *out = *value;
      }
    }
    return *this;
  }
  Table& Number(const char* key, float* out, double low, double high) {
    double value = double{*out};
    const double before = value;
    Number(key, &value, low, high);
    if (value != before) *out = static_cast<float>(value);
    return *this;
  }
  Table& Bool(const char* key, bool* out) {
    if (const toml::node* node = Find(key)) {
      auto value = node->value_exact<bool>();
      if (!value) {
        Fail(*node, key, "true or false");
      } else {
        *out = *value;
      }
    }
    return *this;
  }
  Table& String(const char* key, std::string* out) {
    if (const toml::node* node = Find(key)) {
      auto value = node->value_exact<std::string>();
      if (!value) {
        Fail(*node, key, "a string");
      } else {
        *out = *value;
      }
    }
    return *this;
  }
  /// One of `names`; `out` receives its index.
  Table& Choice(const char* key, std::initializer_list<const char*> names, int* out) {
    if (const toml::node* node = Find(key)) {
      auto value = node->value_exact<std::string>();
      int index = 0;
      std::string list;
      for (const char* name : names) {
        list += (list.empty() ? "" : ", ") + std::string(name);
        if (value && *value == name) {
          *out = index;
          return *this;
        }
        ++index;
      }
      Fail(*node, key, "one of " + list);
    }
    return *this;
  }
  Table& Ints(const char* key, std::vector<int>* out) {
    if (const toml::node* node = Find(key)) {
      const toml::array* array = node->as_array();
      if (array == nullptr) {
        Fail(*node, key, "a list of whole numbers");
        return *this;
      }
      for (const toml::node& item : *array) {
        auto value = item.value_exact<int64_t>();
        if (!value || *value < 0 || *value > 1 << 20) {
          Fail(item, key, "a list of whole numbers");
          return *this;
        }
        out->push_back(static_cast<int>(*value));
      }
    }
    return *this;
  }

  Table& Strings(const char* key, std::vector<std::string>* out) {
    if (const toml::node* node = Find(key)) {
      const toml::array* array = node->as_array();
      out->clear();
      for (size_t i = 0; array != nullptr && i < array->size(); ++i) {
        auto value = array->get(i)->value_exact<std::string>();
        if (!value || value->empty()) break;
        out->push_back(*value);
      }
      if (array == nullptr || out->empty() || out->size() != array->size()) {
        Fail(*node, key, "a list of strings");
      }
    }
    return *this;
  }

  Status Finish() {
    if (table_ != nullptr && status_.ok()) {
      for (const auto& [key, node] : *table_) {
        if (!known_.contains(std::string(key.str()))) {
          std::string list;
          for (const std::string& k : known_) list += (list.empty() ? "" : ", ") + k;
          return InvalidArgument(Where(name_, node) + ": unknown key \"" + std::string(key.str()) +
                                 "\" in " + title_ + ", expected one of " + list);
        }
      }
    }
    return status_;
  }

 private:
  static std::string Short(double x) {
    std::string text = std::to_string(x);
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
    return text;
  }
  const toml::node* Find(const char* key) {
    known_.insert(key);
    return table_ == nullptr ? nullptr : table_->get(key);
  }
  void Fail(const toml::node& node, const char* key, const std::string& expected) {
    if (!status_.ok()) return;
    status_ =
        InvalidArgument(Where(name_, node) + ": " + title_ + " " + key + ": expected " + expected);
  }
  const std::string& name_;
  std::string title_;
  const toml::table* table_;
  std::set<std::string> known_;
  Status status_;
};

constexpr int64_t kBig = int64_t{1} << 40;

Status ReadData(const std::string& name, const std::string& title, const toml::table* table,
                DataSource* out) {
  Table t(name, title, table);
  int format = 0;
  t.String("path", &out->path)
      .Choice("format", {"text", "jsonl", "prompt", "label", "chat"}, &format)
      .Number("weight", &out->weight, 0, 1000)
      .String("template", &out->label_template);
  INK_RETURN_IF_ERROR(t.Finish());
  if (out->path.empty()) return InvalidArgument(name + ": " + title + ": expected a path");
  out->format = static_cast<DataFormat>(format);
  if (out->label_template.find("{text}") == std::string::npos) {
    return InvalidArgument(name + ": " + title + " template: expected {text} in it, got \"" +
                           out->label_template + "\"");
  }
  return OkStatus();
}

}  // namespace

Result<TrainRecipe> ParseRecipe(std::string_view text, const std::string& name, bool finetune) {
  toml::parse_result parsed = toml::parse(text, name);
  if (!parsed) {
    return InvalidArgument(name + ":" + std::to_string(parsed.error().source().begin.line) +
                           ": not TOML: " + std::string(parsed.error().description()));
  }
  const toml::table& root = parsed.table();
  TrainRecipe r;
  std::set<std::string_view> tables = {"model",    "data",       "validation", "train", "optimizer",
                                       "schedule", "checkpoint", "output",     "sample"};
  tables.insert(finetune ? "adapter" : "tokenizer");
  for (const auto& [key, node] : root) {
    if (!tables.contains(key.str())) {
      return InvalidArgument(Where(name, node) + ": unknown table \"" + std::string(key.str()) +
                             "\", expected model, data, validation, train, optimizer, schedule, "
                             "checkpoint, output, sample or " +
                             (finetune ? "adapter" : "tokenizer"));
    }
    if (key.str() == "data" ? !node.is_array_of_tables() : !node.is_table()) {
      return InvalidArgument(
          Where(name, node) + ": expected " +
          (key.str() == "data" ? "[[data]] tables" : "a table [" + std::string(key.str()) + "]"));
    }
  }
  auto table = [&](const char* key) {
    return Table(name, "[" + std::string(key) + "]",
                 root.get(key) != nullptr ? root.get(key)->as_table() : nullptr);
  };
  Table model = table("model");
  ModelShape& s = r.shape;
  if (finetune) {
    r.shape.context = 0;
    model.Int("context", &s.context, 2, 1 << 24);
  } else {
    model.String("from", &r.from)
        .String("architecture", &s.architecture)
        .String("name", &s.name)
        .Int("d_model", &s.d_model, 2, 1 << 20)
        .Int("ffn", &s.ffn_dim, 1, 1 << 22)
        .Int("layers", &s.num_layers, 1, 4096)
        .Int("heads", &s.num_heads, 1, 4096)
        .Int("kv_heads", &s.num_kv_heads, 1, 4096)
        .Int("head_dim", &s.head_dim, 2, 256)
        .Int("context", &s.context, 2, 1 << 24)
        .Bool("tied", &s.tied)
        .Number("rope_base", &s.rope_base, 1, 1e9)
        .Number("eps", &s.eps, 1e-12, 1)
        .Int("sliding_window", &s.sliding_window, 0, 1 << 24)
        .Int("experts", &s.num_experts, 0, 4096)
        .Int("experts_per_token", &s.experts_per_token, 1, 4096)
        .Ints("share", &s.share);
  }
  INK_RETURN_IF_ERROR(model.Finish());
  if (!model.present() && !finetune) return InvalidArgument(name + ": expected a table [model]");
  Table tokenizer = table("tokenizer");
  tokenizer.String("file", &r.tokenizer_file)
      .Int("vocabulary", &r.vocabulary, 258, 1 << 22)
      .String("pre", &r.pre_tokenizer);
  INK_RETURN_IF_ERROR(tokenizer.Finish());
  if (const toml::node* node = root.get("data")) {
    for (const toml::node& item : *node->as_array()) {
      DataSource source;
      INK_RETURN_IF_ERROR(ReadData(name, "[[data]]", item.as_table(), &source));
      r.data.push_back(source);
    }
  }
  if (r.data.empty()) return InvalidArgument(name + ": expected at least one table [[data]]");
  if (root.get("validation") != nullptr) {
    Table t = table("validation");
    int format = 0;
    t.String("path", &r.validation.path)
        .Choice("format", {"text", "jsonl", "prompt", "label", "chat"}, &format)
        .String("template", &r.validation.label_template)
        .Number("share", &r.validation_share, 0, 0.9)
        .Int("every", &r.validation_every, 0, kBig)
        .Int("context", &r.validation_context, 2, 1 << 24)
        .Int("bytes", &r.validation_bytes, 0, kBig);
    INK_RETURN_IF_ERROR(t.Finish());
    if (r.validation.path.empty() == (r.validation_share == 0)) {
      return InvalidArgument(name + ": [validation]: expected one of path and share");
    }
    r.validation.format = static_cast<DataFormat>(format);
  }
  Table train = table("train");
  int64_t seed = 1;
  int precision = 0;
  train.Int("steps", &r.steps, 1, kBig)
      .Number("epochs", &r.epochs, 1e-6, 1e6)
      .Int("batch_tokens", &r.batch_tokens, 1, kBig)
      .Int("micro_batch_tokens", &r.micro_batch_tokens, 1, 1 << 24)
      .Int("seed", &seed, 0, std::numeric_limits<int64_t>::max())
      .Choice("precision", {"bf16", "f32"}, &precision)
      .Bool("recompute", &r.recompute)
      .Number("dropout", &r.dropout, 0, 0.95)
      .Number("token_dropout", &r.token_dropout, 0, 0.95)
      .Number("prompt_loss", &r.prompt_loss, 0, 1)
      .Number("label_loss", &r.label_loss, 0, 1)
      .Number("token_noise", &r.token_noise, 0, 0.95)
      .Number("clip", &r.clip, 0, 1e9)
      .Number("skip_spike", &r.skip_spike, 0, 1e9);
  INK_RETURN_IF_ERROR(train.Finish());
  r.seed = static_cast<uint64_t>(seed);
  r.bfloat16 = precision == 0;
  if (r.prompt_loss > 0 && r.label_loss > 0) {
    return InvalidArgument(name + ": [train]: expected at most one of prompt_loss and label_loss");
  }
  if ((r.steps > 0) == (r.epochs > 0)) {
    return InvalidArgument(name + ": [train]: expected one of steps and epochs");
  }
  Table optimizer = table("optimizer");
  int kind = 0;
  OptimizerConfig& o = r.optimizer;
  optimizer.Choice("kind", {"adamw", "adamw8", "muon"}, &kind)
      .Number("lr", &o.lr, 0, 10)
      .Number("beta1", &o.beta1, 0, 0.99999)
      .Number("beta2", &o.beta2, 0, 0.9999999)
      .Number("eps", &o.eps, 0, 1)
      .Number("weight_decay", &o.weight_decay, 0, 100)
      .Bool("decay_embeddings", &o.decay_embeddings)
      .Number("momentum", &o.momentum, 0, 0.9999)
      .Int("newton_schulz_steps", &o.newton_schulz_steps, 1, 20)
      .Number("adam_lr_scale", &o.adam_lr_scale, 0, 1000);
  INK_RETURN_IF_ERROR(optimizer.Finish());
  o.kind = static_cast<OptimizerKind>(kind);
  Table schedule = table("schedule");
  int shape = 1;
  schedule.Choice("kind", {"constant", "cosine", "wsd"}, &shape)
      .Int("warmup", &r.warmup, 0, kBig)
      .Number("decay", &r.decay, 0, 1)
      .Number("final_ratio", &r.final_ratio, 0, 1);
  INK_RETURN_IF_ERROR(schedule.Finish());
  r.schedule = static_cast<ScheduleKind>(shape);
  Table checkpoint = table("checkpoint");
  checkpoint.Int("every", &r.checkpoint_every, 1, kBig)
      .Number("minutes", &r.checkpoint_minutes, 0, 1e6)
      .Int("keep", &r.keep, 1, 1000);
  INK_RETURN_IF_ERROR(checkpoint.Finish());
  Table output = table("output");
  output.String("type", &r.output_type);
  INK_RETURN_IF_ERROR(output.Finish());
  Table adapter = table("adapter");
  int method = 1;
  double adapter_dropout = 0;
  adapter.Choice("method", {"full", "lora", "rslora", "dora", "qlora"}, &method)
      .Int("rank", &r.adapter.rank, 1, 4096)
      .Number("alpha", &r.adapter.alpha, 1e-6, 1e6)
      .Number("dropout", &adapter_dropout, 0, 0.95)
      .Strings("targets", &r.adapter.targets);
  INK_RETURN_IF_ERROR(adapter.Finish());
  if (adapter.present()) r.method = static_cast<TuneMethod>(method);
  r.adapter.dropout = adapter_dropout;
  r.adapter.rank_stabilized = r.method == TuneMethod::kRsLora;
  r.adapter.dora = r.method == TuneMethod::kDora;
  if (r.method != TuneMethod::kFull && (r.dropout > 0 || r.token_dropout > 0)) {
    return InvalidArgument(name +
                           ": [train] dropout and token_dropout: expected with full training only; "
                           "[adapter] dropout is the adapter's");
  }
  Table sample = table("sample");
  sample.String("prompt", &r.sample_prompt).Int("tokens", &r.sample_tokens, 1, 4096);
  return sample.Finish().ok() ? Result<TrainRecipe>(std::move(r)) : sample.Finish();
}

double ScheduleAt(const TrainRecipe& r, int64_t step, int64_t steps) {
  if (step < r.warmup) return static_cast<double>(step + 1) / static_cast<double>(r.warmup);
  if (r.schedule == ScheduleKind::kConstant) return 1;
  if (r.schedule == ScheduleKind::kCosine) {
    const double span = static_cast<double>(std::max<int64_t>(1, steps - r.warmup));
    const double at = std::min(1.0, static_cast<double>(step - r.warmup) / span);
    return r.final_ratio + (1 - r.final_ratio) * 0.5 * (1 + std::cos(3.141592653589793 * at));
  }
  const double length = std::max(1.0, r.decay * static_cast<double>(steps));
  const double at = (static_cast<double>(step) - (static_cast<double>(steps) - length)) / length;
  return at <= 0 ? 1 : 1 - (1 - r.final_ratio) * std::min(1.0, at);
}

}  // namespace ink
