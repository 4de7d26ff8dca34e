"""The kustomizations under deploy/kubernetes: valid, secure, whole, and in step with the program's options."""

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from syncer import __version__
from syncer.rules.schedules import check_schedule
from tests.deploy.manifests import NAMES, OVERLAYS, ROOT, Pod, find, pods, render

SCHEMAS = ("1.31", "1.37")
"""The oldest version in which podFailurePolicy needs no switch, and a new one."""
PODS = list(pods())
each_overlay = pytest.mark.parametrize("overlay", NAMES)
each_pod = pytest.mark.parametrize("pod", PODS, ids=[pod.owner for pod in PODS])

WRITTEN = {
    "log",
    "output",
    "report",
    "metrics_file",
    "state_dir",
    "output_success_images",
    "output_failed_images",
}
BY_HAND = set(re.findall(r"create secret generic ([\w-]+)", (ROOT / "docs" / "operations.md").read_text()))
"""Secrets that no file has: the documentation says how they are made."""


def copies(pod: Pod) -> bool:
    return pod.command.command in ("sync", "serve")


copying = pytest.mark.parametrize(
    "pod", [pod for pod in PODS if "merge" not in pod.owner], ids=lambda pod: pod.owner
)


@each_overlay
@pytest.mark.parametrize("version", SCHEMAS)
def test_the_api_takes_every_resource(overlay, version):
    for resource in render(overlay):
        if "." in resource["apiVersion"].partition("/")[0] and "k8s.io" not in resource["apiVersion"]:
            continue  # of an operator: see the test of the PodMonitor
        kubernetes_validate.validate(resource, version, strict=True)


