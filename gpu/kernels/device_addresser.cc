#include "gpu/kernels/device_addresser.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "gpu/kernels/address_cuda.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

static_assert(kMaxWindow == kMaxOrder);

// The scheme's arrays, one after the other as they go to the device.
class Packed {
 public:
  // Where the values will lie.
  template <typename T>
  size_t Add(const std::vector<T>& values) {
    const size_t at =
        (bytes_.size() + alignof(uint64_t) - 1) / alignof(uint64_t) * sizeof(uint64_t);
    bytes_.resize(at + values.size() * sizeof(T));
    if (!values.empty()) std::memcpy(&bytes_[at], values.data(), values.size() * sizeof(T));
    return at;
  }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

struct LayerConstants {
  std::vector<uint64_t> multipliers;
  std::vector<uint64_t> coefficients;
  std::vector<ColumnHash> hashes;
  std::vector<uint32_t> first_columns = {0};
  uint32_t most_columns = 0;
};

void AddLayer(const AddressScheme& scheme, const LayerAddressing& layer, const ColumnSlice& slice,
              LayerConstants* all) {
  for (const int64_t multiplier : layer.multipliers) {
    all->multipliers.push_back(static_cast<uint64_t>(multiplier));
  }
  for (uint32_t i = 0; i < slice.columns(); ++i) {
    const uint32_t column = slice.LayerColumn(i);
    const uint64_t modulus = layer.moduli[column];
    all->hashes.push_back({.reciprocal = MakeReciprocal(modulus),
                           .offset = layer.offsets[column],
                           .order = column / scheme.heads_per_order + 2});
    if (scheme.combine != Combine::kPolynomial) continue;
    unsigned __int128 coefficient = 1;
    for (uint32_t d = 0; d < scheme.max_order; ++d) {
      all->coefficients.push_back(static_cast<uint64_t>(coefficient));
      coefficient = coefficient * scheme.radix % modulus;
    }
  }
  all->first_columns.push_back(static_cast<uint32_t>(all->hashes.size()));
  all->most_columns = std::max(all->most_columns, slice.columns());
}

absl::StatusOr<LayerConstants> ConstantsOf(const AddressScheme& scheme,
                                           const std::vector<uint32_t>& layers,
                                           const std::vector<ColumnSlice>& slices) {
  if (!slices.empty() && slices.size() != layers.size()) {
    return absl::InvalidArgumentError(absl::StrCat("there are ", slices.size(), " slices for ",
                                                   layers.size(), " layers: one each, or none"));
  }
  LayerConstants all;
  for (size_t i = 0; i < layers.size(); ++i) {
    const LayerAddressing* const layer = scheme.FindLayer(layers[i]);
    if (layer == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("layer ", layers[i], " is none of those that ",
                                                     scheme.family, "'s scheme addresses"));
    }
    const ColumnSlice slice = slices.empty() ? ColumnSlice::All(scheme.Columns()) : slices[i];
    if (const absl::Status s = slice.Check(layers[i], scheme.Columns()); !s.ok()) {
      return absl::Status(s.code(), absl::StrCat("slices[", i, "]: ", s.message()));
    }
    AddLayer(scheme, *layer, slice, &all);
  }
  return all;
}

absl::Status CopyToDevice(Device& device, const std::vector<std::byte>& bytes, void* to) {
  absl::StatusOr<std::unique_ptr<Stream>> stream = device.MakeStream("address-tables");
  if (!stream.ok()) return stream.status();
  if (absl::Status s = (*stream)->Copy(to, bytes.data(), bytes.size()); !s.ok()) return s;
  return (*stream)->Synchronize();
}

// The kernel's work, tile by tile.
uint64_t AddressOnHost(const AddressTables& tables, const AddressTokens& batch, uint64_t* rows) {
  uint64_t error = 0;
  for (uint32_t s = 0; s < batch.sequences; ++s) {
    if (!StartsAreGood(batch, s)) error = AddressErrorWord(0, AddressError::kStarts);
  }
  AddressTile tile;
  uint32_t windows[kAddressTile][kMaxWindow];
  for (uint32_t first = 0; first < batch.tokens; first += kAddressTile) {
    const uint32_t tokens = std::min(kAddressTile, batch.tokens - first);
    for (uint32_t t = 0; t < tokens; ++t) {
      error = std::max(error, WindowOfToken(tables, batch, first + t, windows[t]));
    }
    for (uint32_t l = 0; l < tables.layers; ++l) {
      const LayerColumns layer = ColumnsOf(tables, l);
      for (uint32_t t = 0; t < tokens; ++t) MixToken(tables, l, windows[t], t, &tile);
      uint64_t* const to = RowIdsOf(layer, batch.tokens, first, rows);
      for (uint32_t column = 0; column < layer.columns; ++column) {
        HashColumn(tables, layer, column, tile, 0, 1, tokens, to);
      }
    }
  }
  return error;
}

