// Cutting a batch into requests and landing what comes back, without a network: the test is the
// owner, answers in messages of the wire's, and breaks their buffers apart wherever it likes.
#include "client/transport/grpc/grpc_batch.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/table/synthetic.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAreArray;

using RequestPointer = std::shared_ptr<GrpcBatch::Request>;

constexpr std::byte kUntouched{0xA5};
constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();
constexpr MonotonicTime kBegin = MonotonicTime::FromNanoseconds(7);

// A reply as a server would send it, in buffers of `chunk` bytes.
class Reply {
 public:
  struct Part {
    uint32_t layer = 0;
    uint64_t first_row = 0;
    std::string rows;
  };
  Reply(absl::string_view set, std::vector<Part> parts, size_t chunk) {
    const wire::ReplyHead head = {.table_set_id = set, .batch_id = 1, .last = false};
    bytes_.resize(wire::ReplyHeadBytes(head));
    wire::WriteReplyHead(head, bytes_.data());
    for (const Part& part : parts) {
      if (part.rows.empty()) {  // no server of ours sends it, and nothing writes it
        const uint8_t none[] = {0x1A, 2, 0x08, static_cast<uint8_t>(part.layer)};
        bytes_.insert(bytes_.end(), std::begin(none), std::end(none));
        continue;
      }
      const wire::ReplyLayerHead layer = {
          .layer = part.layer, .first_row = part.first_row, .rows_bytes = part.rows.size()};
      const size_t at = bytes_.size();
      bytes_.resize(at + wire::ReplyLayerHeadBytes(layer));
      wire::WriteReplyLayerHead(layer, bytes_.data() + at);
      bytes_.insert(bytes_.end(), part.rows.begin(), part.rows.end());
    }
    for (size_t at = 0; at < bytes_.size(); at += chunk) {
      chain_.push_back(wire::Bytes(bytes_).subspan(at, chunk));
      chain_.push_back({});  // gRPC may give empty ones
    }
    EXPECT_TRUE(parsed_.Parse(chain_));
  }
  absl::Span<const wire::Bytes> chain() const { return chain_; }
  const wire::LookupResponse& parsed() const { return parsed_; }

 private:
  std::vector<uint8_t> bytes_;
  std::vector<wire::Bytes> chain_;
  wire::LookupResponse parsed_;
};

class GrpcBatchTest : public ::testing::Test {
 protected:
  GrpcBatchTest() {
    for (const auto& [layer, row_bytes] :
         std::vector<std::pair<uint32_t, uint32_t>>{{1, 264}, {14, 110}, {20, 8}}) {
      AddLayer(layer, row_bytes, 3000);
    }
    peer_ = {.address = "owner:1",
             .table_set_id = std::string(64, 'a'),
             .manifest = &manifest_,
             .max_request_bytes = 1 << 20,
             .max_reply_bytes = kUnlimited};
  }
  void AddLayer(uint32_t layer, uint32_t row_bytes, uint64_t rows) {
    LayerTableSpec spec;
    spec.layer = layer;
    spec.row_bytes = row_bytes;
    spec.rows = rows;
    manifest_.layers.push_back(spec);
  }
  uint32_t RowBytesOf(uint32_t layer) const { return manifest_.FindLayer(layer)->row_bytes; }

