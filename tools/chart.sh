#!/usr/bin/env bash
# Generates what is generated of the chart: the CRDs in it, the README of its values, a render for each file of values in
# charts/hookwright/ci, the plain manifests, and values for the official NATS chart. Checks the chart with `helm lint --strict`
# on each of these files, and with chart-test.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh

HELM=$(tools/build.sh --print-bin --helm)/helm
CHART=charts/hookwright
# Nothing of the caller's helm takes part.
HELM_CONFIG_HOME=$(mktemp -d)
trap 'rm -rf "$HELM_CONFIG_HOME"' EXIT
export HELM_CONFIG_HOME HELM_CACHE_HOME=$HELM_CONFIG_HOME HELM_DATA_HOME=$HELM_CONFIG_HOME

# kubectl apply keeps an object's JSON in an annotation, which may have this many bytes.
MOST=262144

render() { "$HELM" template hookwright "$CHART" --namespace hookwright-system --kube-version 1.36.0 "$@"; }

mkdir -p "$CHART/files/crds" "$CHART/renders" manifests/uninstall
rm -f "$CHART"/files/crds/*.yaml "$CHART"/renders/*.yaml
for crd in crds/yaml/*.yaml; do
  [ "$(wc -c <"$crd")" -lt "$MOST" ] || { say "$crd has $MOST bytes or more: kubectl apply would refuse it"; exit 1; }
  cp "$crd" "$CHART/files/crds/"
done
tools/chart-readme.py "$CHART" >"$CHART/README.md"
for values in "$CHART"/ci/*-values.yaml; do
  name=$(basename "$values" -values.yaml)
  "$HELM" lint --strict --quiet --namespace hookwright-system "$CHART" --values "$values" >&2
  # The CRDs are the same in each, and in crds/yaml.
  render --values "$values" --set crds.enabled=false --skip-tests >"$CHART/renders/$name.yaml"
done

# The plain manifests: all but what runs before the end. A part of helm's output begins with its template's name.
render --set nats.bundled.enabled=true |
  awk '/^---$/ { held = 1; next } held { shown = $0 !~ /release-hook.yaml$/; held = 0; if (shown) print "---" } shown' >manifests/install.yaml
render --set nats.bundled.enabled=true --show-only templates/release-hook.yaml >manifests/uninstall/release.yaml

# Values for the official NATS chart, with the users and permissions of the bundled NATS.
mkdir -p manifests/nats
{
  cat <<'YAML'
# Values for the official NATS chart (https://github.com/nats-io/k8s): three servers, and Hookwright's users with the least
# rights for each. `make generate` takes the users from charts/hookwright/files/nats.conf. Their passwords are in a Secret,
# with a key for each; see docs/reference/install.md.
config:
  cluster: {enabled: true, replicas: 3}
  jetstream:
    enabled: true
    fileStore: {pvc: {size: 50Gi}}
    # A write is acknowledged once it is on the disk.
    merge: {sync_interval: always}
  merge: {$include: hookwright.conf}
container:
  env:
    OPERATOR_PASSWORD: {valueFrom: {secretKeyRef: {name: hookwright-nats-passwords, key: operator}}}
    DISPATCHER_PASSWORD: {valueFrom: {secretKeyRef: {name: hookwright-nats-passwords, key: dispatcher}}}
    APP_PASSWORD: {valueFrom: {secretKeyRef: {name: hookwright-nats-passwords, key: app}}}
    READER_PASSWORD: {valueFrom: {secretKeyRef: {name: hookwright-nats-passwords, key: reader}}}
    SYS_PASSWORD: {valueFrom: {secretKeyRef: {name: hookwright-nats-passwords, key: sys}}}
configMap:
  merge:
    data:
      hookwright.conf: |
YAML
  sed -n '/^accounts {/,$ {s/^/        /; s/ *$//; p}' "$CHART/files/nats.conf"
} >manifests/nats/values.yaml

tools/chart-test.sh "$HELM"
