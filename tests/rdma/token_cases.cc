// Batches by token ids over RDMA: the owner addresses them, and what lands is what the client would
// have asked for by row ids.
#include <algorithm>
#include <cstring>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "client/client.h"
#include "gtest/gtest.h"
#include "memstore/addressing/column_slice.h"
#include "memstore/base/clock.h"
#include "memstore/table/manifest.h"
#include "proto/wire/version.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"
#include "tests/rdma/rdma_owner.h"

namespace engram::rdma {
namespace {

using integration::EngramdProcess;

// Sequences as a decode step with prefill chunks among it has them, with the windows they have
// reached.
struct Step {
  std::vector<SequenceTokens> sequences;
  std::vector<int32_t> token_ids;
  std::vector<uint8_t> dead;

  Step(const Addresser& addresser, std::vector<uint32_t> lengths, uint32_t seed) {
    std::mt19937 random(seed);
    const AddressScheme& scheme = addresser.scheme();
    const absl::Span<const int32_t> images = addresser.image_token_ids();
    const auto id = [&] {
      const auto drawn = static_cast<int32_t>(random() % scheme.vocab_size);
      // One that is not dead is refused.
      return std::find(images.begin(), images.end(), drawn) == images.end() ? drawn : 0;
    };
    for (const uint32_t length : lengths) {
      SequenceState state = Addresser::Start();
      const std::vector<int32_t> before = {id(), id(), id(), id()};
      // From the very start, within the first tokens, and further on.
      const size_t known = random() % (before.size() + 1);
      EXPECT_TRUE(addresser.Advance({before.data(), known}, {}, &state).ok());
      sequences.push_back({state, length});
      for (uint32_t i = 0; i < length; ++i) {
        token_ids.push_back(id());
        dead.push_back(random() % 8 == 0);
      }
    }
    if (!scheme.dead_positions || seed % 2 == 0) dead.clear();
  }
};

// How rows lie, and that every byte between them stays as it was. Without slices: of all columns.
std::vector<Landing> Landings(const Manifest& manifest, bool tile, uint64_t tokens,
                              std::vector<std::byte>* buffer,
                              const std::vector<ColumnSlice>& slices = {}) {
  uint64_t token_bytes = 0;
  const auto columns_of = [&](const LayerTableSpec& layer) {
    return slices.empty() ? manifest.scheme.Columns()
                          : slices[&layer - manifest.layers.data()].columns();
  };
  for (const LayerTableSpec& layer : manifest.layers) {
    token_bytes += columns_of(layer) * layer.row_bytes;
  }
  buffer->assign(tokens * token_bytes + 4096, std::byte{0xa5});
  std::vector<Landing> landings;
  uint64_t at = 0;
  for (const LayerTableSpec& layer : manifest.layers) {
    const uint64_t columns = columns_of(layer);
    Landing landing{.data = columns == 0 ? nullptr : buffer->data() + at};
    if (tile && columns > 0) {
      landing.group_rows = columns;
      landing.group_stride_bytes = token_bytes;
    }
    landings.push_back(landing);
    at += columns * layer.row_bytes * (tile ? 1 : tokens);
  }
  return landings;
}

absl::Status LookUp(Client& client, const Step& step, const std::vector<Landing>& landings,
                    const std::vector<ColumnSlice>& slices = {}) {
  const auto ticket = client.SubmitTokens(step.sequences, step.token_ids, step.dead, landings,
                                          RealClock().Now() + absl::Seconds(60), slices);
  if (!ticket.ok()) return ticket.status();
  absl::Status status = client.Wait(*ticket);
  client.Reap(*ticket);
  return status;
}

class RdmaTokenTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    integration::PackSmallSet(GetParam(), 500, scratch_ / "set");
    engramd_ = std::make_unique<EngramdProcess>(std::vector<std::string>{
        "--table-set", scratch_ / "set", "--listen", "127.0.0.1:0", "--rdma-device", Device()});
    const std::string address = engramd_->WaitUntilServing();
    embedded_ = Attach("embedded:" + (scratch_ / "set"));
    rdma_ = Attach("rdma:" + address);
  }
  static std::unique_ptr<Client> Attach(const std::string& target) {
    auto client = Client::Attach(target, {});
    EXPECT_TRUE(client.ok()) << target << ": " << client.status();
    return client.ok() ? *std::move(client) : nullptr;
  }
  integration::ScratchDirectory scratch_;
  std::unique_ptr<EngramdProcess> engramd_;
  std::unique_ptr<Client> embedded_, rdma_;
};

