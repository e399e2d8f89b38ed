#!/bin/bash
# guest.sh - runs one command inside a throw-away QEMU guest that has
# a software RDMA device (rdma_rxe by default), with the host's own file tree as
# the guest's root (read-only over 9p, under a tmpfs overlay).  Host-built
# binaries run there unchanged, at the same paths.  See README.md beside this file.
#
#   guest.sh [options] [--] COMMAND [ARG...]
#   guest.sh --prepare        fetch/unpack the kernel, build the initrd
#   guest.sh --check          exit 0 if a guest can be run here, else 77
#
# Exit status: the command's own.  Besides that
#   77   no guest possible here (message says what is missing)  -> treat as "skipped"
#   124  time limit reached
#   125  the guest started but broke before the command ended
set -u
PROG=${0##*/}

# ---- settings (environment overrides, then options) --------------------------
CACHE=${RDMA_GUEST_CACHE:-/var/tmp/engram-rdma-guest-$(id -u)}
KPKG=${RDMA_GUEST_KERNEL_PACKAGE:-linux-image-amd64}   # NOT the cloud flavour: it has no rdma_rxe and no 9p
ACCEL=${RDMA_GUEST_ACCEL:-auto}                        # auto | kvm | tcg
LIMIT=${RDMA_GUEST_TIMEOUT:-300}                       # seconds, whole run
BOOTLIMIT=${RDMA_GUEST_BOOT_TIMEOUT:-90}               # seconds until the command starts
MEM=${RDMA_GUEST_MEM:-2048}                            # MiB
SMP=${RDMA_GUEST_SMP:-2}
RDMA=${RDMA_GUEST_RDMA:-rxe}                           # rxe | siw | none
NIC=${RDMA_GUEST_NIC:-dummy}                           # dummy | lo | veth | socket
ADDR=${RDMA_GUEST_ADDR:-10.77.0.1/24}
MTU=${RDMA_GUEST_MTU:-4200}                            # IP MTU; >= 4096 + headers gives RDMA path MTU 4096
WORKDIR=$PWD
RW=() ENVS=() PASSENV=0 STATS=0 VERBOSE=0 KEEP=0 MODE=run SOCKET= XMODS=() QEMUX=()

die()  { echo "$PROG: $2" >&2; exit "$1"; }
note() { [ "$VERBOSE" = 1 ] && echo "$PROG: $*" >&2; return 0; }
usage() { sed -n '2,15p' "$0" | sed 's/^# \{0,1\}//'; cat <<EOF
Options:
  -t, --timeout SEC     whole-run limit ($LIMIT)         --accel auto|kvm|tcg  ($ACCEL)
      --mem MIB         guest memory ($MEM)              --smp N               ($SMP)
      --rdma rxe|siw|none ($RDMA)                        --nic dummy|lo|veth|socket ($NIC)
      --addr CIDR       ($ADDR)                          --mtu N               ($MTU)
      --rw DIR          make host folder DIR writable in the guest, same path (repeatable)
      --cwd DIR         working folder of the command (current one)
      --env NAME=VAL    set a variable (repeatable)      --pass-env  hand over the whole environment
      --bazel           for "bazel test --run_under": --pass-env, and the test's TEST_TMPDIR, XML and
                        undeclared-output folders writable, so that what it writes there stays
      --socket listen=HOST:PORT|connect=HOST:PORT   with --nic socket: QEMU socket link between two guests
      --insmod FILE     load module file FILE before the RDMA link is made (repeatable; e.g. a siw.ko built for the guest kernel)
      --qemu ARG        extra QEMU argument (repeatable)
      --stats           wall time and QEMU memory, to stderr at the end
  -v, --verbose         progress and guest kernel log     --keep  keep the run folder
EOF
}

while [ $# -gt 0 ]; do
  case $1 in
    -t|--timeout) LIMIT=$2; shift 2;;   --accel) ACCEL=$2; shift 2;;
    --mem) MEM=$2; shift 2;;            --smp) SMP=$2; shift 2;;
    --rdma) RDMA=$2; shift 2;;          --nic) NIC=$2; shift 2;;
    --addr) ADDR=$2; shift 2;;          --mtu) MTU=$2; shift 2;;
    --rw) RW+=("$(realpath -- "$2")") || die 2 "--rw: no such folder $2"; shift 2;;
    --cwd) WORKDIR=$2; shift 2;;        --env) ENVS+=("$2"); shift 2;;
    --pass-env) PASSENV=1; shift;;      --socket) SOCKET=$2; shift 2;;
    --insmod) XMODS+=("$(realpath -- "$2")"); shift 2;;  --qemu) QEMUX+=("$2"); shift 2;;
    --bazel) PASSENV=1; for d in "${TEST_TMPDIR:-}" "${XML_OUTPUT_FILE:+$(dirname "${XML_OUTPUT_FILE:-.}")}" "${TEST_UNDECLARED_OUTPUTS_DIR:-}"; do
               [ -n "$d" ] && [ -d "$d" ] && RW+=("$(realpath -- "$d")"); done; shift;;
    --stats) STATS=1; shift;;           -v|--verbose) VERBOSE=1; shift;;
    --keep) KEEP=1; shift;;             --prepare) MODE=prepare; shift;;
    --check) MODE=check; shift;;        -h|--help) usage; exit 0;;
    --) shift; break;;                  -*) usage >&2; die 2 "unknown option $1";;
    *) break;;
  esac
