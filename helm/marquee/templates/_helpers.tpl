{{/*
Objects have fixed names (marquee, marquee-serving ...): pipelines' steps find them by these, so there is one
release a namespace.
*/}}

{{/* Labels of everything. Argument: a dict with `root` and `component`. */}}
{{- define "marquee.labels" -}}
{{ include "marquee.selector" . }}
app.kubernetes.io/part-of: marquee
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* Labels that select pods: they never change from version to version. */}}
{{- define "marquee.selector" -}}
app.kubernetes.io/name: marquee
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* An image's reference. Argument: a dict with `root` and `image` (data, train, monitoring, serving). */}}
{{- define "marquee.image" -}}
{{- $all := .root.Values.images -}}
{{- $own := index $all .image -}}
{{- $name := printf "%s-%s" $all.prefix .image -}}
{{- if $own.digest -}}
{{ $name }}@{{ $own.digest }}
{{- else -}}
{{ $name }}:{{ $own.tag | default $all.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}
