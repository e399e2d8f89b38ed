#include "client/cli/support/token_flags.h"

#include "client/cli/support/command.h"

namespace engram::cli {

void AddTokenIdsTypeFlag(CLI::App& command, std::string* type) {
  command
      .add_option("--token-ids-type", *type,
                  "what raw token ids are, int32 or int64, little-endian (default: int32, and "
                  "what looks like int64 is refused); a .npy file says it by itself")
      ->check(CLI::IsMember({"int32", "int64"}));
}

void AddSequenceTokensFlag(CLI::App& command, std::string* file) {
  command
      .add_option("--sequence-tokens", *file,
                  "the tokens of each sequence, where the token ids are several sequences one "
                  "after the other: numbers in text, raw int32, or .npy (default: one sequence)")
      ->check(RefuseEmpty)
      ->type_name("FILE");
}

void AddDeadMaskFlag(CLI::App& command, std::string* file) {
  command
      .add_option("--dead-mask", *file,
                  "a byte for each token id, raw or .npy; non-zero marks a dead position (an "
                  "image span): it is addressed as padding and later tokens do not look past "
                  "it; - is standard input")
      ->check(RefuseEmpty)
      ->type_name("FILE");
}

void AddAllowUnmaskedImagesFlag(CLI::App& command, bool* allow) {
  command.add_flag("--allow-unmasked-images", *allow,
                   "take the token ids that stand for images as tokens like any other (default: "
                   "one that is not marked dead is refused, where they are known)");
}

}  // namespace engram::cli
