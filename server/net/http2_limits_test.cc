#include "server/net/http2_limits.h"

#include <string>

#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using Verdict = Http2Limits::Verdict;

constexpr uint8_t kData = 0, kHeaders = 1, kReset = 3, kSettings = 4, kPing = 6, kWindowUpdate = 8,
                  kContinuation = 9, kUnknown = 77;
constexpr uint8_t kEndStream = 1, kAck = 1, kEndHeaders = 4, kPadded = 8;

std::string Frame(uint8_t type, uint8_t flags, size_t length) {
  std::string frame;
  for (const int shift : {16, 8, 0}) frame.push_back(static_cast<char>(length >> shift));
  frame.push_back(static_cast<char>(type));
  frame.push_back(static_cast<char>(flags));
  frame += std::string("\0\0\0\1", 4);
  // Payloads that would be frames themselves if they were read as such.
  for (size_t i = 0; i < length; ++i) frame.push_back(static_cast<char>(kPing));
  return frame;
}

class Http2LimitsTest : public ::testing::Test {
 protected:
  Verdict Take(const std::string& bytes) {
    return limits_.Take(bytes, sent_bytes_, [this] { return now_; });
  }
  Verdict Begin() {
    return Take("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(kSettings, 0, 6) +
                Frame(kSettings, kAck, 0));
  }
  // Whole frames; each header block is a call of its own.
  Verdict Repeat(const std::string& frames, int times) {
    for (int i = 1; i < times; ++i) {
      if (const Verdict verdict = Take(Numbered(frames)); verdict != Verdict::kFine) return verdict;
    }
    return Take(Numbered(frames));
  }
  std::string Numbered(std::string frames) {
    for (size_t at = 0; at < frames.size();) {
      const auto byte = [&](size_t i) { return static_cast<uint8_t>(frames[at + i]); };
      const size_t length = size_t{byte(0)} << 16 | size_t{byte(1)} << 8 | byte(2);
      if (byte(3) == kHeaders) stream_ += 2;
      for (size_t i = 0; i < 4; ++i)
        frames[at + 5 + i] = static_cast<char>(stream_ >> (24 - 8 * i));
      at += 9 + length;
    }
    return frames;
  }

  Http2Limits limits_;
  uint32_t stream_ = 1;
  uint64_t sent_bytes_ = 1;
  MonotonicTime now_ = MonotonicTime() + absl::Hours(100);
};

TEST_F(Http2LimitsTest, CallsPass) {
  ASSERT_EQ(Begin(), Verdict::kFine);
  const std::string call = Frame(kHeaders, kEndHeaders, 8000) + Frame(kData, 0, 16384) +
                           Frame(kData, kEndStream, 0) + Frame(kWindowUpdate, 0, 4);
  for (int i = 0; i < 100'000; ++i) {
    sent_bytes_ += 1'000;
    ASSERT_EQ(Repeat(call, 1), Verdict::kFine) << i;
  }
}

TEST_F(Http2LimitsTest, FramesAreFoundWhereverTheyAreCut) {
  const std::string bytes = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(kSettings, 0, 6) +
                            Frame(kHeaders, 0, 16384) + Frame(kContinuation, 0, 16384);
  const std::string last = Frame(kContinuation, 0, 1);
  for (const size_t piece : {1, 2, 5, 8, 9, 10, 1000}) {
    limits_ = Http2Limits();
    for (size_t at = 0; at < bytes.size(); at += piece) {
      ASSERT_EQ(Take(bytes.substr(at, piece)), Verdict::kFine) << piece;
    }
    ASSERT_EQ(Take(last.substr(0, 8)), Verdict::kFine);
    EXPECT_EQ(Take(last.substr(8)), Verdict::kLongHeaderBlock) << piece;
  }
}

TEST_F(Http2LimitsTest, AHeaderBlockEnds) {
  ASSERT_EQ(Begin(), Verdict::kFine);
  // Many whole ones are none too long.
  EXPECT_EQ(Repeat(Frame(kHeaders, 0, 16000) + Frame(kContinuation, kEndHeaders, 16000), 100),
            Verdict::kFine);
  EXPECT_EQ(Take(Frame(kHeaders, 0, 16000)), Verdict::kFine);
  EXPECT_EQ(Take(Frame(kContinuation, 0, 16000)), Verdict::kFine);
  EXPECT_EQ(Take(Frame(kContinuation, 0, 16000)), Verdict::kLongHeaderBlock);
  // And it stays so.
  EXPECT_EQ(Take(Frame(kHeaders, kEndHeaders, 10)), Verdict::kLongHeaderBlock);
}

