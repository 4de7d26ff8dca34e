"""deploy/helm/image-syncer by helm itself: every value has its effect, and what is rendered meets what overlays meet."""

import copy
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncer import __version__
from tests.deploy import standards
from tests.deploy.manifests import ROOT, Manifests, overlay
from tests.deploy.promql import alerts, dashboard
from tests.interop.registries import TOOLS

CHART = ROOT / "deploy" / "helm" / "image-syncer"
HELM = TOOLS / "helm"
MODES = ("cronjob", "daemon", "sharded")
RULES = {"docker.io/library/nginx:1.27": "harbor.example.com/mirror/nginx"}
ACCOUNTS = {
    "harbor.example.com": {"username": "robot$mirror", "password_file": "/run/secrets/image-syncer/harbor"}
}
OPTIONAL = {
    "images": RULES,
    "auth": ACCOUNTS,
    "imagePullSecrets": [{"name": "image-syncer-pull"}],
    "dockerConfig": {"existingSecret": "image-syncer-docker"},
    "privateCA": {"existingConfigMap": "image-syncer-ca"},
    "proxy": {"https": "http://proxy.example.com:3128"},
    "job": {"pushgateway": {"url": "http://pushgateway.monitoring.svc:9091"}},
    "networkPolicy": {"ports": [443, 5000, 3128]},
    "podMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "dashboard": {"enabled": True},
}
each_mode = pytest.mark.parametrize("mode", MODES)


