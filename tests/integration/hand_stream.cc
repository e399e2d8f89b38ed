#include "tests/integration/hand_stream.h"

#include <random>
#include <utility>

#include "gtest/gtest.h"
#include "memstore/table/synthetic.h"

namespace engram::integration {
namespace {

uint32_t RowBytes(const v1::ServedTableSet& set, uint32_t layer) {
  for (const v1::ServedLayer& served : set.layers()) {
    if (served.layer() == layer) return served.row_bytes();
  }
  ADD_FAILURE() << "no layer " << layer;
  return 1;
}

}  // namespace

std::unique_ptr<v1::Lookup::Stub> ConnectStub(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // The server may not send more and more ahead of what is read.
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  return v1::Lookup::NewStub(
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
}

v1::ServedTableSet DescribeFirst(v1::Lookup::Stub& stub) {
  grpc::ClientContext context;
  v1::DescribeResponse described;
  const grpc::Status status = stub.Describe(&context, {}, &described);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_GT(described.table_sets_size(), 0);
  return described.table_sets_size() > 0 ? described.table_sets(0) : v1::ServedTableSet();
}

v1::LookupRequest RowBatch(const v1::ServedTableSet& set, uint64_t batch_id, uint64_t rows,
                           uint32_t seed) {
  std::mt19937 random(seed);
  v1::LookupRequest request;
  request.set_table_set_id(set.id());
  request.set_batch_id(batch_id);
  uint64_t left = rows;
  for (int i = 0; i < set.layers_size() && left > 0; ++i) {
    const uint64_t count = left / (set.layers_size() - i);
    if (count == 0) continue;
    v1::LayerRowIds* layer = request.add_layers();
    layer->set_layer(set.layers(i).layer());
    for (uint64_t row = 0; row < count; ++row) {
      layer->add_row_ids32(static_cast<uint32_t>(random() % set.layers(i).rows()));
    }
    left -= count;
  }
  return request;
}

void ExpectExact(const v1::ServedTableSet& set, const v1::LookupRequest& request,
                 const Answer& answer) {
  ASSERT_TRUE(answer.ended) << "batch " << request.batch_id();
  ASSERT_EQ(answer.code, 0u) << answer.message;
  ASSERT_EQ(answer.rows.size(), static_cast<size_t>(request.layers_size()));
  for (const v1::LayerRowIds& layer : request.layers()) {
    const uint32_t row_bytes = RowBytes(set, layer.layer());
    const auto found = answer.rows.find(layer.layer());
    ASSERT_NE(found, answer.rows.end()) << "layer " << layer.layer();
    ASSERT_EQ(found->second.size(), uint64_t{row_bytes} * layer.row_ids32_size());
    const auto* at = reinterpret_cast<const std::byte*>(found->second.data());
    for (const uint32_t id : layer.row_ids32()) {
      ASSERT_TRUE(IsSyntheticRow(layer.layer(), id, {at, row_bytes}))
          << "batch " << request.batch_id() << ", layer " << layer.layer() << ", row id " << id;
      at += row_bytes;
    }
  }
}

HandStream::HandStream(const std::string& address)
    : stub_(ConnectStub(address)), stream_(stub_->LookupStream(&context_)) {}

HandStream::~HandStream() {
  if (finished_) return;
  Abort();
  Finish();
}

void HandStream::Cancel(uint64_t batch_id) {
  v1::LookupRequest cancel;
  cancel.set_batch_id(batch_id);
  cancel.set_cancel(true);
  Write(cancel);
}

bool HandStream::Read() {
  ended_.reset();
  v1::LookupResponse message;
  if (!stream_->Read(&message)) return false;
  Answer& answer = answers_[message.batch_id()];
  EXPECT_FALSE(answer.ended) << "batch " << message.batch_id() << " goes on after its end";
  for (v1::LayerRowData& run : *message.mutable_layers()) {
    std::string& rows = answer.rows[run.layer()];
    // Rows are of one width a layer, so the place says how much was to come before.
    if (run.first_row() == 0) {
      EXPECT_TRUE(rows.empty()) << "layer " << run.layer() << " begins again";
    } else {
      EXPECT_EQ(rows.size() % run.first_row(), 0u) << "a gap before row " << run.first_row();
      EXPECT_GT(rows.size(), 0u);
    }
    rows += run.rows();
    answer.rows_bytes += run.rows().size();
  }
  answer.code = message.code();
  answer.message = message.message();
  answer.retry_after_ms = message.retry_after_ms();
  answer.ended = message.last() || message.code() != 0;
  if (answer.ended) ended_ = message.batch_id();
  return true;
}

std::optional<uint64_t> HandStream::ReadToAnEnd() {
  while (Read()) {
    if (ended_) return ended_;
  }
  return std::nullopt;
}

Answer HandStream::Take(uint64_t batch_id) {
  Answer answer = std::move(answers_[batch_id]);
  answers_.erase(batch_id);
  return answer;
}

grpc::Status HandStream::Finish() {
  while (Read()) {
  }
  finished_ = true;
  return stream_->Finish();
}

}  // namespace engram::integration
