#!/usr/bin/env bash
# ./run check [WORD]...: all checks, or those named, the fast ones first.
#
#   commits  subjects of commits            sizes   functions and files are short
#   links    what pages name is there       habits  no direct clock calls, no locks that clang does not check
#   format   clang-format                   locks   clang's -Wthread-safety
#   tidy     clang-tidy                     asan    the tests under ASan and UBSan
#                                           tsan    the core's tests under TSan
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
all=(commits links sizes habits format locks tidy asan tsan)
parts=("${@:-${all[@]}}")
say() { printf '== %s\n' "$*"; }

# Generated headers and every source's flags, once.
sources_are_known() {
  [ -z "${known:-}" ] || return 0
  local generated
  mapfile -t generated < <(bazel query --noshow_progress 'kind(genrule, //...)' 2>/dev/null)
  bazel build --noshow_progress "${generated[@]}" >/dev/null 2>&1 ||
    { echo "check: code cannot be generated: ./run build says why" >&2; return 1; }
  python3 tools/compile_commands.py
  known=1
}

check_tidy() {
  # Benchmarks are not served.
  bazel build --keep_going --noshow_progress --aspects=//third_party/bazel:tidy.bzl%tidy --output_groups=tidy -- //...
}

for part in "${parts[@]}"; do
  case "$part" in
    commits) say "subjects of commits"; python3 tools/check_commits.py ;;
    links) say "links of pages"; python3 tools/check_links.py ;;
    sizes) say "sizes of functions and files"; python3 tools/check_sizes.py ;;
    habits) say "clocks and locks"; python3 tools/check_habits.py ;;
    format) say "clang-format"; git ls-files '*.h' '*.cc' '*.cu' | xargs -r clang-format --dry-run -Werror ;;
    locks) say "locks, by clang's thread-safety analysis"; sources_are_known; python3 tools/check_locks.py ;;
    tidy) say "clang-tidy"; check_tidy ;;
    asan) say "tests under AddressSanitizer and UndefinedBehaviorSanitizer"
      python3 tools/test_summary.py --config=asan_ubsan //... ;;
    tsan) say "the core's tests under ThreadSanitizer"
      python3 tools/test_summary.py --config=tsan --test_tag_filters=tsan --build_tests_only //... ;;
    *) echo "check: '$part' is none of: ${all[*]}" >&2; exit 2 ;;
  esac
done
say "all checks passed"