done
[ "$MODE" != run ] || [ $# -gt 0 ] || { usage >&2; exit 2; }
case $NIC in dummy|lo|veth|socket) ;; *) die 2 "--nic $NIC?";; esac
case $RDMA in rxe|siw|none) ;; *) die 2 "--rdma $RDMA?";; esac
T0=$(date +%s.%N)
since() { awk -v a="$T0" -v b="$(date +%s.%N)" 'BEGIN{printf "%.1f", b-a}'; }

# ---- what must be on the host -------------------------------------------------
[ "$(uname -m)" = x86_64 ] || die 77 "unavailable: needs an x86-64 host"
QEMU=${RDMA_GUEST_QEMU:-$(command -v qemu-system-x86_64 || true)}
[ -n "$QEMU" ] || die 77 "unavailable: no qemu-system-x86_64 (apt-get install --no-install-recommends qemu-system-x86)"
BUSYBOX=$(command -v busybox || true)
[ -n "$BUSYBOX" ] && ! ldd "$BUSYBOX" >/dev/null 2>&1 || die 77 "unavailable: no static busybox (apt-get install busybox-static)"
for t in ip rdma xz setpriv timeout; do
  command -v $t >/dev/null || PATH=$PATH:/sbin:/usr/sbin command -v $t >/dev/null ||
    die 77 "unavailable: no '$t' (packages iproute2, xz-utils, util-linux, coreutils)"
done

