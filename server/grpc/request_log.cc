#include "server/grpc/request_log.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/quote_for_message.h"

namespace engram {
namespace {

// "00-" trace id of 32 digits "-" parent id of 16 "-" flags of 2.
constexpr absl::string_view kForm = "xx-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";

bool HasForm(absl::string_view text) {
  if (text.size() != kForm.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (kForm[i] == '-' ? c != '-' : !absl::ascii_isxdigit(c)) return false;
  }
  return true;
}

}  // namespace

std::string TraceparentOf(const grpc::ServerContextBase& context) {
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find("traceparent");
  if (found == metadata.end()) return {};
  const absl::string_view text(found->second.data(), found->second.size());
  return HasForm(text) ? std::string(text) : std::string();
}

bool RequestLog::MayWrite(uint64_t most) {
  const MonotonicTime now = clock_.Now();
  if (now - second_ >= absl::Seconds(1)) {
    if (left_out_ > 0) log_->warn("{} lines of lookups were left out", left_out_);
    second_ = now;
    lines_ = 0;
    left_out_ = 0;
  }
  if (lines_ < most) {
    ++lines_;
    return true;
  }
  ++left_out_;
  return false;
}

void RequestLog::Ended(Path path, const grpc::ServerContextBase& context, uint64_t batch_id,
                       const absl::Status& status, uint64_t rows, std::chrono::nanoseconds took) {
  ++requests_;
  const bool debug = log_->should_log(spdlog::level::debug);
  if (status.ok() && !debug) return;
  if (!MayWrite(debug ? kDebugLinesPerSecond : kLinesPerSecond)) return;
  const std::string traceparent = TraceparentOf(context);
  std::string line =
      absl::StrCat("lookup ", loop_, "-", requests_, " ", kPathNames[static_cast<size_t>(path)],
                   " from ", QuoteForMessage(context.peer()), " batch ", batch_id, " ",
                   absl::StatusCodeToString(status.code()), " in ",
                   std::chrono::duration_cast<std::chrono::microseconds>(took).count(), " us");
  if (!traceparent.empty()) absl::StrAppend(&line, " traceparent ", traceparent);
  if (status.ok()) {
    log_->debug("{}, {} rows", line, rows);
  } else {
    log_->info("{}: {}", line, QuoteForMessage(status.message()));
  }
}

}  // namespace engram
