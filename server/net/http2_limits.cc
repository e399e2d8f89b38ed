#include "server/net/http2_limits.h"

#include <algorithm>

namespace engram {
namespace {

// RFC 9113 section 3.4.
constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// Section 6.
enum FrameType : uint8_t {
  kData = 0,
  kHeaders = 1,
  kReset = 3,
  kSettings = 4,
  kPing = 6,
  kWindowUpdate = 8,
  kContinuation = 9,
};
constexpr uint8_t kEndStream = 1, kAck = 1, kPadded = 8;

}  // namespace

Http2Limits::Verdict Http2Limits::Take(std::string_view bytes, uint64_t sent_bytes,
                                       absl::FunctionRef<MonotonicTime()> now) {
  while (!bytes.empty() && verdict_ == Verdict::kFine) {
    switch (part_) {
      case Part::kPreface: {
        const size_t more = std::min(bytes.size(), kPreface.size() - had_);
        // Not HTTP/2: gRPC ends it.
        if (bytes.substr(0, more) != kPreface.substr(had_, more)) {
          part_ = Part::kOther;
          break;
        }
        had_ += static_cast<uint32_t>(more);
        bytes.remove_prefix(more);
        if (had_ < kPreface.size()) break;
        part_ = Part::kFrameHeader;
        had_ = 0;
        counted_ = now();
        break;
      }
      case Part::kFrameHeader: {
        const size_t more = std::min(bytes.size(), kFrameHeaderBytes - had_);
        std::copy_n(bytes.begin(), more, header_.begin() + had_);
        had_ += static_cast<uint32_t>(more);
        bytes.remove_prefix(more);
        if (had_ == kFrameHeaderBytes) BeginFrame(sent_bytes, now);
        break;
      }
      case Part::kPayload: {
        const size_t more = std::min<size_t>(bytes.size(), payload_left_);
        payload_left_ -= static_cast<uint32_t>(more);
        bytes.remove_prefix(more);
        if (payload_left_ == 0) part_ = Part::kFrameHeader;
        break;
      }
      case Part::kOther:
        return verdict_;
    }
  }
  return verdict_;
}

void Http2Limits::BeginFrame(uint64_t sent_bytes, absl::FunctionRef<MonotonicTime()> now) {
  const uint32_t length = uint32_t{header_[0]} << 16 | uint32_t{header_[1]} << 8 | header_[2];
  const uint8_t type = header_[3], flags = header_[4];
  had_ = 0;
  payload_left_ = length;
  part_ = length > 0 ? Part::kPayload : Part::kFrameHeader;
  switch (type) {
    case kHeaders:
      BeginHeaders(flags, now);
      [[fallthrough]];
    case kContinuation:
      block_bytes_ += length;
      ++block_frames_;
      if (block_bytes_ > kMaxHeaderBlockBytes || block_frames_ > kMaxHeaderBlockFrames) {
        verdict_ = Verdict::kLongHeaderBlock;
      }
      break;
    case kData:
      if (length > 0) free_pings_ = std::min(free_pings_ + 1, kMostFreePings);
      // The end of a call is one of its own.
      if ((flags & kEndStream) != 0 && open_calls_ > 0) {
        --open_calls_;
      } else if (length < kLeastDataBytes || (flags & kPadded) != 0) {
        Spend(1, now);
      }
      break;
    case kReset:
      if (free_resets_ >= 1) {
        free_resets_ -= 1;
      } else {
        Spend(1, now);
      }
      break;
    case kSettings:
      // Acknowledged before they were sent they hold for nothing, with gRPC as well.
      if ((flags & kAck) != 0 && !settled_ && sent_bytes > 0) {
        settled_ = true;
      } else {
        Spend(1, now);
      }
      break;
    case kPing:
      if (free_pings_ > 0) {
        --free_pings_;
      } else {
        Spend(1, now);
      }
      break;
    case kWindowUpdate:
      TakeWindowUpdate(sent_bytes, now);
      break;
    default:
      Spend(1, now);
  }
}

void Http2Limits::TakeWindowUpdate(uint64_t sent_bytes, absl::FunctionRef<MonotonicTime()> now) {
  constexpr uint64_t kMostSaved = kMostFreeWindowUpdates * kSentBytesOfAWindowUpdate;
  if (sent_bytes > kMostSaved) paid_bytes_ = std::max(paid_bytes_, sent_bytes - kMostSaved);
  if (paid_bytes_ + kSentBytesOfAWindowUpdate <= sent_bytes) {
    paid_bytes_ += kSentBytesOfAWindowUpdate;
  } else {
    Spend(kIdleFramesOfAWindowUpdate, now);
  }
}

void Http2Limits::BeginHeaders(uint8_t flags, absl::FunctionRef<MonotonicTime()> now) {
  block_bytes_ = block_frames_ = 0;
  // The highest bit is reserved (section 4.1).
  const uint32_t stream = uint32_t{header_[5] & 0x7fu} << 24 | uint32_t{header_[6]} << 16 |
                          uint32_t{header_[7]} << 8 | header_[8];
  const bool is_call = stream % 2 == 1 && stream > last_call_;
  if ((flags & kPadded) != 0 || !is_call) Spend(1, now);
  if (!is_call) return;
  last_call_ = stream;
  ++calls_;
  if ((flags & kEndStream) == 0) ++open_calls_;
  free_pings_ = std::min(free_pings_ + 1, kMostFreePings);
  free_resets_ = std::min(free_resets_ + 1 / kCallsOfAFreeReset, kMostFreeResets);
  if (!settled_ && ++calls_unsettled_ > kMostCallsUnsettled) verdict_ = Verdict::kNoSettings;
}

void Http2Limits::Spend(double frames, absl::FunctionRef<MonotonicTime()> now) {
  idle_frames_ -= frames;
  if (idle_frames_ >= 0) return;
  const MonotonicTime time = now();
  const double since = absl::ToDoubleSeconds(time - counted_);
  counted_ = time;
  idle_frames_ = std::min<double>(idle_frames_ + since * kIdleFramesPerSecond, kIdleFramesAtOnce);
  if (idle_frames_ < 0) verdict_ = Verdict::kIdleFrames;
}

}  // namespace engram
