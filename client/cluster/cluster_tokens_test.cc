// Batches by token ids over a cluster: what each store is asked for, and where rows land.
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "client/cluster/cluster_transport.h"
#include "client/cluster/testing/hand_stores.h"
#include "client/transport/failure_mark.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"
#include "memstore/cluster/testing/cluster_scheme.h"

namespace engram {
namespace {

using testing::HandDirectory;
using testing::HandStore;
using ::testing::HasSubstr;
using testing::kHandRowBytes;
using testing_cluster::Partitioned;

constexpr int32_t kImage = 77;
constexpr std::byte kUntouched{0xA5};

class ClusterTokensTest : public ::testing::Test {
 protected:
  ClusterTokensTest() {
    scheme_.dead_positions = true;
    set_.manifest.id = testing_cluster::kSetId;
    set_.manifest.name = "table";
    set_.manifest.scheme = scheme_;
    set_.image_token_ids = {kImage};
    for (const LayerAddressing& layer : scheme_.layers) {
      LayerTableSpec& spec = set_.manifest.layers.emplace_back();
      spec.layer = layer.layer;
      spec.rows = layer.Rows();
      spec.row_bytes = kHandRowBytes;
    }
    const auto made = Addresser::Create(scheme_, nullptr, ShortSetId::Of(set_.manifest.id));
    EXPECT_TRUE(made.ok()) << made.status();
    addresser_ = *made;
  }
  void Attach(std::vector<StoreState> heard) {
    transport_.reset();
    {
      MutexLock lock(mutex_);
      stores_.clear();
    }
    heard_ = std::move(heard);
    auto transport = ClusterTransport::Create(
        {.table_set = set_,
         .max_batch_rows = 1 << 20,
         .owner_version = "",
         .directory = std::make_unique<HandDirectory>(heard_),
         .open = [this](const std::string& address) -> absl::StatusOr<std::unique_ptr<Transport>> {
           auto store =
               std::make_unique<HandStore>(clock_, takes_tokens_(address) ? addresser_ : nullptr);
           MutexLock lock(mutex_);
           stores_[address] = store.get();
           return store;
         },
         .driver = QueueDriver::Create(absl::ZeroDuration(), clock_).value(),
         .router = {.client_id = "me", .zone = ""},
         .seed = 1,
         .clock = &clock_});
    ASSERT_TRUE(transport.ok()) << transport.status();
    transport_ = *std::move(transport);
  }
  // Columns that are every `partitions`-th one: of many runs.
  std::vector<StoreState> Striped(uint32_t partitions) {
    std::vector<StoreState> heard = Partitioned(scheme_, partitions, 1);
    for (uint32_t store = 0; store < partitions; ++store) {
      for (size_t i = 0; i < scheme_.layers.size(); ++i) {
        HeldLayer& held = heard[store].sets[0].layers[i].rows;
        held.ranges.clear();
        for (uint32_t c = store; c < scheme_.Columns(); c += partitions) {
          held.ranges.push_back({scheme_.layers[i].offsets[c], scheme_.layers[i].moduli[c]});
        }
      }
    }
    return heard;
  }