@each_overlay
def test_everything_is_in_one_namespace_that_enforces_the_restricted_standard(overlay):
    (namespace,) = find(overlay, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    places = {each["metadata"].get("namespace") for each in render(overlay) if each["kind"] != "Namespace"}
    assert places == {namespace["metadata"]["name"]}


@each_overlay
def test_every_file_of_an_overlay_is_used(overlay):
    folder = OVERLAYS / overlay
    named = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    there = {path.name for path in folder.iterdir()} - {"kustomization.yaml"}
    assert there == {name for name in named if not name.startswith("..")}


# --- pods ---------------------------------------------------------------------------------------------------------


@each_pod
def test_a_pod_keeps_to_the_restricted_standard(pod):
    assert set(pod.spec) <= {
        *("automountServiceAccountToken", "containers", "enableServiceLinks", "restartPolicy"),
        *("securityContext", "serviceAccountName", "terminationGracePeriodSeconds", "volumes"),
    }, "no host namespaces and the like"
    whole, own = pod.spec["securityContext"], pod.container["securityContext"]
    assert whole["runAsNonRoot"] is True
    assert whole["runAsUser"] == whole["runAsGroup"] == 65532, "the user of the image"
    assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
    assert all(set(volume) - {"name"} <= allowed for volume in pod.spec["volumes"])


@each_pod
def test_a_pod_gets_nothing_of_the_cluster(pod):
    assert pod.spec["automountServiceAccountToken"] is False
    assert pod.spec["enableServiceLinks"] is False, "a Service named syncer would set SYNCER_* variables"
    account = find(pod.overlay, "ServiceAccount")[pod.spec["serviceAccountName"]]
    assert account["automountServiceAccountToken"] is False
    kinds = {each["kind"] for each in render(pod.overlay)}
    assert not {kind for kind in kinds if "Role" in kind}


@each_pod
def test_a_pod_has_memory_set_aside_and_bounded(pod):
    resources = pod.container["resources"]
    assert {"cpu", "memory"} <= set(resources["requests"])
    assert "memory" in resources["limits"]


@copying
def test_memory_is_enough_for_what_was_measured(pod):
    text = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    columns = r"\| (?:memory|memory-tls|tags-100000) +\| syncer +\|(?:[^|\n]+\|){8} +([\d.]+) \|"
    measured = [float(value) for value in re.findall(columns, text)]
    assert len(measured) == 3
    requested, limit = (
        int(pod.container["resources"][kind]["memory"].removesuffix("Mi")) for kind in ("requests", "limits")
    )
    assert requested * 1.048576 > max(measured)
    assert limit > 2 * max(measured)


@each_pod
def test_the_image_is_one_version_of_the_program(pod):
    name, _, tag = pod.container["image"].rpartition(":")
    assert name.endswith("/image-syncer")
    assert tag == __version__


@each_pod
def test_volumes_are_all_mounted_and_mounts_all_there(pod):
    volumes = [volume["name"] for volume in pod.spec["volumes"]]
    mounts = [mount["name"] for mount in pod.container["volumeMounts"]]
    assert sorted(volumes) == sorted(mounts)
    assert all("subPath" not in mount for mount in pod.container["volumeMounts"]), "it would never be renewed"


@each_pod
def test_what_volumes_refer_to_is_there_or_documented(pod):
    for volume in pod.spec["volumes"]:
        if claim := volume.get("persistentVolumeClaim"):
            assert claim["claimName"] in find(pod.overlay, "PersistentVolumeClaim")
        if secret := volume.get("secret"):
            assert secret["secretName"] in BY_HAND
        for source in volume.get("projected", {}).get("sources", []):
            (kind, found) = next(iter(source.items()))
            assert found["name"] in find(pod.overlay, {"configMap": "ConfigMap", "secret": "Secret"}[kind])


@each_pod
def test_the_program_understands_how_it_is_called_and_finds_its_files(pod):
    assert pod.command.paths
    written = {
        mount["name"]
        for name, value in pod.command.options.items()
        if name in WRITTEN and isinstance(value, Path) and (mount := pod.mount_of(value))
    }
    for path in pod.command.paths:
        mount = pod.mount_of(path)
        assert mount, f"{path} is in no volume"
        assert bool(mount.get("readOnly")) == (mount["name"] not in written), path
        if files := pod.files_in(mount):
            assert path.name in files, f"{path} is not in what is mounted there"


@copying
def test_its_files_are_good_and_their_secrets_are_mounted(pod, run_syncer, tmp_path):
    mount = pod.mount_of(pod.command.options["auth"])
    for name, text in pod.files_in(mount).items():
        secrets = [
            Path(path) for path in re.findall(r"^\s*(?:password|token)_file: (\S+)$", text, re.MULTILINE)
        ]
        for secret in secrets:
            found = pod.mount_of(secret)
            assert found
            assert pod.volume(found["name"])["secret"]["secretName"] in BY_HAND
            (tmp_path / secret.name).write_text("from the cluster")
        assert "password:" not in text, "secrets are in files of their own"
        (tmp_path / name).write_text(re.sub(r"(_file: )/\S+/", r"\1", text))
    done = run_syncer("check", "--auth", "auth.yaml", "--images", "images.yaml")
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_takes_names_by_their_content():
    for overlay in NAMES:
        assert find(overlay, "ConfigMap").keys() == {"image-syncer-images"}
        assert find(overlay, "Secret").keys() == {"image-syncer-auth"}


# --- one-shots ----------------------------------------------------------------------------------------------------

JOBS = [pod for pod in PODS if "CronJob" in pod.owner]
each_job = pytest.mark.parametrize("pod", JOBS, ids=[pod.owner for pod in JOBS])


def cronjob_of(pod):
    return find(pod.overlay, "CronJob")[pod.owner.rpartition("/")[2]]["spec"]


@each_job
def test_jobs_end_and_never_run_side_by_side(pod):
    spec = cronjob_of(pod)
    check_schedule(spec["schedule"])
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] > 0
    assert pod.spec["restartPolicy"] == "Never", "podFailurePolicy and the logs of failed pods need it"


@pytest.mark.parametrize(
    ("overlay", "name", "bad"),
    [("cronjob", "image-syncer", "FailJob"), ("sharded", "image-syncer-sharded", "FailIndex")],
)
def test_a_failure_counts_as_what_its_exit_code_says(overlay, name, bad):
    spec = find(overlay, "CronJob")[name]["spec"]
    assert spec["startingDeadlineSeconds"] > 0
    assert {"successfulJobsHistoryLimit", "failedJobsHistoryLimit"} <= set(spec)
    job = spec["jobTemplate"]["spec"]
    first, *rest = job["podFailurePolicy"]["rules"]
    assert first == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    container = job["template"]["spec"]["containers"][0]["name"]
    assert {each["onExitCodes"]["containerName"] for each in rest} == {container}
    assert {tuple(each["onExitCodes"]["values"]): each["action"] for each in rest} == {
        (2,): bad,
        (1, 3): "Count",
    }
    # The API takes FailIndex only where tries are counted for each index.
    assert ("backoffLimitPerIndex" in job) == (bad == "FailIndex")
    assert job.get("backoffLimit", job.get("backoffLimitPerIndex")) > 0


