#include "memstore/safetensors/checkpoint.h"

#include <filesystem>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/pack/testing/small_checkpoint.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing_checkpoint::FileText;
using testing_checkpoint::SomeBytes;
using testing_checkpoint::WriteCheckpoint;
using testing_checkpoint::WriteText;

class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() : dir_(fs::path(testing::TempDir()) / "checkpoint_test") {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  absl::StatusOr<Checkpoint> Open() const {
    return Checkpoint::Open(dir_, [](absl::string_view n) { return absl::StartsWith(n, "want"); });
  }
  // Opens a single file with this header around `data_bytes` bytes.
  absl::Status OpenHeader(const std::string& header, size_t data_bytes) const {
    WriteText(dir_ / "model.safetensors", FileText(header, std::string(data_bytes, 'x')));
    return Open().status();
  }
  fs::path dir_;
};

TEST_F(CheckpointTest, FindsTensorsThroughTheIndex) {
  const std::string a = SomeBytes(1, 24), b = SomeBytes(2, 6), other = SomeBytes(3, 7);
  WriteCheckpoint(
      dir_,
      {{"one.safetensors", {{"other", "U8", {7}, other}, {"want.a", "BF16", {3, 4}, a}}},
       {"two.safetensors", {{"want.b", "F8_E4M3", {2, 3}, b}}}},
      {{"elsewhere", "never-downloaded.safetensors"}});
  const Checkpoint checkpoint = Open().value();
  ASSERT_EQ(checkpoint.tensors().size(), 2u);
  const TensorPlace& place = **checkpoint.Find("want.a");
  EXPECT_EQ(place.file, dir_ / "one.safetensors");
  EXPECT_EQ(Describe(place), "BF16 [3, 4]");
  EXPECT_EQ(place.bytes, 24u);
  std::ifstream file(place.file, std::ios::binary);
  std::string bytes(24, '\0');
  file.seekg(place.offset);
  file.read(bytes.data(), 24);
  EXPECT_EQ(bytes, a);
  EXPECT_EQ((*checkpoint.Find("want.b"))->file, dir_ / "two.safetensors");
  const absl::Status missing = checkpoint.Find("want.c").status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("want.c"));
}

TEST_F(CheckpointTest, FindsTensorsInASingleFile) {
  WriteText(dir_ / "model.safetensors",
            FileText({{"want", "F32", {}, "1234"}, {"want.empty", "F32", {0, 5}, ""}}));
  const Checkpoint checkpoint = Open().value();
  EXPECT_EQ((*checkpoint.Find("want"))->bytes, 4u);
  EXPECT_EQ((*checkpoint.Find("want.empty"))->bytes, 0u);
}

TEST_F(CheckpointTest, NamesTensorAndFileThatAreMissing) {
  WriteCheckpoint(dir_, {}, {{"want.a", "gone.safetensors"}});
  absl::Status status = Open().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("want.a"));
  EXPECT_THAT(std::string(status.message()), HasSubstr(dir_ / "gone.safetensors"));
  WriteCheckpoint(dir_, {{"gone.safetensors", {{"other", "U8", {1}, "x"}}}},
                  {{"want.a", "gone.safetensors"}});
  status = Open().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("does not hold the tensor want.a"));
}

TEST_F(CheckpointTest, SaysWhereThereIsNoCheckpoint) {
  EXPECT_EQ(Open().status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(Open().status().message()), HasSubstr(dir_));
}

