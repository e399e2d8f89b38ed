// Slices of columns over every way to rows: the rows are the same columns of the whole lookup, and
// what is wrong is refused alike, before anything is written.
#include <algorithm>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "client/transport/auto/auto_transport.h"
#include "client/transport/grpc/grpc_transport.h"
#include "client/transport/local/embedded_transport.h"
#include "client/transport/testing/fault_transport.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "proto/wire/version.h"
#include "tests/cluster/partitioned_stores.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kColumns = 24, kRowBytes = 264, kGap = 72;  // of deepseek-v4.1-flash
constexpr uint32_t kLayers[] = {1, 14};
constexpr std::byte kUntouched{0xA5};
using Runs = std::vector<ColumnRun>;

ColumnSlice Slice(const Runs& runs) { return ColumnSlice::Create(runs, kColumns).value(); }

struct Way {
  std::string name;
  std::unique_ptr<Client> client;
};

// Where the rows of both layers land, [tokens, columns of the slice] with a gap behind each token.
class Buffers {
 public:
  Buffers(uint64_t tokens, absl::Span<const ColumnSlice> slices) : tokens_(tokens) {
    for (const ColumnSlice& slice : slices) {
      columns_.push_back(slice.columns());
      rows_.emplace_back(tokens * Stride(columns_.size() - 1), kUntouched);
      // None is needed where there are no columns.
      landings_.push_back({.data = slice.empty() ? nullptr : rows_.back().data(),
                           .group_rows = slice.columns(),
                           .group_stride_bytes = Stride(columns_.size() - 1)});
    }
  }
  const std::vector<Landing>& landings() const { return landings_; }
  const std::byte* Row(size_t layer, uint64_t token, uint32_t column) const {
    return &rows_[layer][token * Stride(layer) + column * kRowBytes];
  }
  bool GapsAreUntouched() const {
    for (size_t layer = 0; layer < rows_.size(); ++layer) {
      for (uint64_t token = 0; token < tokens_; ++token) {
        const std::byte* const gap = Row(layer, token, columns_[layer]);
        if (std::any_of(gap, gap + kGap, [](std::byte b) { return b != kUntouched; })) return false;
      }
    }
    return true;
  }
  bool AllUntouched() const {
    return std::all_of(rows_.begin(), rows_.end(), [](const auto& rows) {
      return std::all_of(rows.begin(), rows.end(), [](std::byte b) { return b == kUntouched; });
    });
  }

 private:
  uint64_t Stride(size_t layer) const { return uint64_t{columns_[layer]} * kRowBytes + kGap; }

  const uint64_t tokens_;
  std::vector<uint32_t> columns_;
  std::vector<std::vector<std::byte>> rows_;
  std::vector<Landing> landings_;
};

class SlicesAgreeTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    scratch_ = new ScratchDirectory;
    const std::string set = *scratch_ / "set", shm = *scratch_ / "shm";
    PackSmallSet("deepseek-v4.1-flash", 500, set);
    engramd_ =
        new EngramdProcess({"--table-set", set, "--listen", "127.0.0.1:0", "--shm-socket", shm});
    const std::string address = engramd_->WaitUntilServing(0);
    ASSERT_TRUE(engramd_->WaitForLine("shared memory at"));
    ways_ = new std::vector<Way>;
    Add("embedded:" + set, "");
    Add("shm:" + shm, "");
    Add("shm:" + shm, "ring");
    Add("grpc:" + address, "stream");
    Add("grpc:" + address, "unary");
    Add("auto:" + address, "");
    stores_ = new PartitionedStores(*scratch_, 3, 1);
    Add(stores_->target(), "");
    const auto fault = [&] {
      return std::make_unique<testing::FaultTransport>(EmbeddedTransport::Attach(set, "").value(),
                                                       [](uint64_t) { return testing::Fate{}; });
    };
    ways_->push_back({"fault", Client::Create(fault()).value()});
    // Its first way lands later, so batches are remembered.
    ways_->push_back(
        {"auto over fault",
         Client::Create(std::make_unique<AutoTransport>(
                            fault(), GrpcTransport::Attach(address, "", {}).value(), "a test's"))
             .value()});
  }
  static void TearDownTestSuite() {
    const auto* suite = ::testing::UnitTest::GetInstance()->current_test_suite();
    if (suite->Failed()) std::cerr << engramd_->Log();
    delete ways_;
    delete stores_;
    delete engramd_;
    delete scratch_;
  }
  static void Add(const std::string& target, const std::string& mode) {
    auto client = Client::Attach(target, {.table_set = {}, .mode = mode});
    ASSERT_TRUE(client.ok()) << target << ": " << client.status();
    ways_->push_back({absl::StrCat(target, " ", mode), *std::move(client)});
  }

  static bool TakesTokens(const Way& way) {
    const std::string& name = way.name;
    return name.substr(0, 8) == "cluster:" ||
           (name.substr(0, 5) == "grpc:" && name.substr(name.size() - 6) == "stream");
  }
  static Client& Embedded() { return *ways_->front().client; }
  static MonotonicTime Soon() { return RealClock().Now() + absl::Seconds(60); }

  // All columns of every token of the sequences, from the tables themselves.
  static Buffers Whole(absl::Span<const SequenceTokens> sequences,
                       const std::vector<int32_t>& token_ids, const std::vector<uint8_t>& dead) {
    const ColumnSlice all[] = {ColumnSlice::All(kColumns), ColumnSlice::All(kColumns)};
    Buffers whole(token_ids.size(), all);
    const auto ticket =
        Embedded().SubmitTokens(sequences, token_ids, dead, whole.landings(), Soon());
    EXPECT_TRUE(ticket.ok()) << ticket.status();
    if (ticket.ok()) Embedded().Reap(*ticket);
    return whole;
  }

  static void ExpectSame(const Buffers& whole, const Buffers& sliced,
                         absl::Span<const ColumnSlice> slices, uint64_t tokens) {
    for (size_t layer = 0; layer < slices.size(); ++layer) {
      for (uint64_t token = 0; token < tokens; ++token) {
        for (uint32_t c = 0; c < slices[layer].columns(); ++c) {
          const std::byte* const want = whole.Row(layer, token, slices[layer].LayerColumn(c));
          ASSERT_EQ(std::memcmp(sliced.Row(layer, token, c), want, kRowBytes), 0)
              << "layer " << kLayers[layer] << ", token " << token << ", column " << c << " of "
              << slices[layer].ToString();
        }
      }
    }
    EXPECT_TRUE(sliced.GapsAreUntouched());
  }

  // Waits, by layers and as a whole, and gives the buffers back.
  static void Finish(Client& client, const absl::StatusOr<Ticket>& ticket) {
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    for (size_t layer = 0; layer < 2; ++layer) {
      const absl::Status status = client.WaitLayer(*ticket, layer);
      EXPECT_TRUE(status.ok()) << status;
    }
    EXPECT_TRUE(client.Wait(*ticket).ok());
    EXPECT_EQ(client.Poll(*ticket), TicketState::kLanded);
    client.Reap(*ticket);
  }

  static void ExpectRefused(const absl::Status& status, absl::StatusCode code,
                            const std::string& what) {
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(what));
  }

  static ScratchDirectory* scratch_;
  static EngramdProcess* engramd_;
  static PartitionedStores* stores_;
  static std::vector<Way>* ways_;
};

ScratchDirectory* SlicesAgreeTest::scratch_ = nullptr;
EngramdProcess* SlicesAgreeTest::engramd_ = nullptr;
PartitionedStores* SlicesAgreeTest::stores_ = nullptr;
std::vector<Way>* SlicesAgreeTest::ways_ = nullptr;

