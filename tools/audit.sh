#!/usr/bin/env bash
# Checks the dependencies by deny.toml. Installs the pinned cargo-deny into the cache when it isn't there.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"
VERSION=0.20.2

need cargo "Install Rust 1.95 or newer (https://rustup.rs)."
settle_needs
ROOT=$(cache_folder)/tools/cargo-deny-$VERSION
if [ ! -x "$ROOT/bin/cargo-deny" ]; then
  mkdir -p "$ROOT"
  exec 9>"$ROOT.lock"
  flock 9
  if [ ! -x "$ROOT/bin/cargo-deny" ]; then
    say "cargo-deny: building (once; it goes into the cache)"
    # a target folder of its own: the caller's may be set, and is not for this
    CARGO_TARGET_DIR=$ROOT/target cargo install cargo-deny --version "$VERSION" --locked --root "$ROOT"
    rm -rf "$ROOT/target"
  fi
  exec 9>&-
fi
cd "$(dirname "$0")/.."
exec "$ROOT/bin/cargo-deny" --locked check bans licenses sources
