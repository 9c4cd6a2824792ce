{{/*
Objects have fixed names (marquee, marquee-serving ...): the pipelines' steps find them by these, so there is one
release a namespace. Most helpers take a dict with `root` (the top context) and `component`.
*/}}

{{/* Labels of everything. */}}
{{- define "marquee.labels" -}}
{{ include "marquee.selector" . }}
app.kubernetes.io/part-of: marquee
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* Labels that select: they never change from version to version. Without a component, all of our pods. */}}
{{- define "marquee.selector" -}}
app.kubernetes.io/name: marquee
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{/* An image's reference. Wants `image`: train, monitoring or serving. */}}
{{- define "marquee.image" -}}
{{- $images := .root.Values.images -}}
{{- $name := printf "%s-%s" $images.prefix .image -}}
{{- $own := index $images .image -}}
{{- if $own.digest -}}
{{ $name }}@{{ $own.digest }}
{{- else -}}
{{ $name }}:{{ $own.tag | default $images.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* What Pod Security's level "restricted" asks of a pod. */}}
{{- define "marquee.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* What it asks of a container, and a read-only root. Without a user: OpenShift and KServe choose one. */}}
{{- define "marquee.containerSecurity" -}}
runAsNonRoot: true
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Variables of every container that reads or writes storage. */}}
{{- define "marquee.storageEnv" -}}
{{- with .root.Values.storage }}
{{- if .models }}
- {name: MARQUEE_MODELS, value: {{ .models | quote }}}
{{- end }}
{{- if and .secret.enabled (eq .secret.kind "gcs") }}
- {name: GOOGLE_APPLICATION_CREDENTIALS, value: /etc/marquee-storage/key.json}
{{- end }}
{{- if and .secret.enabled (eq .secret.kind "s3") }}
{{- range $name := list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ $name }}
  valueFrom: {secretKeyRef: {name: marquee-storage, key: {{ $name }}}}
{{- end }}
- name: AWS_ENDPOINT_URL
  valueFrom: {secretKeyRef: {name: marquee-storage, key: AWS_ENDPOINT_URL, optional: true}}
{{- end }}
{{- end }}
{{- end }}

{{/* Variables, if there are any. Wants `env` (YAML) for more than those of storage. */}}
{{- define "marquee.env" -}}
{{- $all := printf "%s\n%s" (include "marquee.storageEnv" .) (.env | default "") }}
{{- with trim $all -}}
env:
  {{- regexReplaceAll "\n\\s*\n" . "\n" | nindent 2 }}
{{- end }}
{{- end }}

{{/* Where a container may write, and its storage. `shared: false` leaves out the volume `marquee-storage`. */}}
{{- define "marquee.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: cache, mountPath: /var/cache/marquee}
{{- with .root.Values.storage }}
{{- if and .secret.enabled (eq .secret.kind "gcs") }}
- {name: storage-key, mountPath: /etc/marquee-storage, readOnly: true}
{{- end }}
{{- if and .pvc.enabled (not (eq $.shared false)) }}
- {name: storage, mountPath: /mnt/marquee}
{{- end }}
{{- end }}
{{- end }}

{{/* The volumes of these. Wants `cacheSize`. */}}
{{- define "marquee.volumes" -}}
- {name: tmp, emptyDir: {sizeLimit: 256Mi}}
- {name: cache, emptyDir: {sizeLimit: {{ .cacheSize }}}}
{{- with .root.Values.storage }}
{{- if and .secret.enabled (eq .secret.kind "gcs") }}
- {name: storage-key, secret: {secretName: marquee-storage}}
{{- end }}
{{- if and .pvc.enabled (not (eq $.shared false)) }}
- {name: storage, persistentVolumeClaim: {claimName: marquee-storage}}
{{- end }}
{{- end }}
{{- end }}

{{- define "marquee.pullSecrets" -}}
imagePullSecrets:
{{- range .root.Values.images.pullSecrets }}
  - {name: {{ . }}}
{{- end }}
{{- end }}

{{/* A pod of ours that is not KServe's or Trainer's, but for its containers. Wants `account`, `api` where the
pod asks the API server, and `volumes` (YAML) for more of them. */}}
{{- define "marquee.pod" -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: {{ .api | default false }}
enableServiceLinks: false
securityContext:
  {{- include "marquee.podSecurity" . | nindent 2 }}
{{- if .root.Values.images.pullSecrets }}
{{ include "marquee.pullSecrets" . }}
{{- end }}
volumes:
  {{- include "marquee.volumes" (dict "root" .root "cacheSize" "1Gi") | nindent 2 }}
  {{- with .volumes }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* What each of its containers has in common. Wants `image` and `resources`. */}}
{{- define "marquee.container" -}}
image: {{ include "marquee.image" . | quote }}
imagePullPolicy: {{ .root.Values.images.pullPolicy }}
securityContext:
  {{- include "marquee.containerSecurity" . | nindent 2 }}
resources:
  {{- toYaml .resources | nindent 2 }}
{{- end }}

{{/* A Deployment of one pod with one port, and its Service. Wants `account`, `image`, `args`, `port`, `resources`, and
`env` (YAML). */}}
{{- define "marquee.service" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: marquee-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "marquee.labels" . | nindent 4 }}
spec:
  replicas: 1
  revisionHistoryLimit: 3
  {{- if and .root.Values.storage.pvc.enabled (eq .root.Values.storage.pvc.accessMode "ReadWriteOnce") }}
  {{- /* A new pod on another node would wait for the old one's volume, and the old one for the new pod. */}}
  strategy: {type: Recreate}
  {{- end }}
  selector:
    matchLabels:
      {{- include "marquee.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "marquee.labels" . | nindent 8 }}
    spec:
      {{- include "marquee.pod" . | nindent 6 }}
      containers:
        - name: {{ .component }}
          {{- include "marquee.container" . | nindent 10 }}
          args: {{ toJson .args }}
          ports:
            - {name: http, containerPort: {{ .port }}, protocol: TCP}
          {{- with include "marquee.env" . }}
          {{- . | nindent 10 }}
          {{- end }}
          {{- /* Importing Evidently takes ten seconds of CPU. */}}
          startupProbe: {tcpSocket: {port: http}, periodSeconds: 5, failureThreshold: 60}
          readinessProbe: {tcpSocket: {port: http}, periodSeconds: 10}
          livenessProbe: {tcpSocket: {port: http}, periodSeconds: 20, failureThreshold: 3}
          volumeMounts:
            {{- include "marquee.mounts" . | nindent 12 }}
---
apiVersion: v1
kind: Service
metadata:
  name: marquee-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "marquee.labels" . | nindent 4 }}
spec:
  selector:
    {{- include "marquee.selector" . | nindent 4 }}
  ports:
    - {name: http, port: {{ .port }}, targetPort: http, protocol: TCP}
{{- end }}

{{/* A quantity of Kubernetes as a number of CPUs or bytes. */}}
{{- define "marquee.quantity" -}}
{{- $units := dict "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15
    "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 -}}
{{- $unit := regexFind "[A-Za-z]*$" (toString .) -}}
{{- mulf (trimSuffix $unit (toString .) | float64) (get $units $unit | default 1.0) -}}
{{- end }}

{{/* An address of IPv4 as a number. */}}
{{- define "marquee.address" -}}
{{- $number := 0 -}}
{{- range splitList "." . -}}
{{- $number = add (mul $number 256) (int .) -}}
{{- end -}}
{{- $number -}}
{{- end }}
