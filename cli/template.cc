// inkstone template: renders a chat template on contexts, one JSON object per line.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "command.h"
#include "common.h"
#include "text/chat_template.h"

namespace ink::cli {
namespace {

struct Options {
  std::string template_path;
  std::string jsonl_path;
  std::string now;
};

int Run(const Options& options) {
  const Status done = [&]() -> Status {
    ChatTemplateOptions render;
    if (!options.now.empty()) {
      INK_ASSIGN_OR_RETURN(render.now, ParseLocalTime(options.now));
    }
    INK_ASSIGN_OR_RETURN(const std::string source, ReadTextFile(options.template_path));
    // A template that does not parse fails on every context alike, and each line says so.
    const Result<ChatTemplate> parsed = ChatTemplate::Parse(source);
    INK_RETURN_IF_ERROR(
        ForEachLine(options.jsonl_path, [&](std::string_view line, int64_t number) -> Status {
          const auto request =
              nlohmann::ordered_json::parse(line, /*cb=*/nullptr, /*allow_exceptions=*/false);
          if (request.is_discarded()) return InvalidArgument("the line is not valid JSON");
          if (!request.is_object() || !request.contains("context")) {
            return InvalidArgument("the line is not of the form {\"context\": {...}}");
          }
          const Result<std::string> text = parsed.ok() ? parsed->Render(request["context"], render)
                                                       : Result<std::string>(parsed.status());
          nlohmann::ordered_json answer;
          if (text.ok()) {
            answer["output"] = *text;
          } else {
            answer["error"] = text.status().message();
          }
          return WriteOutput(answer.dump() + "\n");
        }));
    return FlushOutput();
  }();
  return done.ok() ? kExitOk : Fail("template", done);
}

}  // namespace

CommandBody RegisterTemplate(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("--template", options->template_path, "the Jinja chat template, a file")
      ->required();
  app.add_option("--jsonl", options->jsonl_path,
                 "a file of lines {\"context\": {...}}, or - for standard input; each gives a line "
                 "{\"output\": ...} or {\"error\": ...}")
      ->required();
  app.add_option("--now", options->now,
                 "the time that strftime_now tells, as 2026-01-02T03:04:05 (default: the clock)");
  return [options] { return Run(*options); };
}

}  // namespace ink::cli
