// POST /v1/embeddings, /api/embed and /api/embeddings: the pooled final hidden state of each text,
// of length 1.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "serve/handlers.h"

namespace ink {
namespace {

constexpr FieldUse kHonoured = FieldUse::kHonoured;
constexpr size_t kMaxInputs = 2048;  // OpenAI's limit

constexpr Field kOpenAi[] = {
    {"model", kHonoured, R"({"type":"string"})"},
    {"input", kHonoured, R"({"type":["string","array"]})"},
    {"encoding_format", kHonoured, R"({"enum":["float","base64"]})"},
    {"dimensions", kHonoured, R"({"type":"integer","minimum":1})"},
    {"user", FieldUse::kNoEffect, R"({"type":"string"})"},
};
constexpr Field kEmbed[] = {
    {"model", kHonoured, R"({"type":"string"})"},
    {"input", kHonoured, R"({"type":["string","array"]})"},
    {"truncate", kHonoured, R"({"type":"boolean","default":true})"},
    {"dimensions", kHonoured, R"({"type":"integer","minimum":1})"},
    {"keep_alive", FieldUse::kNoEffect, R"({"type":["string","number"]})"},
    {"options", FieldUse::kNoEffect, R"({"type":"object"})"},
};
constexpr Field kEmbeddings[] = {
    {"model", kHonoured, R"({"type":"string"})"},
    {"prompt", kHonoured, R"({"type":"string"})"},
    {"keep_alive", FieldUse::kNoEffect, R"({"type":["string","number"]})"},
    {"options", FieldUse::kNoEffect, R"({"type":"object"})"},
};

std::string Base64(std::string_view bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    const size_t count = std::min<size_t>(3, bytes.size() - i);
    for (size_t k = 0; k < 3; ++k) {
      group = group << 8 | (k < count ? static_cast<uint8_t>(bytes[i + k]) : 0);
    }
    for (size_t k = 0; k < 4; ++k) {
      out += k <= count ? kDigits[group >> (18 - 6 * k) & 63] : '=';
    }
  }
  return out;
}

struct Embedded {
  std::vector<std::vector<float>> vectors;
  int64_t tokens = 0;
  double seconds = 0;
};

using BodyFn = std::function<Json(const Embedded&)>;

// One client's texts on their way through the engine.
class EmbeddingExchange : public std::enable_shared_from_this<EmbeddingExchange> {
 public:
  EmbeddingExchange(Call& call, ApiKind api, BodyFn body)
      : context_(std::move(call.context)),
        warnings_(std::move(call.warnings)),
        defaults_(call.defaults),
        api_(api),
        body_(std::move(body)) {}

  void Start(std::vector<std::vector<int32_t>> prompts) {
    open_ = prompts.size();
    sums_.resize(prompts.size());
    result_.vectors.resize(prompts.size());
    std::weak_ptr<EmbeddingExchange> weak = weak_from_this();
    context_.writer->OnClose([weak] {
      if (auto self = weak.lock()) self->CancelAll();
    });
    auto self = shared_from_this();
    for (size_t p = 0; p < prompts.size(); ++p) {
      GenerationRequest request = defaults_;
      result_.tokens += static_cast<int64_t>(prompts[p].size());
      request.prompt = std::move(prompts[p]);
      request.sampling.max_tokens = 0;
      request.prompt_hidden = [self, p](int64_t position, std::span<const float> hidden) {
        self->Add(p, position, hidden);
      };
      requests_.push_back(std::move(request));
    }
    for (size_t i = 0; i < kAtOnce; ++i) SubmitNext();
    bool nothing = false;
    {
      std::lock_guard lock(mutex_);
      nothing = tickets_.empty();
    }
    // The client went away before the first text: no event will come.
    if (nothing) Finish(499, nullptr);
  }

 private:
  // More would fill the queue that others share.
  static constexpr size_t kAtOnce = 8;

  void SubmitNext() {
    std::lock_guard lock(mutex_);
    if (cancelled_ || next_ >= requests_.size()) return;
    const size_t p = next_++;
    auto self = shared_from_this();
    tickets_.push_back(
        context_.model->engine().Submit(std::move(requests_[p]), [self, p](const TokenEvent& e) {
          if (e.last) self->OnEnd(p, e);
        }));
  }

  // Engine's thread. Sums in double: a long text's mean does not depend on its chunks.
  void Add(size_t p, int64_t position, std::span<const float> hidden) {
    std::vector<double>& sum = sums_[p];
    const Pooling pooling = context_.model->options().pooling;
    // Again from the start after a preemption.
    if (position == 0 || pooling == Pooling::kLast) sum.assign(hidden.size(), 0.0);
    if (pooling == Pooling::kFirst && position > 0) return;
    for (size_t i = 0; i < hidden.size(); ++i) sum[i] += hidden[i];
  }

