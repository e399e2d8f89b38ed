#!/usr/bin/env bash
# tidy.sh OUT SOURCE FLAG...: clang-tidy for one source, as third_party/bazel/tidy.bzl has it; OUT is written if nothing is found.
set -euo pipefail
out=$1 source=$2
shift 2
checks=()
# Half of the time for a check that looks at every function of gtest's, and code that is no product's. What a test has is small, and
# that a value is there ASSERT_TRUE says, which clang-tidy does not follow.
[[ $source != *_test.cc ]] ||
  checks=(--checks=-performance-*,-bugprone-reserved-identifier,-bugprone-unchecked-optional-access,-bugprone-implicit-widening-of-multiplication-result,-bugprone-throwing-static-initialization,-concurrency-mt-unsafe,-clang-analyzer-*)
# The variable of a benchmark's loop is written and not read, by Google Benchmark's design; what is set up before it is not measured.
[[ $source != *_benchmark.cc ]] ||
  checks=(--checks=-clang-analyzer-deadcode.DeadStores,-performance-inefficient-vector-operation,-bugprone-implicit-widening-of-multiplication-result)
# Of g++'s flags clang refuses one, and the compiler's warnings are the build's own.
flags=()
for flag; do [ "$flag" = -fno-canonical-system-headers ] || flags+=("$flag"); done
if ! found=$(clang-tidy-22 --quiet "${checks[@]}" "$source" -- "${flags[@]}" -w -Wno-unknown-warning-option 2>&1); then
  printf '%s\n' "$found" >&2
  exit 1
fi
: >"$out"
