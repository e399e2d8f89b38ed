#include "memstore/table/linked_rows.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <initializer_list>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "memstore/base/check.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/sha256.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"
#include "memstore/table/side_file.h"

namespace engram {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

// Of the body, for readers of later versions.
constexpr uint64_t kLinksVersion = 1;
// As Linux bounds a path.
constexpr size_t kMaxPathBytes = 4096;
constexpr size_t kSha256Digits = 64;
constexpr uint64_t kReadBytes = 1u << 20;
constexpr size_t kMaxPlacesSaid = 4;
constexpr char kFix[] =
    "link the checkpoint again (engram pack --link), or pack it (engram pack --checkpoint)";

absl::StatusOr<std::string> HeaderDigest(const FileDescriptor& file, const std::string& path,
                                         uint64_t header_bytes) {
  Sha256 digest;
  std::string bytes;
  for (uint64_t at = 0; at < header_bytes; at += bytes.size()) {
    bytes.resize(std::min(kReadBytes, header_bytes - at));
    ENGRAM_RETURN_IF_ERROR(
        ReadFully(file, at, {reinterpret_cast<std::byte*>(bytes.data()), bytes.size()}, path));
    digest.Update(bytes);
  }
  return digest.FinishHex();
}

int64_t ModifiedNs(const struct stat& stat) {
  constexpr int64_t kNsPerSecond = 1'000'000'000;
  return int64_t{stat.st_mtim.tv_sec} * kNsPerSecond + stat.st_mtim.tv_nsec;
}

ordered_json FileJson(const LinkedFile& file) {
  ordered_json out = {
      {"path", file.path}, {"bytes", file.bytes}, {"modified_ns", file.modified_ns}};
  if (file.header_bytes > 0) {
    out["header_bytes"] = file.header_bytes;
    out["header_sha256"] = file.header_sha256;
  }
  return out;
}

// The object and list that a body is, member by member; each complaint says where it stands.
class LinksReader {
 public:
  LinksReader(absl::string_view source, const Manifest& manifest)
      : source_(source), manifest_(manifest) {}

  absl::StatusOr<LinkedRows> Read(const json& body);

 private:
  absl::Status Wrong(absl::string_view where, absl::string_view what) const {
    return absl::DataLossError(absl::StrCat(source_, ": ", where, " ", what, "; ", kFix));
  }
  // An object with these members and no others.
  absl::Status CheckMembers(const json& object, absl::string_view where,
                            std::initializer_list<const char*> members) const;
  absl::StatusOr<uint64_t> Number(const json& value, absl::string_view where, uint64_t least,
                                  uint64_t most) const;
  absl::StatusOr<LinkedFile> ReadFile(const json& file, const std::string& where) const;
  absl::StatusOr<RowPart> ReadPart(const json& part, const std::string& where,
                                   const LayerTableSpec& layer) const;
  absl::StatusOr<RowPiece> ReadPiece(const json& piece, const std::string& where,
                                     uint32_t row_bytes, uint64_t rows_left) const;
  absl::StatusOr<LinkedLayer> ReadLayer(const json& layer, const std::string& where,
                                        const LayerTableSpec& spec) const;

  const absl::string_view source_;
  const Manifest& manifest_;
  LinkedRows links_;
};

absl::Status LinksReader::CheckMembers(const json& object, absl::string_view where,
                                       std::initializer_list<const char*> members) const {
  if (!object.is_object()) return Wrong(where, "is no object");
  for (const char* member : members) {
    if (!object.contains(member)) return Wrong(where, absl::StrCat("lacks \"", member, "\""));
  }
  if (object.size() == members.size()) return absl::OkStatus();
  return Wrong(where, "has a member that this version does not know");
}

absl::StatusOr<uint64_t> LinksReader::Number(const json& value, absl::string_view where,
                                             uint64_t least, uint64_t most) const {
  // Whole numbers from 0 on are unsigned to the parser, and nothing else is.
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number >= least && number <= most) return number;
  }
  return Wrong(where, absl::StrCat("is no whole number from ", least, " to ", most));
}

