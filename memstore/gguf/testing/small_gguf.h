// Writes small GGUF files for tests, by the format's page and not by the reader's code.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace engram::testing_gguf {

// "GGUF", version, counts; then what the functions below make.
struct Key {
  std::string name;
  uint32_t type;
  std::string bytes;  // of the value, as in the file
};

Key Uint16(const std::string& name, uint16_t value);
Key Uint32(const std::string& name, uint32_t value);
Key Uint64(const std::string& name, uint64_t value);
Key Int32(const std::string& name, int32_t value);
Key Float32(const std::string& name, float value);
Key Text(const std::string& name, const std::string& value);
Key Uint32s(const std::string& name, const std::vector<uint32_t>& values);
Key Uint64s(const std::string& name, const std::vector<uint64_t>& values);
Key Int32s(const std::string& name, const std::vector<int32_t>& values);
Key Texts(const std::string& name, const std::vector<std::string>& values);

struct Tensor {
  std::string name;
  uint32_t type;
  std::vector<uint64_t> shape;  // the values of a row first
  std::string bytes;
};

struct File {
  std::vector<Key> keys;
  std::vector<Tensor> tensors;
  uint32_t version = 3;
  uint64_t alignment = 32;  // the keys do not say it by themselves
  // In place of the true numbers, where not negative.
  int64_t tensor_count = -1;
  int64_t key_count = -1;
};

// Numbers of ggml's types.
inline constexpr uint32_t kF32 = 0, kQ8_0 = 8, kIq4Nl = 20, kI8 = 24, kBf16 = 30;

std::string FileText(const File& file);
// Bytes of the file up to its data.
uint64_t HeaderBytes(const File& file);
void Write(const std::filesystem::path& path, const File& file);

}  // namespace engram::testing_gguf
