{{- define "engram.name" -}}
{{- if eq .Release.Name .Chart.Name }}{{ .Chart.Name }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "engram.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "engram.selector" -}}
app.kubernetes.io/name: engram
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "engram.labels" -}}
{{ include "engram.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* As whom every pod runs: no root, no capability, nothing writable but what is mounted. */}}
{{- define "engram.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "engram.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop:
    - ALL
{{- end }}

{{- define "engram.tableArgs" -}}
{{- range .Values.tables.sets }}
- --table-set=/tables/{{ . }}
{{- end }}
{{- end }}

{{/* Called with a dictionary: loadSeconds, and the check itself. engramd binds its port once every set is verified. */}}
{{- define "engram.probes" -}}
startupProbe:
  {{- .check | nindent 2 }}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ div (add .loadSeconds 4) 5 }}
livenessProbe:
  {{- .check | nindent 2 }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  {{- .check | nindent 2 }}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end }}

{{- define "engram.grpcCheck" -}}
grpc:
  port: 7300
  service: engram.v1.Lookup
{{- end }}

{{/* An empty lookup: the sidecar opens no port. */}}
{{- define "engram.socketCheck" -}}
exec:
  command:
    - /usr/bin/engram
    - lookup
    - --target=grpc:unix:/run/engram/grpc.sock
    - --token-ids=/dev/null
    - --output=-
    - --attach-timeout=2s
{{- end }}