absl::StatusOr<LinkedFile> LinksReader::ReadFile(const json& file, const std::string& where) const {
  const bool has_header = file.is_object() && file.contains("header_bytes");
  ENGRAM_RETURN_IF_ERROR(
      has_header ? CheckMembers(file, where,
                                {"path", "bytes", "modified_ns", "header_bytes", "header_sha256"})
                 : CheckMembers(file, where, {"path", "bytes", "modified_ns"}));
  LinkedFile out;
  if (file["path"].is_string()) out.path = file["path"].get<std::string>();
  if (!absl::StartsWith(out.path, "/") || out.path.size() > kMaxPathBytes ||
      out.path.find('\0') != std::string::npos) {
    return Wrong(where, "has no absolute path");
  }
  const uint64_t most = std::numeric_limits<int64_t>::max();
  ENGRAM_ASSIGN_OR_RETURN(out.bytes, Number(file["bytes"], where + ".bytes", 0, most));
  const json& modified = file["modified_ns"];
  if (!modified.is_number_integer() ||
      (modified.is_number_unsigned() && modified.get<uint64_t>() > most)) {
    return Wrong(where + ".modified_ns", "is no whole number of 64 bits");
  }
  out.modified_ns = modified.get<int64_t>();
  if (!has_header) return out;
  ENGRAM_ASSIGN_OR_RETURN(out.header_bytes, Number(file["header_bytes"], where + ".header_bytes", 1,
                                                   std::min(kMaxLinkedHeaderBytes, out.bytes)));
  const json& digest = file["header_sha256"];
  if (digest.is_string()) out.header_sha256 = digest.get<std::string>();
  const bool is_digest =
      std::all_of(out.header_sha256.begin(), out.header_sha256.end(),
                  [](char c) { return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f'); });
  if (out.header_sha256.size() == kSha256Digits && is_digest) return out;
  return Wrong(where + ".header_sha256", "is no SHA-256");
}

absl::StatusOr<RowPiece> LinksReader::ReadPiece(const json& piece, const std::string& where,
                                                uint32_t row_bytes, uint64_t rows_left) const {
  if (!piece.is_array() || piece.size() != 3) return Wrong(where, "is not [file, offset, rows]");
  if (links_.files.empty() || rows_left == 0) return Wrong(where, "is one more than there can be");
  ENGRAM_ASSIGN_OR_RETURN(const uint64_t number,
                          Number(piece[0], where + "[0]", 0, links_.files.size() - 1));
  const LinkedFile& file = links_.files[number];
  RowPiece out;
  out.file = file.path;
  ENGRAM_ASSIGN_OR_RETURN(out.offset, Number(piece[1], where + "[1]", 0, file.bytes));
  // Both factors are bounded by the manifest's checks: 2^40 rows of 4096 bytes.
  ENGRAM_ASSIGN_OR_RETURN(out.rows, Number(piece[2], where + "[2]", 1, rows_left));
  if (out.rows * row_bytes <= file.bytes - out.offset) return out;
  return Wrong(where, absl::StrCat("ends behind its file, which has ", file.bytes, " bytes"));
}

absl::StatusOr<RowPart> LinksReader::ReadPart(const json& part, const std::string& where,
                                              const LayerTableSpec& layer) const {
  ENGRAM_RETURN_IF_ERROR(CheckMembers(part, where, {"row_bytes", "pieces"}));
  RowPart out;
  ENGRAM_ASSIGN_OR_RETURN(const uint64_t row_bytes,
                          Number(part["row_bytes"], where + ".row_bytes", 1, layer.row_bytes));
  out.row_bytes = static_cast<uint32_t>(row_bytes);
  const json& pieces = part["pieces"];
  if (!pieces.is_array()) return Wrong(where + ".pieces", "is no list");
  RowId row = 0;
  for (const json& piece : pieces) {
    const std::string at = absl::StrCat(where, ".pieces[", out.pieces.size(), "]");
    ENGRAM_ASSIGN_OR_RETURN(RowPiece read, ReadPiece(piece, at, out.row_bytes, layer.rows - row));
    read.first_row = row;
    row += read.rows;
    out.pieces.push_back(std::move(read));
  }
  if (row == layer.rows) return out;
  return Wrong(where + ".pieces", absl::StrCat("have ", row, " rows, the layer has ", layer.rows));
}

absl::StatusOr<LinkedLayer> LinksReader::ReadLayer(const json& layer, const std::string& where,
                                                   const LayerTableSpec& spec) const {
  ENGRAM_RETURN_IF_ERROR(CheckMembers(layer, where, {"layer", "parts"}));
  LinkedLayer out;
  out.layer = spec.layer;
  ENGRAM_RETURN_IF_ERROR(Number(layer["layer"], where + ".layer", spec.layer, spec.layer).status());
  const json& parts = layer["parts"];
  // A part has a byte of each row at least.
  if (!parts.is_array() || parts.empty() || parts.size() > kMaxRowParts) {
    return Wrong(where + ".parts",
                 absl::StrCat("is no list of the 1 to ", kMaxRowParts, " parts of a row"));
  }
  for (const json& part : parts) {
    const std::string at = absl::StrCat(where, ".parts[", out.rows.parts.size(), "]");
    ENGRAM_ASSIGN_OR_RETURN(RowPart read, ReadPart(part, at, spec));
    out.rows.parts.push_back(std::move(read));
  }
  const uint32_t row_bytes = out.rows.RowBytes();
  if (row_bytes == spec.row_bytes) return out;
  return Wrong(
      where, absl::StrCat("has rows of ", row_bytes, " bytes, the manifest says ", spec.row_bytes));
}

absl::StatusOr<LinkedRows> LinksReader::Read(const json& body) {
  ENGRAM_RETURN_IF_ERROR(CheckMembers(body, "the body", {"version", "files", "layers"}));
  ENGRAM_RETURN_IF_ERROR(Number(body["version"], "version", kLinksVersion, kLinksVersion).status());
  if (!body["files"].is_array()) return Wrong("files", "is no list");
  std::set<std::string> paths;  // each is looked at once, and its header read once
  for (const json& file : body["files"]) {
    const std::string where = absl::StrCat("files[", links_.files.size(), "]");
    ENGRAM_ASSIGN_OR_RETURN(LinkedFile read, ReadFile(file, where));
    if (!paths.insert(read.path).second) return Wrong(where, "is listed twice");
    links_.files.push_back(std::move(read));
  }
  const json& layers = body["layers"];
  if (!layers.is_array() || layers.size() != manifest_.layers.size()) {
    return Wrong("layers",
                 absl::StrCat("is no list of the manifest's ", manifest_.layers.size(), " layers"));
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    ENGRAM_ASSIGN_OR_RETURN(LinkedLayer read, ReadLayer(layers[i], absl::StrCat("layers[", i, "]"),
                                                        manifest_.layers[i]));
    links_.layers.push_back(std::move(read));
  }
  return std::move(links_);
}

// "2026-11-29 23:15:12.060885924 UTC"
std::string DateOf(int64_t unix_ns) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%E9S UTC", absl::FromUnixNanos(unix_ns),
                          absl::UTCTimeZone());
}

