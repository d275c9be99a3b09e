#!/usr/bin/env bash
# What `make cluster-test` does on the node (node.sh runs this): Hookwright is installed with the chart, delivers, is
# upgraded, evicted and rolled back under traffic, and removed. Prints a table of the steps; stops at the first failure.
#
#   scenario.sh CHART TAG    the chart that is installed first, and the tag of its images; the upgrade is to this checkout's
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/../lib.sh"
[ $# = 2 ] || { say "usage: scenario.sh CHART TAG"; exit 2; }

FIRST_CHART=$(realpath "$1") FIRST_TAG=$2
RATE=200 MOST=200000
SYSTEM=hookwright-system
WORK=$(mktemp -d)
export HELM_CACHE_HOME=$WORK/helm HELM_CONFIG_HOME=$WORK/helm HELM_DATA_HOME=$WORK/helm
VALUES=(--values charts/hookwright/ci/quickstart-values.yaml --values tools/node/values.yaml)
PUBLISHER="" TABLE="" FIRST="" RC=0

system() { kubectl -n $SYSTEM "$@"; }
shop() { kubectl -n shop "$@"; }
now() { date +%s%N; }
seconds_since() { awk -v ns=$(($(now) - $1)) 'BEGIN { printf "%.1f", ns / 1e9 }'; }

# shellcheck disable=SC2317 # the trap calls it
finish() {
  RC=$?
  trap - EXIT
  [ -z "$PUBLISHER" ] || kill "$PUBLISHER" 2>/dev/null || true
  [ "$RC" = 0 ] || diagnose >&2
  printf '\n%-56s %-7s %8s\n%s' Step Result Seconds "$TABLE"
  [ -z "$FIRST" ] || printf '\nFrom helm install to the first verified webhook: %s s\n' "$FIRST"
  [ ! -s "$WORK/traffic" ] || cat "$WORK/traffic"
  rm -rf "$WORK"
  exit "$RC"
}
trap finish EXIT
trap 'exit 143' INT TERM

diagnose() {
  cat "$WORK/step.log"
  [ ! -s "$WORK/publisher.log" ] || cat "$WORK/publisher.log"
  system get pods,pvc -o wide || true
  system get events --sort-by=.metadata.creationTimestamp || true
  system logs -l app.kubernetes.io/name=hookwright --tail=20 --all-containers --prefix || true
  kubectl get producers.hookwright.dev,subscriptions.hookwright.dev,pods -A -o wide || true
}

# step NAME FUNCTION: runs it, and adds a line to the table. It isn't called in a condition, where bash would go on
# after a command of it that fails.
step() {
  local start rc=0
  start=$(now)
  say "==> $1"
  set +e
  (set -e; "$2") >"$WORK/step.log" 2>&1
  rc=$?
  set -e
  TABLE+=$(printf '%-56s %-7s %8s' "$1" "$([ $rc = 0 ] && echo ok || echo FAILED)" "$(seconds_since "$start")")$'\n'
  return $rc
}

# until_true SECONDS COMMAND...
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || { say "not in time: $*"; return 1; }
    sleep 0.2
  done
}

# received FIELD: from the receiver's own count
received() {
  kubectl get --raw /api/v1/namespaces/shop/services/receiver:80/proxy/report |
    python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"
}
received_at_least() { [ "$(received distinct)" -ge "$1" ]; }
delivered() { [ "$(shop get subscriptions.hookwright.dev billing -o 'jsonpath={.status.delivery.delivered}')" = "$1" ]; }
publisher() {
  NATS_URL=$(cat "$WORK/nats-url") exec setpriv --pdeathsig KILL \
    nsenter -t "$NODE_PID" -n probe publish shop.events.order.created "$@"
}

# ------------------------------------------------------------------------------------------------------------ the steps