def helm(*arguments: str | Path, values: object = None) -> "subprocess.CompletedProcess[str]":
    given = ["--values=-"] if values is not None else []
    return subprocess.run(
        [HELM, *arguments, *given],
        input=json.dumps(values) if values is not None else None,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def template(mode: str, values: dict[str, Any], release: str = "image-syncer") -> str:
    done = helm("template", release, CHART, "--namespace=image-syncer", values={"mode": mode} | values)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def rendered(mode: str, *, whole: bool) -> Manifests:
    documents = yaml.safe_load_all(template(mode, OPTIONAL if whole else {}))
    name = f"{mode} with {'all' if whole else 'default'} values"
    return Manifests(name, tuple(each for each in documents if each))


ALL = [(mode, whole) for mode in MODES for whole in (False, True)]
each_rendered = pytest.mark.parametrize(("mode", "whole"), ALL)


@each_mode
@pytest.mark.parametrize("values", [{}, OPTIONAL], ids=["default", "all"])
def test_helm_lint_has_nothing_to_say(mode, values):
    done = helm("lint", "--strict", CHART, values={"mode": mode} | values)
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout
    assert "[ERROR]" not in done.stdout


def test_the_version_is_that_of_the_program():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__


# --- what is rendered ---------------------------------------------------------------------------------------------


@each_rendered
def test_what_is_rendered_is_valid_and_stays_as_it_is(mode, whole):
    manifests = rendered(mode, whole=whole)
    standards.check_schemas(manifests)
    standards.check_nothing_changes(manifests)
    assert {each["metadata"]["namespace"] for each in manifests.resources} == {"image-syncer"}
    for resource in manifests.resources:
        labels = resource["metadata"]["labels"]
        assert labels["app.kubernetes.io/version"] == __version__
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["app.kubernetes.io/part-of"] == "image-syncer"


@each_rendered
def test_two_renderings_are_equal(mode, whole):
    values = OPTIONAL if whole else {}
    assert template(mode, values) == template(mode, values)


@each_rendered
@pytest.mark.parametrize("check", standards.CHECKS_OF_ALL_PODS, ids=lambda check: check.__name__)
def test_a_pod_meets(check, mode, whole):
    for pod in rendered(mode, whole=whole).pods():
        check(pod)


@each_rendered
def test_the_program_understands_how_it_is_called(mode, whole, run_syncer, tmp_path):
    for pod in rendered(mode, whole=whole).pods():
        if pod.merges:
            continue
        standards.check_command(pod)
        mount = pod.mount_of(pod.command.options["auth"])
        assert mount
        for name, text in pod.files_in(mount).items():
            (tmp_path / name).write_text(text.replace("/run/secrets/image-syncer", str(tmp_path)))
        (tmp_path / "harbor").write_text("from the cluster")
        done = run_syncer("check", "--auth", "auth.yaml", "--images", "images.yaml")
        assert done.returncode == 0, done.stderr


@each_rendered
def test_a_pod_reaches_what_its_values_name_only(mode, whole):
    for pod in rendered(mode, whole=whole).pods():
        standards.check_network(
            pod,
            anywhere={443, 5000} | ({3128} if whole else set()),
            near={53} | ({9091} if whole and mode != "daemon" else set()),
            listens=mode == "daemon",
        )


@each_mode
def test_the_chart_does_what_the_overlay_does(mode):
    ours = {pod.labels["app.kubernetes.io/component"]: pod for pod in rendered(mode, whole=False).pods()}
    theirs = {pod.labels["app.kubernetes.io/component"]: pod for pod in overlay(mode).pods()}
    assert ours.keys() == theirs.keys()
    for component, pod in ours.items():
        other = theirs[component]
        assert pod.spec["securityContext"] == other.spec["securityContext"]
        for key in ("securityContext", "livenessProbe", "readinessProbe", "ports", "command", "env"):
            assert pod.container.get(key) == other.container.get(key), (component, key)
        mounts = [
            {each["mountPath"]: each.get("readOnly") for each in one.container["volumeMounts"]}
            for one in (pod, other)
        ]
        assert mounts[0] == mounts[1]
        if pod.merges:
            assert pod.container["args"] == other.container["args"]
        else:
            options = [one.command.options | {"schedule": None, "timezone": None} for one in (pod, other)]
            assert options[0] == options[1]
    policies = [
        [
            spec["jobTemplate"]["spec"].get("podFailurePolicy")
            for spec in (each["spec"] for each in manifests.find("CronJob").values())
            if not spec.get("suspend")
        ]
        for manifests in (rendered(mode, whole=False), overlay(mode))
    ]
    assert policies[0] == policies[1]


@each_mode
def test_alerts_and_dashboard_are_those_of_the_project(mode):
    manifests = rendered(mode, whole=True)
    (rule,) = manifests.find("PrometheusRule").values()
    given = [each for group in rule["spec"]["groups"] for each in group["rules"]]
    job = [each for each in alerts() if each["alert"].startswith("ImageSyncerJob")]
    of_both = ("Incomplete", "Drift", "ManyTagsPruned", "Throttled", "QuotaNearlyGone")
    shared = [each for each in alerts() if each["alert"].removeprefix("ImageSyncer") in of_both]
    daemon = [each for each in alerts() if each not in job and each not in shared]
    assert given == [*(daemon if mode == "daemon" else job), *shared]
    config = next(each for name, each in manifests.find("ConfigMap").items() if name.endswith("-dashboard"))
    assert json.loads(config["data"]["image-syncer.json"]) == dashboard()
    assert bool(manifests.find("PodMonitor")) == (mode == "daemon")


@each_mode
def test_volumes_outlive_the_release(mode):
    for claim in rendered(mode, whole=False).find("PersistentVolumeClaim").values():
        assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


# --- values -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """A value that is changed, in a mode and beside other values, and text that is in the output only then."""

    path: str
    value: Any
    shows: str
    mode: str = "cronjob"
    beside: dict[str, Any] | None = None


NO_CPU = {"requests": {"cpu": "300m"}}
POD_MONITOR = {"podMonitor": {"enabled": True}}
INGRESS_OFF = {
    "daemon": {"hookToken": {"existingSecret": "hooks"}, "ingress": {"host": "syncer.example.com"}}
}
INGRESS = {"daemon": INGRESS_OFF["daemon"] | {"ingress": {"enabled": True, "host": "syncer.example.com"}}}
CHANGES = [
    Change("mode", "daemon", "kind: Deployment"),
    Change("mode", "sharded", "completionMode: Indexed"),
    Change("image.repository", "other.example.com/syncer", 'image: "other.example.com/syncer:'),
    Change("image.tag", "9.9", "/image-syncer:9.9"),
    Change("image.digest", f"sha256:{'a' * 64}", f"/image-syncer@sha256:{'a' * 64}"),
    Change("image.pullPolicy", "Always", "imagePullPolicy: Always"),
    Change("imagePullSecrets", [{"name": "pull-it"}], "- name: pull-it"),
    Change("nameOverride", "mirror", "name: image-syncer-mirror\n"),
    Change("fullnameOverride", "whole-name", "name: whole-name\n"),
    Change("commonLabels", {"team": "platform"}, "team: platform"),
    Change("images", RULES, "docker.io/library/nginx:1.27: harbor.example.com/mirror/nginx"),
    Change("images", [{"from": "nginx", "to": "h.example.com/n"}], "- from: nginx"),
    Change("images", "nginx: h.example.com/n\n", "nginx: h.example.com/n"),
    Change("auth", ACCOUNTS, "username: robot$mirror"),
    Change("auth", "a.example.com: {}\n", "a.example.com: {}"),
    Change("existingConfigMap", "my-files", 'name: "my-files"'),
    Change("passwords.existingSecret", "my-passwords", 'secretName: "my-passwords"'),
    Change("dockerConfig.existingSecret", "my-docker", 'secretName: "my-docker"'),
    Change("privateCA.existingConfigMap", "my-ca", '{name: "my-ca"'),
    Change("proxy.https", "http://p.example.com:1", "name: HTTPS_PROXY\n                  value: http://p."),
    Change("proxy.http", "http://p.example.com:2", "name: HTTP_PROXY\n                  value: http://p."),
    Change("proxy.noProxy", ".local", "value: .local", beside={"proxy": {"http": "http://p.example.com:2"}}),
    Change("schedule", "5 4 * * *", 'schedule: "5 4 * * *"'),
    Change("schedule", "5 4 * * *", '"--schedule=5 4 * * *"', "daemon"),
    Change("timeZone", "Asia/Shanghai", 'timeZone: "Asia/Shanghai"'),
    Change("timeZone", "Asia/Shanghai", '"--timezone=Asia/Shanghai"', "daemon"),
    Change("log.format", "text", "--log-format=text"),
    Change("log.level", "debug", "--log-level=debug"),
    Change("extraArgs", ["--proc=9"], "- --proc=9"),
    Change("extraEnv", [{"name": "TEAM_NAME", "value": "x"}], "name: TEAM_NAME"),
    Change("extraEnvFrom", [{"secretRef": {"name": "my-env"}}], "name: my-env"),
    Change("extraVolumes", [{"name": "more", "emptyDir": {}}], "name: more"),
    Change("extraVolumeMounts", [{"name": "tmp", "mountPath": "/more"}], "mountPath: /more"),
    Change("resources.requests.cpu", "333m", "cpu: 333m"),
    Change("resources.requests.memory", "333Mi", "memory: 333Mi"),
    Change("resources.limits.memory", "777Mi", "memory: 777Mi"),
    Change("podAnnotations", {"note": "pod"}, "note: pod"),
    Change("podLabels", {"pod": "label"}, "pod: label"),
    Change("nodeSelector", {"disk": "fast"}, "disk: fast"),
    Change("tolerations", [{"key": "mirror", "operator": "Exists"}], "key: mirror"),
    Change("affinity", {"podAntiAffinity": {}}, "podAntiAffinity: {}"),
    Change("priorityClassName", "low", 'priorityClassName: "low"'),
    Change("serviceAccount.create", False, 'serviceAccountName: "default"'),
    Change("serviceAccount.name", "robot", 'serviceAccountName: "robot"'),
    Change("serviceAccount.annotations", {"role": "arn"}, "role: arn"),
    Change("job.suspend", True, "suspend: true"),
    Change("job.activeDeadlineSeconds", 10_000_000, "activeDeadlineSeconds: 10000000"),
    Change("job.backoffLimit", 7, "backoffLimit: 7"),
    Change("job.backoffLimit", 7, "backoffLimitPerIndex: 7", "sharded"),
    Change("job.startingDeadlineSeconds", 77, "startingDeadlineSeconds: 77"),
    Change("job.successfulJobsHistoryLimit", 7, "successfulJobsHistoryLimit: 7"),
    Change("job.failedJobsHistoryLimit", 7, "failedJobsHistoryLimit: 7"),
    Change("job.pushgateway.url", "http://gw.example.com:9", '"--metrics-push=http://gw.example.com:9"'),
    Change("job.pushgateway.namespace", "metrics", "metadata.name: metrics", beside={"job": OPTIONAL["job"]}),
    Change("job.pushgateway.port", 9999, "port: 9999", beside={"job": OPTIONAL["job"]}),
    Change("sharded.shares", 12, 'value: "12"', "sharded"),
    Change("sharded.reports.existingClaim", "my-reports", 'claimName: "my-reports"', "sharded"),
    Change("sharded.reports.size", "7Gi", 'storage: "7Gi"', "sharded"),
    Change("sharded.reports.storageClassName", "nfs", 'storageClassName: "nfs"', "sharded"),
    Change("sharded.merge.resources.requests.cpu", "333m", "cpu: 333m", "sharded"),
    Change("sharded.merge.resources.requests.memory", "333Mi", "memory: 333Mi", "sharded"),
    Change("sharded.merge.resources.limits.memory", "3333Mi", "memory: 3333Mi", "sharded"),
    Change("daemon.runOnStart", True, "- --run-on-start", "daemon", {"daemon": {"runOnStart": False}}),
    Change("daemon.apiToken.existingSecret", "my-token", 'secretName: "my-token"', "daemon"),
    Change("daemon.hookToken.existingSecret", "my-hooks", 'secretName: "my-hooks"', "daemon"),
    Change("daemon.hookToken.existingSecret", "my-hooks", "- --hook-token-file=", "daemon"),
    Change("daemon.ingress.enabled", True, "path: /hooks/", "daemon", INGRESS_OFF),
    Change("daemon.ingress.className", "inner", 'ingressClassName: "inner"', "daemon", INGRESS),
    Change("daemon.ingress.host", "a.example.com", 'host: "a.example.com"', "daemon", INGRESS),
    Change("daemon.ingress.tlsSecret", "my-tls", 'secretName: "my-tls"', "daemon", INGRESS),
    Change("daemon.ingress.annotations", {"in": "gress"}, "in: gress", "daemon", INGRESS),
    Change("daemon.service.type", "NodePort", 'type: "NodePort"', "daemon"),
    Change("daemon.service.port", 8888, "port: 8888", "daemon"),
    Change("daemon.service.annotations", {"lb": "inner"}, "lb: inner", "daemon"),
    Change("daemon.state.existingClaim", "my-state", 'claimName: "my-state"', "daemon"),
    Change("daemon.state.size", "7Gi", 'storage: "7Gi"', "daemon"),
    Change("daemon.state.storageClassName", "fast", 'storageClassName: "fast"', "daemon"),
    Change(
        "networkPolicy.enabled", True, "kind: NetworkPolicy", beside={"networkPolicy": {"enabled": False}}
    ),
    Change("networkPolicy.ports", [443, 8443], "port: 8443"),
    Change("networkPolicy.extraEgress", [{"ports": [{"port": 7777}]}], "port: 7777"),
    Change("networkPolicy.ingressNamespaces", ["traefik"], "- traefik", "daemon"),
    Change("podMonitor.enabled", True, "kind: PodMonitor", "daemon"),
    Change("podMonitor.interval", "77s", 'interval: "77s"', "daemon", POD_MONITOR),
    Change("podMonitor.labels", {"release": "p"}, "release: p", "daemon", POD_MONITOR),
    Change("prometheusRule.enabled", True, "kind: PrometheusRule"),
    Change("prometheusRule.labels", {"a": "b"}, "a: b", beside={"prometheusRule": {"enabled": True}}),
    Change("dashboard.enabled", True, "grafana_dashboard:"),
    Change("dashboard.labels", {"graf": "ana"}, "graf: ana", beside={"dashboard": {"enabled": True}}),
]


def with_value(values: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    changed = copy.deepcopy(values)
    place = changed
    *way, last = path.split(".")
    for key in way:
        place = place.setdefault(key, {})
    place[last] = value
    return changed


def leaves(values: dict[str, Any], path: str = "") -> set[str]:
    found = set()
    for key, value in values.items():
        here = f"{path}.{key}".lstrip(".")
        found |= leaves(value, here) if isinstance(value, dict) and value and key != "labels" else {here}
    return found


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change.path}-{change.mode}")
def test_a_value_has_its_effect(change):
    beside = {"mode": change.mode} | (change.beside or {})
    before = template(change.mode, beside)
    after = template(change.mode, with_value(beside, change.path, change.value))
    assert change.shows not in before
    assert change.shows in after
    for resource in filter(None, yaml.safe_load_all(after)):
        standards.check_schemas(Manifests(change.path, (resource,)))


def test_every_value_is_tested_described_and_in_the_schema():
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)
    assert leaves(values) == {change.path for change in CHANGES}
    lines = text.splitlines()
    for number, line in enumerate(lines):
        key = line.strip().partition(":")[0]
        if line.strip() and not line.strip().startswith("#") and not line.endswith(":"):
            described = lines[number - 1].strip().startswith("#")
            assert described or key in ("cpu", "memory", "grafana_dashboard"), line
    schema = json.loads((CHART / "values.schema.json").read_text())
    for path in leaves(values):
        place = schema
        for key in path.split("."):
            while "$ref" in place:
                place = schema["$defs"][place["$ref"].rpartition("/")[2]]
            place = place["properties"][key] if "properties" in place else place["additionalProperties"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *(("unknown", 1), ("image.unknown", 1), ("daemon.service.unknown", 1), ("resources.unknown", {})),
        *(
            ("mode", "other"),
            ("image.digest", "sha256:short"),
            ("sharded.shares", 0),
            ("sharded.shares", "4"),
        ),
        *(("log.level", "loud"), ("daemon.service.port", 70000), ("networkPolicy.ports", ["https"])),
        *(
            ("extraArgs", "--proc=9"),
            ("commonLabels", {"app.kubernetes.io/name": "x"}),
            ("podLabels", {"a": 1}),
        ),
        *(("passwords.existingSecret", ""), ("job.pushgateway.url", "gateway:9091"), ("schedule", "")),
    ],
)
def test_a_wrong_value_is_an_error_that_names_it(path, value):
    done = helm("template", "x", CHART, values=with_value({}, path, value))
    assert done.returncode != 0
    named = next(iter(value), "") if isinstance(value, dict) else ""
    assert (named or path.rpartition(".")[2]) in done.stderr


