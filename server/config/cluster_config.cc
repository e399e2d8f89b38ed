#include "server/config/cluster_config.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "memstore/base/plain_name.h"
#include "memstore/discovery/host_and_port.h"
#include "memstore/partition/partition.h"
#include "server/config/config_fields.h"

namespace engram {
namespace {

absl::Status Refuse(const ConfigLayers& layers, absl::string_view field, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(layers.Where(field), " ", why));
}

absl::Status CheckSecurity(const ConfigLayers& layers, const EtcdPlace& place,
                           const EtcdSecurity& security) {
  // Each needs the other one.
  const std::pair<absl::string_view, const std::string*> cert{"register_cert", &security.cert};
  const std::pair<absl::string_view, const std::string*> key{"register_key", &security.key};
  const std::pair<absl::string_view, const std::string*> ca{"register_ca", &security.ca};
  const std::pair<absl::string_view, const std::string*> name{"register_server_name",
                                                              &security.server_name};
  const std::pair<absl::string_view, const std::string*> user{"register_user", &security.user};
  const std::pair<absl::string_view, const std::string*> password{"register_password_file",
                                                                  &security.password_file};
  for (const auto& [one, other] :
       {std::pair(cert, key), std::pair(key, cert), std::pair(cert, ca), std::pair(name, ca),
        std::pair(user, password), std::pair(password, user)}) {
    if (one.second->empty() || !other.second->empty()) continue;
    return Refuse(layers, one.first, absl::StrCat("is of no use without ", FlagName(other.first)));
  }
  if (security.user.empty() || !security.ca.empty() || place.IsLoopback()) {
    return absl::OkStatus();
  }
  return Refuse(layers, "register_user",
                absl::StrCat("would send a password to ", absl::StrJoin(place.endpoints, ", "),
                             " in the clear: give --register-ca FILE"));
}

absl::Status CheckAdvertised(const ConfigLayers& layers, const ServerConfig& config) {
  if (config.advertise.empty()) {
    return Refuse(
        layers, "register",
        "needs --advertise HOST:PORT, the address under which clients reach this engramd");
  }
  if (!IsHostAndPort(config.advertise)) {
    return Refuse(layers, "advertise",
                  absl::StrCat(config.advertise, " is no address: write HOST:PORT"));
  }
  if (IsWildcardHost(HostOf(config.advertise))) {
    return Refuse(layers, "advertise",
                  absl::StrCat(config.advertise,
                               " leads nowhere: write the host as clients of "
                               "other machines know it"));
  }
  if (!config.listen.empty()) return absl::OkStatus();
  return Refuse(layers, "advertise", "is of no use without --listen HOST:PORT");
}

}  // namespace

absl::Status TakePartition(const ConfigLayers& layers, ServerConfig* config) {
  const v1::ServerConfig& given = layers.config();
  const auto take = [&](const char* field, const std::string& text, const auto& parsed) {
    if (!parsed.ok())
      return Refuse(layers, field, absl::StrCat(text, ": ", parsed.status().message()));
    config->partition = *parsed;
    return absl::OkStatus();
  };
  if (!given.partition().empty() && !given.partition_columns().empty()) {
    return Refuse(layers, "partition_columns",
                  "and --partition both say what is held: give one of them");
  }
  if (!given.partition().empty()) {
    return take("partition", given.partition(), ParsePartitionIndex(given.partition()));
  }
  if (given.partition_columns().empty()) return absl::OkStatus();
  return take("partition_columns", given.partition_columns(),
              ParsePartitionColumns(given.partition_columns()));
}

absl::Status TakeZone(const ConfigLayers& layers, ServerConfig* config) {
  config->zone = layers.config().zone();
  if (config->zone.empty()) return absl::OkStatus();
  absl::Status status = CheckPlainName(config->zone, "a zone's name");
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat(layers.Where("zone"), ": ", status.message()));
}

absl::Status TakeRegistration(const ConfigLayers& layers, ServerConfig* config) {
  const v1::ServerConfig& given = layers.config();
  config->advertise = given.advertise();
  config->register_security = {.ca = given.register_ca(),
                               .cert = given.register_cert(),
                               .key = given.register_key(),
                               .server_name = given.register_server_name(),
                               .user = given.register_user(),
                               .password_file = given.register_password_file()};
  if (given.register_().empty()) {
    // What is empty says nothing, as in a file that --print-config wrote.
    for (const auto& [field, value] :
         {std::pair("advertise", given.advertise()), std::pair("register_ca", given.register_ca()),
          std::pair("register_cert", given.register_cert()),
          std::pair("register_key", given.register_key()),
          std::pair("register_server_name", given.register_server_name()),
          std::pair("register_user", given.register_user()),
          std::pair("register_password_file", given.register_password_file())}) {
      if (value.empty()) continue;
      return Refuse(layers, field, "is of no use without --register etcd:HOST:PORT/PREFIX");
    }
    return absl::OkStatus();
  }
  absl::string_view text = given.register_();
  if (!absl::ConsumePrefix(&text, "etcd:")) {
    return Refuse(layers, "register",
                  absl::StrCat(given.register_(),
                               " is no place to register: write etcd:HOST:PORT[,...]/PREFIX"));
  }
  absl::StatusOr<EtcdPlace> parsed = ParseEtcdPlace(text);
  if (!parsed.ok()) {
    return Refuse(layers, "register",
                  absl::StrCat(given.register_(), ": ", parsed.status().message()));
  }
  const EtcdPlace& place = config->register_place.emplace(*std::move(parsed));
  if (absl::Status status = CheckAdvertised(layers, *config); !status.ok()) return status;
  return CheckSecurity(layers, place, config->register_security);
}

}  // namespace engram
