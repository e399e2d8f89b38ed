// Reads ServerConfig (proto/engram/v1/config.proto) from its three places and keeps where each
// value came from: flags over environment over file, a field replaced whole by the stronger.
//
// Every field of the schema is a flag, a variable and a line of the file, by one table of their
// help texts; what the values may be is config.cc's subject. Values, no state.
#pragma once

#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "proto/engram/v1/config.pb.h"

namespace engram {

// What variables of engramd's begin with. Kubernetes sets ENGRAM_... for a Service named engram.
inline constexpr char kEnvironmentPrefix[] = "ENGRAMD_";

class ConfigLayers {
 public:
  // What else the command line may ask for.
  enum class Action { kServe, kPrint, kCheck, kText };

  // `environment`: NAME=VALUE each; those without the prefix are left alone. INVALID_ARGUMENT (the
  // system's code for a file that can't be read) names the flag, the variable, or the file and
  // line, of what is unknown or is not of the field's type: the first of these. For kCheck only
  // flags that cannot be told apart are an error, and faults() has all others.
  static absl::StatusOr<ConfigLayers> Read(int argc, const char* const* argv,
                                           absl::Span<const char* const> environment);

  Action action() const { return action_; }
  const std::string& text() const { return text_; }  // to print, for kText
  const v1::ServerConfig& config() const { return config_; }
  const std::vector<absl::Status>& faults() const { return faults_; }
  // Whether the file, where there is one, could be read: if not, nobody knows what else it sets.
  bool is_whole() const { return is_whole_; }

  // How whoever set the field finds it: "--numa", "ENGRAMD_NUMA" or "FILE:3: numa"; for fields that
  // are not set "--numa", what to give. `index` of a repeated one's value.
  std::string Where(absl::string_view field, int index = 0) const;
  // "flag --numa", "environment ENGRAMD_NUMA", "FILE:3" or "default".
  std::string Source(absl::string_view field, int index = 0) const;

 private:
  enum class Kind { kFile, kEnvironment, kFlag };
  struct Origin {
    Kind kind = Kind::kFlag;
    std::vector<int> lines;  // in the file, one a value
  };
  absl::Status ReadFlags(int argc, const char* const* argv);
  void ReadEnvironment(absl::Span<const char* const> environment);
  absl::Status ReadFile();
  void TakeValues(const google::protobuf::FieldDescriptor& field, absl::string_view where,
                  const std::vector<std::string>& values);

  Action action_ = Action::kServe;
  std::vector<absl::Status> faults_;
  bool is_whole_ = true;
  std::string text_;
  std::string file_;
  v1::ServerConfig config_;
  absl::flat_hash_map<std::string, Origin> origins_;  // by field; absent: not set
};

// "load_threads" as a flag, --load-threads, and as a variable, ENGRAMD_LOAD_THREADS.
std::string FlagName(absl::string_view field);
std::string VariableName(absl::string_view field);

}  // namespace engram