std::vector<std::vector<ColumnSlice>> SlicesToTry() {
  const ColumnSlice heads = Slice({{0, 2}, {8, 2}, {16, 2}}), one = Slice({{3, 5}}),
                    single = Slice({{23, 1}}), all = ColumnSlice::All(kColumns), none = Slice({}),
                    scattered =
                        Slice({{0, 1}, {2, 1}, {5, 2}, {9, 1}, {12, 3}, {17, 1}, {20, 1}, {22, 2}});
  return {{one, heads}, {single, all}, {all, all},          {none, heads},    {heads, none},
          {none, none}, {none, all},   {scattered, single}, {scattered, none}};
}

TEST_F(SlicesAgreeTest, OnTheColumnsOfOneSequence) {
  for (const size_t tokens : {1, 7, 700}) {  // repeats of the last are taken out on the way
    std::vector<int32_t> ids = RealTokenIds(tokens);
    std::copy_n(ids.begin(), tokens / 3, ids.begin() + tokens / 2);
    std::vector<uint8_t> dead(tokens);
    for (size_t i = 0; i < tokens; i += 5) dead[i] = 1;
    const SequenceTokens sequence = {Addresser::Start(), static_cast<uint32_t>(tokens)};
    const Buffers whole = Whole({&sequence, 1}, ids, dead);
    Client::Plan plan;  // of one slice after the other
    for (const std::vector<ColumnSlice>& slices : SlicesToTry()) {
      for (const Way& way : *ways_) {
        SCOPED_TRACE(absl::StrCat(way.name, ", ", tokens, " tokens, ", slices[0].ToString(),
                                  " and ", slices[1].ToString()));
        Client& client = *way.client;
        Buffers prefetched(tokens, slices), planned(tokens, slices);
        Finish(client, client.Prefetch(Addresser::Start(), ids, dead, prefetched.landings(), Soon(),
                                       &plan, slices));
        ExpectSame(whole, prefetched, slices, tokens);
        ASSERT_EQ(plan.slices, slices);
        // By its own slices.
        ASSERT_TRUE(client.PlanTokens(Addresser::Start(), ids, dead, &plan, plan.slices).ok());
        ASSERT_EQ(plan.slices, slices);
        Finish(client, client.Submit(plan, planned.landings(), Soon()));
        ExpectSame(whole, planned, slices, tokens);
        if (HasFailure()) return;
      }
    }
  }
}

TEST_F(SlicesAgreeTest, OnTheDistinctRowsOfSlices) {
  constexpr size_t kTokens = 60;
  std::vector<int32_t> ids = RealTokenIds(kTokens);
  std::copy_n(ids.begin(), 20, ids.begin() + 30);
  const SequenceTokens sequence = {Addresser::Start(), kTokens};
  const Buffers whole = Whole({&sequence, 1}, ids, {});
  Client::Plan plan;
  for (const std::vector<ColumnSlice>& slices : SlicesToTry()) {
    for (const Way& way : *ways_) {
      SCOPED_TRACE(absl::StrCat(way.name, ", ", slices[0].ToString()));
      Client& client = *way.client;
      ASSERT_TRUE(client.PlanTokens(Addresser::Start(), ids, {}, &plan, slices).ok());
      client.MakeDistinct(&plan);
      std::vector<std::byte> rows[2];
      std::vector<Landing> landings(2);
      for (size_t l = 0; l < 2; ++l) {
        ASSERT_EQ(plan.inverse[l].size(), kTokens * slices[l].columns());
        EXPECT_LE(plan.row_ids[l].size(), plan.inverse[l].size());
        rows[l].resize(plan.row_ids[l].size() * kRowBytes);
        landings[l].data = rows[l].data();
      }
      Finish(client, client.Submit(plan, landings, Soon()));
      for (size_t l = 0; l < 2; ++l) {
        for (size_t i = 0; i < plan.inverse[l].size(); ++i) {
          const uint32_t columns = slices[l].columns();
          const std::byte* const want =
              whole.Row(l, i / columns, slices[l].LayerColumn(static_cast<uint32_t>(i % columns)));
          ASSERT_EQ(std::memcmp(&rows[l][plan.inverse[l][i] * kRowBytes], want, kRowBytes), 0);
        }
      }
    }
  }
}

