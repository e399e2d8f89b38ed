#include "server/grpc/request_log.h"

#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/quote_for_message.h"
#include "server/base/log.h"

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

const char* EventOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return "lookup_answered";
    case absl::StatusCode::kCancelled:
      return "lookup_cancelled";
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
      return "lookup_refused";
    default:
      return "lookup_failed";
  }
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
    if (left_out_ > 0) {
      LogEvent(*log_, spdlog::level::warn, "lines_left_out",
               {{"lines", left_out_}, {"of", "lookups"}},
               absl::StrCat(left_out_, " lines of lookups were left out"));
    }
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

void RequestLog::Ended(Path path, const grpc::ServerContextBase& context, const LookupName& name,
                       const absl::Status& status, uint64_t rows, std::chrono::nanoseconds took) {
  ++requests_;
  const bool debug = log_->should_log(spdlog::level::debug);
  if (status.ok() && !debug) return;
  if (!MayWrite(debug ? kDebugLinesPerSecond : kLinesPerSecond)) return;
  const char* const transport = kPathNames[static_cast<size_t>(path)];
  const std::string peer = QuoteForMessage(context.peer());
  const std::string request = absl::StrCat(loop_, "-", requests_);
  const std::string code = absl::StatusCodeToString(status.code());
  const std::string reason = QuoteForMessage(status.message());
  nlohmann::json fields = {{"request", request},
                           {"transport", transport},
                           {"peer", peer},
                           {"batch_id", name.batch_id},
                           {"table_set_id", QuoteForMessage(name.table_set_id)},
                           {"code", code},
                           {"seconds", std::chrono::duration<double>(took).count()}};
  std::string line = absl::StrCat(
      "lookup ", request, " ", transport, " from ", peer, " batch ", name.batch_id, " ", code,
      " in ", std::chrono::duration_cast<std::chrono::microseconds>(took).count(), " us");
  if (const std::string traceparent = TraceparentOf(context); !traceparent.empty()) {
    absl::StrAppend(&line, " traceparent ", traceparent);
    fields["traceparent"] = traceparent;
  }
  if (status.ok()) {
    fields["rows"] = rows;
    absl::StrAppend(&line, ", ", rows, " rows");
  } else {
    fields["reason"] = reason;
    absl::StrAppend(&line, ": ", reason);
  }
  LogEvent(*log_, status.ok() ? spdlog::level::debug : spdlog::level::info, EventOf(status), fields,
           line);
}

}  // namespace engram
