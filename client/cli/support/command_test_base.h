// A test that calls commands as a person does, in this process: a directory of its own, the exit
// code and what was said.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "client/cli/support/command.h"
#include "gtest/gtest.h"

namespace engram::cli {

class CommandTest : public testing::Test {
 protected:
  using AddCommand = void (*)(CLI::App&, CommandBody*);

  // The directory is called as the test's suite is.
  explicit CommandTest(std::vector<AddCommand> commands);
  ~CommandTest() override;

  std::string Path(const std::string& name) const { return dir_ / name; }
  // Its path.
  std::string Write(const std::string& name, const std::string& bytes) const;
  static std::string ReadAll(const std::string& path);

  // The exit code of `engram ARGUMENTS`; standard error is in `said_`, standard output in
  // `printed_`.
  int Run(std::vector<std::string> arguments);

  const std::vector<AddCommand> commands_;
  const std::filesystem::path dir_;
  std::string said_, printed_;
};

}  // namespace engram::cli
