#include "memstore/pack/output/output_place.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace engram {
namespace {

namespace fs = std::filesystem;

// What a checkpoint's files end in, and what downloaders put behind such a name.
constexpr const char* kEndings[] = {
    ".safetensors", ".json",  ".bin",   ".pt",         ".pth",  ".gguf",       ".model",   ".txt",
    ".py",          ".jinja", ".aria2", ".incomplete", ".part", ".crdownload", ".download"};

}  // namespace

absl::Status CheckOutputBesideCheckpoint(const std::string& output, const std::string& checkpoint) {
  fs::path place = fs::path(output).lexically_normal();
  if (!place.has_filename()) place = place.parent_path();  // "a/" is "a"
  const fs::path parent = place.has_parent_path() ? place.parent_path() : fs::path(".");
  std::error_code error;
  if (!fs::equivalent(parent, checkpoint, error) || error) return absl::OkStatus();
  const std::string name = absl::AsciiStrToLower(place.filename().string());
  for (const char* ending : kEndings) {
    if (!absl::EndsWith(name, ending)) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "the output ", output, " would be in the checkpoint's own directory and ends in ", ending,
        ", so that it would be taken for a file of the checkpoint: choose another name or place"));
  }
  return absl::OkStatus();
}

}  // namespace engram
