#!/usr/bin/env bash
# Renders the plain manifests from the Helm chart, one for each file in helm/profiles:
#
#   deploy/render.sh [DIRECTORY]             into deploy/manifests, or elsewhere
#   deploy/render.sh --values FILE.yaml      with other values, to standard output
#
# With helm (3.8 or later), or where there is none with helm/template/main.go, which does what helm does of it (Debian:
# golang-go, golang-github-masterminds-sprig-dev, golang-gopkg-yaml.v2-dev). The manifests are checked in, for who has neither.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")

render() {
  if command -v helm >/dev/null; then
    helm template engram "$here/helm/engram" --namespace engram --values "$1" 2>/dev/null ||
      helm template engram "$here/helm/engram" --namespace engram --values "$1"
  elif command -v go >/dev/null && [ -d /usr/share/gocode/src/github.com/Masterminds/sprig ]; then
    GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE=${GOCACHE:-${TMPDIR:-/tmp}/engram-go-cache} \
      go run "$here/helm/template/main.go" engram "$here/helm/engram" engram "$1"
  else
    echo "render.sh: neither helm (https://helm.sh/docs/intro/install) nor Debian's golang-go," \
      "golang-github-masterminds-sprig-dev and golang-gopkg-yaml.v2-dev are here" >&2
    return 1
  fi
}

case ${1:-} in
  -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" && exit ;;
  --values) ;;
  -*) echo "render.sh: there is no flag $1 (deploy/render.sh --help)" >&2 && exit 2 ;;
esac
if [ "${1:-}" = --values ]; then
  render "${2:?}"
  exit
fi
output=${1:-$here/manifests}
mkdir -p "$output"
for profile in "$here"/helm/profiles/*.yaml; do
  name=$(basename "$profile")
  {
    echo "# Made by deploy/render.sh from deploy/helm/engram and helm/profiles/$name: do not edit."
    render "$profile"
  } >"$output/$name"
done
