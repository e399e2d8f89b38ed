#include "client/transport/ticket_table.h"

#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace engram {
namespace {

TEST(TicketTable, FindsWhatIsOpenAndForgetsWhatIsClosed) {
  TicketTable<int> table;
  const Ticket one = table.Open(std::make_shared<int>(1)).value();
  const Ticket two = table.Open(std::make_shared<int>(2)).value();
  EXPECT_EQ(*table.Find(one), 1);
  EXPECT_EQ(*table.Find(two), 2);
  EXPECT_EQ(*table.Close(one), 1);
  EXPECT_EQ(table.Find(one), nullptr);
  EXPECT_EQ(table.Close(one), nullptr);
  EXPECT_EQ(table.OpenTickets(), std::vector<Ticket>{two});
}

TEST(TicketTable, NeverGivesANumberTwice) {
  TicketTable<int> table;
  std::set<uint64_t> seen;
  for (int i = 0; i < 3000; ++i) {
    const Ticket ticket = table.Open(std::make_shared<int>(i)).value();
    EXPECT_TRUE(seen.insert(ticket.number).second);
    table.Close(ticket);
  }
  for (const uint64_t number : seen) EXPECT_EQ(table.Find({number}), nullptr);
  EXPECT_EQ(table.Find({0}), nullptr);
  EXPECT_EQ(table.Find({UINT64_MAX}), nullptr);
}

TEST(TicketTable, RefusesMoreThanItsSlotsAndSaysWhatToDo) {
  TicketTable<int> table;
  std::vector<Ticket> tickets;
  for (uint32_t i = 0; i < kMaxOpenTickets; ++i) {
    tickets.push_back(table.Open(std::make_shared<int>(0)).value());
  }
  const auto status = table.Open(std::make_shared<int>(0)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(std::string(status.message()).find("reap"), std::string::npos);
  table.Close(tickets[17]);
  EXPECT_TRUE(table.Open(std::make_shared<int>(0)).ok());
}

TEST(TicketTable, ServesSeveralThreads) {
  TicketTable<int> table;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&table, t] {
      for (int i = 0; i < 2000; ++i) {
        const Ticket ticket = table.Open(std::make_shared<int>(t)).value();
        ASSERT_EQ(*table.Find(ticket), t);
        ASSERT_EQ(*table.Close(ticket), t);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(table.OpenTickets().empty());
}

}  // namespace
}  // namespace engram
