// engram_worker simulate: what Engram costs an engine, by where its rows are.
//
// Makes a small table set and an engramd of its own, runs the same steps with every way to rows in
// turns, and prints tokens per second, what a step's stream waited for rows, and the loss against
// rows that are resident beside the compute.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "gpu/simulator/engine.h"
#include "memstore/addressing/families.h"
#include "memstore/table/freed_memory.h"
#include "memstore/table/pack_synthetic.h"

namespace engram::simulator {
namespace {

constexpr int kFailed = 1;
// The paper's geometry: one Engram layer, in the second block; raw ids, so that no token map is
// needed.
constexpr char kFamily[] = "qwen4-exp";
// Steps of a way before the next has its turn: prefill and decode.
constexpr size_t kSlice = 3 * kPrefillSteps;
constexpr absl::Duration kAttachTime = absl::Seconds(30);

struct Flags {
  std::string backend = "host";
  std::string rows;
  double seconds = 15;
  bool json = false;
  BackboneShape shape{.hidden = 96, .blocks = 12};
  TrafficOptions traffic{.sequences = 64};
  uint64_t rows_per_head = 20000;
  std::string engramd;
};

// A directory and an engramd that go when it goes.
class OwnServer {
 public:
  ~OwnServer() {
    if (pid_ > 0) {
      kill(pid_, SIGTERM);
      waitpid(pid_, nullptr, 0);
    }
    std::error_code error;
    if (!directory_.empty()) std::filesystem::remove_all(directory_, error);
  }
  absl::Status Start(const Flags& flags) {
    if (access(flags.engramd.c_str(), X_OK) != 0) {
      return absl::NotFoundError(
          absl::StrCat("there is no engramd at ", flags.engramd,
                       ": `./run build` makes one, --engramd names another"));
    }
    std::string name = std::filesystem::temp_directory_path() / "engram-worker-XXXXXX";
    if (mkdtemp(name.data()) == nullptr)
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot make ", name));
    directory_ = name;
    PackOptions options;
    options.output = set();
    options.rows_per_head = flags.rows_per_head;
    const absl::StatusOr<const Family*> family = FindFamily(kFamily);
    if (!family.ok()) return family.status();
    if (const auto packed = PackSynthetic(**family, options); !packed.ok()) return packed.status();
    const std::string address = absl::StrCat("unix:", socket()), table_set = set(), shared = shm();
    pid_ = fork();
    if (pid_ == 0) {
      const char* const arguments[] = {
          flags.engramd.c_str(), "--table-set",  table_set.c_str(), "--listen",
          address.c_str(),       "--shm-socket", shared.c_str(),    nullptr};
      // Its lines are its own affair.
      if (freopen("/dev/null", "w", stderr) == nullptr) _exit(127);
      execv(flags.engramd.c_str(), const_cast<char* const*>(arguments));
      _exit(127);
    }
    if (pid_ < 0) return absl::ErrnoToStatus(errno, "cannot start engramd");
    return absl::OkStatus();
  }
  std::string set() const { return directory_ + "/set"; }
  std::string socket() const { return directory_ + "/grpc"; }
  std::string shm() const { return directory_ + "/shm"; }

 private:
  std::string directory_;
  pid_t pid_ = -1;
};

// Words of a made-up text: a few come often, as in any.
std::vector<int32_t> Text(uint32_t vocab_size) {
  std::mt19937 random(1);
  std::geometric_distribution<int32_t> rank(0.002);
  std::vector<int32_t> text(1 << 18);
  for (int32_t& id : text) id = rank(random) * 7 % static_cast<int32_t>(vocab_size);
  return text;
}

struct Contender {
  std::string rows;
  std::unique_ptr<Client> client;  // outlives the way
  std::unique_ptr<Way> way;        // null: no Engram
  Taken taken;

