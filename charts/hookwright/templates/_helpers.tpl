{{/* The name of the release's objects. */}}
{{- define "hookwright.name" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains "hookwright" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-hookwright" .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Labels of a component: dict "root" $ "component" "operator". */}}
{{- define "hookwright.labels" -}}
{{ include "hookwright.selector" . }}
app.kubernetes.io/part-of: hookwright
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{- end }}

{{- define "hookwright.selector" -}}
app.kubernetes.io/name: hookwright
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The image of a component. */}}
{{- define "hookwright.image" -}}
{{- $image := .root.Values.image -}}
{{- $digest := get $image (printf "%sDigest" .component) -}}
{{ $image.repository }}/{{ .component }}{{ if $digest }}@{{ $digest }}{{ else }}:{{ $image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* Pod Security "restricted". */}}
{{- define "hookwright.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "hookwright.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "hookwright.sealingSecret" -}}
{{ .Values.sealing.keySecret | default (printf "%s-sealing-key" (include "hookwright.name" .)) }}
{{- end }}

{{- define "hookwright.natsPasswordsSecret" -}}
{{ .Values.nats.bundled.passwordsSecret | default (printf "%s-nats-passwords" (include "hookwright.name" .)) }}
{{- end }}

{{/* The Secrets that have to be generated, as a JSON list of arguments. */}}
{{- define "hookwright.secretsToMake" -}}
{{- $arguments := list -}}
{{- if not .Values.sealing.keySecret }}{{ $arguments = append $arguments (printf "--sealing-key=%s" (include "hookwright.sealingSecret" .)) }}{{ end -}}
{{- if and .Values.nats.bundled.enabled (not .Values.nats.bundled.passwordsSecret) }}{{ $arguments = append $arguments (printf "--nats-passwords=%s" (include "hookwright.natsPasswordsSecret" .)) }}{{ end -}}
{{ toJson $arguments }}
{{- end }}

{{- define "hookwright.natsUrl" -}}
{{- $nats := .Values.nats -}}
{{- if $nats.bundled.enabled -}}
{{- $given := dict "nats.url" $nats.url "nats.tls.caSecret" $nats.tls.caSecret -}}
{{- range $component := list "operator" "dispatcher" -}}
{{- $login := get $nats $component -}}
{{- range $key, $value := $login }}{{ $_ := set $given (printf "nats.%s.%s" $component $key) $value }}{{ end -}}
{{- end -}}
{{- range $name, $value := $given -}}
{{- if $value }}{{ fail (printf "give %s or nats.bundled.enabled, not both" $name) }}{{ end -}}
{{- end -}}
nats://{{ include "hookwright.name" . }}-nats.{{ .Release.Namespace }}.svc:4222
{{- else -}}
{{ required "give nats.url, or nats.bundled.enabled=true to try Hookwright with a NATS of its own" $nats.url }}
{{- end }}
{{- end }}

{{/* The configuration of the bundled NATS. A prefix moves names, subjects and users. */}}
{{- define "hookwright.natsConf" -}}
{{- $conf := .Files.Get "files/nats.conf" -}}
{{- $prefix := .Values.operator.settings.installation.prefix -}}
{{- if $prefix -}}
{{- $conf = $conf | replace "HOOKWRIGHT_" (printf "HOOKWRIGHT_%s_" (upper $prefix)) -}}
{{- range list "parked" "dead" -}}
{{- $conf = $conf | replace (printf "hookwright.%s." .) (printf "hookwright.%s.%s." $prefix .) -}}
{{- end -}}
{{- range list "operator" "dispatcher" "app" "reader" -}}
{{- $conf = $conf | replace (printf "user: %s\n" .) (printf "user: %s_%s\n" $prefix .) -}}
{{- $conf = $conf | replace (printf "_INBOX_%s." .) (printf "_INBOX_%s_%s." $prefix .) -}}
{{- end -}}
{{- end -}}
{{- $conf -}}
{{- end }}

{{/* The ports of your NATS, as a JSON list: those that are given, or those of nats.url. */}}
{{- define "hookwright.natsPorts" -}}
{{- $ports := .Values.networkPolicy.nats.ports -}}
{{- if not $ports -}}
{{- range splitList "," .Values.nats.url -}}
{{- $ports = append $ports (regexFind ":[0-9]+$" (. | trim | trimSuffix "/") | trimPrefix ":" | default "4222" | int) -}}
{{- end -}}
{{- end -}}
{{ toJson (uniq $ports) }}
{{- end }}

