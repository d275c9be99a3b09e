# shellcheck shell=bash
# Shared by the scripts of this folder; sourced, not run.

# Where built servers and installed packages live: outside the checkout, so that every clone shares them.
cache_folder() {
  local folder=${HOOKWRIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hookwright}
  mkdir -p "$folder"
  (cd "$folder" && pwd)
}

say() { echo "$@" >&2; }

# hash_of: a short name for what stdin says
hash_of() { sha256sum | cut -c1-16; }

# need COMMAND SENTENCE: notes a missing prerequisite; `settle_needs` ends the script if there was any.
MISSING=0
need() {
  command -v "$1" >/dev/null 2>&1 && return 0
  say "missing: $1. $2"
  MISSING=1
}
settle_needs() { [ "$MISSING" = 0 ] || exit 1; }

need_go() { need go "Install Go 1.26 or newer (https://go.dev/doc/install)."; }
need_python() {
  need python3 "Install Python 3.10 or newer (Debian: apt-get install python3 python3-venv)."
  command -v python3 >/dev/null 2>&1 || return 0
  if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    say "$(python3 --version) is too old. Install Python 3.10 or newer."
    MISSING=1
  elif ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
    say "missing: Python's venv module. Install it (Debian: apt-get install python3-venv)."
    MISSING=1
  fi
}
need_node() {
  need node "Install Node.js 18 or newer (https://nodejs.org)."
  need npm "Install npm; it comes with Node.js (https://nodejs.org)."
}