  double TokensPerS() const {
    return static_cast<double>(taken.tokens) * 1e9 / static_cast<double>(taken.ns);
  }
};

absl::StatusOr<Contender> MakeContender(const std::string& rows, const OwnServer& server,
                                        Device& device, const Flags& flags) {
  Contender contender;
  contender.rows = rows;
  if (rows == "none") return contender;
  std::string target = absl::StrCat("embedded:", server.set());
  if (rows == "shm") target = absl::StrCat("shm:", server.shm());
  if (rows == "grpc") target = absl::StrCat("grpc:unix:", server.socket());
  AttachOptions options;
  options.timeout = kAttachTime;
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Attach(target, options);
  if (!client.ok()) return client.status();
  contender.client = *std::move(client);
  const uint32_t tokens = std::max(flags.traffic.chunk_tokens, flags.traffic.sequences);
  absl::StatusOr<std::unique_ptr<Way>> way =
      rows == "resident"
          ? MakeResident(*contender.client, device, tokens, tokens)
          : MakePrefetched(*contender.client, device,
                           rows == "mapped" ? RowSource::kMapped : RowSource::kTransport, tokens);
  if (!way.ok()) return way.status();
  contender.way = *std::move(way);
  return contender;
}

void Report(const std::vector<Contender>& contenders, const Flags& flags) {
  double resident = 0;
  for (const Contender& one : contenders) {
    if (one.rows == "resident") resident = one.TokensPerS();
  }
  if (!flags.json)
    std::printf("%-9s  %-7s  step_ms  tokens_per_s  exposed_wait_share  loss_percent\n", "rows",
                "backend");
  for (const Contender& one : contenders) {
    const double step_ms =
        static_cast<double>(one.taken.ns) / 1e6 / static_cast<double>(one.taken.steps);
    // What is resident is gathered by the stream itself: work, not a wait.
    const bool waits = one.rows != "none" && one.rows != "resident";
    const double exposed =
        waits ? static_cast<double>(one.taken.exposed_ns) / static_cast<double>(one.taken.ns) : 0;
    const double loss = 100 * (1 - one.TokensPerS() / resident);
    if (flags.json) {
      std::printf("%s\n", nlohmann::json({{"rows", one.rows},
                                          {"backend", flags.backend},
                                          {"step_ms", step_ms},
                                          {"tokens_per_s", one.TokensPerS()},
                                          {"exposed_wait_share", exposed},
                                          {"loss_percent", loss}})
                              .dump()
                              .c_str());
    } else {
      std::printf("%-9s  %-7s  %7.2f  %12.0f  %18.4f  %12.2f\n", one.rows.c_str(),
                  flags.backend.c_str(), step_ms, one.TokensPerS(), exposed, loss);
    }
  }
}

// Every way runs the same slice of steps in its turn, until the time is up and all have run as
// many.
absl::Status Measure(Engine& engine, const std::vector<TrafficStep>& steps, const Flags& flags,
                     std::vector<Contender>& contenders) {
  const bool shows_progress = isatty(STDERR_FILENO) != 0;
  const absl::Time begin = absl::Now();
  const absl::Duration time = absl::Seconds(flags.seconds);
  size_t first = 0;
  // The first slice warms up.
  for (size_t slices = 0; slices < 2 || absl::Now() - begin < time; ++slices) {
    const auto slice = absl::MakeConstSpan(steps).subspan(first, kSlice);
    for (Contender& one : contenders) {
      if (slices == 1) one.taken = {};
      if (absl::Status status = engine.Run(slice, one.way.get(), &one.taken); !status.ok()) {
        return absl::Status(status.code(), absl::StrCat(one.rows, ": ", status.message()));
      }
    }
    first += kSlice;
    if (first >= steps.size()) first = 0;
    if (shows_progress) {
      const double share = absl::FDivDuration(absl::Now() - begin, time);
      std::fprintf(stderr, "\r%3.0f %%", 100 * std::min(1.0, share));
    }
  }
  if (shows_progress) std::fprintf(stderr, "\r     \r");
  return absl::OkStatus();
}

absl::Status Simulate(const Flags& flags) {
  const absl::StatusOr<std::unique_ptr<Device>> device =
      OpenDevice(flags.backend == "cuda" ? DeviceKind::kCuda : DeviceKind::kHost, {});
  if (!device.ok()) return device.status();
  OwnServer server;
  if (absl::Status status = server.Start(flags); !status.ok()) return status;
  std::vector<std::string> wanted = {"none", "resident"};
  if (flags.rows.empty()) {
    for (const char* rows : {"embedded", "mapped", "shm", "grpc"}) wanted.push_back(rows);
  } else if (flags.rows != "resident") {
    wanted.push_back(flags.rows);
  }
  std::vector<Contender> contenders;
  for (const std::string& rows : wanted) {
    absl::StatusOr<Contender> contender = MakeContender(rows, server, **device, flags);
    if (!contender.ok()) return contender.status();
    contenders.push_back(*std::move(contender));
  }
  Client& client = *contenders[1].client;
  const absl::StatusOr<std::vector<TrafficStep>> steps =
      MakeTraffic(client.addresser(), Text(client.table_set().scheme.vocab_size), flags.traffic);
  if (!steps.ok()) return steps.status();
  const absl::StatusOr<std::unique_ptr<Engine>> engine =
      Engine::Create(client.table_set(), flags.shape, **device,
                     std::max(flags.traffic.chunk_tokens, flags.traffic.sequences));
  if (!engine.ok()) return engine.status();
  if (absl::Status status = Measure(**engine, *steps, flags, contenders); !status.ok())
    return status;
  Report(contenders, flags);
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  Flags flags;
  std::error_code error;
  flags.engramd = std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / "engramd";
  CLI::App app(
      "engram_worker: what sits in an inference worker, tried out.\nExit codes: 0 done, 1 the work "
      "failed, 2 bad usage.");
  app.require_subcommand(1);
  CLI::App* const simulate = app.add_subcommand(
      "simulate",
      "an engine's steps with rows from everywhere; makes its own small set and server");
  simulate->add_option("--backend", flags.backend, "host or cuda")
      ->check(CLI::IsMember({"host", "cuda"}));
  simulate
      ->add_option("--rows", flags.rows,
                   "where rows are, beside resident (default: every way in turns)")
      ->check(CLI::IsMember({"resident", "embedded", "mapped", "shm", "grpc"}));
  simulate->add_option("--seconds", flags.seconds, "how long, all ways together (default 15)")
      ->check(CLI::Range(0.1, 3600.0));
  simulate->add_option("--hidden", flags.shape.hidden, "width of the backbone")
      ->check(CLI::Range(16, 8192));
  simulate
      ->add_option("--blocks", flags.shape.blocks,
                   "blocks of the backbone; Engram is in the second")
      ->check(CLI::Range(2, 128));
  simulate
      ->add_option("--sequences", flags.traffic.sequences,
                   "sequences side by side, each 100 to 1,024 tokens")
      ->check(CLI::Range(1, 4096));
  simulate->add_option("--chunk-tokens", flags.traffic.chunk_tokens, "tokens of a prefill step")
      ->check(CLI::Range(1, 16384));
  simulate->add_option("--engramd", flags.engramd,
                       "the server's program (default: beside this one)");
  simulate->add_flag("--json", flags.json, "one JSON object a line");
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& wrong) {
    std::fprintf(stderr, "engram_worker: %s\nTry: engram_worker simulate --help\n", wrong.what());
    return 2;
  }
  const absl::Status status = Simulate(flags);
  if (status.ok()) return 0;
  std::fprintf(stderr, "engram_worker: %s\n", std::string(status.message()).c_str());
  return kFailed;
}

}  // namespace
}  // namespace engram::simulator

int main(int argc, char** argv) {
  engram::KeepFreedMemory();
  return engram::simulator::Main(argc, argv);
}
