#include "server/config/config_layers.h"

#include <google/protobuf/descriptor.h>

#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/config/config_fields.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<ConfigLayers> Read(std::vector<const char*> arguments,
                                  const std::vector<const char*>& environment = {}) {
  arguments.insert(arguments.begin(), "engramd");
  return ConfigLayers::Read(static_cast<int>(arguments.size()), arguments.data(), environment);
}

std::string Error(const std::vector<const char*>& arguments,
                  const std::vector<const char*>& environment = {}) {
  const auto layers = Read(arguments, environment);
  EXPECT_EQ(layers.status().code(), absl::StatusCode::kInvalidArgument) << layers.status();
  return std::string(layers.status().message());
}

// A file of this test's own; its path.
std::string WriteFile(const std::string& text) {
  const std::string path =
      absl::StrCat(::testing::TempDir(), "/",
                   ::testing::UnitTest::GetInstance()->current_test_info()->name(), ".textproto");
  std::ofstream(path) << text;
  return path;
}

TEST(ConfigLayers, NamesTheFlagThatWasMeant) {
  EXPECT_EQ(Error({"--table-sets", "/t"}),
            "there is no flag --table-sets: did you mean --table-set?");
}

TEST(ConfigLayers, AnEmptyVariableSaysNothing) {
  const std::string file = WriteFile("token_file: \"tokens\"\nlisten: \"127.0.0.1:1\"\n");
  const auto layers = Read({"--config", file.c_str()},
                           {"ENGRAMD_TOKEN_FILE=", "ENGRAMD_LISTEN=", "ENGRAMD_SPIN_US="});
  ASSERT_TRUE(layers.ok()) << layers.status();
  EXPECT_EQ(layers->config().token_file(), "tokens");
  EXPECT_THAT(layers->config().listen(), ElementsAre("127.0.0.1:1"));
  // A flag may take it away, and a name that is none is no less wrong for being empty.
  EXPECT_EQ(Read({"--config", file.c_str(), "--token-file", ""})->config().token_file(), "");
  EXPECT_THAT(Error({"--config", file.c_str()}, {"ENGRAMD_TOKENFILE="}),
              HasSubstr("ENGRAMD_TOKENFILE"));
}

TEST(ConfigLayers, AFlagIsOverTheEnvironmentWhichIsOverTheFile) {
  const std::string file = WriteFile("load_threads: 1\nspin_us: 2\n\nmax_batch_rows: 3\n");
  const auto layers = Read({"--config", file.c_str(), "--load-threads", "10"},
                           {"ENGRAMD_LOAD_THREADS=20", "ENGRAMD_SPIN_US=21"});
  ASSERT_TRUE(layers.ok()) << layers.status();
  EXPECT_EQ(layers->config().load_threads(), 10u);
  EXPECT_EQ(layers->config().spin_us(), 21u);
  EXPECT_EQ(layers->config().max_batch_rows(), 3u);
  EXPECT_FALSE(layers->config().has_gather_threads());
  EXPECT_EQ(layers->Source("load_threads"), "flag --load-threads");
  EXPECT_EQ(layers->Source("spin_us"), "environment ENGRAMD_SPIN_US");
  EXPECT_EQ(layers->Source("max_batch_rows"), file + ":4");
  EXPECT_EQ(layers->Source("gather_threads"), "default");
  EXPECT_EQ(layers->Where("load_threads"), "--load-threads");
  EXPECT_EQ(layers->Where("spin_us"), "ENGRAMD_SPIN_US");
  EXPECT_EQ(layers->Where("max_batch_rows"), file + ":4: max_batch_rows");
  EXPECT_EQ(layers->Where("gather_threads"), "--gather-threads");
}

TEST(ConfigLayers, ARepeatedFieldIsReplacedWholeAndEachValueHasItsLine) {
  const std::string file = WriteFile(
      "listen: \"a:1\"\nlisten: \"b:2\"\nallow: [\"x=y\",\n  \"z=*\"]\nshm_allow_uid: 7\n");
  const auto whole = Read({"--config", file.c_str()});
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_THAT(whole->config().listen(), ElementsAre("a:1", "b:2"));
  EXPECT_THAT(whole->config().allow(), ElementsAre("x=y", "z=*"));
  EXPECT_EQ(whole->Source("listen", 0), file + ":1");
  EXPECT_EQ(whole->Source("listen", 1), file + ":2");
  // Of a list in brackets, the line that it begins in.
  EXPECT_EQ(whole->Where("allow", 1), file + ":3: allow");
  const auto over = Read({"--config", file.c_str(), "--listen", "c:3", "--listen", "d:4"},
                         {"ENGRAMD_LISTEN=e:5", "ENGRAMD_SHM_ALLOW_UID=8,9"});
  ASSERT_TRUE(over.ok()) << over.status();
  EXPECT_THAT(over->config().listen(), ElementsAre("c:3", "d:4"));
  EXPECT_THAT(over->config().shm_allow_uid(), ElementsAre(8, 9));
  EXPECT_EQ(over->Source("listen", 1), "flag --listen");
  EXPECT_EQ(over->Source("shm_allow_uid", 1), "environment ENGRAMD_SHM_ALLOW_UID");
}

