// The routes of each API, as functions from a parsed body to an answer or an error.
#pragma once

#include <string>
#include <vector>

#include "serve/exchange.h"
#include "serve/fields.h"
#include "serve/request_fields.h"

namespace ink {

/// What a handler works on. It either starts an exchange, sends an answer through
/// `context.writer`, or returns an error that the caller sends.
struct Call {
  const Json& body;
  RequestContext context;  // handed on by moving
  std::vector<std::string> warnings;
  bool strict = false;         // unknown fields are errors
  GenerationRequest defaults;  // priority, key, weight, tenant of the API key
};

// Sends `body` with the common headers and the call's warnings.
void SendJson(Call& call, Json body, int status = 200);

FieldTable ChatFields();
ApiStatus HandleChat(Call& call);
FieldTable CompletionFields();
ApiStatus HandleCompletion(Call& call);
FieldTable ResponsesFields();
ApiStatus HandleResponses(Call& call);
FieldTable EmbeddingFields();
ApiStatus HandleEmbeddings(Call& call);
FieldTable OllamaEmbedFields();
ApiStatus HandleOllamaEmbed(Call& call);
FieldTable OllamaEmbeddingsFields();
ApiStatus HandleOllamaEmbeddings(Call& call);

FieldTable AdminModelFields();
FieldTable AdminAdapterLoadFields();
FieldTable AdminAdapterUnloadFields();

FieldTable AnthropicFields();
ApiStatus HandleAnthropicMessages(Call& call);
FieldTable AnthropicCountFields();
ApiStatus HandleAnthropicCount(Call& call);

FieldTable OllamaChatFields();
ApiStatus HandleOllamaChat(Call& call);
FieldTable OllamaGenerateFields();
ApiStatus HandleOllamaGenerate(Call& call);
FieldTable OllamaShowFields();
ApiStatus HandleOllamaShow(Call& call);

FieldTable TokenizeFields();
ApiStatus HandleTokenize(Call& call);
FieldTable DetokenizeFields();
ApiStatus HandleDetokenize(Call& call);

/// Log-probabilities as the chat route writes them.
Json ChatLogprobs(const Tokenizer& tokenizer, const std::vector<TokenLog>& logs);
/// {"prompt_tokens":..., "prompt_tokens_details":{"cached_tokens":...}}.
Json OpenAiUsage(const Usage& usage);
/// "data: " + json + "\n\n".
void AppendSse(const Json& json, std::string* out);
/// "event: NAME\ndata: " + json + "\n\n".
void AppendSseEvent(std::string_view name, const Json& json, std::string* out);

}  // namespace ink
