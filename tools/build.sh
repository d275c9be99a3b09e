#!/usr/bin/env bash
# Makes ready the servers and command lines that the demo and the tests start, as pinned by the go.mod files beside
# this script, and one folder with a link to each.
#
#   build.sh               one line per tool on stderr, then the folder on stdout
#   build.sh --print-bin   the same, silent about what was there already
#   build.sh --demo        only what the demo uses; what has to be built for it is compiled quickly, and runs slower
#   build.sh --helm        only helm, which renders and checks the chart
#   build.sh --node        also helm and what a node runs (node/node.sh), all as pinned: a kubelet may not be newer than
#                          the API server
#
# A tool comes from, in this order: KUBEBUILDER_ASSETS; PATH, when the version there is good enough; the cache; a build.
# Several may run at once, also from several checkouts: each is built under a lock, into a folder named by its pins.
#
# Environment: HOOKWRIGHT_CACHE (default: hookwright in the user's cache folder), KUBEBUILDER_ASSETS.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"
HERE=$(cd "$(dirname "$0")" && pwd)

QUIET="" DEMO="" HELM="" NODE=""
for option in "$@"; do
  case $option in
    --print-bin) QUIET=1 ;;
    --demo) DEMO=1 ;;
    --helm) HELM=1 ;;
    --node) NODE=1 ;;
    *) say "usage: build.sh [--print-bin] [--demo | --helm | --node]"; exit 2 ;;
  esac
done

CACHE=$(cache_folder)/tools
mkdir -p "$CACHE"
LINKS=() # NAME=PATH of each tool

# How they are compiled: for the tests, which make servers work; and for the demo, without the optimizer and the
# debugger's tables.
FULL=""
QUICK="-dwarf=false -N -l"

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

# module_folder MODULE-FOLDER LDFLAGS GCFLAGS: where in the cache what is built of this module, so, belongs
module_folder() {
  local module=$HERE/$1
  echo "$CACHE/$1-$( (cd "$module" && cat go.mod go.sum && find . -name '*.go' -exec cat {} + && go version && echo "$2 $3${TAGS:+ $TAGS}") | hash_of)"
}

# built TOOL MODULE-FOLDER LDFLAGS: prints where the cache has it; the demo takes what either way of compiling made
built() {
  local flags folder
  for flags in "$FULL" ${DEMO:+"$QUICK"}; do
    folder=$(module_folder "$2" "$3" "$flags")
    if [ -x "$folder/$1" ]; then
      echo "$folder/$1"
      return 0
    fi
  done
  return 1
}

