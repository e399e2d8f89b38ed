// engram pack of a checkpoint keeps to a small, fixed memory, whatever the checkpoint's size.

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/config.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "memstore/addressing/families.h"

extern char** environ;

namespace engram::integration {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMemoryLimitBytes = 512u << 20;
// Of rows: three times the limit, so that whoever kept what it read would be far above it.
constexpr uint64_t kRowsPerHead = 300'000;
constexpr uint64_t kRowBytes = 320;
constexpr std::chrono::milliseconds kLookInterval{2};

// What no file backs, of process `pid`: RssAnon + RssShmem; 0 when it is gone.
uint64_t HeldBytes(pid_t pid) {
  std::ifstream status(absl::StrCat("/proc/", pid, "/status"));
  uint64_t kib = 0;
  for (std::string line; std::getline(status, line);) {
    std::istringstream words(line);
    std::string name;
    uint64_t number = 0;
    words >> name >> number;
    if (name == "RssAnon:" || name == "RssShmem:") kib += number;
  }
  return kib * 1024;
}

// A checkpoint of one sparse file: nothing of it takes room, all of it is read.
void WriteSparseCheckpoint(const fs::path& directory, uint64_t rows) {
  const nlohmann::json header = {
      {"model.language_model.layers.1.ple.ple_embedding.ngram_embedding.shard_0.weight",
       {{"dtype", "BF16"},
        {"shape", {rows, kRowBytes / 2}},
        {"data_offsets", {uint64_t{0}, rows * kRowBytes}}}}};
  const std::string text = header.dump();
  const uint64_t length = text.size();
  std::string begin(sizeof(length), '\0');
  std::memcpy(begin.data(), &length, sizeof(length));
  std::ofstream(directory / "model.safetensors", std::ios::binary) << begin << text;
  fs::resize_file(directory / "model.safetensors", sizeof(length) + length + rows * kRowBytes);
}

TEST(PackMemoryTest, StaysBelowTheLimitOverALargeCheckpoint) {
#if defined(ABSL_HAVE_ADDRESS_SANITIZER) || defined(ABSL_HAVE_THREAD_SANITIZER)
  GTEST_SKIP() << "the sanitizer's own memory would count";
#endif
  const fs::path scratch = fs::path(::testing::TempDir()) / "pack_memory_test";
  fs::remove_all(scratch);
  fs::create_directories(scratch);
  const uint64_t rows =
      Derive(**FindFamily("qwen4-exp"), {kRowsPerHead, {}}).value().layers[0].Rows();
  ASSERT_GT(rows * kRowBytes, 2 * kMemoryLimitBytes);
  if (fs::space(scratch).available < 2 * rows * kRowBytes) {
    fs::remove_all(scratch);
    GTEST_SKIP() << "there is no room for the set at " << scratch;
  }
  WriteSparseCheckpoint(scratch, rows);

  std::vector<std::string> arguments = {
      "client/cli/engram",        "pack",         "--family", "qwen4-exp", "--rows-per-head",
      absl::StrCat(kRowsPerHead), "--checkpoint", scratch,    "--output",  scratch / "set"};
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_t pid = -1;
  ASSERT_EQ(posix_spawn(&pid, argv[0], nullptr, nullptr, argv.data(), environ), 0);
  int status = 0;
  uint64_t most = 0;
  while (waitpid(pid, &status, WNOHANG) == 0) {
    most = std::max(most, HeldBytes(pid));
    std::this_thread::sleep_for(kLookInterval);
  }
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_GT(most, 0u);
  EXPECT_LT(most, kMemoryLimitBytes);
  EXPECT_GT(fs::file_size(scratch / "set" / "layer01-00000.rows"), kMemoryLimitBytes);
  fs::remove_all(scratch);
}

}  // namespace
}  // namespace engram::integration
