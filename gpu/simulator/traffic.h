// What an engine is asked for: prompts of random lengths over a text, prefilled in chunks, and
// sequences decoded a token a step, as many side by side as a batch holds; a few prefill steps,
// then twice as many of decode, and again. The same steps for every way to rows.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "absl/status/statusor.h"
#include "gpu/prefetch/prefetcher.h"
#include "memstore/addressing/addresser.h"

namespace engram::simulator {

// Prefill steps in a row; twice as many of decode follow.
inline constexpr size_t kPrefillSteps = 2;

struct TrafficOptions {
  uint32_t sequences = 64;  // decoded side by side
  uint32_t shortest = 100;  // tokens of a prompt, uniform between the two
  uint32_t longest = 1024;
  uint32_t chunk_tokens = 128;  // prefilled in a step
  uint32_t seed = 20261126;
};

struct TrafficStep {
  std::vector<SequenceTokens> sequences;
  std::vector<int32_t> token_ids;
  bool is_prefill = false;
};

inline absl::StatusOr<std::vector<TrafficStep>> MakeTraffic(const Addresser& addresser,
                                                            const std::vector<int32_t>& text,
                                                            const TrafficOptions& options) {
  std::mt19937 random(options.seed);
  std::uniform_int_distribution<uint32_t> length(options.shortest, options.longest);
  struct Sequence {
    size_t at = 0;
    SequenceState state = Addresser::Start();
  };
  std::vector<Sequence> sequences(options.sequences);
  std::vector<TrafficStep> steps;
  // The next tokens of a sequence, which goes round and round the text.
  const auto take = [&](Sequence& sequence, uint32_t tokens, TrafficStep* step) {
    const size_t first = step->token_ids.size();
    step->sequences.push_back({.state = sequence.state, .tokens = tokens});
    for (uint32_t i = 0; i < tokens; ++i)
      step->token_ids.push_back(text[(sequence.at + i) % text.size()]);
    sequence.at += tokens;
    return addresser.Advance(absl::MakeConstSpan(step->token_ids).subspan(first), {},
                             &sequence.state);
  };
  TrafficStep step;
  for (size_t s = 0; s < sequences.size(); ++s) {
    sequences[s].at = s * (text.size() / sequences.size());
    for (uint32_t left = length(random); left > 0;) {
      const auto room = options.chunk_tokens - static_cast<uint32_t>(step.token_ids.size());
      const uint32_t part = std::min(left, room);
      step.is_prefill = true;
      if (absl::Status status = take(sequences[s], part, &step); !status.ok()) return status;
      left -= part;
      if (step.token_ids.size() < options.chunk_tokens) continue;
      steps.push_back(std::exchange(step, {}));
    }
  }
  if (!step.token_ids.empty()) steps.push_back(std::exchange(step, {}));
  std::vector<TrafficStep> mixed;
  for (size_t i = 0; i < steps.size(); ++i) {
    mixed.push_back(std::move(steps[i]));
    if ((i + 1) % kPrefillSteps != 0) continue;
    for (size_t j = 0; j < 2 * kPrefillSteps; ++j) {
      for (Sequence& sequence : sequences) {
        if (absl::Status status = take(sequence, 1, &step); !status.ok()) return status;
      }
      mixed.push_back(std::exchange(step, {}));
    }
  }
  return mixed;
}

}  // namespace engram::simulator
