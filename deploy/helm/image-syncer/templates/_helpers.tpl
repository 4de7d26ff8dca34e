{{- define "image-syncer.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* Labels that never change: pods are found by them. */ -}}
{{- define "image-syncer.selector" -}}
app.kubernetes.io/name: image-syncer
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "image-syncer.labels" -}}
{{ include "image-syncer.selector" . }}
app.kubernetes.io/part-of: image-syncer
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "image-syncer.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "image-syncer.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "image-syncer.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "image-syncer.configMap" -}}
{{- default (printf "%s-files" (include "image-syncer.fullname" .)) .Values.existingConfigMap -}}
{{- end -}}

{{- define "image-syncer.stateClaim" -}}
{{- default (printf "%s-state" (include "image-syncer.fullname" .)) .Values.daemon.state.existingClaim -}}
{{- end -}}

{{- define "image-syncer.reportsClaim" -}}
{{- default (printf "%s-reports" (include "image-syncer.fullname" .)) .Values.sharded.reports.existingClaim -}}
{{- end -}}

{{- /* A file that is given as text, or as what it means. */ -}}
{{- define "image-syncer.file" -}}
{{- if kindIs "string" . -}}{{ . }}{{- else -}}{{ toYaml . }}{{- end -}}
{{- end -}}

{{- define "image-syncer.podMetadata" -}}
labels:
  {{- include "image-syncer.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
  {{- with .root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* What all pods have in common, but for their containers and volumes. */ -}}
{{- define "image-syncer.pod" -}}
serviceAccountName: {{ include "image-syncer.serviceAccount" . | quote }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
# After SIGTERM the program needs at most 25 seconds.
terminationGracePeriodSeconds: 30
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "image-syncer.container" -}}
name: image-syncer
image: {{ include "image-syncer.image" . | quote }}
{{- with .Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
# If a run fails, `kubectl describe pod` shows the last lines of its log.
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{- define "image-syncer.args" -}}
- --auth=/etc/image-syncer/auth.yaml
- --images=/etc/image-syncer/images.yaml
- --log-format={{ .Values.log.format }}
- --log-level={{ .Values.log.level }}
{{- end -}}

{{- /* Variables of what copies; `own` are those of the mode, in YAML. */ -}}
{{- define "image-syncer.env" -}}
{{- $env := list -}}
{{- if .own }}{{ $env = concat $env (fromYamlArray .own) }}{{ end -}}
{{- with .root.Values -}}
{{- if .dockerConfig.existingSecret }}{{ $env = append $env (dict "name" "DOCKER_CONFIG" "value" "/run/secrets/image-syncer-docker") }}{{ end -}}
{{- if .privateCA.existingConfigMap }}{{ $env = append $env (dict "name" "SSL_CERT_FILE" "value" "/etc/image-syncer-ca/ca.crt") }}{{ end -}}
{{- with .proxy.https }}{{ $env = append $env (dict "name" "HTTPS_PROXY" "value" .) }}{{ end -}}
{{- with .proxy.http }}{{ $env = append $env (dict "name" "HTTP_PROXY" "value" .) }}{{ end -}}
{{- if and (or .proxy.https .proxy.http) .proxy.noProxy }}{{ $env = append $env (dict "name" "NO_PROXY" "value" .proxy.noProxy) }}{{ end -}}
{{- $env = concat $env .extraEnv -}}
{{- with $env }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "image-syncer.mounts" -}}
# Whole folders, no subPath: otherwise new content would not arrive.
- {name: config, mountPath: /etc/image-syncer, readOnly: true}
- {name: passwords, mountPath: /run/secrets/image-syncer, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- if .Values.dockerConfig.existingSecret }}
- {name: docker, mountPath: /run/secrets/image-syncer-docker, readOnly: true}
{{- end }}
{{- if .Values.privateCA.existingConfigMap }}
- {name: ca, mountPath: /etc/image-syncer-ca, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "image-syncer.volumes" -}}
- name: config
  configMap:
    name: {{ include "image-syncer.configMap" . | quote }}
    defaultMode: 0440
- name: passwords
  secret:
    secretName: {{ .Values.passwords.existingSecret | quote }}
    # If auth.yaml needs a password that is not there, the program ends with 2 and names it.
    optional: true
    defaultMode: 0440
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- with .Values.dockerConfig.existingSecret }}
- name: docker
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
    items:
      - {key: .dockerconfigjson, path: config.json}
{{- end }}
{{- with .Values.privateCA.existingConfigMap }}
- name: ca
  configMap: {name: {{ . | quote }}, defaultMode: 0444}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* What the exit codes of a Job mean; the value is what 2 does. */ -}}
{{- define "image-syncer.podFailurePolicy" -}}
rules:
  # The node was drained or the pod was preempted: start again without counting it. Finished copies stay.
  - action: Ignore
    onPodConditions:
      - {type: DisruptionTarget, status: "True"}
  # 2: the files or the options are wrong. Another try does not help.
  - action: {{ . }}
    onExitCodes:
      containerName: image-syncer
      operator: In
      values: [2]
  # 1: images failed, 3: stopped before the end. Another try may help.
  - action: Count
    onExitCodes:
      containerName: image-syncer
      operator: In
      values: [1, 3]
{{- end -}}

{{- define "image-syncer.schedule" -}}
schedule: {{ .Values.schedule | quote }}
timeZone: {{ .Values.timeZone | quote }}
suspend: {{ .Values.job.suspend }}
concurrencyPolicy: Forbid
startingDeadlineSeconds: {{ .Values.job.startingDeadlineSeconds | int64 }}
successfulJobsHistoryLimit: {{ .Values.job.successfulJobsHistoryLimit | int64 }}
failedJobsHistoryLimit: {{ .Values.job.failedJobsHistoryLimit | int64 }}
{{- end -}}