  // Sequences of one to four tokens, some behind others of theirs, some tokens dead.
  void DrawTokens(uint32_t sequences) {
    sequences_.clear(), ids_.clear(), dead_.clear();
    for (uint32_t i = 0; i < sequences; ++i) {
      SequenceState state = Addresser::Start();
      std::vector<int32_t> before(random_() % 4);
      for (int32_t& id : before) id = Draw();
      ASSERT_TRUE(addresser_->Advance(before, {}, &state).ok());
      sequences_.push_back({state, static_cast<uint32_t>(1 + random_() % 4)});
      for (uint32_t t = 0; t < sequences_.back().tokens; ++t) {
        ids_.push_back(Draw());
        dead_.push_back(random_() % 8 == 0);
      }
    }
  }
  int32_t Draw() { return static_cast<int32_t>(100 + random_() % 900); }
  // Slices of both layers; kind 0: none are given.
  void DrawSlices(int kind) {
    slices_.clear();
    while (kind > 0 && slices_.size() < scheme_.layers.size()) {
      std::vector<ColumnRun> runs;
      for (uint32_t at = random_() % 4; at < scheme_.Columns() && runs.size() < 8;) {
        const uint32_t columns = std::min<uint32_t>(random_() % 5, scheme_.Columns() - at);
        runs.push_back({at, columns});
        at += columns + random_() % 4;
      }
      if (kind == 2 && slices_.empty()) runs.clear();  // nothing of the first layer
      slices_.push_back(ColumnSlice::Create(runs, scheme_.Columns()).value());
    }
  }
  ColumnSlice SliceOf(size_t layer) const {
    return slices_.empty() ? ColumnSlice::All(scheme_.Columns()) : slices_[layer];
  }
  // Where rows land: kind 0 back to back, 1 with gaps between tokens, 2 by a list.
  absl::StatusOr<Ticket> Submit(int landing = 0, bool allow_unmasked_images = false) {
    rows_.clear(), places_.clear(), landings_.clear();
    std::vector<LayerRequest> layers;
    rows_.resize(2), places_.resize(2);
    for (size_t i = 0; i < 2; ++i) {
      const uint64_t columns = SliceOf(i).columns(), rows = ids_.size() * columns;
      Landing made;
      if (landing == 1 && columns > 0) {
        made.group_rows = columns;
        made.group_stride_bytes = columns * kHandRowBytes + 24;
      }
      if (landing == 2) {
        places_[i].resize(rows);
        for (size_t p = 0; p < rows; ++p) places_[i][p] = static_cast<uint32_t>(2 * p);
        std::shuffle(places_[i].begin(), places_[i].end(), random_);
        made.places = places_[i];
      }
      rows_[i].assign(made.shape().OffsetOf(2 * rows, kHandRowBytes) + 64, kUntouched);
      made.data = rows_[i].data();
      landings_.push_back(made);
      layers.push_back({.layer = scheme_.layers[i].layer, .row_ids = {}, .landing = made});
    }
    const TokenBatch tokens = {sequences_, ids_, dead_, slices_, allow_unmasked_images};
    return transport_->Submit({.layers = layers, .tokens = &tokens});
  }
  // Every request that came is answered, until the ticket has ended.
  absl::Status Finish(Ticket ticket) {
    while (transport_->Poll(ticket) == TicketState::kInFlight) {
      AnswerAll();
      clock_.Advance(absl::Milliseconds(1));
    }
    const absl::Status status = transport_->Wait(ticket);
    transport_->Reap(ticket);
    return status;
  }
  // A copy: while one answers another may be opened.
  std::map<std::string, HandStore*> Stores() {
    MutexLock lock(mutex_);
    return stores_;
  }
  void AnswerAll() {
    for (const auto& [address, store] : Stores()) {
      for (size_t& next = answered_[address]; next < store->requests(); ++next) {
        EXPECT_EQ(store->IsByTokens(next), takes_tokens_(address)) << address;
        ++requests_;
        store->Answer(next);
      }
    }
  }
  void ExpectRows() const {
    for (size_t i = 0; i < 2; ++i) {
      const ColumnSlice slice = SliceOf(i);
      std::vector<RowId> ids(ids_.size() * slice.columns());
      const LayerRowIdsOutput output = {.layer_index = static_cast<uint32_t>(i),
                                        .rows = ids.data(),
                                        .token_stride = slice.columns(),
                                        .slice = &slice};
      ASSERT_TRUE(addresser_->AddressSequences(sequences_, ids_, dead_, {&output, 1}).ok());
      std::vector<std::byte> want(rows_[i].size(), kUntouched);
      Landing landing = landings_[i];
      landing.data = want.data();
      for (size_t row = 0; row < ids.size(); ++row) {
        testing::FillRow(scheme_.layers[i].layer, ids[row], landing.PlaceOf(row, kHandRowBytes));
      }
      EXPECT_TRUE(rows_[i] == want) << "layer " << i;
    }
  }

