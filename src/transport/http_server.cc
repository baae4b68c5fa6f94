// HTTP/1.1 over TCP and TLS. The only file of the program that includes Boost: see
// docs/server.md for the costs of compiling it.
//
// A connection is one coroutine on its own strand. One read is always pending, also while an answer
// is being written: it is how a client's going away is noticed at once. Answers come from any
// thread through ConnectionWriter, which posts bytes to the strand.
#include <array>
#include <atomic>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "base/thread_priority.h"
#include "transport/http_head.h"
#include "transport/transport.h"

namespace ink {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;
using TlsStream = asio::ssl::stream<tcp::socket>;
using Strand = asio::strand<asio::io_context::executor_type>;
using Clock = std::chrono::steady_clock;

class HttpTransport;

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(HttpTransport* server, tcp::socket socket, asio::ssl::context* tls,
             const HttpOptions& options, HttpHandler handler);
  ~Connection();

  asio::awaitable<void> Run();
  void Shutdown();  // on the strand: ends the connection now
  void CloseWhenIdle();
  Strand& strand() { return strand_; }

  // From any thread, through ConnectionWriter.
  void PostBytes(std::string bytes, bool last);
  void PostAbort();
  bool is_open() const { return open_.load(std::memory_order_relaxed); }
  void SetOnClose(uint64_t request, std::function<void()> callback);

 private:
  friend class ConnectionWriter;
  static constexpr size_t kReadBytes = 16 << 10;
  // Bytes that may arrive behind the current request before reading pauses.
  static constexpr size_t kMaxPipelined = 64 << 10;

  template <typename Handler>
  void AsyncReadSome(Handler handler) {
    const auto buffer = asio::buffer(chunk_);
    if (tls_ != nullptr) {
      tls_->async_read_some(buffer, std::move(handler));
    } else {
      socket_->async_read_some(buffer, std::move(handler));
    }
  }
  tcp::socket& socket() { return tls_ != nullptr ? tls_->next_layer() : *socket_; }

  void StartRead();
  void StartWrite();
  void Enqueue(std::string bytes, bool last);
  asio::awaitable<void> WaitForChange(Clock::time_point deadline);
  asio::awaitable<bool> ReadRequest(HttpRequest* request, bool* keep_alive, bool* http11);
  asio::awaitable<void> WaitForAnswer();
  void SendError(int status, std::string_view message);
  void MarkClosed();

  HttpTransport* server_;
  const HttpOptions& options_;
  HttpHandler handler_;
  std::optional<tcp::socket> socket_;
  std::unique_ptr<TlsStream> tls_;
  Strand strand_;
  asio::steady_timer change_;  // cancelled when something happened
  std::string peer_;

  // On the strand.
  std::array<char, kReadBytes> chunk_;
  std::string input_;
  bool read_pending_ = false;
  bool input_ended_ = false;
  std::deque<std::string> output_;
  bool write_pending_ = false;
  Clock::time_point write_started_;
  bool answer_complete_ = false;
  bool close_when_idle_ = false;

  // Any thread.
  std::atomic<bool> open_{true};
  std::atomic<size_t> queued_bytes_{0};
  std::mutex close_mutex_;
  uint64_t current_request_ = 0;
  std::function<void()> on_close_;
};

class ConnectionWriter : public ResponseWriter {
 public:
  ConnectionWriter(std::shared_ptr<Connection> connection, uint64_t request, bool keep_alive,
                   bool http11, bool head)
      : connection_(std::move(connection)),
        request_(request),
        keep_alive_(keep_alive),
        http11_(http11),
        head_(head) {}

  // A handler that lets go without an answer must not leave the client waiting.
  ~ConnectionWriter() override {
    if (!ended_) connection_->PostAbort();
  }

