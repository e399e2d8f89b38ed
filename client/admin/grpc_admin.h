// What operators ask of an engramd (proto/engram/v1/admin.proto), without protobuf: publish,
// retire, list, scrub. Blocking; thread-safe. Errors: UNAVAILABLE where nobody listens,
// UNIMPLEMENTED where what listens is another gRPC server, such as engramd's port for lookups,
// UNAUTHENTICATED where one side does not take the other's certificate, engramd's own otherwise.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/transport/security_options.h"
#include "memstore/base/clock.h"
#include "memstore/table/side_files.h"

namespace engram {

struct AdminTableSet {
  std::string name;
  std::string id;
  std::string directory;
  std::string state;  // "serving", "superseded", "retired", "fenced"
  uint64_t resident_bytes = 0;
  uint64_t held_bytes = 0;   // of the rows that it holds; 0: an older engramd, or it is fenced
  uint64_t table_bytes = 0;  // of all rows of the set
  std::string held = {};     // which those are ("columns 0..1, 8..9"); empty: all of them
  std::string pages;
  // Clients that have it.
  uint32_t mapped = 0;
  uint32_t rings = 0;
  uint32_t rdma = 0;
  uint32_t rdma_read = 0;
  uint32_t holdings = 0;           // by a Holdings stream
  std::optional<uint64_t> idle_s;  // since it was asked for over gRPC
  uint64_t age_s = 0;              // in this state
  // Of a fenced one: whether its name waits for a set. Nothing: an older engramd doesn't say.
  std::optional<bool> missed;
  std::optional<Provenance> provenance;
  std::optional<uint64_t> generation = std::nullopt;  // of its name, where it is served
};

struct AdminLoading {
  std::string directory;
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
};

struct AdminList {
  std::string state;  // engramd's: "SERVING", "DRAINING"
  std::vector<AdminTableSet> table_sets;
  std::optional<AdminLoading> loading;
  std::optional<bool> ready = std::nullopt;  // nothing: an older engramd, which does not say
  std::string why_not_ready = {};            // in a line
};

struct AdminPublished {
  std::string name;
  std::string id;
  uint64_t bytes = 0;       // of rows
  std::string warning;      // empty: none
  bool is_note = false;     // nothing is wrong: `warning` says that it was served already
  uint64_t generation = 0;  // 0: an older engramd, which does not say
};

struct AdminRetired {
  std::string name;
  std::string id;        // empty: an older engramd, which does not say
  uint64_t grace_s = 0;  // how long its clients may keep it
  bool was_fenced = false;
};

class AdminClient {
 public:
  using Progress = std::function<void(uint64_t done, uint64_t total)>;

  // `address`: HOST:PORT or unix:PATH of engramd --admin-grpc-listen. Connects with the first call.
  // GrpcCredentials::Create has the errors. `clock` outlives it.
  static absl::StatusOr<std::unique_ptr<AdminClient>> Create(const std::string& address,
                                                             const SecurityOptions& security,
                                                             Clock& clock = RealClock());
  ~AdminClient();

  // For as long as it loads; a process that ends meanwhile cancels it there as well. `generation`:
  // of the set's name (admin.proto); nothing: the next one. UNIMPLEMENTED: an older engramd, which
  // has not seen the number; it has published the set.
  absl::StatusOr<AdminPublished> Publish(const std::string& directory,
                                         std::optional<uint64_t> generation,
                                         const Progress& progress);
  absl::StatusOr<AdminRetired> Retire(const std::string& id_or_name);
  absl::StatusOr<AdminList> List();
  // The bytes that were verified; DATA_LOSS: the first damage.
  absl::StatusOr<uint64_t> Scrub(const Progress& progress);

 private:
  struct Connection;
  explicit AdminClient(std::unique_ptr<Connection> connection);
  const std::unique_ptr<Connection> connection_;
};

}  // namespace engram
