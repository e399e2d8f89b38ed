// What `engramd --help` says of each field of ServerConfig. A constant table.
#pragma once

#include "absl/types/span.h"

namespace engram {

struct ConfigField {
  const char* name;  // in the schema
  const char* type;  // of its value, for the help; empty: a switch
  const char* help;
  // What completion offers, with commas between; empty: a path, or what nobody else knows.
  const char* values = "";
};

// Every field of the schema, in the order of the help (config_test.cc holds the two together).
absl::Span<const ConfigField> ConfigFields();

}  // namespace engram