absl::Status Changed(const LinkedFile& file, absl::string_view what) {
  return absl::FailedPreconditionError(absl::StrCat(
      QuotePathForMessage(file.path),
      ", which the table set takes rows from, changed since it was linked: ", what, "; ", kFix));
}

absl::Status CheckLinkedFile(const LinkedFile& file) {
  struct stat stat;
  if (::stat(file.path.c_str(), &stat) != 0) {
    if (errno != ENOENT && errno != ENOTDIR) return PosixError("look at", file.path);
    return absl::NotFoundError(
        absl::StrCat(QuotePathForMessage(file.path),
                     ", which the table set takes rows from, is not there: if the checkpoint was "
                     "moved, move it back, or ",
                     kFix));
  }
  if (!S_ISREG(stat.st_mode)) return Changed(file, "it is no regular file");
  const auto bytes = static_cast<uint64_t>(stat.st_size);
  if (bytes != file.bytes) {
    return Changed(file, absl::StrCat("it has ", bytes, " bytes, and had ", file.bytes));
  }
  if (ModifiedNs(stat) != file.modified_ns) {
    return Changed(file, absl::StrCat("it was modified at ", DateOf(ModifiedNs(stat)),
                                      ", and before at ", DateOf(file.modified_ns)));
  }
  if (file.header_bytes == 0) return absl::OkStatus();
  ENGRAM_ASSIGN_OR_RETURN(const FileDescriptor open, OpenFile(file.path, O_RDONLY | O_NONBLOCK));
  ENGRAM_ASSIGN_OR_RETURN(const std::string digest,
                          HeaderDigest(open, file.path, file.header_bytes));
  if (digest == file.header_sha256) return absl::OkStatus();
  return Changed(file,
                 absl::StrCat("its header (bytes 0..", file.header_bytes - 1, ") has the SHA-256 ",
                              digest, ", and had ", file.header_sha256));
}

}  // namespace

absl::StatusOr<LinkedFile> LookAtLinkedFile(const std::string& path, uint64_t header_bytes) {
  ENGRAM_CHECK(absl::StartsWith(path, "/"), "a set is linked to a file that is no absolute path");
  ENGRAM_ASSIGN_OR_RETURN(const FileDescriptor file, OpenFile(path, O_RDONLY | O_NONBLOCK));
  struct stat stat;
  if (fstat(file.get(), &stat) != 0) return PosixError("look at", path);
  LinkedFile out;
  out.path = path;
  ENGRAM_ASSIGN_OR_RETURN(out.bytes, RegularFileBytes(file, path));
  out.modified_ns = ModifiedNs(stat);
  if (header_bytes == 0) return out;
  out.header_bytes = header_bytes;
  ENGRAM_ASSIGN_OR_RETURN(out.header_sha256, HeaderDigest(file, path, header_bytes));
  return out;
}