# ---- kernel + initrd, made once per kernel version, under a lock ---------------
find_kernel_package() {  # meta package -> versioned package
  case $KPKG in *-[0-9]*) echo "$KPKG"; return;; esac
  apt-cache depends "$KPKG" 2>/dev/null | awk '/Depends: linux-image-/{print $2; exit}'
}
unpack_kernel() {  # $1 = folder
  local d=$1 tmp deb pkg
  tmp=$(mktemp -d "$CACHE/tmp.XXXXXX") || return 1
  if [ -n "${RDMA_GUEST_KERNEL_DEB:-}" ]; then deb=$RDMA_GUEST_KERNEL_DEB
  else
    pkg=$(find_kernel_package); [ -n "$pkg" ] || { echo "no candidate for $KPKG (run apt-get update)"; rm -rf "$tmp"; return 1; }
    (cd "$tmp" && apt-get -qq -o APT::Sandbox::User=root download "$pkg" 2>&1) || { rm -rf "$tmp"; return 1; }
    deb=$(echo "$tmp"/*.deb)
  fi
  # only the boot image and the module folders that can matter, not all 400 MB
  dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$tmp" --wildcards --no-anchored \
      './boot/vmlinuz-*' './boot/config-*' './lib/modules/*/modules.*' \
      './lib/modules/*/kernel/drivers/infiniband/core/*' './lib/modules/*/kernel/drivers/infiniband/sw/*' \
      './lib/modules/*/kernel/drivers/virtio/*' './lib/modules/*/kernel/drivers/char/virtio_console.ko*' \
      './lib/modules/*/kernel/drivers/net/dummy.ko*' './lib/modules/*/kernel/drivers/net/veth.ko*' \
      './lib/modules/*/kernel/drivers/net/virtio_net.ko*' './lib/modules/*/kernel/drivers/net/net_failover.ko*' \
      './lib/modules/*/kernel/net/*' './lib/modules/*/kernel/fs/9p/*' './lib/modules/*/kernel/fs/netfs/*' \
      './lib/modules/*/kernel/fs/fscache/*' './lib/modules/*/kernel/fs/overlayfs/*' './lib/modules/*/kernel/fs/configfs/*' \
      './lib/modules/*/kernel/crypto/*' './lib/modules/*/kernel/arch/x86/crypto/*' './lib/modules/*/kernel/lib/*' 2>&1 |
      grep -v 'Not found in archive\|Exiting with failure' 
  KV=$(basename "$(ls -d "$tmp"/lib/modules/* 2>/dev/null)")
  [ -n "$KV" ] && [ -e "$tmp/boot/vmlinuz-$KV" ] || { echo "$deb holds no kernel"; rm -rf "$tmp"; return 1; }
  "$BUSYBOX" depmod -b "$tmp" "$KV" || { rm -rf "$tmp"; return 1; }
  # a plain ELF kernel boots through PVH and spares ~3 s of emulated decompression
  local z=$tmp/boot/vmlinuz-$KV setup off len
  setup=$(od -An -tu1 -j $((0x1f1)) -N1 "$z"); off=$(od -An -tu4 -j $((0x248)) -N4 "$z"); len=$(od -An -tu4 -j $((0x24c)) -N4 "$z")
  setup=$((setup)); [ $setup = 0 ] && setup=4
  off=$(( (setup + 1) * 512 + off ))
  local pay=$tmp/payload
  tail -c +$((off + 1)) "$z" | head -c "$((len - 4))" > "$pay"   # last 4 bytes: unpacked size
  case $(od -An -tx1 -N4 "$pay" | tr -d ' ') in
    fd377a58) xz -dc < "$pay";; 1f8b*) gzip -dc < "$pay";; 28b52ffd) zstd -dc < "$pay";; 02214c18) lz4 -dc < "$pay";;
  esac > "$tmp/boot/vmlinux" 2>/dev/null
  [ "$(head -c4 "$tmp/boot/vmlinux" | tail -c3)" = ELF ] && ln -s vmlinux "$tmp/boot/kernel" || ln -s "vmlinuz-$KV" "$tmp/boot/kernel"
  rm -f "$pay" "$tmp"/*.deb; echo "$KV" > "$tmp/version"; mv "$tmp" "$d"
}
build_initrd() {  # $1 = kernel folder
  local K=$1 KV R; KV=$(cat "$K/version"); R=$(mktemp -d "$CACHE/tmp.XXXXXX") || return 1
  mkdir -p "$R"/{bin,proc,sys,dev,host,rw,new,m}
  cp "$BUSYBOX" "$R/bin/busybox"; ln -s busybox "$R/bin/sh"
  # module -> "its dependencies first" order, one list per purpose
  awk -F': *' '
    function base(p) { sub(/.*\//,"",p); sub(/\.ko.*/,"",p); gsub(/-/,"_",p); return p }
    NR==FNR { n=base($1); path[n]=$1; dep[n]=$2; next }
    function put(n,  a,i,k) { if (n in done) return; done[n]=1; k=split(dep[n],a," "); for(i=k;i>=1;i--) put(base(a[i]));
                              if (n in path) print set, path[n]; else print "missing", n }
    { set=$1; k=split($2,w," "); for(j=1;j<=k;j++) { put(w[j]) } }
  ' "$K/lib/modules/$KV/modules.dep" - > "$R/order" <<EOF
base: virtio_pci virtio_mmio 9pnet_virtio 9p overlay
rdma: crc32_generic ib_core ib_uverbs rdma_ucm ib_umad
fastcrc: crc32_pclmul
rxe: rdma_rxe
siw: crc32c_generic libcrc32c siw
dummy: dummy
veth: veth
socket: virtio_net
EOF
  local set p
  while read -r set p; do
    [ "$set" = missing ] && continue
    cp "$K/lib/modules/$KV/$p" "$R/m/" && echo "$set ${p##*/}"
  done < "$R/order" > "$R/m/list"
  grep '^missing' "$R/order" | awk '{print $2}' > "$K/missing"
  rm "$R/order"
  cat > "$R/init" <<'EOF'
