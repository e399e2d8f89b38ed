#!/usr/bin/env bash
# depends.sh PROGRAM...: the packages that the programs need to run, as a Depends line of Debian's; with --names first,
# their names alone, comma after comma. One list for the .deb and for the image.
set -euo pipefail
names=
[ "${1:-}" != --names ] || { names=1; shift; }
[ $# -gt 0 ] || { echo "usage: depends.sh [--names] PROGRAM..." >&2; exit 2; }
programs=()
for program in "$@"; do programs+=("$(readlink -f "$program")"); done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
# dpkg-shlibdeps wants a source package around it.
mkdir debian
printf 'Source: engram\n\nPackage: engram\nArchitecture: any\n' >debian/control
line=$(dpkg-shlibdeps -O "${programs[@]}" 2>errors) || { cat errors >&2; exit 1; }
line=${line#shlibs:Depends=}
[ -z "$names" ] || line=$(sed -e 's/ *([^)]*)//g' -e 's/, */,/g' <<<"$line")
printf '%s\n' "$line"
