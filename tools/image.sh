#!/usr/bin/env bash
# Packs hookwright-operator and hookwright-dispatcher into OCI images, without a daemon and without a base image.
#
#   image.sh BINARIES OUT    writes OUT/operator and OUT/dispatcher (OCI layouts), OUT/operator.tar and OUT/dispatcher.tar
#                            (for ctr, kind and docker load), and prints digests and sizes
#
# An image has the stripped binary, the shared libraries that it loads, the CA roots, the time zones, and a user. The
# roots and the zones come from packages that are pinned by hash, not from this machine, which may trust others.
#
# Environment: HOOKWRIGHT_CACHE, as for build.sh; IMAGE_NAME (default: localhost/hookwright); IMAGE_TAG (default:
# the chart's version of the application).
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh
[ $# = 2 ] || { say "usage: image.sh BINARIES OUT"; exit 2; }
BINARIES=$1 OUT=$2

need_python
need strip "Install binutils (Debian: apt-get install binutils)."
need ldd "Install the C library's tools (Debian: apt-get install libc-bin)."
need_rust
settle_needs
PACKAGES=$(cache_folder)/image-$(hash_of <tools/image/requirements.txt)
if [ ! -e "$PACKAGES/complete" ]; then
  rm -rf "$PACKAGES"
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --require-hashes --only-binary :all: \
    --target "$PACKAGES" -r tools/image/requirements.txt
  touch "$PACKAGES/complete"
fi

VERSION=${IMAGE_TAG:-$(sed -n 's/^appVersion: //p' charts/hookwright/Chart.yaml)}
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cargo metadata --format-version 1 --locked >"$WORK/metadata.json"
mkdir -p "$OUT"
for component in operator dispatcher; do
  binary=hookwright-$component
  strip -o "$WORK/$binary" "$BINARIES/$binary"
  files=("/usr/bin/$binary=$WORK/$binary")
  while read -r library; do files+=("$library=$(realpath "$library")"); done \
    < <(ldd "$WORK/$binary" | grep -o '/[^ ]*' | grep -v ':$' | sort -u)
  tools/image/pack.py --out "$OUT/$component" --name "${IMAGE_NAME:-localhost/hookwright}/$component:$VERSION" \
    --binary "$binary" --packages "$PACKAGES" --metadata "$WORK/metadata.json" "${files[@]}"
done
