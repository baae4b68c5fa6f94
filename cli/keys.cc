// inkstone keys: API keys of a server, kept hashed in SQLite.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>

#include "command.h"
#include "common.h"
#include "serve/keys.h"

namespace ink::cli {
namespace {

constexpr std::string_view kCommand = "keys";

struct Options {
  std::string db;
  std::string id;
  std::string name;
  KeyPolicy policy;
  bool json = false;
};

std::string Day(int64_t seconds) {
  const std::time_t time = seconds;
  std::tm parts{};
  gmtime_r(&time, &parts);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M", &parts);
  return text;
}

Status ShowSecret(const Options& o, const KeyStore::Created& made) {
  if (o.json) {
    nlohmann::ordered_json json = KeyJson(made.info);
    json["key"] = made.secret;
    INK_RETURN_IF_ERROR(WriteOutput(json.dump() + "\n"));
  } else {
    INK_RETURN_IF_ERROR(WriteOutput(made.secret + "\n"));
    std::fprintf(stderr, "key %s; this is the only time it is shown\n", made.info.id.c_str());
  }
  return FlushOutput();
}

Status Create(const Options& o) {
  INK_ASSIGN_OR_RETURN(auto store, KeyStore::Open(o.db));
  INK_ASSIGN_OR_RETURN(KeyStore::Created made, store->Create(o.name, o.policy));
  return ShowSecret(o, made);
}

Status Rotate(const Options& o) {
  INK_ASSIGN_OR_RETURN(auto store, KeyStore::Open(o.db));
  INK_ASSIGN_OR_RETURN(KeyStore::Created made, store->Rotate(o.id));
  return ShowSecret(o, made);
}

Status Revoke(const Options& o) {
  INK_ASSIGN_OR_RETURN(auto store, KeyStore::Open(o.db));
  INK_RETURN_IF_ERROR(store->Revoke(o.id));
  if (o.json) {
    nlohmann::ordered_json json = {{"id", o.id}, {"revoked", true}};
    INK_RETURN_IF_ERROR(WriteOutput(json.dump() + "\n"));
  }
  return FlushOutput();
}

Status List(const Options& o) {
  INK_ASSIGN_OR_RETURN(auto store, KeyStore::Open(o.db));
  INK_ASSIGN_OR_RETURN(std::vector<KeyInfo> keys, store->List());
  if (o.json) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const KeyInfo& info : keys) list.push_back(KeyJson(info));
    INK_RETURN_IF_ERROR(WriteOutput(list.dump() + "\n"));
    return FlushOutput();
  }
  for (const KeyInfo& info : keys) {
    INK_RETURN_IF_ERROR(WriteOutput(info.id + "  " + Day(info.created) + "  " +
                                    (info.revoked != 0   ? "revoked"
                                     : info.policy.admin ? "admin  "
                                                         : "active ") +
                                    "  " + info.name + "\n"));
  }
  return FlushOutput();
}

void AddDatabase(CLI::App& app, Options& o) {
  app.add_option("--db", o.db, "key database, created where absent")->required();
  app.add_flag("--json", o.json, "JSON on stdout");
}

}  // namespace

CommandBody RegisterKeys(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.require_subcommand(1);

  CLI::App* create = app.add_subcommand("create", "make a key; prints it, once");
  AddDatabase(*create, *o);
  KeyPolicy& p = o->policy;
  create->add_option("--name", o->name, "whose key this is");
  create->add_option("--model", p.models, "model it may use (repeat; default: all)");
  create->add_option("--adapter", p.adapters, "adapter it may use (repeat; default: all)");
  create->add_option("--requests-per-minute", p.requests_per_minute, "0: unlimited")
      ->check(CLI::NonNegativeNumber);
  create->add_option("--tokens-per-minute", p.tokens_per_minute, "0: unlimited")
      ->check(CLI::NonNegativeNumber);
  create->add_option("--tokens-per-day", p.tokens_per_day, "0: unlimited")
      ->check(CLI::NonNegativeNumber);
  create->add_option("--max-concurrency", p.max_concurrency, "requests at once; 0: unlimited")
      ->check(CLI::NonNegativeNumber);
  create->add_option("--priority", p.priority, "higher is served first (serve --policy priority)");
  create->add_option("--weight", p.weight, "share of the machine (serve --policy fair)")
      ->check(CLI::Range(1, 1024));
  create->add_flag("--admin", p.admin, "may manage keys over the network");

  CLI::App* list = app.add_subcommand("list", "all keys, without their secrets");
  AddDatabase(*list, *o);
  CLI::App* rotate =
      app.add_subcommand("rotate", "new secret for a key; the old one stops working");
  AddDatabase(*rotate, *o);
  rotate->add_option("id", o->id, "the key's id")->required();
  CLI::App* revoke = app.add_subcommand("revoke", "end a key");
  AddDatabase(*revoke, *o);
  revoke->add_option("id", o->id, "the key's id")->required();

  return [o, create, list, rotate] {
    Status status;
    if (create->parsed()) {
      status = Create(*o);
    } else if (list->parsed()) {
      status = List(*o);
    } else if (rotate->parsed()) {
      status = Rotate(*o);
    } else {
      status = Revoke(*o);
    }
    return status.ok() ? kExitOk : Fail(kCommand, status);
  };
}

}  // namespace ink::cli
