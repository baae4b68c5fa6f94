// The frame of the command line: each subcommand is one file cli/<name>.cc that defines one
// Register function, and one row of the table in main.cc.
//
//   CommandBody RegisterTokenize(CLI::App& app) {
//     auto options = std::make_shared<Options>();
//     app.add_option("-m", options->model, "model file")->required();
//     return [options] { return Run(*options); };  // the exit status
//   }
//
// The exit status is kExitOk only when the work was done. Messages go to stderr through common.h;
// stdout carries the result and nothing else.
#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace ink::cli {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;  // the work could not be done
inline constexpr int kExitUsage = 2;    // the command line (or a request it names) is wrong

/// Runs a command after its flags were parsed; returns the exit status.
using CommandBody = std::function<int()>;

/// Adds the command's options to `app` and returns what to run once they are parsed. Options live
/// in memory that the returned body owns.
using RegisterFunction = CommandBody (*)(CLI::App& app);

// One declaration per command, in the order of main.cc's table.
CommandBody RegisterConvert(CLI::App& app);
CommandBody RegisterQuantize(CLI::App& app);
CommandBody RegisterMerge(CLI::App& app);
CommandBody RegisterImatrix(CLI::App& app);
CommandBody RegisterRun(CLI::App& app);
CommandBody RegisterChat(CLI::App& app);
CommandBody RegisterLogits(CLI::App& app);
CommandBody RegisterPerplexity(CLI::App& app);
CommandBody RegisterEval(CLI::App& app);
CommandBody RegisterPlan(CLI::App& app);
CommandBody RegisterBench(CLI::App& app);
CommandBody RegisterTokenize(CLI::App& app);
CommandBody RegisterTrain(CLI::App& app);
CommandBody RegisterFinetune(CLI::App& app);
CommandBody RegisterTokenizer(CLI::App& app);
CommandBody RegisterTemplate(CLI::App& app);
CommandBody RegisterConstrain(CLI::App& app);
CommandBody RegisterServe(CLI::App& app);
CommandBody RegisterKeys(CLI::App& app);
CommandBody RegisterLoadtest(CLI::App& app);

}  // namespace ink::cli
