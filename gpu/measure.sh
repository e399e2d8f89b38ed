#!/bin/bash
# The worker side on a machine with a device: its tests, its kernels beside plain copies, an engine's steps.
#
#   gpu/measure.sh [--device cuda|host] [--seconds S]   all of it, as text; exit status 1 when something failed
#   gpu/measure.sh --bundle FILE.tar.gz                 the same for a machine that has a driver and nothing else:
#                                                       programs, their data and libraries; there, ./measure.sh
#
# S (default 60): of each of the simulator's seven runs; the rest takes some minutes.
set -euo pipefail

tests=(gpu/device/device_test gpu/kernels/device_addresser_test gpu/kernels/dequantize_test gpu/prefetch/dequantize_on_arrival_test gpu/prefetch/hot_cache_test
       gpu/prefetch/prefetcher_device_test gpu/kernels/fused_layer_test gpu/simulator/backbone_test tests/integration/prefetch_test)
programs=(gpu/bench/device_benchmark gpu/bench/dequantize_benchmark gpu/simulator/engram_worker gpu/examples/example_worker server/engramd
          client/cli/engram)

# All of it in one folder, as the tests expect to find each other.
stage() {
  local i labels=()
  for i in "${tests[@]}" "${programs[@]}"; do labels+=("//${i%/*}:${i##*/}"); done
  bazel build --noshow_progress "${labels[@]}" 2>&1 | tail -n 1 >&2
  mkdir -p "$1/tests"
  cp -L gpu/measure.sh "$1/"
  cp -rL tests/golden "$1/tests/"
  for i in "${tests[@]}" "${programs[@]}"; do
    mkdir -p "$1/${i%/*}"
    cp -L "bazel-bin/$i" "$1/$i"
  done
}

# Every program behind the loader and the libraries that it was linked with: the other machine's may be older.
bring_libraries() {
  local i
  mkdir "$1/lib"
  for i in "${tests[@]}" "${programs[@]}"; do
    ldd "$1/$i" | awk '$2 == "=>" && $3 ~ /^\// {print $3} $1 ~ /^\/.*ld-linux/ {print $1}'
  done | sort -u | xargs -I '{}' cp -L '{}' "$1/lib/"
  for i in "${tests[@]}" "${programs[@]}"; do
    mv "$1/$i" "$1/$i.program"
    cat >"$1/$i" <<WRAPPER
#!/bin/sh
root=\$(dirname "\$(readlink -f "\$0")")/$(dirname "$i" | sed 's:[^/]\+:..:g')
exec "\$root/lib/ld-linux-x86-64.so.2" --library-path "\$root/lib" "\$root/$i.program" "\$@"
WRAPPER
    chmod +x "$1/$i"
  done
}

device=cuda
seconds=60
bundle=
while [ $# -gt 0 ]; do
  case $1 in
    --device) device=${2:?}; shift 2 ;;
    --seconds) seconds=${2:?}; shift 2 ;;
    --bundle) bundle=$(realpath "${2:?}"); shift 2 ;;
    *) sed -n '2,8p' "$0" >&2; exit 2 ;;
  esac
done

cd "$(dirname "$(readlink -f "$0")")"
if [ ! -d lib ]; then  # in a checkout
  cd ..
  tree=$(mktemp -d)
  trap 'rm -rf "$tree"' EXIT
  stage "$tree"
  if [ -n "$bundle" ]; then
    bring_libraries "$tree"
    tar -C "$tree" -czf "$bundle" .
    exit
  fi
  cd "$tree"
fi

failed=()
run() {
  printf '\n== %s\n' "$*"
  "$@" 2>&1 || failed+=("$*")
}
simulate() {
  run gpu/simulator/engram_worker simulate --engramd server/engramd --backend "$device" --seconds "$seconds" \
    --text tests/golden/tokens_en_handbook.i32 "$@"
}

date -u '+%F %T UTC'
uname -r
grep -m 1 'model name' /proc/cpuinfo || true
cat /sys/kernel/mm/transparent_hugepage/shmem_enabled 2>/dev/null || true
nvidia-smi --query-gpu=name,driver_version,memory.total,pcie.link.gen.current,pcie.link.width.current --format=csv 2>/dev/null || true
if [ "$device" = cuda ] && ! gpu/bench/device_benchmark --device cuda --benchmark_filter=none; then
  exit 1
fi
export TEST_TMPDIR=${TMPDIR:-/tmp}
for test in "${tests[@]}"; do run "$test" --gtest_brief=1; done
run gpu/bench/device_benchmark --device "$device" --benchmark_min_time=1
[ "$device" = host ] && run gpu/bench/dequantize_benchmark
v41=(--model v41 --token-map tests/golden/deepseek_v41_token_map.i32)
simulate
simulate --model 4b
simulate --model 8b
simulate "${v41[@]}"
simulate "${v41[@]}" --hot-cache-mib 64
simulate "${v41[@]}" --hot-cache-mib 1024
simulate "${v41[@]}" --sequences 64

printf '\n'
if [ ${#failed[@]} -gt 0 ]; then
  printf 'failed: %s\n' "${failed[@]}"
  exit 1
fi
echo "all ran"
