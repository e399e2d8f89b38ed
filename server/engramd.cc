#include "server/engramd.h"

#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/server_builder_option.h>
#include <grpcpp/impl/server_builder_plugin.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "memstore/table/manifest.h"
#include "memstore/tls/pem.h"
#include "proto/rpc/grpc_time.h"
#include "server/base/limits.h"
#include "server/base/log.h"
#include "server/grpc/unknown_call.h"
#include "server/net/listen_socket.h"
#include "server/net/no_compression.h"
#include "server/net/server_shutdown.h"
#include "server/net/socket_watch.h"
#include "server/start_checks.h"
#include "server/table_sets/checkpoint_set.h"

namespace engram {
namespace {

// Connections that are ended at once where there are too many, and after how long in silence one
// that was of use may be.
constexpr size_t kEndedForRoom = 64;
constexpr absl::Duration kSilence = absl::Seconds(60);

// Where engramd keeps files: --state-dir, or a directory of this start alone; empty: nowhere.
const std::string& KeptDirectory(const ServerConfig& config) {
  return config.state_dir.empty() ? config.scratch_dir : config.state_dir;
}

// What loading reports as its total; 0 where there is no manifest, of which loading will tell.
uint64_t RowBytes(const std::string& directory) {
  const absl::StatusOr<Manifest> manifest = LoadManifest(directory);
  return manifest.ok() ? manifest->TableBytes() : 0;
}

uint32_t LookupThreads(const ServerConfig& config) {
  if (config.lookup_threads > 0) return config.lookup_threads;
  // Half of the machine's threads answer, the other half is whoever asks; a socket's memory feeds
  // a few at most.
  return std::clamp(std::thread::hardware_concurrency() / 2, 1u, 8u);
}

// A client's AttachRdma is its lease; one that is cut off or stopped is noticed by this, and what
// it had is free within 5 s.
constexpr std::chrono::milliseconds kLeasePing{2000};

void Configure(bool has_leases, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(kMaxRequestBytes));
  TakeNoCompression(builder);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                             static_cast<int>(std::chrono::milliseconds(kMaxHandshake).count()));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxCallsPerConnection);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kStreamWindowBytes);
  // Else gRPC lets a client that is fast, or says that it is, send megabytes for a call that
  // nobody reads.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  // The sockets' own (acceptor.cc) sees to peers that are gone; gRPC's would set its timer again
  // for every read. Leases need it all the same: a process that was stopped still has its sockets.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, has_leases
                                                             ? static_cast<int>(kLeasePing.count())
                                                             : std::numeric_limits<int>::max());
  if (!has_leases) return;
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, static_cast<int>(kLeasePing.count()));
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
}

// Keeps what gRPC's libraries add to every server of the process (reflection, channelz) off this
// one: their methods have threads that poll beside the loops.
class NoPlugins final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    plugins->clear();
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Engramd>> Engramd::Load(const ServerConfig& config,
                                                       std::shared_ptr<spdlog::logger> log,
                                                       Clock* clock) {
  std::unique_ptr<Engramd> engramd(new Engramd(config, std::move(log), clock));
  ENGRAM_ASSIGN_OR_RETURN(engramd->fd_limit_, RaiseFileLimit());
  ENGRAM_ASSIGN_OR_RETURN(const std::vector<std::string> notes, CheckBeforeLoading(config));
  for (const std::string& note : notes) {
    LogEvent(*engramd->log_, spdlog::level::warn, "configuration", nlohmann::json::object(), note);
  }
  if (!config.token_file.empty()) {
    ENGRAM_ASSIGN_OR_RETURN(engramd->tokens_,
                            TokenFile::Open(config.token_file, engramd->log_, clock));
  }
  engramd->access_ = std::make_unique<AccessControl>(
      AccessControl::Options{.tokens = engramd->tokens_.get(), .allow = config.allow});
  // Before the minutes that loading takes: a device that is not there is known at once.
  for (const auto start :
       {&Engramd::OpenTls, &Engramd::StartHttp, &Engramd::StartGatherTeam, &Engramd::StartRdma,
        &Engramd::OpenStateDirectory, &Engramd::StartTableSets}) {
    ENGRAM_RETURN_IF_ERROR(((*engramd).*start)());
  }
  ENGRAM_RETURN_IF_ERROR(engramd->LoadTableSets());
  return engramd;
}

