#include "gpu/kernels/dequantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

// ---- A reference that shares nothing with the code: doubles, and the nearest of all bf16.

double ValueOfBf16(uint16_t bits) {
  const int exponent = (bits >> 7) & 0xFF, fraction = bits & 0x7F;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -133) : std::ldexp(128 + fraction, exponent - 134);
  return bits & 0x8000 ? -magnitude : magnitude;
}

uint16_t NearestBf16(double value) {
  if (std::isnan(value)) return kBf16Nan;
  static const std::vector<double> all = [] {
    std::vector<double> values;  // 0x7F80 as if it went on: what is nearer to it is infinity
    for (uint32_t bits = 0; bits <= kBf16Infinity; ++bits) {
      values.push_back(ValueOfBf16(static_cast<uint16_t>(bits)));
    }
    return values;
  }();
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(value);
  const size_t above = std::lower_bound(all.begin(), all.end(), magnitude) - all.begin();
  if (above == all.size()) return sign | kBf16Infinity;
  if (above == 0) return sign;
  const double up = all[above] - magnitude, down = magnitude - all[above - 1];
  const bool take_above = up < down || (up == down && above % 2 == 0);
  return sign | static_cast<uint16_t>(take_above ? above : above - 1);
}

double ValueOfE4m3(uint8_t byte) {
  const int exponent = (byte >> 3) & 0xF, fraction = byte & 7;
  if (exponent == 15 && fraction == 7) return std::nan("");
  const double magnitude =
      exponent == 0 ? fraction / 512.0 : (1 + fraction / 8.0) * std::pow(2.0, exponent - 7);
  return byte & 0x80 ? -magnitude : magnitude;
}

double ValueOfScale(uint8_t byte, ScaleReading reading) {
  const bool shifted = reading == ScaleReading::kShifted;
  if (byte == 0 && shifted) return 0;
  if (byte == 255) return shifted ? HUGE_VAL : std::nan("");
  return std::pow(2.0, byte - 127);
}

double ValueOfFp16(uint16_t bits) {
  const int exponent = (bits >> 10) & 0x1F, fraction = bits & 0x3FF;
  double magnitude = std::ldexp(fraction, -24);
  if (exponent == 31) {
    magnitude = fraction == 0 ? HUGE_VAL : std::nan("");
  } else if (exponent > 0) {
    magnitude = std::ldexp(1024 + fraction, exponent - 25);
  }
  return bits & 0x8000 ? -magnitude : magnitude;
}

// ---- Every way that rows can be turned: host loops, and the kernel's threads one by one.

using Bytes = std::vector<std::byte>;
using Values = std::vector<uint16_t>;

template <RowValues kValues>
bool PieceByPiece(const DequantizeArguments& a, const E4m3Table& table) {
  const bool aligned = a.dim % 8 == 0 && a.row_bytes % 16 % 8 == 0 &&
                       (a.row_bytes % 16 == 0 || kValues >= RowValues::kE4m3);
  bool good = true;
  for (uint32_t piece = 0; piece < a.places * PiecesARow(a); ++piece) {
    if (aligned) {
      good &= DequantizePiece<kValues, true>(a, table.bf16, piece);
    } else {
      good &= DequantizePiece<kValues, false>(a, table.bf16, piece);
    }
  }
  return good;
}

template <RowValues kValues>
bool PieceByPieceUnaligned(const DequantizeArguments& a, const E4m3Table& table) {
  bool good = true;
  for (uint32_t piece = 0; piece < a.places * PiecesARow(a); ++piece) {
    good &= DequantizePiece<kValues, false>(a, table.bf16, piece);
  }
  return good;
}

template <RowValues kValues>
std::vector<NamedDequantize> AllWays() {
  std::vector<NamedDequantize> ways = DequantizeVariants();
  std::erase_if(ways, [](const NamedDequantize& way) { return !way.supported; });
  ways.push_back({"kernel", PieceByPiece<kValues>, true});
  ways.push_back({"kernel, unaligned", PieceByPieceUnaligned<kValues>, true});
  return ways;
}

struct alignas(16) Aligned {
  std::byte bytes[16];
};
// Rows at an address that suits whole loads.
class Rows {
 public:
  explicit Rows(const Bytes& bytes) : memory_(bytes.size() / 16 + 1) {
    std::memcpy(memory_.data(), bytes.data(), bytes.size());
  }
  const std::byte* data() const { return memory_[0].bytes; }

 private:
  std::vector<Aligned> memory_;
};

