"""deploy/compose: one machine with registries, daemon, Prometheus and Grafana."""

import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest
import yaml

from syncer import __version__
from syncer.daemon.health import address_of
from syncer.rules.schedules import check_schedule
from tests.deploy.promql import dashboard
from tests.support.command_line import parse

FOLDER = Path(__file__).parents[2] / "deploy" / "compose"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
each_service = pytest.mark.parametrize("name", SERVICES)
ours = pytest.mark.parametrize("name", OURS)


def mounts(name: str) -> dict[str, tuple[str, bool]]:
    """What is mounted where in a service, and whether it can be written to."""
    found = {}
    for volume in SERVICES[name].get("volumes", []):
        source, target, *mode = volume.split(":")
        found[target] = (source, mode != ["ro"])
    for secret in SERVICES[name].get("secrets", []):
        found[f"/run/secrets/{secret}"] = (COMPOSE["secrets"][secret]["file"], False)
    return found


def host_path(name: str, path: str) -> Path:
    """Where a path of a service is in the repository."""
    target = max((each for each in mounts(name) if PurePosixPath(path).is_relative_to(each)), key=len)
    return FOLDER / mounts(name)[target][0] / PurePosixPath(path).relative_to(target)


def test_it_fits_the_compose_specification():
    check = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [check, "--builtin-schema", "vendor.compose-spec", FOLDER / "compose.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@each_service
def test_no_port_is_reachable_from_other_machines(name):
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


@each_service
def test_every_image_is_one_version(name):
    image, _, tag = SERVICES[name]["image"].rpartition(":")
    assert image
    assert tag[0].isdigit() or tag[0] == "v"
    if name in OURS:
        assert tag == __version__ == SERVICES[name]["build"]["args"]["VERSION"]


@each_service
def test_what_it_refers_to_is_there(name):
    service = SERVICES[name]
    assert set(service.get("depends_on", [])) <= set(SERVICES)
    for source, _ in mounts(name).values():
        if source.startswith("."):
            assert (FOLDER / source).exists() or source in ignored()
        else:
            assert source in COMPOSE["volumes"]
    if build := service.get("build"):
        assert (FOLDER / build["context"] / build["dockerfile"]).is_file()


def ignored() -> set[str]:
    lines = (FOLDER.parents[1] / ".gitignore").read_text().splitlines()
    return {line.replace("/deploy/compose", ".") for line in lines if line.startswith("/deploy/compose/")}


def test_the_token_is_never_committed():
    assert {secret["file"] for secret in COMPOSE["secrets"].values()} == ignored()


@ours
def test_the_program_understands_how_it_is_called_and_finds_its_files(name):
    command = parse(SERVICES[name]["command"], SERVICES[name].get("environment"))
    assert command.paths
    for path in (command.options["auth"], *command.options["images"]):
        assert host_path(name, str(path)).is_file()
    for path in command.paths:
        target = max((each for each in mounts(name) if path.is_relative_to(each)), key=len)
        assert mounts(name)[target][1] == (path == command.options["state_dir"])
    for schedule in command.options.get("schedule", ()):
        check_schedule(schedule)


@ours
def test_the_program_may_do_nothing_that_it_does_not_need(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["ulimits"] == {"core": 0}
    assert not {"privileged", "user", "cap_add", "network_mode", "pid"} & set(service)


@ours
def test_its_files_are_good(name, run_syncer):
    command = parse(SERVICES[name]["command"])
    (images,) = command.options["images"]
    auth, images = (host_path(name, str(path)) for path in (command.options["auth"], images))
    done = run_syncer("check", "--auth", auth, "--images", images)
    assert (done.returncode, done.stderr) == (0, "")
    registries = {f"{service}:5000" for service in SERVICES if "registry" in SERVICES[service]["image"]}
    assert set(yaml.safe_load(auth.read_text())) == registries


def test_the_daemon_wants_a_token_and_is_found_by_those_that_ask_it():
    service = SERVICES["image-syncer"]
    options = parse(service["command"]).options
    host, _, port = options["listen"].rpartition(":")
    assert host == "0.0.0.0"
    assert options["api_token_file"]
    assert [each.rpartition(":")[2] for each in service["ports"]] == [port]
    # The image's own health check finds it by its command line.
    assert "healthcheck" not in service
    assert address_of(["python", "image-syncer", *service["command"]], {}) == f"127.0.0.1:{port}"
    prometheus = yaml.safe_load(host_path("prometheus", "/etc/prometheus/prometheus.yml").read_text())
    (scraped,) = prometheus["scrape_configs"]
    assert scraped["job_name"] == "image-syncer"
    assert scraped["static_configs"] == [{"targets": [f"image-syncer:{port}"]}]


def test_grafana_has_the_data_source_and_the_dashboard():
    provisioning = "/etc/grafana/provisioning"
    (source,) = yaml.safe_load(
        host_path("grafana", f"{provisioning}/datasources/prometheus.yaml").read_text()
    )["datasources"]
    assert source["isDefault"] is True, "the dashboard takes the default one"
    assert source["url"] == f"http://prometheus:{SERVICES['prometheus']['ports'][0].rpartition(':')[2]}"
    (provider,) = yaml.safe_load(
        host_path("grafana", f"{provisioning}/dashboards/image-syncer.yaml").read_text()
    )["providers"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert PurePosixPath(home).parent == PurePosixPath(provider["options"]["path"])
    assert host_path("grafana", home).is_file()
    assert dashboard()["templating"]["list"][0]["query"] == source["type"]
