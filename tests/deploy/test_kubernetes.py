"""The kustomizations under deploy/kubernetes: valid, secure, whole, and in step with the program's options."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from syncer import __version__
from syncer.daemon.guard import HOOKS
from syncer.rules.schedules import check_schedule
from tests.deploy import standards
from tests.deploy.manifests import (
    COMPONENTS,
    KUBERNETES,
    NAMES,
    OVERLAYS,
    Manifests,
    all_overlays,
    kustomize,
    overlay,
    read_setup,
    with_components,
)
from tests.deploy.promql import alerts, dashboard

ALL = all_overlays()
PODS = [pod for manifests in ALL for pod in manifests.pods()]
COPYING = [pod for pod in PODS if not pod.merges]
each_manifests = pytest.mark.parametrize("manifests", ALL, ids=str)
each_pod = pytest.mark.parametrize("pod", PODS, ids=str)
each_copying_pod = pytest.mark.parametrize("pod", COPYING, ids=str)
each_overlay = pytest.mark.parametrize("name", NAMES)
MONITORED = [
    pytest.param(name, component, id=component)
    for name, component in {"daemon": "prometheusrule-daemon", "cronjob": "prometheusrule-jobs"}.items()
]


# --- what is applied ----------------------------------------------------------------------------------------------


@each_manifests
def test_the_api_takes_every_resource(manifests):
    standards.check_schemas(manifests)


@each_manifests
def test_a_second_apply_changes_nothing(manifests):
    standards.check_nothing_changes(manifests)


@pytest.mark.parametrize(
    "changed",
    [
        {"tolerations": []},
        {"nodeSelector": None},
        {"resources": {"requests": {"cpu": "0.5"}}},
        {"resources": {"limits": {"memory": "1024Mi"}}},
        {"env": []},
        {"env": [{"name": "A", "value": None}]},
        {"ports": [{"containerPort": 80, "hostPort": 0}]},
    ],
    ids=json.dumps,
)
def test_the_check_finds_what_the_api_server_would_store_in_another_way(changed):
    container = {"name": "c", "image": "i"}
    pod = {
        "containers": [
            container | {key: value for key, value in changed.items() if key in ("resources", "env", "ports")}
        ]
    }
    pod |= {key: value for key, value in changed.items() if key in ("tolerations", "nodeSelector")}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod},
        },
    }
    with pytest.raises(AssertionError):
        standards.check_nothing_changes(Manifests("changed", (deployment,)))


@each_manifests
def test_an_overlay_brings_nothing_that_must_outlive_it(manifests):
    kinds = {each["kind"] for each in manifests.resources}
    assert not kinds & {"Namespace", "PersistentVolumeClaim", "Secret"}
    (namespace,) = (each for each in read_setup().values() if each["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    places = {each["metadata"].get("namespace") for each in manifests.resources}
    assert places == {namespace["metadata"]["name"]}


def test_what_is_applied_once_is_valid_and_is_what_pods_refer_to():
    setup = Manifests("setup", tuple(read_setup().values()))
    standards.check_schemas(setup)
    standards.check_nothing_changes(setup)
    (namespace,) = setup.find("Namespace")
    claims = setup.find("PersistentVolumeClaim")
    assert {claim["metadata"]["namespace"] for claim in claims.values()} == {namespace}
    assert {name: claim["spec"]["accessModes"] for name, claim in claims.items()} == {
        "image-syncer-state": ["ReadWriteOnce"],
        "image-syncer-reports": ["ReadWriteMany"],
    }
    referred = {
        volume["persistentVolumeClaim"]["claimName"]
        for pod in PODS
        for volume in pod.spec["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert referred == claims.keys()


@each_overlay
def test_an_overlay_needs_no_operator(name):
    assert not {each["apiVersion"] for each in overlay(name).resources} & standards.OF_OPERATORS


@each_manifests
def test_resources_carry_the_recommended_labels(manifests):
    for resource in manifests.resources:
        labels = resource["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == labels["app.kubernetes.io/part-of"] == "image-syncer"
    for pod in manifests.pods():
        assert pod.labels["app.kubernetes.io/version"] == __version__
        assert pod.labels["app.kubernetes.io/managed-by"] == "kustomize"


def test_selectors_hold_nothing_that_an_upgrade_changes():
    for manifests in ALL:
        for deployment in manifests.find("Deployment").values():
            assert set(deployment["spec"]["selector"]["matchLabels"]) == {
                "app.kubernetes.io/name",
                "app.kubernetes.io/component",
            }


def files_named_in(folder: Path) -> set[str]:
    """The files of its own folder that a kustomization uses, as far as names go."""
    text = (folder / "kustomization.yaml").read_text()
    return set(re.findall(r"^ *(?:- |path: |files: \[)([\w.-]+\.yaml)\]?$", text, re.MULTILINE))


@pytest.mark.parametrize(
    "folder",
    [path for parent in (OVERLAYS, KUBERNETES / "components") for path in sorted(parent.iterdir())],
    ids=lambda path: path.name,
)
def test_every_file_is_used(folder):
    there = {path.name for path in folder.iterdir()} - {"kustomization.yaml"}
    assert there == files_named_in(folder)


def test_every_component_is_tested_and_described():
    there = {path.name for path in (KUBERNETES / "components").iterdir()}
    assert there == {each for names in COMPONENTS.values() for each in names} | {"networkpolicy"}
    text = (KUBERNETES.parents[1] / "docs" / "operations.md").read_text()
    for name in there:
        assert f"`{name}`" in text, name


@each_overlay
def test_an_image_can_be_named_by_its_digest(name, tmp_path):
    file = OVERLAYS / name / "kustomization.yaml"
    text = file.read_text()
    (digest,) = re.findall(r"^    # (digest: sha256:[0-9a-f]{64})$", text, re.MULTILINE)
    (image,) = yaml.safe_load(text)["images"]
    own = {
        "resources": [os.path.relpath(OVERLAYS / name, tmp_path.resolve())],
        "images": [{"name": image["newName"], "digest": digest.partition(" ")[2]}],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(own))
    for pod in Manifests(name, kustomize(tmp_path.resolve())).pods():
        assert pod.container["image"] == f"{image['newName']}@{digest.partition(' ')[2]}"


# --- pods ---------------------------------------------------------------------------------------------------------


@each_pod
@pytest.mark.parametrize("check", standards.CHECKS_OF_ALL_PODS, ids=lambda check: check.__name__)
def test_a_pod_meets(check, pod):
    check(pod)


@each_copying_pod
def test_the_program_understands_how_it_is_called_and_finds_its_files(pod):
    standards.check_command(pod)


@each_copying_pod
def test_its_files_are_good_and_their_secrets_are_mounted(pod, run_syncer, tmp_path):
    mount = pod.mount_of(pod.command.options["auth"])
    for name, text in pod.files_in(mount).items():
        assert "password:" not in text, "secrets are in files of their own"
        for secret in map(Path, re.findall(r"^\s*(?:password|token)_file: (\S+)$", text, re.MULTILINE)):
            found = pod.mount_of(secret)
            assert found
            assert pod.volume(found["name"])["secret"]["secretName"] == "image-syncer-passwords"
            (tmp_path / secret.name).write_text("from the cluster")
        (tmp_path / name).write_text(re.sub(r"(_file: )/\S+/", r"\1", text))
    done = run_syncer("check", "--auth", "auth.yaml", "--images", "images.yaml")
    assert (done.returncode, done.stderr) == (0, "")


def arguments_in(folder: Path, pod) -> list[str]:
    """The arguments of a pod, with its volumes as folders below `folder`; ConfigMaps are in them."""
    for mount in pod.container["volumeMounts"]:
        place = folder / mount["mountPath"].lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        for name, text in pod.files_in(mount).items():
            (place / name).write_text(text.replace("/run/secrets", f"{folder}/run/secrets"))
    paths = "|".join(re.escape(mount["mountPath"]) for mount in pod.container["volumeMounts"])
    return [
        re.sub(rf"(^|=)({paths})(?=/|$)", rf"\g<1>{folder}\2", word).replace("0.0.0.0:8080", "127.0.0.1:0")
        for word in pod.container["args"]
    ]


@pytest.mark.parametrize(
    "pod", [pod for name in NAMES for pod in overlay(name).pods() if not pod.merges], ids=str
)
def test_a_pod_without_its_secrets_starts_and_ends_with_2_and_names_what_is_missing(
    pod, run_syncer, tmp_path
):
    environment = pod.environment | {"JOB_COMPLETION_INDEX": "0"}
    arguments = arguments_in(tmp_path, pod)
    if pod.command.command == "serve":
        done = run_syncer(*arguments, env=environment)
        assert done.returncode == 2
        assert "run/secrets/image-syncer-api/token" in done.stderr
        (tmp_path / "run/secrets/image-syncer-api/token").write_text("a token of a test, long enough")
    done = run_syncer(*arguments, env=environment)
    assert done.returncode == 2
    assert "run/secrets/image-syncer/harbor" in done.stderr + done.stdout


# --- components ---------------------------------------------------------------------------------------------------


def test_dockerconfig_gives_the_logins_of_a_secret():
    for name in NAMES:
        for pod in with_components(name, COMPONENTS[name]).pods():
            if pod.merges:
                assert set(pod.environment) == {"SHARES"}
                continue
            folder = Path(pod.environment["DOCKER_CONFIG"])
            mount = pod.mount_of(folder)
            assert mount
            assert mount["mountPath"] == str(folder)
            secret = pod.volume(mount["name"])["secret"]
            assert secret["items"] == [{"key": ".dockerconfigjson", "path": "config.json"}]


def test_private_ca_adds_authorities_to_those_of_the_system(ca, tmp_path):
    (pod,) = with_components("cronjob", COMPONENTS["cronjob"]).pods()
    file = Path(pod.environment["SSL_CERT_FILE"])
    mount = pod.mount_of(file)
    assert mount
    assert pod.volume(mount["name"])["configMap"]["name"] == "image-syncer-ca"
    assert f"ca_file: {file}" in (KUBERNETES / "components/private-ca/kustomization.yaml").read_text()
    ca.cert_pem.write_to_path(tmp_path / "ca.crt")
    # The image is Debian's, whose authorities are found by folder: a file comes on top.
    script = "import ssl; print(ssl.create_default_context().get_ca_certs()); print(ssl.get_default_verify_paths().capath)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"SSL_CERT_FILE": str(tmp_path / "ca.crt")},
        capture_output=True,
        text=True,
        check=True,
    )
    found, folder = done.stdout.splitlines()
    assert "trustme" in found
    assert Path(folder).is_dir()


def test_proxy_is_for_all_that_copies_and_a_change_restarts_a_daemon():
    for name in NAMES:
        manifests = with_components(name, COMPONENTS[name])
        (config,) = (each for each in manifests.find("ConfigMap") if each.startswith("image-syncer-proxy-"))
        for pod in manifests.pods():
            assert pod.merges or pod.container["envFrom"] == [{"configMapRef": {"name": config}}]
            if not pod.merges:
                assert {"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"} <= set(pod.environment)
                assert ".svc" in pod.environment["NO_PROXY"].split(","), "the Pushgateway is in the cluster"


def test_pull_secret_is_for_the_nodes():
    for name in NAMES:
        (account,) = with_components(name, COMPONENTS[name]).find("ServiceAccount").values()
        assert account["imagePullSecrets"] == [{"name": "image-syncer-pull"}]


def test_pushgateway_is_pushed_to_by_jobs_and_can_be_reached():
    for name in ("cronjob", "sharded"):
        for pod in with_components(name, COMPONENTS[name]).pods():
            if not pod.merges:
                assert pod.command.options["metrics_push"] == "http://pushgateway.monitoring.svc:9091"
        for pod in overlay(name).pods():
            assert "SYNCER_METRICS_PUSH" not in pod.environment


@pytest.mark.parametrize(("name", "component"), MONITORED)
def test_the_operator_gets_the_alerts_that_fit(name, component):
    (rule,) = with_components(name, COMPONENTS[name]).find("PrometheusRule").values()
    given = [each for group in rule["spec"]["groups"] for each in group["rules"]]
    other = "Job" if component.endswith("daemon") else "(?!Job|Incomplete|Drift|ManyTags|Throttled|Quota)"
    assert given == [each for each in alerts() if not re.match(f"ImageSyncer{other}", each["alert"])]


def test_grafana_gets_the_dashboard():
    for name in NAMES:
        config = with_components(name, COMPONENTS[name]).find("ConfigMap")["image-syncer-dashboard"]
        assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
        (text,) = config["data"].values()
        assert json.loads(text) == dashboard()
        # kubectl keeps all of it in an annotation, which may have 256 KiB.
        assert len(json.dumps(config)) < 200_000


# --- one-shots ----------------------------------------------------------------------------------------------------

CRONJOBS = [(manifests, name) for manifests in ALL for name in manifests.find("CronJob")]
each_cronjob = pytest.mark.parametrize(("manifests", "name"), CRONJOBS, ids=str)


@each_cronjob
def test_jobs_end_and_never_run_side_by_side(manifests, name):
    spec = manifests.find("CronJob")[name]["spec"]
    check_schedule(spec["schedule"])
    assert spec["concurrencyPolicy"] == "Forbid"
    job = spec["jobTemplate"]["spec"]
    assert job["activeDeadlineSeconds"] > 0
    assert job["template"]["spec"]["restartPolicy"] == "Never", (
        "podFailurePolicy and logs of failed pods need it"
    )


@pytest.mark.parametrize(
    ("kustomization", "name", "bad"),
    [("cronjob", "image-syncer", "FailJob"), ("sharded", "image-syncer-sharded", "FailIndex")],
)
def test_a_failure_counts_as_what_its_exit_code_says(kustomization, name, bad):
    spec = overlay(kustomization).find("CronJob")[name]["spec"]
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


def shares_with(folder: Path, count: int | None) -> Manifests:
    """overlays/sharded, in a copy whose cronjob.yaml has other `completions`."""
    if count is None:
        return overlay("sharded")
    for name in ("base", "components", "overlays"):
        for path in (KUBERNETES / name).rglob("*.yaml"):
            copy = folder / path.relative_to(KUBERNETES)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(path.read_text())
    cronjob = folder / "overlays/sharded/cronjob.yaml"
    text, times = re.subn(r"(?<= completions: )\d+", str(count), cronjob.read_text())
    assert times == 1
    cronjob.write_text(text)
    return Manifests(f"{count} shares", kustomize(folder / "overlays" / "sharded"))


@pytest.mark.parametrize("count", [None, 1, 12])
def test_the_number_of_shares_is_written_once(count, tmp_path, run_syncer):
    manifests = shares_with(tmp_path / "kubernetes", count)
    spec = manifests.find("CronJob")["image-syncer-sharded"]["spec"]["jobTemplate"]["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == (count or 4)
    shares = manifests.pod("CronJob/image-syncer-sharded")
    assert shares.environment["SYNCER_SHARDS"] == str(spec["completions"])
    standards.check_schemas(manifests)
    # And the Job that merges takes exactly the reports that these write.
    reports = tmp_path / "reports"
    reports.mkdir()
    (tmp_path / "images.json").write_text("{}")
    for index in range(spec["completions"]):
        name = shares.command.options["report"].name.replace("0", str(index))
        done = run_syncer(
            "--images", "images.json", "--report", reports / name, "--shard", f"{index}/{spec['completions']}"
        )
        assert done.returncode == 0, done.stderr
    done = run_merge(manifests, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((reports / "report.json").read_text())["run"]["outcome"] == "success"


def run_merge(manifests: Manifests, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run the command of the Job that merges, with /reports and /dev/termination-log below `folder`."""
    pod = manifests.pod("CronJob/image-syncer-merge")
    (script,) = pod.container["args"]
    assert script == re.sub(r"\$\((\w+)\)", lambda match: pod.environment.get(match[1], match[0]), script)
    script = script.replace("/reports", f"{folder}/reports").replace("/dev/term", f"{folder}/term")
    way = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        [*pod.container["command"], script],
        env=pod.environment | {"PATH": way},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_merge_job_tells_its_result_in_log_and_termination_message(run_syncer, tmp_path):
    manifests = overlay("sharded")
    (tmp_path / "reports").mkdir()
    rules = {f"127.0.0.1:1/app{number}:1": "127.0.0.1:1/copy" + str(number) for number in range(8)}
    (tmp_path / "images.json").write_text(json.dumps(rules))
    for index in range(4):
        report = tmp_path / "reports" / f"report-{index}.json"
        run_syncer("--images", "images.json", "--report", report, "--shard", f"{index}/4", "--retries", "0")
    done = run_merge(manifests, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told == json.loads((tmp_path / "termination-log").read_text())
    assert told["run"]["outcome"] == "failure"
    assert told["totals"]["images"]["failed"] == 8
    assert len(done.stdout) < 4096, "a termination message has no room for more"


def test_the_merge_job_fails_with_the_reason_where_a_report_is_missing(tmp_path):
    (tmp_path / "reports").mkdir()
    done = run_merge(overlay("sharded"), tmp_path)
    assert done.returncode == 2
    assert "report-3.json cannot be read" in done.stderr
    assert overlay("sharded").find("CronJob")["image-syncer-merge"]["spec"]["suspend"] is True


def test_a_pod_beyond_the_shares_ends_with_2(run_syncer, tmp_path):
    (tmp_path / "images.json").write_text("{}")
    environment = {"JOB_COMPLETION_INDEX": "4", "SYNCER_SHARDS": "4"}
    done = run_syncer("--images", "images.json", env=environment)
    assert done.returncode == 2
    assert "SYNCER_SHARDS" in done.stderr


# --- the daemon ---------------------------------------------------------------------------------------------------

DAEMON = with_components("daemon", COMPONENTS["daemon"])


@pytest.fixture
def daemon():
    return DAEMON.pod("Deployment/image-syncer")


def test_component_hooks_gives_the_token_and_opens_the_path_of_events_only(daemon):
    file = Path(daemon.command.options["hook_token_file"])
    mount = daemon.mount_of(file)
    assert mount
    assert daemon.volume(mount["name"])["secret"]["secretName"] == "image-syncer-hook-token"
    assert overlay("daemon").pod("Deployment/image-syncer").command.options["hook_token_file"] is None
    (ingress,) = DAEMON.find("Ingress").values()
    (rule,) = ingress["spec"]["rules"]
    assert [rule["host"]] == ingress["spec"]["tls"][0]["hosts"]
    (path,) = rule["http"]["paths"]
    assert (path["path"], path["pathType"]) == (HOOKS, "Prefix")
    (service,) = DAEMON.find("Service").values()
    backend = path["backend"]["service"]
    assert backend["name"] == service["metadata"]["name"]
    assert backend["port"]["name"] in [port["name"] for port in service["spec"]["ports"]]


def test_there_is_one_daemon_at_a_time():
    (deployment,) = DAEMON.find("Deployment").values()
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}


