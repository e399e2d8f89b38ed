// Writes small safetensors checkpoints for tests, by the format's page and not by the reader's
// code.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace engram::testing_checkpoint {

struct Tensor {
  std::string name;
  std::string dtype;
  std::vector<uint64_t> shape;
  std::string bytes;
};

// By their names.
using Files = std::map<std::string, std::vector<Tensor>>;

// `count` bytes that follow from `seed` and differ all along.
std::string SomeBytes(uint64_t seed, uint64_t count);
// A tensor I64 of one dimension.
Tensor Numbers(const std::string& name, const std::vector<int64_t>& numbers);
// The table of qwen4-exp in one piece, of rows of 320 bytes.
Tensor QwenTable(std::string rows);

// A safetensors file of these tensors, one after the other.
std::string FileText(const std::vector<Tensor>& tensors);
// The same around a header that the caller gives.
std::string FileText(const std::string& header, const std::string& data);

void WriteText(const std::filesystem::path& path, const std::string& text);

// Files and the index that names their tensors; `index_only` tensors are named in it and nowhere
// else.
void WriteCheckpoint(const std::filesystem::path& directory, const Files& files,
                     const std::map<std::string, std::string>& index_only = {});

}  // namespace engram::testing_checkpoint
