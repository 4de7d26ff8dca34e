"""The container image: its file, and the program as its steps install it."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.command_line import parse
from tests.support.processes import Process

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
USER = "65532"


@dataclass(frozen=True)
class Instruction:
    stage: int
    word: str
    rest: str

    @property
    def list(self) -> list[str]:
        """The words of an instruction in exec form."""
        words: list[str] = json.loads(self.rest)
        return words


def read_instructions() -> Iterator[Instruction]:
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    stage = 0
    for line in re.split(r"(?<!\\)\n", "\n".join(lines)):
        if line:
            word, _, rest = line.replace("\\\n", " ").partition(" ")
            stage += word == "FROM"
            yield Instruction(stage, word, rest.strip())


INSTRUCTIONS = list(read_instructions())


def those(word: str, *, stage: int | None = None) -> list[Instruction]:
    return [each for each in INSTRUCTIONS if each.word == word and stage in (None, each.stage)]


def test_hadolint_has_nothing_to_say():
    hadolint = Path(sys.executable).with_name("hadolint")
    told = subprocess.run([hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (0, "")


def test_the_base_is_an_argument_so_that_it_can_be_pinned():
    default = next(each.rest for each in those("ARG", stage=0)).removeprefix("BASE=")
    assert {each.rest.partition(" ")[0] for each in those("FROM")} == {"${BASE}"}
    assert default.endswith("-slim-bookworm")


def test_the_program_starts_as_a_nobody_without_a_shell_and_takes_the_originals_place():
    last = max(each.stage for each in INSTRUCTIONS)
    assert not those("RUN", stage=last)
    assert [each.rest for each in those("USER", stage=last)] == [f"{USER}:{USER}"]
    assert those("ENTRYPOINT", stage=last)[0].list == ["image-syncer"]
    command = parse(those("CMD", stage=last)[0].list)
    assert command.command == "sync"
    assert command.options["config"] == Path("/etc/image-syncer/image-syncer.json")
    assert not [path for path in command.paths if path != command.options["config"]]


def test_docker_is_sent_what_is_copied_and_no_more(tmp_path):
    copied = [
        source
        for each in those("COPY")
        if not each.rest.startswith("--from")
        for source in each.rest.split()[:-1]
    ]
    for source in copied:
        assert (ROOT / source).exists(), source
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    ignored = [line for line in lines if line and not line.startswith(("#", "!"))]
    assert ignored[0] == "*"
    assert sorted(line[1:] for line in lines if line.startswith("!")) == sorted(copied)


# --- the same steps, in a folder ----------------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """What the RUN and COPY lines of the first stage make, under a folder in place of `/`."""
    root = tmp_path / "image"
    place = root / "src"
    for each in those("COPY", stage=1):
        *sources, target = each.rest.split()
        for source in sources:
            name = place / target / ("" if (ROOT / source).is_dir() else Path(source).name)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                name.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, name)
    for each in those("RUN", stage=1):
        # The image is made without pip's cache, the test with it; and pip may be of any age here.
        line = re.sub(r"(?<=[ =])/(app|tools|wheels|state)\b", rf"{root}/\1", f" {each.rest}")
        line = line.replace(" --no-cache-dir", "")
        done = subprocess.run(
            ["sh", "-euc", line],
            cwd=place,
            env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_COMPILE": "1"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    open_to_others(root)
    return root


def open_to_others(path: Path) -> None:
    """Let the nobody of the image come here: pytest's folders are its own alone."""
    for folder in (path, *path.parents):
        folder.chmod(folder.stat().st_mode | 0o055)
        if folder.name.startswith("pytest-of-"):
            return


def as_nobody(image: Path) -> list[str]:
    """How the container's process is started, as far as that goes without containers."""
    words = those("ENTRYPOINT")[0].list
    command = [str(image / "app/bin" / words[0]), *words[1:]]
    if os.getuid() != 0:
        return command
    return [
        *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"),
        *("--bounding-set=-all", "--inh-caps=-all"),
        *command,
    ]


def environment(image: Path, **more: str) -> Mapping[str, str]:
    return {"PATH": f"{image}/app/bin:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1", "HOME": "/"} | more