def test_ports_probes_service_and_monitor_meet_where_it_listens(daemon):
    host, _, port = daemon.command.options["listen"].rpartition(":")
    assert host == "0.0.0.0"
    assert daemon.command.options["api_token_file"], "without a token nobody could start a run"
    (declared,) = daemon.container["ports"]
    assert declared["containerPort"] == int(port)
    for probe, path in (("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert daemon.container[probe]["httpGet"] == {"path": path, "port": declared["name"]}
    (service,) = DAEMON.find("Service").values()
    assert [each["targetPort"] for each in service["spec"]["ports"]] == [declared["name"]]
    (monitor,) = DAEMON.find("PodMonitor").values()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == (declared["name"], "/metrics")
    (deployment,) = DAEMON.find("Deployment").values()
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
def test_a_pod_reaches_names_registries_and_what_components_add_only(pod):
    proxied = any(name.startswith("image-syncer-proxy") for name in pod.manifests.find("ConfigMap"))
    pushed = "SYNCER_METRICS_PUSH" in pod.environment or (pod.merges and proxied)
    standards.check_network(
        pod,
        anywhere={443, 5000} | ({3128} if proxied else set()),
        near={53} | ({9091} if pushed else set()),
        listens=pod.owner.startswith("Deployment"),
    )
