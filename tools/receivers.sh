#!/usr/bin/env bash
# Installs the official libraries that receivers use to verify webhooks and to parse CloudEvents, at the versions
# pinned in receivers/, into the cache (not the checkout), and prints where they are:
#
#   python=<interpreter of a virtual environment>
#   node_modules=<folder>
#   go=<program>                      receivers/go, built
#   java=<class path>                 receivers/java, compiled, with what it uses
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
if [ -z "$DEMO" ]; then
  need_node
  need_go
fi
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

go_program() { (cd "$PINS/go" && CGO_ENABLED=0 go build -trimpath -o "$1/verify" .); }
java_classes() {
  local jars=$1/jars
  # A small plugin, as each file of one comes by a request of its own: it prints the class path.
  mkdir "$jars" && cp "$PINS/java/pom.xml" "$1/" &&
    (cd "$1" && mvn -B -q org.codehaus.mojo:exec-maven-plugin:1.6.0:exec -Dexec.executable=echo -Dexec.args=%classpath) >"$1/classpath" &&
    tr ':' '\n' <"$1/classpath" | grep '\.jar$' | xargs -I{} cp {} "$jars/" &&
    (cd "$jars" && sha256sum --check --strict --quiet "$PINS/java/jars.sha256") &&
    javac --release 17 -cp "$jars/*" -d "$1/classes" "$PINS/java/Verify.java"
}

PYTHON=$CACHE/python-$( (cat "$PINS/requirements.txt" && python3 -VV && command -v python3) | hash_of)
if [ -n "$DEMO" ]; then
  install "Python's standardwebhooks and cloudevents" "$PYTHON" python_packages
  echo "python=$PYTHON/bin/python"
  exit 0
fi
NODE=$CACHE/node-$( (cat "$PINS/package.json" "$PINS/package-lock.json" && node --version) | hash_of)
GO=$CACHE/go-$( (cat "$PINS"/go/* && go version) | hash_of)
# To ask javac for its version takes long; its path tells versions apart.
JAVA=$CACHE/java-$( (cat "$PINS"/java/* && readlink -f "$(command -v javac || echo none)") | hash_of)
[ -e "$JAVA/complete" ] || need_java
settle_needs
# They wait for registries most of the time.
installing=()
( install "Python's standardwebhooks and cloudevents" "$PYTHON" python_packages ) & installing+=($!)
( install "JavaScript's standardwebhooks and cloudevents" "$NODE" node_packages ) & installing+=($!)
( install "Go's standard-webhooks and cloudevents" "$GO" go_program ) & installing+=($!)
( install "Java's standardwebhooks and cloudevents" "$JAVA" java_classes ) & installing+=($!)
for one in "${installing[@]}"; do wait "$one"; done
echo "python=$PYTHON/bin/python"
echo "node_modules=$NODE/node_modules"
echo "go=$GO/verify"
echo "java=$JAVA/classes:$JAVA/jars/*"
