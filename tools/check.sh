#!/usr/bin/env bash
# ./run check: formatting, clang-tidy, the tests under ASan+UBSan, the core's tests under TSan.
# One of format|tidy|asan|tsan as argument runs that part alone.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
part=${1:-all}
wants() { [ "$part" = all ] || [ "$part" = "$1" ]; }
say() { printf '== %s\n' "$*"; }

if wants format; then
  say "clang-format"
  git ls-files '*.h' '*.cc' '*.cu' | xargs -r clang-format --dry-run -Werror
fi
if wants tidy; then
  say "clang-tidy"
  # Generated headers have to be there before anything can be read.
  bazel build //... >/dev/null 2>&1
  python3 tools/compile_commands.py
  git ls-files '*.cc' | grep -v '_benchmark\.cc$' | xargs -r -P "$(nproc)" -n 4 clang-tidy --quiet -p . 2>/dev/null
fi
if wants asan; then
  say "tests under AddressSanitizer and UndefinedBehaviorSanitizer"
  python3 tools/test_summary.py --config=asan_ubsan //...
fi
if wants tsan; then
  say "the core's tests under ThreadSanitizer"
  python3 tools/test_summary.py --config=tsan --test_tag_filters=tsan --build_tests_only //...
fi
say "all checks passed"
