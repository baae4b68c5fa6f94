// Files that the server gives out as they are: the web page.
#pragma once

#include <string>

#include "serve/http.h"

namespace ink {

/// Served without a key: it is the same for everybody and says nothing about this server.
struct StaticFile {
  std::string path;
  std::string content_type;
  std::string body;
  std::string encoding;  // Content-Encoding of `body`, "gzip"; empty for none
  std::string etag;      // with its quotes; empty for none
  HttpHeaders headers;
};

/// The answer to GET or HEAD of `file`: 304 where the client has it, 406 where it cannot read the
/// encoding.
HttpResponse FileResponse(const StaticFile& file, const HttpRequest& request);

}  // namespace ink