template <RowValues kValues>
void ExpectOneRow(const Bytes& row, uint32_t dim, const Values& expected,
                  ScaleReading reading = ScaleReading::kFormat, const E4m3Table& table = {}) {
  const Rows rows(row);
  for (const NamedDequantize& way : AllWays<kValues>()) {
    std::vector<Aligned> out(dim / 8 + 1);
    const DequantizeArguments arguments{.values = kValues,
                                        .reading = reading,
                                        .dim = dim,
                                        .row_bytes = static_cast<uint32_t>(row.size()),
                                        .rows = rows.data(),
                                        .row_count = 1,
                                        .places = 1,
                                        .columns = 1,
                                        .token_stride = dim,
                                        .out = reinterpret_cast<uint16_t*>(out.data())};
    ASSERT_TRUE(way.run(arguments, table));
    for (uint32_t i = 0; i < dim; ++i) {
      ASSERT_EQ(arguments.out[i], expected[i]) << way.name << ", value " << i;
    }
  }
}

TEST(DequantizeTest, EveryE4m3ByteWithEveryScaleByteInBothReadings) {
  for (const ScaleReading reading : {ScaleReading::kFormat, ScaleReading::kShifted}) {
    for (uint32_t scale = 0; scale < 256; ++scale) {
      Bytes row(256 + 8, std::byte(scale));
      Values expected(256);
      for (uint32_t byte = 0; byte < 256; ++byte) {
        row[byte] = std::byte(byte);
        expected[byte] = NearestBf16(ValueOfE4m3(static_cast<uint8_t>(byte)) *
                                     ValueOfScale(static_cast<uint8_t>(scale), reading));
      }
      SCOPED_TRACE(scale);
      ExpectOneRow<RowValues::kE4m3Ue8m0>(row, 256, expected, reading);
    }
  }
}

TEST(DequantizeTest, EachBlockHasItsOwnScale) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    Bytes row(264);
    for (std::byte& b : row) b = std::byte(random());
    Values expected(256);
    for (uint32_t i = 0; i < 256; ++i) {
      expected[i] =
          NearestBf16(ValueOfE4m3(static_cast<uint8_t>(row[i])) *
                      ValueOfScale(static_cast<uint8_t>(row[256 + i / 32]), ScaleReading::kFormat));
    }
    ExpectOneRow<RowValues::kE4m3Ue8m0>(row, 256, expected);
  }
}

TEST(DequantizeTest, EveryFp16AndEveryBf16) {
  for (uint32_t high = 0; high < 256; ++high) {
    Bytes row(512);
    Values fp16(256), bf16(256);
    for (uint32_t low = 0; low < 256; ++low) {
      const auto bits = static_cast<uint16_t>(high << 8 | low);
      std::memcpy(&row[2 * low], &bits, 2);
      bf16[low] = bits;
      fp16[low] = NearestBf16(ValueOfFp16(bits));
    }
    SCOPED_TRACE(high);
    ExpectOneRow<RowValues::kFp16>(row, 256, fp16);
    ExpectOneRow<RowValues::kBf16>(row, 256, bf16);
  }
}

TEST(DequantizeTest, Fp32AtEveryUpperHalfAndAroundEveryTie) {
  const uint32_t lows[] = {0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF};
  for (uint32_t upper = 0; upper < 0x10000; upper += 128) {
    Bytes row(4 * 128 * 6);
    Values expected;
    for (uint32_t i = 0; i < 128 * 6; ++i) {
      const uint32_t bits = (upper + i / 6) << 16 | lows[i % 6];
      std::memcpy(&row[4 * i], &bits, 4);
      float value;
      std::memcpy(&value, &bits, 4);
      expected.push_back(NearestBf16(value));
    }
    SCOPED_TRACE(upper);
    ExpectOneRow<RowValues::kFp32>(row, 128 * 6, expected);
  }
}

// ---- One scale for a table, through the interface.

