#include "memstore/table/linked_rows.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/sha256.h"
#include "memstore/table/side_file.h"
#include "memstore/table/side_files.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kSource[] = "set/links.side";

// Two layers: the first joins 8 bytes in two pieces with 2 in one, the second has one part.
Manifest TwoLayers() {
  Manifest manifest;
  manifest.id = std::string(64, 'a');
  LayerTableSpec layer;
  layer.layer = 1;
  layer.rows = 100;
  layer.row_bytes = 10;
  manifest.layers.push_back(layer);
  layer.layer = 14;
  layer.rows = 7;
  layer.row_bytes = 16;
  manifest.layers.push_back(layer);
  return manifest;
}

LinkedRows Links(const std::string& one, const std::string& other) {
  LinkedRows links;
  links.files = {{one, 1000, 17'000'000'001, 64, std::string(64, '0')}, {other, 900, -5, 0, ""}};
  JoinedRows joined;
  joined.parts = {{8, {{one, 100, 0, 60}, {other, 0, 60, 40}}}, {2, {{other, 700, 0, 100}}}};
  JoinedRows plain;
  plain.parts = {{16, {{one, 888, 0, 7}}}};
  links.layers = {{1, joined}, {14, plain}};
  return links;
}

json Body(const std::function<void(json&)>& change = [](json&) {}) {
  json body = json::parse(LinksBody(Links("/a/one", "/b/other")).value());
  change(body);
  return body;
}

std::string Refused(const std::string& body) {
  const auto parsed = ParseLinks(body, kSource, TwoLayers());
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kDataLoss) << body;
  EXPECT_THAT(std::string(parsed.status().message()), HasSubstr(kSource));
  EXPECT_THAT(std::string(parsed.status().message()), HasSubstr("engram pack --link"));
  return std::string(parsed.status().message());
}

TEST(LinksBody, IsReadAsItWasWritten) {
  const std::string body = LinksBody(Links("/a/one", "/b/other")).value();
  const auto links = ParseLinks(body, kSource, TwoLayers());
  ASSERT_TRUE(links.ok()) << links.status();
  ASSERT_EQ(links->files.size(), 2u);
  EXPECT_EQ(links->files[0].path, "/a/one");
  EXPECT_EQ(links->files[0].modified_ns, 17'000'000'001);
  EXPECT_EQ(links->files[0].header_bytes, 64u);
  EXPECT_EQ(links->files[1].bytes, 900u);
  EXPECT_EQ(links->files[1].modified_ns, -5);
  EXPECT_EQ(links->files[1].header_bytes, 0u);
  ASSERT_EQ(links->layers.size(), 2u);
  EXPECT_EQ(links->layers[1].layer, 14u);
  const std::vector<RowPart>& parts = links->layers[0].rows.parts;
  ASSERT_EQ(parts.size(), 2u);
  ASSERT_EQ(parts[0].pieces.size(), 2u);
  EXPECT_EQ(parts[0].row_bytes, 8u);
  EXPECT_EQ(parts[0].pieces[1].file, "/b/other");
  EXPECT_EQ(parts[0].pieces[1].first_row, 60u);
  EXPECT_EQ(parts[0].pieces[1].rows, 40u);
  EXPECT_EQ(parts[1].pieces[0].offset, 700u);
  EXPECT_EQ(LinksBody(*links).value(), body);
  EXPECT_THAT(LinkedFolders(*links), ElementsAre("/a", "/b"));
}

TEST(LinksBody, RefusesAPathThatJsonCannotHold) {
  const auto body = LinksBody(Links("/a/\xff", "/b"));
  EXPECT_EQ(body.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(body.status().message()), HasSubstr("UTF-8"));
}

TEST(ParseLinks, RefusesWhatIsNoSuchBody) {
  for (const char* body : {"", "{", "[]", "3", "{}", "null"}) Refused(body);
  EXPECT_THAT(Refused(Body([](json& body) { body["version"] = 2; }).dump()), HasSubstr("version"));
  EXPECT_THAT(Refused(Body([](json& body) { body["more"] = 2; }).dump()), HasSubstr("know"));
  EXPECT_THAT(Refused(Body([](json& body) { body["files"][0]["more"] = 2; }).dump()),
              HasSubstr("files[0]"));
  EXPECT_THAT(Refused(Body([](json& body) { body["files"][1]["path"] = "/a/one"; }).dump()),
              HasSubstr("files[1] is listed twice"));
}

TEST(ParseLinks, RefusesEachValueThatCannotBe) {
  const std::vector<std::pair<const char*, std::vector<json>>> wrong = {
      {"/files", {3, json::object()}},
      {"/files/0/path", {"one", "", 3, std::string("/a\0b", 4), "/" + std::string(5000, 'x')}},
      {"/files/0/bytes", {-1, 1.5, "1000", std::numeric_limits<uint64_t>::max(), 999}},
      {"/files/0/modified_ns", {"3", 1.5, std::numeric_limits<uint64_t>::max()}},
      {"/files/0/header_bytes", {0, 1001, kMaxLinkedHeaderBytes + 1, -1}},
      {"/files/0/header_sha256", {"", std::string(64, 'g'), std::string(63, '0'), 3}},
      {"/layers", {json::array(), 3}},
      {"/layers/0/layer", {2, "1"}},
      {"/layers/0/parts", {json::array(), 3}},
      {"/layers/0/parts/0/row_bytes", {0, 7, 9, 11, uint64_t{1} << 32}},
      {"/layers/0/parts/0/pieces", {json::array(), 3}},
      // Ends behind its file.
      {"/layers/0/parts/0/pieces/0", {{0, 521, 60}, {0, 1001, 60}, {0, uint64_t{1} << 63, 60}}},
      {"/layers/0/parts/0/pieces/1", {{2, 0, 40}, {-1, 0, 40}, {1, 0}, {1, 0, 40, 1}, 3}},
      // Too few rows, too many, none.
      {"/layers/0/parts/0/pieces/1", {{1, 0, 39}, {1, 0, 41}, {1, 0, 0}}},
  };
  for (const auto& [place, values] : wrong) {
    for (const json& value : values) {
      SCOPED_TRACE(absl::StrCat(place, " = ", value.dump().substr(0, 80)));
      Refused(Body([&, at = json::json_pointer(place)](json& body) { body[at] = value; }).dump());
    }
  }
  Refused(Body([](json& body) {
            body["layers"][0]["parts"][1]["pieces"].push_back({1, 0, 1});
          }).dump());
}

class LinkedFilesTest : public testing::Test {
 protected:
  LinkedFilesTest() : dir_(fs::path(testing::TempDir()) / "linked_rows_test") {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
    std::ofstream(File()) << "header and rows";
  }
  ~LinkedFilesTest() override { fs::remove_all(dir_); }
  std::string File() const { return dir_ / "model.safetensors"; }
  LinkedRows LinkIt(uint64_t header_bytes) const {
    LinkedRows links;
    links.files.push_back(LookAtLinkedFile(File(), header_bytes).value());
    return links;
  }
  // Writes the text at the file's place and gives it the time that it had.
  void Rewrite(const std::string& text) const {
    const fs::file_time_type time = fs::last_write_time(File());
    std::ofstream(File()) << text;
    fs::last_write_time(File(), time);
  }
  void ExpectChanged(const LinkedRows& links, absl::StatusCode code, const std::string& what) {
    const absl::Status status = CheckLinkedFiles(links);
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(File()));
    EXPECT_THAT(std::string(status.message()), HasSubstr(what));
    EXPECT_THAT(std::string(status.message()), HasSubstr("engram pack --link"));
  }
  fs::path dir_;
};

constexpr auto kChanged = absl::StatusCode::kFailedPrecondition;

TEST_F(LinkedFilesTest, AFileThatIsAsItWasIsTaken) {
  const LinkedRows links = LinkIt(6);
  EXPECT_EQ(links.files[0].bytes, 15u);
  EXPECT_EQ(links.files[0].header_sha256, Sha256Hex("header"));
  EXPECT_TRUE(CheckLinkedFiles(links).ok());
  EXPECT_TRUE(CheckLinkedFiles(LinkIt(0)).ok());
}

TEST_F(LinkedFilesTest, OneThatIsGoneIsNamedWithItsPlace) {
  const LinkedRows links = LinkIt(6);
  fs::rename(File(), dir_ / "elsewhere");
  ExpectChanged(links, absl::StatusCode::kNotFound, "moved");
  fs::create_symlink(dir_ / "nothing", File());
  ExpectChanged(links, absl::StatusCode::kNotFound, "moved");
}

TEST_F(LinkedFilesTest, AnotherSizeTimeOrHeaderIsRefused) {
  const LinkedRows links = LinkIt(6);
  Rewrite("header and more rows");
  ExpectChanged(links, kChanged, "20 bytes, and had 15");
  Rewrite("HEADER and rows");
  ExpectChanged(links, kChanged, Sha256Hex("HEADER"));
  Rewrite("header AND ROWS");  // for the checksums of the rows to find
  EXPECT_TRUE(CheckLinkedFiles(links).ok());
  LinkedRows earlier = links;
  earlier.files[0].modified_ns = 1'795'994'112'060'885'924;
  ExpectChanged(earlier, kChanged, "and before at 2026-11-29 23:15:12.060885924 UTC");
  earlier.files[0].modified_ns = -5;
  ExpectChanged(earlier, kChanged, "and before at 1969-12-31 23:59:59.999999995 UTC");
  fs::last_write_time(File(), fs::last_write_time(File()) + std::chrono::seconds(1));
  ExpectChanged(links, kChanged, "modified");
}

TEST_F(LinkedFilesTest, AFolderInItsPlaceIsRefused) {
  const LinkedRows links = LinkIt(6);
  fs::remove(File());
  fs::create_directory(File());
  ExpectChanged(links, kChanged, "no regular file");
}

TEST_F(LinkedFilesTest, AHeaderThatIsLongerThanItsFileCannotBeLinked) {
  EXPECT_EQ(LookAtLinkedFile(File(), 16).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(LookAtLinkedFile(dir_ / "none", 0).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(LinkedFilesTest, LinksAreTakenFromTheSidesOfTheSetsDirectory) {
  const Manifest manifest = TwoLayers();
  SideFiles side_files;
  const auto none = TakeLinkedRows(dir_, manifest, side_files);
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_FALSE(none->has_value());
  const std::string path = dir_ / kLinksFile;
  ASSERT_TRUE(
      WriteSideFile(path, kLinksKind, manifest.id, LinksBody(Links("/a/one", "/b/other")).value())
          .ok());
  side_files = LoadSmallSideFiles(dir_, "", manifest).value();
  fs::remove(path);  // it was read
  const auto links = TakeLinkedRows(dir_, manifest, side_files);
  ASSERT_TRUE(links.ok()) << links.status();
  EXPECT_EQ((*links)->files.size(), 2u);
  EXPECT_FALSE(side_files.links_body.has_value());
  side_files.links_body = "{}";
  EXPECT_THAT(std::string(TakeLinkedRows(dir_, manifest, side_files).status().message()),
              HasSubstr(path));
}

TEST(WhereLinked, NamesFilesAndBytes) {
  const LinkedRows links = Links("/a/one", "/b/other");
  EXPECT_EQ(WhereLinked(links.layers[0].rows, 58, 62),
            "/a/one (bytes 564..579) and /b/other (bytes 0..15) and /b/other (bytes 816..823)");
  EXPECT_EQ(WhereLinked(links.layers[1].rows, 0, 7), "/a/one (bytes 888..999)");
  JoinedRows many;
  many.parts.resize(1);
  many.parts[0].row_bytes = 1;
  for (uint64_t i = 0; i < 6; ++i) many.parts[0].pieces.push_back({"/f", i, i, 1});
  EXPECT_THAT(WhereLinked(many, 0, 6), HasSubstr("and 2 other places"));
  JoinedRows quoted;
  quoted.parts = {{1, {{"/a \"b\"\n", 0, 0, 1}}}};
  EXPECT_EQ(WhereLinked(quoted, 0, 1), "/a \"b\"\\n (bytes 0..0)");
}

}  // namespace
}  // namespace engram