absl::Status Engramd::LoadTableSets() {
  std::vector<std::string> directories = config_.table_sets;
  std::string kept_set;  // a linked one, of this start or an earlier one
  if (!config_.checkpoint.empty()) {
    ENGRAM_ASSIGN_OR_RETURN(
        std::string linked,
        LinkCheckpointSet(SourceOf(config_), KeptDirectory(config_), life_, *log_, *clock_));
    if (!config_.state_dir.empty()) kept_set = linked;
    directories.push_back(std::move(linked));
  }
  if (record_ != nullptr) {
    ENGRAM_ASSIGN_OR_RETURN(directories,
                            WithPublications(std::move(directories), record_->List(), log_.get()));
  }
  // Those of the flags alone were looked at before anything was started.
  if (directories != config_.table_sets) {
    ENGRAM_RETURN_IF_ERROR(CheckTableSets(directories, SetsOf(config_)));
  }
  StartLoads loads{.sets = directories.size(), .since = clock_->Now()};
  std::vector<uint64_t> row_bytes;
  for (const std::string& directory : directories) {
    row_bytes.push_back(RowBytes(directory));
    loads.bytes_total += row_bytes.back();
  }
  for (const std::string& directory : directories) {
    ++loads.number;
    {
      MutexLock lock(watched_mutex_);
      start_loads_ = loads;
    }
    const absl::Status status = table_sets_->Publish(directory, nullptr, nullptr).status();
    ENGRAM_RETURN_IF_ERROR(directory == kept_set ? WithFixOfKeptSet(status, directory) : status);
    loads.bytes_before += row_bytes[loads.number - 1];
  }
  return absl::OkStatus();
}

// Before the pages, which show it.
absl::Status Engramd::OpenTls() {
  const auto open = [this](const TlsFiles& files, std::shared_ptr<ServerTls>* tls) {
    absl::StatusOr<std::unique_ptr<ServerTls>> opened = ServerTls::Open(files, log_);
    if (!opened.ok()) return opened.status();
    *tls = *std::move(opened);
    return absl::OkStatus();
  };
  if (config_.tls.on()) {
    if (absl::Status status = open(config_.tls, &tls_); !status.ok()) return status;
  }
  const bool admin_speaks = config_.admin_grpc_listen && !config_.admin_grpc_listen->is_unix();
  if (!admin_speaks || !config_.admin_tls.on()) return absl::OkStatus();
  if (!(config_.admin_tls == config_.tls)) return open(config_.admin_tls, &admin_tls_);
  admin_tls_ = tls_;  // one line of the log tells of both
  return absl::OkStatus();
}

absl::Status Engramd::OpenStateDirectory() {
  const std::string& kept = KeptDirectory(config_);
  if (kept.empty()) return absl::OkStatus();
  ENGRAM_ASSIGN_OR_RETURN(state_directory_, HoldStateDirectory(kept));
  if (config_.state_dir.empty()) return absl::OkStatus();
  if (config_.ignore_recorded) {
    record_ = PublicationRecord::OpenIgnoring(kept);
    LogEvent(
        *log_, spdlog::level::info, "recorded_ignored", {{"directory", kept}},
        absl::StrCat("what ", kept, " keeps of publications is ignored, until one replaces it"));
    return absl::OkStatus();
  }
  ENGRAM_ASSIGN_OR_RETURN(record_, PublicationRecord::Open(kept));
  return absl::OkStatus();
}

