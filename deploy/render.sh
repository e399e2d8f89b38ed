#!/usr/bin/env bash
# Renders the plain manifests from the Helm chart, one for each file in helm/profiles:
#
#   deploy/render.sh [DIRECTORY]     into deploy/manifests, or elsewhere
#
# Needs helm (3.8 or later). The manifests are checked in, for clusters without it.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
output=${1:-$here/manifests}
command -v helm >/dev/null || { echo "render.sh: no helm on the PATH; see https://helm.sh/docs/intro/install" >&2; exit 1; }
mkdir -p "$output"
for profile in "$here"/helm/profiles/*.yaml; do
  name=$(basename "$profile")
  {
    echo "# Made by deploy/render.sh from deploy/helm/engram and helm/profiles/$name: do not edit."
    helm template engram "$here/helm/engram" --namespace engram --values "$profile" 2>/dev/null ||
      helm template engram "$here/helm/engram" --namespace engram --values "$profile"
  } >"$output/$name"
done
