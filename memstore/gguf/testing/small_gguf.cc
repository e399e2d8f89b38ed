#include "memstore/gguf/testing/small_gguf.h"

#include <cstring>
#include <fstream>

namespace engram::testing_gguf {
namespace {

template <typename T>
std::string Bytes(T value) {
  std::string bytes(sizeof(value), '\0');
  std::memcpy(bytes.data(), &value, sizeof(value));
  return bytes;
}

std::string Sized(const std::string& text) { return Bytes(uint64_t{text.size()}) + text; }

template <typename T>
Key List(const std::string& name, uint32_t type, const std::vector<T>& values) {
  std::string bytes = Bytes(type) + Bytes(uint64_t{values.size()});
  for (const T& value : values) bytes += Bytes(value);
  return {name, 9, bytes};
}

void PadTo(uint64_t alignment, std::string& text) {
  text.resize((text.size() + alignment - 1) / alignment * alignment, '\0');
}

std::string HeaderText(const File& file) {
  const uint64_t tensors = file.tensor_count < 0 ? file.tensors.size() : file.tensor_count;
  const uint64_t keys = file.key_count < 0 ? file.keys.size() : file.key_count;
  std::string text = "GGUF" + Bytes(file.version) + Bytes(tensors) + Bytes(keys);
  for (const Key& key : file.keys) text += Sized(key.name) + Bytes(key.type) + key.bytes;
  uint64_t offset = 0;
  for (const Tensor& tensor : file.tensors) {
    text += Sized(tensor.name) + Bytes(static_cast<uint32_t>(tensor.shape.size()));
    for (const uint64_t size : tensor.shape) text += Bytes(size);
    text += Bytes(tensor.type) + Bytes(offset);
    offset = (offset + tensor.bytes.size() + file.alignment - 1) / file.alignment * file.alignment;
  }
  return text;
}

}  // namespace

Key Uint16(const std::string& name, uint16_t value) { return {name, 2, Bytes(value)}; }
Key Uint32(const std::string& name, uint32_t value) { return {name, 4, Bytes(value)}; }
Key Uint64(const std::string& name, uint64_t value) { return {name, 10, Bytes(value)}; }
Key Int32(const std::string& name, int32_t value) { return {name, 5, Bytes(value)}; }
Key Float32(const std::string& name, float value) { return {name, 6, Bytes(value)}; }
Key Text(const std::string& name, const std::string& value) { return {name, 8, Sized(value)}; }
Key Uint32s(const std::string& name, const std::vector<uint32_t>& values) {
  return List(name, 4, values);
}
Key Uint64s(const std::string& name, const std::vector<uint64_t>& values) {
  return List(name, 10, values);
}
Key Int32s(const std::string& name, const std::vector<int32_t>& values) {
  return List(name, 5, values);
}
Key Texts(const std::string& name, const std::vector<std::string>& values) {
  std::string bytes = Bytes(uint32_t{8}) + Bytes(uint64_t{values.size()});
  for (const std::string& value : values) bytes += Sized(value);
  return {name, 9, bytes};
}

std::string FileText(const File& file) {
  std::string text = HeaderText(file);
  for (const Tensor& tensor : file.tensors) {
    PadTo(file.alignment, text);
    text += tensor.bytes;
  }
  return text;
}

uint64_t HeaderBytes(const File& file) {
  std::string text = HeaderText(file);
  PadTo(file.alignment, text);
  return text.size();
}

void Write(const std::filesystem::path& path, const File& file) {
  std::ofstream(path, std::ios::binary) << FileText(file);
}

}  // namespace engram::testing_gguf