uint64_t AdvanceOnHost(const AddressTables& tables, const AddressTokens& batch,
                       const uint32_t* accepted, uint32_t* lookback) {
  uint64_t error = 0;
  for (uint32_t s = 0; s < batch.sequences; ++s) {
    const uint32_t tokens =
        accepted == nullptr ? batch.starts[s + 1] - batch.starts[s] : accepted[s];
    error = std::max(error, AdvanceSequence(tables, batch, s, tokens,
                                            lookback + uint64_t{s} * (tables.order - 1)));
  }
  return error;
}

absl::Status DeviceError(const char* error, const char* what) {
  if (*error == '\0') return absl::OkStatus();
  return absl::InternalError(absl::StrCat(what, ": ", error));
}

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceAddresser>> DeviceAddresser::Create(
    const std::shared_ptr<const Addresser>& addresser, Device& device,
    const DeviceAddresserOptions& options) {
  const AddressScheme& scheme = addresser->scheme();
  std::unique_ptr<DeviceAddresser> made(new DeviceAddresser());
  made->addresser_ = addresser;
  made->options_ = options;
  made->multiprocessors_ = device.multiprocessors();
  if (options.max_tokens == 0 || options.max_sequences == 0) {
    return absl::InvalidArgumentError("an addresser needs max_tokens and max_sequences");
  }
  std::vector<uint32_t>& layers = made->options_.layers;
  if (layers.empty()) {
    for (const LayerAddressing& layer : scheme.layers) layers.push_back(layer.layer);
  }
  const absl::StatusOr<LayerConstants> constants = ConstantsOf(scheme, layers, options.slices);
  if (!constants.ok()) return constants.status();
  const TokenMap* const map = addresser->token_map().get();
  const absl::Span<const int32_t> images = addresser->image_token_ids();

  Packed packed;
  const size_t multipliers = packed.Add(constants->multipliers);
  const size_t coefficients = packed.Add(constants->coefficients);
  const size_t hashes = packed.Add(constants->hashes);
  const size_t first_columns = packed.Add(constants->first_columns);
  const size_t compressed = map == nullptr ? 0 : packed.Add(map->compressed());
  const size_t image_ids = packed.Add(std::vector<int32_t>(images.begin(), images.end()));
  absl::StatusOr<DeviceBuffer> memory = device.Allocate(MemoryKind::kDevice, packed.bytes().size());
  if (!memory.ok()) return memory.status();
  const std::byte* const base = memory->data();
  if (absl::Status s = CopyToDevice(device, packed.bytes(), memory->data()); !s.ok()) return s;
  made->memory_ = *std::move(memory);

  const auto words = [base](size_t at) { return reinterpret_cast<const uint64_t*>(base + at); };
  made->tables_ = {
      .compressed = map == nullptr ? nullptr : reinterpret_cast<const int32_t*>(base + compressed),
      .multipliers = words(multipliers),
      .coefficients = scheme.combine == Combine::kPolynomial ? words(coefficients) : nullptr,
      .hashes = reinterpret_cast<const ColumnHash*>(base + hashes),
      .first_columns = reinterpret_cast<const uint32_t*>(base + first_columns),
      .image_ids = reinterpret_cast<const int32_t*>(base + image_ids),
      .images = static_cast<uint32_t>(images.size()),
      .vocab_size = scheme.vocab_size,
      .hashed_vocab_size =
          scheme.token_map ? scheme.token_map->compressed_vocab_size : scheme.vocab_size,
      .pad = static_cast<uint32_t>(scheme.pad_id),
      .reset = scheme.reset_token_id.value_or(kBlockedEntry),
      .order = scheme.max_order,
      .columns = constants->most_columns,
      .layers = static_cast<uint32_t>(layers.size())};
  if (!images.empty()) {
    made->tables_.first_image = static_cast<uint32_t>(images.front());
    made->tables_.image_span = static_cast<uint32_t>(images.back() - images.front());
  }
  made->all_columns_ = static_cast<uint32_t>(constants->hashes.size());
  return made;
}

