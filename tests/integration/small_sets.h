// Small table sets of real families for tests that cross rooms, and what their rows must be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "client/client.h"
#include "memstore/base/clock.h"

namespace engram::integration {

inline constexpr char kTokenStream[] = "tests/golden/tokens_en_handbook.i32";

// A directory of this test's own, whose path is short enough for a Unix socket; emptied and removed
// when it goes.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Packs a synthetic set of `family` to `directory`; a test failure when that fails.
void PackSmallSet(const std::string& family, uint64_t rows_per_head, const std::string& directory);

// The first `count` ids of the token stream in tests/golden.
std::vector<int32_t> RealTokenIds(size_t count);

// What `engram lookup` writes for a whole sequence, made from the synthetic rule alone.
std::string ExpectedRows(const Manifest& manifest, const Addresser& addresser,
                         absl::Span<const int32_t> token_ids);

// The same through the client, as one batch.
absl::StatusOr<std::string> LookUp(Client& client, absl::Span<const int32_t> token_ids,
                                   MonotonicTime deadline);

// Landings of one buffer laid out [tokens, layers, columns * row_bytes], and the bytes of a token.
std::vector<Landing> DenseLandings(const Manifest& manifest, std::byte* rows);
uint64_t TokenBytes(const Manifest& manifest);

std::string ReadFile(const std::string& path);
void WriteFile(const std::string& path, const std::string& bytes);

}  // namespace engram::integration