absl::StatusOr<std::string> LinksBody(const LinkedRows& links) {
  ordered_json files = ordered_json::array();
  std::map<std::string, size_t> numbers;
  for (const LinkedFile& file : links.files) {
    const bool is_new = numbers.emplace(file.path, numbers.size()).second;
    ENGRAM_CHECK(is_new, "a file is listed twice");
    files.push_back(FileJson(file));
  }
  ordered_json layers = ordered_json::array();
  for (const LinkedLayer& layer : links.layers) {
    ordered_json parts = ordered_json::array();
    for (const RowPart& part : layer.rows.parts) {
      ordered_json pieces = ordered_json::array();
      for (const RowPiece& piece : part.pieces) {
        const auto file = numbers.find(piece.file);
        ENGRAM_CHECK(file != numbers.end(), "a piece of rows lies in a file that is not listed");
        pieces.push_back({file->second, piece.offset, piece.rows});
      }
      parts.push_back({{"row_bytes", part.row_bytes}, {"pieces", std::move(pieces)}});
    }
    layers.push_back({{"layer", layer.layer}, {"parts", std::move(parts)}});
  }
  const ordered_json body = {
      {"version", kLinksVersion}, {"files", std::move(files)}, {"layers", std::move(layers)}};
  std::string text;
  try {
    text = absl::StrCat(body.dump(), "\n");
  } catch (const json::type_error&) {
    return absl::InvalidArgumentError(
        "the path of a file of the checkpoint is no UTF-8, and links are written as JSON: rename "
        "it, or pack the checkpoint (engram pack --checkpoint)");
  }
  if (text.size() <= kMaxLinksBytes) return text;
  return absl::ResourceExhaustedError(absl::StrCat(
      "the rows lie in so many pieces that the links to them take ", text.size(),
      " bytes, more than ", kMaxLinksBytes, ": pack the checkpoint (engram pack --checkpoint)"));
}

absl::StatusOr<LinkedRows> ParseLinks(absl::string_view body, absl::string_view source,
                                      const Manifest& manifest) {
  const json parsed = json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) {
    return absl::DataLossError(absl::StrCat(source, " holds no JSON; ", kFix));
  }
  return LinksReader(source, manifest).Read(parsed);
}

absl::StatusOr<std::optional<LinkedRows>> TakeLinkedRows(const std::string& directory,
                                                         const Manifest& manifest,
                                                         SideFiles& side_files) {
  const std::optional<std::string> body = std::exchange(side_files.links_body, std::nullopt);
  if (!body) return std::nullopt;
  ENGRAM_ASSIGN_OR_RETURN(LinkedRows links,
                          ParseLinks(*body, JoinPath(directory, kLinksFile), manifest));
  return links;
}

absl::Status CheckLinkedFiles(const LinkedRows& links) {
  for (const LinkedFile& file : links.files) ENGRAM_RETURN_IF_ERROR(CheckLinkedFile(file));
  return absl::OkStatus();
}

std::string WhereLinked(const JoinedRows& rows, RowId first_row, RowId end_row) {
  std::string text;
  size_t places = 0;
  for (const RowPart& part : rows.parts) {
    for (const RowPiece& piece : part.pieces) {
      const RowId begin = std::max(first_row, piece.first_row);
      const RowId end = std::min(end_row, piece.first_row + piece.rows);
      if (begin >= end || ++places > kMaxPlacesSaid) continue;
      const uint64_t at = piece.offset + (begin - piece.first_row) * part.row_bytes;
      absl::StrAppend(&text, text.empty() ? "" : " and ", QuotePathForMessage(piece.file),
                      " (bytes ", at, "..", at + (end - begin) * part.row_bytes - 1, ")");
    }
  }
  if (places > kMaxPlacesSaid) {
    absl::StrAppend(&text, " and ", places - kMaxPlacesSaid, " other places");
  }
  return text;
}

std::vector<std::string> LinkedFolders(const LinkedRows& links) {
  std::set<std::string> folders;
  for (const LinkedFile& file : links.files) {
    const size_t name = file.path.rfind('/');
    folders.insert(name == 0 ? "/" : file.path.substr(0, name));
  }
  return {folders.begin(), folders.end()};
}

}  // namespace engram
