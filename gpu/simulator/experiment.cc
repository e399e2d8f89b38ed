#include "gpu/simulator/experiment.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/client.h"
#include "client/token_files/token_id_reader.h"
#include "gpu/simulator/engine.h"
#include "gpu/simulator/own_server.h"
#include "gpu/simulator/summary.h"
#include "memstore/base/clock.h"
#include "memstore/base/human_units.h"

namespace engram::simulator {
namespace {

// Steps of a way before the next has its turn: prefill and decode.
constexpr size_t kSlice = 3 * kPrefillSteps;
constexpr absl::Duration kAttachTime = absl::Seconds(30);
// Of a cluster: what it costs that there are several.
constexpr uint32_t kPartitions = 2;
constexpr size_t kMadeUpTokens = 1 << 18;
// Of a file: more than any number of sequences runs over, and 256 MiB.
constexpr size_t kMaxTextTokens = 1 << 26;

// Words of a made-up text, of which a few come often, as in any; or of the file.
absl::StatusOr<std::vector<int32_t>> Text(const ExperimentOptions& options, uint32_t vocab_size) {
  if (options.text_file.empty()) {
    std::vector<int32_t> text(kMadeUpTokens);
    std::mt19937 random(1);
    std::geometric_distribution<int32_t> rank(0.002);
    for (int32_t& id : text) id = rank(random) * 7 % static_cast<int32_t>(vocab_size);
    return text;
  }
  absl::StatusOr<std::vector<int32_t>> text = ReadTokenIds(
      options.text_file, {.type = ParseTokenIdType(options.text_type)}, kMaxTextTokens);
  if (!text.ok()) {
    return absl::Status(text.status().code(), absl::StrCat("--text ", text.status().message()));
  }
  const auto wrong = std::find_if(text->begin(), text->end(), [vocab_size](int32_t id) {
    return id < 0 || static_cast<uint32_t>(id) >= vocab_size;
  });
  if (text->empty() || wrong != text->end()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--text ", options.text_file, ": token ids as int32, each below ", vocab_size,
        ", are needed",
        text->empty() ? ", and there are none" : absl::StrCat(", and one is ", *wrong)));
  }
  return text;
}

struct Contender {
  std::string rows;
  std::unique_ptr<Client> client;  // outlives the way
  std::unique_ptr<Way> way;        // null: no Engram
  std::vector<Taken> turns;
};

uint32_t MaxTokens(const TrafficOptions& traffic) {
  return std::max(traffic.chunk_tokens, traffic.sequences);
}

absl::StatusOr<Contender> MakeContender(const std::string& rows, const OwnServer& server,
                                        Device& device, const ExperimentOptions& options) {
  Contender contender;
  contender.rows = rows;
  if (rows == "none") return contender;
  std::string target = absl::StrCat("embedded:", server.set());
  if (rows == "shm") target = absl::StrCat("shm:", server.shm());
  if (rows == "grpc") target = absl::StrCat("grpc:unix:", server.socket());
  if (rows == "cluster") target = server.cluster();
  AttachOptions attach;
  attach.timeout = kAttachTime;
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Attach(target, attach);
  if (!client.ok()) return client.status();
  contender.client = *std::move(client);
  const uint32_t tokens = MaxTokens(options.traffic);
  const bool mapped = rows == "mapped";
  absl::StatusOr<std::unique_ptr<Way>> way =
      rows == "resident"
          ? MakeResident(*contender.client, device, tokens, tokens)
          : MakePrefetched(*contender.client, device,
                           {.path = mapped ? FetchPath::kMapped : FetchPath::kTransport,
                            .max_tokens = tokens,
                            .hot_cache_bytes = mapped ? 0 : options.hot_cache_bytes});
  if (!way.ok()) return way.status();
  contender.way = *std::move(way);
  return contender;
}

