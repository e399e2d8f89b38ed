#include "client/token_files/npy_header.h"

#include <utility>

#include "client/token_files/testing/file_test.h"
#include "gmock/gmock.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class NpyHeaderTest : public FileTest {
 protected:
  absl::StatusOr<NpyHeader> Header(const std::string& file) {
    auto reader = ByteReader::Open(Write("a.npy", file));
    if (!reader.ok()) return reader.status();
    return ReadNpyHeader(&*reader);
  }
  std::string Refusal(const std::string& file) {
    const absl::Status status = Header(file).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(Path("a.npy")));
    return std::string(status.message());
  }
  static std::string Shaped(const std::string& shape) {
    return "{'descr': '<i4', 'fortran_order': False, 'shape': " + shape + ", }";
  }
};

TEST_F(NpyHeaderTest, EveryVersionsHeaderIsTaken) {
  for (const int version : {1, 2, 3}) {
    const auto header = Header(Npy(Shaped("(20,)"), "", version));
    ASSERT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(header->type, "<i4");
    EXPECT_EQ(header->elements, 20u);
    EXPECT_EQ(header->shape, "(20,)");
  }
}

TEST_F(NpyHeaderTest, TheArrayComesNext) {
  auto reader = ByteReader::Open(Write("a.npy", Npy(Shaped("(1,)"), "abcd")));
  ASSERT_TRUE(ReadNpyHeader(&*reader).ok());
  EXPECT_EQ(reader->Peek(5).value(), "abcd");
}

TEST_F(NpyHeaderTest, TakesWhatOtherWritersWrite) {
  // Another order of keys, other quotes, no last comma, Python 2's numbers.
  const auto header =
      Header(Npy("{\"shape\":(20L,),\"fortran_order\":False,\"descr\":\"<i8\"}", ""));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->type, "<i8");
  EXPECT_EQ(header->elements, 20u);
}

TEST_F(NpyHeaderTest, OneDimensionAmongOnesIsASequence) {
  for (const auto& [shape, elements] : std::vector<std::pair<std::string, uint64_t>>{
           {"()", 1}, {"(0,)", 0}, {"(1, 7)", 7}, {"(7, 1)", 7}, {"(1, 1, 7)", 7}, {"(1,)", 1}}) {
    const auto header = Header(Npy(Shaped(shape), ""));
    ASSERT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(header->elements, elements) << shape;
  }
  EXPECT_THAT(Refusal(Npy(Shaped("(4, 128)"), "")),
              AllOf(HasSubstr("shape (4, 128)"), HasSubstr("--sequence-tokens")));
}

TEST_F(NpyHeaderTest, RefusesFortransOrderByName) {
  EXPECT_THAT(
      Refusal(Npy("{'descr': '<i4', 'fortran_order': True, 'shape': (4,), }", std::string(16, 0))),
      AllOf(HasSubstr("Fortran's order"), HasSubstr("ascontiguousarray")));
}

TEST_F(NpyHeaderTest, AStructuredArraysTypeIsItsFields) {
  const auto header = Header(
      Npy("{'descr': [('a', '<i4'), ('b', '<i4')], 'fortran_order': False, 'shape': (4,)}", ""));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->type, "[('a', '<i4'), ('b', '<i4')]");
}

TEST_F(NpyHeaderTest, HostileHeadersAreRefused) {
  const std::string good = Npy(Shaped("(20,)"), "");
  for (size_t cut = 6; cut < good.size(); ++cut) {
    EXPECT_THAT(Refusal(good.substr(0, cut)), HasSubstr("cut off")) << cut;
  }
  for (const std::string& dictionary :
       {std::string(), std::string("{"), std::string("{}"), std::string("[]"), Shaped("(20"),
        Shaped("20"), Shaped("(-1,)"), Shaped("(2.5,)"), Shaped("(,)"),
        Shaped("(18446744073709551616,)"), Shaped("(20,)") + "x", Shaped("(20,), 'shape': (1,)"),
        Shaped("(20,), 'more': 1"), std::string("{'descr': '<i4', 'shape': (20,)}"),
        std::string("{'descr': '<i4', 'fortran_order': 0, 'shape': (20,)}"),
        std::string("{'descr': <i4, 'fortran_order': False, 'shape': (20,)}"),
        std::string("{'descr': '<i4"), std::string("{'descr': [[[[")}) {
    EXPECT_THAT(Refusal(Npy(dictionary, "")), HasSubstr("header is not one")) << dictionary;
  }
  std::string many = "(";
  for (int i = 0; i < 65; ++i) many += "1, ";
  EXPECT_THAT(Refusal(Npy(Shaped(many + ")"), "")), HasSubstr("header is not one"));
  // A length that is not there, and would be too much.
  std::string large = Npy(Shaped("(20,)"), "", 2);
  large.replace(8, 4, "\xff\xff\xff\x7f");
  EXPECT_THAT(Refusal(large), HasSubstr("2147483647 bytes, more than 65536"));
  // What a message shows of the file is short and harmless.
  EXPECT_LT(Refusal(Npy(std::string(60'000, '\x1b'), "", 2)).size(), 2000u);  // of 240,000 escaped
  for (const std::string& version :
       {std::string("\0\0", 2), std::string("\4\0", 2), std::string("\1\1", 2)}) {
    std::string other = good;
    other.replace(6, 2, version);
    EXPECT_THAT(Refusal(other), HasSubstr("versions 1.0 to 3.0 are read"));
  }
}

}  // namespace
}  // namespace engram
