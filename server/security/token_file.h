// Bearer tokens and who they are of: a file of lines "IDENTITY TOKEN", looked at again and again.
//
// As of certificates (memstore/tls/pem_watch.h), a change is acted on when two looks in a row have
// read the same: what is just being written is neither used nor complained of. What cannot be used
// is logged, once for each reason, and the tokens that were read before stay. One thread
// ("token-file") looks, by the clock. Thread-safe; what calls ask waits neither for the file,
// however long it takes to read and parse, nor for the log.
#pragma once

#include <spdlog/logger.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"

namespace engram {

class TokenFile {
 public:
  // INVALID_ARGUMENT names the line (the system's code for a file that can't be read);
  // RESOURCE_EXHAUSTED: there is no thread. `clock` outlives it.
  static absl::StatusOr<std::unique_ptr<TokenFile>> Open(const std::string& path,
                                                         std::shared_ptr<spdlog::logger> log,
                                                         Clock* clock);
  // What Open would say of the file.
  static absl::Status Check(const std::string& path);
  ~TokenFile();
  TokenFile(const TokenFile&) = delete;
  TokenFile& operator=(const TokenFile&) = delete;

  // Whose token has this SHA-256 (Sha256Hex): looking one up says nothing about the others by the
  // time it takes.
  std::optional<std::string> IdentityOf(const std::string& digest) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Changes when the tokens do. One load.
  uint64_t version() const { return version_.load(std::memory_order_acquire); }
  // Why the file is not used as it is now; OK when it is.
  absl::Status Refusal() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Reads it and acts on it at once, and logs what came of it, new or not.
  void ReadNow() ABSL_LOCKS_EXCLUDED(reading_, mutex_);

 private:
  using Tokens = absl::flat_hash_map<std::string, std::string>;  // identities by digest
  using Text = absl::StatusOr<std::string>;

  TokenFile(std::string path, std::shared_ptr<spdlog::logger> log, Clock* clock)
      : path_(std::move(path)), log_(std::move(log)), clock_(clock) {}
  static Text Read(const std::string& path);
  // INVALID_ARGUMENT: "PATH:LINE: WHAT".
  static absl::StatusOr<Tokens> Parse(const std::string& path, absl::string_view text);
  void Watch() ABSL_LOCKS_EXCLUDED(reading_, mutex_);
  void Look() ABSL_LOCKS_EXCLUDED(reading_, mutex_);
  void Take(const Text& text, bool asked_for) ABSL_EXCLUSIVE_LOCKS_REQUIRED(reading_)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Refuse(const Text& text, const absl::Status& why, bool asked_for)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(reading_) ABSL_LOCKS_EXCLUDED(mutex_);

  const std::string path_;
  const std::shared_ptr<spdlog::logger> log_;
  Clock* const clock_;
  // Held while the file is read and until what came of it is acted on: what is read later counts.
  Mutex reading_;
  std::string used_ ABSL_GUARDED_BY(reading_);             // what tokens_ were read from
  Text seen_ ABSL_GUARDED_BY(reading_);                    // by the last look
  std::optional<Text> refused_ ABSL_GUARDED_BY(reading_);  // what refusal_ is of
  mutable Mutex mutex_;
  CondVar wake_;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  Tokens tokens_ ABSL_GUARDED_BY(mutex_);
  absl::Status refusal_ ABSL_GUARDED_BY(mutex_);
  std::atomic<uint64_t> version_{0};
  std::thread thread_;
};

}  // namespace engram
