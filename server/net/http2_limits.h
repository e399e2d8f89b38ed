// What a client may have a server's HTTP/2 do that no call shows: header blocks and frames that
// carry nothing.
//
// gRPC 1.51, Debian 12's, keeps a header block until it is whole, however long that takes, and goes
// through all of it again for every piece (CVE-2023-33953); it answers frames as fast as they come
// (CVE-2023-44487 and its kind). Nothing above it sees any of this, so what a client sends is
// looked at before gRPC has it, frame by frame as RFC 9113 section 4.1 has them: nine bytes of each
// are read, payloads are passed over.
//
// Thread-compatible: a connection's, whose bytes one thread at a time reads. Cost: a few
// nanoseconds for each frame, whatever its size.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "memstore/base/clock.h"

namespace engram {

class Http2Limits {
 public:
  enum class Verdict : uint8_t {
    kFine,
    kLongHeaderBlock,  // longer than kMaxHeaderBlockBytes, or in more than kMaxHeaderBlockFrames
    kIdleFrames,  // more than kIdleFramesAtOnce that carry nothing, and than may come in a second
    kNoSettings,  // more than kMostCallsUnsettled before the server's settings were acknowledged
  };

  // A call's metadata is 8 KiB at most (gRPC's own default, beyond which it answers the call), here
  // as it is sent: this is four times that.
  static constexpr uint32_t kMaxHeaderBlockBytes = 32 << 10;
  // A client's frames are 16 KiB, so that two are enough.
  static constexpr uint32_t kMaxHeaderBlockFrames = 16;
  // Frames that neither begin a call nor carry a part of one: resets, settings, priorities, empty
  // and padded data. A client may reset all of its 128 calls at once; a call that is reset at once
  // costs gRPC up to 20 KB until it has seen to it, of each connection there is.
  static constexpr uint32_t kIdleFramesAtOnce = 256;
  static constexpr uint32_t kIdleFramesPerSecond = 50;
  // A call is a header block of a stream whose number is odd and higher than all before; gRPC
  // passes others over, and so none earns anything. Of so many calls one may be reset for free: a
  // client that does not wait for some is as others, and one that waits for none is not. As many as
  // this are free at once.
  static constexpr double kCallsOfAFreeReset = 4;
  static constexpr double kMostFreeResets = 256;
  // A window's update comes with what is taken, up to two for each message of an answer: one for so
  // many bytes that were sent is free, of so many of these. Without answers 16,000 come at once and
  // 3,200 a second: more, by many connections, leave no time for others.
  static constexpr uint64_t kSentBytesOfAWindowUpdate = 256;
  static constexpr uint64_t kMostFreeWindowUpdates = 1 << 20;
  static constexpr double kIdleFramesOfAWindowUpdate = 1.0 / 64;
  // Clients in Go and Java ask how far the server is by a ping with each round trip: one for each
  // frame that begins a call or carries a part of it is free, of so many of these.
  static constexpr uint32_t kMostFreePings = 2'000;
  // gRPC holds a client to its 128 calls at once when it has acknowledged them, which takes it a
  // round trip.
  static constexpr uint32_t kMostCallsUnsettled = 512;
  // A piece of a message that has not even the five bytes which begin one is no piece that a client
  // makes, but for the last.
  static constexpr uint32_t kLeastDataBytes = 5;

  // The next bytes that came. What is not kFine stays: the connection is of no use. `sent_bytes`:
  // how much the server has sent so far, which begins with its settings. `now` is asked
  // when it begins, and where more frames came at once than are let through.
  Verdict Take(std::string_view bytes, uint64_t sent_bytes, absl::FunctionRef<MonotonicTime()> now);
  // That were begun so far.
  uint64_t calls() const { return calls_; }

 private:
  void BeginFrame(uint64_t sent_bytes, absl::FunctionRef<MonotonicTime()> now);
  void TakeWindowUpdate(uint64_t sent_bytes, absl::FunctionRef<MonotonicTime()> now);
  void BeginHeaders(uint8_t flags, absl::FunctionRef<MonotonicTime()> now);
  void Spend(double frames, absl::FunctionRef<MonotonicTime()> now);

  static constexpr size_t kFrameHeaderBytes = 9;
  enum class Part : uint8_t { kPreface, kFrameHeader, kPayload, kOther };
  Part part_ = Part::kPreface;
  Verdict verdict_ = Verdict::kFine;
  std::array<uint8_t, kFrameHeaderBytes> header_{};
  uint32_t had_ = 0;           // bytes of the preface, or of header_
  uint32_t payload_left_ = 0;  // of the frame
  uint32_t block_bytes_ = 0, block_frames_ = 0;
  uint32_t last_call_ = 0;  // the highest stream's number
  uint32_t free_pings_ = 0, calls_unsettled_ = 0;
  bool settled_ = false;
  double free_resets_ = 0;
  uint64_t paid_bytes_ = 0;  // of what was sent, that window updates were let through for
  uint64_t calls_ = 0;
  uint64_t open_calls_ = 0;  // that were begun and may end yet with a frame that is empty
  double idle_frames_ = kIdleFramesAtOnce;  // that may come still
  MonotonicTime counted_;                   // when idle_frames_ last grew
};

}  // namespace engram