TEST_F(SlicesAgreeTest, OnTheColumnsOfManySequences) {
  const std::vector<int32_t> ids = RealTokenIds(100);
  std::vector<uint8_t> dead(ids.size());
  for (size_t i = 0; i < ids.size(); i += 7) dead[i] = 1;
  // Of one token to many, each from its start or after a window.
  SequenceState window = Addresser::Start();
  ASSERT_TRUE(Embedded().addresser().Advance({5, 6, 7}, {}, &window).ok());
  const std::vector<SequenceTokens> sequences = {
      {window, 1}, {Addresser::Start(), 40}, {window, 2}, {window, 57}};
  const Buffers whole = Whole(sequences, ids, dead);
  for (const std::vector<ColumnSlice>& slices : SlicesToTry()) {
    for (const Way& way : *ways_) {
      SCOPED_TRACE(absl::StrCat(way.name, ", ", slices[0].ToString()));
      Buffers rows(ids.size(), slices);
      Finish(*way.client,
             way.client->SubmitTokens(sequences, ids, dead, rows.landings(), Soon(), slices));
      ExpectSame(whole, rows, slices, ids.size());
      if (HasFailure()) return;
    }
  }
}

// Another engine's ids, of one layer alone.
TEST_F(SlicesAgreeTest, OnIdsOfTheCallers) {
  const std::vector<int32_t> ids = RealTokenIds(50);
  const SequenceTokens sequence = {Addresser::Start(), 50};
  const Buffers whole = Whole({&sequence, 1}, ids, {});
  const ColumnSlice slice = Slice({{1, 3}, {20, 2}});
  Client::Plan plan;
  ASSERT_TRUE(Embedded().PlanTokens(Addresser::Start(), ids, {}, &plan, {{Slice({}), slice}}).ok());
  for (const Way& way : *ways_) {
    SCOPED_TRACE(way.name);
    std::vector<std::byte> rows(plan.row_ids[1].size() * kRowBytes);
    const LayerRequest layer = {
        .layer = 14, .row_ids = plan.row_ids[1], .landing = {.data = rows.data()}, .slice = &slice};
    const absl::Status status = way.client->Lookup({.layers = {&layer, 1}, .deadline = Soon()});
    ASSERT_TRUE(status.ok()) << status;
    for (size_t i = 0; i < plan.row_ids[1].size(); ++i) {
      const std::byte* const want =
          whole.Row(1, i / 5, slice.LayerColumn(static_cast<uint32_t>(i % 5)));
      ASSERT_EQ(std::memcmp(&rows[i * kRowBytes], want, kRowBytes), 0) << i;
    }
  }
}

