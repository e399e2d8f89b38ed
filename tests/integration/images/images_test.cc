// A table set that says which token ids stand for images: one that is not marked dead is refused
// over every way to rows, by token ids on the wire and by the commands; allowed, or marked, it has
// the rows that it has in the same set without that side file.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "memstore/table/manifest.h"
#include "memstore/table/side_file.h"
#include "memstore/table/side_files.h"
#include "proto/wire/features.h"
#include "tests/cluster/partitioned_stores.h"
#include "tests/integration/hand_stream.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int32_t kImage = 129264;
constexpr size_t kTokens = 20, kPlace = 11;

struct Target {
  std::string target, mode;
};

class ImagesTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    scratch_ = new ScratchDirectory;
    const std::string set = *scratch_ / "set", plain = *scratch_ / "plain";
    PackSmallSet("deepseek-v4.1-flash", 500, plain);
    std::filesystem::remove(plain + "/" + kImageTokenIdsFile);  // it is the family's
    std::filesystem::copy(plain, set);
    const std::string id = LoadManifest(set).value().id;
    ASSERT_TRUE(WriteSideFile(set + "/" + kImageTokenIdsFile, kImageTokenIdsKind, id,
                              ImageTokenIdsBody({kImage, kImage + 1}))
                    .ok());
    const std::string shm = *scratch_ / "shm";
    engramd_ =
        new EngramdProcess({"--table-set", set, "--listen", "127.0.0.1:0", "--shm-socket", shm});
    address_ = new std::string(engramd_->WaitUntilServing(0));
    ASSERT_TRUE(engramd_->WaitForLine("shared memory at"));
    stores_ = new PartitionedStores(*scratch_, 2, 1);
    targets_ =
        new std::vector<Target>{{"embedded:" + set, ""},        {"shm:" + shm, ""},
                                {"shm:" + shm, "ring"},         {"grpc:" + *address_, "stream"},
                                {"grpc:" + *address_, "unary"}, {"auto:" + *address_, ""},
                                {stores_->target(), ""}};
    plain_ = Client::Attach("embedded:" + plain, {}).value().release();
  }
  static void TearDownTestSuite() {
    const auto* suite = ::testing::UnitTest::GetInstance()->current_test_suite();
    if (suite->Failed()) std::cerr << engramd_->Log();
    delete plain_;
    delete targets_;
    delete address_;
    delete engramd_;
    delete stores_;
    delete scratch_;
  }

  ImagesTest() : ids_(RealTokenIds(kTokens)), mask_(kTokens) {
    ids_[kPlace] = kImage;
    mask_[kPlace] = 1;
  }

  // [tokens, layers, columns] of one sequence.
  static absl::StatusOr<std::string> Rows(Client& client, const std::vector<int32_t>& ids,
                                          const std::vector<uint8_t>& dead) {
    std::string rows(ids.size() * TokenBytes(client.table_set()), '\0');
    const SequenceTokens sequence = {Addresser::Start(), static_cast<uint32_t>(ids.size())};
    const auto ticket = client.SubmitTokens(
        {&sequence, 1}, ids, dead,
        DenseLandings(client.table_set(), reinterpret_cast<std::byte*>(rows.data())),
        RealClock().After(absl::Seconds(60)));
    if (!ticket.ok()) return ticket.status();
    const absl::Status status = client.Wait(*ticket);
    client.Reap(*ticket);
    if (!status.ok()) return status;
    return rows;
  }
  static std::unique_ptr<Client> Attach(const Target& target, bool allow) {
    auto client =
        Client::Attach(target.target, {.mode = target.mode, .allow_unmasked_images = allow});
    EXPECT_TRUE(client.ok()) << target.target << ": " << client.status();
    return client.ok() ? *std::move(client) : nullptr;
  }

  std::vector<int32_t> ids_;
  std::vector<uint8_t> mask_;
  static ScratchDirectory* scratch_;
  static EngramdProcess* engramd_;
  static std::string* address_;
  static PartitionedStores* stores_;
  static std::vector<Target>* targets_;
  static Client* plain_;  // of the set without the side file
};

