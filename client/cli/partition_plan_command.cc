// engram partition-plan: which store is to hold what of a table set, and what losing one would
// cost.

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/support/command.h"
#include "client/cli/support/table_set_argument.h"
#include "memstore/base/human_units.h"
#include "memstore/partition/partition.h"
#include "memstore/partition/partition_plan.h"
#include "memstore/table/manifest.h"

namespace engram::cli {
namespace {

struct PlanFlags {
  uint32_t stores = 0;
  uint32_t replicas = 1;
  std::optional<uint64_t> memory_per_store;
  bool json = false;
};

std::string IndexText(const PartitionIndex& index) {
  return absl::StrCat(index.index, "/", index.count);
}

// What whoever runs the cluster asks first.
std::string LossText(const PlannedPartition& partition) {
  if (partition.replicas < 2) return "every lookup fails until it is back";
  return absl::StrFormat("no lookup; each replica left answers %.2f times as much",
                         partition.load_after_loss());
}

std::string AsJson(const Manifest& manifest, const PartitionPlan& plan) {
  nlohmann::ordered_json partitions = nlohmann::ordered_json::array();
  for (const PlannedPartition& partition : plan.partitions) {
    nlohmann::ordered_json layers = nlohmann::ordered_json::array();
    for (const HeldColumns& layer : partition.columns) {
      nlohmann::ordered_json columns = nlohmann::ordered_json::array();
      for (const ColumnRun& run : layer.runs) {
        columns.push_back({run.first_column, run.first_column + run.columns - 1});
      }
      layers.push_back({{"layer", layer.layer}, {"columns", columns}});
    }
    partitions.push_back({{"partition", IndexText(partition.index)},
                          {"rows", partition.rows},
                          {"bytes", partition.bytes},
                          {"replicas", partition.replicas},
                          {"layers", layers}});
  }
  nlohmann::ordered_json stores = nlohmann::ordered_json::array();
  for (uint32_t store = 0; store < plan.stores; ++store) {
    const PlannedPartition& partition = plan.partitions[plan.PartitionOf(store)];
    nlohmann::ordered_json loss = {{"lookups_fail", partition.replicas < 2}};
    if (partition.replicas > 1) loss["load_of_its_replicas"] = partition.load_after_loss();
    stores.push_back({{"store", store},
                      {"partition", IndexText(partition.index)},
                      {"bytes", partition.bytes},
                      {"loss", loss}});
  }
  const nlohmann::ordered_json out = {{"id", manifest.id},
                                      {"name", manifest.name},
                                      {"table_bytes", plan.table_bytes},
                                      {"most_bytes_of_a_store", plan.most_bytes},
                                      {"partitions", partitions},
                                      {"stores", stores}};
  return out.dump(2) + "\n";
}

std::string AsText(const Manifest& manifest, const PartitionPlan& plan) {
  std::string out = absl::StrCat(manifest.name, ": ", HumanBytes(plan.table_bytes), " in ",
                                 Counted(plan.partitions.size(), "partition"), " on ",
                                 Counted(plan.stores, "store"), "; a store holds ",
                                 HumanBytes(plan.most_bytes), " at most\n\n");
  absl::StrAppendFormat(&out, "%9s %8s %12s  %s\n", "partition", "replicas", "bytes", "columns");
  for (const PlannedPartition& partition : plan.partitions) {
    absl::StrAppendFormat(&out, "%9s %8d %12s  %s\n", IndexText(partition.index),
                          partition.replicas, HumanBytes(partition.bytes),
                          ToString(partition.columns));
  }
  absl::StrAppendFormat(&out, "\n%5s %9s %12s  %s\n", "store", "partition", "bytes",
                        "its loss costs");
  for (uint32_t store = 0; store < plan.stores; ++store) {
    const PlannedPartition& partition = plan.partitions[plan.PartitionOf(store)];
    absl::StrAppendFormat(&out, "%5d %9s %12s  %s\n", store, IndexText(partition.index),
                          HumanBytes(partition.bytes), LossText(partition));
  }
  return out;
}

int Run(const std::string& directory, const PlanFlags& flags) {
  const absl::StatusOr<Manifest> manifest = LoadManifest(directory);
  if (!manifest.ok()) return Finish(manifest.status());
  std::vector<uint32_t> row_bytes;
  for (const LayerTableSpec& layer : manifest->layers) row_bytes.push_back(layer.row_bytes);
  const absl::StatusOr<PartitionPlan> plan =
      PlanPartitions(manifest->scheme, row_bytes,
                     {.stores = flags.stores,
                      .replicas = flags.replicas,
                      .memory_per_store = flags.memory_per_store});
  if (!plan.ok()) {
    return Finish(plan.status(), absl::IsInvalidArgument(plan.status()) ? kBadUsage : kFailed);
  }
  return Finish(Print(flags.json ? AsJson(*manifest, *plan) : AsText(*manifest, *plan)));
}

}  // namespace

void AddPartitionPlanCommand(CLI::App& app, CommandBody* chosen) {
  auto flags = std::make_shared<PlanFlags>();
  CLI::App* const command = AddTableSetCommand(
      app, "partition-plan",
      "Say which store is to hold what of a table set, how much memory that takes, and what the\n"
      "loss of any one store would cost. Reads the manifest alone.",
      chosen, [flags](const std::string& directory) { return Run(directory, *flags); });
  command->add_option("--stores", flags->stores, "how many stores there are")->required();
  command->add_option("--replicas", flags->replicas,
                      "stores of each partition, at least (default 1: the loss of one stops all "
                      "lookups)");
  command->add_option("--memory-per-store", flags->memory_per_store,
                      "bytes that each store has for rows: 4 GiB less than the machine's for all "
                      "else; a plan that does not fit is refused, and how many stores would do is "
                      "said");
  command->add_flag("--json", flags->json, "one JSON object instead of text");
}

}  // namespace engram::cli