{{/* The settings of the connection to NATS: dict "root" $ "component" "operator". */}}
{{- define "hookwright.natsSettings" -}}
{{- $nats := .root.Values.nats -}}
{{- $login := get $nats .component -}}
url: {{ include "hookwright.natsUrl" .root }}
{{- $prefix := .root.Values.operator.settings.installation.prefix }}
{{- $own := ternary (printf "%s_%s" $prefix .component) .component (not (empty $prefix)) }}
inboxPrefix: {{ $login.inboxPrefix | default (printf "_INBOX_%s" $own) }}
{{- if $nats.bundled.enabled }}
user: {{ $own }}
passwordFile: /etc/hookwright/nats/{{ .component }}
{{- else }}
{{- $ways := compact (list $login.passwordSecret $login.credentialsSecret $login.nkeySecret) }}
{{- if gt (len $ways) 1 }}{{ fail (printf "give one of passwordSecret, credentialsSecret and nkeySecret in nats.%s" .component) }}{{ end }}
{{- if ne (empty $login.user) (empty $login.passwordSecret) }}{{ fail (printf "nats.%s needs user and passwordSecret together" .component) }}{{ end }}
{{- if $login.passwordSecret }}
user: {{ $login.user | quote }}
passwordFile: /etc/hookwright/nats/password
{{- else if $login.credentialsSecret }}
credentialsFile: /etc/hookwright/nats/user.creds
{{- else if $login.nkeySecret }}
nkeyFile: /etc/hookwright/nats/seed
{{- end }}
{{- with $nats.tls.caSecret }}
caFile: /etc/hookwright/nats-ca/ca.crt
{{- end }}
{{- with $login.clientCertificateSecret }}
clientCertificateFile: /etc/hookwright/nats-client/tls.crt
clientKeyFile: /etc/hookwright/nats-client/tls.key
{{- end }}
{{- end }}
{{- end }}

{{/* Volumes of a component: settings, egress file, sealing key, what the connection to NATS needs. */}}
{{- define "hookwright.volumes" -}}
{{- $nats := .root.Values.nats -}}
{{- $login := get $nats .component -}}
- name: settings
  configMap:
    name: {{ include "hookwright.name" .root }}-{{ .component }}
- name: egress
  configMap:
    name: {{ include "hookwright.name" .root }}-egress
- name: sealing
  projected:
    sources:
      - secret:
          name: {{ include "hookwright.sealingSecret" .root }}
          items: [{key: sealing.key, path: sealing.key}]
      {{- range .root.Values.sealing.accepted }}
      - secret:
          name: {{ .keySecret }}
          items: [{key: sealing.key, path: accepted/{{ .keyId }}.key}]
      {{- end }}
{{- if and (eq .component "dispatcher") .root.Values.dispatcher.proxyCredentialsSecret }}
- name: proxy
  secret:
    secretName: {{ .root.Values.dispatcher.proxyCredentialsSecret }}
    items: [{key: credentials, path: credentials}]
{{- end }}
{{- if $nats.bundled.enabled }}
- name: nats
  secret:
    secretName: {{ include "hookwright.natsPasswordsSecret" .root }}
    items: [{key: {{ .component }}, path: {{ .component }}}]
{{- else }}
{{- with compact (list $login.passwordSecret $login.credentialsSecret $login.nkeySecret) }}
- name: nats
  secret:
    secretName: {{ first . }}
{{- end }}
{{- with $nats.tls.caSecret }}
- name: nats-ca
  secret:
    secretName: {{ . }}
    items: [{key: ca.crt, path: ca.crt}]
{{- end }}
{{- with $login.clientCertificateSecret }}
- name: nats-client
  secret:
    secretName: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "hookwright.volumeMounts" -}}
{{- range $volume := (include "hookwright.volumes" . | fromYamlArray) }}
- {name: {{ $volume.name }}, mountPath: /etc/hookwright/{{ $volume.name }}, readOnly: true}
{{- end }}
{{- end }}

{{/* Settings that both binaries have. */}}
{{- define "hookwright.commonSettings" -}}
nats:
  {{- include "hookwright.natsSettings" . | nindent 2 }}
http:
  listen: "[::]:8080"
egressFile: /etc/hookwright/egress/egress.yaml
sealing:
  keyId: {{ .root.Values.sealing.keyId | quote }}
  keyFile: /etc/hookwright/sealing/sealing.key
  {{- $ids := list .root.Values.sealing.keyId }}
  {{- with .root.Values.sealing.accepted }}
  accepted:
    {{- range . }}
    {{- if has .keyId $ids }}{{ fail (printf "sealing: two keys have the keyId %s" .keyId) }}{{ end }}
    {{- $ids = append $ids .keyId }}
    - {keyId: {{ .keyId | quote }}, keyFile: /etc/hookwright/sealing/accepted/{{ .keyId }}.key}
    {{- end }}
  {{- end }}
log:
  {{- toYaml .root.Values.log | nindent 2 }}
{{- end }}

{{/* Where a Pod runs. */}}
{{- define "hookwright.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "hookwright.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