  // Asks for rows of a layer; `shape` and `places` say where they land.
  void Ask(uint32_t layer, std::vector<RowId> ids, LandingShape shape = {},
           std::vector<uint32_t> places = {}) {
    ids_[layer] = std::move(ids);
    places_[layer] = std::move(places);
    const std::vector<uint32_t>& listed = places_[layer];
    const uint64_t last =
        listed.empty() ? ids_[layer].size() - 1 : *std::max_element(listed.begin(), listed.end());
    const uint64_t bytes = shape.OffsetOf(last, RowBytesOf(layer)) + RowBytesOf(layer);
    buffers_[layer].assign(bytes + 1, kUntouched);
    asked_.push_back({.layer = layer,
                      .row_ids = ids_[layer],
                      .landing = {.data = buffers_[layer].data(),
                                  .group_rows = shape.group_rows,
                                  .group_stride_bytes = shape.group_stride_bytes,
                                  .places = listed}});
  }
  static std::vector<RowId> Ids(uint64_t count) {
    std::vector<RowId> ids(count);
    for (uint64_t i = 0; i < count; ++i) ids[i] = i * 7919 % 3000;
    return ids;
  }
  void Create() {
    landed_.clear();
    error_ = absl::OkStatus();
    batch_->Fill(peer_, {.layers = asked_}, deduplicator_, kBegin);
    requests_ = batch_->Cut();
  }

  // What a request says on the wire.
  wire::LookupRequest Sent(const RequestPointer& request) const {
    std::vector<uint8_t> bytes(batch_->RequestBytes(*request));
    batch_->WriteRequest(*request, bytes.data());
    wire::LookupRequest parsed;
    const std::vector<wire::Bytes> chain = {bytes};
    EXPECT_TRUE(parsed.Parse(chain));
    return parsed;
  }
  static std::vector<RowId> IdsOf(const wire::LookupRequest::Layer& layer) {
    std::vector<RowId> ids(layer.ids32.begin(), layer.ids32.end());
    ids.insert(ids.end(), layer.ids64.begin(), layer.ids64.end());
    return ids;
  }
  std::string RowsOf(uint32_t layer, absl::Span<const RowId> ids) const {
    std::string rows;
    std::vector<std::byte> row(RowBytesOf(layer));
    for (const RowId id : ids) {
      SyntheticRow(layer, id, absl::MakeSpan(row));
      rows.append(reinterpret_cast<const char*>(row.data()), row.size());
    }
    return rows;
  }
  // The whole answer to a request, as parts of at most `most` rows.
  std::vector<Reply::Part> AnswerTo(const RequestPointer& request, uint64_t most) const {
    std::vector<Reply::Part> parts;
    const wire::LookupRequest sent = Sent(request);
    for (const wire::LookupRequest::Layer& layer : sent.layers()) {
      const std::vector<RowId> ids = IdsOf(layer);
      for (uint64_t first = 0; first < ids.size(); first += most) {
        parts.push_back({layer.layer, first,
                         RowsOf(layer.layer, absl::MakeConstSpan(ids).subspan(first, most))});
      }
    }
    return parts;
  }
  void Land(const RequestPointer& request, std::vector<Reply::Part> parts, bool ended,
            size_t chunk = 1 << 20) {
    const Reply reply(peer_.table_set_id, std::move(parts), chunk);
    error_ = batch_->CheckReply(*request, reply.parsed(), ended);
    if (error_.ok()) batch_->LandRows(*request, reply.chain(), reply.parsed(), &landed_);
  }
  void LandAll(const RequestPointer& request) {
    Land(request, AnswerTo(request, kUnlimited), true);
  }

  // Every row lies where it was asked to, and nothing else was written.
  void ExpectLanded() {
    EXPECT_TRUE(error_.ok()) << error_;
    std::vector<size_t> all(asked_.size());
    std::iota(all.begin(), all.end(), 0);
    EXPECT_THAT(landed_, UnorderedElementsAreArray(all));
    for (const LayerRequest& layer : asked_) {
      const uint32_t row_bytes = RowBytesOf(layer.layer);
      std::vector<std::byte> expected(buffers_[layer.layer].size(), kUntouched);
      for (uint64_t i = 0; i < layer.row_ids.size(); ++i) {
        const uint64_t place = layer.landing.places.empty() ? i : places_[layer.layer][i];
        const uint64_t offset = layer.landing.shape().OffsetOf(place, row_bytes);
        SyntheticRow(layer.layer, layer.row_ids[i],
                     absl::MakeSpan(expected).subspan(offset, row_bytes));
      }
      EXPECT_TRUE(buffers_[layer.layer] == expected) << "layer " << layer.layer;
    }
  }
  void ExpectUntouched() {
    for (const auto& [layer, buffer] : buffers_) {
      EXPECT_EQ(std::count(buffer.begin(), buffer.end(), kUntouched),
                static_cast<ptrdiff_t>(buffer.size()))
          << "layer " << layer;
    }
  }