TEST_P(RdmaTokenTest, RowsAreThoseOfRowIds) {
  ASSERT_GT(rdma_->transport().capabilities().max_sequence_tokens, 0u);
  ASSERT_EQ(embedded_->transport().capabilities().max_sequence_tokens, 0u);
  const std::vector<uint32_t> one = {1}, decode(64, 1), mixed = {1, 700, 1, 33, 1024, 1},
                              many(1500, 1), longer = {2500, 1, 3};
  uint32_t seed = 1;
  for (const auto& lengths : {one, decode, mixed, many, longer}) {
    for (const bool tile : {false, true}) {
      const Step step(rdma_->addresser(), lengths, seed++);
      std::vector<std::byte> expected, got;
      const auto tokens = step.token_ids.size();
      const auto want = Landings(embedded_->table_set(), tile, tokens, &expected);
      const auto have = Landings(rdma_->table_set(), tile, tokens, &got);
      absl::Status status = LookUp(*embedded_, step, want);
      ASSERT_TRUE(status.ok()) << status;
      ASSERT_TRUE(rdma_->Register(absl::MakeSpan(got)).ok());
      status = LookUp(*rdma_, step, have);
      EXPECT_TRUE(status.ok()) << status;
      EXPECT_TRUE(got == expected) << lengths.size() << " sequences, tile " << tile;
      ASSERT_TRUE(rdma_->Unregister(absl::MakeSpan(got)).ok());
    }
  }
}

// The first and the last column of the first layer, none of the last one where there are three, and
// half of each other.
std::vector<ColumnSlice> SomeColumns(const Manifest& manifest) {
  const uint32_t columns = manifest.scheme.Columns();
  const size_t layers = manifest.layers.size();
  std::vector<ColumnSlice> slices;
  for (size_t i = 0; i < layers; ++i) {
    std::vector<ColumnRun> runs = {{columns / 2, columns - columns / 2}};
    if (i == 0) runs = {{0, 1}, {columns - 1, 1}};
    if (i == 2) runs.clear();
    slices.push_back(ColumnSlice::Create(runs, columns, manifest.layers[i].layer).value());
  }
  return slices;
}

TEST_P(RdmaTokenTest, RowsOfSlicesAreThoseOfTheirColumns) {
  ASSERT_TRUE(rdma_->transport().capabilities().token_slices);
  EXPECT_EQ(rdma_->transport().capabilities().owner_version, kEngramVersion);
  const Manifest& manifest = rdma_->table_set();
  const std::vector<ColumnSlice> slices = SomeColumns(manifest);
  uint32_t seed = 10;
  for (const auto& lengths : {std::vector<uint32_t>{1}, std::vector<uint32_t>(64, 1),
                              std::vector<uint32_t>{700, 1, 1024, 33}}) {
    for (const bool tile : {false, true}) {
      const Step step(rdma_->addresser(), lengths, seed++);
      const uint64_t tokens = step.token_ids.size();
      std::vector<std::byte> all, got;
      const auto want = Landings(manifest, false, tokens, &all);
      const auto have = Landings(manifest, tile, tokens, &got, slices);
      ASSERT_TRUE(LookUp(*embedded_, step, want).ok());
      ASSERT_TRUE(rdma_->Register(absl::MakeSpan(got)).ok());
      std::vector<std::byte> expected = got;
      for (size_t l = 0; l < slices.size(); ++l) {
        const uint64_t bytes = manifest.layers[l].row_bytes;
        for (uint64_t row = 0; row < tokens * slices[l].columns(); ++row) {
          const uint64_t from = row / slices[l].columns() * manifest.scheme.Columns() +
                                slices[l].LayerColumn(row % slices[l].columns());
          std::memcpy(expected.data() + (have[l].data - got.data()) +
                          have[l].shape().OffsetOf(row, manifest.layers[l].row_bytes),
                      want[l].data + from * bytes, bytes);
        }
      }
      const absl::Status status = LookUp(*rdma_, step, have, slices);
      EXPECT_TRUE(status.ok()) << status;
      EXPECT_TRUE(got == expected) << lengths.size() << " sequences, tile " << tile;
      ASSERT_TRUE(rdma_->Unregister(absl::MakeSpan(got)).ok());
    }
  }
}