def test_path_of_events_is_not_opened_without_a_token():
    values = {"mode": "daemon", "daemon": {"ingress": INGRESS["daemon"]["ingress"]}}
    done = helm("template", "image-syncer", CHART, values=values)
    assert done.returncode != 0
    assert "hookToken" in done.stderr


def test_long_names_leave_room_for_the_names_of_pods():
    text = template("sharded", {"fullnameOverride": "n" * 60})
    for each in filter(None, yaml.safe_load_all(text)):
        assert len(each["metadata"]["name"]) <= (52 if each["kind"] == "CronJob" else 63)


def test_the_example_of_the_documentation_is_taken():
    text = (ROOT / "docs" / "operations.md").read_text()
    found = re.search(r"^```yaml\n(# values\.yaml\n.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found
    output = template("daemon", yaml.safe_load(found[1]))
    assert "kind: PodMonitor" in output
    assert "docker.io/library/nginx:1.26,1.27: harbor.example.com/mirror/nginx" in output


# --- notes --------------------------------------------------------------------------------------------------------


@each_mode
@pytest.mark.parametrize("rules", [{}, RULES], ids=["no-rules", "rules"])
def test_notes_tell_the_next_step(mode, rules, tmp_path):
    # `helm template` leaves notes out, and `helm install --dry-run` asks a cluster: here they are a ConfigMap.
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart)
    notes = chart / "templates" / "NOTES.txt"
    (chart / "templates" / "_notes.tpl").write_text(
        f'{{{{- define "notes" }}}}{notes.read_text()}{{{{ end }}}}'
    )
    (chart / "templates" / "configmap.yaml").write_text('text: {{ include "notes" . | quote }}\n')
    done = helm(
        *("template", "image-syncer", chart, "--namespace=tools", "--show-only=templates/configmap.yaml"),
        values={"mode": mode, "images": rules},
    )
    assert done.returncode == 0, done.stderr
    text = yaml.safe_load(done.stdout)["text"]
    assert ("no rule is set yet" in text) == (not rules)
    assert ("port-forward service/image-syncer 8080:80" in text) == (mode == "daemon")
    assert ("--from=cronjob/image-syncer\n" in text) == (mode != "daemon")
    assert ("--from=cronjob/image-syncer-merge" in text) == (mode == "sharded")
    assert set(re.findall(r"kubectl -n (\S+)", text)) == {"tools"}
