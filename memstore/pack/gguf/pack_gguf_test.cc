// GGUF files through a whole pack: rows are held against what the tensors were written with, and
// ids against those of the same table in safetensors.
#include "memstore/pack/gguf/pack_gguf.h"

#include <cstring>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/gguf/testing/small_gguf.h"
#include "memstore/os/posix_file.h"
#include "memstore/pack/pack_checkpoint.h"
#include "memstore/pack/testing/packed_rows.h"
#include "memstore/pack/testing/small_checkpoint.h"
#include "memstore/table/side_files.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using testing_checkpoint::PackedRows;
using testing_checkpoint::SomeBytes;
using testing_gguf::File;
using testing_gguf::Int32s;
using testing_gguf::kBf16;
using testing_gguf::Key;
using testing_gguf::kF32;
using testing_gguf::kI8;
using testing_gguf::kIq4Nl;
using testing_gguf::kQ8_0;
using testing_gguf::Text;
using testing_gguf::Uint16;
using testing_gguf::Uint32;
using testing_gguf::Uint32s;
using testing_gguf::Uint64s;

constexpr char kV41[] = "deepseek-v4.1-flash";
constexpr char kQwen[] = "qwen4-exp";
constexpr char kLongCat[] = "longcat-flash-lite";
constexpr char kV41Map[] = "tests/golden/deepseek_v41_token_map.i32";
constexpr uint64_t kRowsPerHead = 50;
constexpr auto kDoesNotFit = absl::StatusCode::kFailedPrecondition;

AddressScheme SchemeOf(absl::string_view family) {
  return Derive(**FindFamily(family), {kRowsPerHead, {}}).value();
}

