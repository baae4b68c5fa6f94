// The head of an HTTP/1.1 answer as text.
#pragma once

#include <string>
#include <string_view>

#include "serve/http.h"

namespace ink {

enum class BodyFraming {
  kLength,   // Content-Length
  kChunked,  // Transfer-Encoding: chunked
  kClose,    // the end of the connection ends the body (HTTP/1.0)
};

std::string_view ReasonPhrase(int status);
/// Status line and headers with the empty line at their end.
std::string ResponseHead(const HttpResponse& response, BodyFraming framing, bool keep_alive);
/// Size line, bytes, line end; nothing for no bytes, which would end the body.
void AppendChunk(std::string_view bytes, std::string* out);
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

}  // namespace ink
