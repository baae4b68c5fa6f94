#include "serve/routes.h"

namespace ink {

std::span<const Route> Routes() {
  constexpr ApiKind kOpenAi = ApiKind::kOpenAi;
  constexpr ApiKind kAnthropic = ApiKind::kAnthropic;
  constexpr ApiKind kOllama = ApiKind::kOllama;
  constexpr RouteKind kBody = RouteKind::kBody;
  static const Route kRoutes[] = {
      {"POST", "/v1/chat/completions", kBody, kOpenAi, "OpenAI chat completions", true, false,
       ChatFields, HandleChat},
      {"POST", "/v1/completions", kBody, kOpenAi, "OpenAI text completions", true, false,
       CompletionFields, HandleCompletion},
      {"POST", "/v1/responses", kBody, kOpenAi, "OpenAI responses, stateless", true, false,
       ResponsesFields, HandleResponses},
      {"POST", "/v1/embeddings", kBody, kOpenAi, "OpenAI embeddings", true, false, EmbeddingFields,
       HandleEmbeddings},
      {"GET", "/v1/models", RouteKind::kModels, kOpenAi, "Loaded models", false, true},
      {"POST", "/v1/messages", kBody, kAnthropic, "Anthropic messages", true, false,
       AnthropicFields, HandleAnthropicMessages},
      {"POST", "/v1/messages/count_tokens", kBody, kAnthropic, "Tokens of a conversation", false,
       false, AnthropicCountFields, HandleAnthropicCount},
      {"POST", "/api/chat", kBody, kOllama, "Ollama chat", true, false, OllamaChatFields,
       HandleOllamaChat},
      {"POST", "/api/generate", kBody, kOllama, "Ollama generate", true, false,
       OllamaGenerateFields, HandleOllamaGenerate},
      {"POST", "/api/embed", kBody, kOllama, "Ollama embeddings", true, false, OllamaEmbedFields,
       HandleOllamaEmbed},
      {"POST", "/api/embeddings", kBody, kOllama, "Ollama embedding of one text", true, false,
       OllamaEmbeddingsFields, HandleOllamaEmbeddings},
      {"POST", "/api/show", kBody, kOllama, "Facts about a model", false, false, OllamaShowFields,
       HandleOllamaShow},
      {"GET", "/api/tags", RouteKind::kTags, kOllama, "Loaded models"},
      {"GET", "/api/ps", RouteKind::kTags, kOllama, "Loaded models"},
      {"GET", "/api/version", RouteKind::kVersion, kOllama, "Version"},
      {"POST", "/tokenize", kBody, kOpenAi, "Text or messages to token ids", false, false,
       TokenizeFields, HandleTokenize},
      {"POST", "/detokenize", kBody, kOpenAi, "Token ids to text", false, false, DetokenizeFields,
       HandleDetokenize},
      {"GET", "/v1/memory", RouteKind::kMemory, kOpenAi, "The memory ledger"},
      {"GET", "/v1/stats", RouteKind::kStats, kOpenAi, "What the engines are doing"},
      {"GET", "/v1/engine", RouteKind::kEngine, kOpenAi,
       "Blocks, requests and their phases, as of the last step"},
      {"GET", "/metrics", RouteKind::kMetrics, kOpenAi, "Prometheus metrics"},
      {"GET", "/openapi.json", RouteKind::kOpenApi, kOpenAi, "This description"},
      {"GET", "/v1/admin/models", RouteKind::kAdminModels, kOpenAi, "Models and their state"},
      {"POST", "/v1/admin/models/load", RouteKind::kAdminModels, kOpenAi,
       "Loads, or exchanges, a model", false, false, AdminModelFields},
      {"POST", "/v1/admin/models/unload", RouteKind::kAdminModels, kOpenAi,
       "Serves a model no longer", false, false, AdminModelFields},
      {"GET", "/v1/admin/adapters", RouteKind::kAdminAdapters, kOpenAi,
       "Adapters, their models and the requests that use them"},
      {"POST", "/v1/admin/adapters/load", RouteKind::kAdminAdapters, kOpenAi,
       "Loads, or exchanges, an adapter of a model", false, false, AdminAdapterLoadFields},
      {"POST", "/v1/admin/adapters/unload", RouteKind::kAdminAdapters, kOpenAi,
       "Serves an adapter no longer", false, false, AdminAdapterUnloadFields},
      {"GET", "/v1/admin/keys", RouteKind::kKeys, kOpenAi, "API keys (admin keys only)"},
      {"POST", "/v1/admin/keys", RouteKind::kKeys, kOpenAi,
       "Creates a key; below it, {id}/rotate and {id}/revoke (admin keys only)", false, true},
  };
  return kRoutes;
}

ApiKind ApiOfPath(std::string_view path) {
  if (path.starts_with("/api/")) return ApiKind::kOllama;
  if (path.starts_with("/v1/messages")) return ApiKind::kAnthropic;
  return ApiKind::kOpenAi;
}

}  // namespace ink