// What stands above a table: nothing that was made smaller goes unsaid.
void PrintSetting(const ExperimentOptions& options, const Device& device) {
  const BackboneShape& shape = options.model.shape;
  std::printf("model %s: %s of width %u, feed-forward %u", options.model.name.data(),
              Counted(shape.blocks, "block").c_str(), shape.hidden, shape.feed_forward);
  if (options.width_divisor > 1) {
    std::printf(
        " (SCALED: all widths are 1/%u of the model's, for this backend; rows and blocks are not)",
        options.width_divisor);
  }
  std::printf(
      "\nsteps: %s decoded side by side, prompts of %u to %u tokens prefilled %u a step\n"
      "device: %s\n",
      Counted(options.traffic.sequences, "sequence").c_str(), options.traffic.shortest,
      options.traffic.longest, options.traffic.chunk_tokens, device.Describe().c_str());
}

Summary SummaryOf(const Contender& one, const Contender& resident) {
  // What is resident is gathered by the stream itself: work, not a wait.
  const bool waits = one.rows != "none" && one.rows != "resident";
  return Summarize(one.turns, resident.turns, waits);
}

double HitShare(const Contender& one) {
  const HotCacheCounts counts = one.way == nullptr ? HotCacheCounts{} : one.way->hot_cache();
  const auto groups = static_cast<double>(counts.hits + counts.misses);
  return groups == 0 ? 0 : static_cast<double>(counts.hits) / groups;
}

std::string JsonLine(const Contender& one, const Summary& summary, const ExperimentOptions& options,
                     const Device& device) {
  nlohmann::json object = {{"rows", one.rows},
                           {"backend", options.backend},
                           {"model", std::string(options.model.name)},
                           {"width_divisor", options.width_divisor},
                           {"device", device.Describe()},
                           {"turns", summary.turns},
                           {"step_ms", summary.step_ms},
                           {"tokens_per_s", summary.tokens_per_s},
                           {"tokens_per_s_spread", summary.tokens_per_s_spread},
                           {"exposed_wait_share", summary.exposed_share},
                           {"loss_percent", nullptr},
                           {"loss_percent_low", nullptr},
                           {"loss_percent_high", nullptr}};
  if (summary.loss_percent) object["loss_percent"] = *summary.loss_percent;
  if (summary.loss_interval) {
    object["loss_percent_low"] = summary.loss_interval->low;
    object["loss_percent_high"] = summary.loss_interval->high;
  }
  if (options.hot_cache_bytes > 0) object["hot_cache_hit_share"] = HitShare(one);
  return object.dump();
}

// "3.12 (2.50..3.90)", or "- (-0.40..0.60)" where it can't be told from none.
std::string LossText(const Summary& summary) {
  std::string text = summary.loss_percent ? absl::StrFormat("%.2f", *summary.loss_percent) : "-";
  if (summary.loss_interval) {
    absl::StrAppendFormat(&text, " (%.2f..%.2f)", summary.loss_interval->low,
                          summary.loss_interval->high);
  }
  return text;
}

// Behind a run, whatever it is printed as: numbers of it are quoted.
void SayWhatItShows(const std::vector<Contender>& contenders, const ExperimentOptions& options) {
  std::fprintf(stderr,
               "note: medians of %s; tokens_per_s with half of the range of the middle half "
               "of them; loss_percent is against resident rows in the same turn, with the range in "
               "which its median lies in 95 of 100 cases, and is left open where that holds 0 or "
               "there are fewer than 6 turns (give more --seconds). none is the model without "
               "Engram: its loss is what Engram takes, with a minus.\n",
               Counted(contenders.front().turns.size(), "turn").c_str());
  if (options.backend != "host") return;
  std::fprintf(stderr,
               "note: this ran on the processor, without a GPU. It shows that each way brings the "
               "rows of a step in time, and how long the steps waited for them here. It can't show "
               "what Engram costs on a GPU: compute, gathering and engramd share these cores, so "
               "that tokens_per_s and losses depend on how many there are, and resident rows are "
               "gathered by the stream that computes%s. For that, run --backend cuda.\n",
               options.width_divisor > 1 ? "; widths are scaled down as well" : "");
}

