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

# at_least MINIMUM VERSION SENTENCE: notes a program that is too old.
at_least() {
  [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ] && return 0
  say "version $2 is too old. $3"
  MISSING=1
}
need_rust() {
  local sentence="Install Rust 1.95 or newer (https://rustup.rs)."
  need cargo "$sentence"
  command -v cargo >/dev/null 2>&1 || return 0
  at_least 1.95 "$(cargo --version | cut -d ' ' -f 2)" "$sentence"
}
need_go() {
  local sentence="Install Go 1.26 or newer (https://go.dev/doc/install)."
  need go "$sentence"
  command -v go >/dev/null 2>&1 || return 0
  at_least 1.26 "$(GOTOOLCHAIN=local go env GOVERSION | sed 's/^go//')" "$sentence"
}
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
  local sentence="Install Node.js 20 or newer (https://nodejs.org)."
  need node "$sentence"
  ! command -v node >/dev/null 2>&1 || at_least 20 "$(node --version | sed 's/^v//')" "$sentence"
  need npm "Install npm; it comes with Node.js (https://nodejs.org)."
}
need_java() {
  local sentence="Install a Java development kit 17 or newer, and Maven (Debian: apt-get install default-jdk-headless maven)."
  need javac "$sentence"
  need java "$sentence"
  need mvn "$sentence"
  ! command -v javac >/dev/null 2>&1 || at_least 17 "$(javac -version 2>&1 | cut -d ' ' -f 2)" "$sentence"
}
