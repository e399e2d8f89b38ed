// What a run of TableSetWriter leaves behind, and what the next one makes of it.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/addressing/families.h"
#include "memstore/os/posix_file.h"
#include "memstore/pack/output/table_set_writer.h"
#include "memstore/table/synthetic.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint64_t kAnyBytes = uint64_t{1} << 30;
constexpr uint32_t kRowBytes = 320;
constexpr int kShards = 5;  // of 4096 rows, a unit each

class ResumeTest : public testing::Test {
 protected:
  ResumeTest() : dir_(fs::path(testing::TempDir()) / "resume_test") {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
    options_.shard_bytes = 1;  // the least that there is
    options_.threads = 1;
    options_.source_identity = "a source";
    options_.on_note = [this](const std::string& line) { notes_.push_back(line); };
    options_.on_begin = [this](const std::string&, bool resumable) { resumable_ = resumable; };
  }
  ~ResumeTest() override { fs::remove_all(dir_); }

  // Writes the set; `before_unit` is called before each unit's rows are made.
  absl::StatusOr<Manifest> WriteSet(const std::string& name,
                                    const std::function<absl::Status(int)>& before_unit = nullptr) {
    filled_ = 0;
    notes_.clear();
    const AddressScheme scheme = Derive(**FindFamily("qwen4-exp"), {1000, {}}).value();
    absl::StatusOr<TableSetWriter> writer = TableSetWriter::Begin(dir_ / name, options_);
    if (!writer.ok()) return writer.status();
    LayerTableSpec layer;
    layer.layer = scheme.layers[0].layer;
    layer.rows = scheme.layers[0].Rows();
    layer.row_bytes = kRowBytes;
    layer.synthetic = true;
    if (absl::Status planned = writer->Plan(scheme, {layer}); !planned.ok()) return planned;
    const uint64_t all = layer.rows * kRowBytes;
    if (absl::Status room = writer->CheckRoom(room_); !room.ok()) return room;
    if (absl::Status map = writer->AddTokenMap("map"); !map.ok()) return map;
    ProgressCount progress(all, [&](uint64_t done, uint64_t) { done_ = done; });
    const RowFill fill = [&](RowId first_row, absl::Span<std::byte> rows) -> absl::Status {
      if (before_unit) {
        if (absl::Status status = before_unit(filled_); !status.ok()) return status;
      }
      ++filled_;
      SyntheticRows(layer.layer, first_row, kRowBytes, rows);
      return absl::OkStatus();
    };
    absl::Status added = writer->AddLayer(
        layer, [&] { return fill; }, progress);
    if (!added.ok()) return added;
    EXPECT_EQ(done_, all);
    return writer->Publish("name", scheme);
  }
  // In a process that is killed before it makes unit `unit`.
  void WriteAndDie(const std::string& name, int unit) {
    const pid_t child = fork();
    if (child == 0) {
      (void)WriteSet(name, [unit](int filled) {
        if (filled == unit) kill(getpid(), SIGKILL);
        return absl::OkStatus();
      }).ok();
      _exit(0);
    }
    int ended;
    ASSERT_EQ(waitpid(child, &ended, 0), child);
    ASSERT_TRUE(WIFSIGNALED(ended));
    ASSERT_FALSE(fs::exists(dir_ / name));
  }
  // Whether the set is what one run makes of it, byte for byte; whichever files there are.
  void ExpectAsOfOneRun(const std::string& name) {
    fs::remove_all(dir_ / "whole");
    const std::vector<std::string> notes = notes_;
    const int filled = filled_;
    ASSERT_TRUE(WriteSet("whole").ok());
    EXPECT_TRUE(Files(name) == Files("whole"));
    EXPECT_EQ(Files(name).count(".plan"), 0u);
    notes_ = notes;
    filled_ = filled;
  }
  std::map<std::string, std::string> Files(const std::string& name) const {
    std::map<std::string, std::string> files;
    for (const fs::directory_entry& entry : fs::directory_iterator(dir_ / name)) {
      files[entry.path().filename()] = ReadWholeFile(entry.path(), kAnyBytes).value();
    }
    return files;
  }
  fs::path Partial(const std::string& file) const { return dir_ / ".set.partial" / file; }
  void Flip(const std::string& file, uint64_t at) const {
    std::fstream bytes(Partial(file), std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekg(static_cast<std::streamoff>(at));
    const char byte = static_cast<char>(bytes.get());
    bytes.seekp(static_cast<std::streamoff>(at));
    bytes.put(static_cast<char>(~byte));
  }
  std::string Notes() const { return absl::StrJoin(notes_, "\n"); }

  fs::path dir_;
  TableSetWriterOptions options_;
  std::vector<std::string> notes_;
  bool resumable_ = false;
  uint64_t room_ = 0;  // that is asked for
  std::atomic<int> filled_{0};
  std::atomic<uint64_t> done_{0};
};

TEST_F(ResumeTest, GoesOnWhereAKilledRunStopped) {
  WriteAndDie("set", 3);
  ASSERT_TRUE(WriteSet("set").ok());
  EXPECT_TRUE(resumable_);
  EXPECT_EQ(filled_, kShards - 3);
  EXPECT_THAT(Notes(), HasSubstr("goes on with "));
  EXPECT_THAT(Notes(), HasSubstr("/.set.partial: 3 of 5 shards are finished; "));
  EXPECT_THAT(Notes(), Not(HasSubstr("not whole")));
  ExpectAsOfOneRun("set");
  EXPECT_FALSE(fs::exists(Partial("")));
}

TEST_F(ResumeTest, GoesOnAsOftenAsItIsKilledAndWithAnyThreads) {
  WriteAndDie("set", 1);
  WriteAndDie("set", 1);
  options_.threads = 5;
  ASSERT_TRUE(WriteSet("set").ok());
  EXPECT_EQ(filled_, kShards - 2);
  ExpectAsOfOneRun("set");
}

// Whatever became of a finished shard's files: it is written anew, and the set is as ever.
TEST_F(ResumeTest, WritesAnewWhatIsNotWhole) {
  const std::string rows = "layer01-00000.rows", checksums = "layer01-00000.crc32c";
  const std::vector<std::function<void()>> damages = {
      [&] { Flip(rows, 0); },             // the header
      [&] { Flip(rows, 4096 + 12345); },  // a row
      [&] { Flip(checksums, 0); },
      [&] { Flip(checksums, 8); },
  };
  for (size_t i = 0; i < damages.size(); ++i) {
    WriteAndDie("set", 3);
    damages[i]();
    ASSERT_TRUE(WriteSet("set").ok()) << i;
    EXPECT_EQ(filled_, kShards - 2) << i;
    EXPECT_THAT(Notes(), HasSubstr("layer01-00000.rows of the earlier run is not whole")) << i;
    ExpectAsOfOneRun("set");
    fs::remove_all(dir_ / "set");
  }
}

// Files that are cut off, links, or not there are not looked at further.
TEST_F(ResumeTest, PassesOverWhatCannotBeWhole) {
  const std::vector<std::function<void()>> damages = {
      [&] { fs::resize_file(Partial("layer01-00001.rows"), 4096); },
      [&] { fs::resize_file(Partial("layer01-00001.crc32c"), 4); },
      [&] { fs::remove(Partial("layer01-00001.rows")); },
      [&] { fs::remove(Partial("layer01-00001.crc32c")); },
      [&] {
        fs::rename(Partial("layer01-00001.rows"), dir_ / "elsewhere");
        fs::create_symlink(dir_ / "elsewhere", Partial("layer01-00001.rows"));
      },
  };
  for (size_t i = 0; i < damages.size(); ++i) {
    WriteAndDie("set", 3);
    std::ofstream(Partial("stray")) << "text";
    damages[i]();
    ASSERT_TRUE(WriteSet("set").ok()) << i;
    EXPECT_EQ(filled_, kShards - 2) << i;
    ExpectAsOfOneRun("set");
    fs::remove_all(dir_ / "set");
  }
}

TEST_F(ResumeTest, AnotherPlanBeginsAnew) {
  WriteAndDie("set", 3);
  options_.source_identity = "another source";
  ASSERT_TRUE(WriteSet("set").ok());
  EXPECT_EQ(filled_, kShards);
  EXPECT_THAT(Notes(), HasSubstr("begun anew"));
  ExpectAsOfOneRun("set");

  WriteAndDie("second", 3);
  options_.shard_bytes = 8192 * kRowBytes;
  ASSERT_TRUE(WriteSet("second").ok());
  EXPECT_EQ(filled_, 3);
  EXPECT_THAT(Notes(), HasSubstr("begun anew"));
  ExpectAsOfOneRun("second");
}

TEST_F(ResumeTest, ATornPlanBeginsAnew) {
  WriteAndDie("set", 3);
  fs::resize_file(Partial(".plan"), 40);
  ASSERT_TRUE(WriteSet("set").ok());
  EXPECT_EQ(filled_, kShards);
  ExpectAsOfOneRun("set");
}

TEST_F(ResumeTest, WithoutAnIdentityNothingIsGoneOnWith) {
  options_.source_identity.clear();
  WriteAndDie("set", 3);
  ASSERT_TRUE(WriteSet("set").ok());
  EXPECT_FALSE(resumable_);
  EXPECT_EQ(filled_, kShards);
  EXPECT_EQ(Notes(), "");
}

TEST_F(ResumeTest, AnErrorOfTheOutputLeavesWhatIsFinished) {
  const auto block = [&](int filled) {
    // In the place of the third shard's rows.
    if (filled == 1) fs::create_directory(Partial("layer01-00002.rows"));
    return absl::OkStatus();
  };
  const absl::Status status = WriteSet("set", block).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("the same command goes on from there"));
  ASSERT_TRUE(WriteSet("set").ok());
  EXPECT_EQ(filled_, kShards - 2);
  ExpectAsOfOneRun("set");
}

