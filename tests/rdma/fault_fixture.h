// For cases of what goes wrong: an owner for all of them, and a client that must notice nothing.
#pragma once

#include <memory>

#include "gtest/gtest.h"
#include "tests/rdma/rdma_owner.h"

namespace engram::rdma {

class RdmaFaultTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { owner_ = new RdmaOwner; }
  static void TearDownTestSuite() { delete owner_; }
  void SetUp() override {
    before_ = Resources::Now();
    good_ = owner_->Attach();
    batch_ = std::make_unique<Batch>(64, Layout::kTokens);
    ASSERT_TRUE(batch_->Register(*good_).ok());
    ASSERT_TRUE(batch_->LookUp(*good_).ok());
  }
  // Whatever the others did, this one goes on over the connection it had; and then all is free.
  void TearDown() override {
    batch_->Clear();
    EXPECT_TRUE(batch_->LookUp(*good_).ok());
    EXPECT_TRUE(batch_->IsExact());
    good_.reset();
    EXPECT_TRUE(before_.ComesBack());
    EXPECT_EQ(owner_->endpoint().clients(), 0u);
  }
  static inline RdmaOwner* owner_ = nullptr;
  Resources before_;
  std::unique_ptr<Transport> good_;
  std::unique_ptr<Batch> batch_;
};

}  // namespace engram::rdma