absl::Status Engramd::StartTableSets() {
  TableSetManager::Options options;
  options.memory_limit_bytes = config_.memory_limit_bytes;
  options.retire_grace = config_.retire_grace;
  options.max_batch_rows = config_.max_batch_rows;
  options.state_directory = config_.state_dir;
  options.record = record_.get();
  options.load.threads = config_.load_threads;
  options.load.partition = config_.partition;
  options.load.gather_ahead_rows = config_.gather_ahead;
  options.load.arena.numa = config_.numa;
  options.load.arena.shareable = !config_.shm_socket.empty();
  options.on_publish = [this](const ServedSet& served) {
    return rdma_ == nullptr ? absl::OkStatus() : rdma_->AddTables(served);
  };
  options.after_publish = [this] { ShowHealth(); };
  options.on_retire = [this](const std::string& id) {
    if (rdma_ != nullptr) rdma_->ForgetTables(id);
  };
  auto sets =
      std::make_unique<TableSetManager>(&registry_, std::move(options), &life_, log_, clock_);
  ENGRAM_RETURN_IF_ERROR(sets->Start());
  MutexLock lock(watched_mutex_);
  table_sets_ = std::move(sets);
  return absl::OkStatus();
}

absl::Status Engramd::StartShm() {
  if (config_.shm_socket.empty()) return absl::OkStatus();
  const ShmEndpointOptions options{
      .socket_path = config_.shm_socket,
      .allowed_uids = {config_.shm_allow_uids.begin(), config_.shm_allow_uids.end()},
      .max_batch_rows = config_.max_batch_rows,
      .metrics = metrics_,
      .clock = clock_,
      .refusals = &attach_refusals_,
      .may_have = [this](uid_t uid, absl::string_view set) {
        return access_->MayHave({.names = {UnixIdentity(uid)}}, set);
      }};
  ENGRAM_ASSIGN_OR_RETURN(std::unique_ptr<ShmEndpoint> endpoint,
                          ShmEndpoint::Start(options, &registry_));
  {
    MutexLock lock(watched_mutex_);
    shm_ = std::move(endpoint);
  }
  LogEvent(*log_, spdlog::level::info, "listening",
           {{"address", config_.shm_socket}, {"for", "shared memory"}},
           absl::StrCat("shared memory at ", config_.shm_socket));
  return absl::OkStatus();
}

absl::Status Engramd::StartRdma() {
  if (config_.rdma_devices.empty()) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<RdmaEndpoint>> endpoint =
      RdmaEndpoint::Start({.devices = config_.rdma_devices,
                           .reads = config_.rdma_read,
                           .max_batch_rows = config_.max_batch_rows,
                           .spin = config_.spin,
                           .metrics = metrics_},
                          &registry_, team_.get());
  if (!endpoint.ok()) return endpoint.status();
  {
    MutexLock lock(watched_mutex_);
    rdma_ = *std::move(endpoint);
  }
  for (size_t i = 0; i < rdma_->ports(); ++i) {
    const RdmaDevice& device = rdma_->port(i);
    LogEvent(*log_, spdlog::level::info, "listening",
             {{"address", device.Name()}, {"for", "RDMA"}, {"numa_node", device.numa_node()}},
             absl::StrCat("RDMA on ", device.Name(), ", NUMA node ", device.numa_node(),
                          config_.rdma_read ? "; clients may read the tables" : ""));
  }
  return absl::OkStatus();
}

absl::Status Engramd::StartGatherTeam() {
  ENGRAM_ASSIGN_OR_RETURN(team_, GatherTeam::Create(config_.gather_threads, "gather"));
  return absl::OkStatus();
}

absl::Status Engramd::StartAdmin() {
  if (!config_.admin_grpc_listen) return absl::OkStatus();
  const bool asks = !config_.admin_grpc_listen->is_unix() && config_.admin_tls.on();
  admin_access_ = std::make_unique<AccessControl>(
      asks ? AccessControl::Options{.tokens = tokens_.get(),
                                    .certificates_suffice = true,
                                    .only = config_.admin_identities}
           : AccessControl::Options{});
  // Where clients have all descriptors there are for them, operators still get in.
  ENGRAM_ASSIGN_OR_RETURN(
      std::unique_ptr<AdminServer> admin,
      AdminServer::Start({.address = *config_.admin_grpc_listen,
                          .tls = admin_tls_.get(),
                          .fd_limit = fd_limit_ + kAdminFiles,
                          .clock = clock_},
                         {.table_sets = table_sets_.get(),
                          .life = &life_,
                          .scrubber = scrubber_.get(),
                          .access = admin_access_.get(),
                          .refusals = &admin_refusals_,
                          .clock = clock_,
                          .log = log_,
                          .why_not_ready = [this] { return Snapshot().WhyNotReady(); }}));
  store_status_->SetAdminAddress(admin->address());
  LogEvent(*log_, spdlog::level::info, "listening",
           {{"address", admin->address()}, {"for", "operators"}},
           absl::StrCat("operators at ", admin->address()));
  MutexLock lock(health_mutex_);
  admin_ = std::move(admin);
  return absl::OkStatus();
}