# volume NAME: for the bundled NATS; the node has nothing that makes one. It is in the node's folder, and goes with it.
volume() {
  local folder=${KUBECONFIG%/*}/$1
  mkdir -m 777 "$folder"
  kubectl create -f - <<YAML
{apiVersion: v1, kind: PersistentVolume, metadata: {name: $1}, spec: {accessModes: [ReadWriteOnce],
  capacity: {storage: 10Gi}, hostPath: {path: $folder}}}
YAML
}

# Command 1 of 2, of which the time is told.
install() {
  helm install hookwright "$FIRST_CHART" -n $SYSTEM --create-namespace "${VALUES[@]}" --set "image.tag=$FIRST_TAG" \
    --wait --timeout 300s
}

quickstart_objects() { kubectl kustomize --load-restrictor LoadRestrictionsNone tools/node/quickstart; }
quickstart_ready() {
  shop wait --for=condition=Ready subscriptions.hookwright.dev/billing --timeout=120s
  shop wait --for=condition=Available deployment/receiver --timeout=120s
}

# Command 2 of 2.
quickstart() {
  quickstart_objects | kubectl apply --server-side -f -
  quickstart_ready
  local server password
  server=$(system get service hookwright-nats -o 'jsonpath={.spec.clusterIP}')
  password=$(system get secret hookwright-nats-passwords -o 'jsonpath={.data.app}' | base64 -d)
  (umask 077; echo "nats://app:$password@$server:4222" >"$WORK/nats-url")
  (publisher 1 1) >"$WORK/first"
  until_true 60 received_at_least 1
}

# reach ADDRESS PHASE: from a Pod of the namespace of the applications
reach() {
  local name=reach-${1##*:}
  shop run "$name" --image localhost/probe:node --image-pull-policy Never --restart Never -- reach "$1"
  shop wait --for "jsonpath={.status.phase}=$2" "pod/$name" --timeout=120s
}
policies() {
  local address
  address=$(system get pod hookwright-nats-0 -o 'jsonpath={.status.podIP}')
  reach "$address:4222" Succeeded
  reach "$address:8222" Failed
}

traffic_flows() { until_true 60 received_at_least 400; }

dispatchers() { system get pods -l app.kubernetes.io/component=dispatcher -o name | sort; }
# replaced COMMAND...: it leaves no dispatcher that was there
replaced() {
  local before
  before=$(dispatchers)
  "$@"
  system rollout status deployment/hookwright-dispatcher --timeout=120s
  # shellcheck disable=SC2086 # names of Pods are words
  system wait --for=delete $before --timeout=120s
}
upgrade() {
  replaced helm upgrade hookwright charts/hookwright -n $SYSTEM "${VALUES[@]}" \
    --set dispatcher.settings.lane.inFlight=32 --wait --timeout 300s
}
rollback() { replaced helm rollback hookwright -n $SYSTEM --wait --timeout 300s; }

# evict POD
evict() {
  echo '{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "'"$1"'"}}' |
    kubectl create --raw "/api/v1/namespaces/$SYSTEM/pods/$1/eviction" -f -
}
evictions() {
  local pods said
  mapfile -t pods < <(dispatchers | cut -d / -f 2)
  evict "${pods[0]}"
  said=$(evict "${pods[1]}" 2>&1) && { say "the budget lets both go"; return 1; }
  grep "disruption budget" <<<"$said"
  system wait --for=delete "pod/${pods[0]}" --timeout=120s
  system rollout status deployment/hookwright-dispatcher --timeout=120s
}

# The publisher is a child of the script, not of this step: it is waited for by what it writes.
nothing_lost() {
  until_true 60 test -s "$WORK/published"
  local published took distinct duplicates refused
  read -r published took <"$WORK/published"
  published=$((published + 1)) # the quickstart's
  until_true 120 delivered "$published"
  distinct=$(received distinct) duplicates=$(received duplicates) refused=$(received refused)
  awk -v published="$published" -v took="$took" -v distinct="$distinct" -v duplicates="$duplicates" -v refused="$refused" 'BEGIN {
    printf "%d events published (%.0f a second for %s s), %d received: %d lost, %d duplicates, %d with a bad signature\n",
      published, (published - 1) / took, took, distinct, published - distinct, duplicates, refused }' | tee "$WORK/traffic"
  [ "$distinct" = "$published" ] && [ "$duplicates" = 0 ] && [ "$refused" = 0 ]
}

no_difference() {
  helm template hookwright "$FIRST_CHART" -n $SYSTEM "${VALUES[@]}" --set "image.tag=$FIRST_TAG" --no-hooks >"$WORK/rendered.yaml"
  { echo --- && quickstart_objects; } >>"$WORK/rendered.yaml"
  kubectl diff --server-side --force-conflicts -f "$WORK/rendered.yaml" # as a GitOps tool, which is not helm
  local judged
  judged=$(kubectl get -f "$WORK/rendered.yaml" -o json |
    python3 -c 'import json, sys; print(*map(json.dumps, json.load(sys.stdin)["items"]), sep="\n")' | kstatus | sort | uniq -c)
  echo "$judged"
  [ "$(awk '{print $2}' <<<"$judged")" = Current ]
}

uninstall() { helm uninstall hookwright -n $SYSTEM --wait --timeout 180s; }

kept_without_finalizers() {
  local left
  shop get producers.hookwright.dev/orders subscriptions.hookwright.dev/billing
  left=$(shop get producers.hookwright.dev,subscriptions.hookwright.dev -o 'jsonpath={.items[*].metadata.finalizers}')
  [ -z "$left" ] || { say "finalizers: $left"; return 1; }
}

namespaces_go() { kubectl delete namespace shop $SYSTEM --timeout=180s; }

# can_read_secrets_of NAMESPACE: whether the operator can
can_read_secrets_of() {
  kubectl auth can-i get secrets -n "$1" --as "system:serviceaccount:$SYSTEM:hookwright-operator"
}

# Only the namespace `shop` is served, and the CRDs go with the release.
uninstall_with_crds() {
  kubectl create namespace shop
  kubectl create namespace other
  volume nats-2
  helm install hookwright charts/hookwright -n $SYSTEM --create-namespace "${VALUES[@]}" --set crds.keep=false \
    --set "rbac.namespaces={shop}" --wait --timeout 300s
  sed 's/namespace: shop/namespace: other/' examples/quickstart/producer.yaml | kubectl apply -f -
  quickstart_objects | kubectl apply --server-side -f -
  quickstart_ready
  can_read_secrets_of shop
  ! can_read_secrets_of other || return 1
  [ "$(kubectl get -n other producers.hookwright.dev orders -o 'jsonpath={.metadata.finalizers}')" = "" ]
  uninstall
  local left
  left=$(kubectl get crd -o name | grep hookwright.dev || true)
  [ -z "$left" ] || { say "left: $left"; return 1; }
  namespaces_go
}

# Without helm, and twice, as people do who keep manifests in a repository.
plain_manifests() {
  local overlay=$WORK/overlay
  volume nats-3
  mkdir "$overlay"
  cat >"$overlay/kustomization.yaml" <<YAML
{apiVersion: kustomize.config.k8s.io/v1beta1, kind: Kustomization,
  resources: [$(realpath --relative-to "$overlay" manifests)],
  images: [{name: docker.io/library/nats, newName: localhost/nats-server, newTag: node}]}
YAML
  kubectl apply --server-side -k "$overlay"
  kubectl create namespace shop
  kubectl apply --server-side -f examples/quickstart/producer.yaml
  shop wait --for=condition=Ready producers.hookwright.dev/orders --timeout=180s
  system rollout status deployment/hookwright-dispatcher --timeout=120s
  kubectl apply --server-side -k "$overlay"
  kubectl create -f manifests/uninstall/release.yaml
  system wait --for=condition=Complete job/hookwright-release --timeout=120s
  kubectl delete -k "$overlay" --timeout=180s
  kubectl delete namespace shop --timeout=180s
}

# --------------------------------------------------------------------------------------------------------- the scenario

cd "$(dirname "$0")/../.."
kubectl create namespace $SYSTEM >/dev/null
kubectl label namespace $SYSTEM pod-security.kubernetes.io/enforce=restricted >/dev/null
kubectl create namespace shop >/dev/null
volume nats-1 >/dev/null
start=$(now)
step "helm install --wait, with bundled NATS" install
step "quickstart: a receiver Pod verifies the first webhook" quickstart
FIRST=$(seconds_since "$start")
step "network policies: NATS is open, its monitor is not" policies
publisher $RATE $MOST >"$WORK/published" 2>"$WORK/publisher.log" &
PUBLISHER=$!
step "$RATE events/s flow" traffic_flows
step "under traffic: helm upgrade, all dispatchers replaced" upgrade
step "under traffic: a dispatcher is evicted, a second is not" evictions
step "under traffic: helm rollback, all dispatchers replaced" rollback
kill "$PUBLISHER" || say "the publisher has ended by itself"
PUBLISHER=""
step "0 lost, 0 duplicates" nothing_lost
step "server-side dry run: no difference; kstatus: Current" no_difference
step "helm uninstall --wait" uninstall
step "objects are kept, without finalizers" kept_without_finalizers
step "the namespaces can be deleted" namespaces_go
step "crds.keep=false, rbac.namespaces: install, uninstall" uninstall_with_crds
step "plain manifests: apply twice, release, delete" plain_manifests
