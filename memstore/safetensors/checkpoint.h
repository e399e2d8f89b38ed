// Where the tensors of a checkpoint lie: its index and the headers of its safetensors files.
//
// A checkpoint is a directory with model.safetensors.index.json and the files it names, or without
// an index, where every *.safetensors file is read. Only the tensors that are wanted are looked at:
// of the files that the index names, those that hold none of them need not exist. Immutable after
// Open; thread-safe. Reads headers, several at a time; memory follows the wanted tensors and
// kMaxHeadersInMemory.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/safetensors/checkpoint_files.h"
#include "memstore/safetensors/header.h"

namespace engram {

class Checkpoint {
 public:
  // NOT_FOUND: no checkpoint, or the file of a wanted tensor is missing. DATA_LOSS: a file that is
  // cut off or no safetensors file, tensors that overlap. FAILED_PRECONDITION: a link that leads
  // nowhere, an unfinished download, a wanted tensor in two files. INVALID_ARGUMENT: an index that
  // is none, or has a wanted tensor twice. Each names file and, where there are any, tensors.
  static absl::StatusOr<Checkpoint> Open(const std::string& directory, const WantedTensor& wanted);

  const std::string& directory() const { return directory_; }
  // The wanted tensors that there are, by name.
  const std::map<std::string, TensorPlace>& tensors() const { return tensors_; }
  // Those that every rank of a tensor-parallel export has a part of, in the order of the ranks.
  const std::map<std::string, std::vector<TensorPlace>>& rank_parts() const { return rank_parts_; }
  // Of the files that hold wanted tensors: bytes that belong to no tensor, by path.
  const std::map<std::string, std::vector<ByteRange>>& stray() const { return stray_; }
  // The digest of the index's text; empty: there is none.
  const std::string& index_sha256() const { return index_sha256_; }
  // The digest over "NAME SHA256\n" of the headers of all files that were read, by name.
  const std::string& headers_sha256() const { return headers_sha256_; }
  // NOT_FOUND names the tensor and the checkpoint.
  absl::StatusOr<const TensorPlace*> Find(const std::string& name) const;
  // For the message of something that is not there: what was looked at, which files the numbering
  // says are missing, which file outside of the index holds a wanted tensor.
  std::string WhatWasRead(const WantedTensor& wanted) const;

 private:
  explicit Checkpoint(std::string directory) : directory_(std::move(directory)) {}
  absl::Status OpenByIndex(const std::string& index_path, absl::string_view text,
                           const WantedTensor& wanted);
  absl::Status OpenAll(const WantedTensor& wanted);
  // What of the directory, but for `but`, holds a wanted tensor: "FILE holds TENSOR", or empty.
  std::string FindElsewhere(const WantedTensor& wanted, const std::vector<std::string>& but) const;

  std::string directory_;
  std::map<std::string, TensorPlace> tensors_;
  std::map<std::string, std::vector<TensorPlace>> rank_parts_;
  std::map<std::string, std::vector<ByteRange>> stray_;
  std::string index_path_;          // empty: there is none
  std::vector<std::string> files_;  // names of those that were read
  std::string index_sha256_;
  std::string headers_sha256_;
};

}  // namespace engram
