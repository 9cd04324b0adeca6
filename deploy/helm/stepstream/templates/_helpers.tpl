{{- define "stepstream.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "stepstream.fullname" -}}
{{- $name := include "stepstream.name" . }}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "stepstream.selector" -}}
app.kubernetes.io/name: {{ include "stepstream.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "stepstream.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "stepstream.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "stepstream.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "stepstream.keysSecret" -}}
{{ .Values.keys.existingSecret | default (printf "%s-keys" (include "stepstream.fullname" .)) }}
{{- end }}

{{- define "stepstream.sasl" -}}
{{- if hasPrefix "SASL" .Values.kafka.securityProtocol }}true{{ end }}
{{- end }}

{{/* KEDA's names for the mechanisms, and for TLS. */}}
{{- define "stepstream.kedaSasl" -}}
{{- if not (include "stepstream.sasl" .) }}none
{{- else if eq .Values.kafka.sasl.mechanism "PLAIN" }}plaintext
{{- else }}{{ .Values.kafka.sasl.mechanism | lower | replace "-" "_" | replace "sha_" "sha" }}
{{- end }}
{{- end }}

{{- define "stepstream.kedaTls" -}}
{{- if hasSuffix "SSL" .Values.kafka.securityProtocol }}enable{{ else }}disable{{ end }}
{{- end }}

{{- define "stepstream.saslSecret" -}}
{{ .Values.kafka.sasl.existingSecret | default (printf "%s-sasl" (include "stepstream.fullname" .)) }}
{{- end }}

{{/* A name within the namespace of Kafka, as KafkaSettings.name makes it. */}}
{{- define "stepstream.kafkaName" -}}
{{- if .root.Values.namespace }}{{ .root.Values.namespace }}.{{ end }}{{ .name }}
{{- end }}

{{/* New keys and passwords take hold at once. */}}
{{- define "stepstream.secretsChecksum" -}}
checksum/secrets: {{ include (print .Template.BasePath "/secrets.yaml") . | sha256sum }}
{{- end }}

{{/* How each process reaches Kafka. The dict has `root`, and `saslSecret` where it is another than the usual one. */}}
{{- define "stepstream.kafkaEnv" -}}
{{- $kafka := .root.Values.kafka -}}
- name: STEPSTREAM_KAFKA_BOOTSTRAP
  value: {{ $kafka.bootstrap | quote }}
- name: STEPSTREAM_KAFKA_NAMESPACE
  value: {{ .root.Values.namespace | quote }}
- name: STEPSTREAM_KAFKA_SECURITY_PROTOCOL
  value: {{ $kafka.securityProtocol }}
{{- if include "stepstream.sasl" .root }}
- name: STEPSTREAM_KAFKA_SASL_MECHANISM
  value: {{ $kafka.sasl.mechanism }}
- name: STEPSTREAM_KAFKA_SASL_USERNAME
  valueFrom: {secretKeyRef: {name: {{ .saslSecret | default (include "stepstream.saslSecret" .root) | quote }}, key: username}}
- name: STEPSTREAM_KAFKA_SASL_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ .saslSecret | default (include "stepstream.saslSecret" .root) | quote }}, key: password}}
{{- end }}
{{- if $kafka.tls.existingSecret }}
- name: STEPSTREAM_KAFKA_CA_FILE
  value: /etc/stepstream/tls/ca.crt
{{- if $kafka.tls.clientCertificate }}
- name: STEPSTREAM_KAFKA_CERT_FILE
  value: /etc/stepstream/tls/tls.crt
- name: STEPSTREAM_KAFKA_KEY_FILE
  value: /etc/stepstream/tls/tls.key
{{- end }}
{{- end }}
{{- end }}

{{- define "stepstream.logEnv" -}}
- name: STEPSTREAM_LOG_FORMAT
  value: {{ .Values.logs.format }}
- name: STEPSTREAM_LOG_LEVEL
  value: {{ .Values.logs.level }}
{{- end }}

{{/*
What lets a process be reached from outside of its pod, which it refuses without both keys. The dict has `root` and `host`.
*/}}
{{- define "stepstream.httpEnv" -}}
- name: STEPSTREAM_HOST
  value: {{ .host | quote }}
- name: STEPSTREAM_EVENT_KEY
  valueFrom: {secretKeyRef: {name: {{ include "stepstream.keysSecret" .root | quote }}, key: event}}
- name: STEPSTREAM_API_KEY
  valueFrom: {secretKeyRef: {name: {{ include "stepstream.keysSecret" .root | quote }}, key: api}}
{{- end }}

{{/* What pods mount. The dict has `root`, and `extra`: those of the values. */}}
{{- define "stepstream.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .root.Values.kafka.tls.existingSecret }}
- {name: tls, mountPath: /etc/stepstream/tls, readOnly: true}
{{- end }}
{{- with .extra }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "stepstream.volumes" -}}
- name: tmp
  emptyDir: {}
{{- with .root.Values.kafka.tls.existingSecret }}
- name: tls
  secret: {secretName: {{ . | quote }}}
{{- end }}
{{- with .extra }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What all pods have in common. */}}
{{- define "stepstream.pod" -}}
automountServiceAccountToken: false
# A service with the name of the release would set variables that look like settings.
enableServiceLinks: false
{{- with .Values.serviceAccount.name }}
serviceAccountName: {{ . | quote }}
{{- end }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- end }}

{{- define "stepstream.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
The runs that run code or wait for a worker. A command that waits for a shard, because its run was claimed from a worker
that is gone, is in none of the three metrics. While no worker runs, the query returns the lag of their group, as engines
measure it.
*/}}
{{- define "stepstream.workerDemand" -}}
{{- $of := printf "{namespace=%q, app=%q}" .root.Release.Namespace .group -}}
sum(max by (partition) (stepstream_worker_lag_records{{ $of }}))
 + sum(stepstream_worker_queue_runs{{ $of }}) + sum(stepstream_worker_slots_in_use{{ $of }})
 or sum(max by (partition) (stepstream_commands_lag_records{{ $of }}))
{{- end }}

{{- define "stepstream.saslData" -}}
{{- $remedy := "SASL needs kafka.sasl.existingSecret, or both kafka.sasl.username and kafka.sasl.password" -}}
username: {{ required $remedy .Values.kafka.sasl.username | quote }}
password: {{ required $remedy .Values.kafka.sasl.password | quote }}
{{- end }}
