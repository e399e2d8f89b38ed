// The hand parser and framing against protobuf's own: same verdict and same content on any bytes.
#include "proto/wire/lookup_messages.h"

#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "proto/engram/v1/lookup.pb.h"

namespace engram::wire {
namespace {

using Random = std::mt19937_64;

uint64_t Below(Random& random, uint64_t end) { return random() % end; }

void AppendVarint(uint64_t value, std::string* out) {
  for (; value >= 0x80; value >>= 7) out->push_back(static_cast<char>(value | 0x80));
  out->push_back(static_cast<char>(value));
}

void AppendTag(uint32_t field, uint32_t type, std::string* out) {
  AppendVarint(field << 3 | type, out);
}

uint64_t AnyNumber(Random& random) { return random() >> Below(random, 64); }

std::string AnyBytes(Random& random, uint64_t most) {
  std::string bytes(Below(random, most + 1), '\0');
  const bool text = Below(random, 2) == 0;
  for (char& c : bytes) c = static_cast<char>(text ? 'a' + Below(random, 26) : random());
  return bytes;
}

std::string AnyUtf8(Random& random) {
  static const std::vector<std::string> kParts = {"a",
                                                  "\xC2\x80",
                                                  "\xDF\xBF",
                                                  "\xE0\xA0\x80",
                                                  "\xED\x9F\xBF",
                                                  "\xEF\xBF\xBF",
                                                  "\xF0\x90\x80\x80",
                                                  "\xF4\x8F\xBF\xBF",
                                                  "\xC1\xBF",
                                                  "\xE0\x9F\xBF",
                                                  "\xED\xA0\x80",
                                                  "\xF4\x90\x80\x80",
                                                  "\x80",
                                                  "\xF5"};
  std::string text;
  for (uint64_t i = Below(random, 4); i > 0; --i) text += kParts[Below(random, kParts.size())];
  return text;
}

// One field of any kind, mostly one that the messages know, sometimes with another wire type;
// messages within messages down to `depth`.
void AppendField(Random& random, int depth, std::string* out) {
  const auto field = static_cast<uint32_t>(1 + Below(random, Below(random, 8) == 0 ? 3000 : 8));
  switch (Below(random, 12)) {
    case 0:
    case 1:
    case 2:
      AppendTag(field, 0, out);
      AppendVarint(AnyNumber(random), out);
      return;
    case 3:
      AppendTag(field, 1, out);
      out->append(8, static_cast<char>(random()));
      return;
    case 4:
    case 5:
      AppendTag(field, 5, out);
      out->append(4, static_cast<char>(random()));
      return;
    case 6: {
      if (depth == 0) return;
      AppendTag(field, 3, out);
      for (uint64_t i = Below(random, 3); i > 0; --i) AppendField(random, depth - 1, out);
      AppendTag(Below(random, 10) == 0 ? field + 1 : field, 4, out);
      return;
    }
    default: {
      std::string inner;
      switch (Below(random, 4)) {
        case 0:
          if (depth > 0) {
            for (uint64_t i = Below(random, 5); i > 0; --i) AppendField(random, depth - 1, &inner);
          }
          break;
        case 1:
          inner = AnyUtf8(random);
          break;
        case 2:  // packed
          for (uint64_t i = Below(random, 9); i > 0; --i)
            inner.append(4, static_cast<char>(random()));
          break;
        default:
          inner = AnyBytes(random, 12);
      }
      AppendTag(field, 2, out);
      AppendVarint(inner.size(), out);
      *out += inner;
    }
  }
}

std::string AnyMessage(Random& random) {
  std::string bytes;
  for (uint64_t i = Below(random, 8); i > 0; --i) AppendField(random, 3, &bytes);
  if (Below(random, 4) == 0) bytes.resize(Below(random, bytes.size() + 1));
  if (Below(random, 4) == 0 && !bytes.empty()) {
    bytes[Below(random, bytes.size())] = static_cast<char>(random());
  }
  return bytes;
}

// The bytes, cut at random places, empty parts included.
std::vector<Bytes> CutAnywhere(Random& random, const std::string& bytes) {
  std::vector<Bytes> chain;
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  size_t at = 0;
  while (at < bytes.size()) {
    const size_t size = std::min<size_t>(Below(random, 12), bytes.size() - at);
    chain.push_back({data + at, size});
    at += size;
  }
  return chain;
}

template <typename T, typename Field>
void ExpectSame(const std::vector<T>& ours, const Field& theirs) {
  EXPECT_EQ(ours, std::vector<T>(theirs.begin(), theirs.end()));
}

void ExpectSame(const LookupRequest::Slice& ours, const v1::ColumnSlice& theirs) {
  ASSERT_EQ(ours.runs_named, theirs.runs_size());
  for (size_t i = 0; i < ours.runs().size(); ++i) {
    EXPECT_EQ(ours.runs()[i].first_column, theirs.runs(static_cast<int>(i)).first_column());
    EXPECT_EQ(ours.runs()[i].columns, theirs.runs(static_cast<int>(i)).columns());
  }
}

void ExpectSame(const LookupRequest& ours, const v1::LookupRequest& theirs) {
  EXPECT_EQ(ours.table_set_id, theirs.table_set_id());
  EXPECT_EQ(ours.batch_id, theirs.batch_id());
  EXPECT_EQ(ours.timeout_us, theirs.timeout_us());
  EXPECT_EQ(ours.cancel, theirs.cancel());
  EXPECT_EQ(ours.allow_unmasked_images, theirs.allow_unmasked_images());
  EXPECT_EQ(ours.has_tokens, theirs.has_tokens());
  ASSERT_EQ(ours.layers_named, theirs.layers_size());
  for (int i = 0; i < theirs.layers_size(); ++i) {
    EXPECT_EQ(ours.layers()[i].layer, theirs.layers(i).layer());
    ExpectSame(ours.layers()[i].ids32, theirs.layers(i).row_ids32());
    ExpectSame(ours.layers()[i].ids64, theirs.layers(i).row_ids64());
    ASSERT_EQ(ours.layers()[i].has_columns, theirs.layers(i).has_columns());
    ExpectSame(ours.layers()[i].columns, theirs.layers(i).columns());
  }
  ExpectSame(ours.tokens.layers, theirs.tokens().layers());
  ExpectSame(ours.tokens.token_ids, theirs.tokens().token_ids());
  ExpectSame(ours.tokens.sequence_tokens, theirs.tokens().sequence_tokens());
  ExpectSame(ours.tokens.sequence_lookback, theirs.tokens().sequence_lookback());
  ExpectSame(ours.tokens.sequence_windows, theirs.tokens().sequence_windows());
  EXPECT_EQ(std::string(ours.tokens.dead_mask.begin(), ours.tokens.dead_mask.end()),
            theirs.tokens().dead_mask());
  ASSERT_EQ(ours.tokens.columns_named, theirs.tokens().columns_size());
  for (size_t i = 0; i < ours.tokens.columns.size(); ++i) {
    ExpectSame(ours.tokens.columns[i], theirs.tokens().columns(static_cast<int>(i)));
  }
}

void ExpectSame(absl::Span<const Bytes> chain, const LookupResponse& ours,
                const v1::LookupResponse& theirs) {
  EXPECT_EQ(ours.table_set_id, theirs.table_set_id());
  EXPECT_EQ(ours.batch_id, theirs.batch_id());
  EXPECT_EQ(ours.code, theirs.code());
  EXPECT_EQ(ours.message, theirs.message());
  EXPECT_EQ(ours.retry_after_ms, theirs.retry_after_ms());
  EXPECT_EQ(ours.last, theirs.last());
  ASSERT_EQ(ours.layers.size(), theirs.layers_size());
  for (int i = 0; i < theirs.layers_size(); ++i) {
    EXPECT_EQ(ours.layers[i].layer, theirs.layers(i).layer());
    EXPECT_EQ(ours.layers[i].first_row, theirs.layers(i).first_row());
    std::string rows(ours.layers[i].rows.size, '\0');
    CopyExtent(chain, ours.layers[i].rows, rows.data());
    EXPECT_EQ(rows, theirs.layers(i).rows());
  }
}

TEST(LookupMessages, RequestsParseAsProtobufParsesThem) {
  const google::protobuf::LogSilencer quiet;  // of strings that are not UTF-8
  Random random(1);
  LookupRequest ours;  // one object for all: nothing of an earlier message may stay
  int good = 0;
  for (int i = 0; i < 200000; ++i) {
    const std::string bytes = AnyMessage(random);
    v1::LookupRequest theirs;
    const bool expected = theirs.ParseFromString(bytes);
    ASSERT_EQ(ours.Parse(CutAnywhere(random, bytes)), expected) << absl::BytesToHexString(bytes);
    if (!expected) continue;
    ++good;
    ExpectSame(ours, theirs);
    ASSERT_FALSE(HasFailure()) << absl::BytesToHexString(bytes);
  }
  EXPECT_GT(good, 20000) << "the generator makes too few well-formed messages to compare content";
}

// What the generator above hits too seldom.
TEST(LookupMessages, SlicesOfColumnsParseAsProtobufParsesThem) {
  Random random(5);
  LookupRequest ours;
  for (int round = 0; round < 2000; ++round) {
    v1::LookupRequest request;
    const auto fill = [&](v1::ColumnSlice* slice) {
      for (uint64_t runs = Below(random, 12); runs > 0; --runs) {
        v1::ColumnRun* const run = slice->add_runs();
        run->set_first_column(static_cast<uint32_t>(AnyNumber(random)));
        run->set_columns(static_cast<uint32_t>(AnyNumber(random)));
      }
    };
    for (uint64_t layers = Below(random, 3); layers > 0; --layers) {
      v1::LayerRowIds* const layer = request.add_layers();
      layer->add_row_ids32(7);
      if (Below(random, 2) == 0) fill(layer->mutable_columns());
    }
    for (uint64_t slices = Below(random, 3); slices > 0; --slices) {
      fill(request.mutable_tokens()->add_columns());
    }
    std::string bytes = request.SerializeAsString();
    // A second part of the tokens, and a layer whose slice comes in two.
    v1::LookupRequest more;
    fill(more.mutable_tokens()->add_columns());
    v1::LayerRowIds split, rest;
    fill(split.mutable_columns());
    fill(rest.mutable_columns());
    const std::string layer = split.SerializeAsString() + rest.SerializeAsString();
    bytes += more.SerializeAsString();
    AppendTag(3, 2, &bytes);
    AppendVarint(layer.size(), &bytes);
    bytes += layer;
    if (Below(random, 4) == 0) bytes[Below(random, bytes.size())] = static_cast<char>(random());
    v1::LookupRequest theirs;
    const google::protobuf::LogSilencer quiet;
    const bool expected = theirs.ParseFromString(bytes);
    ASSERT_EQ(ours.Parse(CutAnywhere(random, bytes)), expected) << absl::BytesToHexString(bytes);
    if (expected) ExpectSame(ours, theirs);
    ASSERT_FALSE(HasFailure()) << absl::BytesToHexString(bytes);
  }
}

TEST(LookupMessages, ResponsesParseAsProtobufParsesThem) {
  const google::protobuf::LogSilencer quiet;
  Random random(2);
  LookupResponse ours;
  int good = 0;
  for (int i = 0; i < 200000; ++i) {
    const std::string bytes = AnyMessage(random);
    const std::vector<Bytes> chain = CutAnywhere(random, bytes);
    v1::LookupResponse theirs;
    const bool expected = theirs.ParseFromString(bytes);
    ASSERT_EQ(ours.Parse(chain), expected) << absl::BytesToHexString(bytes);
    if (!expected) continue;
    ++good;
    ExpectSame(chain, ours, theirs);
    ASSERT_FALSE(HasFailure()) << absl::BytesToHexString(bytes);
  }
  EXPECT_GT(good, 20000);
}

TEST(LookupMessages, DeepGroupsAreRefusedAsByProtobuf) {
  for (const int depth : {99, 100, 101, 5000}) {
    std::string bytes;
    for (int i = 0; i < depth; ++i) AppendTag(9, 3, &bytes);
    for (int i = 0; i < depth; ++i) AppendTag(9, 4, &bytes);
    v1::LookupRequest theirs;
    LookupRequest ours;
    const Bytes chain[] = {{reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}};
    EXPECT_EQ(ours.Parse(chain), theirs.ParseFromString(bytes)) << depth;
  }
}

TEST(LookupMessages, MillionsOfLayersCostNoMemory) {
  std::string bytes;
  for (int i = 0; i < 2000000; ++i) bytes += std::string("\x1a\x00", 2);
  const Bytes chain[] = {{reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}};
  LookupRequest request;
  ASSERT_TRUE(request.Parse(chain));
  EXPECT_EQ(request.layers_named, 2000000);
  EXPECT_EQ(request.layers().size(), kMaxKeptLayers);
  EXPECT_LT(request.KeptBytes(), 1 << 20);
}

TEST(LookupMessages, MillionsOfRunsAndSlicesCostNoMemory) {
  std::string runs, slices;
  for (int i = 0; i < 1000000; ++i) {
    runs += std::string("\x0a\x00", 2);
    slices += std::string("\x32\x00", 2);
  }
  const auto field = [](uint32_t number, const std::string& bytes) {
    std::string out;
    AppendTag(number, 2, &out);
    AppendVarint(bytes.size(), &out);
    return out + bytes;
  };
  const std::string bytes = field(3, field(4, runs)) + field(4, slices);
  const Bytes chain[] = {{reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}};
  LookupRequest request;
  ASSERT_TRUE(request.Parse(chain));
  EXPECT_EQ(request.layers()[0].columns.runs_named, 1000000);
  EXPECT_EQ(request.layers()[0].columns.runs().size(), kMaxKeptRuns);
  EXPECT_EQ(request.tokens.columns_named, 1000000);
  EXPECT_EQ(request.tokens.columns.size(), kMaxKeptLayers);
  EXPECT_LT(request.KeptBytes(), 1 << 20);
}

TEST(LookupMessages, FramedRequestsAreWhatProtobufWrites) {
  Random random(3);
  for (int round = 0; round < 2000; ++round) {
    const std::string id = AnyBytes(random, 3).empty() ? "" : "0123456789abcdef";
    v1::LookupRequest theirs;
    theirs.set_table_set_id(id);
    theirs.set_batch_id(AnyNumber(random));
    theirs.set_timeout_us(AnyNumber(random));
    theirs.set_cancel(Below(random, 2) == 0);
    const RequestHead head = {id, theirs.batch_id(), theirs.timeout_us(), theirs.cancel()};
    std::string ours(RequestHeadBytes(head), '\0');
    WriteRequestHead(head, reinterpret_cast<uint8_t*>(ours.data()));
    // The head's later fields stand before the layers here and behind them in protobuf's order.
    for (uint64_t layers = Below(random, 3); layers > 0; --layers) {
      std::vector<uint64_t> ids(1 + Below(random, 70));
      const bool wide = Below(random, 2) == 0;
      for (uint64_t& row : ids) row = wide ? random() : random() >> 32;
      v1::LayerRowIds* layer = theirs.add_layers();
      layer->set_layer(static_cast<uint32_t>(AnyNumber(random)));
      for (const uint64_t row : ids) {
        if (wide) {
          layer->add_row_ids64(row);
        } else {
          layer->add_row_ids32(static_cast<uint32_t>(row));
        }
      }
      const RequestLayer framed = {layer->layer(), wide, ids};
      const size_t before = ours.size();
      ours.resize(before + RequestLayerBytes(framed));
      auto* const out = reinterpret_cast<uint8_t*>(ours.data());
      EXPECT_EQ(WriteRequestLayer(framed, out + before), out + ours.size());
    }
    v1::LookupRequest parsed;
    ASSERT_TRUE(parsed.ParseFromString(ours));
    EXPECT_EQ(parsed.SerializeAsString(), theirs.SerializeAsString());
    EXPECT_EQ(ours.size(), theirs.ByteSizeLong());
  }
}

TEST(LookupMessages, FramedTokensAreWhatProtobufWrites) {
  Random random(6);
  for (int round = 0; round < 2000; ++round) {
    v1::LookupRequest theirs;
    theirs.set_allow_unmasked_images(Below(random, 2) == 0);
    v1::TokenBatch& batch = *theirs.mutable_tokens();
    std::vector<uint32_t> layers, tokens, runs_of_layer;
    std::vector<int32_t> ids, windows;
    std::vector<LookupRequest::Run> runs;
    const std::string dead = AnyBytes(random, 5);
    for (uint64_t i = Below(random, 5); i > 0; --i) {
      batch.add_layers(layers.emplace_back(static_cast<uint32_t>(AnyNumber(random))));
      if (round % 2 == 0) continue;
      v1::ColumnSlice* const slice = batch.add_columns();
      runs_of_layer.push_back(static_cast<uint32_t>(Below(random, kMaxKeptRuns + 1)));
      for (uint32_t run = 0; run < runs_of_layer.back(); ++run) {
        runs.push_back(
            {static_cast<uint32_t>(Below(random, 3)), static_cast<uint32_t>(AnyNumber(random))});
        v1::ColumnRun* const one = slice->add_runs();
        one->set_first_column(runs.back().first_column);
        one->set_columns(runs.back().columns);
      }
    }
    for (uint64_t i = Below(random, 70); i > 0; --i) {
      batch.add_token_ids(ids.emplace_back(static_cast<int32_t>(random())));
      batch.add_sequence_tokens(tokens.emplace_back(static_cast<uint32_t>(AnyNumber(random))));
      batch.add_sequence_windows(windows.emplace_back(static_cast<int32_t>(Below(random, 3)) - 1));
    }
    batch.set_dead_mask(dead);
    const RequestHead head = {.table_set_id = "",
                              .allow_unmasked_images = theirs.allow_unmasked_images()};
    const RequestTokens framed = {
        .layers = layers,
        .token_ids = ids,
        .dead_mask = {reinterpret_cast<const uint8_t*>(dead.data()), dead.size()},
        .sequence_tokens = tokens,
        .sequence_windows = windows,
        .runs = runs,
        .runs_of_layer = runs_of_layer};
    std::string ours(RequestHeadBytes(head) + RequestTokensBytes(framed), '\0');
    auto* const out = reinterpret_cast<uint8_t*>(ours.data());
    EXPECT_EQ(WriteRequestTokens(framed, WriteRequestHead(head, out)), out + ours.size());
    v1::LookupRequest parsed;
    ASSERT_TRUE(parsed.ParseFromString(ours));
    EXPECT_EQ(parsed.SerializeAsString(), theirs.SerializeAsString());
    EXPECT_EQ(ours.size(), theirs.ByteSizeLong());
  }
}

TEST(LookupMessages, FramedRepliesAreWhatProtobufWrites) {
  Random random(4);
  for (int round = 0; round < 2000; ++round) {
    v1::LookupResponse theirs;
    theirs.set_table_set_id("0123456789abcdef");
    theirs.set_batch_id(AnyNumber(random));
    theirs.set_last(Below(random, 2) == 0);
    const ReplyHead head = {theirs.table_set_id(), theirs.batch_id(), theirs.last()};
    std::string ours(ReplyHeadBytes(head), '\0');
    auto* out = reinterpret_cast<uint8_t*>(ours.data());
    EXPECT_EQ(WriteReplyHead(head, out), out + ours.size());
    for (uint64_t layers = Below(random, 4); layers > 0; --layers) {
      v1::LayerRowData* layer = theirs.add_layers();
      layer->set_layer(static_cast<uint32_t>(AnyNumber(random)));
      layer->set_first_row(AnyNumber(random));
      layer->set_rows("r" + AnyBytes(random, 300));
      const ReplyLayerHead framed = {layer->layer(), layer->first_row(), layer->rows().size()};
      const size_t before = ours.size();
      ours.resize(before + ReplyLayerHeadBytes(framed));
      out = reinterpret_cast<uint8_t*>(ours.data());
      EXPECT_EQ(WriteReplyLayerHead(framed, out + before), out + ours.size());
      ours += layer->rows();
    }
    v1::LookupResponse parsed;
    ASSERT_TRUE(parsed.ParseFromString(ours));
    EXPECT_EQ(parsed.SerializeAsString(), theirs.SerializeAsString());
    EXPECT_EQ(ours.size(), theirs.ByteSizeLong());
  }
}

TEST(LookupMessages, FramedErrorsAreWhatProtobufWrites) {
  v1::LookupResponse theirs;
  theirs.set_batch_id(7);
  theirs.set_code(8);
  theirs.set_message("queues are full");
  theirs.set_retry_after_ms(20);
  EXPECT_EQ(EncodeReplyError(
                {.batch_id = 7, .code = 8, .message = "queues are full", .retry_after_ms = 20}),
            theirs.SerializeAsString());
}

// Version 1 of the wire never changes: these bytes were written when it was fixed.
TEST(LookupMessages, GoldenBytesOfVersionOne) {
  const RequestHead head = {.table_set_id = "ab", .batch_id = 300, .timeout_us = 5000};
  const std::vector<uint64_t> ids = {1, 0x01020304};
  const RequestLayer narrow = {.layer = 1, .ids = ids};
  const RequestLayer wide = {.layer = 14, .wide = true, .ids = ids};
  std::string request(RequestHeadBytes(head) + RequestLayerBytes(narrow) + RequestLayerBytes(wide),
                      0);
  auto* out = WriteRequestHead(head, reinterpret_cast<uint8_t*>(request.data()));
  WriteRequestLayer(wide, WriteRequestLayer(narrow, out));
  EXPECT_EQ(absl::BytesToHexString(request),
            "0a02616210ac02288827"
            "1a0c0801120801000000"
            "04030201"
            "1a14080e1a100100000000000000"
            "0403020100000000");

  const ReplyHead reply_head = {.table_set_id = "ab", .batch_id = 300, .last = true};
  const ReplyLayerHead layer = {.layer = 14, .first_row = 128, .rows_bytes = 2};
  std::string reply(ReplyHeadBytes(reply_head) + ReplyLayerHeadBytes(layer), 0);
  WriteReplyLayerHead(layer, WriteReplyHead(reply_head, reinterpret_cast<uint8_t*>(reply.data())));
  EXPECT_EQ(absl::BytesToHexString(reply + "xy"),
            "0a02616210ac023801"
            "1a09080e188001"
            "12027879");
}

}  // namespace
}  // namespace engram::wire
