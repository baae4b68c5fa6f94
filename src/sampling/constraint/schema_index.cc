#include "sampling/constraint/schema_index.h"

#include <algorithm>
#include <optional>

namespace ink::constraint {
namespace {

constexpr std::string_view kSchemaKeywords[] = {
    "additionalProperties",
    "items",
    "contains",
    "not",
    "if",
    "then",
    "else",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
    "additionalItems",
};
constexpr std::string_view kSchemaMapKeywords[] = {
    "properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"};
constexpr std::string_view kSchemaListKeywords[] = {"allOf", "anyOf", "oneOf", "prefixItems",
                                                    "items"};

struct Uri {
  std::optional<std::string> scheme, authority, query, fragment;
  std::string path;
};

// RFC 3986, appendix B.
Uri ParseUri(std::string_view text) {
  Uri u;
  if (const size_t hash = text.find('#'); hash != std::string_view::npos) {
    u.fragment = std::string(text.substr(hash + 1));
    text = text.substr(0, hash);
  }
  if (const size_t mark = text.find('?'); mark != std::string_view::npos) {
    u.query = std::string(text.substr(mark + 1));
    text = text.substr(0, mark);
  }
  const size_t colon = text.find_first_of(":/");
  if (colon != std::string_view::npos && colon > 0 && text[colon] == ':') {
    u.scheme = std::string(text.substr(0, colon));
    text = text.substr(colon + 1);
  }
  if (text.substr(0, 2) == "//") {
    const size_t end = std::min(text.find('/', 2), text.size());
    u.authority = std::string(text.substr(2, end - 2));
    text = text.substr(end);
  }
  u.path = std::string(text);
  return u;
}

std::string RemoveDotSegments(const std::string& path) {
  std::vector<std::string> out;
  const bool absolute = !path.empty() && path[0] == '/';
  size_t i = absolute ? 1 : 0;
  bool directory = false;
  while (i <= path.size()) {
    const size_t end = std::min(path.find('/', i), path.size());
    const std::string segment = path.substr(i, end - i);
    directory = false;
    if (segment == "..") {
      if (!out.empty()) out.pop_back();
      directory = true;
    } else if (segment == ".") {
      directory = true;
    } else {
      out.push_back(segment);
    }
    i = end + 1;
  }
  std::string result = absolute ? "/" : "";
  for (size_t k = 0; k < out.size(); ++k) result += (k ? "/" : "") + out[k];
  if (directory && !out.empty()) result += "/";
  return result;
}

std::string Recompose(const Uri& u) {
  std::string out;
  if (u.scheme) out += *u.scheme + ":";
  if (u.authority) out += "//" + *u.authority;
  out += u.path;
  if (u.query) out += "?" + *u.query;
  if (u.fragment) out += "#" + *u.fragment;
  return out;
}

std::pair<std::string, std::string> SplitFragment(const std::string& uri) {
  const size_t hash = uri.find('#');
  if (hash == std::string::npos) return {uri, ""};
  return {uri.substr(0, hash), uri.substr(hash + 1)};
}

std::string PercentDecoded(std::string_view text) {
  std::string out;
  const auto hex = [](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if ((c | 32) >= 'a' && (c | 32) <= 'f') return (c | 32) - 'a' + 10;
    return -1;
  };
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && hex(text[i + 1]) >= 0 && hex(text[i + 2]) >= 0) {
      out += static_cast<char>(hex(text[i + 1]) * 16 + hex(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

// RFC 6901; null where nothing is there.
const JsonValue* FollowPointer(const JsonValue* value, const std::string& pointer) {
  size_t i = 0;
  while (i < pointer.size() && value != nullptr) {
    const size_t end = std::min(pointer.find('/', i + 1), pointer.size());
    std::string token;
    for (size_t k = i + 1; k < end; ++k) {
      if (pointer[k] == '~' && k + 1 < end && (pointer[k + 1] == '0' || pointer[k + 1] == '1')) {
        token += pointer[++k] == '0' ? '~' : '/';
      } else {
        token += pointer[k];
      }
    }
    if (value->IsObject()) {
      value = value->Find(token);
    } else if (value->IsArray() && !token.empty() && token.size() < 9 &&
               std::all_of(token.begin(), token.end(),
                           [](char c) { return c >= '0' && c <= '9'; })) {
      const size_t index = std::stoul(token);
      value = index < value->items.size() ? &value->items[index] : nullptr;
    } else {
      value = nullptr;
    }
    i = end;
  }
  return value;
}

std::optional<Draft> DraftOfUri(std::string uri) {
  if (!uri.empty() && uri.back() == '#') uri.pop_back();
  if (uri.substr(0, 8) == "https://") uri = "http://" + uri.substr(8);
  if (uri == "http://json-schema.org/draft/2020-12/schema") return Draft::k2020;
  if (uri == "http://json-schema.org/draft/2019-09/schema") return Draft::k2019;
  if (uri == "http://json-schema.org/draft-07/schema") return Draft::k7;
  if (uri == "http://json-schema.org/draft-06/schema") return Draft::k6;
  if (uri == "http://json-schema.org/draft-04/schema") return Draft::k4;
  if (uri == "http://json-schema.org/schema") return Draft::k2020;
  return std::nullopt;
}

}  // namespace

std::string ResolveUri(const std::string& base_text, const std::string& reference) {
  const Uri base = ParseUri(base_text);
  Uri r = ParseUri(reference);
  if (r.scheme) {
    if (r.authority || (!r.path.empty() && r.path[0] == '/')) r.path = RemoveDotSegments(r.path);
    return Recompose(r);
  }
  Uri out;
  out.scheme = base.scheme;
  out.fragment = r.fragment;
  if (r.authority) {
    out.authority = r.authority;
    out.path = RemoveDotSegments(r.path);
    out.query = r.query;
    return Recompose(out);
  }
  out.authority = base.authority;
  if (r.path.empty()) {
    out.path = base.path;
    out.query = r.query ? r.query : base.query;
    return Recompose(out);
  }
  out.query = r.query;
  if (r.path[0] == '/') {
    out.path = RemoveDotSegments(r.path);
  } else {
    const size_t slash = base.path.rfind('/');
    std::string merged = slash == std::string::npos ? "" : base.path.substr(0, slash + 1);
    if (base.authority && base.path.empty()) merged = "/";
    out.path = RemoveDotSegments(merged + r.path);
  }
  return Recompose(out);
}

SchemaIndex::SchemaIndex(const std::map<std::string, std::string>& documents)
    : documents_(documents) {}

Result<const JsonValue*> SchemaIndex::AddRoot(std::string_view text) {
  INK_ASSIGN_OR_RETURN(const JsonValue* root, AddDocument(text, "", Draft::k2020));
  // Documents are loaded ahead; a reference that fails matters only where it is used.
  for (size_t i = 0; i < references_.size(); ++i) {
    const auto [schema, reference] = references_[i];
    const Result<const JsonValue*> ignored = Resolve(schema, "$ref", reference);
  }
  return root;
}

Result<const JsonValue*> SchemaIndex::AddDocument(std::string_view text, const std::string& uri,
                                                  Draft draft) {
  INK_ASSIGN_OR_RETURN(JsonValue value, ParseJson(text));
  owned_.push_back(std::make_unique<JsonValue>(std::move(value)));
  const JsonValue* root = owned_.back().get();
  if (!root->IsObject() && !root->IsBool()) {
    return InvalidArgument("a JSON Schema must be an object or a boolean, got " +
                           root->ToString().substr(0, 40));
  }
  SchemaResource resource;
  resource.uri = uri;
  resource.root = root;
  resource.draft = draft;
  by_uri_.emplace(uri, static_cast<int>(resources_.size()));
  resources_.push_back(std::move(resource));
  INK_RETURN_IF_ERROR(Visit(root, static_cast<int>(resources_.size()) - 1, 0));
  return root;
}

Status SchemaIndex::Visit(const JsonValue* schema, int resource, int depth) {
  if (depth > 256) return InvalidArgument("schema nested deeper than 256 levels");
  if (resource_of_.contains(schema)) return OkStatus();
  if (!schema->IsObject()) {
    resource_of_[schema] = resource;
    return OkStatus();
  }
  Draft draft = resources_[resource].draft;
  if (const JsonValue* dialect = schema->Find("$schema")) {
    const std::optional<Draft> known =
        dialect->IsString() ? DraftOfUri(dialect->text) : std::nullopt;
    if (!known) {
      return Unsupported("$schema: the dialect " + dialect->ToString() +
                         " is unknown, so its keywords cannot be enforced");
    }
    draft = *known;
  }
  const JsonValue* id = schema->Find(draft == Draft::k4 ? "id" : "$id");
  const bool legacy_ref = draft <= Draft::k7 && schema->Find("$ref") != nullptr;
  if (id != nullptr && id->IsString() && !legacy_ref) {
    const auto [uri, fragment] = SplitFragment(ResolveUri(resources_[resource].uri, id->text));
    if (!fragment.empty() && uri == resources_[resource].uri) {
      resources_[resource].anchors[fragment] = schema;  // drafts 6 and 7
    } else if (schema == resources_[resource].root) {
      resources_[resource].uri = uri;
      by_uri_.emplace(uri, resource);
    } else {
      SchemaResource inner;
      inner.uri = uri;
      inner.root = schema;
      inner.draft = draft;
      resource = static_cast<int>(resources_.size());
      resources_.push_back(std::move(inner));
      if (!by_uri_.emplace(uri, resource).second) {
        return InvalidArgument("$id: " + QuoteJson(uri) + " is used twice");
      }
    }
  }
  if (schema == resources_[resource].root) resources_[resource].draft = draft;
  resource_of_[schema] = resource;
  for (const char* keyword : {"$anchor", "$dynamicAnchor"}) {
    const JsonValue* anchor = schema->Find(keyword);
    if (anchor == nullptr) continue;
    if (!anchor->IsString()) return InvalidArgument(std::string(keyword) + " must be a string");
    resources_[resource].anchors[anchor->text] = schema;
    if (keyword[1] == 'd') resources_[resource].dynamic_anchors[anchor->text] = schema;
  }
  if (schema->Find("$dynamicRef") != nullptr) uses_dynamic_ref_ = true;
  for (const char* keyword : {"$ref", "$dynamicRef"}) {
    const JsonValue* reference = schema->Find(keyword);
    if (reference != nullptr && reference->IsString()) {
      references_.emplace_back(schema, reference->text);
    }
  }
  if (legacy_ref) return OkStatus();  // siblings of $ref mean nothing there
  for (std::string_view keyword : kSchemaKeywords) {
    const JsonValue* v = schema->Find(keyword);
    if (v != nullptr && (v->IsObject() || v->IsBool())) {
      INK_RETURN_IF_ERROR(Visit(v, resource, depth + 1));
    }
  }
  for (std::string_view keyword : kSchemaMapKeywords) {
    const JsonValue* v = schema->Find(keyword);
    if (v == nullptr || !v->IsObject()) continue;
    for (const auto& [name, child] : v->members) {
      if (!child.IsObject() && !child.IsBool()) continue;
      INK_RETURN_IF_ERROR(Visit(&child, resource, depth + 1));
    }
  }
  for (std::string_view keyword : kSchemaListKeywords) {
    const JsonValue* v = schema->Find(keyword);
    if (v == nullptr || !v->IsArray()) continue;
    for (const JsonValue& child : v->items) {
      INK_RETURN_IF_ERROR(Visit(&child, resource, depth + 1));
    }
  }
  return OkStatus();
}

int SchemaIndex::ResourceOf(const JsonValue* schema) const {
  const auto it = resource_of_.find(schema);
  return it == resource_of_.end() ? 0 : it->second;
}

Result<const JsonValue*> SchemaIndex::Resolve(const JsonValue* from, const std::string& keyword,
                                              const std::string& reference) {
  const int origin = ResourceOf(from);
  const std::string target = ResolveUri(resources_[origin].uri, reference);
  const auto [uri, raw_fragment] = SplitFragment(target);
  const std::string fragment = PercentDecoded(raw_fragment);
  int found = -1;
  if (auto it = by_uri_.find(uri); it != by_uri_.end()) {
    found = it->second;
  } else {
    for (const auto* known : {&documents_, &MetaSchemas()}) {
      const auto document = known->find(uri);
      if (document == known->end()) continue;
      const Result<const JsonValue*> root =
          AddDocument(document->second, uri, resources_[origin].draft);
      if (!root.ok()) return root.status().WithContext(keyword + " " + QuoteJson(uri));
      found = by_uri_.at(uri);
      break;
    }
  }
  if (found < 0) {
    return Unsupported(keyword + ": " + QuoteJson(target) +
                       " is in no document that this schema brings");
  }
  const JsonValue* schema = nullptr;
  if (fragment.empty()) {
    schema = resources_[found].root;
  } else if (fragment[0] == '/') {
    schema = FollowPointer(resources_[found].root, fragment);
  } else if (auto it = resources_[found].anchors.find(fragment);
             it != resources_[found].anchors.end()) {
    schema = it->second;
  }
  if (schema == nullptr || (!schema->IsObject() && !schema->IsBool())) {
    return InvalidArgument(keyword + ": " + QuoteJson(reference) + " names no schema");
  }
  // A place that no keyword marks as a schema is one because it is referred to.
  if (!resource_of_.contains(schema)) INK_RETURN_IF_ERROR(Visit(schema, found, 0));
  return schema;
}

std::string SchemaIndex::DynamicAnchor(const JsonValue* target,
                                       const std::string& reference) const {
  const std::string fragment = PercentDecoded(SplitFragment(reference).second);
  if (fragment.empty() || fragment[0] == '/') return "";
  const SchemaResource& r = resources_[ResourceOf(target)];
  const auto it = r.dynamic_anchors.find(fragment);
  return it != r.dynamic_anchors.end() && it->second == target ? fragment : "";
}

}  // namespace ink::constraint