TEST_F(Http2LimitsTest, AHeaderBlockIsNotInMorsels) {
  ASSERT_EQ(Begin(), Verdict::kFine);
  EXPECT_EQ(Take(Frame(kHeaders, 0, 1)), Verdict::kFine);
  EXPECT_EQ(Repeat(Frame(kContinuation, 0, 0), Http2Limits::kMaxHeaderBlockFrames - 1),
            Verdict::kFine);
  EXPECT_EQ(Take(Frame(kContinuation, 0, 0)), Verdict::kLongHeaderBlock);
}

TEST_F(Http2LimitsTest, FramesThatCarryNothingComeAtACallersPace) {
  const int at_once = static_cast<int>(Http2Limits::kIdleFramesAtOnce);
  const int each_second = static_cast<int>(Http2Limits::kIdleFramesPerSecond);
  for (const std::string& frame :
       {Frame(kReset, 0, 4), Frame(kPing, 0, 8), Frame(kSettings, 0, 0), Frame(kUnknown, 0, 0),
        Frame(kData, 0, 0), Frame(kData, kEndStream, 0), Frame(kData, 0, 4),
        Frame(kData, kPadded, 0), Frame(kData, 0, 1)}) {
    limits_ = Http2Limits();
    ASSERT_EQ(Begin(), Verdict::kFine);
    EXPECT_EQ(Repeat(frame, at_once - 1), Verdict::kFine);
    EXPECT_EQ(Take(frame), Verdict::kIdleFrames);

    limits_ = Http2Limits();
    ASSERT_EQ(Begin(), Verdict::kFine);
    EXPECT_EQ(Repeat(frame, at_once - 1), Verdict::kFine);
    for (int i = 0; i < 20; ++i) {
      now_ += absl::Seconds(1);
      EXPECT_EQ(Repeat(frame, each_second - 1), Verdict::kFine) << i;
    }
    // An hour later no more come at once than at first.
    now_ += absl::Hours(1);
    EXPECT_EQ(Repeat(frame, 2 * at_once), Verdict::kIdleFrames);
  }
}

