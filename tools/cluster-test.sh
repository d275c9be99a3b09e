#!/usr/bin/env bash
# Installs, uses, upgrades and removes Hookwright on a whole Kubernetes of one node that it starts for this.
#
#   cluster-test.sh IMAGES [CHART IMAGES]
#
#   IMAGES    a folder with operator.tar and dispatcher.tar, as image.sh writes it
#   CHART     an earlier chart, which is installed first, and then upgraded, with images whose tag is `earlier`; by default
#             the upgrade changes settings only
#
# Environment: HOOKWRIGHT_CACHE, as for build.sh; TMPDIR, as for node/node.sh.
set -euo pipefail
{ [ $# = 1 ] || [ $# = 3 ]; } || { echo "usage: cluster-test.sh IMAGES [CHART IMAGES]" >&2; exit 2; }
IMAGES=("$(realpath "$1")") CHART=charts/hookwright TAG=""
if [ $# = 3 ]; then IMAGES+=("$(realpath "$3")") CHART=$(realpath "$2") TAG=earlier; fi
cd "$(dirname "$0")/.."

tools/node/prerequisites.sh
BIN=$(tools/build.sh --node --print-bin)
PACKED=$(mktemp -d)
trap 'rm -rf "$PACKED"' EXIT
pack() { tools/image/binary.py "$PACKED/$1.tar" "localhost/$1:node" "${@:2}"; }
pack pause "$BIN/probe" pause
pack probe "$BIN/probe"
pack coredns "$BIN/coredns"
pack nats-server "$BIN/nats-server"
arguments=(--bin "$BIN")
for image in "$PACKED"/*.tar; do arguments+=(--image "$image"); done
for folder in "${IMAGES[@]}"; do arguments+=(--image "$folder/operator.tar" --image "$folder/dispatcher.tar"); done
tools/node/node.sh "${arguments[@]}" -- tools/node/scenario.sh "$CHART" "$TAG"