ScratchDirectory* ImagesTest::scratch_ = nullptr;
EngramdProcess* ImagesTest::engramd_ = nullptr;
std::string* ImagesTest::address_ = nullptr;
PartitionedStores* ImagesTest::stores_ = nullptr;
std::vector<Target>* ImagesTest::targets_ = nullptr;
Client* ImagesTest::plain_ = nullptr;

TEST_F(ImagesTest, EveryWayRefusesALiveOne) {
  const std::string masked = Rows(*plain_, ids_, mask_).value();
  for (const Target& target : *targets_) {
    SCOPED_TRACE(absl::StrCat(target.target, " ", target.mode));
    const auto client = Attach(target, false);
    ASSERT_NE(client, nullptr);
    EXPECT_THAT(client->addresser().image_token_ids(), ElementsAre(kImage, kImage + 1));
    const auto refused = Rows(*client, ids_, {});
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(refused.status().message()),
                AllOf(HasSubstr("token id 129264 at position 11"), HasSubstr("dead mask"),
                      HasSubstr("allow_unmasked_images")));
    const auto rows = Rows(*client, ids_, mask_);
    ASSERT_TRUE(rows.ok()) << rows.status();
    EXPECT_TRUE(*rows == masked);
  }
}

// As it is packed, without anything done to it.
TEST_F(ImagesTest, ASyntheticSetRefusesItsFamilysOwn) {
  const std::string own = *scratch_ / "own";
  PackSmallSet("deepseek-v4.1-flash", 500, own);
  const auto client = Attach({"embedded:" + own, ""}, false);
  ASSERT_NE(client, nullptr);
  EXPECT_THAT(client->addresser().image_token_ids(), ElementsAre(kImage));
  const auto refused = Rows(*client, ids_, {});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("token id 129264 at position 11"));
  EXPECT_TRUE(Rows(*client, ids_, mask_).value() == Rows(*plain_, ids_, mask_).value());
}

TEST_F(ImagesTest, EveryWayTakesOneThatIsAllowed) {
  const std::string live = Rows(*plain_, ids_, {}).value();
  EXPECT_NE(live, Rows(*plain_, ids_, mask_).value());
  for (const Target& target : *targets_) {
    SCOPED_TRACE(absl::StrCat(target.target, " ", target.mode));
    const auto client = Attach(target, true);
    ASSERT_NE(client, nullptr);
    const auto rows = Rows(*client, ids_, {});
    ASSERT_TRUE(rows.ok()) << rows.status();
    EXPECT_TRUE(*rows == live);
  }
}

