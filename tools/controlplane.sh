#!/usr/bin/env bash
# A real etcd, kube-apiserver and, unless not wanted, kube-controller-manager on loopback, for tests and the demo. No
# nodes, no root.
#
#   controlplane.sh --bin FOLDER [--state FOLDER] [--crds PATH] [--audit USER] [--no-controllers | --node IP:PORT]
#     [--until-stdin-closes]
#
# Prints "KUBECONFIG=<path>" when ready and serves until a signal, or, with --until-stdin-closes, until stdin reaches
# EOF: a harness that dies, however it dies, takes the cluster along.
#
#   --bin FOLDER    holds etcd, kube-apiserver, kube-controller-manager and kubectl (build.sh prints one)
#   --state FOLDER  for keys, logs and data, kept; default: a temporary folder, removed
#   --crds PATH     applied, and waited for, before the controllers start: the garbage collector looks for new kinds
#                   only every 30 s
#   --audit USER    what this user asks for is in the file audit.log of the state
#   --no-controllers  no kube-controller-manager: nothing that is owned is collected, a namespace that is deleted stays
#   --node IP:PORT  serve there, for a node and its Pods, and run every controller that these need
#
# Every child dies with this script (parent-death signal). Only its own children are ever killed, by pid.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

BIN="" STATE="" CRDS="" AUDIT="" CONTROLLERS=1 NODE="" STDIN_GUARD=""
while [ $# -gt 0 ]; do
  case $1 in
    --bin) BIN=$2; shift ;;
    --state) STATE=$2; shift ;;
    --crds) CRDS=$2; shift ;;
    --audit) AUDIT=$2; shift ;;
    --no-controllers) CONTROLLERS="" ;;
    --node) NODE=$2; shift ;;
    --until-stdin-closes) STDIN_GUARD=1 ;;
    *) say "unknown option $1"; exit 2 ;;
  esac
  shift
done
[ -n "$BIN" ] || { say "--bin is missing: give it the folder that tools/build.sh prints"; exit 2; }
if [ -n "$STATE" ]; then mkdir -p "$STATE"; STATE=$(cd "$STATE" && pwd); KEEP=1
else STATE=$(mktemp -d "${TMPDIR:-/tmp}/hookwright-controlplane.XXXXXX"); KEEP=""; fi
chmod 700 "$STATE"
# shellcheck source=tools/pki.sh
. "$(dirname "$0")/pki.sh"
# shellcheck source=tools/children.sh
. "$(dirname "$0")/children.sh"

PIDS=()
# shellcheck disable=SC2317 # the trap calls it
stop() {
  trap - EXIT INT TERM
  exec 2>/dev/null # bash would report each killed child
  local pid
  for pid in "${PIDS[@]}"; do kill -KILL "$pid" || true; done # a throw-away cluster needs no graceful stop
  wait || true
  [ -n "$KEEP" ] || rm -rf "$STATE"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A port that the kernel calls free now. Something may take it before the server binds it: the start is tried again.
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

make_ca
# The addresses of Services are loopback's, so that tests can listen there; on a node they are what Pods reach.
ADDRESS=127.0.0.1 SERVICES=127.96.0.0/16
if [ -n "$NODE" ]; then ADDRESS=${NODE%:*} SERVICES=10.96.0.0/16; fi
issue_certificate server /CN=kube-apiserver \
  "subjectAltName=IP:127.0.0.1,IP:$ADDRESS,IP:10.96.0.1,DNS:localhost,DNS:kubernetes.default.svc"
issue_certificate admin /O=system:masters/CN=admin
[ -z "$CONTROLLERS" ] || issue_certificate controller-manager /O=system:masters/CN=system:kube-controller-manager

# Unix sockets only, so that there is no port to race for; no fsync, the data is thrown away.
child etcd "$BIN/etcd" --data-dir "$STATE/etcd" --name one --unsafe-no-fsync --log-level warn \
  --listen-client-urls "unix://$STATE/c.sock" --advertise-client-urls "unix://$STATE/c.sock" \
  --listen-peer-urls "unix://$STATE/p.sock" --initial-advertise-peer-urls "unix://$STATE/p.sock" \
  --initial-cluster "one=unix://$STATE/p.sock"
ETCD=${PIDS[-1]}

FOR_AUDIT=()
if [ -n "$AUDIT" ]; then
  cat >"$STATE/audit-policy.yaml" <<YAML
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: Metadata, users: ["$AUDIT"]}
  - {level: None}
