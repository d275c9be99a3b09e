#!/usr/bin/env bash
# Refuses CRDs that are tighter than those of the last release: of the highest tag v*, wherever it is. Before the first
# release there is nothing to compare with.
#
# crd-compat.sh [REPOSITORY [COMPARE...]]: the repository that has the tags, and the program that compares.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
repository=${1:-$here}
compare=("${@:2}")
if [ ${#compare[@]} = 0 ]; then
  cd "$here"
  # The whole workspace and a test, for the reason that the Makefile gives.
  cargo build --quiet --locked --workspace --bin hookwright-crds-compat --test releases
  compare=("${CARGO_TARGET_DIR:-target}/debug/hookwright-crds-compat")
fi
if [ "$(git -C "$repository" rev-parse --is-shallow-repository)" = true ]; then
  echo "This clone is shallow and may lack the tags of releases: run git fetch --unshallow --tags first." >&2
  exit 1
fi
# v1.0.0 is above v1.0.0-rc.1.
tag=$(git -C "$repository" -c versionsort.suffix=- for-each-ref --count=1 --sort=-version:refname \
  --format='%(refname:short)' 'refs/tags/v[0-9]*')
if [ -z "$tag" ]; then
  echo "no release yet: nothing to compare the CRDs with"
  exit 0
fi
old=$(mktemp -d)
trap 'rm -rf "$old"' EXIT
git -C "$repository" archive "$tag" crds/yaml | tar -x -C "$old"
echo "comparing the CRDs with those of $tag"
"${compare[@]}" "$old/crds/yaml"