// All layers' constants of one kind, as converters flatten them.
template <typename Get>
std::vector<uint64_t> Flat(const AddressScheme& scheme, Get get) {
  std::vector<uint64_t> all;
  for (const LayerAddressing& layer : scheme.layers) {
    const auto& values = get(layer);
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

std::vector<int32_t> V41MapNumbers() {
  const std::string bytes = ReadWholeFile(kV41Map, 1u << 24).value();
  std::vector<int32_t> numbers(bytes.size() / sizeof(int32_t));
  std::memcpy(numbers.data(), bytes.data(), bytes.size());
  return numbers;
}

// What converters of V4.1 write; the table's rows are `row_bytes` wide.
File V41File(uint32_t type, uint64_t values, uint64_t row_bytes) {
  const AddressScheme scheme = SchemeOf(kV41);
  File file;
  file.keys = {
      Text("general.architecture", "deepseek41"),
      Int32s("deepseek41.engram.layer_ids", {1, 14}),
      Uint32("deepseek41.engram.head_count", 8),
      Uint32("deepseek41.engram.key_length", 256),
      Uint32("deepseek41.engram.max_ngram_size", 4),
      Uint64s("deepseek41.engram.multipliers",
              Flat(scheme, [](const LayerAddressing& layer) { return layer.multipliers; })),
      Uint64s("deepseek41.engram.primes",
              Flat(scheme, [](const LayerAddressing& layer) { return layer.moduli; })),
      Uint64s("deepseek41.engram.offsets",
              Flat(scheme, [](const LayerAddressing& layer) { return layer.offsets; })),
      Int32s("deepseek41.engram.token_map", V41MapNumbers()),
      Uint32("deepseek41.engram.pad_id", 2)};
  file.tensors = {{"output_norm.weight", kF32, {3}, "123456789012"}};
  for (const LayerAddressing& layer : scheme.layers) {
    file.tensors.push_back({absl::StrCat("blk.", layer.layer, ".engram_embd.weight"),
                            type,
                            {values, layer.Rows()},
                            SomeBytes(layer.layer, layer.Rows() * row_bytes)});
    file.tensors.push_back(
        {absl::StrCat("blk.", layer.layer, ".engram_q.weight"), kF32, {1}, "1234"});
  }
  return file;
}

// Qwen's table as IQ4_NL, 90 bytes a row, with `padding` rows behind it.
File QwenFile(uint64_t padding) {
  const AddressScheme scheme = SchemeOf(kQwen);
  const uint64_t rows = scheme.layers[0].Rows();
  File file;
  file.keys = {
      Text("general.architecture", "qwen4exp"),
      Uint32s("qwen4exp.ple.layers", {1}),
      Uint32("qwen4exp.ple.ngram_size", 3),
      Uint32("qwen4exp.ple.heads_per_ngram", 8),
      Uint32("qwen4exp.ple.eos_token_id", 248044),
      Uint32("qwen4exp.embedding_length_per_layer_input", 160),
      Uint64s("qwen4exp.ple.layer_multipliers",
              Flat(scheme, [](const LayerAddressing& layer) { return layer.multipliers; })),
      Uint64s("qwen4exp.ple.head_vocab_sizes",
              Flat(scheme, [](const LayerAddressing& layer) { return layer.moduli; })),
      Uint64s("qwen4exp.ple.head_offsets",
              Flat(scheme, [](const LayerAddressing& layer) { return layer.offsets; }))};
  file.tensors = {{"per_layer_token_embd.weight",
                   kIq4Nl,
                   {160, rows + padding},
                   SomeBytes(7, rows * 90) + std::string(padding * 90, '\0')}};
  return file;
}

// The same table, one tensor a head; the heads lie in turns in as many files as `parts` has.
void AddQwenColumns(absl::Span<File> parts) {
  const std::string bytes = SomeBytes(7, SchemeOf(kQwen).layers[0].Rows() * 90);
  const LayerAddressing layer = SchemeOf(kQwen).layers[0];
  for (size_t head = 0; head < layer.moduli.size(); ++head) {
    parts[head % parts.size()].tensors.push_back(
        {absl::StrCat("ple_ngram_embd.", head, ".weight"),
         kIq4Nl,
         {160, layer.moduli[head]},
         bytes.substr(layer.offsets[head] * 90, layer.moduli[head] * 90)});
  }
}

class PackGgufTest : public testing::Test {
 protected:
  PackGgufTest() : dir_(fs::path(testing::TempDir()) / "pack_gguf_test") {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
    options_.output = dir_ / "set";
    options_.rows_per_head = kRowsPerHead;
    options_.gguf_file = dir_ / "m.gguf";
    options_.writer.shard_bytes = 1u << 20;
    options_.on_note = [this](const std::string& note) { notes_ += note + "\n"; };
  }
  ~PackGgufTest() override { fs::remove_all(dir_); }

  absl::StatusOr<Manifest> Pack(absl::string_view family) {
    fs::remove_all(dir_ / "set");
    notes_.clear();
    return PackGguf(**FindFamily(family), options_);
  }
  absl::StatusOr<Manifest> Pack(absl::string_view family, const File& file) {
    testing_gguf::Write(options_.gguf_file, file);
    return Pack(family);
  }
  std::string Rows(const LayerTableSpec& layer) const { return PackedRows(dir_ / "set", layer); }
  std::vector<int32_t> ImageTokenIds(const Manifest& manifest) const {
    return LoadSideFiles(dir_ / "set", "", manifest).value().image_token_ids;
  }
  void ExpectRefused(const absl::StatusOr<Manifest>& packed, absl::StatusCode code,
                     const std::vector<std::string>& parts) const {
    EXPECT_EQ(packed.status().code(), code) << packed.status();
    for (const std::string& part : parts) {
      EXPECT_THAT(std::string(packed.status().message()), HasSubstr(part));
    }
    EXPECT_FALSE(fs::exists(dir_ / "set"));
  }
  // `file` with one key in place of that of the same name.
  static File With(File file, const Key& key) {
    for (Key& each : file.keys) {
      if (each.name == key.name) {
        each = key;
        return file;
      }
    }
    file.keys.push_back(key);
    return file;
  }

  fs::path dir_;
  PackOptions options_;
  std::string notes_;
};

// 264 bytes a row: 256 E4M3 bytes and 8 scales, which is what safetensors pack to.
TEST_F(PackGgufTest, RowsOfBytesAreThoseOfTheReleasedModel) {
  const File file =
      With(V41File(kI8, 264, 264), Text("deepseek41.engram.encoding", "e4m3_e8m0_32_row264"));
  const absl::StatusOr<Manifest> packed = Pack(kV41, file);
  ASSERT_TRUE(packed.ok()) << packed.status();
  EXPECT_EQ(notes_, "");
  // The family's: neither file says anything else.
  EXPECT_THAT(ImageTokenIds(*packed), ElementsAre(129264));
  testing_checkpoint::Files files;
  for (const LayerTableSpec& layer : packed->layers) {
    const std::string rows = SomeBytes(layer.layer, layer.rows * 264);
    EXPECT_TRUE(Rows(layer) == rows);
    EXPECT_EQ(layer.encoding.kind, RowEncodingKind::kFp8E4m3Ue8m0Block32);
    std::string weights, scales;
    for (uint64_t row = 0; row < layer.rows; ++row) {
      weights += rows.substr(row * 264, 256);
      scales += rows.substr(row * 264 + 256, 8);
    }
    const std::string stem = absl::StrCat("layers.", layer.layer, ".engram.embed.");
    files["m.safetensors"].push_back({stem + "weight", "F8_E4M3", {layer.rows, 256}, weights});
    files["m.safetensors"].push_back({stem + "scale", "F8_E8M0", {layer.rows, 8}, scales});
  }
  testing_checkpoint::WriteCheckpoint(dir_ / "model", files);
  fs::remove_all(dir_ / "set");
  PackOptions options = options_;
  options.gguf_file.clear();
  options.token_map_file = kV41Map;
  EXPECT_EQ(PackCheckpoint(**FindFamily(kV41), dir_ / "model", options)->id, packed->id);
  EXPECT_THAT(ImageTokenIds(*packed), ElementsAre(129264));
  // Where no key says what they are, it is said; and a name of one's own is taken.
  EXPECT_EQ(Pack(kV41, V41File(kI8, 264, 264))->id, packed->id);
  EXPECT_THAT(notes_, HasSubstr("--encoding NAME"));
  options_.encoding = "mine";
  EXPECT_EQ(Pack(kV41)->layers[0].encoding.label, "mine");
  EXPECT_THAT(notes_, Not(HasSubstr("--encoding")));
}

TEST_F(PackGgufTest, OtherRowsOfBytesHaveTheConvertersName) {
  File file =
      With(V41File(kI8, 136, 136), Text("deepseek41.engram.encoding", "lloyd4_e5m3_32_r136"));
  EXPECT_EQ(Pack(kV41, file)->layers[0].encoding.label, "lloyd4_e5m3_32_r136");
  EXPECT_EQ(Pack(kV41, V41File(kI8, 136, 136))->layers[0].encoding.label, "gguf_i8");
  file = With(file, Text("deepseek41.engram.encoding", "conversion_underway"));
  ExpectRefused(Pack(kV41, file), kDoesNotFit, {"engram.encoding is conversion_underway"});
  file = With(file, Text("deepseek41.engram.encoding", "e4m3_e8m0_32_row264"));
  ExpectRefused(Pack(kV41, file), kDoesNotFit, {"I8", "136", "rows of 264 bytes"});
  file = With(file, Text("deepseek41.engram.encoding", "no name"));
  ExpectRefused(Pack(kV41, file), absl::StatusCode::kInvalidArgument, {"is \"no name\""});
  // Whoever reads the set would be told that the rows are what they are not.
  file = With(file, Text("deepseek41.engram.encoding", "bf16"));
  ExpectRefused(Pack(kV41, file), kDoesNotFit,
                {"I8", "engram.encoding is bf16", "--encoding NAME"});
  options_.encoding = "mine";
  EXPECT_EQ(Pack(kV41)->layers[0].encoding.label, "mine");
}

TEST_F(PackGgufTest, QuantisedRowsAreOpaqueWithTheTypesName) {
  const absl::StatusOr<Manifest> packed = Pack(kV41, V41File(kQ8_0, 256, 272));
  ASSERT_TRUE(packed.ok()) << packed.status();
  for (const LayerTableSpec& layer : packed->layers) {
    EXPECT_EQ(layer.row_bytes, 272u);
    EXPECT_EQ(layer.encoding.kind, RowEncodingKind::kOpaque);
    EXPECT_EQ(layer.encoding.label, "gguf_q8_0");
    EXPECT_EQ(layer.encoding.dim, 256u);
    EXPECT_TRUE(Rows(layer) == SomeBytes(layer.layer, layer.rows * 272));
  }
  EXPECT_EQ(packed->scheme.pad_id, 2);
  ASSERT_TRUE(packed->scheme.token_map.has_value());
  EXPECT_EQ(ReadWholeFile((dir_ / "set/token_map.i32").string(), 1u << 24).value(),
            ReadWholeFile(kV41Map, 1u << 24).value());
  EXPECT_EQ(notes_, "");
  Pack(kV41, With(V41File(kQ8_0, 256, 272), Uint32("deepseek41.engram_image_token_id", 129270)))
      .value();
  EXPECT_THAT(ImageTokenIds(*packed), ElementsAre(129270));
  EXPECT_EQ(notes_, "");
  options_.token_map_file = kV41Map;  // the same one
  EXPECT_EQ(Pack(kV41)->id, packed->id);
}

TEST_F(PackGgufTest, EveryLayoutOfQwenHasOneId) {
  const uint64_t rows = SchemeOf(kQwen).layers[0].Rows();
  const absl::StatusOr<Manifest> packed = Pack(kQwen, QwenFile(0));
  ASSERT_TRUE(packed.ok()) << packed.status();
  EXPECT_EQ(packed->layers[0].row_bytes, 90u);
  EXPECT_EQ(packed->layers[0].encoding.label, "gguf_iq4_nl");
  EXPECT_TRUE(Rows(packed->layers[0]) == SomeBytes(7, rows * 90));
  EXPECT_EQ(notes_, "");
  EXPECT_EQ(Pack(kQwen, QwenFile(2))->id, packed->id);
  EXPECT_THAT(notes_, HasSubstr("2 rows"));
  // One tensor a head, over the parts of a split model.
  File parts[2] = {QwenFile(0), {}};
  parts[0].tensors.clear();
  AddQwenColumns(absl::MakeSpan(parts));
  for (uint16_t part = 0; part < 2; ++part) {
    parts[part].keys.push_back(Uint16("split.no", part));
    parts[part].keys.push_back(Uint16("split.count", 2));
    testing_gguf::Write(dir_ / absl::StrCat("q-0000", part + 1, "-of-00002.gguf"), parts[part]);
  }
  options_.gguf_file = dir_ / "q-00002-of-00002.gguf";
  const absl::StatusOr<Manifest> split = Pack(kQwen);
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_EQ(split->id, packed->id);
  // Both parts are listed, whichever was given.
  const ReadFrom from = LoadSideFiles(dir_ / "set", "", *split).value().provenance->read_from;
  ASSERT_EQ(from.files.size(), 2u);
  for (size_t part = 0; part < 2; ++part) {
    const SourceFile& file = from.files[part];
    EXPECT_EQ(file.path, absl::StrCat("q-0000", part + 1, "-of-00002.gguf"));
    EXPECT_EQ(file.bytes, fs::file_size(dir_ / file.path));
    EXPECT_EQ(file.tensors, 8u);
    EXPECT_THAT(file.layers, ElementsAre(1u));
  }
  fs::remove(dir_ / "q-00001-of-00002.gguf");
  ExpectRefused(Pack(kQwen), absl::StatusCode::kNotFound, {"q-00001-of-00002.gguf"});
}

TEST_F(PackGgufTest, EitherOfTwoTablesIsTakenByItsName) {
  File file = QwenFile(0);
  AddQwenColumns(absl::MakeSpan(&file, 1));
  const std::string whole = "per_layer_token_embd.weight",
                    columns = "ple_ngram_embd.{piece}.weight";
  ExpectRefused(Pack(kQwen, file), kDoesNotFit,
                {"--gguf-tensor " + whole + " or --gguf-tensor " + columns});
  options_.rows = {whole};
  const absl::StatusOr<Manifest> packed = Pack(kQwen);
  ASSERT_TRUE(packed.ok()) << packed.status();
  options_.rows = {columns};
  const absl::StatusOr<Manifest> of_columns = Pack(kQwen);
  ASSERT_TRUE(of_columns.ok()) << of_columns.status();
  EXPECT_EQ(of_columns->id, packed->id);
}

TEST_F(PackGgufTest, ColumnsOfLongCatAndPlainValues) {
  const LayerAddressing layer = SchemeOf(kLongCat).layers[0];
  File file;
  std::string expected;
  for (size_t c = 0; c < layer.moduli.size(); ++c) {
    const std::string bytes = SomeBytes(c, layer.moduli[c] * 512);
    expected += bytes;
    file.tensors.push_back(
        {absl::StrCat("ngram_embd.", c, ".weight"), kBf16, {256, layer.moduli[c]}, bytes});
  }
  const absl::StatusOr<Manifest> packed = Pack(kLongCat, file);
  ASSERT_TRUE(packed.ok()) << packed.status();
  EXPECT_EQ(packed->layers[0].encoding.kind, RowEncodingKind::kBf16);
  EXPECT_TRUE(Rows(packed->layers[0]) == expected);
  EXPECT_THAT(notes_, HasSubstr("the metadata were not compared"));
  std::swap(file.tensors[3].bytes, file.tensors[4].bytes);
  std::swap(file.tensors[3].shape, file.tensors[4].shape);
  ExpectRefused(Pack(kLongCat, file), kDoesNotFit, {"ngram_embd.3.weight"});
  file.tensors.erase(file.tensors.begin() + 5);
  ExpectRefused(Pack(kLongCat, file), absl::StatusCode::kNotFound, {"lacks piece 5"});
}

// Whatever enters an address is compared, and both sides are named.
TEST_F(PackGgufTest, KeysThatDisagreeAreRefused) {
  const File file = V41File(kQ8_0, 256, 272);
  std::vector<uint64_t> primes =
      Flat(SchemeOf(kV41), [](const LayerAddressing& layer) { return layer.moduli; });
  primes[30] += 2;
  const std::string was = absl::StrCat(primes[30] - 2), is = absl::StrCat(primes[30]);
  ExpectRefused(Pack(kV41, With(file, Uint64s("deepseek41.engram.primes", primes))), kDoesNotFit,
                {"m.gguf: deepseek41.engram.primes has " + is + " at place 30", "expected " + was,
                 "table sizes of layer 14", "--rows-per-head"});
  ExpectRefused(Pack(kV41, With(file, Uint64s("deepseek41.engram.multipliers", {1, 2}))),
                kDoesNotFit, {"engram.multipliers has 2 numbers, expected 8"});
  ExpectRefused(Pack(kV41, With(file, Uint32("deepseek41.engram.head_count", 4))), kDoesNotFit,
                {"head_count is 4", "has 8"});
  ExpectRefused(Pack(kV41, With(file, Uint32("deepseek41.engram.pad_id", 3))), kDoesNotFit,
                {"pad_id is 3, expected 2"});
  ExpectRefused(Pack(kV41, With(file, Uint32("deepseek41.engram.vocab_size", 60))), kDoesNotFit,
                {"--rows-per-head is 50", "engram.vocab_size is 60", "base size"});
  ExpectRefused(Pack(kV41, With(file, Uint32s("deepseek41.engram.rows", {10, 20}))), kDoesNotFit,
                {"engram.rows is [10, 20]"});
  ExpectRefused(Pack(kV41, With(file, Uint32("deepseek41.engram.key_length", 128))), kDoesNotFit,
                {"rows of 128 values", "key_length is 128"});
  std::vector<int32_t> map = V41MapNumbers();
  map[1000] = map[1001];
  ExpectRefused(Pack(kV41, With(file, Int32s("deepseek41.engram.token_map", map))), kDoesNotFit,
                {"deepseek41.engram.token_map"});
  options_.token_map_file = kV41Map;
  ExpectRefused(Pack(kV41), kDoesNotFit, {kV41Map, "map the id 1000 to"});
}

TEST_F(PackGgufTest, StoredConstantsAreTakenWhereThatIsAsked) {
  std::vector<uint64_t> multipliers =
      Flat(SchemeOf(kQwen), [](const LayerAddressing& layer) { return layer.multipliers; });
  multipliers[1] += 2;
  const File file = With(QwenFile(0), Uint64s("qwen4exp.ple.layer_multipliers", multipliers));
  ExpectRefused(Pack(kQwen, file), kDoesNotFit, {"--use-stored-constants"});
  options_.use_stored_constants = true;
  const absl::StatusOr<Manifest> packed = Pack(kQwen);
  ASSERT_TRUE(packed.ok()) << packed.status();
  EXPECT_EQ(packed->scheme.layers[0].multipliers[1], static_cast<int64_t>(multipliers[1]));
  EXPECT_THAT(notes_, HasSubstr("the constants are those that the metadata store"));
  ExpectRefused(Pack(kQwen, File{.keys = {}, .tensors = file.tensors}), kDoesNotFit,
                {"--use-stored-constants: the metadata hold no constants"});
}

TEST_F(PackGgufTest, NothingToCompareIsSaid) {
  File file = V41File(kQ8_0, 256, 272);
  file.keys.resize(1);
  ExpectRefused(Pack(kV41, file), absl::StatusCode::kInvalidArgument, {"--token-map FILE"});
  options_.token_map_file = kV41Map;
  ASSERT_TRUE(Pack(kV41).ok());
  EXPECT_THAT(notes_, HasSubstr("note: the metadata were not compared: "));
  file.keys.push_back(Text("deepseek41.engram.storage", "external"));
  ASSERT_TRUE(Pack(kV41, file).ok());
  EXPECT_THAT(notes_, HasSubstr("deepseek41.engram.storage"));
}

TEST_F(PackGgufTest, WrongTensorsAreRefusedByName) {
  File file = QwenFile(0);
  file.tensors[0].name = "my_table.weight";
  ExpectRefused(Pack(kQwen, file), absl::StatusCode::kNotFound,
                {"per_layer_token_embd.weight", "my_table.weight (IQ4_NL [", "--gguf-tensor"});
  options_.rows = {"my_table.weight"};
  EXPECT_TRUE(Pack(kQwen).ok());
  options_.rows = {"other.weight"};
  ExpectRefused(Pack(kQwen), absl::StatusCode::kNotFound, {"other.weight", "--gguf-tensor"});
  options_.rows.clear();
  file = QwenFile(0);
  file.tensors.push_back({"blk.1.ple_ngram_embd.weight", kF32, {1}, "1234"});
  ExpectRefused(Pack(kQwen, file), kDoesNotFit,
                {"per_layer_token_embd.weight and blk.1.ple_ngram_embd.weight"});
  file = QwenFile(0);
  file.tensors[0].shape[1] -= 1;
  file.tensors[0].bytes.resize(file.tensors[0].bytes.size() - 90);
  ExpectRefused(Pack(kQwen, file), kDoesNotFit, {"per_layer_token_embd.weight", "--rows-per-head"});
  file = QwenFile(0);
  file.tensors[0].type = 139;
  ExpectRefused(Pack(kQwen, file), kDoesNotFit, {"the type 139"});
  file = V41File(kQ8_0, 256, 272);
  file.tensors[1].name = "blk.3.engram_embd.weight";
  ExpectRefused(Pack(kV41, file), kDoesNotFit, {"blk.3.engram_embd.weight", "is of layer 3"});
  file.tensors[1].name = "x";
  ExpectRefused(Pack(kV41, file), absl::StatusCode::kNotFound, {"of layer 1: "});
}

// Converters keep a scale a row as they find it: [rows] or [rows, 1].
TEST_F(PackGgufTest, ScalesBesideTheTableAreSaidOrJoined) {
  const uint64_t rows = SchemeOf(kQwen).layers[0].Rows();
  const std::string codes = SomeBytes(7, rows * 90), scales = SomeBytes(8, rows * 2);
  for (const std::vector<uint64_t>& shape : {std::vector<uint64_t>{1, rows}, {rows}}) {
    options_.rows.clear();
    File file = QwenFile(0);
    file.tensors.push_back({"per_layer_token_embd.scale", 1, shape, scales});
    ASSERT_TRUE(Pack(kQwen, file).ok());
    EXPECT_THAT(notes_,
                HasSubstr(absl::StrCat("per_layer_token_embd.scale (F16 [", rows, ", 1])")));
    options_.rows = {"per_layer_token_embd.weight", "per_layer_token_embd.scale"};
    const absl::StatusOr<Manifest> packed = Pack(kQwen);
    ASSERT_TRUE(packed.ok()) << packed.status();
    EXPECT_EQ(packed->layers[0].encoding.label, "gguf_iq4_nl-f16");
    EXPECT_EQ(packed->layers[0].row_bytes, 92u);
    const std::string found = Rows(packed->layers[0]);
    for (uint64_t row = 0; row < rows; ++row) {
      ASSERT_EQ(found.compare(row * 92, 90, codes, row * 90, 90), 0) << row;
      ASSERT_EQ(found.compare(row * 92 + 90, 2, scales, row * 2, 2), 0) << row;
    }
  }
}

TEST_F(PackGgufTest, FilesThatAreNotWholeAreRefused) {
  testing_gguf::Write(options_.gguf_file, QwenFile(0));
  std::ofstream(options_.gguf_file + ".aria2") << "x";
  ExpectRefused(Pack(kQwen), kDoesNotFit, {".aria2"});
  fs::remove(options_.gguf_file + ".aria2");
  fs::create_symlink("nowhere", dir_ / "link.gguf");
  options_.gguf_file = dir_ / "link.gguf";
  ExpectRefused(Pack(kQwen), kDoesNotFit, {"link.gguf is a link to nowhere"});
  options_.gguf_file = dir_ / "none.gguf";
  ExpectRefused(Pack(kQwen), absl::StatusCode::kNotFound, {"none.gguf"});
}

}  // namespace
}  // namespace engram
