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

{{/* Called with {k, n}: of what a store holds where not all hold the same. */}}
{{- define "engram.partitionLabel" -}}
{{- if gt .n 1 }}engram.partition: {{ .k | quote }}{{ end }}
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

{{/* Where engramd keeps its state, in every pod and image, and the mount of it. */}}
{{- define "engram.stateArgs" -}}
- --state-dir=/var/lib/engramd
{{- end }}

{{- define "engram.stateMount" -}}
- name: state
  mountPath: /var/lib/engramd
{{- end }}

{{/* Called with the seconds that loading may take. Ready is when every set is verified and served; alive is from the start. */}}
{{- define "engram.probes" -}}
startupProbe:
  httpGet:
    path: /readyz
    port: admin
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ div (add . 4) 5 }}
livenessProbe:
  httpGet:
    path: /healthz
    port: admin
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: /readyz
    port: admin
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end }}

{{/* Metrics, health and the status page, in the clear: the network policy says who reaches them. */}}
{{- define "engram.adminArgs" -}}
- --admin-listen=0.0.0.0:7301
- --allow-plaintext=admin
{{- end }}