  AddressScheme scheme_ = testing_cluster::Scheme();
  AttachedTableSet set_;
  std::shared_ptr<const Addresser> addresser_;
  FakeClock clock_;
  std::mt19937_64 random_{3};
  std::function<bool(const std::string&)> takes_tokens_ = [](const std::string&) { return true; };
  std::vector<StoreState> heard_;
  std::vector<SequenceTokens> sequences_;
  std::vector<int32_t> ids_;
  std::vector<uint8_t> dead_;
  std::vector<ColumnSlice> slices_;
  std::vector<Landing> landings_;
  std::vector<std::vector<uint32_t>> places_;
  std::vector<std::vector<std::byte>> rows_;
  std::map<std::string, size_t> answered_;
  size_t requests_ = 0;
  Mutex mutex_;
  std::map<std::string, HandStore*> stores_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Transport> transport_;
};

TEST_F(ClusterTokensTest, EachStoreIsAskedForItsColumnsOfTheSameTokens) {
  const std::vector<std::vector<StoreState>> clusters = {
      Partitioned(scheme_, 1, 1), Partitioned(scheme_, 4, 1), Partitioned(scheme_, 5, 1),
      Striped(2), Striped(3)};
  const std::function<bool(const std::string&)> takers[] = {
      [](const std::string&) { return true; }, [](const std::string&) { return false; },
      [](const std::string& address) { return address.substr(0, 2) == "p0"; }};
  for (const std::vector<StoreState>& cluster : clusters) {
    for (const auto& taker : takers) {
      takes_tokens_ = taker;
      answered_.clear();
      Attach(cluster);
      for (int round = 0; round < 27; ++round) {
        DrawTokens(1 + random_() % 20);
        DrawSlices(round % 3);
        const auto ticket = Submit(round / 3 % 3);
        ASSERT_TRUE(ticket.ok()) << ticket.status();
        const absl::Status status = Finish(*ticket);
        ASSERT_TRUE(status.ok()) << status;
        ExpectRows();
        ASSERT_FALSE(HasFailure()) << round;
      }
    }
  }
}

TEST_F(ClusterTokensTest, AStoreIsAskedOnceForAPartOfAllLayers) {
  Attach(Partitioned(scheme_, 4, 1));
  DrawTokens(10);
  ASSERT_TRUE(Finish(*Submit()).ok());
  EXPECT_EQ(requests_, 4u);
}

TEST_F(ClusterTokensTest, APartIsAskedForElsewhereAsThatStoreTakesIt) {
  takes_tokens_ = [](const std::string& address) { return address.substr(2, 2) == "r0"; };
  Attach(Partitioned(scheme_, 2, 2));
  for (int round = 0; round < 20; ++round) {
    DrawTokens(10);
    const auto ticket = Submit();
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    // Who was asked, before the first of them fails.
    std::vector<HandStore*> asked;
    for (const auto& [address, store] : Stores()) {
      if (answered_[address] < store->requests()) asked.push_back(store);
      answered_[address] = store->requests();
    }
    for (HandStore* const store : asked) {
      absl::Status broken = absl::UnavailableError("the connection was lost");
      MarkBroken(&broken);
      store->Answer(store->requests() - 1, round % 2);  // one of the two layers stays
      store->FailWith(store->requests() - 1, broken);
    }
    const absl::Status status = Finish(*ticket);
    ASSERT_TRUE(status.ok()) << status;
    ExpectRows();
    clock_.Advance(absl::Seconds(30));  // stores that failed are tried again
  }
  EXPECT_GT(transport_->routing()->free_resends, 0u);
}

TEST_F(ClusterTokensTest, WhatIsWrongIsRefusedAsByOneStore) {
  Attach(Partitioned(scheme_, 2, 1));
  DrawTokens(3);
  const auto refused = [&](absl::StatusCode code, const std::string& words) {
    const absl::StatusOr<Ticket> ticket = Submit();
    const absl::Status status = ticket.ok() ? Finish(*ticket) : ticket.status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(words));
    DrawTokens(3);
    slices_.clear();
  };
  sequences_[1].state.set = ShortSetId::Of(std::string(64, 'b'));
  refused(absl::StatusCode::kFailedPrecondition, "sequence 1");
  sequences_[0].tokens += 1;
  refused(absl::StatusCode::kInvalidArgument, "token ids");
  sequences_[0].state.ids[0] = int64_t{1} << 40;
  refused(absl::StatusCode::kInvalidArgument, "sequence 0");
  slices_.assign(2, ColumnSlice::All(scheme_.Columns() + 1));
  refused(absl::StatusCode::kInvalidArgument, "columns");
  slices_.assign(1, ColumnSlice::All(scheme_.Columns()));
  refused(absl::StatusCode::kInvalidArgument, "1 slices");
  for (const bool by_tokens : {true, false}) {
    takes_tokens_ = [=](const std::string&) { return by_tokens; };
    Attach(Partitioned(scheme_, 2, 1));
    answered_.clear();
    dead_.assign(dead_.size(), 0);
    ids_.back() = 1000;  // beyond the vocabulary
    refused(absl::StatusCode::kInvalidArgument, "1000");
  }
  const std::vector<int32_t> long_ids(2000, 5);
  ids_ = long_ids;
  dead_.clear();
  sequences_ = {{Addresser::Start(), 2000}};
  refused(absl::StatusCode::kInvalidArgument, "1 to 1024");
}

// By the client, where a store takes no tokens; else it is the store's to say.
TEST_F(ClusterTokensTest, AnImagesTokenIsMaskedOrAllowed) {
  takes_tokens_ = [](const std::string&) { return false; };
  Attach(Partitioned(scheme_, 2, 1));
  DrawTokens(3);
  ids_[0] = kImage;
  dead_[0] = 0;
  const absl::Status status = Finish(*Submit());
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("allow_unmasked_images"));
  EXPECT_TRUE(Finish(*Submit(0, /*allow_unmasked_images=*/true)).ok());
  ExpectRows();
  dead_[0] = 1;
  EXPECT_TRUE(Finish(*Submit()).ok());
  ExpectRows();
}

}  // namespace
}  // namespace engram
