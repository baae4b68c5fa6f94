// Adapters in the layout of Hugging Face's PEFT library: adapter_config.json with the fields of its
// LoraConfig, adapter_model.safetensors with base_model.model.MODULE.lora_A.weight [r, in],
// .lora_B.weight [out, r] and, for DoRA, .lora_magnitude_vector [out].
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/atomic_file.h"
#include "formats/quote.h"
#include "formats/safetensors.h"
#include "formats/safetensors_writer.h"
#include "model/adapter_files.h"

namespace ink {
namespace {

using Json = nlohmann::ordered_json;  // of the patterns, the first that matches counts

constexpr std::string_view kConfigName = "adapter_config.json";
constexpr std::string_view kWeightsName = "adapter_model.safetensors";
constexpr std::string_view kBase = "base_model.model.";
constexpr uint64_t kMaxConfigBytes = 4 << 20;
constexpr int64_t kMaxRank = 1 << 20;

std::string Describe(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array of " + std::to_string(value.size());
  if (value.is_string()) return Quoted(value.get_ref<const std::string&>());
  return value.dump();
}

bool IsSet(const Json* value) {
  if (value == nullptr || value->is_null()) return false;
  if (value->is_boolean()) return value->get<bool>();
  return !((value->is_array() || value->is_object()) && value->empty());
}

// A key of rank_pattern or alpha_pattern. PEFT matches them as regular expressions "(.*\.)?(KEY)$":
// the whole module name or its end after a dot. Names with nothing but dots to interpret are
// supported, also with ^ before and $ behind.
struct Pattern {
  std::string text;  // without anchors and escapes
  bool anchored = false;

  static Result<Pattern> Parse(const std::string& path, const std::string& key) {
    Pattern out;
    std::string_view rest = key;
    if (rest.starts_with("^")) {
      out.anchored = true;
      rest.remove_prefix(1);
    }
    if (rest.ends_with("$")) rest.remove_suffix(1);
    for (size_t i = 0; i < rest.size(); ++i) {
      char c = rest[i];
      if (c == '\\' && i + 1 < rest.size() && rest[i + 1] == '.') c = rest[++i];
      if (std::string_view("*+?()[]{}|^$\\").find(c) != std::string_view::npos) {
        return Unsupported(Mismatch(path, "pattern " + Quoted(key),
                                    "a module's name or the end of one", "a regular expression"));
      }
      out.text += c;
    }
    return out;
  }
  bool Matches(std::string_view module) const {
    if (module == text) return true;
    return !anchored && module.size() > text.size() && module.ends_with(text) &&
           module[module.size() - text.size() - 1] == '.';
  }
};

struct PatternValue {
  Pattern pattern;
  double value;
};

class PeftConfig {
 public:
  static Result<PeftConfig> Read(const std::string& path) {
    INK_ASSIGN_OR_RETURN(std::string text, ReadFile(path, kMaxConfigBytes));
    PeftConfig config;
    config.path_ = path;
    config.root_ = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!config.root_.is_object()) {
      return Corrupt(Mismatch(path, "content", "a JSON object", "something else"));
    }
    INK_RETURN_IF_ERROR(config.CheckKind());
    INK_RETURN_IF_ERROR(config.ReadFields());
    return config;
  }

  /// The module must be one that the configuration adapts.
  Status CheckModule(const std::string& module, const std::string& tensor) const {
    const Json* targets = Find("target_modules");
    if (targets == nullptr || !targets->is_array()) return OkStatus();
    for (const Json& target : *targets) {
      const auto& name = target.get_ref<const std::string&>();
      if (Pattern{name}.Matches(module)) return OkStatus();
    }
    return Corrupt(Mismatch(path_, "target_modules",
                            "to hold the module of tensor " + Quoted(tensor), "a list without it"));
  }
  double RankOf(const std::string& module) const { return Value(ranks_, module, rank); }
  double AlphaOf(const std::string& module) const { return Value(alphas_, module, alpha); }

  double rank = 8, alpha = 8;
  bool rank_stabilized = false, dora = false;
  std::string base_model;

 private:
  const Json* Find(const char* key) const {
    auto it = root_.find(key);
    return it == root_.end() ? nullptr : &*it;
  }
  Status Refuse(const char* key, std::string_view expected, const Json& value) const {
    return Unsupported(Mismatch(path_, key, expected, Describe(value)));
  }