// As clients in Go and Java do, which measure the way with each round trip.
TEST_F(Http2LimitsTest, CallsWithAPingEachPass) {
  ASSERT_EQ(Begin(), Verdict::kFine);
  const std::string call =
      Frame(kHeaders, kEndHeaders, 30) + Frame(kData, kEndStream, 50) + Frame(kPing, 0, 8);
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(Repeat(call, 20'000), Verdict::kFine) << i;
    now_ += absl::Seconds(1);
  }
  // But there is an end to pings.
  EXPECT_EQ(Repeat(Frame(kPing, 0, 8), 200'000), Verdict::kIdleFrames);
}

TEST_F(Http2LimitsTest, OfCallsSomeMayBeReset) {
  ASSERT_EQ(Begin(), Verdict::kFine);
  const std::string call = Frame(kHeaders, kEndHeaders, 30) + Frame(kData, kEndStream, 50);
  EXPECT_EQ(Repeat(call + call + call + call + Frame(kReset, 0, 4), 20'000), Verdict::kFine);
  // All that are under way at once, as well.
  EXPECT_EQ(Repeat(Frame(kReset, 0, 4), 128), Verdict::kFine);
  // But not each, again and again.
  EXPECT_EQ(Repeat(call + Frame(kReset, 0, 4), 1'000), Verdict::kIdleFrames);
}

// gRPC passes over a header block of a stream that was there before, and of one whose number is a
// server's: it pays for no reset and no ping.
TEST_F(Http2LimitsTest, BlocksOfNoNewStreamEarnNothing) {
  const std::string old = Frame(kHeaders, kEndHeaders, 1);
  std::string of_a_server = old;
  of_a_server[8] = 4;
  for (const std::string& block : {old, of_a_server}) {
    for (const std::string& paid_for : {Frame(kReset, 0, 4), Frame(kPing, 0, 8), std::string()}) {
      limits_ = Http2Limits();
      ASSERT_EQ(Begin(), Verdict::kFine);
      ASSERT_EQ(Take(old), Verdict::kFine);
      Verdict verdict = Verdict::kFine;
      for (int i = 0; i < 1'000 && verdict == Verdict::kFine; ++i) verdict = Take(block + paid_for);
      EXPECT_EQ(verdict, Verdict::kIdleFrames);
    }
  }
}

// Who does not acknowledge the settings is held to none of them by gRPC.
TEST_F(Http2LimitsTest, FewCallsComeBeforeTheSettingsAreAcknowledged) {
  const std::string call = Frame(kHeaders, kEndHeaders | kEndStream, 30);
  const int most = static_cast<int>(Http2Limits::kMostCallsUnsettled);
  const std::string preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(kSettings, 0, 6);
  ASSERT_EQ(Take(preface), Verdict::kFine);
  EXPECT_EQ(Repeat(call, most), Verdict::kFine);
  EXPECT_EQ(Take(Numbered(call)), Verdict::kNoSettings);
  limits_ = Http2Limits();
  ASSERT_EQ(Take(preface), Verdict::kFine);
  EXPECT_EQ(Repeat(call, most), Verdict::kFine);
  EXPECT_EQ(Take(Frame(kSettings, kAck, 0)), Verdict::kFine);
  EXPECT_EQ(Repeat(call, 100'000), Verdict::kFine);
  // Nor is it of any use before they were sent.
  limits_ = Http2Limits();
  sent_bytes_ = 0;
  ASSERT_EQ(Take(preface + Frame(kSettings, kAck, 0)), Verdict::kFine);
  sent_bytes_ = 1;
  EXPECT_EQ(Repeat(call, most), Verdict::kFine);
  EXPECT_EQ(Take(Numbered(call)), Verdict::kNoSettings);
}

TEST_F(Http2LimitsTest, PaddingIsNoData) {
  ASSERT_EQ(Begin(), Verdict::kFine);
  EXPECT_EQ(Repeat(Frame(kData, kPadded, 100), 10'000), Verdict::kIdleFrames);
}

TEST_F(Http2LimitsTest, WindowUpdatesAreCheapAndNotWithoutEnd) {
  ASSERT_EQ(Begin(), Verdict::kFine);
  const int as_one = static_cast<int>(1 / Http2Limits::kIdleFramesOfAWindowUpdate);
  const int at_once = static_cast<int>(Http2Limits::kIdleFramesAtOnce) * as_one;
  EXPECT_EQ(Repeat(Frame(kWindowUpdate, 0, 4), at_once - as_one), Verdict::kFine);
  EXPECT_EQ(Repeat(Frame(kWindowUpdate, 0, 4), as_one + 1), Verdict::kIdleFrames);
}

TEST_F(Http2LimitsTest, WindowUpdatesThatComeWithWhatIsTakenAreFree) {
  ASSERT_EQ(Begin(), Verdict::kFine);
  // Two for each small message of an answer, for as long as one likes.
  for (int i = 0; i < 1'000'000; ++i) {
    sent_bytes_ += 2 * Http2Limits::kSentBytesOfAWindowUpdate;
    ASSERT_EQ(Repeat(Frame(kWindowUpdate, 0, 4), 2), Verdict::kFine) << i;
  }
  // What was taken long ago does not count without an end.
  sent_bytes_ += uint64_t{1} << 40;
  const auto free = static_cast<int>(Http2Limits::kMostFreeWindowUpdates);
  EXPECT_EQ(Repeat(Frame(kWindowUpdate, 0, 4), free), Verdict::kFine);
  EXPECT_EQ(Repeat(Frame(kWindowUpdate, 0, 4), 20'000), Verdict::kIdleFrames);
}

TEST_F(Http2LimitsTest, WhatIsNotHttp2IsNotLookedAt) {
  EXPECT_EQ(Take("GET / HTTP/1.1\r\n\r\n"), Verdict::kFine);
  EXPECT_EQ(Repeat(Frame(kHeaders, 0, 16000), 100), Verdict::kFine);
}

}  // namespace
}  // namespace engram
