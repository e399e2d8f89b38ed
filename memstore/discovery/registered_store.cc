#include "memstore/discovery/registered_store.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "memstore/base/plain_name.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/discovery/host_and_port.h"

namespace engram {
namespace {

constexpr absl::string_view kAddress = "address=";

absl::Status NoStore(absl::string_view key, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("the key ", QuoteForMessage(key), " is no store's: ", why));
}

}  // namespace

std::string StoreKey(const EtcdPlace& place, absl::string_view instance_id) {
  return absl::StrCat(place.KeyPrefix(), instance_id);
}

std::string StoreValue(absl::string_view address) { return absl::StrCat(kAddress, address, "\n"); }

absl::StatusOr<RegisteredStore> ReadStore(const EtcdPlace& place, absl::string_view key,
                                          absl::string_view value) {
  absl::string_view instance_id = key;
  if (!absl::ConsumePrefix(&instance_id, place.KeyPrefix())) {
    return NoStore(key, absl::StrCat("it does not begin with ", place.KeyPrefix()));
  }
  if (const absl::Status status = CheckPlainName(instance_id, "the instance id"); !status.ok()) {
    return NoStore(key, status.message());
  }
  if (value.size() > kMaxStoreValueBytes) {
    return NoStore(key, absl::StrCat("its value has ", value.size(), " bytes"));
  }
  std::optional<absl::string_view> address;
  for (absl::string_view line : absl::StrSplit(value, '\n')) {
    if (!absl::ConsumePrefix(&line, kAddress)) continue;
    if (address) return NoStore(key, "its value has two addresses");
    address = line;
  }
  if (!address) {
    return NoStore(key, absl::StrCat("its value has no line address=HOST:PORT, it is ",
                                     QuoteForMessage(value)));
  }
  if (!IsHostAndPort(*address)) {
    return NoStore(key,
                   absl::StrCat("its address, ", QuoteForMessage(*address), ", is no HOST:PORT"));
  }
  return RegisteredStore{std::string(instance_id), std::string(*address)};
}

}  // namespace engram
