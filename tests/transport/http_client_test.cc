// The client against servers that frame their answers in every way, and break off.
#include "transport/http_client.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

#include "support/raw_server.h"
#include "transport/transport.h"

namespace ink {
namespace {

using namespace std::chrono_literals;
using testing_support::RawServer;

std::unique_ptr<HttpClient> Client(const std::string& url, HttpClientOptions options = {}) {
  auto parsed = ParseUrl(url);
  EXPECT_TRUE(parsed.ok()) << parsed.status().message();
  auto client = HttpClient::Create(*parsed, std::move(options));
  EXPECT_TRUE(client.ok()) << client.status().message();
  return std::move(client).value();
}

struct Got {
  Status status;
  int code = 0;
  HttpHeaders headers;
  std::string body;
};
Got Send(HttpClient& client, const std::string& target, const std::string& body = "") {
  Got got;
  auto reply = client.Request(body.empty() ? "GET" : "POST", target, {{"X-A", "b"}}, body,
                              [&](int, std::string_view piece) {
                                got.body += piece;
                                return OkStatus();
                              });
  got.status = reply.status();
  if (reply.ok()) {
    got.code = reply->status;
    got.headers = reply->headers;
  }
  return got;
}

TEST(Url, Parts) {
  auto url = ParseUrl("https://[::1]:8443/base/");
  ASSERT_TRUE(url.ok());
  EXPECT_TRUE(url->tls);
  EXPECT_EQ(url->host, "::1");
  EXPECT_EQ(url->port, "8443");
  EXPECT_EQ(url->path, "/base");
  EXPECT_EQ(url->Authority(), "[::1]:8443");
  EXPECT_EQ(ParseUrl("http://a").value().Authority(), "a");
  EXPECT_EQ(ParseUrl("http://a:80").value().Authority(), "a");
  EXPECT_EQ(ParseUrl("https://a:80").value().Authority(), "a:80");
  for (const char* bad : {"", "a", "ftp://a", "http://", "http://:80", "http://a:0", "http://a:x",
                          "http://a:65536", "http://[::1", "http://a b", "http://a/\r\nX: y"}) {
    EXPECT_EQ(ParseUrl(bad).status().code(), StatusCode::kInvalidArgument) << bad;
  }
}

TEST(HttpClient, EveryFraming) {
  RawServer server([](const std::string& request) -> std::string {
    const std::string path = request.substr(request.find(' ') + 1, 4);
    if (path == "/len") return "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    if (path == "/chk") {
      return "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n"
             "0\r\nTrailer: t\r\n\r\n";
    }
    if (path == "/100") {
      return "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    }
    if (path == "/204") return "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n";
    if (path == "/404") return "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno";
    return "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello";
  });
  auto client = Client(server.url());
  for (int round = 0; round < 2; ++round) {
    for (const char* path : {"/len", "/chk", "/100"}) {
      const Got got = Send(*client, path, "body");
      ASSERT_TRUE(got.status.ok()) << path << got.status.message();
      EXPECT_EQ(got.code, 200);
      EXPECT_EQ(got.body, "hello") << path;
    }
    EXPECT_EQ(Send(*client, "/204").code, 204);
    EXPECT_EQ(Send(*client, "/404").body, "no");
  }
  EXPECT_EQ(client->connections(), 1);  // all on one
  EXPECT_EQ(Send(*client, "/end").body, "hello");
  EXPECT_EQ(Send(*client, "/len").body, "hello");
  EXPECT_EQ(client->connections(), 2);
  const std::string first = server.requests().at(0);
  EXPECT_TRUE(first.starts_with("POST /len HTTP/1.1\r\nHost: 127.0.0.1:")) << first;
  EXPECT_NE(first.find("X-A: b\r\n"), std::string::npos);
  EXPECT_TRUE(first.ends_with("\r\n\r\nbody"));
}

TEST(HttpClient, AKeptConnectionThatTheServerClosedIsReplaced) {
  int count = 0;
  // Closes after each answer without saying so.
  RawServer server([&](const std::string&) -> std::string {
    return ++count % 2 == 0 ? "" : "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
  });
  auto client = Client(server.url());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Send(*client, "/").body, "ok");
  EXPECT_EQ(client->connections(), 3);
}

TEST(HttpClient, BadAnswersAreErrors) {
  std::string answer;
  RawServer server([&](const std::string&) { return answer; });
  HttpClientOptions options;
  options.io_timeout = 300ms;
  options.max_header_bytes = 1000;
  for (const auto& [bytes, code] : std::vector<std::pair<std::string, StatusCode>>{
           {"nonsense\r\n\r\n", StatusCode::kCorrupt},
           {"HTTP/1.1 2x0 OK\r\n\r\n", StatusCode::kCorrupt},
           {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", StatusCode::kCorrupt},
           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", StatusCode::kCorrupt},
           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
            StatusCode::kCorrupt},
           {"HTTP/1.1 200 OK\r\nX: " + std::string(5000, 'a'), StatusCode::kCorrupt},
           {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", StatusCode::kIo},  // and silence
           {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nabc",
            StatusCode::kIo},
           {"", StatusCode::kIo}}) {
    answer = bytes;
    auto client = Client(server.url(), options);
    EXPECT_EQ(Send(*client, "/").status.code(), code) << bytes.substr(0, 80);
  }
  // Nobody listens.
  std::string url;
  {
    RawServer gone([](const std::string&) { return ""; });
    url = gone.url();
  }
  EXPECT_EQ(Send(*Client(url), "/").status.code(), StatusCode::kIo);
}

TEST(HttpClient, Interrupt) {
  RawServer server([](const std::string&) { return "HTTP/1.1 200 OK\r\n"; });  // never more
  auto client = Client(server.url());
  std::thread later([&] {
    std::this_thread::sleep_for(100ms);
    client->Interrupt();
  });
  EXPECT_EQ(Send(*client, "/").status.code(), StatusCode::kCancelled);
  EXPECT_EQ(Send(*client, "/").status.code(), StatusCode::kCancelled);
  later.join();
}

TEST(HttpClient, Tls) {
  const std::string folder = testing::TempDir() + "/ink_client_tls_" + std::to_string(getpid());
  const std::string make = "mkdir -p " + folder + " && openssl req -x509 -newkey rsa:2048 -nodes " +
                           "-days 1 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1" +
                           " -keyout " + folder + "/key.pem -out " + folder +
                           "/cert.pem >/dev/null 2>&1";
  if (std::system(make.c_str()) != 0) GTEST_SKIP() << "no openssl program here";
  HttpOptions options;
  options.port = 0;
  options.tls_certificate = folder + "/cert.pem";
  options.tls_key = folder + "/key.pem";
  auto transport = CreateHttpTransport(options);
  ASSERT_TRUE(transport.ok()) << transport.status().message();
  ASSERT_TRUE((*transport)
                  ->Start([](HttpRequest request, std::shared_ptr<ResponseWriter> writer) {
                    writer->Begin({});
                    writer->Write(request.path + " ");
                    writer->Write(std::string(200'000, 'x') + request.body);
                    writer->End();
                  })
                  .ok());
  const std::string url = (*transport)->url();
  HttpClientOptions trusting;
  trusting.ca_file = options.tls_certificate;
  auto client = Client(url, trusting);
  const std::string body(300'000, 'y');
  for (int i = 0; i < 3; ++i) {
    const Got got = Send(*client, "/secret", body);
    ASSERT_TRUE(got.status.ok()) << got.status.message();
    EXPECT_TRUE(got.body == "/secret " + std::string(200'000, 'x') + body);
  }
  EXPECT_EQ(client->connections(), 1);
  // Not signed by anyone known; not this name.
  Got refused = Send(*Client(url), "/");
  EXPECT_EQ(refused.status.code(), StatusCode::kIo);
  EXPECT_NE(refused.status.message().find("certificate"), std::string::npos)
      << refused.status.message();
  const std::string other = "https://127.0.0.2" + url.substr(url.rfind(':'));
  EXPECT_EQ(Send(*Client(other, trusting), "/").status.code(), StatusCode::kIo);
  HttpClientOptions blind;
  blind.verify = false;
  EXPECT_TRUE(Send(*Client(url, blind), "/").status.ok());
  HttpClientOptions missing;
  missing.ca_file = folder + "/none.pem";
  EXPECT_FALSE(HttpClient::Create(*ParseUrl(url), missing).ok());
}

}  // namespace
}  // namespace ink