  // Delivery thread.
  void OnEnd(size_t p, const TokenEvent& event) {
    --open_;
    if (over_) return;
    if (!context_.writer->IsOpen()) {
      CancelAll();
      Finish(499, nullptr);
      return;
    }
    if (!event.error.ok()) {
      CancelAll();
      ApiError error = FromStatus(event.error, "input");
      HttpResponse response = ErrorResponse(api_, error, context_.request_id);
      AddCommonHeaders(context_, warnings_, &response);
      Finish(error.http_status, &response);
      return;
    }
    double norm = 0;
    for (const double x : sums_[p]) norm += x * x;
    norm = std::sqrt(norm);
    std::vector<float>& vector = result_.vectors[p];
    for (const double x : sums_[p]) vector.push_back(static_cast<float>(norm > 0 ? x / norm : 0));
    sums_[p] = {};
    if (open_ > 0) {
      SubmitNext();
      return;
    }
    result_.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - context_.received).count();
    Json body = body_(result_);
    if (!warnings_.empty()) body["warnings"] = warnings_;
    HttpResponse response;
    response.body = DumpJson(body);
    AddCommonHeaders(context_, warnings_, &response);
    Finish(200, &response);
  }

  void CancelAll() {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    for (EngineThread::Ticket ticket : tickets_) context_.model->engine().Cancel(ticket);
  }

  void Finish(int status, HttpResponse* response) {
    over_ = true;
    Usage usage;
    usage.prompt_tokens = result_.tokens;
    if (context_.lease != nullptr) {
      context_.lease->Charge(status == 200 ? usage.prompt_tokens : 0);
      context_.lease.reset();
    }
    if (context_.trace != nullptr) {
      context_.trace->Set("gen_ai.response.model", context_.model->name());
      context_.trace->Set("gen_ai.usage.input_tokens", usage.prompt_tokens);
    }
    if (context_.on_end) context_.on_end(status, "", usage);
    if (response != nullptr) context_.writer->Send(std::move(*response));
    // What was never submitted holds this object.
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    requests_.clear();
  }

  RequestContext context_;
  std::vector<std::string> warnings_;
  GenerationRequest defaults_;
  const ApiKind api_;
  const BodyFn body_;
  std::mutex mutex_;
  std::vector<EngineThread::Ticket> tickets_;  // under mutex_, as the next three
  std::vector<GenerationRequest> requests_;
  size_t next_ = 0;
  bool cancelled_ = false;
  std::vector<std::vector<double>> sums_;  // engine's thread, then the delivery thread
  Embedded result_;
  size_t open_ = 0;
  bool over_ = false;
};

// One text or list of ids as tokens.
ApiStatus ReadText(const Json& input, const ServedModel& model, bool truncate,
                   const std::string& param, std::vector<std::string>* warnings,
                   std::vector<std::vector<int32_t>>* prompts) {
  std::vector<int32_t> ids;
  if (input.is_string()) {
    ids = model.tokenizer().Encode(input.get_ref<const std::string&>(), {.add_special = true});
  } else {
    for (const Json& id : input) {
      if (!id.is_number_integer() || id.get<int64_t>() < 0 ||
          id.get<int64_t>() >= model.info().n_vocab) {
        return BadRequest("'" + param + "': expected token ids from 0 to " +
                              std::to_string(model.info().n_vocab - 1),
                          param, "invalid_value");
      }
      ids.push_back(static_cast<int32_t>(id.get<int64_t>()));
    }
  }
  if (ids.empty()) {
    return BadRequest("'" + param + "': expected a text of at least one token", param,
                      "invalid_value");
  }
  if (static_cast<int64_t>(ids.size()) > model.context()) {
    const std::string numbers = std::to_string(model.context()) + " tokens, and '" + param +
                                "' has " + std::to_string(ids.size());
    if (!truncate) {
      return BadRequest("This model's maximum context length is " + numbers, param,
                        "context_length_exceeded");
    }
    warnings->push_back("cut to the context of " + numbers);
    ids.resize(static_cast<size_t>(model.context()));
  }
  prompts->push_back(std::move(ids));
  return std::nullopt;
}