#!/bin/sh
B=/bin/busybox
$B mount -t proc proc /proc; $B mount -t sysfs sys /sys; $B mount -t devtmpfs dev /dev
for w in $($B cat /proc/cmdline); do case $w in rg.sets=*) sets=${w#*=};; rg.probe) probe=1;; esac; done
while read s m; do case ",$sets," in *",$s,"*) $B insmod /m/$m || echo "rdma-guest: insmod $m failed";; esac; done < /m/list
[ -n "$probe" ] && { echo "rdma-guest: probe ok"; $B poweroff -f; }
die() { echo "rdma-guest: $*"; $B poweroff -f; }
o=trans=virtio,version=9p2000.L,msize=262144
$B mount -t 9p -o ro,$o,cache=loose host /host || die "cannot mount the host tree"
$B mount -t tmpfs -o size=75% rw /rw && $B mkdir /rw/u /rw/w
$B mount -t overlay -o lowerdir=/host,upperdir=/rw/u,workdir=/rw/w root /new || die "overlay failed"
for d in proc sys dev; do $B mkdir -p /new/$d; $B mount -o move /$d /new/$d; done
$B mkdir -p /new/run; $B mount -t tmpfs run /new/run; $B mkdir -p /new/run/rg /new/dev/pts /new/dev/shm /new/run/lock
$B mount -t devpts -o ptmxmode=666 devpts /new/dev/pts; $B mount -t tmpfs shm /new/dev/shm
$B mount -t 9p -o $o,cache=none ctl /new/run/rg || die "cannot mount the control share"
exec $B chroot /new /bin/bash /run/rg/guest.sh
EOF
  chmod +x "$R/init"
  (cd "$R" && find . | "$BUSYBOX" cpio -o -H newc 2>/dev/null | gzip -1) > "$K/initrd.tmp" && mv "$K/initrd.tmp" "$K/initrd"
  rm -rf "$R"
}
ready_dir() { [ -e "$1/version" ] && [ -e "$1/initrd" ] && [ -e "$1/boot/kernel" ]; }
prepare() {
  mkdir -p "$CACHE" 2>/dev/null
  if ! { [ -w "$CACHE" ] && { [ ! -e "$CACHE/lock" ] || [ -w "$CACHE/lock" ]; }; }; then
    # read-only cache (another user, a test sandbox): use what an earlier --prepare left
    local d; for d in $(ls -dt "$CACHE"/linux-image-* 2>/dev/null); do ready_dir "$d" && { KDIR=$d; return 0; }; done
    echo "cannot write $CACHE and nothing prepared in it (run $PROG --prepare first)"; return 1
  fi
  local name
  if [ -n "${RDMA_GUEST_KERNEL_DEB:-}" ]; then name=$(basename "$RDMA_GUEST_KERNEL_DEB" .deb)
  else # prefer what is unpacked already; ask apt only when nothing is
    name=$(cd "$CACHE" && ls -dt linux-image-* 2>/dev/null | head -1); [ -n "$name" ] || name=$(find_kernel_package); fi
  [ -n "$name" ] || { echo "no kernel package $KPKG known to apt (apt-get update?) and none in $CACHE"; return 1; }
  KDIR=$CACHE/$name
  ready_dir "$KDIR" && [ ! "$0" -nt "$KDIR/initrd" ] && return 0
  exec 9> "$CACHE/lock"; flock -w 600 9 || { echo "lock timeout on $CACHE/lock"; return 1; }
  if [ ! -e "$KDIR/version" ]; then note "unpacking $name"; unpack_kernel "$KDIR" || return 1; chmod -R a+rX "$KDIR"; fi
  if [ ! -e "$KDIR/initrd" ] || [ "$0" -nt "$KDIR/initrd" ]; then note "building initrd"; build_initrd "$KDIR" || return 1; fi
  exec 9>&-
}
KDIR=
msg=$(mktemp) || exit 125
prepare > "$msg" 2>&1 || { m=$(cat "$msg"); rm -f "$msg"; die 77 "unavailable: no guest kernel: $m"; }
rm -f "$msg"
[ ${#XMODS[@]} -gt 0 ] || case $RDMA in rxe|siw) m=$RDMA; [ $m = rxe ] && m=rdma_rxe
  grep -qx "$m" "$KDIR/missing" && die 77 "unavailable: $(cat "$KDIR/version") has no module $m";; esac

# ---- QEMU pieces ------------------------------------------------------------------
CMDLINE="console=ttyS0 panic=-1 quiet loglevel=4 nokaslr mitigations=off cryptomgr.notests nowatchdog \
no_timer_check tsc=reliable random.trust_cpu=on audit=0 apparmor=0 8250.nr_uarts=1"
accel_args() {
  case $1 in
    kvm) echo "-accel kvm -cpu host,-arch-capabilities";;
    tcg) echo "-accel tcg,thread=multi -cpu max";;
  esac
}
QPID=
start_qemu() {  # $1 accel, $2 limit, then args; stderr to $RUN/qemu.err
  local a=$1 l=$2; shift 2
  setpriv --pdeathsig TERM timeout -k 5 "$l" "$QEMU" $(accel_args "$a") -nodefaults -no-user-config -display none -no-reboot \
     -kernel "$KDIR/boot/kernel" -initrd "$KDIR/initrd" "$@" < /dev/null > "$RUN/qemu.out" 2> "$RUN/qemu.err" 9>&- &
  QPID=$!
}
RUN=$(mktemp -d "${TMPDIR:-/tmp}/rdma-guest.XXXXXX") || exit 125
TAILS=()
cleanup() {
  local p
  for p in $QPID ${TAILS[@]+"${TAILS[@]}"}; do kill "$p" 2>/dev/null; done
  [ -n "$QPID" ] && wait "$QPID" 2>/dev/null
  [ "$KEEP" = 1 ] && echo "$PROG: run folder kept: $RUN" >&2 || rm -rf "$RUN"
}
trap cleanup EXIT; trap 'exit 130' INT; trap 'exit 143' TERM HUP

