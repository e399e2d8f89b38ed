#include "tests/bench/overload/load_client.h"

#include <algorithm>

namespace engram::overload {
namespace {

constexpr uint32_t kResourceExhausted = static_cast<uint32_t>(grpc::RESOURCE_EXHAUSTED);
constexpr uint32_t kDeadlineExceeded = static_cast<uint32_t>(grpc::DEADLINE_EXCEEDED);

float Microseconds(Clock::duration time) {
  return std::chrono::duration<float, std::micro>(time).count();
}

}  // namespace

std::shared_ptr<grpc::Channel> OwnChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(-1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

bool LoadClient::TakeDue(Times& times) {
  const Clock::time_point now = Clock::now();
  for (; !due_.empty() && due_.front().deadline <= now; due_.pop_front()) ++tally_.expired;
  if (due_.empty()) return false;
  times = due_.front();
  due_.pop_front();
  return true;
}

grpc::ByteBuffer LoadClient::Request(uint64_t id, const Times& times) const {
  const auto left =
      std::chrono::duration_cast<std::chrono::microseconds>(times.deadline - Clock::now());
  const wire::RequestHead head{
      .table_set_id = bodies_->table_set_id,
      .batch_id = id,
      .timeout_us = static_cast<uint64_t>(std::max<int64_t>(1, left.count())),
      .cancel = false};
  const grpc::Slice first(wire::RequestHeadBytes(head));
  wire::WriteRequestHead(head, const_cast<uint8_t*>(first.begin()));
  const grpc::Slice both[] = {first, bodies_->layers[id % bodies_->layers.size()]};
  return grpc::ByteBuffer(both, 2);
}

void LoadClient::Answered(const Times& times, uint64_t row_bytes) {
  if (row_bytes != bodies_->row_bytes) return Fail("an answer that ended early");
  const Clock::time_point now = Clock::now();
  ++(now <= times.deadline ? tally_.in_time : tally_.late);
  ++answered_;
  tally_.ok_us.push_back(Microseconds(now - times.due));
}

void LoadClient::Refused(const Times& times, uint32_t code, bool says_when,
                         const std::string& message) {
  if (code == kResourceExhausted && says_when) {
    ++tally_.rejected;
    tally_.rejected_us.push_back(Microseconds(Clock::now() - times.due));
  } else if (code == kDeadlineExceeded) {
    ++tally_.expired;
  } else {
    Fail(message);
  }
}

const wire::LookupResponse* LoadClient::Parse(const grpc::ByteBuffer& message) {
  slices_.clear();
  chain_.clear();
  if (message.Dump(&slices_).ok()) {
    for (const grpc::Slice& slice : slices_) chain_.push_back({slice.begin(), slice.size()});
    if (reply_.Parse(chain_)) return &reply_;
  }
  Fail("an answer that is no LookupResponse");
  return nullptr;
}

void LoadClient::Fail(const std::string& why) {
  ++tally_.failed;
  if (tally_.failure.empty()) tally_.failure = why;
}

}  // namespace engram::overload