  Manifest manifest_;
  GrpcPeer peer_;
  RowDeduplicator deduplicator_;
  std::map<uint32_t, std::vector<RowId>> ids_;
  std::map<uint32_t, std::vector<uint32_t>> places_;
  std::map<uint32_t, std::vector<std::byte>> buffers_;
  std::vector<LayerRequest> asked_;
  // As a transport does: one for all that come one after the other.
  const TicketRef<GrpcBatch> batch_{new GrpcBatch()};
  std::vector<RequestPointer> requests_;
  std::vector<size_t> landed_;  // layers, in the order in which they landed
  absl::Status error_;
};

TEST_F(GrpcBatchTest, CutsWhereAReplyIsFull) {
  for (const auto& [rows, requests] : std::vector<std::pair<uint64_t, size_t>>{
           {1, 1}, {9, 1}, {10, 1}, {11, 2}, {20, 2}, {21, 3}}) {
    asked_.clear();
    peer_.max_reply_bytes = 10 * 264 + 263;  // ten rows, and not eleven
    Ask(1, Ids(rows));
    Create();
    ASSERT_EQ(requests_.size(), requests) << rows;
    EXPECT_EQ(Sent(requests_[0]).layers()[0].ids32.size(), std::min<uint64_t>(rows, 10));
    for (const RequestPointer& request : requests_) LandAll(request);
    ExpectLanded();
  }
}

TEST_F(GrpcBatchTest, CutsWhereARequestIsFullAndNotBefore) {
  for (const uint64_t max_bytes : {4096u, 4097u, 4099u, 4100u, 5000u}) {
    asked_.clear();
    peer_.max_request_bytes = max_bytes;
    Ask(1, Ids(2500));
    Ask(14, Ids(2500));
    Ask(20, Ids(1));
    Create();
    std::map<uint32_t, std::vector<RowId>> sent;
    for (size_t i = 0; i < requests_.size(); ++i) {
      EXPECT_LE(batch_->RequestBytes(*requests_[i]), max_bytes);
      // What it leaves is less than what a request says beside its ids.
      if (i + 1 < requests_.size()) {
        EXPECT_GT(batch_->RequestBytes(*requests_[i]) + 300, max_bytes) << i;
      }
      const wire::LookupRequest request = Sent(requests_[i]);
      EXPECT_EQ(request.table_set_id, peer_.table_set_id);
      for (const wire::LookupRequest::Layer& layer : request.layers()) {
        const std::vector<RowId> ids = IdsOf(layer);
        sent[layer.layer].insert(sent[layer.layer].end(), ids.begin(), ids.end());
      }
    }
    EXPECT_EQ(sent, ids_);
    for (const RequestPointer& request : requests_) LandAll(request);
    ExpectLanded();
  }
}

// What stands beside the ids of each layer counts, and a layer that has no room for it and one id
// begins in the next request.
TEST_F(GrpcBatchTest, LayersHeadsFitTheirRequests) {
  peer_.max_request_bytes = 4096;
  for (uint32_t layer = 100; layer < 164; ++layer) AddLayer(layer, 8, 3000);
  for (const uint64_t first : {0u, 938u, 940u, 944u, 945u, 946u, 950u, 952u}) {
    asked_.clear();
    if (first > 0) Ask(1, Ids(first));
    if (first > 0) Ask(14, Ids(2500));
    for (uint32_t layer = 100; layer < 164; ++layer) Ask(layer, Ids(15));
    Create();
    for (const RequestPointer& request : requests_) {
      EXPECT_LE(batch_->RequestBytes(*request), peer_.max_request_bytes) << first;
      LandAll(request);
    }
    ExpectLanded();
  }
}

