// The flags that say how files of token ids are to be read, and what may stand in them.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace engram::cli {

// --token-ids-type: "int32" or "int64".
void AddTokenIdsTypeFlag(CLI::App& command, std::string* type);

// --sequence-tokens: the file with the tokens of each sequence.
void AddSequenceTokensFlag(CLI::App& command, std::string* file);

// --dead-mask: the marks of dead positions.
void AddDeadMaskFlag(CLI::App& command, std::string* file);

// --allow-unmasked-images.
void AddAllowUnmaskedImagesFlag(CLI::App& command, bool* allow);

}  // namespace engram::cli
