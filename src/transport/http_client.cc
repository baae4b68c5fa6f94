#include "transport/http_client.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <utility>

namespace ink {
namespace {

using Clock = std::chrono::steady_clock;

// How often a waiting client looks whether it was interrupted.
constexpr std::chrono::milliseconds kGlance{100};
constexpr size_t kReadBytes = 64 << 10;

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  return out;
}

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

template <typename T>
std::optional<T> Number(std::string_view text, int base = 10) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string TlsError() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  char text[256] = "unknown error";
  if (code != 0) ERR_error_string_n(code, text, sizeof(text));
  return text;
}

// OpenSSL's own socket BIO raises SIGPIPE where the peer has gone; a library must not.
int BioWrite(BIO* bio, const char* bytes, int size) {
  BIO_clear_retry_flags(bio);
  const int fd = static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio)));
  const ssize_t n = send(fd, bytes, static_cast<size_t>(size), MSG_NOSIGNAL);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_write(bio);
  return static_cast<int>(n);
}
int BioRead(BIO* bio, char* bytes, int size) {
  BIO_clear_retry_flags(bio);
  const int fd = static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio)));
  const ssize_t n = recv(fd, bytes, static_cast<size_t>(size), 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_read(bio);
  return static_cast<int>(n);
}
long BioControl(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

}  // namespace

std::string Url::Authority() const {
  const std::string name = host.find(':') != std::string::npos ? "[" + host + "]" : host;
  return port == (tls ? "443" : "80") ? name : name + ":" + port;
}

Result<Url> ParseUrl(std::string_view text) {
  const std::string shown(text.substr(0, 200));
  Url url;
  std::string_view rest = text;
  if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  } else if (rest.starts_with("https://")) {
    rest.remove_prefix(8);
    url.tls = true;
  } else {
    return InvalidArgument("expected http://HOST[:PORT] or https://HOST[:PORT], got '" + shown +
                           "'");
  }
  const size_t slash = rest.find('/');
  if (slash != std::string_view::npos) {
    url.path = rest.substr(slash);
    while (url.path.ends_with('/')) url.path.pop_back();
    rest = rest.substr(0, slash);
  }
  if (rest.starts_with('[')) {
    const size_t end = rest.find(']');
    if (end == std::string_view::npos) {
      return InvalidArgument("expected ']' behind the address in '" + shown + "'");
    }
    url.host = rest.substr(1, end - 1);
    rest.remove_prefix(end + 1);
  } else {
    url.host = rest.substr(0, rest.find(':'));
    rest.remove_prefix(url.host.size());
  }
  if (url.host.empty()) return InvalidArgument("expected a host in '" + shown + "'");
  url.port = url.tls ? "443" : "80";
  if (!rest.empty()) {
    const auto port = rest.front() == ':' ? Number<uint16_t>(rest.substr(1)) : std::nullopt;
    if (!port || *port == 0) {
      return InvalidArgument("expected a port between 1 and 65535 in '" + shown + "'");
    }
    url.port = std::to_string(*port);
  }
  for (const char c : url.host + url.path) {
    if (c <= 0x20 || c == 0x7f) {
      return InvalidArgument("expected no blanks or control characters in '" + shown + "'");
    }
  }
  return url;
}

struct HttpClient::Tls {
  SSL_CTX* context = nullptr;
  BIO_METHOD* method = nullptr;
  ~Tls() {
    SSL_CTX_free(context);
    BIO_meth_free(method);
  }
};

// A non-blocking socket, with TLS on top where asked for; waits by poll, so that every wait ends at
// a deadline or an interruption.
class HttpClient::Connection {
 public:
  Connection(int fd, const HttpClientOptions& options, const std::atomic<bool>& interrupted)
      : fd_(fd), options_(options), interrupted_(interrupted) {}
  ~Connection() {
    SSL_free(ssl_);
    close(fd_);
  }

