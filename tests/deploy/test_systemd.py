"""deploy/systemd: valid, closed in, and in step with the program's options."""

import re
import shlex
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from syncer.cli.serve import LAST_SECONDS
from syncer.rules.schedules import check_schedule
from tests.support.command_line import Parsed, parse

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
SERVICES = sorted(path.name for path in FOLDER.glob("*.service"))
PROGRAM = "/opt/image-syncer/bin/image-syncer"
each_service = pytest.mark.parametrize("name", SERVICES)


def settings(name: str) -> dict[str, list[str]]:
    """The settings of a unit: a list each, since some may be repeated."""
    found = defaultdict(list)
    for line in (FOLDER / name).read_text().replace("\\\n", " ").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


def command(name: str) -> Parsed:
    (line,) = settings(name)["ExecStart"]
    program, *arguments = shlex.split(
        line.replace("%d", f"/run/credentials/{name}").replace("%S", "/var/lib")
    )
    assert program == PROGRAM
    return parse(arguments)


@pytest.fixture
def units(tmp_path):
    """The units with the program where it is here: systemd looks for it."""
    program = str(Path(sys.executable).with_name("image-syncer"))
    for path in FOLDER.iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace(PROGRAM, program))
    return sorted(tmp_path.iterdir())


def analyze(*arguments):
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_systemd_takes_the_units(units):
    done = analyze("verify", "--man=no", *units)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_finds_the_services_closed_in(units):
    for unit in units:
        if unit.suffix == ".service":
            # In tenths: of the 10 that a service without any setting has, 1.5 are left.
            done = analyze("security", "--offline=true", "--threshold=15", "--no-pager", unit)
            assert done.returncode == 0, done.stdout + done.stderr


@each_service
def test_the_program_understands_how_it_is_called(name):
    unit, options = settings(name), command(name).options
    (state,) = unit["StateDirectory"]
    credentials = {value.partition(":")[0] for value in unit["LoadCredential"]}
    for path in (options["auth"], *options["images"]):
        assert path.parent == Path("/etc/image-syncer")
    for path in command(name).paths:
        if path.is_relative_to("/run/credentials"):
            assert path.name in credentials
        elif not path.is_relative_to("/etc/image-syncer"):
            assert path.is_relative_to(f"/var/lib/{state}"), f"{path}: nothing else can be written"
    for schedule in options.get("schedule", ()):
        check_schedule(schedule)


@each_service
def test_passwords_are_where_the_comment_says(name):
    credentials = dict(value.split(":", 1) for value in settings(name)["LoadCredential"])
    assert credentials["password"] == "/etc/image-syncer/passwords"
    assert f"/run/credentials/{name}/password_NAME" in (FOLDER / name).read_text()


@each_service
def test_the_end_of_the_service_gives_the_program_the_time_it_takes(name):
    (seconds,) = settings(name)["TimeoutStopSec"]
    assert int(seconds) > LAST_SECONDS


@each_service
def test_secrets_stay_in_the_process_and_its_folder(name):
    unit = settings(name)
    assert unit["LimitCORE"] == ["0"]
    assert unit["StateDirectoryMode"] == ["0700"]
    assert unit["UMask"] == ["0077"]


@each_service
def test_clouds_do_not_give_it_credentials_of_the_machine(name):
    assert settings(name)["IPAddressDeny"] == ["link-local"]


def test_the_daemon_reloads_and_is_not_restarted_with_bad_files():
    unit = settings("image-syncer.service")
    assert command("image-syncer.service").command == "serve"
    assert unit["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert unit["Restart"] == ["on-failure"]
    assert unit["RestartPreventExitStatus"] == ["2"]


def test_the_timer_starts_the_one_shot():
    assert command("image-syncer-once.service").command == "sync"
    (when,) = settings("image-syncer-once.timer")["OnCalendar"]
    assert analyze("calendar", when).returncode == 0
    assert re.search(r":00/|00/2:", when)
