// engram_worker simulate: what Engram costs an engine, by where its rows are.
//
// Makes a small table set and an engramd of its own, runs the same steps with every way to rows in
// turns, and prints tokens per second, what a step's stream waited for rows, and the loss against
// rows that are resident beside the compute.
#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <sstream>
#include <string>

#include "client/client.h"
#include "gpu/simulator/end_by_signal.h"
#include "gpu/simulator/experiment.h"
#include "memstore/addressing/families.h"
#include "memstore/base/message_line.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/malloc_tuning.h"
#include "memstore/os/standard_streams.h"
#include "memstore/pack/pack_options.h"
#include "memstore/program/help_format.h"
#include "memstore/program/parse_error.h"

namespace engram::simulator {
namespace {

constexpr int kFailed = 1;
// A processor's prefill step, where the model's own would take it seconds.
constexpr uint32_t kHostChunkTokens = 512;

// What is not asked for is 0 here and the model's in the experiment.
struct Flags {
  std::string model = "small";
  uint32_t width_divisor = 0, hidden = 0, blocks = 0;
  uint32_t sequences = 0, chunk_tokens = 0;
  uint64_t hot_cache_mib = 0;
  ExperimentOptions experiment;
};

void AddOptions(CLI::App* app, Flags* flags) {
  ExperimentOptions& experiment = flags->experiment;
  app->add_option("--backend", experiment.backend, "host or cuda")
      ->check(CLI::IsMember({"host", "cuda"}));
  app->add_option("--rows", experiment.rows,
                  "where rows are, beside resident (default: every way in turns but cluster, which "
                  "is two engramds with half of the rows each)")
      ->check(CLI::IsMember({"resident", "embedded", "mapped", "shm", "grpc", "cluster"}));
  app->add_option("--seconds", experiment.seconds,
                  "how long, all ways together (default 15; two turns of each at least)")
      ->check(CLI::Range(0.1, 3600.0))
      ->type_name("SECONDS");
  app->add_option("--model", flags->model,
                  "shape of the backbone: small, 4b, 8b, or v41 (DeepSeek-V4.1's geometry; needs "
                  "--token-map)")
      ->check(CLI::IsMember(ModelNames()));
  app->add_option("--width-divisor", flags->width_divisor,
                  "divide the model's widths (default: 1 on cuda; on host the least power of two "
                  "with which a step takes well under a second)")
      ->check(CLI::Range(1, 1024));
  app->add_option("--hidden", flags->hidden, "width of the small model's backbone")
      ->check(CLI::Range(16, 8192));
  app->add_option("--blocks", flags->blocks, "blocks of the backbone")->check(CLI::Range(2, 128));
  app->add_option("--sequences", flags->sequences,
                  "sequences side by side, each 100 to 1,024 tokens (default 512, small: 64)")
      ->check(CLI::Range(1, 4096));
  app->add_option("--chunk-tokens", flags->chunk_tokens,
                  "tokens of a prefill step (default 2048, on host 512, small: 128)")
      ->check(CLI::Range(1, 16384));
  app->add_option("--seed", experiment.traffic.seed, "of the sequences' lengths");
  app->add_option("--hot-cache-mib", flags->hot_cache_mib,
                  "keep rows that come often in device memory (all ways but mapped; default none)")
      ->check(CLI::Range(1, 1 << 20));
  app->add_option("--rows-per-head", experiment.rows_per_head,
                  "size of the table set (default 20000)")
      ->check(CLI::Range(1000, 20000000));
  app->add_option("--text", experiment.text_file,
                  "token ids to run over, raw int32 or a .npy file (default: a made-up text)")
      ->check(CLI::ExistingFile);
  app->add_option("--token-ids-type", experiment.text_type,
                  "what the raw token ids of --text are (default: int32, and what looks like int64 "
                  "is refused)")
      ->check(CLI::IsMember({"int32", "int64"}));
  app->add_option("--token-map", experiment.token_map, "of the model's family, where it has one")
      ->check(CLI::ExistingFile);
  app->add_option("--engramd", experiment.engramd,
                  "the server's program (default: beside this one)")
      ->type_name("FILE");
  app->add_flag("--json", experiment.json, "one JSON object a line");
}

absl::StatusOr<ExperimentOptions> Resolve(const Flags& flags) {
  if (std::isnan(flags.experiment.seconds)) {  // which no range leaves out
    return absl::InvalidArgumentError("--seconds is not a number");
  }
  absl::StatusOr<Model> model = FindModel(flags.model);
  if (!model.ok()) return model.status();
  ENGRAM_ASSIGN_OR_RETURN(const Family* const family, FindFamily(model->family));
  PackOptions pack;
  pack.token_map_file = flags.experiment.token_map;
  ENGRAM_RETURN_IF_ERROR(CheckTokenMapGiven(*family, pack));
  ExperimentOptions experiment = flags.experiment;
  const bool on_host = experiment.backend == "host";
  if (flags.hidden > 0) {
    if (flags.model != "small")
      return absl::InvalidArgumentError("--hidden is the small model's: take --width-divisor");
    const uint32_t width = flags.hidden;
    model->shape = {.hidden = width,
                    .blocks = model->shape.blocks,
                    .query = width,
                    .key_value = width,
                    .feed_forward = width * 8 / 3};
  }
  if (flags.blocks > 0) model->shape.blocks = flags.blocks;
  TrafficOptions& traffic = experiment.traffic;
  traffic.sequences = flags.sequences > 0 ? flags.sequences : model->sequences;
  traffic.chunk_tokens = flags.chunk_tokens > 0 ? flags.chunk_tokens
                         : on_host              ? std::min(kHostChunkTokens, model->chunk_tokens)
                                                : model->chunk_tokens;
  experiment.width_divisor = flags.width_divisor;
  if (experiment.width_divisor == 0) {
    experiment.width_divisor =
        on_host ? HostDivisor(model->shape, std::max(traffic.sequences, traffic.chunk_tokens)) : 1;
  }
  model->shape = model->shape.Narrowed(experiment.width_divisor);
  experiment.model = *model;
  experiment.hot_cache_bytes = flags.hot_cache_mib << 20;
  return experiment;
}

int Finish(const absl::Status& status) {
  if (status.ok()) return 0;
  std::fprintf(stderr, "engram_worker: %s\n", MessageLine(status.message()).c_str());
  return kFailed;
}

int Main(int argc, char** argv) {
  Flags flags;
  std::error_code error;
  flags.experiment.engramd =
      std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / "engramd";
  CLI::App app("engram_worker: what sits in an inference worker, tried out.", "engram_worker");
  UseProgramTexts(
      app,
      {.version = std::string(SdkVersion()),
       .section = "1",
       .exit_codes = {{"0", "done"}, {"1", "the work failed"}, {"2", "bad usage"}},
       .environment = {{"TMPDIR", "where the table set of a run lies, default /tmp"}},
       .examples = {{"engram_worker simulate --seconds 60 --rows grpc",
                     "What a small model loses whose rows come over gRPC, on this machine:"},
                    {"engram_worker simulate --backend cuda --model v41 --token-map "
                     "deepseek_v41_token_map.i32 --json",
                     "DeepSeek-V4.1's shape on a GPU, with rows from everywhere, for scripts:"}},
       .see_also = {"engram(1)", "engramd(8)"}});
  app.require_subcommand(1);
  CLI::App* const simulate =
      app.add_subcommand("simulate",
                         "Run an engine's steps with rows from everywhere, over a small table set "
                         "and an engramd of its "
                         "own, and print how long they took and what they waited for rows.");
  AddOptions(simulate, &flags);
  absl::StatusOr<ExperimentOptions> experiment = absl::UnknownError("not parsed");
  std::string help_command = "engram_worker simulate --help";
  try {
    app.parse(argc, argv);
    experiment = Resolve(flags);
  } catch (const CLI::Success& success) {
    std::ostringstream help;
    app.exit(success, help, help);
    return Finish(PrintToEnd(help.str()));
  } catch (const CLI::ParseError& wrong) {
    experiment = absl::InvalidArgumentError(ExplainParseError(app, wrong));
    help_command = HelpFor(app);
  }
  if (!experiment.ok()) {
    std::fprintf(stderr, "engram_worker: %s\nTry: %s\n",
                 MessageLine(experiment.status().message()).c_str(), help_command.c_str());
    return 2;
  }
  experiment->ends = &EndBySignal::Begin();
  // Before the time is spent on what nobody would see.
  absl::Status status = CheckStandardOutput();
  if (status.ok()) status = RunExperiment(*experiment);
  if (status.ok()) status = PrintToEnd("");
  return Finish(status);
}

}  // namespace
}  // namespace engram::simulator

int main(int argc, char** argv) {
  engram::EnsureStandardStreams("engram_worker");
  engram::KeepFreedMemory();
  return engram::simulator::Main(argc, argv);
}
