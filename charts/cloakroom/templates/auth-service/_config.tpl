{{/* The auth service's configuration file. What is secret is in files beside it. */}}
{{- define "cloakroom.authServiceConfig" -}}
{{- $redis := .Values.redis -}}
issuer: {{ .Values.issuer }}
{{- if .Values.authService.tlsSecret }}
public:
  tls: {cert: /etc/cloakroom/public-tls/tls.crt, key: /etc/cloakroom/public-tls/tls.key}
  {{- end }}
internal:
  tls: {cert: /etc/cloakroom/internal-tls/tls.crt, key: /etc/cloakroom/internal-tls/tls.key}
metrics: "[::]:9090"
store:
  redis:
    {{- if $redis.bundled.enabled }}
    urls: ["redis://{{ include "cloakroom.name" . }}-redis.{{ .Release.Namespace }}.svc:6379/0"]
    username: cloakroom
    password_file: /etc/cloakroom/redis/password
    {{- else }}
    {{- $scheme := ternary "rediss" "redis" $redis.tls }}
    {{- if $redis.sentinel.primary }}
    topology: sentinel
    sentinel_primary: {{ $redis.sentinel.primary | quote }}
    urls:
      {{- range $redis.sentinel.nodes }}
      - {{ $scheme }}://{{ . }}
      {{- end }}
    {{- with $redis.sentinel.username }}
    sentinel_username: {{ . | quote }}
    {{- end }}
    {{- if $redis.sentinel.passwordSecret.name }}
    sentinel_password_file: /etc/cloakroom/sentinel/password
    {{- end }}
    {{- else if $redis.cluster.nodes }}
    topology: cluster
    urls:
      {{- range $redis.cluster.nodes }}
      - {{ $scheme }}://{{ . }}
      {{- end }}
    {{- else }}
    urls: [{{ $redis.url | quote }}]
    {{- end }}
    {{- with $redis.username }}
    username: {{ . | quote }}
    {{- end }}
    {{- if $redis.passwordSecret.name }}
    password_file: /etc/cloakroom/redis/password
    {{- end }}
    {{- if $redis.caSecret.name }}
    ca_file: /etc/cloakroom/redis-ca/ca.crt
    {{- end }}
    {{- if $redis.clientTlsSecret }}
    client_tls: {cert: /etc/cloakroom/redis-client-tls/tls.crt, key: /etc/cloakroom/redis-client-tls/tls.key}
    {{- end }}
    {{- if not (kindIs "invalid" $redis.revocationReplicas) }}
    revocation_replicas: {{ $redis.revocationReplicas }}
    {{- end }}
    {{- end }}
signing:
  encryption_key_files:
    {{- range .Values.secrets.encryptionKeyEntries }}
    - /etc/cloakroom/encryption-keys/{{ . }}
    {{- end }}
workload_issuers:
  - issuer: {{ .Values.workloadIssuer | default (printf "https://kubernetes.default.svc.%s" .Values.clusterDomain) | quote }}
    jwks:
      url:
        url: https://kubernetes.default.svc/openid/v1/jwks
        ca_file: /var/run/secrets/cluster/ca.crt
        bearer_file: /var/run/secrets/cluster/token
  {{- range .Values.moreWorkloadIssuers }}
  - issuer: {{ .issuer | quote }}
    jwks: {url: {url: {{ .jwksUrl | quote }}}}
  {{- end }}
operators: ["system:serviceaccount:{{ .Release.Namespace }}:{{ include "cloakroom.name" . }}-operator"]
admin:
  token_file: /etc/cloakroom/admin/token
  {{- with .Values.authService.admins }}
  subjects:
    {{- range . }}
    - system:serviceaccount:{{ . | replace "/" ":" }}
    {{- end }}
  {{- end }}
  {{- if .Values.authService.adminByRBAC }}
  kubernetes_rbac:
    issuer: {{ .Values.workloadIssuer | default (printf "https://kubernetes.default.svc.%s" .Values.clusterDomain) | quote }}
    url: https://kubernetes.default.svc
    ca_file: /var/run/secrets/cluster/ca.crt
    bearer_file: /var/run/secrets/cluster/token
  {{- end }}
{{- with .Values.providers }}
providers:
  {{- range . }}
  - id: {{ .id | quote }}
    name: {{ .name | quote }}
    issuer: {{ .issuer | quote }}
    client_id: {{ .clientId | quote }}
    {{- if .clientSecret }}
    client_secret_file: /etc/cloakroom/provider-{{ .id }}/client-secret
    {{- end }}
    {{- if .caSecret }}
    ca_file: /etc/cloakroom/provider-{{ .id }}/ca.crt
    {{- end }}
    create: {{ .create | default false }}
    trust_factors: {{ .trustFactors | default false }}
    sign_out: {{ .signOut | default false }}
    {{- with .scopes }}
    scopes: {{ toJson . }}
    {{- end }}
    {{- with .claims }}
    claims: {{ toJson . }}
    {{- end }}
    {{- with .groupMap }}
    group_map: {{ toJson . }}
    {{- end }}
    {{- with .groupPrefix }}
    group_prefix: {{ . | quote }}
    {{- end }}
    {{- with .roleMap }}
    role_map: {{ toJson . }}
    {{- end }}
    {{- with .ask }}
    ask: {{ . | quote }}
    {{- end }}
  {{- end }}
{{- end }}
{{- with .Values.authService.tokenIssuers }}
token_issuers:
  {{- range . }}
  {{- $issuer := deepCopy . }}
  {{- $folder := printf "/etc/cloakroom/token-issuer-%s" .id }}
  {{- with $issuer.jwks }}
  {{- if .caSecret }}{{ $_ := set . "ca_file" (printf "%s-jwks-ca/ca.crt" $folder) }}{{ $_ := unset . "caSecret" }}{{ end }}
  {{- end }}
  {{- with $issuer.introspection }}
  {{- if .caSecret }}{{ $_ := set . "ca_file" (printf "%s-ca/ca.crt" $folder) }}{{ $_ := unset . "caSecret" }}{{ end }}
  {{- $_ := set . "client_secret_file" (printf "%s-client/secret" $folder) }}{{ $_ := unset . "clientSecret" }}
  {{- end }}
  - {{- toYaml $issuer | nindent 4 }}
  {{- end }}
{{- end }}
{{- with .Values.authService.registration }}
{{- /* To Helm, `off` without quotes is false. */}}
{{- if and .mode (ne .mode "off") }}
registration:
  mode: {{ .mode | quote }}
  {{- if hasKey . "scopes" }}
  scopes: {{ toJson .scopes }}
  {{- end }}
  {{- if hasKey . "audiences" }}
  audiences: {{ toJson .audiences }}
  {{- end }}
  {{- with .perAddress }}
  per_address: {{ int64 . }}
  {{- end }}
  {{- with .maxOpen }}
  max_open: {{ int64 . }}
  {{- end }}
  {{- with .unusedSeconds }}
  unused_seconds: {{ int64 . }}
  {{- end }}
  {{- with .idleSeconds }}
  idle_seconds: {{ int64 . }}
  {{- end }}
{{- end }}
{{- end }}
{{- if not .Values.authService.passwords.enabled }}
passwords: {enabled: false}
{{- end }}
{{- if .Values.authService.messages.configMap }}
messages: {folder: /etc/cloakroom/messages}
{{- end }}
{{- with .Values.authService.trustedProxies }}
trusted_proxies:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