TEST_F(SlicesAgreeTest, OnIdsThatAreNotOfTheirColumns) {
  const LayerAddressing& layer = *Embedded().addresser().scheme().FindLayer(14);
  const ColumnSlice slice = Slice({{2, 2}, {9, 1}});
  const std::vector<RowId> good = {layer.offsets[2] + 3, layer.offsets[3], layer.offsets[9] + 1};
  const auto with = [&](size_t place, RowId id) {
    std::vector<RowId> ids = good;
    ids[place] = id;
    return ids;
  };
  const ColumnSlice other_layers = ColumnSlice::Create({{{2, 2}, {9, 1}}}, kColumns, 1).value();
  const ColumnSlice narrow = ColumnSlice::Create({{{2, 2}, {9, 1}}}, 12).value();
  const ColumnSlice none = Slice({});
  struct Case {
    std::vector<RowId> ids;
    const ColumnSlice* slice;
    std::string what;
  };
  const Case cases[] = {
      {with(1, layer.offsets[4]), &slice, "it is of column 4"},
      {with(2, layer.offsets[2] + 3), &slice, "it is of column 2"},
      {with(2, 1), &slice, "ids local to a head?"},
      {with(0, 2 * layer.offsets[2] + 3), &slice, "offset added twice?"},
      {with(0, layer.Rows()), &slice, "beyond the table"},
      {with(0, ~RowId{0}), &slice, "beyond the table"},
      {{good[0], good[1]}, &slice, "2 row ids are not whole tokens of 3 columns"},
      {{}, &slice, "no row ids"},
      {good, &other_layers, "a slice of layer 1 was given for layer 14"},
      {good, &narrow, "a slice of a layer of 12 columns"},
      {good, &none, "3 row ids are not whole tokens of 0 columns"},
  };
  for (const Way& way : *ways_) {
    for (const Case& one : cases) {
      SCOPED_TRACE(absl::StrCat(way.name, ": ", one.what));
      std::vector<std::byte> rows(good.size() * kRowBytes, kUntouched);
      const LayerRequest request = {
          .layer = 14, .row_ids = one.ids, .landing = {.data = rows.data()}, .slice = one.slice};
      // Beside a layer of nothing, too: it is refused as a whole.
      const LayerRequest nothing = {.layer = 1, .row_ids = {}, .landing = {}, .slice = &none};
      for (const std::vector<LayerRequest>& layers :
           {std::vector<LayerRequest>{request}, {nothing, request}}) {
        const absl::Status status = way.client->Lookup({.layers = layers, .deadline = Soon()});
        ExpectRefused(status, absl::StatusCode::kInvalidArgument, one.what);
        ExpectRefused(status, absl::StatusCode::kInvalidArgument, "layer 14");
      }
      EXPECT_EQ(std::count(rows.begin(), rows.end(), kUntouched), rows.size());
    }
  }
}

TEST_F(SlicesAgreeTest, OnSlicesThatDoNotFit) {
  const std::vector<int32_t> ids = RealTokenIds(3);
  const SequenceTokens sequence = {Addresser::Start(), 3};
  const ColumnSlice all = ColumnSlice::All(kColumns);
  const ColumnSlice of_one = ColumnSlice::Create({{{0, 1}}}, kColumns, 1).value();
  const ColumnSlice wider = ColumnSlice::All(kColumns + 1);
  const std::pair<std::vector<ColumnSlice>, std::string> cases[] = {
      {{all}, "1 slices of columns for 2 layers"},
      {{all, all, all}, "3 slices of columns for 2 layers"},
      {{of_one, of_one}, "a slice of layer 1 was given for layer 14"},
      {{all, wider}, "a slice of a layer of 25 columns"},
      {{ColumnSlice(), all}, "a slice of a layer of 0 columns"},
  };
  for (const Way& way : *ways_) {
    Client& client = *way.client;
    for (const auto& [slices, what] : cases) {
      SCOPED_TRACE(absl::StrCat(way.name, ": ", what));
      Buffers rows(3, {{all, all}});
      Client::Plan plan;
      const auto invalid = absl::StatusCode::kInvalidArgument;
      ExpectRefused(client.PlanTokens(Addresser::Start(), ids, {}, &plan, slices), invalid, what);
      // A plan that was refused is none.
      EXPECT_FALSE(client.Submit(plan, rows.landings(), Soon()).ok());
      ExpectRefused(
          client.Prefetch(Addresser::Start(), ids, {}, rows.landings(), Soon(), &plan, slices)
              .status(),
          invalid, what);
      ExpectRefused(
          client.SubmitTokens({&sequence, 1}, ids, {}, rows.landings(), Soon(), slices).status(),
          invalid, what);
      ASSERT_TRUE(client.PlanTokens(Addresser::Start(), ids, {}, &plan).ok());
      plan.slices = slices;
      ExpectRefused(client.Submit(plan, rows.landings(), Soon()).status(), invalid, what);
      EXPECT_TRUE(rows.AllUntouched());
    }
  }
}