// What a weaker place says of a field that a stronger one sets is still read, and refused where it
// is not of the field's form: the next start may not have the flag.
TEST(ConfigLayers, TheFileIsCheckedWhereTheFlagsSayOtherwiseToo) {
  const std::string file = WriteFile("load_threads: many\n");
  EXPECT_THAT(Error({"--config", file.c_str(), "--load-threads", "1"}),
              HasSubstr(file + ":1:15: Expected integer"));
}

TEST(ConfigLayers, AWrongValueIsNamedWhereItStands) {
  EXPECT_THAT(Error({"--load-threads", "many"}),
              HasSubstr("--load-threads many is not a whole number from 0 to 4294967295"));
  EXPECT_THAT(Error({"--load-threads", "-1"}), HasSubstr("--load-threads"));
  EXPECT_THAT(Error({"--max-batch-rows", "18446744073709551616"}),
              HasSubstr("--max-batch-rows 18446744073709551616 is not a whole number from 0 "
                        "to 18446744073709551615"));
  EXPECT_THAT(Error({}, {"ENGRAMD_SPIN_US=4294967296"}),
              HasSubstr("ENGRAMD_SPIN_US 4294967296 is not a whole number"));
  EXPECT_THAT(Error({}, {"ENGRAMD_RDMA_READ=yes"}),
              HasSubstr("ENGRAMD_RDMA_READ yes is neither true nor false"));
  EXPECT_THAT(Error({}, {"ENGRAMD_SHM_ALLOW_UID=1,two"}),
              HasSubstr("ENGRAMD_SHM_ALLOW_UID two is not a whole number"));
  const std::string file = WriteFile("listen: \"a:1\"\n\nspin_us: \"x\"\n");
  EXPECT_THAT(Error({"--config", file.c_str()}), HasSubstr(file + ":3:10: Expected integer"));
}

TEST(ConfigLayers, WhatIsUnknownIsNamedWhereItStands) {
  EXPECT_THAT(Error({"--colour", "red"}), HasSubstr("--colour"));
  EXPECT_THAT(Error({}, {"ENGRAMD_COLOUR=red"}),
              AllOf(HasSubstr("ENGRAMD_COLOUR"), HasSubstr("no such setting")));
  const std::string file = WriteFile("spin_us: 1\n  colour: \"red\"\n");
  EXPECT_THAT(Error({"--config", file.c_str()}),
              AllOf(HasSubstr(file + ":2:"), HasSubstr("colour"), HasSubstr("--help")));
}

TEST(ConfigLayers, AFlagOfOneValueIsGivenOnce) {
  EXPECT_THAT(Error({"--spin-us", "1", "--spin-us", "2"}), HasSubstr("--spin-us"));
}

TEST(ConfigLayers, VariablesOfOthersAreLeftAlone) {
  const auto layers = Read(
      {}, {"ENGRAM_SPIN_US=1", "PATH=/bin", "ENGRAMD_PORT=tcp://10.0.0.1:1", "ENGRAMD_PORT_1_TCP=x",
           "ENGRAMD_SERVICE_HOST=10.0.0.1", "ENGRAMD_SERVICE_PORT_GRPC=1"});
  ASSERT_TRUE(layers.ok()) << layers.status();
  EXPECT_EQ(layers->config().ByteSizeLong(), 0u);
}

