{{/* Names do not carry the release's: there is one Kubexen in a cluster, for its kinds are the cluster's. */}}

{{- define "kubexen.labels" -}}
app.kubernetes.io/name: kubexen
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{- define "kubexen.selector" -}}
app.kubernetes.io/name: kubexen
app.kubernetes.io/component: {{ . }}
{{- end }}

{{/* An image by digest, else by tag, else by the chart's appVersion. */}}
{{- define "kubexen.image" -}}
{{- with .image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.root.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* The anchor's: another one, or Kubexen's. */}}
{{- define "kubexen.image.anchor" -}}
{{- $images := .Values.images }}
{{- include "kubexen.image" (dict "root" . "image" (ternary $images.anchor $images.kubexen (hasKey $images.anchor "repository"))) }}
{{- end }}

{{- define "kubexen.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{/* The users of the API that the policies tell apart. */}}
{{- define "kubexen.user.controller" -}}
system:serviceaccount:{{ .Release.Namespace }}:kubexen-controller
{{- end }}
{{- define "kubexen.user.agent" -}}
system:serviceaccount:{{ .Values.namespaces.agents }}:kubexen-agent
{{- end }}

{{/* A container as Pod Security `restricted` wants it, with nothing to write to. */}}
{{- define "kubexen.restricted.container" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
{{- define "kubexen.restricted.pod" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* A ValidatingAdmissionPolicy's binding and head: what does not hold is refused, also where it cannot be told. */}}
{{- define "kubexen.policy" -}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ .name }}
  labels:
    {{- include "kubexen.labels" (dict "root" .root "component" "policies") | nindent 4 }}
spec:
  policyName: {{ .name }}
  validationActions: [Deny]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ .name }}
  labels:
    {{- include "kubexen.labels" (dict "root" .root "component" "policies") | nindent 4 }}
spec:
  failurePolicy: Fail
{{- end }}