TEST_F(SlicesAgreeTest, OnStatesAndPlansOfAnotherSet) {
  const std::vector<int32_t> ids = RealTokenIds(3);
  const ColumnSlice slices[] = {Slice({{0, 2}}), Slice({{4, 1}})};
  const auto precondition = absl::StatusCode::kFailedPrecondition;
  for (const Way& way : *ways_) {
    SCOPED_TRACE(way.name);
    Client& client = *way.client;
    const std::string own = client.addresser().set().ToString();
    ASSERT_EQ(own, client.table_set().id.substr(0, 16));
    SequenceTokens sequence = {Addresser::Start(), 3};
    sequence.state.set = ShortSetId::Of(std::string(64, 'b'));
    Buffers rows(3, slices);
    Client::Plan plan;
    for (const absl::Status& status :
         {client.PlanTokens(sequence.state, ids, {}, &plan, slices),
          client.Prefetch(sequence.state, ids, {}, rows.landings(), Soon(), &plan, slices).status(),
          client.SubmitTokens({&sequence, 1}, ids, {}, rows.landings(), Soon(), slices).status()}) {
      ExpectRefused(status, precondition, own);
      ExpectRefused(status, precondition, "bbbbbbbbbbbbbbbb");
    }
    ASSERT_TRUE(client.PlanTokens(Addresser::Start(), ids, {}, &plan, slices).ok());
    ASSERT_EQ(plan.set, client.addresser().set());
    plan.set = ShortSetId::Of(std::string(64, 'b'));
    for (int distinct = 0; distinct < 2; ++distinct) {
      const absl::Status status = client.Submit(plan, rows.landings(), Soon()).status();
      ExpectRefused(status, precondition, own);
      ExpectRefused(status, precondition, "bbbbbbbbbbbbbbbb");
      client.MakeDistinct(&plan);
    }
    EXPECT_TRUE(rows.AllUntouched());
    // One that somebody else filled in is taken, and its ids held against their columns.
    ASSERT_TRUE(client.PlanTokens(Addresser::Start(), ids, {}, &plan, slices).ok());
    plan.set = {};
    Finish(client, client.Submit(plan, rows.landings(), Soon()));
    ++plan.row_ids[1][2];
    std::swap(plan.row_ids[0][0], plan.row_ids[0][1]);
    ExpectRefused(client.Submit(plan, rows.landings(), Soon()).status(),
                  absl::StatusCode::kInvalidArgument, "layer 1: row id");
  }
}

TEST_F(SlicesAgreeTest, OnTheVersionThatTheOwnerSays) {
  for (const Way& way : *ways_) {
    const Capabilities& capabilities = way.client->transport().capabilities();
    const bool has_owner = capabilities.name == "shm" || capabilities.name == "shm-ring" ||
                           capabilities.name == "grpc" || capabilities.name == "cluster";
    EXPECT_EQ(capabilities.owner_version, has_owner ? kEngramVersion : "") << way.name;
    EXPECT_EQ(capabilities.token_slices, TakesTokens(way)) << way.name;
  }
}

TEST_F(SlicesAgreeTest, OnTokensWhereTheyAreTaken) {
  const std::vector<int32_t> ids = RealTokenIds(2);
  const SequenceTokens sequence = {Addresser::Start(), 2};
  const ColumnSlice slices[] = {Slice({{0, 2}}), Slice({})};
  const TokenBatch tokens = {{&sequence, 1}, ids, {}, slices};
  for (const Way& way : *ways_) {
    Buffers rows(2, slices);
    const LayerRequest layers[] = {{.layer = 1, .row_ids = {}, .landing = rows.landings()[0]},
                                   {.layer = 14, .row_ids = {}, .landing = {}}};
    const absl::Status status =
        way.client->Lookup({.layers = layers, .deadline = Soon(), .tokens = &tokens});
    if (TakesTokens(way)) {
      EXPECT_TRUE(status.ok()) << way.name << ": " << status;
      ExpectSame(Whole({&sequence, 1}, ids, {}), rows, slices, 2);
      continue;
    }
    ExpectRefused(status, absl::StatusCode::kUnimplemented, "takes row ids");
    EXPECT_TRUE(rows.AllUntouched()) << way.name;
  }
}

}  // namespace
}  // namespace engram::integration