  // What would change the arithmetic in a way that is not implemented.
  Status CheckKind() const {
    const Json* kind = Find("peft_type");
    if (kind == nullptr || *kind != "LORA") {
      return Unsupported(Mismatch(path_, "peft_type", "\"LORA\"",
                                  kind == nullptr ? "no such field" : Describe(*kind)));
    }
    for (const char* key :
         {"modules_to_save", "fan_in_fan_out", "lora_bias", "layer_replication",
          "trainable_token_indices", "target_parameters", "alora_invocation_tokens", "use_qalora",
          "arrow_config", "kasa_config", "use_bdlora", "monteclora_config", "velora_config"}) {
      const Json* value = Find(key);
      if (IsSet(value)) return Refuse(key, "none", *value);
    }
    const Json* bias = Find("bias");
    if (bias != nullptr && !bias->is_null() && *bias != "none") {
      return Refuse("bias", "\"none\"", *bias);
    }
    // These initializations change the base weights too, so A and B alone are not the adapter.
    const Json* init = Find("init_lora_weights");
    if (init != nullptr && init->is_string()) {
      const auto& name = init->get_ref<const std::string&>();
      for (std::string_view prefix : {"pissa", "olora", "corda", "loftq"}) {
        if (name.starts_with(prefix)) {
          return Refuse("init_lora_weights", "one that leaves the base as it is", *init);
        }
      }
    }
    return OkStatus();
  }

  Status ReadFields() {
    INK_RETURN_IF_ERROR(Number("r", 1, static_cast<double>(kMaxRank), &rank));
    if (rank != std::floor(rank)) return Refuse("r", "a whole number", *Find("r"));
    INK_RETURN_IF_ERROR(Number("lora_alpha", -1e9, 1e9, &alpha));
    INK_RETURN_IF_ERROR(Bool("use_rslora", &rank_stabilized));
    INK_RETURN_IF_ERROR(Bool("use_dora", &dora));
    INK_RETURN_IF_ERROR(Patterns("rank_pattern", &ranks_));
    INK_RETURN_IF_ERROR(Patterns("alpha_pattern", &alphas_));
    if (const Json* base = Find("base_model_name_or_path"); base != nullptr && base->is_string()) {
      base_model = base->get<std::string>();
    }
    if (const Json* targets = Find("target_modules"); targets != nullptr && targets->is_array()) {
      for (const Json& target : *targets) {
        if (!target.is_string()) {
          return Corrupt(Mismatch(path_, "target_modules", "strings", Describe(target)));
        }
      }
    }
    return OkStatus();
  }

  Status Number(const char* key, double least, double most, double* out) const {
    const Json* value = Find(key);
    if (value == nullptr || value->is_null()) return OkStatus();
    return NumberOf(*value, key, least, most, out);
  }
  Status NumberOf(const Json& value, const std::string& key, double least, double most,
                  double* out) const {
    if (value.is_number()) *out = value.get<double>();
    if (!value.is_number() || !(*out >= least) || *out > most) {
      return Corrupt(Mismatch(path_, key,
                              "a number of " + Json(least).dump() + " to " + Json(most).dump(),
                              Describe(value)));
    }
    return OkStatus();
  }
  Status Bool(const char* key, bool* out) const {
    const Json* value = Find(key);
    if (value == nullptr || value->is_null()) return OkStatus();
    if (!value->is_boolean()) {
      return Corrupt(Mismatch(path_, key, "true or false", Describe(*value)));
    }
    *out = value->get<bool>();
    return OkStatus();
  }
  Status Patterns(const char* key, std::vector<PatternValue>* out) const {
    const Json* value = Find(key);
    if (value == nullptr || value->is_null()) return OkStatus();
    if (!value->is_object()) {
      return Corrupt(Mismatch(path_, key, "an object", Describe(*value)));
    }
    for (const auto& [name, number] : value->items()) {
      PatternValue row{.value = 0};
      INK_ASSIGN_OR_RETURN(row.pattern, Pattern::Parse(path_, name));
      INK_RETURN_IF_ERROR(NumberOf(number, std::string(key) + "." + name, -1e9, 1e9, &row.value));
      out->push_back(std::move(row));
    }
    return OkStatus();
  }
  static double Value(const std::vector<PatternValue>& patterns, const std::string& module,
                      double fallback) {
    for (const PatternValue& row : patterns) {
      if (row.pattern.Matches(module)) return row.value;
    }
    return fallback;
  }

