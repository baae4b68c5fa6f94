// JSON Schema documents: resources, anchors and references.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "sampling/constraint/json_value.h"

namespace ink::constraint {

enum class Draft { k4, k6, k7, k2019, k2020 };

/// A schema with its own base URI.
struct SchemaResource {
  std::string uri;  // absolute where the document says so; without fragment
  const JsonValue* root = nullptr;
  std::map<std::string, const JsonValue*> anchors;          // $anchor and $dynamicAnchor
  std::map<std::string, const JsonValue*> dynamic_anchors;  // $dynamicAnchor
  Draft draft = Draft::k2020;
};

class SchemaIndex {
 public:
  /// `documents`: absolute URI -> JSON text, read when a reference names it.
  explicit SchemaIndex(const std::map<std::string, std::string>& documents);

  /// Errors: kInvalidArgument (malformed), kUnsupported ("$schema" of an unknown dialect).
  Result<const JsonValue*> AddRoot(std::string_view text);

  /// The schema that `reference`, found in `from`, names. kUnsupported, naming the reference, where
  /// it is not in any known document.
  Result<const JsonValue*> Resolve(const JsonValue* from, const std::string& keyword,
                                   const std::string& reference);
  /// If `reference` names a $dynamicAnchor of the schema it resolves to: the anchor's name, else
  /// "".
  std::string DynamicAnchor(const JsonValue* target, const std::string& reference) const;

  int ResourceOf(const JsonValue* schema) const;
  const SchemaResource& resource(int i) const { return resources_[i]; }
  Draft DraftOf(const JsonValue* schema) const { return resources_[ResourceOf(schema)].draft; }
  /// Of all documents that references reach.
  bool uses_dynamic_ref() const { return uses_dynamic_ref_; }

 private:
  Result<const JsonValue*> AddDocument(std::string_view text, const std::string& uri, Draft draft);
  Status Visit(const JsonValue* schema, int resource, int depth);

  const std::map<std::string, std::string>& documents_;
  std::vector<std::unique_ptr<JsonValue>> owned_;
  std::vector<SchemaResource> resources_;
  std::map<std::string, int> by_uri_;
  std::unordered_map<const JsonValue*, int> resource_of_;
  std::vector<std::pair<const JsonValue*, std::string>> references_;
  bool uses_dynamic_ref_ = false;
};

/// RFC 3986, section 5.2. `base` may be empty.
std::string ResolveUri(const std::string& base, const std::string& reference);

/// The draft 2020-12 metaschemas: absolute URI -> JSON text.
const std::map<std::string, std::string>& MetaSchemas();

}  // namespace ink::constraint
