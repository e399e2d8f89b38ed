#include "tests/sim/maps.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "memstore/base/check.h"

namespace engram::sim {

std::string IdOfSet(uint32_t set) { return absl::StrFormat("%064x", set); }

uint32_t SetOfId(absl::string_view id) {
  uint32_t set = 0;
  ENGRAM_CHECK(absl::SimpleHexAtoi(id.substr(56), &set), "an id of another simulation");
  return set;
}

View::View(Words words, const AddressScheme& scheme) : scheme_(scheme) {
  heard_.reserve(words.size());
  for (const auto& word : words) heard_.push_back(word->state);
  named_ = ResolveName(kName, heard_);
}

std::shared_ptr<MapOfSet> View::Of(uint32_t set) {
  std::shared_ptr<MapOfSet>& made = maps_[set];
  if (made == nullptr) {
    made = std::make_shared<MapOfSet>();
    made->map = ClusterMap::Create(IdOfSet(set), scheme_, heard_).value();
    made->splitter = std::make_unique<BatchSplitter>(made->map);
  }
  return made;
}

std::shared_ptr<View> Views::Of(const Words& words) {
  std::vector<uint64_t> numbers;
  numbers.reserve(words.size());
  for (const auto& word : words) numbers.push_back(word->number);
  if (views_.size() >= kKept) views_.clear();
  std::shared_ptr<View>& view = views_[std::move(numbers)];
  if (view == nullptr) view = std::make_shared<View>(words, scheme_);
  return view;
}

}  // namespace engram::sim
