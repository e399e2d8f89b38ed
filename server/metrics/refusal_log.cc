#include "server/metrics/refusal_log.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "memstore/base/quote_for_message.h"

namespace engram {
namespace {

// "ipv4:10.0.0.7:51234" as "ipv4:10.0.0.7": a client that tries again has another port.
absl::string_view WithoutPort(absl::string_view peer) {
  if (!absl::StartsWith(peer, "ipv4:") && !absl::StartsWith(peer, "ipv6:")) return peer;
  const size_t colon = peer.rfind(':');
  const absl::string_view port = peer.substr(colon + 1);
  const bool is_port = !port.empty() && std::all_of(port.begin(), port.end(), [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c));
  });
  return is_port ? peer.substr(0, colon) : peer;
}

}  // namespace

bool RefusalLog::MayAdd(MonotonicTime now) {
  MutexLock lock(mutex_);
  if (now - second_ >= absl::Seconds(1)) {
    second_ = now;
    added_ = 0;
  }
  return added_++ < kMostPerSecond;
}

void RefusalLog::Add(absl::string_view way, absl::string_view reason, absl::string_view peer,
                     absl::string_view message) {
  const MonotonicTime now = clock_->Now();
  if (!MayAdd(now)) return;
  const std::string who = QuoteForMessage(WithoutPort(peer));
  std::string told = QuoteForMessage(message);
  MutexLock lock(mutex_);
  const auto same = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return entry.refusal.way == way && entry.refusal.reason == reason && entry.refusal.peer == who;
  });
  if (same != entries_.end()) {
    entries_.splice(entries_.begin(), entries_, same);
    ++same->refusal.count;
  } else {
    Entry& entry = entries_.emplace_front();
    entry.refusal.way = std::string(way);
    entry.refusal.reason = std::string(reason);
    entry.refusal.peer = who;
    if (entries_.size() > kMost) entries_.pop_back();
  }
  entries_.front().when = now;
  entries_.front().refusal.message = std::move(told);
}

std::vector<RecentRefusal> RefusalLog::Recent() const {
  const MonotonicTime now = clock_->Now();
  std::vector<RecentRefusal> recent;
  MutexLock lock(mutex_);
  recent.reserve(entries_.size());
  for (const Entry& entry : entries_) {
    recent.push_back(entry.refusal);
    recent.back().ago = now - entry.when;
  }
  return recent;
}

}  // namespace engram