@copying
def test_the_end_of_a_pod_gives_the_program_the_time_it_takes(pod):
    from syncer.cli.serve import LAST_SECONDS

    assert pod.spec["terminationGracePeriodSeconds"] > LAST_SECONDS


def test_shares_are_as_many_as_pods_and_reports():
    spec = find("sharded", "CronJob")["image-syncer-sharded"]["spec"]["jobTemplate"]["spec"]
    assert spec["completionMode"] == "Indexed"
    shares, merge = (
        next(pod for pod in JOBS if word in pod.owner)
        for word in ("image-syncer-sharded", "image-syncer-merge")
    )
    (variable,) = shares.container["env"]
    assert variable == {"name": "SYNCER_SHARDS", "value": str(spec["completions"])}
    assert spec["parallelism"] == spec["completions"]
    report = next(word for word in shares.container["args"] if word.startswith("--report="))
    wanted = [
        report.removeprefix("--report=").replace("$(JOB_COMPLETION_INDEX)", str(index))
        for index in range(spec["completions"])
    ]
    assert merge.container["args"] == ["report", "merge", *wanted, "--output=/reports/report.json"]
    assert "/reports/report.json" not in wanted
    assert cronjob_of(merge)["suspend"] is True


# --- the daemon ---------------------------------------------------------------------------------------------------


@pytest.fixture
def daemon():
    return next(pod for pod in PODS if pod.overlay == "daemon")


def test_there_is_one_daemon_at_a_time():
    (deployment,) = find("daemon", "Deployment").values()
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    (claim,) = find("daemon", "PersistentVolumeClaim").values()
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_ports_probes_service_and_monitor_meet_where_it_listens(daemon):
    host, _, port = daemon.command.options["listen"].rpartition(":")
    assert host == "0.0.0.0"
    assert daemon.command.options["api_token_file"], "without a token nobody could start a run"
    (declared,) = daemon.container["ports"]
    assert declared["containerPort"] == int(port)
    for probe, path in (("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert daemon.container[probe]["httpGet"] == {"path": path, "port": declared["name"]}
    (service,) = find("daemon", "Service").values()
    assert [each["targetPort"] for each in service["spec"]["ports"]] == [declared["name"]]
    (monitor,) = find("daemon", "PodMonitor").values()
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == (declared["name"], "/metrics")
    (deployment,) = find("daemon", "Deployment").values()
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        monitor["spec"]["selector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector
        assert selector.items() <= daemon.labels.items()


def test_schedules_of_the_daemon_are_ones(daemon):
    assert daemon.command.options["schedule"]
    for schedule in daemon.command.options["schedule"]:
        check_schedule(schedule)


# --- the network --------------------------------------------------------------------------------------------------


@each_pod
def test_a_pod_may_reach_names_registries_and_the_gateway_only(pod):
    policies = [
        each["spec"]
        for each in find(pod.overlay, "NetworkPolicy").values()
        if each["spec"]["podSelector"]["matchLabels"].items() <= pod.labels.items()
    ]
    out = [rule for policy in policies for rule in policy.get("egress", [])]
    assert any("Egress" in policy["policyTypes"] for policy in policies)
    assert all(rule["ports"] for rule in out)
    anywhere = {port["port"] for rule in out if "to" not in rule for port in rule["ports"]}
    near = {port["port"] for rule in out if "to" in rule for port in rule["ports"]}
    assert anywhere == {443, 5000}
    assert near == {53, 9091}
    if gateway := pod.command.options.get("metrics_push"):
        assert gateway.endswith(".monitoring.svc:9091")
    warming = [rule for policy in policies for rule in policy.get("ingress", [])]
    assert any("Ingress" in policy["policyTypes"] for policy in policies)
    if pod.overlay != "daemon":
        assert not warming
        return
    (rule,) = warming
    assert [port["port"] for port in rule["ports"]] == [pod.container["ports"][0]["containerPort"]]
    assert rule["from"]