TEST_F(ResumeTest, AnErrorOfTheInputLeavesNothing) {
  const auto fail = [](int filled) {
    return filled == 3 ? absl::DataLossError("cut off") : absl::OkStatus();
  };
  const absl::Status status = WriteSet("set", fail).status();
  EXPECT_EQ(status.message(), "cut off");
  EXPECT_TRUE(fs::is_empty(dir_));
}

TEST_F(ResumeTest, ADeviceWithoutRoomTakesNothingAway) {
  WriteAndDie("set", 3);
  room_ = uint64_t{1} << 60;
  const absl::Status status = WriteSet("set").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("of these are there"));
  room_ = 0;
  ASSERT_TRUE(WriteSet("set").ok());
  EXPECT_EQ(filled_, kShards - 3);
}

TEST_F(ResumeTest, WhatIsDiscardedIsGone) {
  WriteAndDie("set", 3);
  const AddressScheme scheme = Derive(**FindFamily("qwen4-exp"), {1000, {}}).value();
  {
    TableSetWriter writer = TableSetWriter::Begin(dir_ / "set", options_).value();
    LayerTableSpec layer;
    layer.layer = scheme.layers[0].layer;
    layer.rows = scheme.layers[0].Rows();
    layer.row_bytes = kRowBytes;
    layer.synthetic = true;
    ASSERT_TRUE(writer.Plan(scheme, {layer}).ok());
    writer.Discard();
  }
  EXPECT_TRUE(fs::is_empty(dir_));
}

}  // namespace
}  // namespace engram