  Status StartTls(const Tls& tls, const std::string& host) {
    ssl_ = SSL_new(tls.context);
    BIO* bio = BIO_new(tls.method);
    if (ssl_ == nullptr || bio == nullptr) return IoError("TLS: " + TlsError());
    BIO_set_data(bio, reinterpret_cast<void*>(static_cast<intptr_t>(fd_)));
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl_, bio, bio);
    std::array<unsigned char, sizeof(in6_addr)> address;
    const bool is_address = inet_pton(AF_INET, host.c_str(), address.data()) == 1 ||
                            inet_pton(AF_INET6, host.c_str(), address.data()) == 1;
    if (is_address) {
      X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_), host.c_str());
    } else {
      SSL_set1_host(ssl_, host.c_str());
      SSL_set_tlsext_host_name(ssl_, host.c_str());
    }
    const Status status =
        Until(options_.connect_timeout, POLLIN, [&] { return SSL_connect(ssl_); });
    const long verified = SSL_get_verify_result(ssl_);
    if (!status.ok() && options_.verify && verified != X509_V_OK) {
      return IoError(std::string("the server's certificate is refused: ") +
                     X509_verify_cert_error_string(verified));
    }
    return status.WithContext("TLS handshake");
  }

  Status Write(std::string_view bytes) {
    while (!bytes.empty()) {
      const int size = static_cast<int>(std::min<size_t>(bytes.size(), 1 << 20));
      int sent = 0;
      INK_RETURN_IF_ERROR(Until(options_.io_timeout, POLLOUT, [&] {
                            sent = ssl_ != nullptr ? SSL_write(ssl_, bytes.data(), size)
                                                   : static_cast<int>(send(
                                                         fd_, bytes.data(),
                                                         static_cast<size_t>(size), MSG_NOSIGNAL));
                            return sent;
                          }).WithContext("sending failed"));
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return OkStatus();
  }

  /// Appends what has arrived; nothing where the server closed the connection.
  Status Read(std::string* out) {
    const size_t before = out->size();
    out->resize(before + kReadBytes);
    int got = 0;
    const Status status = Until(options_.io_timeout, POLLIN, [&] {
      got = ssl_ != nullptr ? SSL_read(ssl_, out->data() + before, kReadBytes)
                            : static_cast<int>(recv(fd_, out->data() + before, kReadBytes, 0));
      return got;
    });
    out->resize(before + static_cast<size_t>(std::max(got, 0)));
    return status.WithContext("receiving failed");
  }

 private:
  // Repeats `call` until it gives more than zero, or zero for the end of the connection; in between
  // it waits for `events`, or for what TLS asks for.
  template <typename Fn>
  Status Until(std::chrono::milliseconds timeout, short events, Fn call) {
    const Clock::time_point deadline = Clock::now() + timeout;
    while (true) {
      errno = 0;
      ERR_clear_error();
      const int n = call();
      if (n > 0) return OkStatus();
      short want = events;
      if (ssl_ != nullptr) {
        switch (SSL_get_error(ssl_, n)) {
          case SSL_ERROR_WANT_READ:
            want = POLLIN;
            break;
          case SSL_ERROR_WANT_WRITE:
            want = POLLOUT;
            break;
          case SSL_ERROR_ZERO_RETURN:
            return OkStatus();
          case SSL_ERROR_SYSCALL:
            return IoError(errno != 0 ? std::strerror(errno) : "the connection was cut");
          default:
            return IoError(TlsError());
        }
      } else if (n == 0) {
        return OkStatus();
      } else if (errno != EAGAIN && errno != EINTR) {
        return IoError(std::strerror(errno));
      }
      INK_RETURN_IF_ERROR(Wait(want, deadline));
    }
  }

 public:
  Status Wait(short events, Clock::time_point deadline) {
    while (true) {
      if (interrupted_.load()) return Cancelled("interrupted");
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
      if (left.count() <= 0) return IoError("timed out");
      pollfd wait = {fd_, events, 0};
      const int ready = poll(&wait, 1, static_cast<int>(std::min(left, kGlance).count()));
      if (ready > 0) return OkStatus();
      if (ready < 0 && errno != EINTR) return IoError(std::strerror(errno));
    }
  }
  int fd() const { return fd_; }

 private:
  const int fd_;
  const HttpClientOptions& options_;
  const std::atomic<bool>& interrupted_;
  SSL* ssl_ = nullptr;
};

HttpClient::HttpClient(Url url, HttpClientOptions options)
    : url_(std::move(url)), options_(std::move(options)) {}
HttpClient::~HttpClient() = default;

