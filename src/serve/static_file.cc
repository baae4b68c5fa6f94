#include "serve/static_file.h"

#include <cstdlib>
#include <string_view>

namespace ink {
namespace {

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// Calls fn on each member of a comma-separated header; true once fn is.
template <typename Fn>
bool AnyMember(std::string_view list, Fn fn) {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    if (fn(Trim(list.substr(0, comma)))) return true;
    if (comma == std::string_view::npos) break;
    list.remove_prefix(comma + 1);
  }
  return false;
}

// RFC 9110, 12.5.3: a member with q=0 refuses; "*" stands for what is not named.
bool Accepts(std::string_view accept, std::string_view encoding) {
  bool named = false, accepted = false, star = false;
  AnyMember(accept, [&](std::string_view member) {
    const size_t semicolon = member.find(';');
    const std::string_view name = Trim(member.substr(0, semicolon));
    double quality = 1;
    if (semicolon != std::string_view::npos) {
      const std::string_view parameter = Trim(member.substr(semicolon + 1));
      if (parameter.starts_with("q=") || parameter.starts_with("Q=")) {
        quality = std::strtod(std::string(parameter.substr(2)).c_str(), nullptr);
      }
    }
    if (name == encoding) {
      named = true;
      accepted = quality > 0;
    } else if (name == "*") {
      star = quality > 0;
    }
    return false;
  });
  return named ? accepted : star;
}

}  // namespace

HttpResponse FileResponse(const StaticFile& file, const HttpRequest& request) {
  HttpResponse response;
  response.headers = file.headers;
  if (!file.encoding.empty()) response.headers.emplace_back("Vary", "Accept-Encoding");
  if (!file.encoding.empty() && !Accepts(request.Header("accept-encoding"), file.encoding)) {
    response.status = 406;
    response.content_type = "text/plain; charset=utf-8";
    response.body = "this page is sent " + file.encoding + "-encoded only: ask with " +
                    "'Accept-Encoding: " + file.encoding + "' (curl --compressed)\n";
    return response;
  }
  if (!file.etag.empty()) response.headers.emplace_back("ETag", file.etag);
  response.content_type = file.content_type;
  const bool known = !file.etag.empty() &&
                     AnyMember(request.Header("if-none-match"), [&](std::string_view member) {
                       // The weak comparison: W/ does not matter.
                       if (member.starts_with("W/")) member.remove_prefix(2);
                       return member == file.etag || member == "*";
                     });
  if (known) {
    response.status = 304;
    return response;
  }
  if (!file.encoding.empty()) response.headers.emplace_back("Content-Encoding", file.encoding);
  response.body = file.body;
  return response;
}

}  // namespace ink
