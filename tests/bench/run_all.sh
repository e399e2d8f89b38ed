#!/usr/bin/env bash
# ./run bench: every benchmark, one after the other, each with its command line above its table.
# A bar that is missed is named at the end, and the exit status is 1.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."

token_map=tests/golden/deepseek_v41_token_map.i32
token_ids=tests/golden/tokens_en_handbook.i32
scratch=$(mktemp -d "${TMPDIR:-/tmp}/engram-bench.XXXXXX")
server=
missed=()
finish() {
  [ -z "$server" ] || kill "$server" 2>/dev/null
  wait 2>/dev/null
  rm -rf "$scratch"
}
trap finish EXIT

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

section "Lookups: V4.1's shape, 48 rows of 264 bytes a token, 1 GB"
bin/engram pack --synthetic --family deepseek-v4.1-flash --rows-per-head 80000 --token-map $token_map \
  --output "$scratch/set" 2>/dev/null
bin/engramd --table-set "$scratch/set" --listen "unix:$scratch/s" --listen 127.0.0.1:17300 2>/dev/null &
server=$!
for target in "embedded:$scratch/set" "grpc:unix:$scratch/s" grpc:127.0.0.1:17300; do
  show bin/engram bench --target "$target" --token-ids $token_ids --batch-tokens 1,16,64,256,4096
done
show bin/engram bench --target "grpc:unix:$scratch/s" --token-ids $token_ids --batch-tokens 1,64 --in-flight 8

printf '\n'
if [ ${#missed[@]} -gt 0 ]; then
  printf 'bars missed, or runs void, in: %s\n' "${missed[@]}"
  exit 1
fi
echo "all benchmarks ran; gather, loading and packing hold their bars"
