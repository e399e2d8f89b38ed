#include "server/config/config.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/engram/v1/config.pb.h"
#include "server/config/config_fields.h"
#include "server/security/options.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

absl::StatusOr<CommandLine> Parse(std::vector<const char*> arguments,
                                  const std::vector<const char*>& environment = {}) {
  arguments.insert(arguments.begin(), "engramd");
  return ParseCommandLine(static_cast<int>(arguments.size()), arguments.data(), environment);
}

std::string Error(const std::vector<const char*>& arguments,
                  const std::vector<const char*>& environment = {}) {
  const auto parsed = Parse(arguments, environment);
  EXPECT_FALSE(parsed.ok());
  return std::string(parsed.status().message());
}

// All of them, a line each.
std::string AllErrors(std::vector<const char*> arguments) {
  arguments.push_back("--check-config");
  const auto parsed = Parse(std::move(arguments));
  if (!parsed.ok()) return std::string(parsed.status().message());
  std::string lines;
  for (const absl::Status& fault : parsed->faults) absl::StrAppend(&lines, fault.message(), "\n");
  return lines;
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
  const auto parsed = Parse({"--table-set", "/a", "--listen", "localhost:1"});
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
  const std::string file =
      WriteFile("flags.textproto",
                "table_set: \"/x\" table_set: \"/y\"\nlisten: \"localhost:1\"\n"
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
  EXPECT_EQ(over->config->listen[0].Text(), "localhost:1");
}

TEST(ParseCommandLine, AnUnknownFieldIsNamedWithItsLine) {
  const std::string file = WriteFile(
      "unknown.textproto", "table_set: \"/x\"\nlisten: \"localhost:1\"\ncolour: \"red\"\n");
  EXPECT_THAT(Error({"--config", file.c_str()}), HasSubstr(file + ":3:"));
  EXPECT_THAT(Error({"--config", file.c_str()}), HasSubstr("colour"));
  const std::string wrong = WriteFile("wrong.textproto", "gather_threads: many\n");
  EXPECT_THAT(Error({"--config", wrong.c_str()}), HasSubstr(wrong + ":1:17: Expected integer"));
}

TEST(ParseCommandLine, KeepsDirectoriesAbsoluteAndPrintsThemAsTheyWereGiven) {
  const auto parsed = Parse({"--table-set", "a/b", "--table-set", "/c", "--state-dir", "state",
                             "--listen", "localhost:1"});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const std::string here = std::filesystem::current_path().string();
  EXPECT_THAT(parsed->config->table_sets, ElementsAre(here + "/a/b", "/c"));
  EXPECT_EQ(parsed->config->state_dir, here + "/state");
  EXPECT_THAT(PrintConfig(parsed->config->effective), HasSubstr("table_set: \"a/b\""));
  const auto none = Parse({"--table-set", "/c", "--listen", "localhost:1"});
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_EQ(none->config->state_dir, "");
}

TEST(ParseCommandLine, NamesWhatIsMissingOrWrong) {
  EXPECT_THAT(Error({"--listen", "localhost:1"}), HasSubstr("--table-set DIR"));
  EXPECT_THAT(Error({"--table-set", "/a"}),
              AllOf(HasSubstr("--listen HOST:PORT"), HasSubstr("--shm-socket")));
  EXPECT_THAT(Error({"--table-set", "/a", "--admin-listen", "localhost:1"}),
              HasSubstr("--listen HOST:PORT"));
  // A way to be reached by itself, but not for RDMA.
  EXPECT_TRUE(Parse({"--table-set", "/a", "--shm-socket", "/m"}).ok());
  EXPECT_THAT(Error({"--table-set", "/a", "--shm-socket", "/m", "--rdma-device", "rxe0"}),
              HasSubstr("of no use without --listen"));
  EXPECT_THAT(Error({"--table-sett", "/a"}), HasSubstr("--table-sett"));
  EXPECT_THAT(Error({"--table-set", "/a", "--listen", "localhost:1", "--spin-us", "1001"}),
              HasSubstr("--spin-us 1001 is not between 0 and 1000"));
  EXPECT_THAT(Error({"--table-set", "/a", "--listen", "localhost:1", "--lookup-threads", "65"}),
              HasSubstr("--lookup-threads 65"));
  EXPECT_THAT(Error({"stray", "--table-set", "/a", "--listen", "localhost:1"}), HasSubstr("stray"));
  EXPECT_THAT(Error({"--config", "/no/such/file"}), HasSubstr("/no/such/file"));
  EXPECT_THAT(Error({"--config", "/"}), HasSubstr("--config"));
  EXPECT_THAT(Error({"--table-set", "/a", "--listen", "h"}), HasSubstr("it has no port"));
  EXPECT_THAT(Error({"--table-set", "/a", "--listen", "localhost:1", "--listen", "localhost:1"}),
              HasSubstr("--listen localhost:1 is given twice"));
  const auto with = [](const char* flag, const char* value) {
    return Error({"--table-set", "/a", "--listen", "localhost:1", flag, value});
  };
  EXPECT_THAT(with("--numa", "remote"), HasSubstr("bind:N"));
  EXPECT_THAT(with("--numa", "bind:4096"), HasSubstr("4096"));
  EXPECT_THAT(with("--gather-threads", "0"), HasSubstr("--gather-threads 0 is not between 1"));
  EXPECT_THAT(with("--gather-threads", "-1"), HasSubstr("--gather-threads"));
  EXPECT_THAT(with("--gather-ahead", "65"), HasSubstr("--gather-ahead 65 is not between 0 and 64"));
  EXPECT_THAT(with("--load-threads", "100000"), HasSubstr("--load-threads 100000"));
  EXPECT_THAT(with("--max-batch-rows", "0"), HasSubstr("--max-batch-rows 0"));
  EXPECT_THAT(with("--max-batch-rows", "many"), HasSubstr("--max-batch-rows"));
  EXPECT_THAT(with("--shm-socket", std::string(108, 'x').c_str()), HasSubstr("--shm-socket"));
  EXPECT_THAT(with("--shm-allow-uid", "7"), HasSubstr("--shm-socket PATH"));
  EXPECT_THAT(with("--rdma-device", "mlx5_0:0"), HasSubstr("DEV[:PORT[:GID]]"));
  EXPECT_THAT(Error({"--table-set", "/a", "--listen", "unix:/s", "--shm-socket", "/s"}),
              HasSubstr("--shm-socket /s"));
}

// Of what is looked at by itself each thing is said, once; what is right is understood.
TEST(ParseCommandLine, ACheckSaysAllThatIsWrong) {
  const auto faults = [](std::vector<const char*> arguments,
                         const std::vector<const char*>& environment = {}) {
    arguments.push_back("--check-config");
    const auto parsed = Parse(std::move(arguments), environment);
    EXPECT_TRUE(parsed.ok() && parsed->check_only) << parsed.status();
    std::vector<std::string> messages;
    if (!parsed.ok()) return messages;
    for (const absl::Status& fault : parsed->faults) messages.emplace_back(fault.message());
    return messages;
  };
  const std::vector<const char*> wrong = {
      "--table-set",    "/a",  "--listen",      "h",   "--spin-us",      "1001", "--numa",     "x",
      "--load-threads", "all", "--log-format",  "xml", "--log-level",    "x",    "--tls-cert", "c",
      "--allow",        "w",   "--rdma-device", ":",   "--admin-listen", "p"};
  EXPECT_THAT(faults(wrong, {"ENGRAMD_NONE=1", "ENGRAMD_DRAIN_GRACE_S=x"}),
              UnorderedElementsAre(HasSubstr("--load-threads all"), HasSubstr("ENGRAMD_NONE"),
                                   HasSubstr("ENGRAMD_DRAIN_GRACE_S x"), HasSubstr("--listen "),
                                   HasSubstr("--spin-us 1001"), HasSubstr("--numa x"),
                                   HasSubstr("--rdma-device "), HasSubstr("--admin-listen "),
                                   HasSubstr("--log-format xml"), HasSubstr("--log-level x"),
                                   HasSubstr("--tls-cert"), HasSubstr("--allow w")));
  // Served, the first of them ends it.
  EXPECT_THAT(Error(wrong), HasSubstr("--load-threads all"));
  EXPECT_THAT(faults({"--table-set", "/a", "--listen", "localhost:1"}), IsEmpty());
  // What follows from one fault is none by itself: a port that would speak TLS, sets that a file
  // would name.
  EXPECT_THAT(faults({"--table-set", "/a", "--listen", "0.0.0.0:1", "--tls-cert", "c"}),
              ElementsAre(HasSubstr("--tls-key")));
  EXPECT_THAT(faults({"--config", "/no/such/file", "--spin-us", "x"}),
              ElementsAre(HasSubstr("--spin-us x"), HasSubstr("/no/such/file")));
  EXPECT_THAT(faults({"--checkpoint", "/model", "--family", "qwen5", "--listen", "localhost:1"}),
              ElementsAre(HasSubstr("--family: there is no family")));
}

TEST(ParseCommandLine, TakesTheEnvironmentOverTheFileAndFlagsOverBoth) {
  const std::string file =
      WriteFile("layers.textproto",
                "table_set: \"/file\"\nlisten: \"localhost:1\"\nnuma: \"local\"\n"
                "gather_threads: 2\nload_threads: 3\n"
                "allow_plaintext: \"data\"\n");
  const std::string path = absl::StrCat("ENGRAMD_CONFIG=", file);
  const auto parsed = Parse(
      {"--gather-threads", "8"},
      {path.c_str(), "ENGRAMD_TABLE_SET=/a,/b", "ENGRAMD_GATHER_THREADS=4",
       "ENGRAMD_LOAD_THREADS=5", "HOME=/x", "ENGRAMD_SHM_SOCKET=/m", "ENGRAMD_SHM_ALLOW_UID=3,4",
       "ENGRAMD_PORT_7300_TCP=tcp://10.0.0.1:7300", "ENGRAMD_SERVICE_HOST=10.0.0.1"});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const ServerConfig& config = *parsed->config;
  EXPECT_THAT(config.table_sets, ElementsAre("/a", "/b"));
  EXPECT_EQ(config.gather_threads, 8u);
  EXPECT_EQ(config.load_threads, 5u);
  EXPECT_EQ(config.listen[0].Text(), "localhost:1");
  EXPECT_THAT(config.shm_allow_uids, ElementsAre(3, 4));
  const auto source = [&](const std::string& name) {
    for (const EffectiveField& field : config.effective) {
      if (field.name == name) return absl::StrCat(field.value, " ", field.source);
    }
    return std::string("absent");
  };
  EXPECT_EQ(source("gather_threads"), "8 flag --gather-threads");
  EXPECT_EQ(source("load_threads"), "5 environment ENGRAMD_LOAD_THREADS");
  EXPECT_EQ(source("numa"), absl::StrCat("\"local\" ", file, ":3"));
  EXPECT_EQ(source("spin_us"), "50 default");
}

TEST(ParseCommandLine, WhatIsWrongIsNamedWhereItStands) {
  const std::string base =
      "table_set: \"/a\"\nlisten: \"localhost:1\"\nallow_plaintext: \"data\"\n";
  const auto in_file = [&](const char* name, const std::string& line) {
    const std::string file = WriteFile(name, base + line);
    const std::string error = Error({"--config", file.c_str()});
    EXPECT_THAT(error, HasSubstr(file + ":4:"));
    return error;
  };
  EXPECT_THAT(in_file("a", "gather_threads: 0\n"), HasSubstr("gather_threads 0 is not between 1"));
  EXPECT_THAT(in_file("b", "spin_us: 1001\n"), HasSubstr("1001 is not between 0 and 1000"));
  EXPECT_THAT(in_file("c", "listen: \"h\"\n"), HasSubstr("it has no port"));
  EXPECT_THAT(in_file("d", "numa: \"remote\"\n"), HasSubstr("bind:N"));
  EXPECT_THAT(in_file("e", "allow: \"worker\"\n"), HasSubstr("IDENTITY=TABLE-SET"));
  EXPECT_THAT(in_file("f", "log_level: \"loud\"\n"), HasSubstr("debug, info, warn, error"));
  EXPECT_THAT(in_file("g", "drain_grace_s: 100000\n"), HasSubstr("86400"));
  const std::vector<const char*> good = {"--table-set", "/a", "--listen", "127.0.0.1:1"};
  EXPECT_THAT(Error(good, {"ENGRAMD_SPIN_US=many"}), HasSubstr("ENGRAMD_SPIN_US many"));
  EXPECT_THAT(Error(good, {"ENGRAMD_SPIN_US=1001"}), HasSubstr("ENGRAMD_SPIN_US 1001 is not"));
  EXPECT_THAT(Error(good, {"ENGRAMD_SPINUS=1"}), HasSubstr("ENGRAMD_SPINUS is set"));
  EXPECT_THAT(Error(good, {"ENGRAMD_RDMA_READ=yes"}), HasSubstr("neither true nor false"));
}

TEST(ParseCommandLine, PlainTextStaysOnThisMachineUnlessItIsAllowed) {
  const auto with = [](std::vector<const char*> more) {
    more.insert(more.begin(), {"--table-set", "/a"});
    return more;
  };
  EXPECT_THAT(Error(with({"--listen", "0.0.0.0:7300"})),
              HasSubstr("--listen 0.0.0.0:7300 can be reached from other machines and would speak "
                        "plain text: give --tls-cert and --tls-key, or --allow-plaintext data"));
  EXPECT_TRUE(Parse(with({"--listen", "0.0.0.0:7300", "--allow-plaintext", "data"})).ok());
  EXPECT_TRUE(Parse(with({"--listen", "0.0.0.0:1", "--tls-cert", "c", "--tls-key", "k"})).ok());
  EXPECT_THAT(Error(with({"--listen", "127.0.0.1:1", "--admin-listen", "0.0.0.0:2"})),
              HasSubstr("--allow-plaintext admin "));
  EXPECT_THAT(Error(with({"--listen", "127.0.0.1:1", "--admin-grpc-listen", "0.0.0.0:2",
                          "--allow-plaintext", "admin"})),
              HasSubstr("--allow-plaintext admin-grpc"));
  EXPECT_THAT(AllErrors(with({"--listen", "127.0.0.1:1", "--allow-plaintext", "everywhere",
                              "--allow-plaintext", "nowhere"})),
              AllOf(HasSubstr("everywhere"), HasSubstr("nowhere")));
  EXPECT_THAT(Error(with({"--listen", "127.0.0.1:1", "--allow-plaintext", "all"})),
              HasSubstr("data, admin, admin-grpc"));
}

TEST(ParseCommandLine, WhatIsIgnoredHasToBeKeptSomewhere) {
  const auto parsed = Parse(
      {"--table-set", "/a", "--listen", "127.0.0.1:1", "--state-dir", "/s", "--ignore-recorded"});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_TRUE(parsed->config->ignore_recorded);
  EXPECT_THAT(Error({"--table-set", "/a", "--listen", "127.0.0.1:1", "--ignore-recorded"}),
              HasSubstr("--ignore-recorded is of no use without --state-dir"));
}

TEST(ParseCommandLine, SecurityIsWholeOrRefused) {
  const auto with = [](std::vector<const char*> more) {
    more.insert(more.begin(), {"--table-set", "/a", "--listen", "127.0.0.1:1"});
    return more;
  };
  EXPECT_THAT(Error(with({"--tls-cert", "c"})), HasSubstr("--tls-key"));
  EXPECT_THAT(Error(with({"--tls-key", "k"})), HasSubstr("--tls-cert"));
  EXPECT_THAT(Error(with({"--tls-client-ca", "a"})), HasSubstr("--tls-cert"));
  // Each port's that are its own, and what one has of the other once.
  EXPECT_THAT(
      AllErrors(with({"--tls-cert", "c", "--admin-grpc-listen", "h:2", "--admin-tls-cert", "d"})),
      AllOf(HasSubstr("--tls-cert is of no use without --tls-key"),
            HasSubstr("--admin-tls-cert is of no use without --admin-tls-key")));
  EXPECT_THAT(AllErrors(with({"--tls-cert", "c", "--admin-grpc-listen", "h:2"})),
              Not(HasSubstr("admin-tls-cert is")));
  EXPECT_THAT(Error(with({"--allow", "w=s"})), HasSubstr("--tls-client-ca or --token-file"));
  EXPECT_THAT(Error(with({"--token-file", "t", "--allow", "*=s"})),
              HasSubstr("*=s gives everybody a set, and * is no identity"));
  EXPECT_THAT(Error(with({"--token-file", "t", "--allow", "unix:root=s"})),
              HasSubstr("write unix:UID with a number"));
  // No user is ever called so.
  for (const char* other : {"unix:+7=s", "unix: 7=s", "unix:07=s", "unix:4294967296=s"}) {
    EXPECT_THAT(Error(with({"--token-file", "t", "--allow", other})),
                HasSubstr("write unix:UID with a number"));
  }
  EXPECT_TRUE(Parse(with({"--token-file", "t", "--allow", "unix:0=s", "--allow", "unix=t"})).ok());
  // Peers of Unix sockets have an identity without a token.
  EXPECT_TRUE(Parse({"--table-set", "/a", "--shm-socket", "/m", "--allow", "unix:7=s"}).ok());
  for (const char* flag :
       {"--admin-tls-cert", "--admin-tls-key", "--admin-tls-client-ca", "--admin-identity"}) {
    EXPECT_THAT(Error(with({flag, "x"})),
                HasSubstr(std::string(flag) + " is of no use without --admin-grpc-listen"));
  }
  for (const char* nobody : {"", "*"}) {
    EXPECT_THAT(Error(with({"--tls-cert", "c", "--tls-key", "k", "--tls-client-ca", "a",
                            "--admin-grpc-listen", "h:2", "--admin-identity", nobody})),
                HasSubstr("names nobody"));
  }
  // Nobody is asked who he is without TLS, whatever the token file.
  EXPECT_THAT(Error(with({"--token-file", "t", "--admin-grpc-listen", "127.0.0.1:2",
                          "--admin-identity", "ops"})),
              HasSubstr("--admin-identity is of no use without TLS there (--admin-tls-cert"));
  EXPECT_THAT(Error(with({"--tls-cert", "c", "--tls-key", "k", "--tls-client-ca", "a",
                          "--admin-grpc-listen", "unix:/a", "--admin-identity", "ops"})),
              HasSubstr("--admin-identity is of no use without TLS there"));
  EXPECT_THAT(Error(with({"--tls-cert", "c", "--tls-key", "k", "--admin-grpc-listen", "h:2"})),
              HasSubstr("let anyone administer"));
  EXPECT_THAT(Error(with({"--tls-cert", "c", "--tls-key", "k", "--tls-client-ca", "a",
                          "--admin-grpc-listen", "h:2"})),
              HasSubstr("--admin-identity"));
  const auto whole =
      Parse(with({"--tls-cert", "c", "--tls-key", "k", "--tls-client-ca", "a",
                  "--admin-grpc-listen", "h:2", "--admin-identity", "ops", "--allow", "w=s",
                  "--allow", "x=*", "--admin-tls-cert", "c2", "--admin-tls-key", "k2"}));
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(whole->config->tls.cert, "c");
  EXPECT_EQ(whole->config->admin_tls.cert, "c2");
  EXPECT_EQ(whole->config->admin_tls.client_ca, "a");
  ASSERT_EQ(whole->config->allow.size(), 2u);
  EXPECT_EQ(whole->config->allow[1].identity, "x");
  EXPECT_EQ(whole->config->allow[1].table_set, "*");
}

TEST(ParseCommandLine, WhatIsPrintedIsAFileThatSaysTheSame) {
  const auto printed =
      Parse({"--table-set", "/a", "--table-set", "/b \"c\"", "--listen", "127.0.0.1:1",
             "--rdma-device", "x", "--rdma-read", "--spin-us", "0", "--print-config"});
  ASSERT_TRUE(printed.ok()) << printed.status();
  ASSERT_FALSE(printed->config);
  EXPECT_THAT(printed->text, HasSubstr("spin_us: 0  # flag --spin-us\n"));
  const std::string file = WriteFile("printed.textproto", printed->text);
  const auto again = Parse({"--config", file.c_str(), "--print-config"});
  ASSERT_TRUE(again.ok()) << again.status();
  const auto values = [](const std::string& text) {
    return std::regex_replace(text, std::regex("  # .*\n"), "\n");
  };
  EXPECT_EQ(values(again->text), values(printed->text));
  EXPECT_THAT(again->text, HasSubstr(file + ":"));
}

TEST(ParseCommandLine, EveryFieldOfTheSchemaIsAFlagWithAHelp) {
  const auto& schema = *v1::ServerConfig::descriptor();
  std::set<std::string> fields, helped;
  for (int i = 0; i < schema.field_count(); ++i) fields.insert(schema.field(i)->name());
  for (const ConfigField& field : ConfigFields()) helped.insert(field.name);
  EXPECT_EQ(helped, fields);
}

TEST(ParseCommandLine, TakesACheckpointInPlaceOfATableSetOrBesideIt) {
  const auto parsed =
      Parse({"--checkpoint", "/model", "--family", "qwen4-exp", "--rows-per-head", "1000",
             "--token-map", "/map", "--state-dir", "/state", "--listen", "localhost:1"});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const ServerConfig& config = *parsed->config;
  EXPECT_TRUE(config.table_sets.empty());
  EXPECT_EQ(config.checkpoint, "/model");
  EXPECT_EQ(config.family, "qwen4-exp");
  EXPECT_EQ(config.rows_per_head, 1000u);
  EXPECT_EQ(config.token_map, "/map");
  EXPECT_EQ(config.state_dir, "/state");
  const auto both = Parse({"--checkpoint", "/model", "--family", "qwen4-exp", "--table-set", "/a",
                           "--listen", "localhost:1"});
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_THAT(both->config->table_sets, ElementsAre("/a"));
  EXPECT_EQ(both->config->rows_per_head, 0u);
}

TEST(ParseCommandLine, RefusesACheckpointWithoutItsFamilyAndTheReverse) {
  EXPECT_THAT(Error({"--checkpoint", "/model", "--listen", "localhost:1"}),
              AllOf(HasSubstr("--checkpoint"), HasSubstr("--family NAME"), HasSubstr("qwen4-exp")));
  EXPECT_THAT(Error({"--checkpoint", "/model", "--family", "qwen5", "--listen", "localhost:1"}),
              HasSubstr("--family: there is no family \"qwen5\""));
  for (const std::vector<const char*>& flag : std::vector<std::vector<const char*>>{
           {"--family", "qwen4-exp"}, {"--rows-per-head", "5"}, {"--token-map", "/map"}}) {
    EXPECT_THAT(Error({"--table-set", "/a", "--listen", "localhost:1", flag[0], flag[1]}),
                AllOf(HasSubstr(flag[0]), HasSubstr("--checkpoint DIR")));
  }
  EXPECT_THAT(Error({"--checkpoint", "/model", "--family", "qwen4-exp", "--listen", "localhost:1",
                     "--rows-per-head", "9999999999999999"}),
              HasSubstr("--rows-per-head"));
}

TEST(ParseCommandLine, HelpAndVersionAreTextsToPrint) {
  const auto version = Parse({"--version"});
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_FALSE(version->config);
  EXPECT_EQ(version->text, "engramd 0.1.0\n");
  const auto help = Parse({"--help"});
  ASSERT_TRUE(help.ok());
  EXPECT_THAT(help->text, AllOf(HasSubstr("\nTables:\n  --table-set DIR "),
                                HasSubstr("\nSecurity:\n  --tls-cert FILE ")));
  EXPECT_THAT(Parse({"--man-page"})->text, HasSubstr(".TH ENGRAMD 8"));
  EXPECT_THAT(help->text, HasSubstr("--gather-threads"));
  const std::string in_one_line = std::regex_replace(help->text, std::regex("\\s+"), " ");
  EXPECT_THAT(in_one_line, HasSubstr(absl::StrCat("0 to ", kMaxSpin.count())));
}

// Whoever writes a token reads of it before it is refused.
TEST(ConfigFields, TheHelpSaysHowLongATokenIs) {
  bool said = false;
  for (const ConfigField& field : ConfigFields()) {
    if (std::string(field.name) != "token_file") continue;
    said = true;
    EXPECT_THAT(std::string(field.help),
                HasSubstr(absl::StrCat("of ", kMinTokenBytes, " characters or more")));
  }
  EXPECT_TRUE(said);
}

}  // namespace
}  // namespace engram
