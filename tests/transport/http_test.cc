// HTTP over real loopback sockets.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <future>
#include <iterator>
#include <string>
#include <thread>

#include "transport/transport.h"

namespace ink {
namespace {

using namespace std::chrono_literals;

class Client {
 public:
  explicit Client(const std::string& url) {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(std::stoi(url.substr(url.rfind(':') + 1))));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    const timeval limit = {10, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  }
  ~Client() { Close(); }
  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }
  void Send(const std::string& bytes) {
    (void)!send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  /// Reads until `end` has come; all that has come.
  std::string ReadUntil(const std::string& end) {
    while (got_.find(end) == std::string::npos && ReadSome()) {
    }
    return got_;
  }
  std::string ReadAll() {
    while (ReadSome()) {
    }
    return got_;
  }
  std::string Take() { return std::exchange(got_, ""); }

 private:
  bool ReadSome() {
    char buffer[4096];
    const ssize_t n = recv(fd_, buffer, sizeof(buffer), 0);
    if (n <= 0) return false;
    got_.append(buffer, static_cast<size_t>(n));
    return true;
  }
  int fd_ = -1;
  std::string got_;
};

class Http : public testing::Test {
 protected:
  void Serve(HttpHandler handler, HttpOptions options = {}) {
    options.port = 0;
    auto made = CreateHttpTransport(options);
    ASSERT_TRUE(made.ok()) << made.status().message();
    transport_ = std::move(made).value();
    const Status status = transport_->Start(std::move(handler));
    ASSERT_TRUE(status.ok()) << status.message();
  }
  static void Echo(HttpRequest request, std::shared_ptr<ResponseWriter> writer) {
    HttpResponse response;
    response.content_type = "text/plain";
    response.body = request.method + " " + request.path + " " + request.query + " " +
                    std::string(request.Header("x-a")) + " " + request.body;
    writer->Send(std::move(response));
  }
  std::unique_ptr<Transport> transport_;
};

TEST_F(Http, KeepAliveAndPipelining) {
  Serve(Echo);
  Client client(transport_->url());
  client.Send("GET /x?y=1 HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\n");
  EXPECT_NE(client.ReadUntil("GET /x y=1 b ").find("HTTP/1.1 200 OK"), std::string::npos);
  client.Take();
  client.Send(
      "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
      "POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
      "chunked\r\n\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n"
      "HEAD /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  const std::string all = client.ReadAll();
  const size_t one = all.find("POST /1   abc"), two = all.find("POST /2   def");
  EXPECT_NE(one, std::string::npos) << all;
  EXPECT_NE(two, std::string::npos) << all;
  EXPECT_LT(one, two);
  EXPECT_EQ(all.find("HEAD /3"), std::string::npos);  // headers only
  EXPECT_TRUE(all.ends_with("\r\n\r\n"));
}

TEST_F(Http, NotModifiedHasNoBodyAndNoLength) {
  Serve([](HttpRequest request, std::shared_ptr<ResponseWriter> writer) {
    HttpResponse response;
    response.status = request.path == "/known" ? 304 : 200;
    if (response.status == 200) response.body = "body";
    writer->Send(std::move(response));
  });
  Client client(transport_->url());
  client.Send(
      "GET /known HTTP/1.1\r\nHost: a\r\n\r\n"
      "GET /new HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  const std::string all = client.ReadAll();
  const size_t second = all.find("HTTP/1.1 200 OK");
  ASSERT_NE(second, std::string::npos) << all;
  EXPECT_TRUE(all.starts_with("HTTP/1.1 304 Not Modified\r\n"));
  EXPECT_EQ(all.substr(0, second).find("Content-Length"), std::string::npos);
  EXPECT_TRUE(all.substr(0, second).ends_with("\r\n\r\n"));
  EXPECT_TRUE(all.ends_with("\r\n\r\nbody"));
}

TEST_F(Http, StreamsInChunks) {
  std::promise<std::shared_ptr<ResponseWriter>> promise;
  Serve([&](HttpRequest, std::shared_ptr<ResponseWriter> writer) { promise.set_value(writer); });
  Client client(transport_->url());
  client.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  auto writer = promise.get_future().get();
  writer->Begin({});
  writer->Write("first");
  EXPECT_NE(client.ReadUntil("5\r\nfirst\r\n").find("Transfer-Encoding: chunked"),
            std::string::npos);
  writer->Write("second");
  client.ReadUntil("6\r\nsecond\r\n");
  writer->End();
  EXPECT_TRUE(client.ReadUntil("0\r\n\r\n").ends_with("0\r\n\r\n"));
}

TEST_F(Http, AClientThatLeavesIsNoticedAtOnce) {
  std::promise<std::shared_ptr<ResponseWriter>> promise;
  Serve([&](HttpRequest, std::shared_ptr<ResponseWriter> writer) { promise.set_value(writer); });
  Client client(transport_->url());
  client.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  auto writer = promise.get_future().get();
  std::promise<void> closed;
  writer->OnClose([&] { closed.set_value(); });
  EXPECT_TRUE(writer->IsOpen());
  client.Close();
  EXPECT_EQ(closed.get_future().wait_for(5s), std::future_status::ready);
  EXPECT_FALSE(writer->IsOpen());
  writer->Begin({});  // goes nowhere
  writer->End();
  bool late = false;
  writer->OnClose([&] { late = true; });
  EXPECT_TRUE(late);
}

TEST_F(Http, BadRequestsAreAnsweredAndClosed) {
  HttpOptions options;
  options.max_body_bytes = 1000;
  options.max_header_bytes = 2000;
  options.request_timeout = 1s;
  std::atomic<int> calls{0};
  Serve(
      [&](HttpRequest, std::shared_ptr<ResponseWriter> writer) {
        ++calls;
        writer->Send({});
      },
      options);
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"nonsense\r\n\r\n", " 400 "},
      {"GET / HTTP/1.1\r\nX: " + std::string(5000, 'a') + "\r\n\r\n", " 431 "},
      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n", " 413 "},
      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" +
           std::string(2000, 'a') + "\r\n0\r\n\r\n",
       " 413 "},
      {"GET / HTT", " 408 "},
      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc", " 408 "},
  };
  for (const auto& [bytes, status] : cases) {
    Client client(transport_->url());
    client.Send(bytes);
    EXPECT_NE(client.ReadAll().find(status), std::string::npos) << bytes.substr(0, 60);
  }
  EXPECT_EQ(calls, 0);
}

TEST_F(Http, ASlowReaderIsGone) {
  HttpOptions options;
  options.max_queued_bytes = 1 << 20;
  std::promise<std::shared_ptr<ResponseWriter>> promise;
  Serve([&](HttpRequest, std::shared_ptr<ResponseWriter> writer) { promise.set_value(writer); },
        options);
  Client client(transport_->url());
  client.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  auto writer = promise.get_future().get();
  writer->Begin({});
  const std::string chunk(64 << 10, 'x');
  for (int i = 0; i < 1000 && writer->IsOpen(); ++i) {
    writer->Write(chunk);
    std::this_thread::sleep_for(1ms);
  }
  EXPECT_FALSE(writer->IsOpen());
}

TEST_F(Http, AHandlerThatForgetsDoesNotHangTheClient) {
  Serve([](HttpRequest, std::shared_ptr<ResponseWriter>) {});
  Client client(transport_->url());
  client.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(client.ReadAll(), "");
}

TEST_F(Http, RandomDisconnectsLeaveNothingBehind) {
  Serve(Echo);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        Client client(transport_->url());
        const std::string bytes = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
        client.Send(bytes.substr(0, 1 + (i * 7 + t) % bytes.size()));
        if (i % 3 == 0) client.Send("x");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < 200 && transport_->num_connections() > 0; ++i) {
    std::this_thread::sleep_for(20ms);
  }
  EXPECT_EQ(transport_->num_connections(), 0);
  transport_->Stop();
}