// Of the index and of a file, two entries of one name: each reader of JSON takes another.
TEST_F(CheckpointTest, RefusesATensorThatTheIndexHasTwice) {
  WriteCheckpoint(dir_, {{"a.safetensors", {{"want.a", "U8", {1}, "x"}}},
                         {"b.safetensors", {{"want.a", "U8", {1}, "y"}}}});
  const fs::path index = dir_ / "model.safetensors.index.json";
  for (const char* other : {"a.safetensors", "b.safetensors"}) {
    WriteText(index,
              absl::StrFormat(R"({"weight_map":{"want.a":"b.safetensors","want.a":"%s"}})", other));
    const absl::Status status = Open().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("the tensor want.a twice"));
    EXPECT_THAT(
        std::string(status.message()),
        HasSubstr(other == std::string("b.safetensors") ? "both times in b.safetensors"
                                                        : "in b.safetensors and in a.safetensors"));
  }
  // Of others it is no concern, nor is a copy in a file that the index does not name for it.
  WriteText(index, R"({"weight_map":{"x":"a.safetensors","x":"b.safetensors",)"
                   R"("want.a":"b.safetensors"}})");
  EXPECT_EQ((*Open().value().Find("want.a"))->file, dir_ / "b.safetensors");
}

TEST_F(CheckpointTest, RefusesAnIndexWithAKeyTwiceAtItsTop) {
  WriteCheckpoint(dir_, {{"a.safetensors", {{"want.a", "U8", {1}, "x"}}},
                         {"b.safetensors", {{"want.b", "U8", {1}, "y"}}}});
  const auto open = [this](const std::string& index) {
    WriteText(dir_ / "model.safetensors.index.json", index);
    return Open().status();
  };
  for (const char* index :
       {R"({"weight_map":{"want.a":"a.safetensors"},"weight_map":{"want.b":"b.safetensors"}})",
        R"({"weight_map":{"want.a":"a.safetensors"},"x":1,"weight\u005fmap":{}})",
        R"({"weight_map":1,"weight_map":{"want.a":"a.safetensors"}})"}) {
    EXPECT_EQ(open(index).code(), absl::StatusCode::kInvalidArgument) << index;
    EXPECT_THAT(std::string(open(index).message()), HasSubstr("weight_map stands twice"));
  }
  // Elsewhere a key may stand once in each object.
  EXPECT_TRUE(
      open(R"({"metadata":{"weight_map":{}},"weight_map":{"want.a":"a.safetensors"}})").ok());
}

// A NUL would have a.safetensors read in the place of what the index names.
TEST_F(CheckpointTest, RefusesAnIndexWithAControlCharacterInAFileName) {
  WriteCheckpoint(dir_, {{"a.safetensors", {{"want.a", "U8", {1}, "x"}}}});
  for (const auto& [written, shown] :
       {std::pair("u0000x", "\\x00x"), std::pair("n", "\\n"), std::pair("u001b[2J", "\\x1b[2J"),
        std::pair("u007f", "\\x7f")}) {
    WriteText(dir_ / "model.safetensors.index.json",
              absl::StrFormat(R"({"weight_map":{"want.a":"a.safetensors\%s"}})", written));
    const absl::Status status = Open().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr(absl::StrFormat("want.a, \"a.safetensors%s\", has a control", shown)));
  }
}

TEST_F(CheckpointTest, TakesAnIndexWithNumbersThatAreNoJson) {
  WriteCheckpoint(dir_, {{"a.safetensors", {{"want.a", "U8", {1}, "x"}}}});
  const fs::path index = dir_ / "model.safetensors.index.json";
  for (const char* number : {"NaN", "-Infinity", "1e400"}) {
    WriteText(index, absl::StrFormat(R"({"metadata":{"total_size":%s},)"
                                     R"("weight_map":{"want.a":"a.safetensors"}})",
                                     number));
    EXPECT_TRUE(Open().ok()) << Open().status();
    WriteText(index, absl::StrFormat(R"({"weight_map":{"want.a":%s}})", number));
    EXPECT_FALSE(Open().ok());
  }
}