Result<std::unique_ptr<HttpClient>> HttpClient::Create(Url url, HttpClientOptions options) {
  std::unique_ptr<HttpClient> client(new HttpClient(std::move(url), std::move(options)));
  if (!client->url_.tls) return client;
  auto tls = std::make_unique<Tls>();
  tls->context = SSL_CTX_new(TLS_client_method());
  tls->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "socket, no signals");
  if (tls->context == nullptr || tls->method == nullptr) return IoError("TLS: " + TlsError());
  BIO_meth_set_write(tls->method, BioWrite);
  BIO_meth_set_read(tls->method, BioRead);
  BIO_meth_set_ctrl(tls->method, BioControl);
  SSL_CTX_set_min_proto_version(tls->context, TLS1_2_VERSION);
  const std::string& ca = client->options_.ca_file;
  if (!ca.empty()) {
    if (SSL_CTX_load_verify_locations(tls->context, ca.c_str(), nullptr) != 1) {
      return InvalidArgument("certificates of '" + ca + "': " + TlsError());
    }
  } else {
    SSL_CTX_set_default_verify_paths(tls->context);
  }
  SSL_CTX_set_verify(tls->context, client->options_.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE,
                     nullptr);
  client->tls_ = std::move(tls);
  return client;
}

Status HttpClient::Connect() {
  connection_.reset();
  input_.clear();
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (int error = getaddrinfo(url_.host.c_str(), url_.port.c_str(), &hints, &found)) {
    return NotFound("'" + url_.host + "': " + gai_strerror(error));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(found, freeaddrinfo);
  Status status = IoError("cannot connect to " + url_.Authority());
  for (const addrinfo* a = found; a != nullptr && connection_ == nullptr; a = a->ai_next) {
    const int fd =
        socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
    if (fd < 0) {
      status = IoError(std::string("no socket: ") + std::strerror(errno));
      continue;
    }
    auto made = std::make_unique<Connection>(fd, options_, interrupted_);
    int error = connect(fd, a->ai_addr, a->ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
      status = made->Wait(POLLOUT, Clock::now() + options_.connect_timeout);
      if (status.code() == StatusCode::kCancelled) return status;
      if (!status.ok()) {
        status = status.WithContext("cannot connect to " + url_.Authority());
        continue;
      }
      socklen_t size = sizeof(error);
      getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    }
    if (error != 0) {
      status = IoError("cannot connect to " + url_.Authority() + ": " + std::strerror(error));
      continue;
    }
    connection_ = std::move(made);
  }
  if (connection_ == nullptr) return status;
  const int on = 1;
  setsockopt(connection_->fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  if (tls_ != nullptr) {
    status = connection_->StartTls(*tls_, url_.host);
    if (!status.ok()) {
      connection_.reset();
      return status;
    }
  }
  ++connections_;
  return OkStatus();
}

void HttpClient::Interrupt() { interrupted_.store(true); }

Result<HttpClient::Reply> HttpClient::Request(std::string_view method, std::string_view target,
                                              const HttpHeaders& headers, std::string_view body,
                                              const BodyFn& on_body) {
  if (interrupted_.load()) return Cancelled("interrupted");
  std::string bytes = std::string(method) + " " + std::string(target) +
                      " HTTP/1.1\r\nHost: " + url_.Authority() + "\r\n";
  for (const auto& [name, value] : headers) bytes += name + ": " + value + "\r\n";
  bytes += "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n";
  bytes += body;
  for (bool reused = connection_ != nullptr;; reused = false) {
    if (!reused) INK_RETURN_IF_ERROR(Connect());
    bool begun = false;
    keep_ = false;
    auto reply = Exchange(bytes, method == "HEAD", on_body, &begun);
    if (!keep_) connection_.reset();
    if (reply.ok() || begun || !reused || interrupted_.load()) return reply;
  }
}

// More bytes than there were, or an error.
Status HttpClient::ReadMore() {
  const size_t before = input_.size();
  INK_RETURN_IF_ERROR(connection_->Read(&input_));
  return input_.size() > before ? OkStatus() : IoError("the server closed the connection early");
}

Result<HttpClient::Reply> HttpClient::Exchange(std::string_view bytes, bool head,
                                               const BodyFn& on_body, bool* begun) {
  INK_RETURN_IF_ERROR(connection_->Write(bytes));
  Reply reply;
  bool close = false, chunked = false;
  std::optional<uint64_t> length;
  do {  // answers with 1xx announce the real one
    size_t end;
    while ((end = input_.find("\r\n\r\n")) == std::string::npos) {
      if (input_.size() > options_.max_header_bytes) {
        return Corrupt("the answer's headers are over " +
                       std::to_string(options_.max_header_bytes) + " bytes");
      }
      INK_RETURN_IF_ERROR(ReadMore());
      *begun = true;
    }
    const std::string_view text = std::string_view(input_).substr(0, end);
    const std::string_view line = text.substr(0, text.find("\r\n"));
    const auto status = line.size() >= 12 && line.starts_with("HTTP/1.")
                            ? Number<int>(line.substr(9, 3))
                            : std::nullopt;
    if (!status || *status < 100) {
      return Corrupt("the answer is not HTTP/1.1: '" + std::string(line.substr(0, 60)) + "'");
    }
    reply = {*status, {}};
    close = line.starts_with("HTTP/1.0");
    chunked = false;
    length.reset();
    for (size_t at = line.size(); at < text.size();) {
      at += 2;
      const size_t line_end = std::min(text.find("\r\n", at), text.size());
      const std::string_view header = text.substr(at, line_end - at);
      at = line_end;
      const size_t colon = header.find(':');
      if (colon == std::string_view::npos) continue;
      const std::string name = Lower(header.substr(0, colon));
      const std::string_view value = Trim(header.substr(colon + 1));
      if (name == "content-length") {
        length = Number<uint64_t>(value);
        if (!length) return Corrupt("Content-Length: expected a number in the answer");
      }
      if (name == "transfer-encoding") chunked = Lower(value).find("chunked") != std::string::npos;
      if (name == "connection") close = Lower(value).find("close") != std::string::npos;
      reply.headers.emplace_back(name, value);
    }
    input_.erase(0, end + 4);
  } while (reply.status < 200);

  if (head || reply.status == 204 || reply.status == 304) {
    // No body, whatever the headers say (RFC 9112, 6.3).
  } else if (chunked) {
    INK_RETURN_IF_ERROR(ReadChunked(reply.status, on_body));
  } else {
    close = close || !length;
    uint64_t left = length.value_or(UINT64_MAX);
    while (left > 0) {
      if (input_.empty()) {
        INK_RETURN_IF_ERROR(connection_->Read(&input_));
        if (input_.empty() && !length) break;  // its end is the connection's
        if (input_.empty()) return IoError("the server closed the connection early");
      }
      const size_t take = static_cast<size_t>(std::min<uint64_t>(left, input_.size()));
      INK_RETURN_IF_ERROR(on_body(reply.status, std::string_view(input_).substr(0, take)));
      input_.erase(0, take);
      left -= take;
    }
  }
  keep_ = !close && input_.empty();
  return reply;
}

Status HttpClient::ReadChunked(int status, const BodyFn& on_body) {
  auto line = [&](std::string* out) -> Status {
    size_t end;
    while ((end = input_.find("\r\n")) == std::string::npos) {
      if (input_.size() > options_.max_header_bytes) return Corrupt("a chunk's line has no end");
      INK_RETURN_IF_ERROR(ReadMore());
    }
    *out = input_.substr(0, end);
    input_.erase(0, end + 2);
    return OkStatus();
  };
  std::string text;
  while (true) {
    INK_RETURN_IF_ERROR(line(&text));
    const auto size = Number<uint64_t>(Trim(text.substr(0, text.find(';'))), 16);
    if (!size) {
      return Corrupt("expected the size of a chunk, got '" + text.substr(0, 40) + "'");
    }
    for (uint64_t left = *size; left > 0;) {
      if (input_.empty()) INK_RETURN_IF_ERROR(ReadMore());
      const size_t take = static_cast<size_t>(std::min<uint64_t>(left, input_.size()));
      INK_RETURN_IF_ERROR(on_body(status, std::string_view(input_).substr(0, take)));
      input_.erase(0, take);
      left -= take;
    }
    if (*size == 0) break;
    INK_RETURN_IF_ERROR(line(&text));
    if (!text.empty()) return Corrupt("expected the end of a chunk");
  }
  do {  // trailers
    INK_RETURN_IF_ERROR(line(&text));
  } while (!text.empty());
  return OkStatus();
}

}  // namespace ink