TEST_F(GrpcBatchTest, ManyLayersTravelInTheOrderOfNeed) {
  asked_.clear();
  for (uint32_t layer = 100; layer < 164; ++layer) AddLayer(layer, 8 + layer % 5 * 16, 3000);
  for (uint32_t layer = 163; layer >= 100; --layer) Ask(layer, Ids(layer % 7 + 1));
  Create();
  ASSERT_EQ(requests_.size(), 1u);
  const wire::LookupRequest sent = Sent(requests_[0]);
  ASSERT_EQ(sent.layers().size(), 64u);
  for (size_t i = 0; i < 64; ++i) EXPECT_EQ(sent.layers()[i].layer, 163 - i);
  LandAll(requests_[0]);
  ExpectLanded();
}

TEST_F(GrpcBatchTest, IdsOfALargeTableTravelAs64Bits) {
  AddLayer(30, 8, (uint64_t{1} << 32) + 1);
  AddLayer(31, 8, uint64_t{1} << 32);
  Ask(30, {5, uint64_t{1} << 32});
  Ask(31, {5, (uint64_t{1} << 32) - 1});
  Create();
  const wire::LookupRequest sent = Sent(requests_[0]);
  EXPECT_EQ(sent.layers()[0].ids64, (std::vector<uint64_t>{5, uint64_t{1} << 32}));
  EXPECT_EQ(sent.layers()[1].ids32, (std::vector<uint32_t>{5, 0xFFFFFFFF}));
  LandAll(requests_[0]);
  ExpectLanded();
}

TEST_F(GrpcBatchTest, RowsLandInGroupsWithGaps) {
  Ask(1, Ids(50), {.group_rows = 4, .group_stride_bytes = 4 * 264 + 40});
  Ask(14, Ids(50), {.group_rows = 7, .group_stride_bytes = 7 * 110});
  Create();
  LandAll(requests_[0]);
  ExpectLanded();
}

TEST_F(GrpcBatchTest, RowsLandAtListedPlaces) {
  std::vector<uint32_t> places(50);
  for (uint32_t i = 0; i < 50; ++i) places[i] = (i * 17 + 3) % 50 * 2;  // every other one
  Ask(1, Ids(50), {}, places);
  Ask(14, Ids(50), {.group_rows = 8, .group_stride_bytes = 8 * 110 + 6}, places);
  Create();
  // The list is the caller's again once Submit returns.
  for (LayerRequest& layer : asked_) layer.landing.places = absl::MakeConstSpan(places);
  const auto kept = places_;
  for (auto& [layer, list] : places_) std::fill(list.begin(), list.end(), 0);
  LandAll(requests_[0]);
  places_ = kept;
  ExpectLanded();
}

// Two requests of one sequence each, whose rows are those that Ask names, in their order.
TEST_F(GrpcBatchTest, RowsOfTokensLandWhereverTheyAreCut) {
  manifest_.scheme.max_order = 3;
  manifest_.scheme.heads_per_order = 2;
  peer_.max_request_bytes = 1300;
  const std::vector<SequenceTokens> sequences(2, {Addresser::Start(), 75});
  const std::vector<int32_t> ids(150, 1);
  const TokenBatch tokens = {sequences, ids, {}};
  std::vector<uint32_t> places(600);
  for (uint32_t i = 0; i < places.size(); ++i) places[i] = (i * 7 + 3) % 600;
  Ask(1, Ids(600), {}, places);
  Ask(20, Ids(600), {.group_rows = 4, .group_stride_bytes = 37});
  std::vector<LayerRequest> layers = asked_;
  for (LayerRequest& layer : layers) layer.row_ids = {};
  batch_->Fill(peer_, {.layers = layers, .tokens = &tokens}, deduplicator_, kBegin);
  requests_ = batch_->Cut();
  ASSERT_EQ(requests_.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(Sent(requests_[i]).has_tokens && Sent(requests_[i]).layers().empty());
    const auto part = [&](uint32_t layer) {
      return Reply::Part{layer, 0, RowsOf(layer, {&ids_[layer][i * 300], 300})};
    };
    Land(requests_[i], {part(1), part(20)}, true, 100);
  }
  ExpectLanded();
}

