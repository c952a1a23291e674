{{/* What finds the plugin's pods. A DaemonSet keeps its selector for good. */}}
{{- define "doorbell.selector" -}}
app.kubernetes.io/name: doorbell
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: plugin
{{- end }}

{{- define "doorbell.labels" -}}
app.kubernetes.io/name: doorbell
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "doorbell.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default "doorbell" }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{/* Whether vDPA devices are made or removed; "" if not. */}}
{{- define "doorbell.vdpa" -}}
{{- if eq (toString .Values.vdpa) "true" }}true{{ end }}
{{- range .Values.pools }}{{ if has .access (list "vhost-vdpa" "virtio-vdpa") }}true{{ end }}{{ end }}
{{- end }}

{{/* Whether any pool's devices follow the link of their PF. */}}
{{- define "doorbell.links" -}}
{{- range .Values.pools }}{{ if eq (toString .pfLinkDown) "unhealthy" }}true{{ end }}{{ end }}
{{- end }}

{{/* The port of "address:port". */}}
{{- define "doorbell.port" -}}
{{ last (splitList ":" .Values.metrics) }}
{{- end }}

{{/* The folder of containerd's config file. */}}
{{- define "doorbell.containerd" -}}
{{ dir (.Values.containerdConfig | default "/etc/containerd/config.toml") }}
{{- end }}

{{/* The pool that `helm test` takes a device of: the one that is named, else the first whose pods get nodes, by themselves. */}}
{{- define "doorbell.tested" -}}
{{- $pool := .Values.test.pool -}}
{{- range .Values.pools -}}
{{- $wired := or $.Values.cni.chain (ne (toString .requireCni) "true") -}}
{{- if and (not $pool) $wired (ne (toString .runtime) "kata") (has .access (list "vfio" "vhost-vdpa" "mdev")) -}}{{- $pool = .name -}}{{- end -}}
{{- end -}}
{{ $pool }}
{{- end }}

{{/* The resource of a pool: (list . $pool). */}}
{{- define "doorbell.resource" -}}
{{- $pool := index . 1 -}}
{{ $pool.resource | default (printf "%s/%s" (index . 0).Values.resourcePrefix $pool.name) }}
{{- end }}

{{/* The resource of the pool of a name: (list . "fast"); "" where none has it. */}}
{{- define "doorbell.resourceOf" -}}
{{- $top := index . 0 }}{{ $name := index . 1 -}}
{{- range $top.Values.pools }}{{ if eq .name $name }}{{ include "doorbell.resource" (list $top .) }}{{ end }}{{ end }}
{{- end }}

{{/* Whether a container keeps the CNI plugin in the conflist, or takes it away in the end; "" if none does. */}}
{{- define "doorbell.keeper" -}}
{{- if or .Values.cni.chain .Values.cni.removeAtUninstall }}
{{- if not .Values.cni.install }}{{ fail "cni.chain and cni.removeAtUninstall are of a binary that cni.install puts there" }}{{ end }}
{{- if or (not .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- fail "cni.chain and cni.removeAtUninstall need the release's own service account, of the name that it has by itself: what becomes of it says whether the release is uninstalled" }}
{{- end }}
{{- "" }}true{{ end }}
{{- end }}

{{/* Whether the plugin tells the API server anything; "" if not. */}}
{{- define "doorbell.tells" -}}
{{- if or .Values.events .Values.nodeLabels }}true{{ end }}
{{- end }}