YAML
  FOR_AUDIT=(--audit-policy-file "$STATE/audit-policy.yaml" --audit-log-path "$STATE/audit.log")
fi

FOR_NODE=(--endpoint-reconciler-type none) # it refuses to publish a loopback address
if [ -n "$NODE" ]; then
  issue_certificate apiserver-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client
  FOR_NODE=(--enable-admission-plugins NodeRestriction --kubelet-preferred-address-types InternalIP
    --kubelet-client-certificate "$PKI/apiserver-kubelet.crt" --kubelet-client-key "$PKI/apiserver-kubelet.key")
fi

start_apiserver() {
  if [ -n "$NODE" ]; then PORT=${NODE##*:}; else PORT=$(free_port); fi
  child kube-apiserver "$BIN/kube-apiserver" \
    --bind-address "$ADDRESS" --advertise-address "$ADDRESS" --secure-port "$PORT" "${FOR_NODE[@]}" "${FOR_AUDIT[@]}" \
    --etcd-servers "unix://$STATE/c.sock" --client-ca-file "$PKI/ca.crt" \
    --tls-cert-file "$PKI/server.crt" --tls-private-key-file "$PKI/server.key" \
    --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$PKI/sa.pub" \
    --service-account-signing-key-file "$PKI/sa.key" --service-cluster-ip-range "$SERVICES" \
    --authorization-mode Node,RBAC --disable-admission-plugins DefaultStorageClass,StorageObjectInUseProtection \
    --enable-admission-plugins OwnerReferencesPermissionEnforcement \
    --profiling=false --shutdown-delay-duration 0s
  APISERVER=${PIDS[-1]}
}
start_apiserver
TRIES=1 DEADLINE=$((SECONDS + 120))
until [ "$(curl -s --noproxy '*' --max-time 2 --cacert "$PKI/ca.crt" "https://$ADDRESS:$PORT/readyz" 2>/dev/null)" = ok ]; do
  kill -0 "$ETCD" 2>/dev/null || die "etcd exited"
  if ! kill -0 "$APISERVER" 2>/dev/null; then
    { [ "$TRIES" -lt 3 ] && grep -q "address already in use" "$STATE/kube-apiserver.log"; } || die "kube-apiserver exited"
    TRIES=$((TRIES + 1))
    start_apiserver
  fi
  [ "$SECONDS" -lt "$DEADLINE" ] || die "kube-apiserver is not ready after 120 s"
  sleep 0.05
done
write_kubeconfig admin "https://$ADDRESS:$PORT" "$STATE/kubeconfig"
[ -z "$CONTROLLERS" ] || write_kubeconfig controller-manager "https://$ADDRESS:$PORT" "$STATE/controller-manager.kubeconfig"

if [ -n "$CRDS" ]; then
  "$BIN/kubectl" --kubeconfig "$STATE/kubeconfig" apply -f "$CRDS" >"$STATE/crds.log" 2>&1 || die "the CRDs are refused"
  "$BIN/kubectl" --kubeconfig "$STATE/kubeconfig" wait --for=condition=Established -f "$CRDS" --timeout=120s \
    >>"$STATE/crds.log" 2>&1 || die "the CRDs are not established"
fi

WANTED=garbage-collector-controller,namespace-controller,serviceaccount-controller,root-ca-certificate-publisher-controller,clusterrole-aggregation-controller
[ -z "$NODE" ] || WANTED='*,-bootstrap-signer-controller,-token-cleaner-controller,-node-ipam-controller,-node-route-controller,-cloud-node-lifecycle-controller'
[ -z "$CONTROLLERS" ] || child kube-controller-manager "$BIN/kube-controller-manager" \
  --kubeconfig "$STATE/controller-manager.kubeconfig" --controllers "$WANTED" \
  --use-service-account-credentials=false --leader-elect=false --secure-port 0 \
  --service-account-private-key-file "$PKI/sa.key" --root-ca-file "$PKI/ca.crt" \
  --cluster-signing-cert-file "$PKI/ca.crt" --cluster-signing-key-file "$PKI/ca.key"

echo "KUBECONFIG=$STATE/kubeconfig"
if [ -n "$STDIN_GUARD" ]; then
  cat <&0 >/dev/null & # in the background for bash, so that a signal is handled at once
  GUARD=$!
  PIDS+=("$GUARD")
  wait -n "${PIDS[@]}" || true
  kill -0 "$GUARD" 2>/dev/null || exit 0
else
  wait -n "${PIDS[@]}" || true
fi
die "a server of the control plane exited"