TEST_F(GrpcBatchTest, RowsThatRepeatTravelOnce) {
  std::vector<RowId> ids(6000);
  for (uint64_t i = 0; i < ids.size(); ++i) ids[i] = i * i % 1000;
  std::vector<uint32_t> backwards(ids.size());
  for (uint32_t i = 0; i < ids.size(); ++i)
    backwards[i] = static_cast<uint32_t>(ids.size()) - 1 - i;
  Ask(1, ids, {.group_rows = 4, .group_stride_bytes = 4 * 264 + 8});
  Ask(20, ids, {}, backwards);
  Create();
  const wire::LookupRequest sent = Sent(requests_[0]);
  for (const wire::LookupRequest::Layer& layer : sent.layers()) {
    EXPECT_EQ(IdsOf(layer).size(), std::set<RowId>(ids.begin(), ids.end()).size());
  }
  Land(requests_[0], AnswerTo(requests_[0], 37), true, /*chunk=*/1000);
  ExpectLanded();
}

TEST_F(GrpcBatchTest, AReplyMayComeInAnyPiecesOfAnyBuffers) {
  for (const uint64_t rows : {1u, 7u, 40u}) {
    for (const size_t chunk : {1u, 13u, 264u, 4096u}) {
      asked_.clear();
      Ask(1, Ids(40), {.group_rows = 3, .group_stride_bytes = 1000});
      Ask(14, Ids(23));
      Create();
      const std::vector<Reply::Part> parts = AnswerTo(requests_[0], rows);
      for (size_t i = 0; i < parts.size(); ++i) {
        EXPECT_LT(landed_.size(), 2u);
        Land(requests_[0], {parts[i]}, i + 1 == parts.size(), chunk);
      }
      ExpectLanded();
    }
  }
}

TEST_F(GrpcBatchTest, RequestsMayBeAnsweredInAnyOrder) {
  peer_.max_reply_bytes = 3000;
  Ask(1, Ids(40));
  Ask(14, Ids(40));
  Create();
  ASSERT_GT(requests_.size(), 4u);
  std::reverse(requests_.begin(), requests_.end());
  for (const RequestPointer& request : requests_) {
    EXPECT_LT(landed_.size(), 2u);
    LandAll(request);
  }
  ExpectLanded();
}

TEST_F(GrpcBatchTest, ALayerHasLandedWithItsLastRowAndNotBefore) {
  Ask(1, Ids(10));
  Ask(14, Ids(10));
  Create();
  const std::vector<Reply::Part> parts = AnswerTo(requests_[0], 5);
  ASSERT_EQ(parts.size(), 4u);
  Land(requests_[0], {parts[0]}, false);
  EXPECT_THAT(landed_, ElementsAre());
  Land(requests_[0], {parts[1], parts[2]}, false);
  EXPECT_THAT(landed_, ElementsAre(0));
  Land(requests_[0], {parts[3]}, true);
  EXPECT_THAT(landed_, ElementsAre(0, 1));
  ExpectLanded();
}