# KVM is used only if this very kernel boots under it: some hosts have a /dev/kvm that
# cannot run an unmodified kernel.  The verdict is kept for this boot of the host.
kvm_works() {
  [ -w /dev/kvm ] || { KVMWHY="/dev/kvm is missing or not writable"; return 1; }
  local f; f=$KDIR/kvm-$(cat /proc/sys/kernel/random/boot_id)
  if [ ! -e "$f" ]; then
    start_qemu kvm 15 -M pc -smp 1 -m 512 -append "$CMDLINE rg.sets=base rg.probe" -serial "file:$RUN/probe.log"
    wait "$QPID"; QPID=
    if grep -aq 'rdma-guest: probe ok' "$RUN/probe.log" 2>/dev/null; then echo yes; else
      echo "no: $(head -c 200 "$RUN/qemu.err" | head -1)"; fi > "$f" 2>/dev/null
  fi
  case $(cat "$f") in yes) return 0;; *) KVMWHY="stock kernel does not boot under this KVM within 15 s ($(cat "$f"))"; return 1;; esac
}
KVMWHY=
case $ACCEL in
  auto) if kvm_works; then ACCEL=kvm; else note "using TCG: $KVMWHY"; ACCEL=tcg; fi;;
  kvm)  kvm_works || die 77 "unavailable: --accel kvm: $KVMWHY";;
  tcg)  ;;
  *) die 2 "--accel $ACCEL?";;
esac
[ "$MODE" = prepare ] && { echo "ready: $(cat "$KDIR/version"), accel $ACCEL, missing modules: $(tr '\n' ' ' < "$KDIR/missing")"; exit 0; }
[ "$MODE" = check ] && { echo "available: QEMU $ACCEL, kernel $(cat "$KDIR/version"), rdma $RDMA"; exit 0; }

