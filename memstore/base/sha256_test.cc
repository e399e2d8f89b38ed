#include "memstore/base/sha256.h"

#include <string>

#include "gtest/gtest.h"

namespace engram {
namespace {

// FIPS 180-2, appendix B, and the empty message.
constexpr char kOfNothing[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr char kOfAbc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr char kOfMillionA[] = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

TEST(Sha256Test, PublishedDigests) {
  EXPECT_EQ(Sha256Hex(""), kOfNothing);
  EXPECT_EQ(Sha256Hex("abc"), kOfAbc);
  EXPECT_EQ(Sha256Hex(std::string(1000000, 'a')), kOfMillionA);
}

TEST(Sha256Test, PiecesGiveTheSameDigestAsTheWhole) {
  Sha256 sha256;
  const std::string a(1000000, 'a');
  for (size_t at = 0, piece = 1; at < a.size(); at += piece, piece = piece * 3 % 7919 + 1) {
    sha256.Update(absl::string_view(a).substr(at, piece));
  }
  EXPECT_EQ(sha256.FinishHex(), kOfMillionA);
}

}  // namespace
}  // namespace engram
