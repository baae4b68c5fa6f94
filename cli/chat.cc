// inkstone chat: a conversation at the terminal, with the model's own chat template.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "command.h"
#include "common.h"
#include "loaded_model.h"
#include "sampling_flags.h"
#include "text/chat_template.h"

namespace ink::cli {
namespace {

constexpr std::string_view kCommand = "chat";

struct Options {
  EngineFlags engine;
  SamplingFlags sampling;
  std::string system;
  std::string template_file;
  int64_t tokens = -1;
};

volatile std::sig_atomic_t g_interrupted = 0;

std::string TokenText(const Tokenizer& tokenizer, int32_t id) {
  return id >= 0 ? std::string(tokenizer.TokenText(id)) : "";
}

// One answer, streamed to stdout. Ctrl-C ends the answer, not the chat.
Result<std::string> Answer(Engine& engine, const ChatTemplate& chat_template,
                           const nlohmann::ordered_json& messages, const SamplingParams& sampling) {
  const Tokenizer& tokenizer = engine.tokenizer();
  nlohmann::ordered_json context;
  context["messages"] = messages;
  context["add_generation_prompt"] = true;
  context["bos_token"] = TokenText(tokenizer, tokenizer.bos_id());
  context["eos_token"] = TokenText(tokenizer, tokenizer.eos_id());
  INK_ASSIGN_OR_RETURN(std::string prompt, chat_template.Render(context));
  GenerationRequest request;
  // The template writes the begin token itself where it wants one.
  request.prompt = tokenizer.Encode(prompt, {.add_special = false, .parse_special = true});
  request.sampling = sampling;
  std::string text;
  Status failure;
  request.on_event = [&](const GenerationEvent& event) {
    if (!event.error.ok()) failure = event.error;
    text += event.text;
    if (!event.text.empty()) {
      (void)WriteOutput(event.text);
      (void)FlushOutput();
    }
  };
  INK_ASSIGN_OR_RETURN(RequestId id, engine.Submit(std::move(request)));
  g_interrupted = 0;
  bool cancelled = false;
  while (engine.Step()) {
    if (g_interrupted && !cancelled) {
      cancelled = true;
      engine.Cancel(id);
    }
  }
  if (!failure.ok() && failure.code() != StatusCode::kCancelled) return failure;
  return text;
}

Status Chat(const Options& o) {
  INK_ASSIGN_OR_RETURN(LoadedModel loaded, LoadForCommand(o.engine, {}));
  std::string source = loaded.tokenizer->chat_template();
  if (!o.template_file.empty()) {
    INK_ASSIGN_OR_RETURN(source, ReadTextFile(o.template_file));
  }
  if (source.empty()) {
    return InvalidArgument(loaded.name + ": the model has no chat template; give one with " +
                           "--template, or use run");
  }
  INK_ASSIGN_OR_RETURN(ChatTemplate chat_template, ChatTemplate::Parse(source));
  INK_ASSIGN_OR_RETURN(SamplingParams sampling, SamplingFrom(o.sampling, *loaded.tokenizer));
  sampling.max_tokens = static_cast<int32_t>(o.tokens);
  INK_ASSIGN_OR_RETURN(EngineConfig config, EngineConfigFrom(o.engine, *loaded.model, 1));
  config.model_name = loaded.name;
  if (o.engine.context == 0) config.context = std::min<int64_t>(config.context, 8192);
  INK_RETURN_IF_ERROR(CheckMemory(loaded, config, o.engine.memory));
  INK_ASSIGN_OR_RETURN(auto engine,
                       Engine::Create(*loaded.model, *loaded.device, loaded.tokenizer, config));
  INK_RETURN_IF_ERROR(UseAdapters(loaded, *engine));
  const bool terminal = isatty(STDIN_FILENO) == 1;
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  if (!o.system.empty()) messages.push_back({{"role", "system"}, {"content", o.system}});
  if (terminal) {
    std::fprintf(stderr, "%s, context of %lld tokens. An empty line or Ctrl-D ends the chat.\n",
                 loaded.name.c_str(), static_cast<long long>(config.context));
  }
  auto previous = std::signal(SIGINT, [](int) { g_interrupted = 1; });
  Status status;
  for (std::string line; status.ok();) {
    if (terminal) std::fprintf(stderr, "> ");
    if (!std::getline(std::cin, line) || line.empty()) break;
    messages.push_back({{"role", "user"}, {"content", line}});
    auto answer = Answer(*engine, chat_template, messages, sampling);
    if (!answer.ok()) {
      status = answer.status();
      break;
    }
    messages.push_back({{"role", "assistant"}, {"content", *answer}});
    status = WriteOutput("\n");
    ++sampling.seed;  // another draw for the next answer
  }
  std::signal(SIGINT, previous);
  INK_RETURN_IF_ERROR(status);
  return FlushOutput();
}

}  // namespace

CommandBody RegisterChat(CLI::App& app) {
  auto o = std::make_shared<Options>();
  AddEngineFlags(app, o->engine);
  AddAdapterFlag(app, o->engine);
  app.add_option("-n,--tokens", o->tokens, "tokens per answer at most")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 31));
  app.add_option("--system", o->system, "system message");
  app.add_option("--template", o->template_file, "Jinja file to use instead of the model's own");
  AddSamplingFlags(app, o->sampling);
  return [o] {
    Status status = Chat(*o);
    return status.ok() ? kExitOk : Fail(kCommand, status);
  };
}

}  // namespace ink::cli
