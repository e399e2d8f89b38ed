#!/usr/bin/env bash
# ./run bench: every benchmark, one after the other, each with its command line above its table.
# A bar that is missed is named at the end, and the exit status is 1.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."

missed=()
section() { printf '\n## %s\n\n' "$1"; }
# show COMMAND...: runs it under its own command line; a failure is a bar missed.
show() {
  printf '$ %s\n' "$*"
  "$@" || missed+=("$*")
}

printf '%s, %s cores, %s GiB, Linux %s, %s\n' "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" \
  "$(nproc)" "$(awk '/MemTotal/ { print int($2 / 1048576 + 0.5) }' /proc/meminfo)" "$(uname -r)" "$(date -u +%F)"
bazel build --noshow_progress //memstore/... //tests/bench/... 2>/dev/null || exit 1

section "Addressing: ids to row ids on one core, beside the plain version"
show bazel-bin/memstore/addressing/addresser_benchmark --benchmark_filter='deepseek-v4.1|kernel' \
  --benchmark_min_time=0.3 --benchmark_repetitions=5 --benchmark_report_aggregates_only=true \
  --benchmark_enable_random_interleaving=true

section "Gather: ours beside memcpy and the best hand-tuned loop"
show bazel-bin/tests/bench/gather_compare

section "Loading a table set, beside fio on the same cold files"
show tests/bench/load_vs_fio.sh

section "Packing a checkpoint, beside cp and sync of the same cold files"
show tests/bench/pack_vs_cp.py

section "Shared memory: embedded, mapped and ring on both kinds of pages"
show tests/bench/shm_pages.sh

section "Overload: three times the capacity"
show tests/bench/overload/overload.py --turns 3

section "Looking for events before sleeping: the defaults beside fixed settings"
bazel build --noshow_progress //server:engramd //client/cli:engram 2>/dev/null || exit 1
show tests/bench/spin/spin_settings.py --engramd bazel-bin/server/engramd --engram bazel-bin/client/cli/engram

section "Worker side: what a step's stream waits for rows, one core computing, one prefetching"
bazel build --noshow_progress //gpu/bench:exposed_wait_benchmark 2>/dev/null || exit 1
show bazel-bin/gpu/bench/exposed_wait_benchmark --benchmark_min_time=1 --benchmark_repetitions=5 \
  --benchmark_report_aggregates_only=true

section "Lookups: our paths beside their ceilings, and beside what one could use instead"
alternatives=(//tests/bench/compare:{redis,memcached,lmdb,rocksdb}_contender)
bazel build --noshow_progress "${alternatives[@]}" 2>/dev/null || exit 1
show tests/bench/compare/compare.py --svg "${TMPDIR:-/tmp}/engram-compare.svg" --json "${TMPDIR:-/tmp}/engram-compare.jsonl"

printf '\n'
if [ ${#missed[@]} -gt 0 ]; then
  printf 'bars missed, or runs void, in: %s\n' "${missed[@]}"
  exit 1
fi
echo "all benchmarks ran; gather, loading, packing, overload and lookups hold their bars"
