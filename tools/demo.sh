#!/usr/bin/env bash
# Builds what the demo uses, and starts it. The servers are written in Go and Hookwright in Rust: they are built side by
# side. ONCE=1 verifies what happened and exits.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh

tools/prerequisites.sh --demo
TARGET=${CARGO_TARGET_DIR:-target}
if [ ! -x "$TARGET/debug/hookwright-demo" ]; then
  say "The first time, servers and Hookwright are built: about ten minutes on two cores, most of it kube-apiserver."
  say "After that the demo takes half a minute. Servers that are on PATH, and new enough, are not built."
fi

# The demo asks tools/build.sh where the servers are.
servers() {
  tools/step.sh "Servers and command lines" sh -c 'tools/build.sh --demo >/dev/null'
  tools/step.sh "Receiver's libraries" sh -c 'tools/receivers.sh --demo >/dev/null'
}
set -m # a process group of its own, so that all of it can be ended
servers &
servers=$!
set +m
trap 'kill -- "-$servers" 2>/dev/null || true' EXIT
# The whole workspace and a small test, for the reason that the Makefile gives.
tools/step.sh "Building Hookwright" "${CARGO:-cargo}" build --locked --workspace \
  --bin hookwright-operator --bin hookwright-dispatcher --bin hookwright-demo --test releases
wait "$servers"
trap - EXIT
exec "$TARGET/debug/hookwright-demo"
