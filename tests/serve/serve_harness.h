// A server on a tiny random model: 40 tokens, each of them one character.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/harness.h"
#include "serve/service.h"
#include "transport/memory_transport.h"

namespace ink::testing_support {

inline constexpr int kTinyContext = 200;

inline constexpr const char* kTinyTemplate =
    "{% for m in messages %}{{ m.role }}:{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{\"name\": \"{{ c.function.name }}\", \"arguments\": "
    "{{ c.function.arguments | tojson }}}{% endfor %}{{ '\\n' }}{% endfor %}"
    "{% if tools %}{% for t in tools %}{{ t.function.name }}\n{% endfor %}"
    "{% endif %}"
    "{% if add_generation_prompt %}a:{% endif %}";

/// Qwen's way: reasoning and calls between tags, each a token of its own.
inline constexpr const char* kTaggedTemplate =
    "{% for m in messages %}{{ m.role }}:{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>\n{\"name\": \"{{ c.function.name }}\", "
    "\"arguments\": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}{{ '\\n' }}{% "
    "endfor %}"
    "{% if add_generation_prompt %}a:{% if enable_thinking %}<think>\n{% endif %}{% endif %}"
    "{# <think> </think> #}";

inline std::shared_ptr<const Tokenizer> TinyTokenizer(bool with_template = true,
                                                      bool tagged = false) {
  TokenizerSpec spec;
  spec.tokens = {{"<unk>", 0, TokenType::kUnknown},
                 {"<s>", 0, TokenType::kControl},
                 {"</s>", 0, TokenType::kControl}};
  for (const char c : std::string("abcdefghijklmnopqrstuvwxyz {}\":,01.\n_")) {
    spec.tokens.push_back({std::string(1, c), 0, TokenType::kNormal});
  }
  EXPECT_EQ(spec.tokens.size(), 40u);
  spec.added = {{1, true}, {2, true}};
  if (tagged) {
    // In the places of w, x, y, z; the second one is a control token, as in some vocabularies.
    const char* const kTags[] = {"<think>", "</think>", "<tool_call>", "</tool_call>"};
    for (int i = 0; i < 4; ++i) {
      spec.tokens[25 + i].text = kTags[i];
      spec.tokens[25 + i].type = i == 2 ? TokenType::kControl : TokenType::kUserDefined;
      spec.added.push_back({25 + i, i == 2});
    }
  }
  spec.model.kind = ModelKind::kBpe;
  spec.model.unk = 0;
  spec.decoder = {{DecoderStep::Kind::kFuse}};
  spec.special.unk = 0;
  spec.special.bos = 1;
  spec.special.eos = 2;
  spec.end_of_generation = {2};
  spec.prefix = {1};
  spec.add_bos = true;
  if (with_template) spec.chat_template = tagged ? kTaggedTemplate : kTinyTemplate;
  auto tokenizer = BuildTokenizer(std::move(spec));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  return *tokenizer;
}

/// What the served engine runs on; outlives it.
inline const Loaded& TinyLoaded() {
  static const Loaded loaded = Load(TinyPath(TinyModels()[2]), 1);
  return loaded;
}

inline std::shared_ptr<ServedModel> TinyServed(int32_t sequences = 4, int64_t max_waiting = 64,
                                               bool with_template = true, bool tagged = false) {
  const Loaded& loaded = TinyLoaded();
  EngineConfig config;
  config.context = kTinyContext;
  config.max_seqs = sequences;
  config.max_waiting = max_waiting;
  config.policy = "fair";
  auto engine =
      Engine::Create(*loaded.model, *loaded.device, TinyTokenizer(with_template, tagged), config);
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  ServedModelOptions options;
  options.name = "tiny";
  options.peak_ops = 1e12;
  options.peak_read_bytes = 1e10;
  auto model = ServedModel::Create(std::move(engine).value(), loaded.model->info(),
                                   loaded.ledger.get(), options);
  EXPECT_TRUE(model.ok()) << model.status().message();
  return *model;
}

struct TestServer {
  explicit TestServer(ServiceOptions options) : service(std::move(options)) {
    EXPECT_TRUE(transport.Start(service.handler()).ok());
  }
  static ServiceOptions Options(std::shared_ptr<ServedModel> model) {
    ServiceOptions options;
    options.models = {std::move(model)};
    options.version = "1.2.3";
    return options;
  }
  explicit TestServer(std::shared_ptr<ServedModel> model = TinyServed())
      : TestServer(Options(std::move(model))) {}

  MemoryExchange Start(std::string method, std::string path, std::string body = "",
                       HttpHeaders headers = {}) {
    auto exchange = transport.Send(
        {std::move(method), std::move(path), "", std::move(headers), std::move(body), "test"});
    EXPECT_TRUE(exchange.ok());
    return *exchange;
  }
  HttpResponse Post(std::string path, const Json& body, HttpHeaders headers = {}) {
    return Start("POST", std::move(path), DumpJson(body), std::move(headers)).Wait();
  }
  HttpResponse Get(std::string path, HttpHeaders headers = {}) {
    return Start("GET", std::move(path), "", std::move(headers)).Wait();
  }
  Json PostJson(std::string path, const Json& body, int status = 200) {
    HttpResponse response = Post(std::move(path), body);
    EXPECT_EQ(response.status, status) << response.body;
    return Json::parse(response.body);
  }

  MemoryTransport transport;
  Service service;
};

/// The data of each server-sent event, the last "[DONE]" included.
inline std::vector<std::string> SseData(const std::string& body) {
  std::vector<std::string> out;
  size_t at = 0;
  while (at < body.size()) {
    const size_t end = body.find("\n\n", at);
    EXPECT_NE(end, std::string::npos) << "unfinished event: " << body.substr(at);
    if (end == std::string::npos) break;
    const std::string event = body.substr(at, end - at);
    const size_t data = event.find("data: ");
    EXPECT_NE(data, std::string::npos) << event;
    out.push_back(event.substr(data + 6));
    at = end + 2;
  }
  return out;
}

}  // namespace ink::testing_support