Values RunOnHost(const Dequantizer& dequantizer, const Bytes& bytes, DequantizeBatch batch) {
  const Rows rows(bytes);
  Values out(uint64_t{batch.tokens} * batch.columns * dequantizer.dim(), 0xABCD);
  batch.rows = rows.data();
  batch.out = out.data();
  const absl::Status status = dequantizer.Run(batch);
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

TEST(DequantizeTest, OneScaleIsTheExactProductRoundedOnce) {
  Bytes row(256);
  for (uint32_t byte = 0; byte < 256; ++byte) row[byte] = std::byte(byte);
  std::vector<float> scales = {1.0f,   0.0f,      -3.0f, 0x1.010002p-3f,  0x1.01p0f,
                               1e-39f, 0x1p-140f, 3e38f, 0x1.fffffep119f, 0x1.24924ap-7f};
  std::mt19937 random(4);
  for (int i = 0; i < 2000; ++i) {
    float scale;
    const uint32_t bits = static_cast<uint32_t>(random());
    std::memcpy(&scale, &bits, 4);
    if (std::isfinite(scale)) scales.push_back(scale);
  }
  for (const float scale : scales) {
    const auto dequantizer =
        Dequantizer::Create({.kind = RowEncodingKind::kFp8E4m3, .dim = 256, .global_scale = scale});
    ASSERT_TRUE(dequantizer.ok());
    const Values out = RunOnHost(*dequantizer, row, {.row_count = 1, .tokens = 1, .columns = 1});
    for (uint32_t byte = 0; byte < 256; ++byte) {
      ASSERT_EQ(out[byte], NearestBf16(ValueOfE4m3(static_cast<uint8_t>(byte)) * double{scale}))
          << byte << " times " << scale;
    }
  }
}

// ---- Places.

struct Encoded {
  RowEncoding encoding;
  RowValues values;
};
const Encoded kEncodings[] = {
    {{.kind = RowEncodingKind::kFp8E4m3Ue8m0Block32, .dim = 256}, RowValues::kE4m3Ue8m0},
    {{.kind = RowEncodingKind::kFp8E4m3, .dim = 160, .global_scale = 0.37f}, RowValues::kE4m3},
    {{.kind = RowEncodingKind::kBf16, .dim = 80}, RowValues::kBf16},
    {{.kind = RowEncodingKind::kFp16, .dim = 45}, RowValues::kFp16},  // no whole pieces
    {{.kind = RowEncodingKind::kFp32, .dim = 6}, RowValues::kFp32},
};

Bytes RandomBytes(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  Bytes bytes(count);
  for (std::byte& b : bytes) b = std::byte(random());
  return bytes;
}

TEST(DequantizeTest, AnInverseShowsEachPlaceItsRow) {
  constexpr uint32_t kTokens = 37, kColumns = 6, kDistinct = 50;
  std::mt19937 random(5);
  std::vector<uint32_t> inverse(kTokens * kColumns);
  for (uint32_t& row : inverse) row = random() % kDistinct;
  for (const Encoded& encoded : kEncodings) {
    const Dequantizer dequantizer = Dequantizer::Create(encoded.encoding).value();
    const uint32_t dim = dequantizer.dim();
    const Bytes distinct = RandomBytes(kDistinct * dequantizer.row_bytes(), 6);
    const Values once = RunOnHost(dequantizer, distinct,
                                  {.row_count = kDistinct, .tokens = kDistinct, .columns = 1});
    uint32_t bad_rows = 0;
    const Values placed = RunOnHost(dequantizer, distinct,
                                    {.row_count = kDistinct,
                                     .inverse = inverse.data(),
                                     .tokens = kTokens,
                                     .columns = kColumns,
                                     .bad_rows = &bad_rows});
    EXPECT_EQ(bad_rows, 0u);
    for (uint32_t place = 0; place < inverse.size(); ++place) {
      ASSERT_TRUE(
          std::equal(&placed[place * dim], &placed[place * dim] + dim, &once[inverse[place] * dim]))
          << Name(encoded.encoding.kind) << ", place " << place;
    }
  }
}

template <RowValues kValues>
void ExpectKernelPlacesLikeTheHost(const RowEncoding& encoding) {
  constexpr uint32_t kTokens = 9, kColumns = 5, kDistinct = 20;
  const Dequantizer dequantizer = Dequantizer::Create(encoding).value();
  const Rows rows(RandomBytes(kDistinct * dequantizer.row_bytes(), 8));
  std::vector<uint32_t> inverse(kTokens * kColumns);
  std::mt19937 random(9);
  for (uint32_t& row : inverse) row = random() % kDistinct;
  inverse[17] = kDistinct;  // no such row: its place is left alone
  const uint64_t stride = kColumns * dequantizer.dim() + 16;
  DequantizeArguments arguments{.values = kValues,
                                .dim = dequantizer.dim(),
                                .row_bytes = dequantizer.row_bytes(),
                                .rows = rows.data(),
                                .row_count = kDistinct,
                                .inverse = inverse.data(),
                                .places = kTokens * kColumns,
                                .columns = kColumns,
                                .token_stride = stride};
  std::vector<Values> results;
  for (const NamedDequantize& way : AllWays<kValues>()) {
    std::vector<Aligned> out(kTokens * stride / 8 + 1, Aligned{{std::byte{0x5A}}});
    arguments.out = reinterpret_cast<uint16_t*>(out.data());
    EXPECT_FALSE(way.run(arguments, {})) << way.name;
    results.emplace_back(arguments.out, arguments.out + kTokens * stride);
    EXPECT_EQ(results.back(), results.front()) << way.name;
  }
}

TEST(DequantizeTest, KernelAndHostPlaceAlikeAndLeaveOutBadRows) {
  ExpectKernelPlacesLikeTheHost<RowValues::kE4m3Ue8m0>(kEncodings[0].encoding);
  ExpectKernelPlacesLikeTheHost<RowValues::kE4m3>(kEncodings[1].encoding);
  ExpectKernelPlacesLikeTheHost<RowValues::kBf16>(kEncodings[2].encoding);
  ExpectKernelPlacesLikeTheHost<RowValues::kFp16>(kEncodings[3].encoding);
  ExpectKernelPlacesLikeTheHost<RowValues::kFp32>(kEncodings[4].encoding);
}

TEST(DequantizeTest, RunsInAStream) {
  const auto device = OpenDevice(DeviceKind::kHost, {}).value();
  const auto stream = device->MakeStream("test").value();
  const Dequantizer dequantizer = Dequantizer::Create(kEncodings[0].encoding).value();
  const Bytes bytes = RandomBytes(12 * 264, 10);
  const Rows rows(bytes);
  std::vector<uint32_t> inverse = {3, 0, 11, 12};
  const DeviceBuffer word = device->Allocate(MemoryKind::kPinnedHost, 4).value();
  Values out(4 * 256);
  DequantizeBatch batch{.rows = rows.data(),
                        .row_count = 12,
                        .inverse = inverse.data(),
                        .tokens = 2,
                        .columns = 2,
                        .out = out.data(),
                        .bad_rows = word.as<uint32_t>()};
  ASSERT_TRUE(dequantizer.Enqueue(batch, *stream).ok());
  ASSERT_TRUE(stream->Synchronize().ok());
  EXPECT_EQ(*word.as<uint32_t>(), 1u);  // 12 is not below 12
  const Values once = RunOnHost(dequantizer, bytes, {.row_count = 12, .tokens = 12, .columns = 1});
  EXPECT_TRUE(std::equal(out.begin(), out.begin() + 256, once.begin() + 3 * 256));
  EXPECT_TRUE(std::equal(out.begin() + 512, out.begin() + 768, once.begin() + 11 * 256));
}

// ---- What is refused.

TEST(DequantizeTest, RefusesEncodingsWithoutValues) {
  const auto refused = [](const RowEncoding& encoding) {
    return std::string(Dequantizer::Create(encoding).status().message());
  };
  EXPECT_THAT(refused({.kind = RowEncodingKind::kOpaque, .dim = 8}), HasSubstr("opaque"));
  EXPECT_THAT(refused({.kind = RowEncodingKind::kOpaque, .dim = 8, .label = "nvfp4"}),
              HasSubstr("nvfp4"));
  EXPECT_THAT(refused({.kind = RowEncodingKind::kBf16, .dim = 0}), HasSubstr("0 values"));
  EXPECT_THAT(refused({.kind = RowEncodingKind::kFp8E4m3Ue8m0Block32, .dim = 40}),
              HasSubstr("32 share a scale"));
  EXPECT_THAT(refused({.kind = RowEncodingKind::kFp8E4m3, .dim = 8, .global_scale = HUGE_VALF}),
              HasSubstr("scale"));
}

TEST(DequantizeTest, RefusesBatchesThatDisagree) {
  const Dequantizer dequantizer = Dequantizer::Create(kEncodings[0].encoding).value();
  const std::byte row{};
  uint16_t out = 0;
  const uint32_t inverse = 0;
  const auto refused = [&](DequantizeBatch batch) {
    return std::string(dequantizer.Run(batch).message());
  };
  EXPECT_THAT(refused({.rows = &row, .row_count = 1, .tokens = 1, .columns = 2, .out = &out}),
              HasSubstr("inverse"));
  EXPECT_THAT(refused({.rows = &row,
                       .row_count = 1,
                       .inverse = &inverse,
                       .tokens = 1,
                       .columns = 2,
                       .out = &out}),
              HasSubstr("bad_rows"));
  EXPECT_THAT(refused({.row_count = 1, .tokens = 1, .columns = 1, .out = &out}),
              HasSubstr("no memory"));
  EXPECT_THAT(refused({.rows = &row,
                       .row_count = 2,
                       .tokens = 1,
                       .columns = 2,
                       .out = &out,
                       .token_stride = 511}),
              HasSubstr("stride"));
  EXPECT_THAT(
      refused({.rows = &row, .row_count = 1u << 27, .tokens = 1u << 27, .columns = 1, .out = &out}),
      HasSubstr("too many"));
}

}  // namespace
}  // namespace engram
