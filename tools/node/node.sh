#!/usr/bin/env bash
# A whole Kubernetes of one node, for a command: control plane, scheduler, controllers, containerd with runc, kubelet,
# kube-proxy (nftables), CoreDNS, and of kube-router what enforces NetworkPolicies. Pods run for real, Services and DNS work.
# Needs root; fetches nothing.
#
#   node.sh --bin FOLDER [--image FILE.tar]... -- COMMAND...   runs COMMAND, stops everything, exits as COMMAND did
#
#   --bin FOLDER      what `build.sh --node` prints
#   --image FILE.tar  imported before the start
#
# COMMAND has KUBECONFIG, and NODE_PID, a process in the node's namespaces: `nsenter -t $NODE_PID -n` is where the
# addresses of Pods and Services are reached.
#
# Everything runs in mount, network, PID, cgroup, UTS and IPC namespaces of its own: of the machine's network, /var, /run
# and sysctls nothing changes, and the end of the one `unshare` process ends all of it. From outside only the API server
# is reached, on a loopback port.
#
# Environment: TMPDIR, for data that is removed afterwards: on a disk which can carry overlayfs, and not under /run,
# /var/lib or /var/log, which the node has for itself. So the cache of servers may not be there, either.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tools/lib.sh
. "$HERE/../lib.sh"
# shellcheck source=tools/children.sh
. "$HERE/../children.sh"

NODE=hookwright-node ADDRESS=10.88.0.1 PORT=6443 PODS=10.244.0.0/16 DNS=10.96.0.10
PIDS=() KEEP=""

wait_for() { # wait_for SECONDS WHAT COMMAND...
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ $SECONDS -lt $end ] || die "the node: no $what in time"
    sleep 0.1
  done
}

# ---------------------------------------------------------------------------------------------- inside the namespaces

inside() {
  STATE=$1 BIN=$2
  shift 2
  # shellcheck source=tools/pki.sh
  . "$HERE/../pki.sh"
  hostname "$NODE"
  private_filesystem
  private_network
  child controlplane "$HERE/../controlplane.sh" --bin "$BIN" --state "$STATE" --node "$ADDRESS:$PORT"
  start_containerd
  for image in "$@"; do
    "$BIN/ctr" -n k8s.io images import "$image" >>"$STATE/import.log" 2>&1 || die "$image can't be imported"
  done
  wait_for 120 "control plane" grep -qs '^KUBECONFIG=' "$STATE/controlplane.log"
  identity scheduler /CN=system:kube-scheduler
  child kube-scheduler "$BIN/kube-scheduler" --kubeconfig "$STATE/scheduler.kubeconfig" --leader-elect=false --secure-port 0
  start_kubelet
  start_kube_proxy
  start_kube_router
  sed "s/DNS_IP/$DNS/" "$HERE/coredns.yaml" | "$BIN/kubectl" --kubeconfig "$STATE/kubeconfig" apply -f - \
    >"$STATE/coredns-apply.log" 2>&1 || die "CoreDNS is refused"
  touch "$STATE/inside-ready"
  wait -n "${PIDS[@]}" || true
  die "a process of the node exited"
}

private_filesystem() {
  mount --make-rshared / # among what runs here; a slave of the machine (unshare --propagation slave)
  mount -t sysfs sysfs /sys
  mount -t tmpfs cgroup /sys/fs/cgroup
  local controllers folder setting file
  while IFS=: read -r _ controllers _; do # each hierarchy again, with this cgroup namespace as its root
    [ -n "$controllers" ] || continue
    folder=/sys/fs/cgroup/${controllers#name=}
    mkdir -p "$folder"
    mount -t cgroup -o "$controllers" cgroup "$folder"
  done </proc/self/cgroup
  mount -t tmpfs tmpfs /run
  mount -t tmpfs tmpfs /var/lib
  for folder in kubelet containerd cni; do
    mkdir -p "$STATE/$folder" "/var/lib/$folder"
    mount --bind "$STATE/$folder" "/var/lib/$folder"
  done
  mkdir -p "$STATE/log" "$STATE/sysctl"
  mount --bind "$STATE/log" /var/log
  : >"$STATE/resolv.conf"
  # The kubelet insists on these settings of the whole machine. It sees what it wants, and the machine keeps its own.
  for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    file=$STATE/sysctl/$(basename "${setting%=*}")
    echo "${setting#*=}" >"$file"
    mount --bind "$file" "/proc/sys/${setting%=*}"
  done
}

private_network() {
  ip link set lo up
  ip link add node0 type veth peer name node1 # an address that isn't loopback; no cable leads out
  ip addr add "$ADDRESS/24" dev node0
  ip link set node0 up
  ip link set node1 up
  ip route add default dev node0
  echo 1 >/proc/sys/net/ipv4/ip_forward
}

start_containerd() {
  mkdir -p "$STATE/cni-conf" /run/containerd
  cat >"$STATE/cni-conf/10-node.conflist" <<JSON
{"cniVersion": "1.0.0", "name": "node", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "${PODS%/*}/24"}]], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "/var/lib/cni"}},
  {"type": "portmap", "capabilities": {"portMappings": true}, "backend": "nftables"}]}
