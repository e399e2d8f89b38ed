#include "client/token_files/testing/file_test.h"

#include <fstream>

namespace engram {

FileTest::FileTest()
    : dir_(std::filesystem::path(testing::TempDir()) /
           testing::UnitTest::GetInstance()->current_test_info()->test_suite_name()) {
  std::filesystem::remove_all(dir_);
  std::filesystem::create_directories(dir_);
}

FileTest::~FileTest() { std::filesystem::remove_all(dir_); }

std::string FileTest::Write(const std::string& name, const std::string& bytes) const {
  std::ofstream(Path(name), std::ios::binary) << bytes;
  return Path(name);
}

std::string FileTest::Npy(const std::string& dictionary, const std::string& array, int version) {
  const size_t length_bytes = version == 1 ? 2 : 4;
  std::string text = dictionary;
  text.append(63 - (8 + length_bytes + text.size()) % 64, ' ');
  text += '\n';
  const auto length = static_cast<uint32_t>(text.size());
  std::string file = "\x93NUMPY";
  file += static_cast<char>(version);
  file += '\0';
  file.append(reinterpret_cast<const char*>(&length), length_bytes);
  return file + text + array;
}

}  // namespace engram