  void Send(HttpResponse response) override {
    if (std::exchange(ended_, true)) return;
    std::string bytes = ResponseHead(response, BodyFraming::kLength, keep_alive_);
    if (!head_) bytes += response.body;
    connection_->PostBytes(std::move(bytes), true);
  }
  void Begin(HttpResponse head) override {
    const BodyFraming framing = http11_ ? BodyFraming::kChunked : BodyFraming::kClose;
    connection_->PostBytes(ResponseHead(head, framing, keep_alive_), false);
  }
  void Write(std::string_view chunk) override {
    if (chunk.empty() || head_ || ended_) return;
    std::string bytes;
    if (http11_) {
      AppendChunk(chunk, &bytes);
    } else {
      bytes = chunk;
    }
    connection_->PostBytes(std::move(bytes), false);
  }
  void End() override {
    if (std::exchange(ended_, true)) return;
    connection_->PostBytes(http11_ && !head_ ? std::string(kLastChunk) : std::string(), true);
  }
  bool IsOpen() const override { return connection_->is_open(); }
  void OnClose(std::function<void()> callback) override {
    connection_->SetOnClose(request_, std::move(callback));
  }

 private:
  std::shared_ptr<Connection> connection_;
  const uint64_t request_;
  const bool keep_alive_, http11_, head_;
  bool ended_ = false;
};

class HttpTransport : public Transport {
 public:
  HttpTransport(const HttpOptions& options, std::unique_ptr<asio::ssl::context> tls)
      : options_(options), tls_(std::move(tls)), acceptor_(io_) {}
  ~HttpTransport() override { Stop(); }

  Status Start(HttpHandler handler) override;
  std::string url() const override { return url_; }
  void StopAccepting() override;
  void Stop() override;
  int64_t num_connections() const override { return num_connections_.load(); }

  void Forget(Connection* connection) {
    std::lock_guard lock(mutex_);
    connections_.erase(connection);
    --num_connections_;
  }

 private:
  asio::awaitable<void> Accept();

  // What is open now. The last owner of a connection must not go under the lock, which Forget
  // takes.
  std::vector<std::shared_ptr<Connection>> OpenConnections() {
    std::vector<std::shared_ptr<Connection>> open;
    std::lock_guard lock(mutex_);
    for (auto& [raw, weak] : connections_) {
      if (auto connection = weak.lock()) open.push_back(std::move(connection));
    }
    return open;
  }

  HttpOptions options_;
  std::unique_ptr<asio::ssl::context> tls_;
  HttpHandler handler_;
  std::string url_;
  std::atomic<int64_t> num_connections_ = 0;
  std::mutex mutex_;
  std::map<Connection*, std::weak_ptr<Connection>> connections_;
  bool stopping_ = false;
  // After what connections use when they go: handlers left in io_ hold the last of them.
  asio::io_context io_;
  tcp::acceptor acceptor_;
  std::vector<std::thread> threads_;
};

Connection::Connection(HttpTransport* server, tcp::socket socket, asio::ssl::context* tls,
                       const HttpOptions& options, HttpHandler handler)
    : server_(server),
      options_(options),
      handler_(std::move(handler)),
      strand_(asio::make_strand(
          static_cast<asio::io_context&>(socket.get_executor().context()).get_executor())),
      change_(strand_) {
  error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  const auto endpoint = socket.remote_endpoint(ignored);
  if (!ignored) peer_ = endpoint.address().to_string();
  if (tls != nullptr) {
    tls_ = std::make_unique<TlsStream>(std::move(socket), *tls);
  } else {
    socket_.emplace(std::move(socket));
  }
}

Connection::~Connection() {
  MarkClosed();
  server_->Forget(this);
}

void Connection::MarkClosed() {
  open_ = false;
  std::function<void()> callback;
  {
    std::lock_guard lock(close_mutex_);
    callback = std::move(on_close_);
    on_close_ = nullptr;
  }
  if (callback) callback();
}

void Connection::SetOnClose(uint64_t request, std::function<void()> callback) {
  {
    std::lock_guard lock(close_mutex_);
    if (request != current_request_) return;  // that answer has ended
    if (open_) {
      on_close_ = std::move(callback);
      return;
    }
  }
  callback();
}

void Connection::PostBytes(std::string bytes, bool last) {
  if (!is_open()) return;
  queued_bytes_ += bytes.size();
  asio::post(strand_, [self = shared_from_this(), bytes = std::move(bytes), last]() mutable {
    self->Enqueue(std::move(bytes), last);
  });
}

