// For tests of the manager: one over small table sets, by a clock that stands still.
#pragma once

#include <spdlog/logger.h>
#include <spdlog/sinks/null_sink.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"
#include "memstore/store/table_set_registry.h"
#include "memstore/store/testing/small_table_set.h"
#include "server/base/life_cycle.h"
#include "server/base/limits.h"
#include "server/table_sets/table_set_manager.h"

namespace engram::testing {

inline constexpr std::chrono::seconds kRetireGrace{1000};

class ManagerFixture : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(root_);
    // Two of one name, and another.
    Write("a", "first", 5000);
    Write("b", "first", 6000);
    Write("other", "second", 4096);
  }
  void TearDown() override {
    manager_.reset();
    std::filesystem::remove_all(root_);
  }
  void Write(const std::string& directory, const std::string& name, uint64_t rows) {
    const auto written =
        WriteSmallTableSet({.name = name, .layers = {{.layer = 1, .row_bytes = 264, .rows = rows}}},
                           Directory(directory));
    ASSERT_TRUE(written.ok()) << written.status();
  }
  std::string Directory(const std::string& name) const { return absl::StrCat(root_, "/", name); }
  // What `options` does not say is small, and waits for nobody.
  void StartManager(TableSetManager::Options options) {
    options.retire_grace = kRetireGrace;
    options.max_batch_rows = kDefaultMaxBatchRows;
    options.load.threads = 2;
    manager_ = std::make_unique<TableSetManager>(
        &registry_, std::move(options), &life_,
        std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::null_sink_mt>()),
        &clock_);
    ASSERT_TRUE(manager_->Start().ok());
  }
  // Returns once the manager's thread has looked at all sets after the time was moved.
  void Advance(absl::Duration span) {
    clock_.AwaitWaiters(1);
    clock_.Advance(span);
    clock_.AwaitWaiters(1);
  }

  // Of this test alone, for those of a file may run at once.
  const std::string root_ =
      absl::StrCat(::testing::TempDir(), "/",
                   ::testing::UnitTest::GetInstance()->current_test_info()->test_suite_name(), "_",
                   ::testing::UnitTest::GetInstance()->current_test_info()->name());
  FakeClock clock_;
  TableSetRegistry registry_{clock_};
  LifeCycle life_;
  std::unique_ptr<TableSetManager> manager_;
};

}  // namespace engram::testing
