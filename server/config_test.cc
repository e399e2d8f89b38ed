#include "server/config.h"

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<CommandLine> Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "engramd");
  return ParseCommandLine(static_cast<int>(arguments.size()), arguments.data());
}

std::string Error(const std::vector<const char*>& arguments) {
  const auto parsed = Parse(arguments);
  EXPECT_FALSE(parsed.ok());
  return std::string(parsed.status().message());
}

std::string WriteFile(const std::string& name, const std::string& text) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/", name);
  std::ofstream(path) << text;
  return path;
}

TEST(ParseCommandLine, TakesEveryFlag) {
  const auto parsed = Parse({"--table-set",
                             "/a",
                             "--listen",
                             "127.0.0.1:0",
                             "--table-set",
                             "/b",
                             "--listen",
                             "unix:/s",
                             "--numa",
                             "interleave",
                             "--load-threads",
                             "3",
                             "--gather-threads",
                             "2",
                             "--max-batch-rows",
                             "1000",
                             "--shm-socket",
                             "/m",
                             "--rdma-device",
                             "mlx5_0",
                             "--rdma-device",
                             "mlx5_1:2:3",
                             "--rdma-read",
                             "--shm-allow-uid",
                             "7",
                             "--shm-allow-uid",
                             "8",
                             "--lookup-threads",
                             "5",
                             "--spin-us",
                             "0"});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const ServerConfig& config = *parsed->config;
  EXPECT_THAT(config.table_sets, ElementsAre("/a", "/b"));
  ASSERT_EQ(config.listen.size(), 2u);
  EXPECT_EQ(config.listen[0].Text(), "127.0.0.1:0");
  EXPECT_EQ(config.listen[1].Text(), "unix:/s");
  EXPECT_EQ(config.numa.kind, NumaPolicy::Kind::kInterleave);
  EXPECT_EQ(config.load_threads, 3u);
  EXPECT_EQ(config.gather_threads, 2u);
  EXPECT_EQ(config.max_batch_rows, 1000u);
  EXPECT_EQ(config.lookup_threads, 5u);
  EXPECT_EQ(config.spin.count(), 0);
  EXPECT_EQ(config.shm_socket, "/m");
  EXPECT_THAT(config.rdma_devices,
              ElementsAre(RdmaDeviceChoice{"mlx5_0", 1, -1}, RdmaDeviceChoice{"mlx5_1", 2, 3}));
  EXPECT_TRUE(config.rdma_read);
  EXPECT_THAT(config.shm_allow_uids, ElementsAre(7, 8));
}

TEST(ParseCommandLine, HasDefaults) {
  const auto parsed = Parse({"--table-set", "/a", "--listen", "h:1"});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->config->numa.kind, NumaPolicy::Kind::kDefault);
  EXPECT_EQ(parsed->config->load_threads, 0u);
  EXPECT_EQ(parsed->config->gather_threads, 1u);
  EXPECT_EQ(parsed->config->max_batch_rows, kDefaultMaxBatchRows);
  EXPECT_EQ(parsed->config->lookup_threads, 0u);
  EXPECT_EQ(parsed->config->spin, kDefaultSpin);
  EXPECT_EQ(parsed->config->shm_socket, "");
}

TEST(ParseCommandLine, FlagsReplaceWhatTheFileSays) {
  const std::string file = WriteFile("flags.textproto",
                                     "table_set: \"/x\" table_set: \"/y\"\nlisten: \"h:1\"\n"
                                     "numa: \"local\" gather_threads: 4 max_batch_rows: 7\n"
                                     "lookup_threads: 2 spin_us: 0\n"
                                     "shm_socket: \"/m\" shm_allow_uid: 7\n"
                                     "rdma_device: \"rxe0:1\" rdma_read: true\n");
  const auto whole = Parse({"--config", file.c_str()});
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_THAT(whole->config->table_sets, ElementsAre("/x", "/y"));
  EXPECT_EQ(whole->config->numa.kind, NumaPolicy::Kind::kLocal);
  EXPECT_EQ(whole->config->gather_threads, 4u);
  EXPECT_EQ(whole->config->max_batch_rows, 7u);
  EXPECT_EQ(whole->config->lookup_threads, 2u);
  EXPECT_EQ(whole->config->spin.count(), 0);
  EXPECT_EQ(whole->config->shm_socket, "/m");
  EXPECT_THAT(whole->config->shm_allow_uids, ElementsAre(7));
  EXPECT_THAT(whole->config->rdma_devices, ElementsAre(RdmaDeviceChoice{"rxe0", 1, -1}));
  EXPECT_TRUE(whole->config->rdma_read);
  const auto over = Parse({"--config", file.c_str(), "--table-set", "/z", "--gather-threads", "1"});
  ASSERT_TRUE(over.ok()) << over.status();
  EXPECT_THAT(over->config->table_sets, ElementsAre("/z"));
  EXPECT_EQ(over->config->gather_threads, 1u);
  EXPECT_EQ(over->config->listen[0].Text(), "h:1");
}

