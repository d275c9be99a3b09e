#!/usr/bin/env bash
# Refuses CRDs that are tighter than those of the last released tag (v*). Before the first release there is nothing to
# compare with.
set -euo pipefail
cd "$(dirname "$0")/.."
tag=$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null || true)
if [ -z "$tag" ]; then
  echo "no release yet: nothing to compare the CRDs with"
  exit 0
fi
old=$(mktemp -d)
trap 'rm -rf "$old"' EXIT
git archive "$tag" crds/yaml | tar -x -C "$old"
echo "comparing the CRDs with those of $tag"
cargo run --quiet --locked --package hookwright-crds --bin hookwright-crds-compat -- "$old/crds/yaml"