// Whatever is not what comes next is refused as a whole message.
TEST_F(GrpcBatchTest, NothingLandsOfWhatWasNotAskedForNext) {
  using Parts = std::vector<Reply::Part>;
  const std::vector<std::pair<const char*, std::function<void(Parts&)>>> lies = {
      {"out of order", [](Parts& parts) { std::swap(parts[0], parts[1]); }},
      {"a gap", [](Parts& parts) { parts[1].first_row += 1; }},
      {"twice", [](Parts& parts) { parts.insert(parts.begin(), parts[0]); }},
      {"too long", [](Parts& parts) { parts[1].rows += std::string(264, 'x'); }},
      {"a broken row", [](Parts& parts) { parts[1].rows += "x"; }},
      {"part of a row", [](Parts& parts) { parts[3].rows.pop_back(); }},
      {"another layer", [](Parts& parts) { parts[0].layer = 14; }},
      {"a layer that was not asked for", [](Parts& parts) { parts[2].layer = 20; }},
      {"layers in another order", [](Parts& parts) { std::swap(parts[0], parts[2]); }},
      {"more", [](Parts& parts) { parts.push_back(parts.back()); }},
      {"an empty part",
       [](Parts& parts) {
         parts.insert(parts.begin(), {1, 0, ""});
       }},
      {"fewer", [](Parts& parts) { parts.pop_back(); }},
      {"none", [](Parts& parts) { parts.clear(); }},
  };
  for (const auto& [name, lie] : lies) {
    asked_.clear();
    Ask(1, Ids(10));
    Ask(14, Ids(10));
    Create();
    Parts parts = AnswerTo(requests_[0], 5);
    lie(parts);
    Land(requests_[0], parts, true);
    EXPECT_EQ(error_.code(), absl::StatusCode::kInternal) << name;
    EXPECT_THAT(std::string(error_.message()), HasSubstr("owner:1"));
    ExpectUntouched();
  }
}

TEST_F(GrpcBatchTest, RowsOfAnotherSetAreRefused) {
  Ask(1, Ids(10));
  Create();
  const Reply reply(std::string(64, 'b'), AnswerTo(requests_[0], kUnlimited), 4096);
  const absl::Status status = batch_->CheckReply(*requests_[0], reply.parsed(), true);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(64, 'b')));
}

TEST_F(GrpcBatchTest, AllRowsWithoutAnEndAreRefused) {
  Ask(1, Ids(10));
  Create();
  Land(requests_[0], AnswerTo(requests_[0], kUnlimited), false);
  EXPECT_THAT(error_.ToString(), AllOf(HasSubstr("INTERNAL"), HasSubstr("not the end")));
  ExpectUntouched();
}

// A stream that broke: what had not begun to land is sent once more, the same, and lands once.
TEST_F(GrpcBatchTest, ARequestIsTheSameWhenItIsSentOnceMore) {
  peer_.max_reply_bytes = 2640;
  Ask(1, Ids(20));
  Create();
  ASSERT_EQ(requests_.size(), 2u);
  const wire::LookupRequest before = Sent(requests_[0]);
  LandAll(requests_[1]);
  EXPECT_FALSE(requests_[0]->HasBegun());
  EXPECT_TRUE(requests_[1]->HasBegun());
  requests_[0]->wire_id = 99;
  const wire::LookupRequest again = Sent(requests_[0]);
  EXPECT_EQ(again.batch_id, 99u);
  EXPECT_EQ(again.layers()[0].ids32, before.layers()[0].ids32);
  const std::vector<Reply::Part> parts = AnswerTo(requests_[0], 4);
  Land(requests_[0], {parts[0]}, false);
  EXPECT_TRUE(requests_[0]->HasBegun());
  Land(requests_[0], {parts[1], parts[2]}, true);
  ExpectLanded();
}

// What an earlier batch left in it is of no account, be it larger or smaller.
TEST_F(GrpcBatchTest, OneObjectIsManyBatches) {
  for (const uint64_t rows : {6000u, 5u, 4500u}) {
    asked_.clear();
    for (const uint32_t layer : {1u, 14u, 20u}) {
      if (layer == 20 && rows == 5) continue;
      Ask(layer, Ids(rows), {.group_rows = 4, .group_stride_bytes = 2000});
    }
    Create();
    EXPECT_EQ(batch_->begin(), kBegin);
    for (const RequestPointer& request : requests_) LandAll(request);
    ExpectLanded();
  }
}

}  // namespace
}  // namespace engram