TEST(ParseCommandLine, AnUnknownFieldIsNamedWithItsLine) {
  const std::string file =
      WriteFile("unknown.textproto", "table_set: \"/x\"\nlisten: \"h:1\"\ncolour: \"red\"\n");
  EXPECT_THAT(Error({"--config", file.c_str()}), HasSubstr(file + ":3:"));
  EXPECT_THAT(Error({"--config", file.c_str()}), HasSubstr("colour"));
  const std::string wrong = WriteFile("wrong.textproto", "gather_threads: many\n");
  EXPECT_THAT(Error({"--config", wrong.c_str()}), HasSubstr(wrong + ":1:17: Expected integer"));
}

TEST(ParseCommandLine, NamesWhatIsMissingOrWrong) {
  EXPECT_THAT(Error({"--listen", "h:1"}), HasSubstr("--table-set DIR"));
  EXPECT_THAT(Error({"--table-set", "/a"}), HasSubstr("--listen HOST:PORT"));
  EXPECT_THAT(Error({"--table-sett", "/a"}), HasSubstr("--table-sett"));
  EXPECT_THAT(Error({"--table-set", "/a", "--listen", "h:1", "--spin-us", "1001"}),
              HasSubstr("--spin-us 1001 is not between 0 and 1000"));
  EXPECT_THAT(Error({"--table-set", "/a", "--listen", "h:1", "--lookup-threads", "65"}),
              HasSubstr("--lookup-threads 65"));
  EXPECT_THAT(Error({"stray", "--table-set", "/a", "--listen", "h:1"}), HasSubstr("stray"));
  EXPECT_THAT(Error({"--config", "/no/such/file"}), HasSubstr("/no/such/file"));
  EXPECT_THAT(Error({"--config", "/"}), HasSubstr("--config"));
  EXPECT_THAT(Error({"--table-set", "/a", "--listen", "h"}), HasSubstr("it has no port"));
  EXPECT_THAT(Error({"--table-set", "/a", "--listen", "h:1", "--listen", "h:1"}),
              HasSubstr("--listen h:1 is given twice"));
  const auto with = [](const char* flag, const char* value) {
    return Error({"--table-set", "/a", "--listen", "h:1", flag, value});
  };
  EXPECT_THAT(with("--numa", "remote"), HasSubstr("bind:N"));
  EXPECT_THAT(with("--numa", "bind:4096"), HasSubstr("4096"));
  EXPECT_THAT(with("--gather-threads", "0"), HasSubstr("--gather-threads 0 is not between 1"));
  EXPECT_THAT(with("--gather-threads", "-1"), HasSubstr("--gather-threads"));
  EXPECT_THAT(with("--load-threads", "100000"), HasSubstr("--load-threads 100000"));
  EXPECT_THAT(with("--max-batch-rows", "0"), HasSubstr("--max-batch-rows 0"));
  EXPECT_THAT(with("--max-batch-rows", "many"), HasSubstr("--max-batch-rows"));
  EXPECT_THAT(with("--shm-socket", std::string(108, 'x').c_str()), HasSubstr("--shm-socket"));
  EXPECT_THAT(with("--shm-allow-uid", "7"), HasSubstr("--shm-socket PATH"));
  EXPECT_THAT(with("--rdma-device", "mlx5_0:0"), HasSubstr("DEV[:PORT[:GID]]"));
  EXPECT_THAT(Error({"--table-set", "/a", "--listen", "unix:/s", "--shm-socket", "/s"}),
              HasSubstr("--shm-socket /s"));
}

TEST(ParseCommandLine, HelpAndVersionAreTextsToPrint) {
  const auto version = Parse({"--version"});
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_FALSE(version->config);
  EXPECT_EQ(version->text, "engramd 0.1.0\n");
  const auto help = Parse({"--help"});
  ASSERT_TRUE(help.ok());
  EXPECT_THAT(help->text, HasSubstr("--table-set"));
  EXPECT_THAT(help->text, HasSubstr("--gather-threads"));
}

}  // namespace
}  // namespace engram
