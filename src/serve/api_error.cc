#include "serve/api_error.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "serve/json_text.h"

namespace ink {
namespace {

// The "type" that OpenAI's and Anthropic's clients map to their exception classes.
std::string_view OpenAiType(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 429:
      return "rate_limit_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

std::string_view AnthropicType(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
    case 529:
      return "overloaded_error";
    default:
      return status >= 500 ? "api_error" : "invalid_request_error";
  }
}

}  // namespace

std::string_view FindHeader(const HttpHeaders& headers, std::string_view name) {
  auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  for (const auto& [key, value] : headers) {
    if (key.size() == name.size() &&
        std::equal(key.begin(), key.end(), name.begin(),
                   [&](char a, char b) { return lower(a) == lower(b); })) {
      return value;
    }
  }
  return {};
}

ApiError BadRequest(std::string message, std::string param, std::string code) {
  return {400, std::move(message), std::move(param), std::move(code)};
}

ApiError FromStatus(const Status& status, std::string param) {
  ApiError error;
  error.message = status.message();
  error.param = std::move(param);
  switch (status.code()) {
    case StatusCode::kInvalidArgument:
    case StatusCode::kUnsupported:
      error.http_status = 400;
      break;
    case StatusCode::kNotFound:
      error.http_status = 404;
      break;
    case StatusCode::kUnavailable:
      error.http_status = 429;
      error.code = "queue_full";
      error.retry_after_s = 1;
      break;
    case StatusCode::kOutOfMemory:
      // A request that can never fit is the request's fault, not the machine's.
      error.http_status = 400;
      error.code = "out_of_memory";
      break;
    case StatusCode::kCancelled:
      error.http_status = 499;
      error.code = "cancelled";
      break;
    default:
      error.http_status = 500;
      break;
  }
  return error;
}

std::string ErrorBody(ApiKind api, const ApiError& error, std::string_view request_id) {
  Json body;
  switch (api) {
    case ApiKind::kOpenAi: {
      Json inner;
      inner["message"] = error.message;
      inner["type"] = OpenAiType(error.http_status);
      inner["param"] = error.param.empty() ? Json() : Json(error.param);
      inner["code"] = error.code.empty() ? Json() : Json(error.code);
      body["error"] = std::move(inner);
      break;
    }
    case ApiKind::kAnthropic:
      body["type"] = "error";
      body["error"] = {
          {"type", AnthropicType(error.http_status)},
          {"message", error.param.empty() ? error.message : error.param + ": " + error.message}};
      body["request_id"] = request_id;
      break;
    case ApiKind::kOllama:
      body["error"] = error.message;
      break;
  }
  return DumpJson(body);
}

HttpResponse ErrorResponse(ApiKind api, const ApiError& error, std::string_view request_id) {
  HttpResponse response;
  response.status = error.http_status;
  response.body = ErrorBody(api, error, request_id);
  if (error.retry_after_s > 0) {
    response.headers.emplace_back(
        "Retry-After",
        std::to_string(std::max<int64_t>(1, std::llround(std::ceil(error.retry_after_s)))));
  }
  if (error.http_status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

}  // namespace ink
