#!/bin/bash
# bench.sh SET TOKEN_IDS: in the guest, lookups over RDMA beside perftest's ib_send_lat, ib_write_lat and
# ib_write_bw of the same sizes, beside gRPC over the guest's own network, and both RDMA modes against each
# other. Everything is measured in turns; what is printed are medians over them, and ratios.
#   tests/rdma/guest.sh -t 600 -- tests/rdma/bench.sh SET TOKEN_IDS
# The guest's device is software on an emulated processor: ratios count, times say nothing about a NIC.
set -u
cd "$(dirname "$0")/../.."
set_directory=$1 tokens=$2
turns=${TURNS:-5} seconds=${SECONDS_EACH:-1}
engramd=${ENGRAMD:-bin/engramd} engram=${ENGRAM:-bin/engram}
address=$RDMA_IP:7300
work=$(mktemp -d)

"$engramd" --table-set "$set_directory" --listen "$address" --rdma-device "$RDMA_DEV" --rdma-read --spin-us 1000 2> "$work/log" &
owner=$!
trap 'kill $owner 2>/dev/null; rm -rf "$work"' EXIT
until grep -q "listening on" "$work/log"; do kill -0 $owner 2>/dev/null || { cat "$work/log"; exit 1; }; sleep 0.2; done

# perftest TOOL BYTES COLUMN: one figure of its table's only line (latency: typical; bandwidth: average).
perftest() {
  local tool=$1 bytes=$2 column=$3
  local rounds=$((16000000 / bytes)); [ "$rounds" -ge 10 ] || rounds=10; [ "$rounds" -le 500 ] || rounds=500
  local common=(-d "$RDMA_DEV" -x "$RDMA_GID_INDEX" -F -s "$bytes" -n "$rounds")
  timeout 60 "$tool" "${common[@]}" > /dev/null 2>&1 &
  local server=$!
  sleep 0.4
  timeout 60 "$tool" "${common[@]}" "$RDMA_IP" 2>/dev/null | awk -v b="$bytes" -v c="$column" '$1 == b { print $c }'
  wait $server
}
# lookups MODE TARGET TOKENS IN_FLIGHT FIELD SPIN_US. perftest looks for ever, so RDMA's waits look for as long as they may;
# gRPC's do best with less on two processors.
lookups() {
  local mode=(); [ "$1" = read ] && mode=(--rdma-mode read)
  "$engram" bench --target "$2:$address" "${mode[@]}" --token-ids "$tokens" --batch-tokens "$3" --in-flight "$4" \
    --seconds "$seconds" --spin-us "$6" --json | sed "s/.*\"$5\":\([0-9.e+-]*\).*/\1/"
}
median() { sort -g "$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
record() { local name=$1; shift; "$@" >> "$work/$name"; }

# Of the set: bytes of a token's rows, and of the request that asks for them.
row_bytes=$(sed -n 's/.*row_bytes: *\([0-9]*\).*/\1/p' "$set_directory/manifest.textproto")
layers=$(wc -w <<< "$row_bytes")
columns=${COLUMNS_A_LAYER:-24}
token_bytes=0; for b in $row_bytes; do token_bytes=$((token_bytes + b * columns)); done
request_bytes() { echo $((32 + layers * (32 + (4 * columns * $1 + 7) / 8 * 8))); }
slab=$((512 * 1024))

for turn in $(seq "$turns"); do
  for t in 1 16 64 256; do
    record "rdma.$t" lookups write rdma "$t" 1 p50_us 10000
    record "grpc.$t" lookups - grpc "$t" 1 p50_us 1000
    record "send.$t" perftest ib_send_lat "$(request_bytes "$t")" 5
    record "write.$t" perftest ib_write_lat "$((t * token_bytes))" 5
    [ "$turn" -gt 3 ] || record "read.$t" lookups read rdma "$t" 1 p50_us 10000
  done
  echo "turn $turn" >&2
  record rdma_gb lookups write rdma 256 4 gb_per_s 10000
  record write_mb perftest ib_write_bw "$slab" 4
done

echo "tokens  rdma p50  grpc p50  ib_send_lat + ib_write_lat  rdma/sum  rdma/grpc  rdma-read p50  read/write"
for t in 1 16 64 256; do
  awk -v t="$t" -v r="$(median "$work/rdma.$t")" -v g="$(median "$work/grpc.$t")" -v s="$(median "$work/send.$t")" \
    -v w="$(median "$work/write.$t")" -v d="$(median "$work/read.$t")" 'BEGIN {
    printf "%6d  %8.0f  %8.0f  %8.0f + %8.0f         %8.2f  %9.2f  %13.0f  %10.1f\n", t, r, g, s, w, r / (s + w), r / g, d, d / r }'
done
awk -v r="$(median "$work/rdma_gb")" -v w="$(median "$work/write_mb")" 'BEGIN {
  printf "256 tokens, 4 in flight: %.1f MB/s; ib_write_bw of 512 KiB: %.1f MB/s; ratio %.2f\n", r * 1000, w * 1.048576, r * 1000 / (w * 1.048576) }'