// Of what lookups share, the part that is taken.
double Engramd::LoadNow() const {
  const auto slabs = static_cast<double>(context_.slabs->slabs());
  return std::max(1 - context_.slabs->FreeSlabs() / slabs, context_.ids.UsedPart());
}

absl::Status Engramd::StartService() {
  std::vector<std::string> transports;
  if (!config_.listen.empty()) transports.push_back("grpc");
  if (rdma_ != nullptr) transports.push_back("rdma");
  if (!config_.shm_socket.empty()) transports.push_back("shm");
  store_status_ =
      std::make_unique<StoreStatus>(StoreStatus::Options{.zone = config_.zone,
                                                         .transports = std::move(transports),
                                                         .load = [this] { return LoadNow(); }},
                                    &registry_, &table_sets_->generations(), &life_);
  service_ = std::make_unique<LookupService>(&registry_, access_.get(), config_.max_batch_rows,
                                             rdma_.get(), config_.shm_socket);
  health_ = std::make_unique<Health>();
  reflection_ = std::make_unique<Reflection>(std::vector<std::string>{
      v1::Lookup::service_full_name(), grpc::health::v1::Health::service_full_name(),
      Reflection::kServiceName});
  ENGRAM_ASSIGN_OR_RETURN(context_.slabs, ReplySlabs::Create(kSlabs, kSlabBytes));
  context_.clock = clock_;
  context_.on_drained = [this] {
    MutexLock lock(drain_mutex_);
    drained_.NotifyAll();
  };
  context_.registry = &registry_;
  context_.access = access_.get();
  context_.metrics = metrics_.get();
  context_.attach_refusals = &attach_refusals_;
  context_.store_status = store_status_.get();
  context_.log = log_;
  context_.team = team_.get();
  context_.max_batch_rows = config_.max_batch_rows;
  context_.spin = config_.spin;
  return absl::OkStatus();
}

absl::Status Engramd::StartLoops() {
  for (const auto& loop : loops_) ENGRAM_RETURN_IF_ERROR(loop->Start());
  return absl::OkStatus();
}

absl::Status Engramd::Listen() {
  ENGRAM_RETURN_IF_ERROR(CheckSocketsCanBeWatched());
  ENGRAM_RETURN_IF_ERROR(StartService());
  for (const ListenAddress& address : config_.listen) {
    ENGRAM_ASSIGN_OR_RETURN(std::vector<ListenSocket> bound, ListenSocket::Bind(address));
    addresses_.push_back(bound.front().address().Text());
    for (ListenSocket& socket : bound) sockets_.push_back(std::move(socket));
  }
  {
    MutexLock lock(watched_mutex_);
    shown_addresses_ = addresses_;
  }
  // gRPC's own would bring threads that poll beside the loops.
  grpc::EnableDefaultHealthCheckService(false);
  grpc::ServerBuilder builder;
  builder.SetOption(std::make_unique<NoPlugins>());
  Configure(/*has_leases=*/rdma_ != nullptr, builder);
  using ConnectionType = grpc::ServerBuilder::experimental_type::ExternalConnectionType;
  plain_connections_ = builder.experimental().AddExternalConnectionAcceptor(
      ConnectionType::FROM_FD, grpc::InsecureServerCredentials());
  if (config_.tls.on()) {
    tls_connections_ = builder.experimental().AddExternalConnectionAcceptor(
        ConnectionType::FROM_FD, tls_->MakeCredentials());
  }
  builder.RegisterService(service_.get());
  builder.RegisterAsyncGenericService(&unknown_methods_);
  builder.RegisterService(&health_->service());
  // It describes the server to whoever asks: to this machine alone, and to operators on their port.
  const bool reflects = absl::c_all_of(
      config_.listen, [](const ListenAddress& address) { return address.IsLocal(); });
  if (reflects) builder.RegisterService(&reflection_->service());
  const auto accept = [this, reflects](EventLoop& loop) {
    service_->Accept(loop);
    health_->Accept(loop);
    UnknownCall::Accept(loop, &unknown_methods_);
    if (reflects) reflection_->Accept(loop);
  };
  const uint32_t threads = LookupThreads(config_);
  for (uint32_t i = 0; i < threads; ++i) {
    loops_.push_back(std::make_unique<EventLoop>(&context_, i, accept, builder));
  }
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) return absl::InternalError("gRPC does not start");
  ENGRAM_RETURN_IF_ERROR(StartLoops());
  ENGRAM_RETURN_IF_ERROR(StartShm());
  ENGRAM_RETURN_IF_ERROR(StartScrubber());
  ENGRAM_RETURN_IF_ERROR(StartAdmin());
  return StartMemoryGuard();
}

