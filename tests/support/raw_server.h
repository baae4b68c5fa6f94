// A TCP server of a few lines, for tests of clients: it reads requests by Content-Length and
// answers with the bytes that a function gives.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace ink::testing_support {

class RawServer {
 public:
  /// From a whole request (head and body) to the bytes of the answer; an empty one closes.
  using AnswerFn = std::function<std::string(const std::string& request)>;

  explicit RawServer(AnswerFn answer) : answer_(std::move(answer)) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address));
    listen(listener_, 16);
    socklen_t size = sizeof(address);
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Loop(); });
  }
  ~RawServer() {
    stop_ = true;
    shutdown(listener_, SHUT_RDWR);
    {
      std::lock_guard lock(mutex_);
      if (client_ >= 0) shutdown(client_, SHUT_RDWR);
    }
    thread_.join();
    close(listener_);
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  int connections() const { return connections_; }
  std::vector<std::string> requests() const {
    std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  void Loop() {
    while (!stop_) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      ++connections_;
      {
        std::lock_guard lock(mutex_);
        client_ = fd;
      }
      std::string input;
      while (Serve(fd, &input)) {
      }
      std::lock_guard lock(mutex_);
      client_ = -1;
      close(fd);
    }
  }
  bool Serve(int fd, std::string* input) {
    size_t need = std::string::npos;
    while (input->size() < need) {
      char buffer[4096];
      const ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
      if (n <= 0) return false;
      input->append(buffer, static_cast<size_t>(n));
      const size_t head = input->find("\r\n\r\n");
      if (head == std::string::npos) continue;
      const size_t length = input->find("Content-Length: ");
      need = head + 4 + (length < head ? std::stoul(input->substr(length + 16)) : 0);
    }
    const std::string request = input->substr(0, need);
    input->erase(0, need);
    {
      std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    const std::string answer = answer_(request);
    (void)!send(fd, answer.data(), answer.size(), MSG_NOSIGNAL);
    return !answer.empty() && answer.find("Connection: close") == std::string::npos;
  }

  AnswerFn answer_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> stop_{false};
  std::atomic<int> connections_{0};
  mutable std::mutex mutex_;
  int client_ = -1;
  std::vector<std::string> requests_;
  std::thread thread_;
};

}  // namespace ink::testing_support