  std::string path_;
  Json root_;
  std::vector<PatternValue> ranks_, alphas_;
};

struct Suffix {
  std::string_view text;
  AdapterPart part;
};
constexpr Suffix kSuffixes[] = {
    {".lora_A.weight", AdapterPart::kA},
    {".lora_B.weight", AdapterPart::kB},
    {".lora_magnitude_vector", AdapterPart::kMagnitude},
    {".lora_magnitude_vector.weight", AdapterPart::kMagnitude},
};

// The module as the plain model names it: multimodal models hold the language model inside.
std::string PlainModule(std::string_view module) {
  constexpr std::string_view kInside[][2] = {{"language_model.model.", "model."},
                                             {"model.language_model.", "model."},
                                             {"language_model.lm_head", "lm_head"}};
  for (const auto& [inside, plain] : kInside) {
    if (module.starts_with(inside)) {
      return std::string(plain) + std::string(module.substr(inside.size()));
    }
  }
  return std::string(module);
}

Status UnknownTensor(const std::string& path, std::string_view name, const AdapterTarget& target) {
  std::string found = "another tensor";
  if (name.find(".lora_embedding_") != std::string_view::npos ||
      name.find("embed_tokens.") != std::string_view::npos) {
    found = "an adapter of the embedding";
  } else if (name.find(".experts.") != std::string_view::npos) {
    found = "an adapter of experts";
  } else if (name.ends_with(".bias")) {
    found = "a bias";
  } else if (name.find(".lora_") == std::string_view::npos) {
    found = "a fully trained weight";
  }
  return Unsupported(Mismatch(path, "tensor " + Quoted(name),
                              "lora_A, lora_B or lora_magnitude_vector of a matrix of the " +
                                  target.architecture + " model",
                              found));
}

// The shortest target_modules: the last part of a name where all of the model's modules of that
// name are adapted, else the whole name.
std::vector<std::string> TargetModules(const Adapter& adapter, const AdapterTarget& target) {
  auto last = [](const std::string& module) { return module.substr(module.rfind('.') + 1); };
  std::map<std::string, int64_t> missing;
  for (const AdapterTarget::Matrix& matrix : target.matrices) {
    if (!matrix.hf_module.empty()) ++missing[last(matrix.hf_module)];
  }
  for (const Adapter::Matrix& m : adapter.matrices) {
    --missing[last(target.Find(m.name)->hf_module)];
  }
  std::set<std::string> names;
  for (const Adapter::Matrix& m : adapter.matrices) {
    const std::string& module = target.Find(m.name)->hf_module;
    names.insert(missing[last(module)] == 0 ? last(module) : module);
  }
  return {names.begin(), names.end()};
}

Json ConfigOf(const Adapter& adapter, const AdapterTarget& target) {
  // The most common rank and alpha are the defaults.
  std::map<std::pair<int64_t, float>, int> counts;
  std::pair<int64_t, float> usual{adapter.matrices.front().rank, adapter.matrices.front().alpha};
  for (const Adapter::Matrix& m : adapter.matrices) {
    const std::pair<int64_t, float> pair{m.rank, m.alpha};
    if (++counts[pair] > counts[usual]) usual = pair;
  }
  Json ranks = Json::object(), alphas = Json::object();
  for (const Adapter::Matrix& m : adapter.matrices) {
    const std::string& module = target.Find(m.name)->hf_module;
    if (m.rank != usual.first) ranks[module] = m.rank;
    if (m.alpha != usual.second) alphas[module] = m.alpha;
  }
  Json config = Json::object();
  config["peft_type"] = "LORA";
  config["task_type"] = "CAUSAL_LM";
  config["base_model_name_or_path"] = adapter.base_model;
  config["r"] = usual.first;
  config["lora_alpha"] = usual.second;
  if (usual.second == std::floor(usual.second) && std::abs(usual.second) < 1e9f) {
    config["lora_alpha"] = static_cast<int64_t>(usual.second);
  }
  config["lora_dropout"] = 0.0;
  config["target_modules"] = TargetModules(adapter, target);
  config["rank_pattern"] = ranks;
  config["alpha_pattern"] = alphas;
  config["use_rslora"] = adapter.rank_stabilized;
  config["use_dora"] = adapter.dora();
  config["bias"] = "none";
  config["fan_in_fan_out"] = false;
  config["inference_mode"] = true;
  config["init_lora_weights"] = true;
  config["modules_to_save"] = nullptr;
  return config;
}

}  // namespace

