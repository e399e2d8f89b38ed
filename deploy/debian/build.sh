#!/usr/bin/env bash
# Builds engram_VERSION_ARCHITECTURE.deb from programs that are built already (./run build leaves them in bin/).
#
#   deploy/debian/build.sh [--bin DIR] [--output DIR]     prints the package's path
#
# The package brings both programs with their manual pages and completion, the known token maps, a hardened systemd unit, a
# user of its own, an example configuration, the wire's protobuf files, and rules and dashboards for who watches it. It
# does not start the service: there is no table to serve yet.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
root=$here/../..
bin=$root/bin output=$root/bin
while [ $# -gt 0 ]; do
  case "$1" in
    --bin) bin=$2; shift 2 ;;
    --output) output=$2; shift 2 ;;
    *) echo "usage: build.sh [--bin DIR] [--output DIR]" >&2; exit 2 ;;
  esac
done
for program in engramd engram; do
  [ -x "$bin/$program" ] || { echo "build.sh: no $bin/$program; build it first: ./run build" >&2; exit 1; }
done
for tool in dpkg-deb dpkg-shlibdeps gzip strip; do
  command -v "$tool" >/dev/null || { echo "build.sh: no $tool; apt-get install dpkg-dev binutils" >&2; exit 1; }
done

version=$("$bin/engramd" --version | grep -oE '[0-9]+(\.[0-9]+)+' | head -n 1)
architecture=$(dpkg --print-architecture)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"

install -d "$tree"/{DEBIAN,usr/bin,lib/systemd/system,usr/lib/sysusers.d,etc/engram,usr/share/{engram/{proto/engram/v1,prometheus,grafana},doc/engram,man/man1,man/man8,bash-completion/completions}}
for program in engramd engram; do
  install -m 755 "$(readlink -f "$bin/$program")" "$tree/usr/bin/$program"
  strip --strip-unneeded "$tree/usr/bin/$program"
  # What a program says of its own flags. Servers have the manual's section 8.
  section=$([ "$program" = engramd ] && echo 8 || echo 1)
  "$bin/$program" --man-page | gzip -9n >"$tree/usr/share/man/man$section/$program.$section.gz"
  "$bin/$program" --bash-completion >"$tree/usr/share/bash-completion/completions/$program"
  chmod 644 "$tree/usr/share/man/man$section/$program.$section.gz" "$tree/usr/share/bash-completion/completions/$program"
done
install -m 644 "$here/engramd.service" "$tree/lib/systemd/system/"
install -m 644 "$here/sysusers.conf" "$tree/usr/lib/sysusers.d/engram.conf"
install -m 644 "$root/deploy/engramd.textproto" "$tree/etc/engram/engramd.textproto"
# The token maps that are known, for checkpoints that come without their tokenizer.
install -m 644 "$root"/tests/golden/*_token_map.i32 "$tree/usr/share/engram/"
install -m 644 "$root/deploy/RUNBOOK.md" "$root/README.md" "$root/proto/FORMATS.md" "$tree/usr/share/doc/engram/"
sed -i '/^!\[/d' "$tree/usr/share/doc/engram/README.md"  # its pictures stay in the source tree
# How unit, sockets, certificates, rules and dashboards fit together. The README has its name there.
install -m 644 "$root/deploy/README.md" "$tree/usr/share/doc/engram/DEPLOY.md"
# For clients in other languages, `protoc -I /usr/share/engram`, and the schema of the configuration.
install -m 644 "$root"/proto/engram/v1/*.proto "$tree/usr/share/engram/proto/engram/v1/"
install -m 644 "$root/deploy/prometheus/rules.yaml" "$tree/usr/share/engram/prometheus/"
install -m 644 "$root"/deploy/grafana/*.json "$tree/usr/share/engram/grafana/"
install -m 755 "$here/postinst" "$here/prerm" "$here/postrm" "$tree/DEBIAN/"
echo /etc/engram/engramd.textproto >"$tree/DEBIAN/conffiles"

depends=$("$here/depends.sh" "$bin/engramd" "$bin/engram")
cat >"$tree/DEBIAN/control" <<CONTROL
Package: engram
Version: $version
Architecture: $architecture
Maintainer: The engram authors <engram@localhost>
Section: net
Priority: optional
Installed-Size: $(du -sk --exclude=DEBIAN "$tree" | cut -f 1)
Depends: $depends, systemd | systemd-standalone-sysusers
Recommends: ibverbs-providers
Description: serving system for n-gram memory tables of language models
 engramd holds Engram tables in host memory and answers batched row lookups
 over gRPC, shared memory and RDMA; engram packs, verifies, looks up and
 measures.
CONTROL

mkdir -p "$output"
package=$(readlink -f "$output")/engram_${version}_$architecture.deb
# Owners are root whoever builds; times are the source's, so that the same programs make the same package.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 0)}
dpkg-deb --root-owner-group -Zxz --build "$tree" "$package" >/dev/null
printf '%s\n' "$package"
