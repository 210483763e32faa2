{{- define "cloakroom.authServiceConfig" -}}
issuer: {{ .Values.issuer }}
{{- end -}}