absl::Status Engramd::Accept() {
  life_.Advance(LifeState::kServing);
  ShowHealth();  // tables are verified again since they were loaded, and one may be damaged
  Acceptor::Take take = TakeConnections();
  const auto make_room = [this] {
    connections_.EndLeastUsed(kEndedForRoom, clock_->Now(), absl::FromChrono(kMaxHandshake),
                              kSilence);
  };
  ENGRAM_ASSIGN_OR_RETURN(acceptor_, Acceptor::Start(std::move(sockets_), fd_limit_,
                                                     std::move(take), log_, clock_, make_room));
  for (const std::string& address : addresses_) {
    LogEvent(*log_, spdlog::level::info, "listening", {{"address", address}, {"for", "lookups"}},
             absl::StrCat("listening on ", address));
  }
  if (addresses_.empty()) {
    LogEvent(*log_, spdlog::level::info, "listening",
             {{"address", config_.shm_socket}, {"for", "lookups"}},
             absl::StrCat("serving by shared memory alone, at ", config_.shm_socket));
  }
  return StartRegistration();
}

void Engramd::ReadFilesAgain() {
  if (tokens_ != nullptr) tokens_->ReadNow();
  std::vector<const ServerTls*> ports = {tls_.get()};
  if (admin_tls_ != tls_) ports.push_back(admin_tls_.get());
  for (const ServerTls* const port : ports) {
    if (port != nullptr) port->LogUse(*log_);
  }
}

void Engramd::LameDuck(absl::Duration time) {
  life_.Advance(LifeState::kDraining);
  // First: clients look for others while this one still serves.
  if (registration_ != nullptr) registration_->Deregister();
  ShowHealth();
  table_sets_->Cancel();
  const MonotonicTime end = clock_->After(time);
  MutexLock lock(drain_mutex_);
  while (clock_->WaitUntil(drained_, drain_mutex_, end)) {
  }
}

void Engramd::Drain(absl::Duration grace) {
  if (server_ == nullptr) return;
  LameDuck(absl::ZeroDuration());
  std::unique_ptr<ShmEndpoint> shm;
  {
    MutexLock lock(watched_mutex_);
    shm = std::move(shm_);
  }
  shm.reset();  // batches under way end in the clients; further ones are told to go
  // Before gRPC ends: it leaks what it is handed after.
  acceptor_.reset();
  const MonotonicTime deadline = clock_->After(grace);
  for (const auto& loop : loops_) loop->Drain();
  const auto ended = [](const auto& loop) { return loop->Ended(); };
  {
    MutexLock lock(drain_mutex_);
    while (!absl::c_all_of(loops_, ended) && clock_->WaitUntil(drained_, drain_mutex_, deadline)) {
    }
  }
  memory_guard_.reset();
  ShutDownServer(*server_, connections_, *clock_);
  for (const auto& loop : loops_) loop->Stop();
  server_.reset();
  std::unique_ptr<AdminServer> admin;
  {
    MutexLock lock(health_mutex_);
    admin = std::move(admin_);
  }
  admin.reset();
  http_.reset();
  history_.reset();
  scrubber_.reset();
  EndRegistration();
  life_.Advance(LifeState::kStopped);
}

Engramd::~Engramd() { Drain(absl::ZeroDuration()); }

}  // namespace engram