void Report(const std::vector<Contender>& contenders, const ExperimentOptions& options,
            const Device& device) {
  const bool caches = options.hot_cache_bytes > 0;
  const auto resident = std::find_if(contenders.begin(), contenders.end(),
                                     [](const Contender& one) { return one.rows == "resident"; });
  if (!options.json) {
    PrintSetting(options, device);
    std::printf("%-9s  %-7s  step_ms  tokens_per_s  +-spread  exposed_wait_share  loss_percent%s\n",
                "rows", "backend", caches ? "           hot_cache_hit_share" : "");
  }
  for (const Contender& one : contenders) {
    const Summary summary = SummaryOf(one, *resident);
    if (options.json) {
      std::printf("%s\n", JsonLine(one, summary, options, device).c_str());
      continue;
    }
    std::printf("%-9s  %-7s  %7.2f  %12.0f  %8.0f  %18.4f  %-21s", one.rows.c_str(),
                options.backend.c_str(), summary.step_ms, summary.tokens_per_s,
                summary.tokens_per_s_spread, summary.exposed_share, LossText(summary).c_str());
    if (caches) std::printf("  %19.4f", HitShare(one));
    std::printf("\n");
  }
  std::fflush(stdout);
  SayWhatItShows(contenders, options);
}

// Every way runs the same slice of steps in its turn, until the time is up and all have run as
// many.
absl::Status Measure(Engine& engine, const std::vector<TrafficStep>& steps, double seconds,
                     std::vector<Contender>& contenders) {
  const bool shows_progress = isatty(STDERR_FILENO) != 0;
  const MonotonicTime begin = RealClock().Now();
  const absl::Duration time = absl::Seconds(seconds);
  size_t first = 0;
  // The first slice warms up.
  for (size_t slices = 0; slices < 2 || RealClock().Now() - begin < time; ++slices) {
    const auto slice = absl::MakeConstSpan(steps).subspan(first, kSlice);
    for (Contender& one : contenders) {
      Taken taken;
      if (absl::Status status = engine.Run(slice, one.way.get(), &taken); !status.ok()) {
        return absl::Status(status.code(), absl::StrCat(one.rows, ": ", status.message()));
      }
      if (slices > 0) one.turns.push_back(taken);
    }
    first += kSlice;
    if (first >= steps.size()) first = 0;
    if (shows_progress) {
      const double share = absl::FDivDuration(RealClock().Now() - begin, time);
      std::fprintf(stderr, "\r%3.0f %%", 100 * std::min(1.0, share));
    }
  }
  if (shows_progress) std::fprintf(stderr, "\r     \r");
  return absl::OkStatus();
}

}  // namespace

absl::Status RunExperiment(const ExperimentOptions& options) {
  const absl::StatusOr<std::unique_ptr<Device>> device =
      OpenDevice(options.backend == "cuda" ? DeviceKind::kCuda : DeviceKind::kHost, {});
  if (!device.ok()) {
    return absl::Status(device.status().code(), absl::StrCat("--backend ", options.backend, ": ",
                                                             device.status().message()));
  }
  OwnServer server;
  absl::Status status = server.Start({.engramd = options.engramd,
                                      .family = options.model.family,
                                      .token_map = options.token_map,
                                      .rows_per_head = options.rows_per_head,
                                      .partitions = options.rows == "cluster" ? kPartitions : 0,
                                      .ends = options.ends});
  if (!status.ok()) return status;
  std::vector<std::string> wanted = {"none", "resident"};
  if (options.rows.empty()) {
    for (const char* rows : {"embedded", "mapped", "shm", "grpc"}) wanted.push_back(rows);
  } else if (options.rows != "resident") {
    wanted.push_back(options.rows);
  }
  std::vector<Contender> contenders;
  for (const std::string& rows : wanted) {
    absl::StatusOr<Contender> contender = MakeContender(rows, server, **device, options);
    if (!contender.ok()) return contender.status();
    contenders.push_back(*std::move(contender));
  }
  Client& client = *contenders[1].client;
  const auto text = Text(options, client.table_set().scheme.vocab_size);
  if (!text.ok()) return text.status();
  const auto steps = MakeTraffic(client.addresser(), *text, options.traffic);
  if (!steps.ok()) return steps.status();
  const absl::StatusOr<std::unique_ptr<Engine>> engine =
      Engine::Create(client.table_set(), options.model.shape, options.model.branches, **device,
                     MaxTokens(options.traffic));
  if (!engine.ok()) return engine.status();
  status = Measure(**engine, *steps, options.seconds, contenders);
  if (!status.ok()) return status;
  Report(contenders, options, **device);
  return absl::OkStatus();
}

}  // namespace engram::simulator
