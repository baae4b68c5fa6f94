// layers: transport
// Bytes of a client, in two pieces, through the real transport and the service behind it. No model
// is loaded: what a body may do is request_body_fuzz's.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "serve/service.h"
#include "transport/transport.h"

namespace {

struct Server {
  Server() : service(Options()) {
    ink::HttpOptions http;
    http.port = 0;
    http.max_header_bytes = 4096;
    http.max_body_bytes = 4096;
    auto made = ink::CreateHttpTransport(http);
    INK_CHECK(made.ok());
    transport = std::move(made).value();
    INK_CHECK(transport->Start(service.handler()).ok());
    const std::string url = transport->url();
    port = static_cast<uint16_t>(std::stoi(url.substr(url.rfind(':') + 1)));
  }
  static ink::ServiceOptions Options() {
    ink::ServiceOptions options;
    options.loopback_hosts_only = true;
    options.num_workers = 1;
    options.files = {{"/", "text/html", "page", "", "", {}}};
    return options;
  }
  // Members go in reverse: the transport first, then what it calls.
  ink::Service service;
  std::unique_ptr<ink::Transport> transport;
  uint16_t port = 0;
};

int Connect(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  INK_CHECK(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  // The end of a connection leaves no port behind: many thousands of them follow each other.
  const linger none = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
  return fd;
}

bool Readable(int fd, int ms) {
  pollfd wait = {fd, POLLIN, 0};
  return poll(&wait, 1, ms) > 0;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Server server;
  if (size < 2) return 0;
  const bool hangs_up = (data[0] & 1) != 0;
  const size_t cut = std::min<size_t>(data[1] * 4, size - 2);
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  const int fd = Connect(server.port);
  (void)!send(fd, bytes.data(), cut, MSG_NOSIGNAL);
  (void)!send(fd, bytes.data() + cut, bytes.size() - cut, MSG_NOSIGNAL);
  std::string answer;
  // A request that is whole is answered soon; one that is not waits for the rest.
  if (hangs_up || !Readable(fd, 2)) shutdown(fd, SHUT_WR);
  char buffer[4096];
  while (Readable(fd, hangs_up ? 10'000 : 2)) {
    const ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
    if (n <= 0) break;
    answer.append(buffer, static_cast<size_t>(n));
  }
  INK_CHECK(answer.empty() || answer.starts_with("HTTP/1."));
  close(fd);
  return 0;
}
