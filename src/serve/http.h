// HTTP without sockets: what a handler receives and where its answer goes. src/transport turns
// bytes into these, tests make them directly.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ink {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

/// The value of the first header of this name (ASCII case ignored); empty where there is none.
std::string_view FindHeader(const HttpHeaders& headers, std::string_view name);

struct HttpRequest {
  std::string method;  // "GET", "POST", ...
  std::string path;    // without the query, percent escapes as they came
  std::string query;   // after '?', may be empty
  HttpHeaders headers;
  std::string body;
  std::string peer;  // address of the client, for the log

  std::string_view Header(std::string_view name) const { return FindHeader(headers, name); }
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  HttpHeaders headers;
  std::string body;
};

/// Where the answer to one request goes: either one Send, or Begin, Write..., End. All functions
/// may be called from any thread, one at a time, and never block: bytes are queued, and a client
/// that reads too slowly counts as gone once the queue is full.
class ResponseWriter {
 public:
  virtual ~ResponseWriter() = default;

  virtual void Send(HttpResponse response) = 0;
  /// Starts a body of unknown length; `head.body` is not sent.
  virtual void Begin(HttpResponse head) = 0;
  virtual void Write(std::string_view chunk) = 0;
  virtual void End() = 0;

  /// False once the client is gone; what is written then is dropped.
  virtual bool IsOpen() const = 0;
  /// Called once, on any thread, if the client goes away before the answer ends; at once if it has
  /// already gone.
  virtual void OnClose(std::function<void()> callback) = 0;
};

using HttpHandler = std::function<void(HttpRequest, std::shared_ptr<ResponseWriter>)>;

}  // namespace ink
