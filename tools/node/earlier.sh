#!/usr/bin/env bash
# Builds an earlier commit, for an upgrade from it.
#
#   earlier.sh COMMIT OUT    writes OUT/chart, and OUT/images with the tag `earlier`; what cargo builds stays in OUT, too
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# = 2 ] || { echo "usage: earlier.sh COMMIT OUT" >&2; exit 2; }
COMMIT=$1
mkdir -p "$2"
OUT=$(realpath "$2")

rm -rf "$OUT/checkout" "$OUT/chart"
mkdir "$OUT/checkout"
git archive "$COMMIT" | tar -x -C "$OUT/checkout"
(cd "$OUT/checkout" && CARGO_TARGET_DIR=$OUT/target \
  cargo build --release --workspace --locked --bin hookwright-operator --bin hookwright-dispatcher)
cp -r "$OUT/checkout/charts/hookwright" "$OUT/chart"
IMAGE_TAG=earlier tools/image.sh "$OUT/target/release" "$OUT/images"
