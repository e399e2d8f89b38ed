#include "memstore/store/held_blocks.h"

#include <cstdint>
#include <optional>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/table/shard_format.h"
#include "memstore/table/shard_layout.h"

namespace engram {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Two shards, of 4096 and 1000 rows.
LayerTableSpec Layer(uint32_t row_bytes, uint32_t block_rows) {
  LayerTableSpec layer;
  layer.layer = 3;
  layer.rows = 5096;
  layer.row_bytes = row_bytes;
  for (const uint64_t first : {uint64_t{0}, uint64_t{4096}}) {
    ShardSpec shard;
    shard.first_row = first;
    shard.rows = first == 0 ? 4096 : 1000;
    shard.block_rows = block_rows;
    shard.file_bytes = ShardFileBytes(shard.rows, row_bytes);
    layer.shards.push_back(shard);
  }
  return layer;
}

std::vector<BlockRun> Blocks(const LayerTableSpec& layer, size_t shard,
                             std::vector<RowRange> ranges) {
  return HeldBlocks(layer, layer.shards[shard], {layer.rows, std::move(ranges)});
}

TEST(HeldBlocksTest, ThoseThatHaveHeldRowsInThem) {
  const LayerTableSpec layer = Layer(256, 512);  // blocks of whole pages
  EXPECT_THAT(Blocks(layer, 0, {{511, 2}}), ElementsAre(BlockRun{0, 2}));
  EXPECT_THAT(Blocks(layer, 0, {{512, 512}}), ElementsAre(BlockRun{1, 2}));
  EXPECT_THAT(Blocks(layer, 0, {{0, 1}, {2048, 1}}), ElementsAre(BlockRun{0, 1}, BlockRun{4, 5}));
  EXPECT_THAT(Blocks(layer, 0, {{600, 10}, {700, 10}, {1024, 1}}), ElementsAre(BlockRun{1, 3}));
  EXPECT_THAT(Blocks(layer, 0, {{4096, 1000}}), IsEmpty());
  EXPECT_THAT(Blocks(layer, 1, {{4095, 1}}), IsEmpty());
  EXPECT_THAT(Blocks(layer, 1, {{4000, 200}}), ElementsAre(BlockRun{0, 1}));
  EXPECT_THAT(Blocks(layer, 1, {{5095, 1}}), ElementsAre(BlockRun{1, 2}));
}

// Else two reads would go to one page of memory.
TEST(HeldBlocksTest, WhatLiesBetweenTwoOnOnePageIsTakenToo) {
  const LayerTableSpec layer = Layer(33, 10);  // 12 blocks a page
  EXPECT_THAT(Blocks(layer, 0, {{0, 1}, {50, 1}}), ElementsAre(BlockRun{0, 6}));
  EXPECT_THAT(Blocks(layer, 0, {{0, 1}, {500, 1}}), ElementsAre(BlockRun{0, 1}, BlockRun{50, 51}));
}

TEST(HeldBlocksTest, PiecesOfMemoryAreTheirPages) {
  const LayerTableSpec layer = Layer(256, 512);
  const uint64_t block = 512 * 256;
  EXPECT_THAT(HeldPieces(layer, {layer.rows, {{600, 1}, {4095, 2}}}),
              ElementsAre(MemoryPiece{block, block}, MemoryPiece{7 * block, 2 * block}));
  EXPECT_THAT(HeldPieces(layer, {layer.rows, {{0, layer.rows}}}),
              ElementsAre(MemoryPiece{0, ShardFileBytes(5096, 256) - kShardHeaderBytes}));
  EXPECT_THAT(HeldPieces(layer, {layer.rows, {}}), IsEmpty());
  const LayerTableSpec odd = Layer(33, 10);
  EXPECT_THAT(HeldPieces(odd, {odd.rows, {{500, 1}}}), ElementsAre(MemoryPiece{4 * 4096, 4096}));
}

TEST(HeldBlocksTest, BytesCountThePaddingOfTheLastOne) {
  const LayerTableSpec layer = Layer(33, 300);
  const ShardSpec& last = layer.shards[1];
  EXPECT_EQ(BlockRunBytes(layer, last, {0, 1}), 300u * 33);
  EXPECT_EQ(BlockRunBytes(layer, last, {0, ShardBlocks(last)}),
            last.file_bytes - kShardHeaderBytes);
}

TEST(HeldBlocksTest, WithoutAPartitionAllRowsAreHeld) {
  Manifest manifest;
  manifest.name = "small";
  manifest.layers = {Layer(264, 512)};
  manifest.scheme.max_order = 2;
  manifest.scheme.heads_per_order = 2;
  LayerAddressing addressing;
  addressing.layer = 3;
  addressing.moduli = {5000, 96};
  addressing.offsets = {0, 5000};
  manifest.scheme.layers = {addressing};

  const auto all = HeldBy(std::nullopt, manifest);
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_THAT(*all, ElementsAre(HeldLayer{5096, {{0, 5096}}}));
  EXPECT_EQ(HeldRowBytes(manifest, *all), 5096u * 264);

  const auto second = HeldBy(PartitionIndex{1, 2}, manifest);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_THAT(*second, ElementsAre(HeldLayer{5096, {{5000, 96}}}));
  EXPECT_EQ(HeldRowBytes(manifest, *second), 96u * 264);

  EXPECT_EQ(HeldText(manifest, *all), "");
  EXPECT_EQ(HeldText(manifest, *second), "columns 1..1");
  manifest.scheme.layers.push_back(addressing);
  manifest.scheme.layers[1].layer = 4;
  EXPECT_EQ(HeldText(manifest, {{second->front(), second->front()}}), "columns 1..1");
  EXPECT_EQ(HeldText(manifest, {{second->front(), all->front()}}),
            "layer 3: columns 1..1; layer 4: columns 0..1");
  manifest.scheme.layers.pop_back();

  const absl::Status many = HeldBy(PartitionIndex{0, 3}, manifest).status();
  EXPECT_EQ(many.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(many.message(), HasSubstr("table set small"));
}

}  // namespace
}  // namespace engram