Result<Adapter> ReadPeftAdapter(const std::string& folder, const AdapterTarget& target) {
  namespace fs = std::filesystem;
  const std::string config_path = folder + "/" + std::string(kConfigName);
  const std::string weights_path = folder + "/" + std::string(kWeightsName);
  INK_ASSIGN_OR_RETURN(PeftConfig config, PeftConfig::Read(config_path));
  std::error_code error;
  if (!fs::exists(weights_path, error)) {
    const bool pickled = fs::exists(folder + "/adapter_model.bin", error);
    return NotFound(Mismatch(folder, "weights", std::string(kWeightsName),
                             pickled ? "adapter_model.bin alone, which is not read (save the "
                                       "adapter as safetensors)"
                                     : "no such file"));
  }
  INK_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(weights_path));
  Adapter adapter;
  adapter.path = folder;
  adapter.base_model = config.base_model;
  adapter.rank = static_cast<int64_t>(config.rank);
  adapter.alpha = static_cast<float>(config.alpha);
  adapter.rank_stabilized = config.rank_stabilized;
  AdapterAssembler assembler(weights_path, target);
  std::map<std::string, std::string> modules;  // canonical name -> module as the file names it
  for (const SafetensorsTensor& tensor : file.tensors()) {
    std::string_view name = tensor.name;
    const Suffix* suffix = nullptr;
    for (const Suffix& row : kSuffixes) {
      if (name.ends_with(row.text)) suffix = &row;
    }
    if (suffix == nullptr || !name.starts_with(kBase) ||
        name.size() <= kBase.size() + suffix->text.size()) {
      return UnknownTensor(weights_path, name, target);
    }
    name.remove_prefix(kBase.size());
    name.remove_suffix(suffix->text.size());
    const AdapterTarget::Matrix* matrix = target.FindModule(PlainModule(name));
    if (matrix == nullptr) return UnknownTensor(weights_path, tensor.name, target);
    INK_RETURN_IF_ERROR(config.CheckModule(std::string(name), tensor.name));
    INK_ASSIGN_OR_RETURN(DType type, file.TypeOf(tensor));
    modules[matrix->name] = name;
    INK_RETURN_IF_ERROR(assembler.Add(*matrix, suffix->part,
                                      {tensor.name, type, tensor.shape, tensor.data.data()}));
  }
  INK_RETURN_IF_ERROR(assembler.Finish(&adapter));
  for (Adapter::Matrix& m : adapter.matrices) {
    const std::string& module = modules[m.name];
    m.alpha = static_cast<float>(config.AlphaOf(module));
    if (static_cast<double>(m.rank) != config.RankOf(module)) {
      return Corrupt(
          Mismatch(weights_path, "rank of " + Quoted(module),
                   Json(config.RankOf(module)).dump() + " as in " + std::string(kConfigName),
                   std::to_string(m.rank)));
    }
    if (m.magnitude.empty() == config.dora) {
      return Corrupt(
          Mismatch(weights_path, "lora_magnitude_vector of " + Quoted(module),
                   config.dora ? "one, since use_dora is true" : "none, since use_dora is false",
                   config.dora ? "none" : "one"));
    }
  }
  return adapter;
}

Status WritePeftAdapter(const Adapter& adapter, const AdapterTarget& target,
                        const std::string& folder) {
  INK_RETURN_IF_ERROR(CheckAdapter(adapter, target));
  for (const Adapter::Matrix& m : adapter.matrices) {
    if (target.Find(m.name)->hf_module.empty()) {
      return Unsupported(Mismatch(folder, "adapter of " + Quoted(m.name),
                                  "a matrix with a Hugging Face name", "one without"));
    }
    if (m.magnitude.empty() == adapter.dora()) {
      return Unsupported(Mismatch(folder, "adapter of " + Quoted(m.name),
                                  "a magnitude in all matrices or in none", "a mixture"));
    }
  }
  std::error_code error;
  const bool made = std::filesystem::create_directories(folder, error);
  if (error) return IoError(folder + ": cannot make the folder: " + error.message());
  auto write = [&]() -> Status {
    SafetensorsWriter writer(folder + "/" + std::string(kWeightsName));
    writer.AddMetadata("format", "pt");
    std::vector<const std::vector<float>*> values;
    auto add = [&](const std::string& name, const std::vector<float>& data,
                   std::vector<int64_t> shape) {
      values.push_back(&data);
      return writer.AddTensor(name, DType::kF32, shape);
    };
    for (const Adapter::Matrix& m : adapter.matrices) {
      const std::string base = std::string(kBase) + target.Find(m.name)->hf_module;
      INK_RETURN_IF_ERROR(add(base + ".lora_A.weight", m.a, {m.rank, m.in}));
      INK_RETURN_IF_ERROR(add(base + ".lora_B.weight", m.b, {m.out, m.rank}));
      if (m.magnitude.empty()) continue;
      INK_RETURN_IF_ERROR(add(base + ".lora_magnitude_vector", m.magnitude, {m.out}));
    }
    INK_RETURN_IF_ERROR(writer.Begin());
    for (size_t i : writer.WriteOrder()) {
      INK_RETURN_IF_ERROR(writer.Write(std::as_bytes(std::span(*values[i]))));
    }
    INK_RETURN_IF_ERROR(writer.Finish());
    return WriteFileAtomic(
        folder + "/" + std::string(kConfigName),
        ConfigOf(adapter, target).dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  };
  Status status = write();
  // A folder that this call made and could not fill goes again (only if it is empty).
  if (!status.ok() && made) std::filesystem::remove(folder, error);
  return status;
}

}  // namespace ink
