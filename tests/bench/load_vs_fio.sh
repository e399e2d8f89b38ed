#!/bin/sh
# Loading a table set, checksums included, beside what fio reads from the same cold files.
#
#   tests/bench/load_vs_fio.sh [--rounds N] [--rows-per-head N] [DIR]
#
# DIR is a table set; without it one of some 4 GiB is packed to a temporary folder and removed afterwards.
# Before every run the page cache is dropped (needs root), and all take turns: fio with the best of a few
# settings, tried first; loading into memory that has been touched before, as on a machine of its own
# (load_set.cc), to which the bar applies; and loading into memory as the system gives it, which on a virtual
# machine its host may have to find first. Prints the medians and their ratios; exit status 1 when loading is
# below 0.8 of fio, 2 for bad usage, 77 when it cannot be measured.
set -eu

bar=0.8
rounds=7
rows_per_head=340000 # V4.1: 48 heads of 264-byte rows, 4.3 GB
directory=
while [ $# -gt 0 ]; do
  case $1 in
    --rounds) rounds=$2; shift 2 ;;
    --rows-per-head) rows_per_head=$2; shift 2 ;;
    -*) sed -n '2,11p' "$0" >&2; exit 2 ;;
    *) directory=$1; shift ;;
  esac
done

cd "$(dirname "$0")/../.."
command -v fio >/dev/null || { echo "load_vs_fio: fio is not installed (apt-get install fio)" >&2; exit 77; }
[ -w /proc/sys/vm/drop_caches ] || { echo "load_vs_fio: only root may drop the page cache" >&2; exit 77; }

bazel build --noshow_progress //tests/bench:load_set >&2
load_set=bazel-bin/tests/bench/load_set
scratch=$(mktemp -d "${TMPDIR:-/tmp}/load_vs_fio.XXXXXX")
trap 'rm -rf "$scratch"' EXIT INT TERM

if [ -z "$directory" ]; then
  directory=$scratch/set
  bazel build --noshow_progress //client/cli:engram >&2
  bazel-bin/client/cli/engram pack --synthetic --family deepseek-v4.1-flash --rows-per-head "$rows_per_head" \
    --token-map tests/golden/deepseek_v41_token_map.i32 --output "$directory" >&2
fi

# The shards: every file but the small ones around them.
shards=$(find "$directory" -type f -size +4M | sort | tr '\n' ':')
shards=${shards%:}
[ -n "$shards" ] || { echo "load_vs_fio: $directory holds no shard above 4 MiB" >&2; exit 77; }

cold() {
  sync
  echo 3 >/proc/sys/vm/drop_caches
}

# All print bytes per second.
run_fio() { # BLOCK DEPTH
  fio --name=read --readonly --rw=read --direct=1 --bs="$1" --iodepth="$2" --ioengine=libaio --filename="$shards" \
    --output-format=terse --terse-version=3 2>/dev/null | awk -F';' '{ print $6 * 1024 / ($9 / 1000) }'
}
run_load() { # FLAGS
  "$load_set" "$@" "$directory" | awk '{ print $2 / $1 }'
}

median() {
  sort -g "$1" | awk '{ value[NR] = $1 } END { print value[int((NR + 1) / 2)] }'
}

best=0
for setting in '256k 64' '1M 16' '1M 64' '4M 16'; do
  cold
  # shellcheck disable=SC2086 # two words
  rate=$(run_fio $setting)
  echo "fio with blocks and depth $setting: $(echo "$rate" | awk '{ printf "%.2f GB/s", $1 / 1e9 }')"
  [ "$(echo "$rate $best" | awk '{ print ($1 > $2) }')" = 1 ] || continue
  best=$rate
  fastest=$setting
done

echo "round  fio GB/s ($fastest)  load GB/s  into untouched memory GB/s"
round=1
while [ "$round" -le "$rounds" ]; do
  cold
  # shellcheck disable=SC2086 # two words
  run_fio $fastest >>"$scratch/fio"
  cold
  run_load --touch-memory >>"$scratch/load"
  cold
  run_load >>"$scratch/untouched"
  echo "$round $(tail -n 1 "$scratch/fio") $(tail -n 1 "$scratch/load") $(tail -n 1 "$scratch/untouched")" |
    awk '{ printf "%5d  %8.2f  %9.2f  %9.2f\n", $1, $2 / 1e9, $3 / 1e9, $4 / 1e9 }'
  round=$((round + 1))
done

awk -v fio="$(median "$scratch/fio")" -v load="$(median "$scratch/load")" -v bar="$bar" -v rounds="$rounds" \
  -v untouched="$(median "$scratch/untouched")" \
  -v cpu="$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" -v cores="$(nproc)" \
  -v kernel="$(uname -r)" 'BEGIN {
    printf "%s, %d cores, Linux %s; medians of %d rounds\n", cpu, cores, kernel, rounds
    printf "fio %.2f GB/s, load %.2f GB/s: %.2f of fio (bar %.1f)\n", fio / 1e9, load / 1e9, load / fio, bar
    printf "into untouched memory %.2f GB/s: %.2f of fio\n", untouched / 1e9, untouched / fio
    exit load / fio < bar
  }'
