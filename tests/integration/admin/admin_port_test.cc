// The operators' port with clients that it should not need to trust: who may open its socket, and
// what calls do whose clients take no answer.
#include <grpcpp/grpcpp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/engram/v1/admin.grpc.pb.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::HasSubstr;

// A client of HTTP/2 by hand, whose window is closed: it is sent no message, and reads nothing.
class ClosedWindow {
 public:
  explicit ClosedWindow(const std::string& path) : fd_(socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::strncpy(name.sun_path, path.c_str(), sizeof(name.sun_path) - 1);
    EXPECT_EQ(connect(fd_, reinterpret_cast<const sockaddr*>(&name), sizeof(name)), 0);
    // SETTINGS_INITIAL_WINDOW_SIZE is 0.
    Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(4, 0, 0, std::string("\0\4\0\0\0\0", 6)));
  }
  ~ClosedWindow() { close(fd_); }
  ClosedWindow(const ClosedWindow&) = delete;
  ClosedWindow& operator=(const ClosedWindow&) = delete;

  // `request`: the message, as protobuf writes it; below 128 bytes.
  void Call(const std::string& method, const std::string& request) {
    const std::string path = "/engram.v1.Admin/" + method;
    std::string headers = "\x83\x86\x04";  // POST, http, :path
    headers += static_cast<char>(path.size());
    headers += path + std::string("\x41\x01x\x5f\x10") + "application/grpc" + "\x40\x02te\x08" +
               "trailers";
    std::string message(5, '\0');
    message.back() = static_cast<char>(request.size());
    Send(Frame(1, 4, stream_, headers) + Frame(0, 1, stream_, message + request));
    stream_ += 2;
  }

 private:
  static std::string Frame(uint8_t type, uint8_t flags, uint32_t stream,
                           const std::string& payload) {
    const auto size = static_cast<uint32_t>(payload.size());
    std::string frame;
    for (const uint32_t byte : {size >> 16, size >> 8, size, uint32_t{type}, uint32_t{flags},
                                stream >> 24, stream >> 16, stream >> 8, stream}) {
      frame += static_cast<char>(byte);
    }
    return frame + payload;
  }
  void Send(const std::string& bytes) const {
    EXPECT_EQ(send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }

  const int fd_;
  uint32_t stream_ = 1;
};

class AdminPortTest : public ::testing::Test {
 protected:
  void SetUp() override {
    PackSmallSet("qwen4-exp", 500, scratch_ / "a");
    PackSmallSet("qwen4-exp", 700, scratch_ / "b");
    PackSmallSet("qwen4-exp", 900, scratch_ / "c");
  }
  std::vector<std::string> Flags(std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"--table-set", scratch_ / "a", "--listen", "127.0.0.1:0",
                               "--admin-grpc-listen", "unix:" + (scratch_ / "admin")});
    return more;
  }
  Outcome Ask(const std::string& words) const {
    return RunShell(absl::StrCat("$ENGRAM admin ", words, " --admin unix:", scratch_ / "admin"));
  }
  static std::string PublishRequest(const std::string& directory) {
    EXPECT_LT(directory.size(), 126u);
    return std::string("\x0a") + static_cast<char>(directory.size()) + directory;
  }

  ScratchDirectory scratch_;
};