ApiStatus ReadInput(const Json& input, const ServedModel& model, bool truncate,
                    const std::string& name, std::vector<std::string>* warnings,
                    std::vector<std::vector<int32_t>>* prompts) {
  if (input.is_string()) return ReadText(input, model, truncate, name, warnings, prompts);
  if (!input.is_array() || input.empty()) {
    return BadRequest("'" + name + "': expected a string, or a list of strings or token ids", name,
                      "invalid_value");
  }
  if (input[0].is_number()) return ReadText(input, model, truncate, name, warnings, prompts);
  if (input.size() > kMaxInputs) {
    return BadRequest("'" + name + "': expected at most " + std::to_string(kMaxInputs) +
                          " texts, got " + std::to_string(input.size()),
                      name, "invalid_value");
  }
  for (size_t i = 0; i < input.size(); ++i) {
    const std::string param = name + "[" + std::to_string(i) + "]";
    if (!input[i].is_string() && !input[i].is_array()) {
      return BadRequest("'" + param + "': expected a string or a list of token ids", param,
                        "invalid_value");
    }
    if (auto error = ReadText(input[i], model, truncate, param, warnings, prompts)) return error;
  }
  return std::nullopt;
}

void CheckDimensions(FieldReader& reader, const ServedModel& model) {
  int64_t dimensions = 0;
  if (reader.Integer("dimensions", &dimensions, 1) && dimensions != model.info().d_model) {
    reader.Fail("dimensions",
                "this model's embeddings have " + std::to_string(model.info().d_model) +
                    " dimensions and cannot be shortened, got " + std::to_string(dimensions));
  }
}

}  // namespace

FieldTable EmbeddingFields() { return kOpenAi; }
FieldTable OllamaEmbedFields() { return kEmbed; }
FieldTable OllamaEmbeddingsFields() { return kEmbeddings; }

ApiStatus HandleEmbeddings(Call& call) {
  const ServedModel& model = *call.context.model;
  FieldReader reader(call.body);
  static constexpr std::string_view kFormats[] = {"float", "base64"};
  std::string encoding = "float";
  reader.Choice("encoding_format", kFormats, &encoding);
  CheckDimensions(reader, model);
  const Json* input = reader.Find("input");
  if (input == nullptr) reader.Fail("input", "expected a string or a list, got none");
  if (!reader.ok()) return reader.error();
  std::vector<std::vector<int32_t>> prompts;
  if (auto error = ReadInput(*input, model, false, "input", &call.warnings, &prompts)) return error;
  auto body = [encoding, name = call.context.model_name()](const Embedded& done) {
    Json data = Json::array();
    for (size_t i = 0; i < done.vectors.size(); ++i) {
      const std::vector<float>& vector = done.vectors[i];
      Json item = {{"object", "embedding"}, {"index", i}};
      if (encoding == "base64") {
        static_assert(std::endian::native == std::endian::little);
        item["embedding"] =
            Base64({reinterpret_cast<const char*>(vector.data()), vector.size() * sizeof(float)});
      } else {
        item["embedding"] = vector;
      }
      data.push_back(std::move(item));
    }
    return Json{{"object", "list"},
                {"data", std::move(data)},
                {"model", name},
                {"usage", {{"prompt_tokens", done.tokens}, {"total_tokens", done.tokens}}}};
  };
  std::make_shared<EmbeddingExchange>(call, ApiKind::kOpenAi, body)->Start(std::move(prompts));
  return std::nullopt;
}

ApiStatus HandleOllamaEmbed(Call& call) {
  const ServedModel& model = *call.context.model;
  FieldReader reader(call.body);
  bool truncate = true;
  reader.Bool("truncate", &truncate);
  CheckDimensions(reader, model);
  const Json* input = reader.Find("input");
  if (input == nullptr) reader.Fail("input", "expected a string or a list of strings, got none");
  if (!reader.ok()) return reader.error();
  std::vector<std::vector<int32_t>> prompts;
  if (auto error = ReadInput(*input, model, truncate, "input", &call.warnings, &prompts)) {
    return error;
  }
  auto body = [name = call.body.value("model", call.context.model_name())](const Embedded& done) {
    return Json{{"model", name},
                {"embeddings", done.vectors},
                {"total_duration", std::llround(done.seconds * 1e9)},
                {"load_duration", 0},
                {"prompt_eval_count", done.tokens}};
  };
  std::make_shared<EmbeddingExchange>(call, ApiKind::kOllama, body)->Start(std::move(prompts));
  return std::nullopt;
}

ApiStatus HandleOllamaEmbeddings(Call& call) {
  const ServedModel& model = *call.context.model;
  FieldReader reader(call.body);
  std::string prompt;
  if (!reader.String("prompt", &prompt)) reader.Fail("prompt", "expected a string, got none");
  if (!reader.ok()) return reader.error();
  std::vector<std::vector<int32_t>> prompts;
  if (auto error = ReadText(Json(prompt), model, true, "prompt", &call.warnings, &prompts)) {
    return error;
  }
  auto body = [](const Embedded& done) { return Json{{"embedding", done.vectors[0]}}; };
  std::make_shared<EmbeddingExchange>(call, ApiKind::kOllama, body)->Start(std::move(prompts));
  return std::nullopt;
}

}  // namespace ink