// As a client of any language sends them.
TEST_F(ImagesTest, TheOwnerRefusesThemByTokenIds) {
  const auto stub = ConnectStub(*address_);
  v1::AttachResponse attached;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(stub->Attach(&context, v1::AttachRequest(), &attached).ok());
  }
  EXPECT_THAT(attached.image_token_ids(), ElementsAre(kImage, kImage + 1));
  EXPECT_TRUE(wire::HasFeature(attached.features(), wire::kImageChecks));
  HandStream stream(*address_);
  v1::LookupRequest request;
  request.set_table_set_id(attached.table_set_id());
  for (const int32_t id : ids_) request.mutable_tokens()->add_token_ids(id);
  const auto unary = [&](v1::LookupResponse* response) {
    grpc::ClientContext context;
    return stub->Lookup(&context, request, response);
  };
  const auto on_stream = [&] {
    request.set_batch_id(request.batch_id() + 1);
    EXPECT_TRUE(stream.Write(request));
    EXPECT_EQ(stream.ReadToAnEnd(), request.batch_id());
    return stream.Take(request.batch_id());
  };
  v1::LookupResponse response;
  const grpc::Status refused = unary(&response);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(refused.error_message(),
              AllOf(HasSubstr("token id 129264 at position 11"), HasSubstr("dead mask"),
                    HasSubstr("allow_unmasked_images")));
  EXPECT_EQ(on_stream().message, refused.error_message());

  for (const bool allow : {true, false}) {
    request.set_allow_unmasked_images(allow);
    request.mutable_tokens()->set_dead_mask(allow ? "" : std::string(mask_.begin(), mask_.end()));
    const grpc::Status status = unary(&response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    const Answer answer = on_stream();
    EXPECT_EQ(answer.code, 0u) << answer.message;
    const std::vector<uint8_t> dead = allow ? std::vector<uint8_t>() : mask_;
    const std::string expected = Rows(*plain_, ids_, dead).value();
    // Layers of [tokens, columns] here, tokens of [layers, columns] there.
    const Manifest& manifest = plain_->table_set();
    size_t offset = 0;
    for (int i = 0; i < response.layers_size(); ++i) {
      const uint64_t bytes = uint64_t{manifest.scheme.Columns()} * manifest.layers[i].row_bytes;
      const std::string& rows = response.layers(i).rows();
      ASSERT_EQ(rows.size(), kTokens * bytes);
      EXPECT_EQ(answer.rows.at(response.layers(i).layer()), rows);
      for (size_t t = 0; t < kTokens; ++t) {
        ASSERT_EQ(rows.substr(t * bytes, bytes),
                  expected.substr(t * TokenBytes(manifest) + offset, bytes))
            << t;
      }
      offset += bytes;
    }
    EXPECT_EQ(offset, TokenBytes(manifest));
  }
}

TEST_F(ImagesTest, EveryCommandRefusesThem) {
  const std::string ids = *scratch_ / "ids", mask = *scratch_ / "mask", out = *scratch_ / "out";
  const std::string set = *scratch_ / "set", plain = *scratch_ / "plain";
  WriteFile(ids, {reinterpret_cast<const char*>(ids_.data()), ids_.size() * sizeof(int32_t)});
  WriteFile(mask, {mask_.begin(), mask_.end()});
  const auto run = [&](const std::string& command, const std::string& flags) {
    return RunShell(absl::StrCat("$ENGRAM ", command, " --token-ids ", ids, flags));
  };
  for (const std::string& command :
       {"lookup --output " + out + " --target grpc:" + *address_,
        "lookup --output " + out + " --target embedded:" + set,
        "bench --rounds 1 --batch-tokens 16 --target grpc:" + *address_,
        "address --output " + out + " --table-set " + set}) {
    const Outcome refused = run(command, "");
    EXPECT_EQ(refused.exit_code, 1) << command;
    EXPECT_THAT(refused.err, AllOf(HasSubstr("token id 129264"), HasSubstr("dead mask"),
                                   HasSubstr("--allow-unmasked-images")));
    EXPECT_FALSE(std::filesystem::exists(out)) << command;
    const Outcome allowed = run(command, " --allow-unmasked-images");
    EXPECT_EQ(allowed.exit_code, 0) << command << ": " << allowed.err;
    std::filesystem::remove(out);
  }
  for (const std::string& flags :
       {" --dead-mask " + mask, std::string(" --allow-unmasked-images")}) {
    const Outcome rows = run("lookup --output - --target embedded:" + set, flags);
    EXPECT_EQ(rows.exit_code, 0) << rows.err;
    EXPECT_TRUE(rows.out == run("lookup --output - --target embedded:" + plain, flags).out);
    for (const std::string counted : {"", " --from-token-ids"}) {
      // One of the batches of 4 begins right behind the image.
      const std::string bench = "bench --rounds 1 --batch-tokens 4,16 --target grpc:" + *address_;
      const Outcome measured = run(bench, flags + counted);
      EXPECT_EQ(measured.exit_code, 0) << measured.err;
    }
  }
}

}  // namespace
}  // namespace engram::integration
