// layers: serve
// The body of a request, by the first byte for one of the routes' readers: any bytes become fields
// or an error, and an error has a text.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/check.h"
#include "serve/handlers.h"
#include "serve/routes.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ink;
  if (size < 1 || size > 8192) return 0;
  auto parsed = ParseJsonBody({reinterpret_cast<const char*>(data) + 1, size - 1});
  if (!parsed.ok()) {
    INK_CHECK(!parsed.status().message().empty());
    return 0;
  }
  const Json body = std::move(parsed).value();
  const auto routes = Routes();
  const Route& route = routes[data[0] % routes.size()];
  std::vector<std::string> warnings;
  if (route.fields != nullptr) {
    if (auto error = CheckFields(body, route.fields(), data[0] >= 128, &warnings)) {
      INK_CHECK(!error->message.empty());
      return 0;
    }
  }
  try {
    FieldReader reader(body);
    GenerationPlan plan;
    AnswerOptions answer;
    ToolChoice choice;
    Json tools, messages;
    std::optional<ConstraintSpec> spec;
    if (ReadOpenAiCommon(reader, &plan, &answer)) return 0;
    ReadExtensions(reader, &plan.request.sampling);
    if (ReadConstraint(reader, &spec)) return 0;
    if (ReadOpenAiTools(reader, &tools, &choice)) return 0;
    if (const Json* list = reader.List("messages")) {
      (void)ReadOpenAiMessages(*list, "messages", &messages);
    }
  } catch (const Json::exception&) {
    // A nested value of an unexpected type: the service answers 400.
  }
  return 0;
}
