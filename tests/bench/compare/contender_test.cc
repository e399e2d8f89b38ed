#include "tests/bench/compare/contender.h"

#include <gtest/gtest.h>

#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace engram::bench {
namespace {

constexpr Layers kSmall = {{{.number = 1, .rows = 1000}, {.number = 14, .rows = 777}}};

// Lands the rows of a small set when a batch ends; one of them wrong, if it is told so.
class FakeContender final : public Contender {
 public:
  explicit FakeContender(bool wrong) : wrong_(wrong) {}
  absl::StatusOr<std::unique_ptr<Lane>> NewLane() override { return std::make_unique<Own>(wrong_); }

 private:
  class Own final : public Lane {
   public:
    explicit Own(bool wrong) : wrong_(wrong) {}
    absl::Status Begin(size_t slot, const Batch&) override {
      EXPECT_LT(slot, kMaxInFlight);
      EXPECT_FALSE(under_way_[slot]);
      under_way_[slot] = true;
      return absl::OkStatus();
    }
    absl::Status End(size_t slot, const Batch& batch) override {
      EXPECT_TRUE(under_way_[slot]);
      under_way_[slot] = false;
      for (size_t l = 0; l < kLayers; ++l) {
        std::byte* to = batch.layer_landing(l);
        for (uint64_t i = 0; i < batch.layer_rows(); ++i, to += kRowBytes) {
          EXPECT_EQ(batch.ids[l][i], batch.ids32[l][i]);
          FillRow(kSmall, batch.ids[l][i] + (l == 0 ? 0 : kSmall[0].rows), {to, kRowBytes});
        }
      }
      if (wrong_) batch.landing[batch.tokens * kTokenBytes - 1] ^= std::byte{1};
      return absl::OkStatus();
    }

   private:
    const bool wrong_;
    std::array<bool, kMaxInFlight> under_way_ = {};
  };

  const bool wrong_;
};

// What ServeRounds prints for `input`, and its status.
std::pair<std::string, int> Serve(const std::string& input) {
  std::istringstream in(input);
  std::ostringstream out;
  std::streambuf* const cin = std::cin.rdbuf(in.rdbuf());
  std::streambuf* const cout = std::cout.rdbuf(out.rdbuf());
  Contenders contenders;
  contenders["right"] = std::make_unique<FakeContender>(false);
  contenders["wrong"] = std::make_unique<FakeContender>(true);
  const int status = ServeRounds("test", std::move(contenders), kSmall);
  std::cin.rdbuf(cin);
  std::cout.rdbuf(cout);
  return {out.str(), status};
}

TEST(Contender, ARoundHasEveryBatchAndItsRate) {
  const auto [text, status] = Serve("right 3 2 4 5\nright 1 1 1 5\n");
  EXPECT_EQ(status, 0);
  std::istringstream lines(text);
  std::string line;
  std::getline(lines, line);
  EXPECT_EQ(line, "ready");
  int rounds = 0;
  for (; std::getline(lines, line); ++rounds) {
    const nlohmann::json round = nlohmann::json::parse(line);
    EXPECT_GE(round["batches"], 1);
    EXPECT_GT(round["p50_us"], 0);
    EXPECT_GE(round["p99_us"], round["p50_us"]);
    EXPECT_GT(round["rows_per_s"], 0);
  }
  EXPECT_EQ(rounds, 2);
}

TEST(Contender, AWrongRowEndsTheProgram) {
  EXPECT_EQ(Serve("wrong 2 1 1 1\n"), (std::pair<std::string, int>("ready\n", 1)));
}

TEST(Contender, WhatIsNoRoundEndsTheProgram) {
  for (const char* line : {"", "right 1 1 1", "right 0 1 1 1", "right 4097 1 1 1", "right 1 9 1 1",
                           "right 1 1 9 1", "nobody 1 1 1 1", "right x 1 1 1"}) {
    EXPECT_EQ(Serve(std::string(line) + "\n").second, 1) << line;
  }
}

TEST(Contender, LayersAreTwoNumbersWithTheirRows) {
  const absl::StatusOr<Layers> layers = ParseLayers("1:1000,14:777");
  ASSERT_TRUE(layers.ok());
  EXPECT_EQ((*layers)[1].number, 14);
  EXPECT_EQ(TotalRows(*layers), 1777);
  for (const char* text : {"", "1:2", "1:2,3", "1:2,3:0", "1:2,3:4,5:6", "a:2,3:4"}) {
    EXPECT_FALSE(ParseLayers(text).ok()) << text;
  }
}

}  // namespace
}  // namespace engram::bench