TEST_F(CheckpointTest, ReadsAllHeadersWhereThereIsNoIndex) {
  WriteText(dir_ / "b-part.safetensors", FileText({{"want.b", "U8", {2}, "bb"}}));
  WriteText(dir_ / "a-part.safetensors", FileText({{"other", "U8", {1}, "o"}}));
  WriteText(dir_ / "c.safetensors",
            FileText({{"want.c", "U8", {1}, "c"}, {"other", "U8", {1}, "o"}}));
  WriteText(dir_ / "._c.safetensors", "what another system put there");
  const Checkpoint checkpoint = Open().value();
  EXPECT_EQ(checkpoint.tensors().size(), 2u);
  EXPECT_EQ((*checkpoint.Find("want.b"))->file, dir_ / "b-part.safetensors");
  EXPECT_THAT(checkpoint.WhatWasRead([](absl::string_view) { return true; }), HasSubstr("3 files"));
  WriteText(dir_ / "d.safetensors", FileText({{"want.b", "U8", {2}, "dd"}}));
  const absl::Status status = Open().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  for (const char* part : {"want.b", "b-part.safetensors", "d.safetensors"}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
}

TEST_F(CheckpointTest, TakesThePartsOfRanksInTheirOrder) {
  for (const char* rank : {"0", "2", "10", "1", "9", "3", "4", "5", "6", "7", "8"}) {
    WriteText(dir_ / absl::StrFormat("model-rank-%s-part-%d.safetensors", rank, *rank % 2),
              FileText({{"want", "U8", {1}, "x"}}));
  }
  const Checkpoint checkpoint = Open().value();
  EXPECT_TRUE(checkpoint.tensors().empty());
  const std::vector<TensorPlace>& parts = checkpoint.rank_parts().at("want");
  ASSERT_EQ(parts.size(), 11u);
  EXPECT_THAT(parts[2].file, HasSubstr("rank-2-part"));
  EXPECT_THAT(parts[10].file, HasSubstr("rank-10-part"));
  fs::remove(dir_ / "model-rank-2-part-0.safetensors");
  EXPECT_EQ(Open().status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(Open().status().message()), HasSubstr("rank 2 is missing"));
  // Two parts of one rank hold it.
  WriteText(dir_ / "model-rank-2-part-0.safetensors", FileText({{"want", "U8", {1}, "2"}}));
  WriteText(dir_ / "model-rank-2-part-1.safetensors", FileText({{"want", "U8", {1}, "2"}}));
  EXPECT_EQ(Open().status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(CheckpointTest, SaysThatTheIndexIsOfOtherFiles) {
  WriteCheckpoint(dir_, {{"new.safetensors", {{"want.a", "U8", {1}, "x"}}}},
                  {{"want.a", "old.safetensors"}});
  const auto expect_said = [&](std::vector<std::string> parts) {
    const absl::Status status = Open().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
    for (const std::string& part : parts)
      EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  };
  expect_said(
      {"old.safetensors", (dir_ / "new.safetensors").string() + " holds", "of other files"});
  WriteText(dir_ / "old.safetensors", FileText({{"other", "U8", {1}, "x"}}));
  expect_said({"old.safetensors does not hold the tensor want.a", "new.safetensors holds"});
  // The index knows nothing of it.
  WriteCheckpoint(dir_, {}, {{"other", "old.safetensors"}});
  const Checkpoint checkpoint = Open().value();
  EXPECT_TRUE(checkpoint.tensors().empty());
  EXPECT_THAT(checkpoint.WhatWasRead([](absl::string_view name) { return name == "want.a"; }),
              HasSubstr("new.safetensors holds the tensor want.a"));
}

TEST_F(CheckpointTest, SaysThatALinkLeadsNowhere) {
  fs::create_symlink("../../blobs/0123", dir_ / "model.safetensors.index.json");
  EXPECT_EQ(Open().status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(Open().status().message()), HasSubstr("../../blobs/0123"));
  fs::remove(dir_ / "model.safetensors.index.json");
  WriteText(dir_ / "a.safetensors", FileText({{"want.a", "U8", {1}, "x"}}));
  fs::create_symlink("../../blobs/4567", dir_ / "b.safetensors");
  EXPECT_THAT(std::string(Open().status().message()), HasSubstr("../../blobs/4567"));
  WriteCheckpoint(dir_, {}, {{"want.b", "b.safetensors"}});
  EXPECT_THAT(std::string(Open().status().message()), HasSubstr("../../blobs/4567"));
}

TEST_F(CheckpointTest, RefusesAFileWhoseDownloadIsNotFinished) {
  WriteCheckpoint(dir_, {{"a.safetensors", {{"want.a", "U8", {1}, "x"}}}},
                  {{"other", "b.safetensors"}});
  WriteText(dir_ / "b.safetensors.aria2", "of a file that is not read");
  EXPECT_TRUE(Open().ok());
  WriteText(dir_ / "a.safetensors.aria2", "");
  EXPECT_EQ(Open().status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(Open().status().message()), HasSubstr("a.safetensors.aria2"));
}

TEST_F(CheckpointTest, StaysInTheDirectory) {
  for (const char* file : {"../model.safetensors", "/etc/passwd", ""}) {
    WriteCheckpoint(dir_, {}, {{"want.a", file}});
    EXPECT_EQ(Open().status().code(), absl::StatusCode::kInvalidArgument) << file;
  }
}

TEST_F(CheckpointTest, RefusesAnIndexThatIsNone) {
  for (const char* text : {"", "{", "[1,", "{\"weight_map\": {\"want\": 5}}", "\xff"}) {
    WriteText(dir_ / "model.safetensors.index.json", text);
    EXPECT_EQ(Open().status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
  WriteText(dir_ / "model.safetensors.index.json", std::string(1'000'000, '['));
  EXPECT_EQ(Open().status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(CheckpointTest, RefusesAFileCutOffAnywhere) {
  const std::string whole = FileText({{"want", "U8", {100}, SomeBytes(1, 100)}});
  for (size_t bytes = 0; bytes < whole.size(); ++bytes) {
    WriteText(dir_ / "model.safetensors", whole.substr(0, bytes));
    const absl::Status status = Open().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << bytes;
    EXPECT_THAT(std::string(status.message()), HasSubstr(dir_ / "model.safetensors"));
  }
}

TEST_F(CheckpointTest, RefusesAHeaderLongerThanTheBound) {
  std::string text = FileText({{"want", "U8", {1}, "x"}});
  text[7] = '\x7f';
  WriteText(dir_ / "model.safetensors", text);
  EXPECT_EQ(Open().status().code(), absl::StatusCode::kDataLoss);
  // Sparse: as long as it says, which is one byte more than is read.
  const uint64_t length = kMaxHeaderBytes + 1;
  text.assign(reinterpret_cast<const char*>(&length), 8);
  WriteText(dir_ / "model.safetensors", text);
  fs::resize_file(dir_ / "model.safetensors", 8 + length + 1);
  EXPECT_EQ(Open().status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(CheckpointTest, RefusesEntriesThatContradictThemselves) {
  const std::pair<const char*, const char*> headers[] = {
      {R"({"want":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})", ""},
      {R"({"want":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}})", "cut off"},
      {R"({"want":{"dtype":"U8","shape":[8],"data_offsets":[1,9]}})", "cut off"},
      {R"({"want":{"dtype":"U8","shape":[8],"data_offsets":[0,7]}})", "U8 [8]"},
      {R"({"want":{"dtype":"U16","shape":[8],"data_offsets":[0,8]}})", "U16 [8]"},
      {R"({"want":{"dtype":"U8","shape":[8],"data_offsets":[8,0]}})", "data_offsets"},
      {R"({"want":{"dtype":"U8","shape":[8],"data_offsets":[0]}})", "data_offsets"},
      {R"({"want":{"dtype":"U8","shape":[8],"data_offsets":[-8,0]}})", "data_offsets"},
      {R"({"want":{"dtype":"U8","shape":[8],"data_offsets":[0,8.0]}})", "data_offsets"},
      {R"({"want":{"dtype":"U8","shape":8,"data_offsets":[0,8]}})", "shape"},
      {R"({"want":{"dtype":"U8","shape":[[8]],"data_offsets":[0,8]}})", "shape"},
      {R"({"want":{"dtype":"U8","shape":[4294967296,4294967296,16],"data_offsets":[0,0]}})",
       "can't be"},
      {R"({"want":{"dtype":"U8","shape":[18446744073709551615,8],"data_offsets":[0,8]}})",
       "can't be"},
      {R"({"want":{"dtype":"U8","shape":[1],"data_offsets":[18446744073709551614,)"
       R"(18446744073709551615]}})",
       "cut off"},
      {R"({"want":{"dtype":"F5","shape":[8],"data_offsets":[0,8]}})", "\"F5\""},
      {R"({"want":{"shape":[8],"data_offsets":[0,8]}})", "dtype"},
      {R"({"want":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,8],"data_offsets":[0,8]}})", "shape"},
      {R"({"want":5})", nullptr},  // not an entry: as if it were not there
      {R"({"want":{"dtype":"U8","shape":[8],"data_offsets":[0,8]})", "no JSON"},
  };
  for (const auto& [header, message] : headers) {
    const absl::Status status = OpenHeader(header, 8);
    if (message == nullptr || *message == '\0') {
      EXPECT_TRUE(status.ok()) << status;
      continue;
    }
    EXPECT_FALSE(status.ok()) << header;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message)) << header;
    EXPECT_THAT(std::string(status.message()), HasSubstr(dir_ / "model.safetensors")) << header;
  }
}

// The rows of one would be those of the other: with each other, within, and with a tensor that
// nobody asked for.
TEST_F(CheckpointTest, RefusesTensorsThatOverlap) {
  const auto header = [](const char* other, int begin, int end) {
    return absl::StrFormat(R"({"want.a":{"dtype":"U8","shape":[8],"data_offsets":[8,16]},)"
                           R"("empty":{"dtype":"U8","shape":[0],"data_offsets":[10,10]},)"
                           R"("%s":{"dtype":"U8","shape":[%d],"data_offsets":[%d,%d]}})",
                           other, end - begin, begin, end);
  };
  for (const char* other : {"want.b", "other"}) {
    for (const auto& [begin, end] : {std::pair(0, 9), {15, 20}, {0, 24}, {10, 12}, {8, 16}}) {
      const absl::Status status = OpenHeader(header(other, begin, end), 24);
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << begin << ".." << end;
      for (const std::string& part :
           {std::string("want.a"), std::string(other), (dir_ / "model.safetensors").string()}) {
        EXPECT_THAT(std::string(status.message()), HasSubstr(part));
      }
    }
    for (const auto& [begin, end] : {std::pair(0, 8), {16, 24}}) {
      EXPECT_TRUE(OpenHeader(header(other, begin, end), 24).ok());
    }
  }
}

TEST_F(CheckpointTest, CutsLongNamesInMessages) {
  const std::string name = "want" + std::string(1 << 20, 'x');
  const absl::Status status = OpenHeader("{\"" + name + "\":{\"dtype\":5}}", 0);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_LT(status.message().size(), 1000u);
}

TEST_F(CheckpointTest, SurvivesDamagedHeaders) {
  const std::string whole = FileText({{"want", "U8", {4, 4}, SomeBytes(1, 16)}});
  for (size_t i = 0; i < whole.size() - 16; ++i) {
    for (const char c : {'\0', '9', '{', ']', '"', '\xff'}) {
      std::string damaged = whole;
      damaged[i] = c;
      WriteText(dir_ / "model.safetensors", damaged);
      const absl::StatusOr<Checkpoint> checkpoint = Open();
      if (!checkpoint.ok()) continue;
      for (const auto& [name, place] : checkpoint->tensors()) {
        EXPECT_LE(place.offset + place.bytes, whole.size());
      }
    }
  }
}

}  // namespace
}  // namespace engram
