// POST /tokenize and /detokenize.
#include <utility>

#include "serve/handlers.h"
#include "text/detokenizer.h"

namespace ink {
namespace {

constexpr FieldUse kHonoured = FieldUse::kHonoured;

constexpr Field kTokenize[] = {
    {"model", kHonoured, R"({"type":"string"})"},
    {"prompt", kHonoured, R"({"type":"string"})"},
    {"content", kHonoured, R"({"type":"string"})"},
    {"messages", kHonoured, R"({"type":"array"})"},
    {"tools", kHonoured, R"({"type":"array"})"},
    {"add_generation_prompt", kHonoured, R"({"type":"boolean"})"},
    {"add_special_tokens", kHonoured, R"({"type":"boolean","default":false})"},
    {"add_special", kHonoured, R"({"type":"boolean","default":false})"},
    {"parse_special", kHonoured, R"({"type":"boolean","default":false})"},
    {"return_token_strs", kHonoured, R"({"type":"boolean"})"},
    {"with_pieces", kHonoured, R"({"type":"boolean"})"},
};
constexpr Field kDetokenize[] = {
    {"model", kHonoured, R"({"type":"string"})"},
    {"tokens", kHonoured, R"({"type":"array","items":{"type":"integer"}})"},
    {"skip_special_tokens", kHonoured, R"({"type":"boolean","default":false})"},
};

}  // namespace

FieldTable TokenizeFields() { return kTokenize; }
FieldTable DetokenizeFields() { return kDetokenize; }

ApiStatus HandleTokenize(Call& call) {
  FieldReader reader(call.body);
  const ServedModel& model = *call.context.model;
  std::string text;
  bool add_special = false, parse_special = false, strings = false;
  const bool has_text = reader.String("prompt", &text) || reader.String("content", &text);
  reader.Bool("add_special_tokens", &add_special);
  reader.Bool("add_special", &add_special);
  reader.Bool("parse_special", &parse_special);
  reader.Bool("return_token_strs", &strings);
  reader.Bool("with_pieces", &strings);
  std::vector<int32_t> ids;
  if (const Json* messages = reader.List("messages"); messages != nullptr && reader.ok()) {
    ChatInput input;
    ToolChoice choice;
    reader.Bool("add_generation_prompt", &input.add_generation_prompt);
    if (auto error = ReadOpenAiTools(reader, &input.tools, &choice)) return error;
    if (auto error = ReadOpenAiMessages(*messages, "messages", &input.messages)) return error;
    auto prompt = model.RenderChat(input, &call.warnings);
    if (!prompt.ok()) return FromStatus(prompt.status(), "messages");
    ids = std::move(prompt->ids);
  } else {
    if (!has_text) reader.Fail("prompt", "expected a text, or \"messages\", got neither");
    if (!reader.ok()) return reader.error();
    ids = model.tokenizer().Encode(text,
                                   {.add_special = add_special, .parse_special = parse_special});
  }
  Json body;
  body["count"] = ids.size();
  body["max_model_len"] = model.context();
  body["tokens"] = ids;
  if (strings) {
    body["token_strs"] = Json::array();
    for (int32_t id : ids) {
      body["token_strs"].push_back(std::string(model.tokenizer().TokenBytes(id)));
    }
  }
  SendJson(call, std::move(body));
  return std::nullopt;
}

ApiStatus HandleDetokenize(Call& call) {
  FieldReader reader(call.body);
  std::vector<int32_t> ids;
  bool skip = false;
  if (!reader.Integers("tokens", &ids) && reader.ok()) {
    reader.Fail("tokens", "expected a list of token ids, got none");
  }
  reader.Bool("skip_special_tokens", &skip);
  const std::shared_ptr<const Tokenizer> tokenizer(call.context.model,
                                                   &call.context.model->tokenizer());
  for (int32_t id : ids) {
    if (id >= tokenizer->vocab_size()) {
      reader.Fail("tokens", "expected ids from 0 to " +
                                std::to_string(tokenizer->vocab_size() - 1) + ", got " +
                                std::to_string(id));
      break;
    }
  }
  if (!reader.ok()) return reader.error();
  const std::string text = Decode(tokenizer, ids, {.skip_special = skip});
  SendJson(call, {{"prompt", text}, {"content", text}});
  return std::nullopt;
}

}  // namespace ink