# ---- control share -------------------------------------------------------------------
C=$RUN/ctl; mkdir "$C"; : > "$C/stdout"; : > "$C/stderr"; : > "$C/log"
{
  [ $PASSENV = 1 ] && export -p | sed 's/^declare -x /export /' | grep -E '^export [A-Za-z_][A-Za-z_0-9]*=' | grep -vE '^export (PWD|OLDPWD|SHLVL|_)='
  [ $PASSENV = 0 ] && echo "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=${HOME:-/root} LANG=${LANG:-C} USER=root"
  for e in ${ENVS[@]+"${ENVS[@]}"}; do printf 'export %s=%q\n' "${e%%=*}" "${e#*=}"; done
  printf 'export RDMA_GUEST=1 RDMA_GUEST_ACCEL=%q RDMA_DEV=%q RDMA_IP=%q\n' "$ACCEL" "${RDMA}0" "${ADDR%/*}"
} > "$C/env.sh"
{ printf 'cd %q || exit 125\nexec' "$WORKDIR"; printf ' %q' "$@"; echo; } > "$C/cmd.sh"
i=0; shares=()
for d in ${RW[@]+"${RW[@]}"}; do
  [ -d "$d" ] || die 2 "--rw: $d is not a folder"
  echo "rw$i $d" >> "$C/rw"; shares+=(-virtfs "local,path=${d//,/,,},mount_tag=rw$i,security_model=none,multidevs=remap"); i=$((i+1))
done
cat > "$C/conf" <<EOF
NIC=$NIC RDMA=$RDMA ADDR=$ADDR MTU=$MTU CMDLIMIT=$LIMIT XMODS=(${XMODS[@]+$(printf ' %q' "${XMODS[@]}")})
EOF
cat > "$C/guest.sh" <<'EOF'
# first process of the guest after the initrd, running in the host's file tree
exec >> /run/rg/log 2>&1 < /dev/null
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
. /run/rg/conf
up() { cut -d' ' -f1 /proc/uptime; }
finish() { dmesg > /run/rg/dmesg 2>/dev/null; echo "$1" > /run/rg/rc.tmp; mv /run/rg/rc.tmp /run/rg/rc; sync -f /run/rg/rc 2>/dev/null; busybox poweroff -f; sleep 60; }
fail() { echo "guest set-up failed: $*"; finish setup; }
echo "userland at $(up)"
hostname rdma-guest; ip link set lo up
sysctl -qw kernel.core_pattern=core vm.overcommit_memory=1 2>/dev/null
case $NIC in
  dummy)  [ -e /sys/class/net/dummy0 ] || ip link add dummy0 type dummy; dev=dummy0;;
  veth)   ip link add veth0 type veth peer name veth1; ip link set veth1 mtu $MTU up; dev=veth0;;
  lo)     dev=lo;;
  socket) dev=$(ls /sys/class/net | grep -m1 '^e');;
