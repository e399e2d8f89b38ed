// Passing errors on: what newer Abseil has as ABSL_RETURN_IF_ERROR and ABSL_ASSIGN_OR_RETURN
// (Debian's 20220623 has not). For .cc files; not part of the SDK's public headers.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// ENGRAM_RETURN_IF_ERROR(Load(file)); returns the status from the function where it is an error.
#define ENGRAM_RETURN_IF_ERROR(expression)                                  \
  do {                                                                      \
    if (::absl::Status engram_status = (expression); !engram_status.ok()) { \
      return engram_status;                                                 \
    }                                                                       \
  } while (false)

// ENGRAM_ASSIGN_OR_RETURN(const Manifest manifest, LoadManifest(file)); declares or assigns the
// value, or returns the error. A type with a comma in it needs parentheses or an alias.
#define ENGRAM_ASSIGN_OR_RETURN(target, expression) \
  ENGRAM_ASSIGN_OR_RETURN_AT(ENGRAM_JOIN(engram_result_, __LINE__), target, expression)

#define ENGRAM_ASSIGN_OR_RETURN_AT(result, target, expression) \
  auto result = (expression);                                  \
  if (!result.ok()) return std::move(result).status();         \
  target = *std::move(result)
#define ENGRAM_JOIN(a, b) ENGRAM_JOIN_NOW(a, b)
#define ENGRAM_JOIN_NOW(a, b) a##b
