#include "client/cli/support/command_test_base.h"

#include <algorithm>
#include <fstream>
#include <iostream>
#include <iterator>
#include <utility>

namespace engram::cli {

CommandTest::CommandTest(std::vector<AddCommand> commands)
    : commands_(std::move(commands)),
      dir_(std::filesystem::path(testing::TempDir()) /
           testing::UnitTest::GetInstance()->current_test_info()->test_suite_name()) {
  std::filesystem::remove_all(dir_);
  std::filesystem::create_directories(dir_);
}

CommandTest::~CommandTest() { std::filesystem::remove_all(dir_); }

std::string CommandTest::Write(const std::string& name, const std::string& bytes) const {
  std::ofstream(Path(name), std::ios::binary) << bytes;
  return Path(name);
}

std::string CommandTest::ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

int CommandTest::Run(std::vector<std::string> arguments) {
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes them
  CLI::App app;
  app.require_subcommand(1);
  CommandBody body;
  for (const AddCommand add : commands_) add(app, &body);
  testing::internal::CaptureStderr();
  testing::internal::CaptureStdout();
  int code = kBadUsage;
  try {
    app.parse(arguments);
    code = body();
  } catch (const CLI::ParseError& e) {
    std::cerr << e.what();
  }
  said_ = testing::internal::GetCapturedStderr();
  printed_ = testing::internal::GetCapturedStdout();
  return code;
}

}  // namespace engram::cli