esac
[ -e /sys/class/net/$dev ] || fail "no network device for $NIC"
if [ $dev = lo ]; then ip=127.0.0.1; else
  ip addr add $ADDR dev $dev; ip link set $dev mtu $MTU; ip link set $dev up; ip=${ADDR%/*}; fi
ulimit -l unlimited; ulimit -n 65536; ulimit -c 0
for m in ${XMODS[@]+"${XMODS[@]}"}; do busybox insmod "$m" || fail "insmod $m"; done
if [ $RDMA != none ]; then
  rdma link add ${RDMA}0 type $RDMA netdev $dev || fail "rdma link add ${RDMA}0 type $RDMA netdev $dev"
  # node files and GID table fill in asynchronously: wait for both
  hex=$(printf '%02x%02x:%02x%02x' ${ip//./ }); g=/sys/class/infiniband/${RDMA}0/ports/1; gid=
  for n in $(seq 100); do
    [ $RDMA = siw ] && gid=0 || gid=$(grep -l "ffff:$hex\$" $g/gids/* 2>/dev/null | head -1)
    [ -n "$gid" ] && [ -e /dev/infiniband/uverbs0 ] && [ -e /dev/infiniband/rdma_cm ] && break
    sleep 0.1
  done
  [ -n "$gid" ] || echo "warning: no IPv4 GID for $ip"
  echo "export RDMA_GID_INDEX=${gid##*/}" >> /run/rg/env.sh
  chmod 666 /dev/infiniband/* 2>/dev/null
  rdma link
fi
mkdir -p /run/rgrw
[ -e /run/rg/rw ] && while read -r tag d; do
  mkdir -p "$d"; mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=mmap $tag "$d" || fail "cannot mount $d"
done < /run/rg/rw
echo "command at $(up)"; touch /run/rg/started
( . /run/rg/env.sh; exec timeout -k 5 $CMDLIMIT bash /run/rg/cmd.sh ) >> /run/rg/stdout 2>> /run/rg/stderr
rc=$?
echo "command ended rc=$rc at $(up)"; free -m | sed -n 2p
finish $rc
EOF

# ---- run ---------------------------------------------------------------------------------
sets=base,rdma,$RDMA,$NIC; [ "$ACCEL" = kvm ] && sets=$sets,fastcrc   # under TCG the table CRC gave more bandwidth than emulated PCLMULQDQ
net=(-nic none)
if [ "$NIC" = socket ]; then
  [ -n "$SOCKET" ] || die 2 "--nic socket needs --socket listen=HOST:PORT or connect=HOST:PORT"
  mac=$(printf '52:54:00:%02x:%02x:%02x' $((RANDOM%256)) $((RANDOM%256)) $((RANDOM%256)))
  net=(-netdev "socket,id=n0,$SOCKET" -device "virtio-net-pci,netdev=n0,mac=$mac,host_mtu=$MTU")
fi
start_qemu "$ACCEL" "$LIMIT" -M pc -smp "$SMP" -m "$MEM" -append "$CMDLINE rg.sets=$sets" \
  -serial "file:$RUN/console.log" "${net[@]}" \
  -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
  -virtfs "local,path=$C,mount_tag=ctl,security_model=none" ${shares[@]+"${shares[@]}"} ${QEMUX[@]+"${QEMUX[@]}"}
tail --pid=$$ -n +1 -s 0.1 -f "$C/stdout" 2>/dev/null & TAILS+=($!)
tail --pid=$$ -n +1 -s 0.1 -f "$C/stderr" >&2 2>/dev/null & TAILS+=($!)
hwm=0; started=
while kill -0 "$QPID" 2>/dev/null; do
  sleep 0.2
  if [ $STATS = 1 ]; then
    q=$(cat /proc/$QPID/task/$QPID/children 2>/dev/null | awk '{print $1}')
    h=$(awk '/VmHWM/{print $2}' "/proc/${q:-0}/status" 2>/dev/null); [ "${h:-0}" -gt "$hwm" ] && hwm=$h
  fi
  if [ -z "$started" ]; then
    if [ -e "$C/started" ]; then started=$(since); note "command started after $started s"
    elif awk -v s="$(since)" -v l="$BOOTLIMIT" 'BEGIN{exit !(s>l)}'; then
      echo "$PROG: guest did not come up within $BOOTLIMIT s" >&2; kill "$QPID" 2>/dev/null; break; fi
  fi
done
wait "$QPID"; qrc=$?; QPID=
sleep 0.3; for p in "${TAILS[@]}"; do kill "$p" 2>/dev/null; wait "$p" 2>/dev/null; done; TAILS=()
[ "$VERBOSE" = 1 ] && { echo "--- guest log"; cat "$C/log"; echo "--- guest kernel"; cat "$RUN/console.log"; cat "$C/dmesg" 2>/dev/null | tail -15; } >&2
[ "$STATS" = 1 ] && echo "$PROG: accel=$ACCEL boot=${started:-none}s total=$(since)s qemu_peak_rss=$((hwm/1024))MiB" >&2
if [ -e "$C/rc" ]; then
  rc=$(cat "$C/rc")
  [ "$rc" = setup ] && { sed "s/^/$PROG: guest: /" "$C/log" >&2; tail -5 "$RUN/console.log" >&2; exit 125; }
  exit "$rc"
fi
[ "$qrc" = 124 ] || [ "$qrc" = 137 ] && die 124 "time limit of $LIMIT s reached (guest ended)"
echo "$PROG: guest ended without a result (qemu status $qrc)" >&2
{ head -5 "$RUN/qemu.err"; tail -15 "$RUN/console.log"; cat "$C/log"; } >&2 2>/dev/null
exit 125
