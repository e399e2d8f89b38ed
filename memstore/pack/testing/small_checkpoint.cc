#include "memstore/pack/testing/small_checkpoint.h"

#include <fstream>
#include <utility>

namespace engram::testing_checkpoint {

using nlohmann::ordered_json;

std::string SomeBytes(uint64_t seed, uint64_t count) {
  std::string bytes(count, '\0');
  uint64_t state = seed * 2 + 1;
  for (char& byte : bytes) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<char>(state >> 56);
  }
  return bytes;
}

Tensor Numbers(const std::string& name, const std::vector<int64_t>& numbers) {
  return {name,
          "I64",
          {numbers.size()},
          {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(int64_t)}};
}

Tensor QwenTable(std::string rows) {
  constexpr uint64_t kRowBytes = 320;
  const uint64_t count = rows.size() / kRowBytes;
  return {"model.language_model.layers.1.ple.ple_embedding.ngram_embedding.shard_0.weight",
          "BF16",
          {count, kRowBytes / 2},
          std::move(rows)};
}

std::string FileText(const std::string& header, const std::string& data) {
  std::string text;
  for (int byte = 0; byte < 8; ++byte) {
    text.push_back(static_cast<char>(uint64_t{header.size()} >> (8 * byte)));
  }
  return text + header + data;
}

std::string FileText(const std::vector<Tensor>& tensors) {
  ordered_json header = {{"__metadata__", {{"format", "pt"}}}};
  std::string data;
  for (const Tensor& tensor : tensors) {
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    data += tensor.bytes;
  }
  return FileText(header.dump(), data);
}

void WriteText(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

void WriteCheckpoint(const std::filesystem::path& directory, const Files& files,
                     const std::map<std::string, std::string>& index_only) {
  std::filesystem::create_directories(directory);
  ordered_json weight_map = ordered_json::object();
  for (const auto& [file, tensors] : files) {
    WriteText(directory / file, FileText(tensors));
    for (const Tensor& tensor : tensors) weight_map[tensor.name] = file;
  }
  for (const auto& [tensor, file] : index_only) weight_map[tensor] = file;
  const ordered_json index = {{"metadata", ordered_json::object()}, {"weight_map", weight_map}};
  WriteText(directory / "model.safetensors.index.json", index.dump());
}

}  // namespace engram::testing_checkpoint
