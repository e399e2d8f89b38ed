// A test with a directory of its own, and files of numbers as NumPy and others write them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace engram {

class FileTest : public testing::Test {
 protected:
  FileTest();
  ~FileTest() override;

  // Its path.
  std::string Write(const std::string& name, const std::string& bytes) const;
  std::string Path(const std::string& name) const { return dir_ / name; }

  template <typename T>
  static std::string Raw(const std::vector<T>& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
  }
  // A .npy file's header with this dictionary, padded as NumPy does, and the array's bytes.
  static std::string Npy(const std::string& dictionary, const std::string& array, int version = 1);
  template <typename T>
  static std::string Npy(const std::string& type, const std::vector<T>& values) {
    return Npy("{'descr': '" + type + "', 'fortran_order': False, 'shape': (" +
                   std::to_string(values.size()) + ",), }",
               Raw(values));
  }

 private:
  std::filesystem::path dir_;
};

}  // namespace engram
