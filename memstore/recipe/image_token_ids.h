// Which token ids stand in the places of images, video and audio, by a checkpoint's config.json.
//
// Such an id is a placeholder: the model puts an encoder's output there. The keys are those whose
// words say so, "image_token_id" and "video_token_index" as well as "media_placeholder_token_id",
// "img_context_token_id", "ple_image_token_id" or "im_patch_id", each a number or a list; not those
// of the tokens around an image ("image_start_token_id", "boi_token_index"), which are text like
// any other. They are read in every object but those of vision, audio and draft models
// (checkpoint_config.h). Stateless.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

// A model has one to three.
inline constexpr size_t kMaxConfigImageTokens = 64;
inline constexpr char kImageTokenIdExpected[] = "the id of a token: a whole number below 2^31";

// Whether the words of a key say that its value is such ids.
bool IsImageTokenKey(absl::string_view key);

// Ascending, each once; none where there is no file or no such key. null and what is below 0
// say nothing: -200 is another library's own sign. FAILED_PRECONDITION as ReadCheckpointConfig, for
// any other value that is no token id, and for more than kMaxConfigImageTokens.
absl::StatusOr<std::vector<int32_t>> ReadImageTokenIds(const std::string& directory);

}  // namespace engram
