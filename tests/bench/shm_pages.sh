#!/bin/sh
# Embedded, mapped and ring lookups side by side, on 4 KiB pages and on transparent huge ones.
#
#   tests/bench/shm_pages.sh [--seconds S]
#
# Sets what shared memory gets (root's to do) and restores it; elsewhere measures on what there is. The set has
# 1 GiB and is removed afterwards. Exit status 1 when it could not be measured, 2 for bad usage.
set -eu

seconds=1
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=$2; shift 2 ;;
    *) sed -n '2,8p' "$0" >&2; exit 2 ;;
  esac
done

cd "$(dirname "$0")/../.."
bazel build --noshow_progress //tests/bench:shm_compare //client/cli:engram 2>/dev/null
scratch=$(mktemp -d "${TMPDIR:-/tmp}/shm_pages.XXXXXX")
setting=/sys/kernel/mm/transparent_hugepage/shmem_enabled
before=$(sed -n 's/.*\[\(.*\)\].*/\1/p' "$setting" 2>/dev/null || true)
restore() {
  [ ! -w "$setting" ] || [ -z "$before" ] || echo "$before" >"$setting"
  rm -rf "$scratch"
}
trap restore EXIT
trap 'exit 1' INT TERM

bazel-bin/client/cli/engram pack --synthetic --family deepseek-v4.1-flash --rows-per-head 83334 \
  --token-map tests/golden/deepseek_v41_token_map.i32 --output "$scratch/set" >/dev/null
# "never" speaks of what the kernel does by itself: engramd asks it. "deny" is small pages.
for pages in deny advise; do
  if [ -w "$setting" ]; then
    echo "$pages" >"$setting"
  else
    echo "shmem_enabled stays $before: only root may set it"
  fi
  bazel-bin/tests/bench/shm_compare --table-set "$scratch/set" --seconds "$seconds"
  [ -w "$setting" ] || break
done
