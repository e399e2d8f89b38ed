// The paper's experiment: the same steps with rows from everywhere, in turns, and what each way
// loses against rows that are resident beside the compute.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gpu/simulator/end_by_signal.h"
#include "gpu/simulator/models.h"
#include "gpu/simulator/traffic.h"

namespace engram::simulator {

struct ExperimentOptions {
  std::string backend = "host";
  std::string rows;  // beside resident; empty: every way
  double seconds = 15;
  bool json = false;
  Model model;                 // its shape as it is to be computed
  uint32_t width_divisor = 1;  // what its widths were divided by, to be said
  TrafficOptions traffic;
  std::string text_file;  // token ids; empty: a made-up text
  std::string text_type;  // of raw ones, "int32" or "int64"; empty: not said
  uint64_t hot_cache_bytes = 0;
  uint64_t rows_per_head = 20000;
  std::string token_map;
  std::string engramd;
  EndBySignal* ends = nullptr;  // outlives the experiment
};

// Prints the table, or JSON lines, to stdout.
absl::Status RunExperiment(const ExperimentOptions& options);

}  // namespace engram::simulator
