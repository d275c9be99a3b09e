#!/usr/bin/env bash
# What the chart's renders don't show: values that are refused, each with a sentence that names them, and what changes with
# other values.
#
#   chart-test.sh HELM
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh
[ $# = 1 ] || { say "usage: chart-test.sh HELM"; exit 2; }
HELM=$1

render() { "$HELM" template hookwright charts/hookwright --namespace hookwright-system --kube-version 1.36.0 "$@" 2>&1; }
bundled() { render --set nats.bundled.enabled=true "$@"; }
own() { render --set-string "nats.url=$1" "${@:2}"; }

fail() { say "chart: $*"; exit 1; }

# refused SENTENCE COMMAND...
refused() {
  local said
  if said=$("${@:2}"); then fail "accepted: ${*:2}"; fi
  grep -qF -- "$1" <<<"$said" || fail "${*:2} is refused, without \"$1\": $said"
}

# has LINE COMMAND...
has() {
  local said
  said=$("${@:2}") || fail "${*:2}: $said"
  grep -qF -- "$1" <<<"$said" || fail "${*:2} has no line with \"$1\""
}

refused "give nats.url, or" render
refused "give nats.url or nats.bundled.enabled, not both" bundled --set nats.url=nats://x:4222
for value in tls.caSecret operator.user operator.passwordSecret operator.credentialsSecret operator.nkeySecret \
  operator.clientCertificateSecret operator.inboxPrefix dispatcher.user dispatcher.nkeySecret; do
  refused "give nats.$value or nats.bundled.enabled, not both" bundled --set "nats.$value=x"
done
refused "give one of" own nats://x:4222 --set nats.operator.credentialsSecret=a,nats.operator.nkeySecret=b
refused "needs user and passwordSecret together" own nats://x:4222 --set nats.dispatcher.user=a
refused "two keys have the keyId k2" bundled --set "sealing.accepted[0].keyId=k2,sealing.accepted[0].keySecret=a" \
  --set "sealing.accepted[1].keyId=k2,sealing.accepted[1].keySecret=b"
refused "two keys have the keyId k1" bundled --set "sealing.accepted[0].keyId=k1,sealing.accepted[0].keySecret=a"
refused "/nats/url" own http://x:4222
refused "/fullnameOverride" bundled --set fullnameOverride=Foo
refused "/fullnameOverride" bundled --set fullnameOverride=1foo
refused "/dispatcher/settings/connections/maxAge" bundled --set dispatcher.settings.connections.maxAge=x
refused "/nats/bundled/storage" bundled --set nats.bundled.storage=10
for component in operator dispatcher; do
  refused "app.kubernetes.io/name" bundled --set "$component.podLabels.app\.kubernetes\.io/name=x"
done
for network in 0.0.0.0/0 ::/0 2000::/3; do
  refused "deniedCIDRs" bundled --set "egress.deniedCIDRs={$network}"
done
# Processes would not start with these.
for ports in 99999 0 8000-70000; do
  refused "/egress/allowedPorts" bundled --set-string "egress.allowedPorts={$ports}"
done
for key in egress.allowedPorts egress.namespaces.shop.allowedPorts; do
  refused "9000-8000 ends before it begins" bundled --set "$key={9000-8000}"
done
refused "/egress/allowedCIDRs" bundled --set 'egress.allowedCIDRs={10.0.0.0/33}'
refused "/egress/proxy/url" bundled --set egress.proxy.url=http://proxy.example/path
refused "unknown" bundled --set unknown=x

has "path: accepted/sealing.key" bundled --set "sealing.accepted[0].keyId=sealing,sealing.accepted[0].keySecret=a"

# nats_ports ARGUMENTS...: the ports of NATS that the operator may reach
nats_ports() { own "$@" --set "networkPolicy.dns.ports={53},networkPolicy.apiServer.ports={6443}" \
  --show-only templates/network-policies.yaml | sed '/name: hookwright-dispatcher/,$d' |
  grep -o 'port: [0-9]*, protocol: TCP' | grep -v 'port: \(53\|6443\),' | grep -o '[0-9]*' | paste -sd ' '; }
same() { [ "$2" = "$3" ] || fail "$1: $2, not $3"; }
same "port of a URL" "$(nats_ports tls://nats.example.com:443)" 443
same "ports of URLs" "$(nats_ports 'nats://a:4223\,nats://b\, nats://c:4223')" "4223 4222"
same "ports that are given" "$(nats_ports nats://a:4223 --set 'networkPolicy.nats.ports={7777}')" 7777

proxy=egress.proxy.url
has "{port: 3128, protocol: TCP}" bundled --set "$proxy=http://proxy.example:3128"
has "{port: 443, protocol: TCP}" bundled --set "$proxy=https://proxy.example" \
  --set 'egress.allowedPorts={8443},networkPolicy.apiServer.ports={6443}'
has "cidr: 10.1.2.3/32" bundled --set "$proxy=http://10.1.2.3:3128"
# checksums ARGUMENTS...: what the Pods are restarted by
checksums() { bundled "$@" | grep -o 'checksum/settings: [0-9a-f]\{64\}'; }
same "the kinds of Pods that are restarted by it, with NATS" "$(checksums | grep -c .)" 3
same "the Pods with other egress rules" "$(checksums --set 'egress.allowedPorts={8443}')" "$(checksums)"
has "{name: proxy, mountPath: /etc/hookwright/proxy, readOnly: true}" bundled --set dispatcher.proxyCredentialsSecret=login

# A Job can't be changed: whatever it runs, its name is another one.
job() { bundled "$@" | grep -o 'hookwright-make-secrets-[0-9a-f]\{8\}' | sort -u; }
plain=$(job)
same "the Job's name with a value that isn't the Job's" "$(job --set dispatcher.replicas=3)" "$plain"
for value in image.tag=x operator.tolerations[0].operator=Exists operator.nodeSelector.a=b image.pullPolicy=Always \
  hooks.resources.limits.memory=64Mi image.pullSecrets[0].name=x sealing.keySecret=x; do
  [ "$(job --set "$value")" != "$plain" ] || fail "the Job with $value has the name of the one without"
done
