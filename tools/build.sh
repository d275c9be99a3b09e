#!/usr/bin/env bash
# Makes ready the servers and command lines that the demo and the tests start, as pinned by the go.mod files beside
# this script, and one folder with a link to each.
#
#   build.sh               one line per tool on stderr, then the folder on stdout
#   build.sh --print-bin   the same, silent about what was there already
#
# A tool comes from, in this order: KUBEBUILDER_ASSETS; PATH, when the version there is good enough; the cache; a build.
# Several may run at once, also from several checkouts: each tool is built under a lock, into a folder named by its pins.
#
# Environment: HOOKWRIGHT_CACHE (default: hookwright in the user's cache folder), KUBEBUILDER_ASSETS.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"
HERE=$(cd "$(dirname "$0")" && pwd)

QUIET=""
case ${1:-} in
  --print-bin) QUIET=1 ;;
  "") ;;
  *) say "usage: build.sh [--print-bin]"; exit 2 ;;
esac

CACHE=$(cache_folder)/tools
mkdir -p "$CACHE"
LINKS=() # NAME=PATH of each tool

report() { [ -n "$QUIET" ] || say "$1: $2"; }

# good_enough VERSION MINIMUM
good_enough() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# given TOOL MINIMUM VERSION-ARGS...: prints where a tool that is there already lives
given() {
  local tool=$1 minimum=$2 path version
  shift 2
  if [ -n "${KUBEBUILDER_ASSETS:-}" ] && [ -x "$KUBEBUILDER_ASSETS/$tool" ]; then
    echo "$KUBEBUILDER_ASSETS/$tool"
    return 0
  fi
  path=$(command -v "$tool") || return 1
  version=$("$path" "$@" 2>/dev/null) || return 1
  [[ $version =~ [0-9]+\.[0-9]+(\.[0-9]+)? ]] && good_enough "${BASH_REMATCH[0]}" "$minimum" && echo "$path"
}

# build TOOL MODULE-FOLDER PACKAGE [LDFLAGS]: prints nothing; leaves the binary in $BUILT
build() {
  local tool=$1 module=$HERE/$2 package=$3 flags="-s -w ${4:-}" key folder start
  need_go
  settle_needs
  key=$( (cd "$module" && cat go.mod go.sum && find . -name '*.go' -exec cat {} + && go version && echo "$package $flags") | hash_of)
  folder=$CACHE/$tool-$key
  BUILT=$folder/$tool
  if [ -x "$BUILT" ]; then
    report "$tool" cached
    return
  fi
  mkdir -p "$folder"
  exec 9>"$folder.lock"
  flock 9
  if [ ! -x "$BUILT" ]; then
    say "$tool: building (once; it goes into the cache)"
    start=$SECONDS
    if ! (cd "$module" && CGO_ENABLED=0 go build -trimpath -ldflags "$flags" -o "$BUILT.new" "$package") >"$folder/build.log" 2>&1; then
      tail -n 20 "$folder/build.log" >&2
      say "$tool: the build failed; all of its output is in $folder/build.log"
      exit 1
    fi
    mv "$BUILT.new" "$BUILT"
    say "$tool: built in $((SECONDS - start)) s"
  else
    report "$tool" cached
  fi
  exec 9>&-
}

# provide TOOL MINIMUM VERSION-ARGS MODULE-FOLDER PACKAGE [LDFLAGS]
provide() {
  local tool=$1 minimum=$2 path
  # shellcheck disable=SC2086 # the version arguments are words
  if path=$(given "$tool" "$minimum" $3); then
    report "$tool" "$path"
  else
    build "$tool" "$4" "$5" "${6:-}"
    path=$BUILT
  fi
  LINKS+=("$tool=$path")
}

kubernetes_flags() {
  local version minor package flags=""
  version=$(sed -n 's|^require k8s.io/kubernetes \(v[0-9.]*\).*|\1|p' "$HERE/kube/go.mod")
  minor=$(echo "$version" | cut -d. -f2)
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags="$flags -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=$minor"
  done
  echo "$flags"
}
KUBE_FLAGS=$(kubernetes_flags)

provide etcd 3.5 --version etcd go.etcd.io/etcd/server/v3
provide nats-server 2.12 --version nats github.com/nats-io/nats-server/v2
provide nats 0.1.5 --version natscli github.com/nats-io/natscli/nats
provide kube-apiserver 1.30 --version kube k8s.io/kubernetes/cmd/kube-apiserver "$KUBE_FLAGS"
provide kube-controller-manager 1.30 --version kube k8s.io/kubernetes/cmd/kube-controller-manager "$KUBE_FLAGS"
# kubectl is supported within one minor version of the API server.
provide kubectl 1.35 "version --client" kube k8s.io/kubernetes/cmd/kubectl "$KUBE_FLAGS"

# Ours, around a library: what GitOps tools hold an object for.
build kstatus kstatus .
LINKS+=("kstatus=$BUILT")

BIN=$CACHE/bin-$(printf '%s\n' "${LINKS[@]}" | hash_of)
if [ ! -d "$BIN" ]; then
  fresh=$(mktemp -d "$CACHE/bin.XXXXXX")
  for link in "${LINKS[@]}"; do ln -s "${link#*=}" "$fresh/${link%%=*}"; done
  mv -T "$fresh" "$BIN" 2>/dev/null || rm -rf "$fresh" # another run was faster
fi
echo "$BIN"
