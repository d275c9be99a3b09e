#!/usr/bin/env bash
# Installs the official libraries that receivers use to verify webhooks and to parse CloudEvents, at the versions
# pinned in receivers/, into the cache (not the checkout), and prints where they are:
#
#   python=<interpreter of a virtual environment>
#   node_modules=<folder>
#
# With --demo only Python's: the demo's receiver is a Python program.
#
# Environment: HOOKWRIGHT_CACHE, as for build.sh. Several may run at once.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"
PINS=$(cd "$(dirname "$0")" && pwd)/receivers

DEMO=""
[ "${1:-}" != --demo ] || DEMO=1
need_python
[ -n "$DEMO" ] || need_node
settle_needs
CACHE=$(cache_folder)/receivers
mkdir -p "$CACHE"

# install NAME FOLDER COMMAND...: runs COMMAND FOLDER under a lock, once; FOLDER/complete says that it went through
install() {
  local name=$1 folder=$2 start log
  shift 2
  [ ! -e "$folder/complete" ] || return 0
  log=$folder.log
  exec 9>"$folder.lock"
  flock 9
  if [ ! -e "$folder/complete" ]; then
    start=$SECONDS
    rm -rf "$folder"
    mkdir -p "$folder"
    if ! "$@" "$folder" >"$log" 2>&1; then
      tail -n 20 "$log" >&2
      say "$name: the installation failed; all of its output is in $log"
      exit 1
    fi
    touch "$folder/complete"
    say "$name: installed in $((SECONDS - start)) s"
  fi
  exec 9>&-
}

python_packages() {
  python3 -m venv "$1" && "$1/bin/python" -m pip install --quiet --disable-pip-version-check -r "$PINS/requirements.txt"
}
node_packages() {
  cp "$PINS/package.json" "$PINS/package-lock.json" "$PINS/.npmrc" "$1/"
  (cd "$1" && npm ci --ignore-scripts --no-audit --no-fund)
}

PYTHON=$CACHE/python-$( (cat "$PINS/requirements.txt" && python3 -VV && command -v python3) | hash_of)
install "Python's standardwebhooks and cloudevents" "$PYTHON" python_packages
echo "python=$PYTHON/bin/python"
[ -z "$DEMO" ] || exit 0
NODE=$CACHE/node-$( (cat "$PINS/package.json" "$PINS/package-lock.json" && node --version) | hash_of)
install "JavaScript's standardwebhooks" "$NODE" node_packages
echo "node_modules=$NODE/node_modules"