TEST_P(RdmaTokenTest, WhatIsWrongIsRefusedAndTheConnectionGoesOn) {
  Step step(rdma_->addresser(), {1, 5}, 2);
  std::vector<std::byte> buffer;
  auto landings = Landings(rdma_->table_set(), false, 6, &buffer);
  ASSERT_TRUE(rdma_->Register(absl::MakeSpan(buffer)).ok());
  const auto refused = [&](const char* what) {
    const absl::Status status = LookUp(*rdma_, step, landings);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_NE(status.message().find(what), absl::string_view::npos) << status;
    step = Step(rdma_->addresser(), {1, 5}, 2);
  };
  // By the owner, which addresses.
  step.token_ids[3] = static_cast<int32_t>(rdma_->addresser().scheme().vocab_size);
  refused("sequence 1");
  step.token_ids[0] = -1;
  refused("sequence 0");
  step.sequences[0].state.ids[0] = int64_t{1} << 30;
  refused("the window of sequence 0");
  // By this side.
  step.sequences[1].tokens = 4;
  refused("5 tokens and there are 6");
  step.dead.assign(3, 0);
  refused("dead mask");
  landings[0].group_rows = 2;
  landings[0].group_stride_bytes = 4096;
  refused("a token's");
  landings = Landings(rdma_->table_set(), false, 6, &buffer);
  EXPECT_TRUE(LookUp(*rdma_, step, landings).ok());
  EXPECT_EQ(rdma_->Submit({.layers = {}, .deadline = RealClock().Now() + absl::Seconds(1)})
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_P(RdmaTokenTest, ABreakInMidBatchIsMended) {
  const Step step(rdma_->addresser(), {1000, 1000, 1000, 1000, 1000, 1000}, 4);
  std::vector<std::byte> expected, got;
  const auto want = Landings(embedded_->table_set(), true, 6000, &expected);
  const auto have = Landings(rdma_->table_set(), true, 6000, &got);
  ASSERT_TRUE(LookUp(*embedded_, step, want).ok());
  ASSERT_TRUE(rdma_->Register(absl::MakeSpan(got)).ok());
  const auto ticket = rdma_->SubmitTokens(step.sequences, step.token_ids, step.dead, have,
                                          RealClock().Now() + absl::Seconds(60));
  ASSERT_TRUE(ticket.ok()) << ticket.status();
  static_cast<RdmaTransport&>(rdma_->transport()).BreakForTest();
  const absl::Status status = rdma_->Wait(*ticket);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(got == expected);
  rdma_->Reap(*ticket);
}

// The client sends the ids as they are: the owner looks, unless the client says that it need not.
TEST(RdmaTokens, AnImagesTokenIsRefusedByTheOwnerUnlessAllowed) {
  constexpr int32_t kImage = 129264;
  const integration::ScratchDirectory scratch;
  const std::string set = scratch / "set";
  integration::PackSmallSet("deepseek-v4.1-flash", 500, set);  // with the family's image token id
  EngramdProcess engramd(
      {"--table-set", set, "--listen", "127.0.0.1:0", "--rdma-device", Device()});
  const std::string address = engramd.WaitUntilServing();
  for (const bool allow : {false, true}) {
    const auto client = Client::Attach("rdma:" + address, {.allow_unmasked_images = allow}).value();
    const auto embedded =
        Client::Attach("embedded:" + set, {.allow_unmasked_images = allow}).value();
    Step step(client->addresser(), {3, 5}, 2);
    step.token_ids[6] = kImage;
    std::vector<std::byte> got, expected;
    const auto have = Landings(client->table_set(), true, 8, &got);
    const auto want = Landings(client->table_set(), true, 8, &expected);
    ASSERT_TRUE(client->Register(absl::MakeSpan(got)).ok());
    const absl::Status status = LookUp(*client, step, have);
    EXPECT_EQ(status.ok(), allow) << status;
    if (!allow) {
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_NE(status.message().find("sequence 1: token id 129264 at position 3"),
                absl::string_view::npos)
          << status;
      // Dead it is taken, and the connection goes on.
      step.dead.assign(8, 0);
      step.dead[6] = 1;
      EXPECT_TRUE(LookUp(*client, step, have).ok());
    }
    ASSERT_TRUE(LookUp(*embedded, step, want).ok());
    EXPECT_TRUE(got == expected) << allow;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, RdmaTokenTest,
                         ::testing::Values("deepseek-v4.1-flash", "engram-27b",
                                           "longcat-flash-lite"),
                         [](const auto& family) {
                           std::string name = family.param;
                           for (char& c : name) c = std::isalnum(c) ? c : '_';
                           return name;
                         });

}  // namespace
}  // namespace engram::rdma
