#!/usr/bin/env bash
# Builds an OCI image of engramd and engram from programs that are built already (./run build leaves them in bin/).
#
#   deploy/image/build.sh [--bin DIR] [--output FILE.tar] [--tag NAME:TAG]     prints the image's name
#
# The image holds the two programs, the known token maps and the Debian packages that they need, nothing else: no shell,
# no package tool. It runs as user 65532 and writes nowhere but in its volume, /var/lib/engramd, where --state-dir says so. Without --output it stays in buildah's own store. Needs root (or a user
# namespace), mmdebstrap, buildah, dpkg-dev and a Debian mirror; no registry.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
root=$here/../..
bin=$root/bin output= tag=
while [ $# -gt 0 ]; do
  case "$1" in
    --bin) bin=$2; shift 2 ;;
    --output) output=$2; shift 2 ;;
    --tag) tag=$2; shift 2 ;;
    *) echo "usage: build.sh [--bin DIR] [--output FILE.tar] [--tag NAME:TAG]" >&2; exit 2 ;;
  esac
done
for program in engramd engram; do
  [ -x "$bin/$program" ] || { echo "image: no $bin/$program; build it first: ./run build" >&2; exit 1; }
done
for tool in mmdebstrap buildah dpkg-shlibdeps strip; do
  command -v "$tool" >/dev/null ||
    { echo "image: no $tool; apt-get install --no-install-recommends mmdebstrap buildah dpkg-dev binutils" >&2; exit 1; }
done
version=$("$bin/engramd" --version | grep -oE '[0-9]+(\.[0-9]+)+' | head -n 1)
tag=${tag:-localhost/engram:$version}

# --storage-driver vfs: overlay needs what containers and small machines do not grant.
buildah=(buildah --storage-driver "${ENGRAM_STORAGE_DRIVER:-vfs}")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Libraries: extracted, never configured, so no package's script runs. ibverbs-providers: the drivers of real NICs.
packages=$("$root/deploy/debian/depends.sh" --names "$bin/engramd" "$bin/engram"),ibverbs-providers
. /etc/os-release
mmdebstrap --quiet --variant=extract --skip=cleanup/apt/cache --include="$packages" "${VERSION_CODENAME:-bookworm}" \
  "$scratch/root" >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2; exit 1; }
cd "$scratch/root"
# What remains of packages: libraries, licences, and what each is, in the place where scanners of images look.
mkdir "$scratch/status.d"
for package in var/cache/apt/archives/*.deb; do dpkg-deb -f "$package" >"$scratch/status.d/$(dpkg-deb -f "$package" Package)"; done
mv usr/share/doc usr/share/grpc etc/libibverbs.d "$scratch/"
rm -rf var/* etc/* dev/* bin sbin usr/bin usr/sbin usr/share/* usr/lib/{systemd,tmpfiles.d,x86_64-linux-gnu/gconv,x86_64-linux-gnu/perl*}
mkdir -p etc usr/bin usr/share tmp run/engram var/lib/dpkg var/lib/engramd tables
find "$scratch/doc" -type f ! -name copyright -delete
mv "$scratch/doc" "$scratch/grpc" usr/share/
mv "$scratch/status.d" var/lib/dpkg/
mv "$scratch/libibverbs.d" etc/
for program in engramd engram; do
  install -m 755 "$(readlink -f "$bin/$program")" "usr/bin/$program"
  strip --strip-unneeded "usr/bin/$program"
done
install -d usr/share/engram
install -m 644 "$root"/tests/golden/*_token_map.i32 usr/share/engram/
printf 'root:x:0:0:root:/:/sbin/nologin\nengram:x:65532:65532:engram:/:/sbin/nologin\n' >etc/passwd
printf 'root:x:0:\nengram:x:65532:\n' >etc/group
printf 'hosts: files dns\n' >etc/nsswitch.conf
printf 'ID=debian\nVERSION_ID="%s"\nPRETTY_NAME="engram %s on Debian %s"\n' "$VERSION_ID" "$version" "$VERSION_ID" >etc/os-release
install -d -m 770 -o 65532 -g 65532 run/engram var/lib/engramd
chmod 1777 tmp
cd "$scratch"
tar --numeric-owner --sort=name --mtime="@${SOURCE_DATE_EPOCH:-0}" -C root -cf rootfs.tar .
cp "$here/Containerfile" .
"${buildah[@]}" bud --isolation chroot --quiet --build-arg "VERSION=$version" --tag "$tag" . >/dev/null
[ -z "$output" ] || "${buildah[@]}" push --quiet "$tag" "oci-archive:$(readlink -f "$(dirname "$output")")/$(basename "$output"):$tag"
printf '%s\n' "$tag"
