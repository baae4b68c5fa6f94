// An error as an HTTP API tells it: status, machine-readable kind, and a sentence.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "serve/http.h"

namespace ink {

/// Whose shapes a route speaks.
enum class ApiKind { kOpenAi, kAnthropic, kOllama };

struct ApiError {
  int http_status = 400;
  std::string message;
  std::string param;         // the field at fault, e.g. "messages[2].role"; may be empty
  std::string code;          // OpenAI's code, e.g. "model_not_found"; may be empty
  double retry_after_s = 0;  // > 0: sent as Retry-After
};

/// OK, or an ApiError: what request parsers return.
using ApiStatus = std::optional<ApiError>;

ApiError BadRequest(std::string message, std::string param = "", std::string code = "");
ApiError FromStatus(const Status& status, std::string param = "");

/// The error object of a body: {"error":{...}} of OpenAI, {"type":"error",...} of Anthropic,
/// {"error":"..."} of Ollama. `request_id` is part of Anthropic's shape.
std::string ErrorBody(ApiKind api, const ApiError& error, std::string_view request_id);
HttpResponse ErrorResponse(ApiKind api, const ApiError& error, std::string_view request_id);

}  // namespace ink
