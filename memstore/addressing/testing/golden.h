// What the tests of this room share: known answers, token maps, derived families.
#pragma once

#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "memstore/addressing/addresser.h"
#include "memstore/addressing/families.h"

namespace engram {

inline std::string ReadGolden(const std::string& name) {
  std::ifstream file("tests/golden/" + name, std::ios::binary);
  EXPECT_TRUE(file) << name << " is not among the test's data";
  return {std::istreambuf_iterator<char>(file), {}};
}

inline const nlohmann::json& KnownAnswers() {
  static const nlohmann::json answers = nlohmann::json::parse(ReadGolden("known_answers.json"));
  return answers;
}

inline const Family& FamilyNamed(absl::string_view name) {
  const absl::StatusOr<const Family*> family = FindFamily(name);
  if (!family.ok()) ADD_FAILURE() << family.status();
  return **family;
}

inline AddressScheme DeriveOrDie(absl::string_view family, const DeriveOptions& options = {}) {
  absl::StatusOr<AddressScheme> scheme = Derive(FamilyNamed(family), options);
  EXPECT_TRUE(scheme.ok()) << scheme.status();
  return *std::move(scheme);
}

// nullptr where the scheme needs none.
inline std::shared_ptr<const TokenMap> MapFor(const AddressScheme& scheme) {
  if (!scheme.token_map) return nullptr;
  const char* const name =
      scheme.vocab_size == 129280 ? "deepseek_v41_token_map.i32" : "deepseek_v3_token_map.i32";
  absl::StatusOr<TokenMap> map =
      TokenMap::Load(absl::StrCat("tests/golden/", name), scheme.vocab_size, *scheme.token_map);
  EXPECT_TRUE(map.ok()) << map.status();
  return std::make_shared<const TokenMap>(*std::move(map));
}

inline std::shared_ptr<const Addresser> AddresserFor(const AddressScheme& scheme) {
  auto addresser = Addresser::Create(scheme, MapFor(scheme));
  EXPECT_TRUE(addresser.ok()) << addresser.status();
  return *std::move(addresser);
}

// Outputs for all layers into one [tokens, layers, columns] array.
inline std::vector<LayerRowIdsOutput> DenseOutputs(const AddressScheme& scheme, RowId* rows) {
  const size_t stride = scheme.layers.size() * scheme.Columns();
  std::vector<LayerRowIdsOutput> outputs;
  for (uint32_t l = 0; l < scheme.layers.size(); ++l) {
    outputs.push_back({l, rows == nullptr ? nullptr : rows + l * scheme.Columns(), stride});
  }
  return outputs;
}

}  // namespace engram
