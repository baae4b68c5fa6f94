// A small blocking HTTP/1.1 client over TCP and TLS, for the load tool and for sending traces. Not
// a browser: no redirects, no proxies, no cookies, no compression.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "serve/http.h"

namespace ink {

struct Url {
  bool tls = false;
  std::string host;  // IPv6 addresses without brackets
  std::string port;
  std::string path;  // "" or "/..." without a slash at its end

  /// HOST or HOST:PORT as a Host header has it; the scheme's own port is left out.
  std::string Authority() const;
};

/// "http://HOST[:PORT][/PATH]" or "https://...". Errors: kInvalidArgument.
Result<Url> ParseUrl(std::string_view text);

struct HttpClientOptions {
  std::chrono::milliseconds connect_timeout{10'000};
  /// Without a byte sent or received.
  std::chrono::milliseconds io_timeout{30'000};
  bool verify = true;   // TLS: the certificate must be valid, and be the host's
  std::string ca_file;  // PEM certificates to trust instead of the system's
  size_t max_header_bytes = 64 << 10;
};

/// One connection, kept for the next request where the server allows it. One thread at a time, but
/// for Interrupt.
class HttpClient {
 public:
  /// Does not connect yet. Errors: kInvalidArgument (`ca_file` cannot be read).
  static Result<std::unique_ptr<HttpClient>> Create(Url url, HttpClientOptions options);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  struct Reply {
    int status = 0;
    HttpHeaders headers;
  };
  /// Receives the body in pieces as they arrive, chunked framing taken off. An error ends the
  /// request and the connection.
  using BodyFn = std::function<Status(int status, std::string_view piece)>;

  /// Sends a request and reads its answer to the end; Host, Content-Length and Connection are added
  /// to `headers`. A kept connection that turns out to be closed before the answer begins is
  /// replaced once. Errors: kIo (cannot connect, certificate refused, timeout, closed early),
  /// kNotFound (unknown host), kCorrupt (no HTTP), kCancelled (interrupted), those of `on_body`.
  Result<Reply> Request(std::string_view method, std::string_view target,
                        const HttpHeaders& headers, std::string_view body, const BodyFn& on_body);

  /// Any thread: ends a running request, and fails all later ones.
  void Interrupt();
  /// Connections opened so far.
  int64_t connections() const { return connections_; }

 private:
  class Connection;
  struct Tls;

  HttpClient(Url url, HttpClientOptions options);
  Status Connect();
  Result<Reply> Exchange(std::string_view bytes, bool head, const BodyFn& on_body, bool* begun);
  Status ReadMore();
  Status ReadChunked(int status, const BodyFn& on_body);

  const Url url_;
  const HttpClientOptions options_;
  std::unique_ptr<Tls> tls_;
  std::unique_ptr<Connection> connection_;
  std::string input_;  // received, not consumed
  bool keep_ = false;
  int64_t connections_ = 0;
  std::atomic<bool> interrupted_{false};
};

}  // namespace ink
