// How a client proves itself to engramd, and knows engramd, over gRPC (which RDMA is set up over,
// too). Values; AttachOptions carries them.
#pragma once

#include <string>
#include <vector>

namespace engram {

// Messages name a field by its flag of the commands: tls_ca is --tls-ca.
struct SecurityOptions {
  // PEM. The authority that engramd's certificate is of: with it the client speaks TLS. Read again
  // when it changes, as are the two below; while one can't be used, what was read before is.
  std::string tls_ca = {};
  // PEM, both or none: this client's certificate (chain) and key, where engramd wants one.
  std::string tls_cert = {};
  std::string tls_key = {};
  // The name that engramd's certificate is for, where it is not the target's host.
  std::string tls_server_name = {};
  // Where there are any: who the certificate has to be of, in place of the target's host and
  // tls_server_name, which are then not held against it. One of these has to be among its
  // alternative names: DNS:NAME (or NAME alone), URI:URI, or URI:scheme://host/path/* for all that
  // begin so. For stores whose addresses are no names: those that etcd has, say.
  std::vector<std::string> tls_identities = {};
  // A file with one bearer token in it. Read again when it changes. Without TLS it is sent to this
  // machine's own addresses alone.
  std::string token_file = {};
  // W3C Trace Context, sent with every call: engramd logs it with lookups that fail. No secret, but
  // it goes the same way.
  std::string traceparent = {};

  bool tls() const { return !tls_ca.empty(); }
};

}  // namespace engram