TEST_F(AdminPortTest, ItsUnixSocketIsForEngramdsUserAndGroupWhateverTheUmask) {
  EngramdProcess engramd(Flags(), {"bash", "-c", R"(umask 0; exec "$0" "$@")"});
  engramd.WaitUntilServing();
  struct stat file {};
  ASSERT_EQ(lstat((scratch_ / "admin").c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 07777, 0660u);
  const Outcome published = Ask("publish " + (scratch_ / "b"));
  ASSERT_EQ(published.exit_code, 0) << published.err;
  EXPECT_TRUE(engramd.WaitForLine(absl::StrCat(" s, for unix:", geteuid(), " at a Unix socket")));
}

TEST_F(AdminPortTest, AClientThatTakesNothingKeepsNoPublicationBack) {
  EngramdProcess engramd(Flags());
  engramd.WaitUntilServing();
  ClosedWindow stalled(scratch_ / "admin");
  stalled.Call("Publish", PublishRequest(scratch_ / "b"));
  ASSERT_TRUE(engramd.WaitForLine(" from " + (scratch_ / "b") + " in "));
  const Outcome published = Ask("publish " + (scratch_ / "c"));
  EXPECT_EQ(published.exit_code, 0) << published.err;
}

TEST_F(AdminPortTest, AnswersThatNobodyTakesKeepThePortOpen) {
  EngramdProcess engramd(Flags());
  engramd.WaitUntilServing();
  ClosedWindow stalled(scratch_ / "admin");
  ClosedWindow another(scratch_ / "admin");
  for (int i = 0; i < 100; ++i) {
    stalled.Call("List", "");
    another.Call("List", "");
  }
  // The last of those before it was answered once this line is there: refusals have lines of which
  // some are left out where there are many.
  another.Call("Retire", "\x0a\x06nobody");
  ASSERT_TRUE(engramd.WaitForLine("did not retire nobody"));
  for (int i = 0; i < 3; ++i) {
    const Outcome listed = Ask("list");
    ASSERT_EQ(listed.exit_code, 0) << listed.err;
    EXPECT_THAT(listed.out, HasSubstr("engramd is SERVING"));
  }
  // Nor do they keep engramd from its end.
  engramd.Signal(SIGTERM);
  EXPECT_EQ(engramd.WaitForEnd(), 0);
}

// gRPC parses what comes before anybody is asked who sends it.
TEST_F(AdminPortTest, MessagesOfMegabytesAreNotRead) {
  EngramdProcess engramd(Flags());
  engramd.WaitUntilServing();
  const auto stub = v1::Admin::NewStub(
      grpc::CreateChannel("unix:" + (scratch_ / "admin"), grpc::InsecureChannelCredentials()));
  const auto retire = [&](size_t bytes) {
    grpc::ClientContext context;
    v1::RetireRequest request;
    request.set_table_set(std::string(bytes, 'x'));
    v1::RetireResponse response;
    return stub->Retire(&context, request, &response).error_code();
  };
  EXPECT_EQ(retire(1000), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(retire(100'000), grpc::StatusCode::RESOURCE_EXHAUSTED);
  // gRPC would read all of it first: the connection is ended.
  EXPECT_EQ(retire(1'000'000), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(retire(1000), grpc::StatusCode::NOT_FOUND);
}

TEST_F(AdminPortTest, LinesOfJsonSayWhatWasAskedAndByWhom) {
  EngramdProcess engramd(Flags({"--log-format", "json"}));
  ASSERT_TRUE(engramd.WaitForLine("listening on "));
  const auto line = [&](const std::string& event) {
    const auto found = engramd.WaitForLine(absl::StrCat("\"event\":\"", event, "\""));
    return nlohmann::json::parse(found.value_or(""), nullptr, /*allow_exceptions=*/false);
  };
  ASSERT_EQ(Ask("publish " + (scratch_ / "b")).exit_code, 0);
  const nlohmann::json published = line("published");
  EXPECT_EQ(published["table_set"], "qwen4-exp");
  EXPECT_EQ(published["table_set_id"].get<std::string>().size(), 64u);
  EXPECT_EQ(published["directory"], scratch_ / "b");
  EXPECT_TRUE(published["bytes"].is_number_unsigned());
  EXPECT_TRUE(published["seconds"].is_number_float());
  EXPECT_EQ(published["id_before"].get<std::string>().size(), 64u);
  EXPECT_NE(published["id_before"], published["table_set_id"]);
  EXPECT_EQ(published["peer"], absl::StrCat("unix:", geteuid(), " at a Unix socket"));
  EXPECT_EQ(Ask("publish " + (scratch_ / "none")).exit_code, 1);
  EXPECT_TRUE(line("publish_refused")["code"].is_string());
  EXPECT_EQ(Ask("retire nobody").exit_code, 1);
  EXPECT_EQ(line("retire_refused")["code"], "NOT_FOUND");
  ASSERT_EQ(Ask("scrub").exit_code, 0);
  EXPECT_GT(line("scrubbed")["bytes"].get<uint64_t>(), 0u);
}

}  // namespace
}  // namespace engram::integration
