{{- define "cloakroom.name" -}}
{{- if contains .Chart.Name .Release.Name -}}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "cloakroom.selector" -}}
app.kubernetes.io/name: cloakroom
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "cloakroom.labels" -}}
{{ include "cloakroom.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: cloakroom
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "cloakroom.metadata" -}}
name: {{ include "cloakroom.name" .root }}-{{ .suffix | default .component }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "cloakroom.labels" . | nindent 2 }}
{{- end -}}

{{- define "cloakroom.image" -}}
{{ printf "%s/%s:%s" (trimSuffix "/" .root.Values.image.registry) .name (.root.Values.image.tag | default .root.Chart.AppVersion) }}
{{- end -}}

{{- define "cloakroom.issuerHost" -}}
{{- $host := (urlParse .Values.issuer).host -}}
{{- regexReplaceAll ":[0-9]+$" $host "" -}}
{{- end -}}

{{/* The name that the auth service's internal certificate bears, and that sidecars and the operator ask for. */}}
{{- define "cloakroom.internalHost" -}}
{{ include "cloakroom.name" . }}-auth-internal.{{ .Release.Namespace }}.svc
{{- end -}}

{{- define "cloakroom.encryptionKeysSecret" -}}
{{ .Values.secrets.encryptionKeys | default (printf "%s-encryption-keys" (include "cloakroom.name" .)) }}
{{- end -}}

{{- define "cloakroom.adminTokenSecret" -}}
{{ .Values.secrets.adminToken | default (printf "%s-admin-token" (include "cloakroom.name" .)) }}
{{- end -}}

{{/* What every pod of ours has in common: the restricted Pod Security Standard, spread over nodes and zones. */}}
{{- define "cloakroom.pod" -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "cloakroom.selector" $ | nindent 8 }}
  {{- end }}
{{- end -}}

{{- define "cloakroom.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* What the schema cannot say because it is about several values at once. */}}
{{- define "cloakroom.check" -}}
{{- if not .Values.issuer -}}
{{- fail "issuer must be set: the auth service's public URL, where people sign in, e.g. --set issuer=https://auth.example.com" -}}
{{- end -}}
{{- if not .Values.image.registry -}}
{{- fail "image.registry must be set: where you pushed the images that the Containerfile makes, e.g. --set image.registry=registry.example.com/cloakroom" -}}
{{- end -}}
{{- $redis := .Values.redis -}}
{{- $ways := 0 -}}
{{- if $redis.url }}{{ $ways = add1 $ways }}{{ end -}}
{{- if $redis.sentinel.primary }}{{ $ways = add1 $ways }}{{ end -}}
{{- if $redis.cluster.nodes }}{{ $ways = add1 $ways }}{{ end -}}
{{- if $redis.bundled.enabled }}{{ $ways = add1 $ways }}{{ end -}}
{{- if ne $ways 1 -}}
{{- fail "say where Redis is, in exactly one way: redis.url, redis.sentinel.primary, redis.cluster.nodes, or redis.bundled.enabled=true for a trial" -}}
{{- end -}}
{{- if and $redis.sentinel.primary (not $redis.sentinel.nodes) -}}
{{- fail "redis.sentinel.nodes must name the sentinels, host:port" -}}
{{- end -}}
{{- if and $redis.username (not $redis.passwordSecret.name) -}}
{{- fail "redis.username needs redis.passwordSecret.name: the Secret with that user's password" -}}
{{- end -}}
{{- if and .Values.certManager.enabled (not .Values.certManager.issuerRef.name) -}}
{{- fail "certManager.enabled needs certManager.issuerRef.name" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.enabled needs httpRoute.parentRefs: the Gateways to attach to" -}}
{{- end -}}
{{- end -}}