TEST_F(Http, ConnectionsThatEndWhileItStopsDoNotHoldItUp) {
  for (int round = 0; round < 20; ++round) {
    Serve(Echo);
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 12; ++i) {
      clients.push_back(std::make_unique<Client>(transport_->url()));
      clients.back()->Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    clients.back()->ReadUntil("GET / ");
    std::thread leaving([&] { clients.clear(); });
    for (int i = 0; i < 50; ++i) transport_->StopAccepting();
    leaving.join();
    transport_->Stop();
  }
}

TEST(HttpOptions, BadSettingsAreErrors) {
  HttpOptions tls;
  tls.tls_certificate = "/nowhere.pem";
  EXPECT_EQ(CreateHttpTransport(tls).status().code(), StatusCode::kInvalidArgument);
  tls.tls_key = "/nowhere.key";
  EXPECT_EQ(CreateHttpTransport(tls).status().code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(IsLoopback("127.0.0.1"));
  EXPECT_TRUE(IsLoopback("::1"));
  EXPECT_FALSE(IsLoopback("0.0.0.0"));
  EXPECT_FALSE(IsLoopback("127.0.0.1.example.com"));
}

// openssl's own client against a certificate that openssl makes.
TEST(Tls, SelfSignedCertificate) {
  const std::string folder = testing::TempDir() + "/ink_tls_" + std::to_string(getpid());
  const std::string make = "mkdir -p " + folder + " && openssl req -x509 -newkey rsa:2048 -nodes " +
                           "-days 1 -subj /CN=localhost -keyout " + folder + "/key.pem -out " +
                           folder + "/cert.pem >/dev/null 2>&1";
  if (std::system(make.c_str()) != 0) GTEST_SKIP() << "no openssl program here";
  HttpOptions options;
  options.port = 0;
  options.tls_certificate = folder + "/cert.pem";
  EXPECT_FALSE(CreateHttpTransport(options).ok());  // without the key
  options.tls_key = folder + "/key.pem";
  auto transport = CreateHttpTransport(options);
  ASSERT_TRUE(transport.ok()) << transport.status().message();
  ASSERT_TRUE((*transport)
                  ->Start([](HttpRequest request, std::shared_ptr<ResponseWriter> writer) {
                    HttpResponse response;
                    response.body = "over TLS: " + request.path;
                    writer->Send(std::move(response));
                  })
                  .ok());
  const std::string url = (*transport)->url();
  EXPECT_TRUE(url.starts_with("https://")) << url;
  const std::string port = url.substr(url.rfind(':') + 1);
  const std::string ask =
      "printf 'GET /secret HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' | "
      "timeout 10 openssl s_client -quiet -verify_return_error -CAfile " +
      options.tls_certificate + " -connect 127.0.0.1:" + port + " >" + folder +
      "/answer 2>/dev/null";
  (void)std::system(ask.c_str());
  std::ifstream file(folder + "/answer");
  const std::string answer((std::istreambuf_iterator<char>(file)), {});
  EXPECT_NE(answer.find("over TLS: /secret"), std::string::npos) << answer;
  (*transport)->Stop();
}

}  // namespace
}  // namespace ink
