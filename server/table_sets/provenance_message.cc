#include "server/table_sets/provenance_message.h"

namespace engram {

void SetProvenance(const Provenance& provenance, v1::Provenance* message) {
  message->set_source_kind(provenance.source_kind);
  message->set_path(provenance.path);
  message->set_repository(provenance.repository);
  message->set_revision(provenance.revision);
  message->set_index_sha256(provenance.index_sha256);
  message->set_headers_sha256(provenance.headers_sha256);
  message->set_stored_constants(provenance.stored_constants);
  message->set_packer_version(provenance.packer_version);
  message->set_packed_at(FormatPackedAt(provenance.packed_at));
}

}  // namespace engram