// Kubernetes sets them for every Service of the namespace that has such a name.
TEST(ConfigLayers, VariablesOfServicesAreLeftAlone) {
  for (const std::string name : {"ENGRAMD_", "ENGRAMD_ADMIN_", "ENGRAMD_STORES_PORT_A_"}) {
    for (const std::string rest :
         {"SERVICE_HOST=10.0.0.1", "SERVICE_PORT=1", "SERVICE_PORT_GRPC=1", "PORT=tcp://10.0.0.1:1",
          "PORT=udp://10.0.0.1:1", "PORT_7300_TCP=tcp://10.0.0.1:7300", "PORT_7300_TCP_PROTO=tcp",
          "PORT_7300_TCP_PORT=7300", "PORT_7300_TCP_ADDR=10.0.0.1", "PORT_53_UDP=udp://10.0.0.1:53",
          "PORT_9_SCTP_ADDR=10.0.0.1"}) {
      const auto layers = Read({}, {(name + rest).c_str()});
      EXPECT_TRUE(layers.ok()) << name << rest << layers.status();
    }
  }
  for (const char* wrong : {"ENGRAMD_LISTNE=x", "ENGRAMD_PORT=7300", "ENGRAMD_PORT_TCP=1",
                            "ENGRAMD_SERVICE_HOSTS=x", "ENGRAMD_PORT_X_TCP=1", "ENGRAMD_EXPORT=a",
                            "ENGRAMD_ADMIN_PORT_7300_TCP_NAME=x", "ENGRAMD_SERVICE_PORTS=1"}) {
    EXPECT_FALSE(Read({}, {wrong}).ok()) << wrong;
  }
}

TEST(ConfigLayers, TheFileIsNamedByAFlagOrElseByAVariable) {
  const std::string file = WriteFile("spin_us: 3\n");
  const std::string variable = absl::StrCat("ENGRAMD_CONFIG=", file);
  const auto layers = Read({}, {variable.c_str()});
  ASSERT_TRUE(layers.ok()) << layers.status();
  EXPECT_EQ(layers->config().spin_us(), 3u);
  const auto over = Read({"--config", file.c_str()}, {"ENGRAMD_CONFIG=/no/such/file"});
  ASSERT_TRUE(over.ok()) << over.status();
  const auto none = Read({"--config", "/no/such/file"});
  EXPECT_THAT(std::string(none.status().message()),
              AllOf(HasSubstr("--config"), HasSubstr("/no/such/file")));
}

TEST(ConfigLayers, SaysWhatElseTheCommandLineAsksFor) {
  EXPECT_EQ(Read({})->action(), ConfigLayers::Action::kServe);
  EXPECT_EQ(Read({"--print-config"})->action(), ConfigLayers::Action::kPrint);
  EXPECT_EQ(Read({"--check-config"})->action(), ConfigLayers::Action::kCheck);
  EXPECT_EQ(Read({"--version"})->action(), ConfigLayers::Action::kText);
  EXPECT_THAT(Read({"--version"})->text(), HasSubstr("engramd "));
  EXPECT_THAT(Read({"--help"}, {"ENGRAMD_COLOUR=red"})->text(), HasSubstr("--spin-us"));
}

// Every field of the schema is a flag, a variable and a line of the file, and each is put in its
// own place: a table of names that is wrong in one line would serve by another's value.
TEST(ConfigLayers, EveryFieldIsSetFromAllThreePlaces) {
  using google::protobuf::FieldDescriptor;
  for (const ConfigField& field : ConfigFields()) {
    const FieldDescriptor* const descriptor =
        v1::ServerConfig::descriptor()->FindFieldByName(field.name);
    ASSERT_NE(descriptor, nullptr) << field.name;
    const bool is_switch = descriptor->cpp_type() == FieldDescriptor::CPPTYPE_BOOL;
    const bool is_text = descriptor->cpp_type() == FieldDescriptor::CPPTYPE_STRING;
    const std::string value = is_switch ? "true" : "7";
    const std::string flag = FlagName(field.name);
    const std::string variable = absl::StrCat(VariableName(field.name), "=", value);
    const std::string file =
        WriteFile(absl::StrCat(field.name, ": ", is_text ? "\"7\"" : value, "\n"));
    std::vector<const char*> flags = {flag.c_str()};
    if (!is_switch) flags.push_back("7");
    const auto from_flag = Read(flags);
    const auto from_environment = Read({}, {variable.c_str()});
    const auto from_file = Read({"--config", file.c_str()});
    for (const auto& layers : {from_flag, from_environment, from_file}) {
      ASSERT_TRUE(layers.ok()) << field.name << ": " << layers.status();
      std::vector<const FieldDescriptor*> set;
      layers->config().GetReflection()->ListFields(layers->config(), &set);
      EXPECT_THAT(set, ElementsAre(descriptor)) << field.name;
    }
    EXPECT_EQ(from_flag->Source(field.name), "flag " + flag);
    EXPECT_EQ(from_environment->Source(field.name), "environment " + VariableName(field.name));
    EXPECT_EQ(from_file->Source(field.name), file + ":1");
  }
}

}  // namespace
}  // namespace engram
