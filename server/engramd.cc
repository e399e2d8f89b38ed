#include "server/engramd.h"

#include <grpc/grpc.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <unistd.h>

#include <future>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/store/table_set.h"
#include "server/limits.h"

namespace engram {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kProgressInterval{2};
// What clients that were told to go have for closing their connections themselves.
constexpr std::chrono::milliseconds kGoodbye{50};

double Gigabytes(uint64_t bytes) { return static_cast<double>(bytes) / 1e9; }

// Turns the loader's reports into a log line now and then.
class ProgressLines {
 public:
  ProgressLines(spdlog::logger* log, const std::string& directory)
      : log_(log), directory_(directory) {}
  void Report(const LoadProgress& progress) {
    const auto now = Clock::now();
    if (now - last_ < kProgressInterval || progress.bytes_total == 0) return;
    last_ = now;
    log_->info("loading {}: {} % of {:.2f} GB", directory_,
               progress.bytes_done * 100 / progress.bytes_total, Gigabytes(progress.bytes_total));
  }

 private:
  spdlog::logger* const log_;
  const std::string directory_;
  Clock::time_point last_ = Clock::now();
};

// The builder takes ports' numbers by pointer when it starts.
struct Bound {
  ListenAddress address;
  int port = 0;
};

void Configure(CallCount& calls, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(kMaxRequestBytes));
  // Two servers never share an address: the kernel would spread clients over both.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  grpc::ResourceQuota quota("engramd");
  quota.SetMaxThreads(static_cast<int>(kMaxLookups) + kOtherThreads);
  builder.SetResourceQuota(quota);
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(calls.Factory());
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engramd>> Engramd::Load(const ServerConfig& config,
                                                       std::shared_ptr<spdlog::logger> log) {
  std::unique_ptr<Engramd> engramd(new Engramd(config, std::move(log)));
  for (const std::string& directory : config.table_sets) {
    if (absl::Status status = engramd->LoadTableSet(directory); !status.ok()) return status;
  }
  return engramd;
}

absl::Status Engramd::LoadTableSet(const std::string& directory) {
  log_->info("loading {}", directory);
  const auto begin = Clock::now();
  ProgressLines lines(log_.get(), directory);
  LoadOptions options;
  options.threads = config_.load_threads;
  options.arena.numa = config_.numa;
  options.arena.shareable = !config_.shm_socket.empty();
  options.on_progress = [&lines](const LoadProgress& progress) { lines.Report(progress); };
  absl::StatusOr<std::shared_ptr<const TableSet>> set = TableSet::Load(directory, options);
  if (!set.ok()) {
    return absl::Status(set.status().code(),
                        absl::StrCat("table set ", directory, ": ", set.status().message()));
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  const uint64_t bytes = (*set)->manifest().TableBytes();
  log_->info("loaded {} {}: {} layers, {:.2f} GB in {:.1f} s, every checksum held, on {} pages",
             (*set)->name(), (*set)->id(), (*set)->layers().size(), Gigabytes(bytes), seconds,
             std::string(Name((*set)->page_kind())));
  if (options.arena.shareable && (*set)->page_kind() == PageKind::kSmall) {
    log_->warn("the tables that are shared lie on 4 KiB pages, which makes lookups slower: {}",
               HowToGetHugePages((*set)->resident_bytes(), /*shareable=*/true));
  }
  return store_.Publish(*std::move(set));
}

absl::Status Engramd::StartShm() {
  if (config_.shm_socket.empty()) return absl::OkStatus();
  const ShmEndpointOptions options{
      .socket_path = config_.shm_socket,
      .allowed_uids = {config_.shm_allow_uids.begin(), config_.shm_allow_uids.end()},
      .max_batch_rows = config_.max_batch_rows};
  absl::StatusOr<std::unique_ptr<ShmEndpoint>> endpoint = ShmEndpoint::Start(options, &store_);
  if (!endpoint.ok()) return endpoint.status();
  shm_ = *std::move(endpoint);
  log_->info("shared memory at {}", config_.shm_socket);
  return absl::OkStatus();
}

absl::Status Engramd::StartService() {
  absl::StatusOr<std::unique_ptr<GatherTeam>> team =
      GatherTeam::Create(config_.gather_threads, "gather");
  if (!team.ok()) return team.status();
  team_ = *std::move(team);
  service_ =
      std::make_unique<LookupService>(&store_, team_.get(),
                                      LookupLimits{.max_batch_rows = config_.max_batch_rows,
                                                   .max_reply_bytes = kMaxUnaryReplyBytes},
                                      Admission::Limits{.lookups = kMaxLookups,
                                                        .reply_bytes = kMaxReplyBytesUnderWay,
                                                        .wait = kMaxAdmissionWait});
  return absl::OkStatus();
}

absl::Status Engramd::Listen() {
  if (absl::Status status = StartService(); !status.ok()) return status;
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  calls_ = CallCount::Of(v1::Lookup::service_full_name());
  Configure(*calls_, builder);
  std::vector<Bound> bound;
  for (const ListenAddress& address : config_.listen) {
    if (absl::Status status = CheckCanListen(address); !status.ok()) return status;
    bound.push_back({.address = address});
  }
  for (Bound& one : bound) {
    builder.AddListeningPort(one.address.Text(), grpc::InsecureServerCredentials(), &one.port);
  }
  builder.RegisterService(service_.get());
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) {
    for (const Bound& one : bound) {
      if (one.port != 0) continue;
      return absl::UnavailableError(absl::StrCat("cannot listen on ", one.address.Text(),
                                                 ": somebody else took it, or it is named twice"));
    }
    return absl::InternalError("gRPC does not start");
  }
  for (Bound& one : bound) {
    if (!one.address.is_unix()) one.address.port = absl::StrCat(one.port);
    addresses_.push_back(one.address.Text());
    log_->info("listening on {}", addresses_.back());
  }
  if (absl::Status status = StartShm(); !status.ok()) return status;
  SetServing(true);
  return absl::OkStatus();
}

void Engramd::SetServing(bool serving) {
  grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService();
  health->SetServingStatus(serving);
  health->SetServingStatus(v1::Lookup::service_full_name(), serving);
}

void Engramd::Drain(std::chrono::milliseconds grace) {
  if (server_ == nullptr) return;
  SetServing(false);
  shm_.reset();  // batches under way end in the clients; further ones are told to go
  const auto deadline = std::chrono::system_clock::now() + grace;
  // Shutdown waits for every connection, and idle clients may not look at theirs for seconds; once
  // the last call is over those that stayed are closed.
  std::future<void> down =
      std::async(std::launch::async, [this, deadline] { server_->Shutdown(deadline); });
  calls_->WaitUntilNone(deadline);
  while (down.wait_for(kGoodbye) != std::future_status::ready) {
    grpc_server_cancel_all_calls(server_->c_server());
  }
  server_->Wait();
  server_.reset();
  for (const ListenAddress& address : config_.listen) {
    if (address.is_unix()) unlink(address.unix_path.c_str());
  }
}

Engramd::~Engramd() { Drain(std::chrono::milliseconds(0)); }

}  // namespace engram