void Connection::PostAbort() {
  asio::post(strand_, [self = shared_from_this()] { self->Shutdown(); });
}

void Connection::Enqueue(std::string bytes, bool last) {
  if (!is_open()) return;
  if (queued_bytes_ > options_.max_queued_bytes) {
    Shutdown();  // a reader this slow is gone for all purposes
    return;
  }
  if (!bytes.empty()) output_.push_back(std::move(bytes));
  if (last) {
    answer_complete_ = true;
    std::lock_guard lock(close_mutex_);
    on_close_ = nullptr;
    ++current_request_;
  }
  StartWrite();
  if (last) change_.cancel();
}

void Connection::StartWrite() {
  if (write_pending_ || output_.empty() || !is_open()) return;
  write_pending_ = true;
  write_started_ = Clock::now();
  // What has gathered goes out as one write.
  auto bytes = std::make_shared<std::string>(std::move(output_.front()));
  output_.pop_front();
  while (!output_.empty() && bytes->size() < (64 << 10)) {
    *bytes += output_.front();
    output_.pop_front();
  }
  auto done = asio::bind_executor(
      strand_, [self = shared_from_this(), bytes](const error_code& error, size_t) {
        self->write_pending_ = false;
        self->queued_bytes_ -= bytes->size();
        if (error) {
          self->Shutdown();
        } else {
          self->StartWrite();
        }
        self->change_.cancel();
      });
  if (tls_ != nullptr) {
    asio::async_write(*tls_, asio::buffer(*bytes), std::move(done));
  } else {
    asio::async_write(*socket_, asio::buffer(*bytes), std::move(done));
  }
}

void Connection::StartRead() {
  if (read_pending_ || input_ended_ || !is_open()) return;
  read_pending_ = true;
  AsyncReadSome(asio::bind_executor(
      strand_, [self = shared_from_this()](const error_code& error, size_t count) {
        self->read_pending_ = false;
        if (error) {
          self->input_ended_ = true;
        } else {
          self->input_.append(self->chunk_.data(), count);
        }
        self->change_.cancel();
      }));
}

void Connection::Shutdown() {
  if (is_open()) {
    error_code ignored;
    socket().shutdown(tcp::socket::shutdown_both, ignored);
    socket().close(ignored);
  }
  MarkClosed();
  change_.cancel();
}

void Connection::CloseWhenIdle() {
  close_when_idle_ = true;
  change_.cancel();
}

