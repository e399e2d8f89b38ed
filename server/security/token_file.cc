#include "server/security/token_file.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "memstore/base/human_units.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/sha256.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"
#include "memstore/os/thread.h"
#include "server/base/log.h"
#include "server/security/options.h"
#include "server/security/unix_identity.h"

namespace engram {
namespace {

// A change is seen by one look and acted on by the next.
constexpr absl::Duration kLookInterval = absl::Milliseconds(500);
// Ten thousand identities.
constexpr uint64_t kMaxTokenFileBytes = 1 << 20;
// What editors of another system begin a file with: a mark of UTF-8, which says nothing, and those
// of UTF-16.
constexpr absl::string_view kUtf8Mark = "\xef\xbb\xbf";
constexpr absl::string_view kUtf16Marks[] = {"\xff\xfe", "\xfe\xff"};

}  // namespace

absl::StatusOr<std::unique_ptr<TokenFile>> TokenFile::Open(const std::string& path,
                                                           std::shared_ptr<spdlog::logger> log,
                                                           Clock* clock) {
  std::unique_ptr<TokenFile> file(new TokenFile(path, std::move(log), clock));
  {
    Text text = Read(path);
    if (!text.ok()) return text.status();
    MutexLock reading(file->reading_);
    MutexLock lock(file->mutex_);
    ENGRAM_ASSIGN_OR_RETURN(file->tokens_, Parse(path, *text));
    file->used_ = *text;
    file->seen_ = *std::move(text);
  }
  ENGRAM_ASSIGN_OR_RETURN(file->thread_,
                          StartThread("token-file", [raw = file.get()] { raw->Watch(); }));
  return file;
}

TokenFile::~TokenFile() {
  {
    MutexLock lock(mutex_);
    ending_ = true;
  }
  wake_.NotifyAll();
  if (thread_.joinable()) thread_.join();
}

absl::Status TokenFile::Check(const std::string& path) {
  const Text text = Read(path);
  return text.ok() ? Parse(path, *text).status() : text.status();
}

TokenFile::Text TokenFile::Read(const std::string& path) {
  return ReadWholeFile(path, kMaxTokenFileBytes);
}

absl::StatusOr<TokenFile::Tokens> TokenFile::Parse(const std::string& path,
                                                   absl::string_view text) {
  const auto wrong = [&path](int line, const auto&... why) {
    return absl::InvalidArgumentError(absl::StrCat(path, ":", line, ": ", why...));
  };
  for (const absl::string_view mark : kUtf16Marks) {
    if (absl::StartsWith(text, mark)) {
      return wrong(1, "it is UTF-16: write it as ASCII or UTF-8");
    }
  }
  absl::ConsumePrefix(&text, kUtf8Mark);
  Tokens tokens;
  int line_number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++line_number;
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
    if (words.empty() || words[0][0] == '#') continue;
    if (words.size() != 2) return wrong(line_number, "write IDENTITY TOKEN, a token a line");
    if (IsUnixIdentity(words[0])) {
      return wrong(line_number, QuoteForMessage(words[0]),
                   " is what peers of Unix sockets are called: give the token another identity");
    }
    // The token itself is never shown.
    if (words[1].size() < kMinTokenBytes) {
      return wrong(line_number, "the token of ", QuoteForMessage(words[0]), " has less than ",
                   kMinTokenBytes, " characters: it could be guessed");
    }
    if (!tokens.emplace(Sha256Hex(words[1]), words[0]).second) {
      return wrong(line_number, "the token of ", QuoteForMessage(words[0]),
                   " is already on an earlier line");
    }
  }
  if (tokens.empty()) return wrong(1, "it has no tokens");
  return tokens;
}

std::optional<std::string> TokenFile::IdentityOf(const std::string& digest) const {
  MutexLock lock(mutex_);
  const auto token = tokens_.find(digest);
  if (token == tokens_.end()) return std::nullopt;
  return token->second;
}

absl::Status TokenFile::Refusal() const {
  MutexLock lock(mutex_);
  return refusal_;
}

void TokenFile::Watch() {
  while (true) {
    Look();
    const MonotonicTime next = clock_->After(kLookInterval);
    MutexLock lock(mutex_);
    while (!ending_ && clock_->WaitUntil(wake_, mutex_, next)) {
    }
    if (ending_) return;
  }
}

void TokenFile::Look() {
  MutexLock reading(reading_);
  const Text text = Read(path_);
  const bool settled = text == seen_;
  seen_ = text;
  if (settled) Take(text, /*asked_for=*/false);
}

void TokenFile::ReadNow() {
  MutexLock reading(reading_);
  const Text text = Read(path_);
  seen_ = text;
  Take(text, /*asked_for=*/true);
}

void TokenFile::Take(const Text& text, bool asked_for) {
  const bool changed = !text.ok() || *text != used_;
  // What was refused is not parsed again, nor told of.
  if (!asked_for && (changed ? refused_ == text : !refused_)) return;
  absl::StatusOr<Tokens> tokens = text.ok() ? Parse(path_, *text) : text.status();
  if (!tokens.ok()) return Refuse(text, tokens.status(), asked_for);
  const size_t count = tokens->size();
  refused_.reset();
  {
    MutexLock lock(mutex_);
    refusal_ = absl::OkStatus();
    if (changed) tokens_.swap(*tokens);
  }
  if (changed) {
    used_ = *text;
    version_.fetch_add(1, std::memory_order_release);
  }
  LogEvent(*log_, spdlog::level::info, "tokens_read", {{"file", path_}, {"tokens", count}},
           absl::StrCat("read ", path_, " again: ", Counted(count, "token"),
                        changed ? "" : ", unchanged"));
}

void TokenFile::Refuse(const Text& text, const absl::Status& why, bool asked_for) {
  const bool was_told = why == Refusal();
  refused_ = text;
  {
    MutexLock lock(mutex_);
    refusal_ = why;
  }
  if (was_told && !asked_for) return;
  LogEvent(*log_, spdlog::level::err, "tokens_refused",
           {{"file", path_}, {"code", absl::StatusCodeToString(why.code())}},
           absl::StrCat(why.message(), "; the tokens read before stay"));
}

}  // namespace engram