JSON
  cat >"$STATE/containerd.toml" <<TOML
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "localhost/pause:node"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true # root in a virtual machine may not be allowed to lower it
  disable_apparmor = true
  disable_hugetlb_controller = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["$BIN"]
    conf_dir = "$STATE/cni-conf"
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = "runc"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        BinaryName = "$BIN/runc"
        SystemdCgroup = false
TOML
  child containerd "$BIN/containerd" --config "$STATE/containerd.toml"
  wait_for 60 containerd sh -c "'$BIN/ctr' version >/dev/null 2>&1"
}

# identity NAME SUBJECT [EXTENSION]: a client certificate and its kubeconfig
identity() {
  issue_certificate "$@"
  write_kubeconfig "$1" "https://$ADDRESS:$PORT" "$STATE/$1.kubeconfig"
}

start_kubelet() {
  identity kubelet "/O=system:nodes/CN=system:node:$NODE" "subjectAltName=IP:$ADDRESS,DNS:$NODE"
  cat >"$STATE/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $ADDRESS
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $PKI/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $PKI/kubelet.crt
tlsPrivateKeyFile: $PKI/kubelet.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
protectKernelDefaults: true
oomScoreAdj: 0
maxOpenFiles: $(ulimit -Hn)
clusterDNS: [$DNS]
clusterDomain: cluster.local
resolvConf: $STATE/resolv.conf
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
YAML
  child kubelet "$BIN/kubelet" --config "$STATE/kubelet.yaml" --kubeconfig "$STATE/kubelet.kubeconfig" \
    --hostname-override "$NODE" --node-ip "$ADDRESS"
}

start_kube_proxy() {
  identity kube-proxy /CN=system:kube-proxy
  cat >"$STATE/kube-proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: $STATE/kube-proxy.kubeconfig}
clusterCIDR: $PODS
hostnameOverride: $NODE
oomScoreAdj: 0
healthzBindAddress: 127.0.0.1:10256
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
YAML
  child kube-proxy "$BIN/kube-proxy" --config "$STATE/kube-proxy.yaml"
}

# It works on iptables, beside kube-proxy's tables. A new Pod is unknown to it for up to a second.
start_kube_router() {
  identity kube-router /O=system:masters/CN=kube-router
  # It exits if the node isn't registered.
  wait_for 120 "registered node" sh -c "'$BIN/kubectl' --kubeconfig '$STATE/kube-router.kubeconfig' get node $NODE >/dev/null 2>&1"
  NODE_NAME=$NODE child kube-router "$BIN/kube-router" --kubeconfig "$STATE/kube-router.kubeconfig" --hostname-override "$NODE" \
    --run-firewall=true --run-router=false --run-service-proxy=false --enable-cni=false \
    --service-cluster-ip-range 10.96.0.0/16 --health-port 0 --metrics-port 0
}

if [ "${1:-}" = --inside ]; then
  shift
  inside "$@"
fi

# ---------------------------------------------------------------------------------------------- outside, on the machine

BIN="" IMAGES=()
while [ $# -gt 0 ]; do
  case $1 in
    --bin) BIN=$2; shift ;;
    --image) IMAGES+=("$(realpath "$2")"); shift ;;
    --) shift; break ;;
    *) say "unknown option $1"; exit 2 ;;
  esac
  shift
