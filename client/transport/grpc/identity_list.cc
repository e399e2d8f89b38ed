#include "client/transport/grpc/identity_list.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "memstore/base/quote_for_message.h"

namespace engram {
namespace {

constexpr absl::string_view kDns = "DNS:";
constexpr absl::string_view kUri = "URI:";
// Of a stranger's certificate, those that a message names.
constexpr size_t kNamesShown = 8;

absl::Status NoIdentity(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("\"", QuoteForMessage(text), "\" is no identity of a certificate: ", why,
                   "; write DNS:NAME, URI:URI or URI:scheme://host/path/*"));
}

// Whose the URIs are that begin so is said: "spiffe://prod*" would take spiffe://prod.example.
bool SaysWhose(absl::string_view prefix) {
  const size_t scheme = prefix.find("://");
  if (scheme == absl::string_view::npos || !absl::EndsWith(prefix, "/")) return false;
  const size_t host = scheme + 3;
  const size_t end = prefix.find('/', host);
  return end != absl::string_view::npos && end > host;
}

class Verifier final : public grpc::experimental::ExternalCertificateVerifier {
 public:
  explicit Verifier(IdentityList identities) : identities_(std::move(identities)) {}

  bool Verify(grpc::experimental::TlsCustomVerificationCheckRequest* request,
              std::function<void(grpc::Status)>, grpc::Status* status) override {
    std::vector<std::string> names;
    for (const grpc::string_ref& name : request->dns_names()) {
      if (identities_.HasDns({name.data(), name.size()})) return true;
      names.push_back(absl::StrCat(kDns, absl::string_view(name.data(), name.size())));
    }
    for (const grpc::string_ref& uri : request->uri_names()) {
      if (identities_.HasUri({uri.data(), uri.size()})) return true;
      names.push_back(absl::StrCat(kUri, absl::string_view(uri.data(), uri.size())));
    }
    const bool shows_all = names.size() <= kNamesShown;
    if (!shows_all) names.resize(kNamesShown);
    *status = grpc::Status(
        grpc::StatusCode::UNAUTHENTICATED,
        absl::StrCat("its certificate is of ",
                     names.empty() ? "nobody" : QuoteForMessage(absl::StrJoin(names, ", ")),
                     shows_all ? "" : " and others", ", ", kNoIdentity,
                     " here: ", identities_.Text()));
    return true;  // done at once
  }
  void Cancel(grpc::experimental::TlsCustomVerificationCheckRequest*) override {}

 private:
  const IdentityList identities_;
};

}  // namespace

absl::StatusOr<IdentityList> IdentityList::Create(absl::Span<const std::string> names) {
  if (names.size() > kMost) {
    return absl::InvalidArgumentError(
        absl::StrCat(names.size(), " identities of certificates: ", kMost, " at most"));
  }
  IdentityList list;
  for (const std::string& name : names) {
    absl::string_view text = name;
    const bool is_uri = absl::ConsumePrefix(&text, kUri);
    if (!is_uri) absl::ConsumePrefix(&text, kDns);
    if (text.empty() || text.size() > kMaxBytes ||
        !std::all_of(text.begin(), text.end(), absl::ascii_isgraph)) {
      return NoIdentity(name, absl::StrCat("1 to ", kMaxBytes, " letters without blanks"));
    }
    if (!is_uri) {
      if (absl::EndsWith(text, "*") || absl::StrContains(text, ':')) {
        return NoIdentity(name, "the end of a DNS name says whose it is");
      }
      list.dns_.push_back(absl::AsciiStrToLower(text));
    } else if (!absl::ConsumeSuffix(&text, "*")) {
      list.uris_.emplace_back(text);
    } else if (SaysWhose(text)) {
      list.uri_prefixes_.emplace_back(text);
    } else {
      return NoIdentity(name, "a pattern says whose URIs it takes, up to a slash");
    }
  }
  return list;
}

bool IdentityList::HasDns(absl::string_view name) const {
  return std::any_of(dns_.begin(), dns_.end(), [&](const std::string& listed) {
    return absl::EqualsIgnoreCase(listed, name);
  });
}

bool IdentityList::HasUri(absl::string_view uri) const {
  return std::find(uris_.begin(), uris_.end(), uri) != uris_.end() ||
         std::any_of(uri_prefixes_.begin(), uri_prefixes_.end(),
                     [&](const std::string& prefix) { return absl::StartsWith(uri, prefix); });
}

std::string IdentityList::Text() const {
  std::vector<std::string> all;
  all.reserve(dns_.size() + uris_.size() + uri_prefixes_.size());
  for (const std::string& name : dns_) all.push_back(absl::StrCat(kDns, name));
  for (const std::string& uri : uris_) all.push_back(absl::StrCat(kUri, uri));
  for (const std::string& prefix : uri_prefixes_) all.push_back(absl::StrCat(kUri, prefix, "*"));
  return absl::StrJoin(all, ", ");
}

std::shared_ptr<grpc::experimental::CertificateVerifier> VerifierOf(IdentityList identities) {
  return grpc::experimental::ExternalCertificateVerifier::Create<Verifier>(std::move(identities));
}

}  // namespace engram