def child_of(process: Process) -> int:
    """The only child of a process, once it is there."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError):
            if found := children.read_text().split():
                return int(found[0])
        assert process.poll() is None, process.read_stderr()
        time.sleep(0.02)
    raise AssertionError("no process was started")


def wait_until_it_listens(process: Process) -> None:
    end = time.monotonic() + 30
    while "listening on" not in process.read_stderr():
        assert process.poll() is None, process.read_stderr()
        assert time.monotonic() < end, process.read_stderr()
        time.sleep(0.02)


def test_the_steps_install_what_is_locked_and_it_runs_for_a_nobody_as_process_1(
    image, source, registry, tmp_path
):
    # One test for all of it, since the steps take their time.
    has_what_is_locked_and_no_tools_to_build_with(image)
    copies_with_the_default_command(image, source, registry(), tmp_path)
    heeds_sigterm(image, tmp_path)
    assert (image / "state").stat().st_mode & 0o777 == 0o700


def has_what_is_locked_and_no_tools_to_build_with(image):
    have = {path.name.lower() for path in image.glob("app/lib/python*/site-packages/*.dist-info")}
    installed = {name.partition("-")[0] for name in have}
    assert "image_syncer" in installed
    assert not installed & {"pip", "setuptools", "wheel"}
    assert not list(image.glob("app/bin/pip*"))
    lock = (ROOT / "requirements/image.txt").read_text()
    locked = re.findall(r"^([\w.-]+)==(\S+) \\$", lock, re.MULTILINE)
    assert {f"{name.replace('-', '_')}-{version}.dist-info".lower() for name, version in locked} <= have


def copies_with_the_default_command(image, source, target, tmp_path):
    name = source.corpus.repositories[0]
    config = tmp_path / "image-syncer.json"
    auth = {each.host: each.auth_entry for each in (source.registry, target)}
    images = {f"{source.registry.host}/{name}": f"{target.host}/copy"}
    config.write_text(json.dumps({"auth": auth, "images": images}))
    words = [word.replace("/etc/image-syncer", str(tmp_path)) for word in those("CMD")[0].list]
    done = subprocess.run(
        [*as_nobody(image), *words],
        cwd="/",
        env=environment(image),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Synchronization finished, 0 tasks failed" in done.stderr


def is_well(image, daemon, process):
    """The health check finds the daemon where it listens: here that is not said by its options."""
    *_, program, flag, module = json.loads(those("HEALTHCHECK")[0].rest.partition("CMD ")[2])
    listening = re.search(r"listening on http://(\S+)", process.read_stderr())
    assert listening
    for listen, exit_code in ((f"127.0.0.1:{listening[1].rpartition(':')[2]}", 0), ("127.0.0.1:1", 1)):
        done = subprocess.run(
            [image / "app/bin" / program, flag, module, str(daemon)],
            cwd="/",
            env=environment(image, SYNCER_LISTEN=listen),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == exit_code, done.stdout + done.stderr


def heeds_sigterm(image, tmp_path):
    own = ["unshare", "--pid", "--fork", "--kill-child=KILL"]
    if subprocess.run([*own, "true"], capture_output=True, check=False).returncode != 0:
        own = []  # a process may have no namespace of its own here: the signal is at least heeded
    process = Process(
        [
            *own,
            *as_nobody(image),
            "serve",
            "--config",
            str(tmp_path / "image-syncer.json"),
        ],
        stdout=tmp_path / "out",
        stderr=tmp_path / "err",
        env=environment(image, SYNCER_LISTEN="127.0.0.1:0"),
        cwd=Path("/"),
    )
    daemon = process.pid
    try:
        daemon = child_of(process) if own else process.pid
        wait_until_it_listens(process)
        is_well(image, daemon, process)
        os.kill(daemon, signal.SIGTERM)
        assert process.wait(timeout=40) == 0, process.read_stderr()
    finally:
        if process.poll() is None:
            # Another user's process does not hear that its parent is gone.
            os.kill(daemon, signal.SIGKILL)
        process.end()