done
{ [ -n "$BIN" ] && [ $# -gt 0 ]; } || { say "usage: node.sh --bin FOLDER [--image FILE.tar]... -- COMMAND..."; exit 2; }
export PATH=$BIN:$PATH # containerd looks there for its shim

STATE=$(mktemp -d "${TMPDIR:-/tmp}/hookwright-node.XXXXXX")
for folder in "$STATE" "$BIN"; do
  case $(realpath "$folder") in
    /run/* | /var/lib/* | /var/log/*) say "$folder: the node has folders of its own there; set TMPDIR and HOOKWRIGHT_CACHE to others"; exit 1 ;;
  esac
done

CGROUPS=()
# shellcheck disable=SC2317 # the trap calls it
stop() {
  trap - EXIT INT TERM
  exec 2>/dev/null # bash would report each killed child
  local pid cgroup
  for pid in "${PIDS[@]}"; do kill -KILL "$pid" || true; done
  wait || true
  for cgroup in "${CGROUPS[@]}"; do # they are empty once the PID namespace is gone
    for _ in $(seq 50); do
      find "$cgroup" -depth -type d -exec rmdir {} \;
      [ -d "$cgroup" ] || break
      sleep 0.1
    done
  done
  [ -n "$KEEP" ] || rm -rf "$STATE"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A cgroup in each hierarchy, below the one that this shell is in.
while IFS=: read -r _ controllers path; do
  [ -n "$controllers" ] || continue
  root=/sys/fs/cgroup/${controllers#name=}
  [ -d "$root" ] || root=/sys/fs/cgroup/$controllers
  cgroup=$root${path%/}/hookwright-node-$$
  mkdir "$cgroup"
  CGROUPS+=("$cgroup")
  if [ "$controllers" = cpuset ]; then # an empty one takes no process
    cat "$(dirname "$cgroup")/cpuset.cpus" >"$cgroup/cpuset.cpus"
    cat "$(dirname "$cgroup")/cpuset.mems" >"$cgroup/cpuset.mems"
    echo 1 >"$cgroup/cgroup.clone_children"
  fi
done </proc/self/cgroup

(
  for cgroup in "${CGROUPS[@]}"; do echo "$BASHPID" >"$cgroup/cgroup.procs"; done
  exec setpriv --pdeathsig KILL unshare --mount --propagation slave --net --pid --cgroup --uts --ipc --fork \
    --kill-child=KILL --mount-proc "$HERE/node.sh" --inside "$STATE" "$BIN" "${IMAGES[@]}"
) >"$STATE/node.log" 2>&1 </dev/null &
UNSHARE=$!
PIDS+=("$UNSHARE")
ended_or() { ! kill -0 "$UNSHARE" 2>/dev/null || "$@"; }
wait_for 300 "start" ended_or test -e "$STATE/inside-ready"
kill -0 "$UNSHARE" 2>/dev/null || die "the node ended while it started"
NODE_PID=$(ps -o pid= --ppid "$UNSHARE" | head -n 1 | tr -d ' ')

child forward python3 "$HERE/forward.py" "$NODE_PID" "$ADDRESS:$PORT"
wait_for 30 "way into the node" test -s "$STATE/forward.log"
# shellcheck source=tools/pki.sh
. "$HERE/../pki.sh"
write_kubeconfig admin "https://127.0.0.1:$(cat "$STATE/forward.log")" "$STATE/kubeconfig"

export KUBECONFIG=$STATE/kubeconfig NODE_PID
kubectl wait --for=create "node/$NODE" --timeout=120s >/dev/null || die "the node did not register"
kubectl wait --for=condition=Ready "node/$NODE" --timeout=120s >/dev/null || die "the node is not Ready"
kubectl -n kube-system rollout status deployment/coredns --timeout=120s >/dev/null || die "CoreDNS is not available"
"$@" <&0 & # in the background for bash, so that a signal is handled at once
COMMAND=$!
PIDS+=("$COMMAND")
rc=0
wait "$COMMAND" || rc=$?
exit "$rc"