asio::awaitable<void> Connection::WaitForChange(Clock::time_point deadline) {
  change_.expires_at(deadline);
  error_code ignored;
  co_await change_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

void Connection::SendError(int status, std::string_view message) {
  HttpResponse response;
  response.status = status;
  response.body = "{\"error\":{\"message\":\"" + std::string(message) +
                  "\",\"type\":\"invalid_request_error\",\"param\":null,\"code\":null}}";
  std::string bytes = ResponseHead(response, BodyFraming::kLength, false) + response.body;
  queued_bytes_ += bytes.size();
  Enqueue(std::move(bytes), true);
}

asio::awaitable<bool> Connection::ReadRequest(HttpRequest* request, bool* keep_alive,
                                              bool* http11) {
  http::request_parser<http::string_body> parser;
  parser.header_limit(static_cast<uint32_t>(options_.max_header_bytes));
  parser.body_limit(options_.max_body_bytes);
  parser.eager(true);
  bool begun = false, continued = false;
  Clock::time_point deadline = Clock::now() + options_.idle_timeout;
  while (!parser.is_done()) {
    if (!input_.empty()) {
      if (!begun) {
        begun = true;
        deadline = Clock::now() + options_.request_timeout;
      }
      error_code error;
      const size_t used = parser.put(asio::buffer(input_), error);
      input_.erase(0, used);
      if (error && error != http::error::need_more) {
        if (error == http::error::body_limit) {
          SendError(413, "request body: expected at most " +
                             std::to_string(options_.max_body_bytes) + " bytes, got more");
        } else if (error == http::error::header_limit) {
          SendError(431, "request headers: expected at most " +
                             std::to_string(options_.max_header_bytes) + " bytes, got more");
        } else {
          SendError(400, "the request is not HTTP/1.1: " + error.message());
        }
        co_return false;
      }
      if (parser.is_done()) break;
      if (parser.is_header_done() && !continued &&
          parser.get()[http::field::expect] == "100-continue") {
        continued = true;
        const std::string go = "HTTP/1.1 100 Continue\r\n\r\n";
        queued_bytes_ += go.size();
        Enqueue(go, false);
      }
      if (used > 0 && !input_.empty()) continue;
    }
    if (input_ended_ || !is_open()) co_return false;
    if (!begun && close_when_idle_) co_return false;
    if (Clock::now() >= deadline) {
      if (begun) SendError(408, "the request did not arrive in time");
      co_return false;
    }
    StartRead();
    co_await WaitForChange(deadline);
  }
  auto message = parser.release();
  *keep_alive = message.keep_alive() && !close_when_idle_;
  *http11 = message.version() >= 11;
  request->method = std::string(message.method_string());
  std::string_view target(message.target().data(), message.target().size());
  if (target.starts_with("http://") || target.starts_with("https://")) {  // absolute form
    const size_t slash = target.find('/', target.find("//") + 2);
    target = slash == std::string_view::npos ? "/" : target.substr(slash);
  }
  const size_t question = target.find('?');
  request->path = std::string(target.substr(0, question));
  if (question != std::string_view::npos) request->query = std::string(target.substr(question + 1));
  for (const auto& field : message) {
    request->headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
  }
  request->body = std::move(message.body());
  request->peer = peer_;
  co_return true;
}

asio::awaitable<void> Connection::WaitForAnswer() {
  while (is_open()) {
    if (answer_complete_ && output_.empty() && !write_pending_) co_return;
    Clock::time_point deadline = Clock::time_point::max();
    if (write_pending_) {
      deadline = write_started_ + options_.write_timeout;
      if (Clock::now() >= deadline) {
        Shutdown();
        co_return;
      }
    }
    if (input_ended_) {
      // The client hung up, or closed its sending side, which no HTTP client does that still reads.
      Shutdown();
      co_return;
    }
    if (input_.size() < kMaxPipelined) StartRead();
    co_await WaitForChange(deadline);
  }
}

asio::awaitable<void> Connection::Run() {
  auto self = shared_from_this();
  if (tls_ != nullptr) {
    bool done = false;
    error_code result;
    tls_->async_handshake(asio::ssl::stream_base::server,
                          asio::bind_executor(strand_, [&, self](const error_code& error) {
                            done = true;
                            result = error;
                            change_.cancel();
                          }));
    const Clock::time_point deadline = Clock::now() + options_.request_timeout;
    while (!done) {
      co_await WaitForChange(deadline);
      // Closing the socket makes the handshake end with an error.
      if (!done && Clock::now() >= deadline) {
        error_code ignored;
        socket().close(ignored);
      }
    }
    if (result) {
      Shutdown();
      co_return;
    }
  }
  while (is_open()) {
    HttpRequest request;
    bool keep_alive = false, http11 = true;
    answer_complete_ = false;
    if (!co_await ReadRequest(&request, &keep_alive, &http11)) {
      // An error's answer goes out before the connection does, while what still comes is dropped.
      const Clock::time_point deadline = Clock::now() + std::chrono::seconds(2);
      while (answer_complete_ && is_open() && Clock::now() < deadline &&
             (write_pending_ || !output_.empty() || !input_ended_)) {
        input_.clear();
        StartRead();
        co_await WaitForChange(deadline);
      }
      break;
    }
    if (!http11) keep_alive = false;
    const bool head = request.method == "HEAD";
    uint64_t number = 0;
    {
      std::lock_guard lock(close_mutex_);
      number = current_request_;
    }
    handler_(std::move(request),
             std::make_shared<ConnectionWriter>(self, number, keep_alive, http11, head));
    co_await WaitForAnswer();
    if (!keep_alive || close_when_idle_) break;
  }
  Shutdown();
}

Status HttpTransport::Start(HttpHandler handler) {
  handler_ = std::move(handler);
  error_code error;
  tcp::resolver resolver(io_);
  const std::string host = options_.host.starts_with("[") && options_.host.ends_with("]")
                               ? options_.host.substr(1, options_.host.size() - 2)
                               : options_.host;
  const auto found =
      resolver.resolve(host, std::to_string(options_.port), tcp::resolver::passive, error);
  if (error || found.empty()) {
    return InvalidArgument("host '" + options_.host + "': " + error.message());
  }
  const tcp::endpoint endpoint = *found.begin();
  acceptor_.open(endpoint.protocol(), error);
  if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(1024, error);
  if (error) {
    return IoError("cannot listen on " + options_.host + ":" + std::to_string(options_.port) +
                   ": " + error.message());
  }
  const tcp::endpoint bound = acceptor_.local_endpoint();
  url_ = std::string(tls_ != nullptr ? "https://" : "http://") +
         (bound.address().is_v6() ? "[" + bound.address().to_string() + "]"
                                  : bound.address().to_string()) +
         ":" + std::to_string(bound.port());
  asio::co_spawn(io_, Accept(), asio::detached);
  for (int i = 0; i < std::max(1, options_.num_threads); ++i) {
    threads_.emplace_back([this] {
      PreferShortSlices();
      io_.run();
    });
  }
  return OkStatus();
}

asio::awaitable<void> HttpTransport::Accept() {
  asio::steady_timer pause(io_);
  while (acceptor_.is_open()) {
    error_code error;
    tcp::socket socket =
        co_await acceptor_.async_accept(asio::redirect_error(asio::use_awaitable, error));
    if (error == asio::error::operation_aborted) co_return;
    if (error) {
      // Out of descriptors, most likely: some will come back.
      pause.expires_after(std::chrono::milliseconds(50));
      error_code ignored;
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
      continue;
    }
    if (static_cast<size_t>(num_connections_.load()) >= options_.max_connections) {
      socket.close(error);
      continue;
    }
    ++num_connections_;
    auto connection =
        std::make_shared<Connection>(this, std::move(socket), tls_.get(), options_, handler_);
    {
      std::lock_guard lock(mutex_);
      connections_[connection.get()] = connection;
    }
    asio::co_spawn(
        connection->strand(), [connection] { return connection->Run(); }, asio::detached);
  }
}

void HttpTransport::StopAccepting() {
  asio::post(io_, [this] {
    error_code ignored;
    acceptor_.close(ignored);
  });
  for (auto& connection : OpenConnections()) {
    asio::post(connection->strand(), [connection] { connection->CloseWhenIdle(); });
  }
}

void HttpTransport::Stop() {
  {
    std::lock_guard lock(mutex_);
    if (std::exchange(stopping_, true)) return;
  }
  StopAccepting();
  for (auto& connection : OpenConnections()) {
    asio::post(connection->strand(), [connection] { connection->Shutdown(); });
  }
  // With the acceptor and all sockets closed, run() ends by itself.
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

}  // namespace

Result<std::unique_ptr<Transport>> CreateHttpTransport(const HttpOptions& options) {
  std::unique_ptr<asio::ssl::context> tls;
  if (options.tls_certificate.empty() != options.tls_key.empty()) {
    return InvalidArgument("TLS: expected a certificate and a key, got one of them");
  }
  if (!options.tls_certificate.empty()) {
    tls = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_server);
    error_code error;
    tls->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 |
                         asio::ssl::context::no_tlsv1_1,
                     error);
    tls->use_certificate_chain_file(options.tls_certificate, error);
    if (error) {
      return InvalidArgument("TLS certificate '" + options.tls_certificate +
                             "': " + error.message());
    }
    tls->use_private_key_file(options.tls_key, asio::ssl::context::pem, error);
    if (error) {
      return InvalidArgument("TLS key '" + options.tls_key + "': " + error.message());
    }
  }
  return std::unique_ptr<Transport>(std::make_unique<HttpTransport>(options, std::move(tls)));
}

}  // namespace ink
