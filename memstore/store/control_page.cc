#include "memstore/store/control_page.h"

#include <sys/mman.h>

#include <cstring>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

constexpr char kMagic[8] = {'E', 'N', 'G', 'R', 'C', 'T', 'R', 'L'};
constexpr uint32_t kVersion = 2;
constexpr int kStateBits = 8;

TableSetStateAndEpoch Split(uint64_t word) {
  return {static_cast<TableSetState>(word & ((1u << kStateBits) - 1)), word >> kStateBits};
}

uint64_t Join(TableSetState state, uint64_t epoch) {
  return epoch << kStateBits | static_cast<uint64_t>(state);
}

}  // namespace

absl::Status MayFinish(TableSetState state, absl::string_view set_id) {
  if (state < TableSetState::kFenced) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("table set ", set_id,
                                          " is fenced: its memory was found to be damaged; attach "
                                          "again once it has been loaded again"));
}

absl::Status MayBegin(TableSetState state, absl::string_view set_id) {
  switch (state) {
    case TableSetState::kServing:
    case TableSetState::kSuperseded:
      return absl::OkStatus();
    case TableSetState::kRetiring:
      return absl::FailedPreconditionError(
          absl::StrCat("table set ", set_id, " is retired: attach again for the one that follows"));
    case TableSetState::kGone:
      return absl::UnavailableError(
          absl::StrCat("the engramd that served table set ", set_id, " has stopped: attach again"));
    case TableSetState::kFenced:
      break;
  }
  return MayFinish(TableSetState::kFenced, set_id);
}

absl::StatusOr<std::unique_ptr<ControlPage>> ControlPage::Create(const std::string& set_id) {
  FileDescriptor memfd;
  Mapping page;
  if (auto made = CreateMemfd("engram-control", kControlPageBytes, MemfdPages::kAsTheKernelChooses);
      made.ok()) {
    memfd = *std::move(made);
    absl::StatusOr<Mapping> mapped = MapMemfd(memfd, kControlPageBytes, Access::kReadWrite);
    if (!mapped.ok()) return mapped.status();
    page = *std::move(mapped);
    if (absl::Status status = AddSeals(memfd, kReadOnlySeals); !status.ok()) memfd = {};
  } else {
    void* const own = mmap(nullptr, kControlPageBytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (own == MAP_FAILED) return made.status();
    page = Mapping(static_cast<std::byte*>(own), kControlPageBytes);
  }
  auto* const words = new (page.data()) ControlWords{};
  std::memcpy(words->magic, kMagic, sizeof(kMagic));
  words->version = kVersion;
  std::memcpy(words->set_id, set_id.data(), std::min(set_id.size(), sizeof(words->set_id)));
  words->state_and_epoch.store(Join(TableSetState::kServing, 0), std::memory_order_release);
  return std::unique_ptr<ControlPage>(new ControlPage(std::move(memfd), std::move(page)));
}

TableSetStateAndEpoch ControlPage::Read() const {
  return Split(words().state_and_epoch.load(std::memory_order_acquire));
}

void ControlPage::Advance(TableSetState state) {
  std::atomic<uint64_t>& word = words().state_and_epoch;
  uint64_t seen = word.load(std::memory_order_acquire);
  while (Split(seen).state < state &&
         !word.compare_exchange_weak(seen, Join(state, Split(seen).epoch + 1))) {
  }
}

void ControlPage::TakeBack() {
  std::atomic<uint64_t>& word = words().state_and_epoch;
  uint64_t seen = word.load(std::memory_order_acquire);
  while (Split(seen).state == TableSetState::kSuperseded &&
         !word.compare_exchange_weak(seen, Join(TableSetState::kServing, Split(seen).epoch + 1))) {
  }
}

absl::StatusOr<ControlView> ControlView::Map(const FileDescriptor& memfd,
                                             absl::string_view set_id) {
  absl::StatusOr<Mapping> page = MapSealed(memfd, kReadOnlySeals, Access::kRead, kControlPageBytes,
                                           kControlPageBytes, "the control page that engramd sent");
  if (!page.ok()) return page.status();
  const auto* const words = reinterpret_cast<const ControlWords*>(page->data());
  if (std::memcmp(words->magic, kMagic, sizeof(kMagic)) != 0 || words->version != kVersion ||
      absl::string_view(words->set_id, sizeof(words->set_id)) != set_id) {
    return absl::DataLossError(
        absl::StrCat("the control page that engramd sent is not that of table set ", set_id));
  }
  return ControlView(*std::move(page));
}

TableSetStateAndEpoch ControlView::Read() const {
  const auto* const words = reinterpret_cast<const ControlWords*>(page_.data());
  const TableSetStateAndEpoch read = Split(words->state_and_epoch.load(std::memory_order_acquire));
  return read;
}

}  // namespace engram
