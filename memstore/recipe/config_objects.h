// A checkpoint's config.json as the objects of it that count: those of vision, audio and draft
// models are left out.
//
// Stateless. Every number and name in the file is another's and may be anything.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

// Configurations are a few kilobytes.
inline constexpr uint64_t kMaxConfigBytes = 4u << 20;

// One object of the file, with the way to it.
struct ConfigObject {
  const nlohmann::json* object = nullptr;
  const ConfigObject* around = nullptr;
  std::string name;  // the key or place that holds it; empty at the top
  bool is_text_model = false;
};
// They keep their place, as others point at them.
using ConfigObjects = std::vector<std::unique_ptr<ConfigObject>>;

// FAILED_PRECONDITION: no JSON object, a key twice in one object, or nested too deep; names `path`.
absl::StatusOr<nlohmann::json> ParseConfig(const std::string& text, const std::string& path);
// The objects that count, those around before those within. They point into `config`.
ConfigObjects CollectObjects(const nlohmann::json& config);

// "text_config.engram"; empty at the top.
std::string PathOf(const ConfigObject& object);
std::string NameForMessage(const ConfigObject& object);
// "DIR/config.json: text_config.KEY", for messages.
std::string SourceOf(const std::string& path, const ConfigObject& object, absl::string_view key);
// As JSON, for messages.
std::string TextOf(const nlohmann::json& value);
// The words of a name: "text_config", "textConfig" and "text-config" have the same two.
std::vector<std::string> WordsOf(absl::string_view name);
// A number from 0 on without a fraction, however it is spelled.
std::optional<uint64_t> WholeNumber(const nlohmann::json& value);

}  // namespace engram
