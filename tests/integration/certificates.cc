#include "tests/integration/certificates.h"

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/integration/programs.h"

namespace engram::integration {
namespace {

constexpr char kNewKey[] = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

void Run(const std::string& line) {
  const Outcome outcome = RunShell(line);
  EXPECT_EQ(outcome.exit_code, 0) << line << "\n" << outcome.err;
}

CertificateFiles FilesOf(const std::string& directory, const std::string& name) {
  return {.cert = absl::StrCat(directory, "/", name, ".crt"),
          .key = absl::StrCat(directory, "/", name, ".key")};
}

}  // namespace

CertificateFiles MakeAuthority(const std::string& directory, const std::string& name) {
  CertificateFiles files = FilesOf(directory, name);
  Run(absl::StrCat("openssl req -x509 ", kNewKey, " -days 30 -subj /CN=", name, " -keyout ",
                   files.key, " -out ", files.cert));
  return files;
}

CertificateFiles MakeCertificate(const CertificateFiles& authority, const std::string& directory,
                                 const std::string& name, const std::string& alternative_names,
                                 int days) {
  CertificateFiles files = FilesOf(directory, name);
  const std::string request = absl::StrCat(directory, "/", name, ".csr");
  Run(absl::StrCat("openssl req ", kNewKey, " -subj /CN=", name, " -keyout ", files.key, " -out ",
                   request));
  Run(absl::StrCat("openssl x509 -req -in ", request, " -CA ", authority.cert, " -CAkey ",
                   authority.key, " -CAcreateserial -days ", days,
                   " -extfile <(echo subjectAltName=", alternative_names, ") -out ", files.cert));
  return files;
}

}  // namespace engram::integration
