// The table of routes.
#pragma once

#include <span>
#include <string_view>

#include "serve/handlers.h"

namespace ink {

enum class RouteKind {
  kBody,           // POST with a JSON body that names a model
  kModels,         // GET /v1/models, and below it
  kTags,           // GET /api/tags, /api/ps
  kVersion,        // GET /api/version
  kMemory,         // GET /v1/memory
  kStats,          // GET /v1/stats
  kEngine,         // GET /v1/engine
  kMetrics,        // GET /metrics
  kOpenApi,        // GET /openapi.json
  kKeys,           // /v1/admin/keys, and below it
  kAdminModels,    // /v1/admin/models, and below it
  kAdminAdapters,  // /v1/admin/adapters, and below it
};

struct Route {
  std::string_view method;
  std::string_view path;
  RouteKind kind = RouteKind::kBody;
  ApiKind api = ApiKind::kOpenAi;
  std::string_view summary;
  bool generates = false;  // counts against a key's limits
  bool prefix = false;     // paths below it too
  FieldTable (*fields)() = nullptr;
  ApiStatus (*handle)(Call&) = nullptr;
};

std::span<const Route> Routes();
/// The API whose error shape fits a path that no route has.
ApiKind ApiOfPath(std::string_view path);

}  // namespace ink
