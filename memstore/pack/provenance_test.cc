// Where a table set is said to be from, and that none of it enters the set's id.
#include "memstore/pack/provenance.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/addressing/families.h"
#include "memstore/base/sha256.h"
#include "memstore/os/posix_file.h"
#include "memstore/pack/pack_checkpoint.h"
#include "memstore/pack/pack_synthetic.h"
#include "memstore/pack/testing/small_checkpoint.h"
#include "memstore/table/side_files.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing_checkpoint::Files;
using testing_checkpoint::SomeBytes;
using testing_checkpoint::WriteCheckpoint;
using testing_checkpoint::WriteText;

constexpr char kQwen[] = "qwen4-exp";
constexpr uint64_t kRowsPerHead = 50;
constexpr uint64_t kRowBytes = 320;

class ProvenanceTest : public testing::Test {
 protected:
  ProvenanceTest() : dir_(fs::path(testing::TempDir()) / "provenance_test") {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  ~ProvenanceTest() override { fs::remove_all(dir_); }

  // The family's small table in so many tensors, with or without an index.
  fs::path Model(const fs::path& name, uint64_t pieces, bool has_index) const {
    const fs::path model = dir_ / name;
    fs::create_directories(model);
    const uint64_t rows = Derive(**FindFamily(kQwen), {kRowsPerHead, {}}).value().layers[0].Rows();
    const std::string table = SomeBytes(7, rows * kRowBytes);
    const uint64_t step = (rows + pieces - 1) / pieces;
    Files files;
    for (uint64_t i = 0; i < pieces; ++i) {
      const uint64_t first = i * step, count = std::min(step, rows - first);
      files[absl::StrCat("model-", i, ".safetensors")] = {
          {absl::StrCat("model.language_model.layers.1.ple.ple_embedding.ngram_embedding.shard_", i,
                        ".weight"),
           "BF16",
           {count, kRowBytes / 2},
           table.substr(first * kRowBytes, count * kRowBytes)}};
    }
    WriteCheckpoint(model, files);
    if (!has_index) fs::remove(model / "model.safetensors.index.json");
    return model;
  }
  PackOptions Options(const std::string& set, int64_t seconds) const {
    PackOptions options;
    options.output = dir_ / set;
    options.rows_per_head = kRowsPerHead;
    options.wall_now = [seconds] { return absl::FromUnixSeconds(seconds); };
    return options;
  }
  Manifest Pack(const fs::path& model, const PackOptions& options) const {
    const absl::StatusOr<Manifest> packed = PackCheckpoint(**FindFamily(kQwen), model, options);
    EXPECT_TRUE(packed.ok()) << packed.status();
    return packed.ok() ? *packed : Manifest();
  }
  SideFiles Sides(const std::string& set, const Manifest& manifest) const {
    const absl::StatusOr<SideFiles> sides = LoadSideFiles(dir_ / set, "", manifest);
    EXPECT_TRUE(sides.ok() && sides->provenance.has_value()) << sides.status();
    SideFiles found = sides.ok() ? *sides : SideFiles();
    if (!found.provenance) found.provenance.emplace();
    return found;
  }
  const fs::path dir_;
};

TEST_F(ProvenanceTest, IsAnotherOfAnotherPackWhoseIdIsTheSame) {
  const fs::path cached = Model("models--maker--model/snapshots/0123abcd", 3, /*has_index=*/true);
  const fs::path plain = Model("plain", 1, /*has_index=*/false);
  WriteText(plain / "config.json", R"({"image_token_id": 7, "vision_config": {}})");
  const Manifest first = Pack(cached, Options("first", 1'000'000'000));
  const Manifest second = Pack(plain.string() + "/", Options("second", 1'700'000'000));
  PackOptions told = Options("third", 1'700'000'001);
  told.source = "someone/else@v1.0";
  const Manifest third = Pack(cached, told);
  EXPECT_EQ(first.id, second.id);
  EXPECT_EQ(first.id, third.id);
  EXPECT_EQ(first.text, second.text);

  const SideFiles of_first = Sides("first", first), of_second = Sides("second", second);
  const Provenance &a = *of_first.provenance, &b = *of_second.provenance;
  EXPECT_EQ(a.source_kind, kCheckpointSource);
  EXPECT_EQ(a.path, cached.string());
  EXPECT_EQ(a.repository, "maker/model");
  EXPECT_EQ(a.revision, "0123abcd");
  EXPECT_EQ(a.index_sha256,
            Sha256Hex(ReadWholeFile(cached / "model.safetensors.index.json", 1 << 20).value()));
  EXPECT_EQ(a.packed_at, absl::FromUnixSeconds(1'000'000'000));
  EXPECT_EQ(a.packer_version.empty(), false);
  EXPECT_FALSE(a.stored_constants);
  EXPECT_EQ(b.path, plain.string());
  EXPECT_EQ(b.repository, "");
  EXPECT_EQ(b.index_sha256, "");
  EXPECT_EQ(b.headers_sha256.size(), 64u);
  EXPECT_NE(a.headers_sha256, b.headers_sha256);
  EXPECT_EQ(b.packed_at, absl::FromUnixSeconds(1'700'000'000));
  EXPECT_TRUE(of_first.image_token_ids.empty());
  EXPECT_THAT(of_second.image_token_ids, ElementsAre(7));
  EXPECT_TRUE(of_first.page_checksums);

  const Provenance c = *Sides("third", third).provenance;
  EXPECT_EQ(c.repository, "someone/else");
  EXPECT_EQ(c.revision, "v1.0");
  EXPECT_EQ(c.headers_sha256, a.headers_sha256);
  EXPECT_FALSE(SameSource(a, b));
  EXPECT_FALSE(SameSource(a, c));
  EXPECT_TRUE(SameSource(a, a));
}

// "FILE: TENSORS of LAYERS", whose size is the file's.
std::vector<std::string> Read(const ReadFrom& from, const fs::path& folder) {
  EXPECT_EQ(from.left_out, 0u);
  std::vector<std::string> read;
  for (const SourceFile& file : from.files) {
    EXPECT_EQ(file.bytes, fs::file_size(folder / file.path));
    read.push_back(
        absl::StrCat(file.path, ": ", file.tensors, " of ", absl::StrJoin(file.layers, ", ")));
  }
  return read;
}

// Those with rows alone, however the path is given, packed or linked.
TEST_F(ProvenanceTest, ListsTheFilesThatRowsWereReadFrom) {
  const fs::path model = Model("model", 3, /*has_index=*/false);
  WriteText(model / "other.safetensors",
            testing_checkpoint::FileText({{"model.norm.weight", "U8", {1}, "x"}}));
  for (const bool link : {false, true}) {
    PackOptions options = Options(link ? "linked" : "packed", 5);
    options.link = link;
    const std::string given = link ? model.string() + "/" : (model / "../model").string();
    const Manifest manifest = Pack(given, options);
    const Provenance source = *Sides(link ? "linked" : "packed", manifest).provenance;
    EXPECT_EQ(source.path, model.string());
    EXPECT_THAT(Read(source.read_from, model),
                ElementsAre("model-0.safetensors: 1 of 1", "model-1.safetensors: 1 of 1",
                            "model-2.safetensors: 1 of 1"));
  }
}

TEST_F(ProvenanceTest, CountsTheTensorsThatAreNamedToBeRows) {
  const uint64_t rows = Derive(**FindFamily(kQwen), {kRowsPerHead, {}}).value().layers[0].Rows();
  const std::string stem = "model.layers.1.ple.ple_embedding.ngram_embedding.";
  const fs::path model = dir_ / "named";
  WriteCheckpoint(
      model, {{"a.safetensors",
               {{stem + "weight", "U8", {rows, 80}, SomeBytes(1, rows * 80)},
                {stem + "weight_scale", "U8", {rows, 10}, SomeBytes(2, rows * 10)}}},
              {"b.safetensors", {{stem + "zeros", "U8", {rows, 10}, SomeBytes(3, rows * 10)}}}});
  PackOptions options = Options("set", 5);
  options.rows = {"ngram_embedding.weight", "weight_scale", "zeros"};
  options.encoding = "mine";
  const Manifest manifest = Pack(model, options);
  EXPECT_THAT(Read(Sides("set", manifest).provenance->read_from, model),
              ElementsAre("a.safetensors: 2 of 1", "b.safetensors: 1 of 1"));
}

TEST_F(ProvenanceTest, OfMadeUpRowsHasNoPath) {
  PackOptions options = Options("set", 5);
  const absl::StatusOr<Manifest> packed = PackSynthetic(**FindFamily(kQwen), options);
  ASSERT_TRUE(packed.ok()) << packed.status();
  const Provenance source = *Sides("set", *packed).provenance;
  EXPECT_EQ(source.source_kind, kSyntheticSource);
  EXPECT_EQ(source.path, "");
  EXPECT_TRUE(source.read_from.files.empty());
  EXPECT_THAT(ProvenanceText(source), HasSubstr("made-up rows, packed 1970-01-01T00:00:05Z by "));
}

TEST_F(ProvenanceTest, IsReadFromPaths) {
  const auto said = [](const std::string& path) {
    const SourceName source = SourceOfPath(path);
    return absl::StrCat(source.repository, "@", source.revision);
  };
  EXPECT_EQ(said("/c/models--maker--model/snapshots/0123abcd"), "maker/model@0123abcd");
  EXPECT_EQ(said("/c/models--maker--model/snapshots/0123abcd/"), "maker/model@0123abcd");
  EXPECT_EQ(said("/c/models--maker--model/snapshots/main/sub/x.gguf"), "maker/model@main");
  EXPECT_EQ(said("/c/models--maker--model"), "maker/model@");
  EXPECT_EQ(said("/c/models--gpt2/snapshots/1"), "gpt2@1");
  EXPECT_EQ(said("/c/models--a--b--c/snapshots/1"), "a/b--c@1");
  EXPECT_EQ(said("/c/models--/snapshots/1"), "@");
  EXPECT_EQ(said("/c/datasets--maker--model/snapshots/1"), "@");
  EXPECT_EQ(said("/models/some"), "@");
  // A link is what it leads to.
  fs::create_directories(dir_ / "models--maker--model/snapshots/77");
  fs::create_directory_symlink(dir_ / "models--maker--model/snapshots/77", dir_ / "current");
  EXPECT_EQ(said(dir_ / "current"), "maker/model@77");
}

TEST_F(ProvenanceTest, IsWhatTheOperatorSays) {
  const auto said = [](absl::string_view text) {
    const SourceName source = SourceOfText(text);
    return absl::StrCat(source.repository, "|", source.revision);
  };
  EXPECT_EQ(said("maker/model@0123abcd"), "maker/model|0123abcd");
  EXPECT_EQ(said("maker/model"), "maker/model|");
  EXPECT_EQ(said("gpt2"), "gpt2|");
  EXPECT_EQ(said("gpt2@main"), "gpt2|main");
  EXPECT_EQ(said("https://user@host/path"), "https://user@host/path|");
  EXPECT_EQ(said("@main"), "@main|");
  EXPECT_EQ(said("model@"), "model@|");
  for (const std::string& text : {std::string("a\nb"), std::string(kMaxSourceBytes + 1, 'a')}) {
    PackOptions options = Options("set", 5);
    options.source = text;
    const absl::Status status = PackSynthetic(**FindFamily(kQwen), options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("--source is"));
  }
}

}  // namespace
}  // namespace engram