# provide MODULE-FOLDER LDFLAGS MINUTES {TOOL MINIMUM VERSION-ARGS PACKAGE}...: tools of one module; those that are
# missing are built together, so that what they have in common is compiled once and they are linked side by side. With
# TAGS they are built so, and with a C compiler
provide() {
  local module=$1 ldflags="-s -w $2" minutes=$3 path tools=() packages=() names=() flags=$FULL folder start n cgo=0
  [ -z "${TAGS:-}" ] || cgo=1
  [ -z "$DEMO" ] || flags=$QUICK
  shift 3
  while [ $# -gt 0 ]; do
    # shellcheck disable=SC2086 # the version arguments are words
    if [ -z "$NODE" ] && [ -n "$2" ] && path=$(given "$1" "$2" $3); then
      report "$1" "$path"
      LINKS+=("$1=$path")
    else
      need_go
      settle_needs
      if path=$(built "$1" "$module" "$ldflags"); then
        report "$1" cached
        LINKS+=("$1=$path")
      else
        tools+=("$1") packages+=("$4")
      fi
    fi
    shift 4
  done
  [ ${#tools[@]} -gt 0 ] || return 0
  folder=$(module_folder "$module" "$ldflags" "$flags")
  mkdir -p "$folder"
  exec 9>"$folder.lock"
  flock 9
  # Another run may have built them meanwhile.
  for n in "${!tools[@]}"; do
    LINKS+=("${tools[n]}=$folder/${tools[n]}")
    if [ -x "$folder/${tools[n]}" ]; then unset "tools[n]" "packages[n]"; else names+=("${tools[n]}"); fi
  done
  if [ ${#names[@]} -gt 0 ]; then
    say "${names[*]}: building, about $minutes on two cores (once; it goes into the cache)"
    start=$SECONDS
    rm -rf "$folder/new"
    mkdir "$folder/new"
    if ! (cd "$HERE/$module" && CGO_ENABLED=$cgo go build -trimpath -tags "${TAGS:-}" -gcflags "all=$flags" -ldflags "$ldflags" -o "$folder/new/" "${packages[@]}") >"$folder/build.log" 2>&1; then
      tail -n 20 "$folder/build.log" >&2
      say "${names[*]}: the build failed; all of its output is in $folder/build.log"
      exit 1
    fi
    # A binary is named for its package, which is not always the tool's name.
    for n in "${!tools[@]}"; do mv "$folder/new/$(package_name "${packages[n]}" "$module")" "$folder/${tools[n]}"; done
    rmdir "$folder/new"
    say "${names[*]}: built in $((SECONDS - start)) s"
  fi
  exec 9>&-
}

# package_name PACKAGE MODULE-FOLDER: what go names its binary
package_name() {
  local path=$1
  [ "$path" != . ] || path=$2
  [[ ! $path =~ /v[0-9]+$ ]] || path=${path%/*}
  echo "${path##*/}"
}

# pinned MODULE-FOLDER MODULE: its version in go.mod
pinned() { sed -n "s|.*$2 \(v[0-9.]*\).*|\1|p" "$HERE/$1/go.mod" | head -n 1; }

# kubernetes_flags MODULE-FOLDER: what a binary says its version is
kubernetes_flags() {
  local version minor package flags=""
  version=$(pinned "$1" k8s.io/kubernetes)
  minor=$(echo "$version" | cut -d. -f2)
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags="$flags -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=$minor"
  done
  echo "$flags"
}

# Always the pinned one: what it renders is compared byte by byte.
provide_helm() {
  provide helm "-X helm.sh/helm/v4/internal/version.version=$(pinned helm helm.sh/helm/v4)" "3 minutes" \
    helm "" "" helm.sh/helm/v4/cmd/helm
}

provide_node() {
  local commands=k8s.io/kubernetes/cmd containerd=github.com/containerd/containerd/v2 \
    runc=github.com/opencontainers/runc cni=github.com/containernetworking/plugins/plugins
  provide node/kube "$(kubernetes_flags node/kube)" "8 minutes" kube-scheduler "" "" $commands/kube-scheduler \
    kubelet "" "" $commands/kubelet kube-proxy "" "" $commands/kube-proxy
  provide node/containerd "-X $containerd/version.Version=$(pinned node/containerd $containerd)" "4 minutes" \
    containerd "" "" $containerd/cmd/containerd ctr "" "" $containerd/cmd/ctr \
    containerd-shim-runc-v2 "" "" $containerd/cmd/containerd-shim-runc-v2
  TAGS=seccomp provide node/runc "-X main.version=$(pinned node/runc $runc)" "a minute" runc "" "" $runc
  provide node/cni "" "a minute" bridge "" "" $cni/main/bridge loopback "" "" $cni/main/loopback \
    host-local "" "" $cni/ipam/host-local portmap "" "" $cni/meta/portmap
  # Only its firewall runs. Later versions are not on the module proxy.
  provide node/policy "" "3 minutes" kube-router "" "" github.com/cloudnativelabs/kube-router/v2/cmd/kube-router
  provide node/coredns "" "5 minutes" coredns "" "" github.com/coredns/coredns
  provide node/probe "" "half a minute" probe "" "" .
}

if [ -n "$HELM" ]; then
  provide_helm
else
  provide etcd "" "a minute" etcd 3.5 --version go.etcd.io/etcd/server/v3
  provide nats "" "half a minute" nats-server 2.12.7 --version github.com/nats-io/nats-server/v2
  provide natscli "" "a minute" nats 0.1.5 --version github.com/nats-io/natscli/nats
  # kubectl is supported within one minor version of the API server.
  KUBE=(kube-apiserver 1.32 --version k8s.io/kubernetes/cmd/kube-apiserver
    kubectl 1.35 "version --client" k8s.io/kubernetes/cmd/kubectl)
  if [ -n "$DEMO" ]; then
    provide kube "$(kubernetes_flags kube)" "5 minutes" "${KUBE[@]}"
  else
    provide kube "$(kubernetes_flags kube)" "8 minutes" "${KUBE[@]}" \
      kube-controller-manager 1.32 --version k8s.io/kubernetes/cmd/kube-controller-manager
    # Ours, around a library: what GitOps tools hold an object for.
    provide kstatus "" "half a minute" kstatus "" "" .
  fi
fi
if [ -n "$NODE" ]; then
  provide_helm
  provide_node
fi

BIN=$CACHE/bin-$(printf '%s\n' "${LINKS[@]}" | hash_of)
if [ ! -d "$BIN" ]; then
  fresh=$(mktemp -d "$CACHE/bin.XXXXXX")
  for link in "${LINKS[@]}"; do ln -s "${link#*=}" "$fresh/${link%%=*}"; done
  mv -T "$fresh" "$BIN" 2>/dev/null || rm -rf "$fresh" # another run was faster
fi
echo "$BIN"
