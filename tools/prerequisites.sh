#!/usr/bin/env bash
# Names each program that building, the demo and the tests need and that is not there; with --demo, what the demo needs.
# Installs nothing.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

[ "$(uname -s)" = Linux ] || { say "Hookwright's demo and tests run on Linux: they use setpriv and parent-death signals."; exit 1; }
need_rust
need_go
need cc "Install a C compiler (Debian: apt-get install build-essential)."
need openssl "Install OpenSSL's command line (Debian: apt-get install openssl)."
need curl "Install curl (Debian: apt-get install curl)."
need_python
if [ "${1:-}" != --demo ]; then
  need_node
  need_java
fi
need flock "Install util-linux (Debian: apt-get install util-linux)."
need setpriv "Install util-linux (Debian: apt-get install util-linux)."
settle_needs