absl::Status DeviceAddresser::Check(const AddressTokens& batch) const {
  if (batch.tokens > options_.max_tokens || batch.sequences > options_.max_sequences) {
    return absl::InvalidArgumentError(
        absl::StrCat("a batch of ", batch.tokens, " tokens of ", batch.sequences,
                     " sequences; the addresser was made for ", options_.max_tokens, " of ",
                     options_.max_sequences));
  }
  if (batch.tokens > 0 && batch.sequences == 0) {
    return absl::InvalidArgumentError("a batch of tokens needs the sequences that they belong to");
  }
  if (batch.dead != nullptr && !scheme().dead_positions) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the scheme of ", scheme().family, " has no dead positions: leave the dead mask out"));
  }
  const bool has_memory = batch.starts != nullptr && batch.lookback != nullptr &&
                          (batch.token_ids != nullptr || batch.tokens == 0);
  if (batch.sequences > 0 && !has_memory) {
    return absl::InvalidArgumentError("a batch needs its token ids, starts and lookback");
  }
  return absl::OkStatus();
}

absl::Status DeviceAddresser::EnqueueAddress(const AddressTokens& batch, RowId* rows,
                                             uint64_t* error, Stream& stream) const {
  if (absl::Status s = Check(batch); !s.ok()) return s;
  if (batch.tokens == 0) return absl::OkStatus();
  if ((rows == nullptr && all_columns_ > 0) || error == nullptr) {
    return absl::InvalidArgumentError("addresses need memory for row ids and for the error word");
  }
  if (stream.native() != nullptr) {
    return DeviceError(
        LaunchAddress(tables_, batch, rows, error, multiprocessors_, stream.native()),
        "addressing on the device");
  }
  return stream.LaunchOnHost([tables = tables_, batch, rows, error] {
    *error = std::max(*error, AddressOnHost(tables, batch, rows));
  });
}

absl::Status DeviceAddresser::EnqueueAdvance(const AddressTokens& batch, const uint32_t* accepted,
                                             uint32_t* lookback, uint64_t* error,
                                             Stream& stream) const {
  if (absl::Status s = Check(batch); !s.ok()) return s;
  if (batch.sequences == 0) return absl::OkStatus();
  if (lookback == nullptr || error == nullptr) {
    return absl::InvalidArgumentError("committing needs memory for lookback and the error word");
  }
  if (stream.native() != nullptr) {
    return DeviceError(LaunchAdvance(tables_, batch, accepted, lookback, error, stream.native()),
                       "committing tokens on the device");
  }
  return stream.LaunchOnHost([tables = tables_, batch, accepted, lookback, error] {
    *error = std::max(*error, AdvanceOnHost(tables, batch, accepted, lookback));
  });
}

absl::Status DeviceAddresser::StatusOf(uint64_t error) const {
  const auto position = ~static_cast<uint32_t>(error >> 8);
  switch (static_cast<AddressError>(error & 0xFF)) {
    case AddressError::kNone:
      return absl::OkStatus();
    case AddressError::kTokenId:
      return absl::InvalidArgumentError(
          absl::StrCat("the token id at position ", position,
                       " of the batch is out of the vocabulary of ", scheme().family, ", 0..",
                       scheme().vocab_size - 1, "; were the ids made with another tokenizer?"));
    case AddressError::kLookback:
      return absl::InvalidArgumentError(
          absl::StrCat("the lookback of the sequence at position ", position,
                       " of the batch holds an id that ", scheme().family,
                       "'s scheme does not have: begin with WriteLookback(Addresser::Start())"));
    case AddressError::kUnmaskedImage:
      return absl::InvalidArgumentError(absl::StrCat(
          "the token id at position ", position, " of the batch is an image's in prompts of ",
          scheme().family,
          " and is not marked dead: mark it in the dead mask or, where it is "
          "meant as a token like any other, give an Addresser that allows it (of a client with "
          "allow_unmasked_images)"));
    case AddressError::kStarts:
      return absl::InvalidArgumentError(
          "the batch's sequence starts do not ascend from 0 to its number of tokens, or more "
          "tokens of a sequence were accepted than it has");
  }
  return absl::InternalError(absl::StrCat("not an address error word: ", error));
}

absl::Status DeviceAddresser::WriteLookback(const SequenceState& state, uint32_t* words) const {
  ENGRAM_RETURN_IF_ERROR(addresser_->CheckState(state));
  for (uint32_t age = 0; age < lookback(); ++age) {
    const int64_t id = state.ids[age];
    words[age] = id == SequenceState::kBlocked ? kBlockedEntry : static_cast<uint32_t>(id);
  }
  return absl::OkStatus();
}

}  // namespace engram
