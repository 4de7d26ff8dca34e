"""The commands and links in the README and its pages work."""

import re
import shlex
import socket
import sys
from pathlib import Path

import httpx
import pytest

from syncer import __version__
from syncer.cli.main import cli
from tests.e2e.jobs import names, wait_for
from tests.support.judge import judge
from tests.support.plain_http import NO_AUTHORITIES
from tests.support.processes import Process

ROOT = Path(__file__).parents[2]
READMES = ("README.md", "README.zh-CN.md")
PAGES = (*READMES, "docs/command-line.md", "docs/migration.md")
LINKING = (
    *READMES,
    "examples/README.md",
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)]+)\)")
NUMBER = re.compile(r"\d+\.\d+|\d+")


def read(page):
    return (ROOT / page).read_text()


def blocks(page, language):
    return [code for found, code in BLOCK.findall(read(page)) if found == language]


def section(page, heading):
    """The text below a heading, up to the next one."""
    return re.split(r"^#+ ", read(page).partition(f" {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def anchors(page):
    """The names that a heading has in a link: small letters, blanks as hyphens, no signs."""
    titles = re.findall(r"^#+ (.*)$", BLOCK.sub("", read(page)), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", LINKING)
def test_every_link_of_the_readme_has_a_target(page):
    for link in LINK.findall(BLOCK.sub("", read(page))):
        path, _, anchor = link.partition("#")
        if path.startswith("https://"):
            continue
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.relative_to(ROOT) if path else page), link


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_readme_is_valid(page):
    commands = [
        words
        for code in blocks(page, "sh")
        for line in code.splitlines()
        if (words := shlex.split(line, comments=True)) and Path(words[0]).name in {"syncer", "image-syncer"}
    ]
    assert commands
    for _, *words in commands:
        name, arguments = (words[0], words[1:]) if words[0] in cli.commands else ("sync", words)
        cli.commands[name].make_context(name, arguments)


@pytest.mark.parametrize("page", PAGES)
def test_every_file_named_in_the_readme_exists(page):
    named = re.findall(r"(?<![\w/-])(?:\./)?((?:deploy|examples|scripts)/[\w./-]*\w)", read(page))
    for path in named:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", ["README.md", "docs/migration.md"])
def test_every_example_of_the_readme_is_valid(page, run_syncer, tmp_path):
    shown = re.findall(r"^# (auth|images)\.yaml\n", "".join(blocks(page, "yaml")), re.MULTILINE)
    assert shown == ["auth", "images"] * (len(shown) // 2)
    assert shown
    (tmp_path / "hub_token").write_text("secret")
    for code in blocks(page, "yaml"):
        name = re.match(r"# (\w+\.yaml)\n", code)
        if name:
            (tmp_path / name[1]).write_text(code)
        if name and name[1] == "images.yaml":
            variables = dict.fromkeys(
                re.findall(r"\$\{(\w+)}", (tmp_path / "auth.yaml").read_text()), "value"
            )
            done = run_syncer("check", "--auth", "auth.yaml", "--images", "images.yaml", env=variables)
            assert done.returncode == 0, done.stderr
            assert not done.stderr


@pytest.fixture
def job(source, registry, tmp_path):
    """The two files that the README's commands name, and where their images go."""
    destination = registry()
    entries = [f"{host}: {{plain_http: true}}\n" for host in (source.registry.host, destination.host)]
    (tmp_path / "auth.yaml").write_text("".join(entries))
    rules = source.corpus.rules(source.registry.host, destination.host)
    (tmp_path / "images.yaml").write_text("".join(f"{here}: {there}\n" for here, there in rules.items()))
    return destination


@pytest.fixture
def shell(program, tmp_path):
    """Runs what is to be copied and pasted, with the program in PATH."""

    def start(code, **variables):
        number = len(program.started)
        process = Process(
            ["sh", "-e", "-c", code],
            stdout=tmp_path / f"shell-{number}.out",
            stderr=tmp_path / f"shell-{number}.err",
            env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path), **variables},
            cwd=tmp_path,
        )
        program.started.append(process)
        return process

    return start


def test_readmes_single_run_works(job, shell, source):
    (code,) = re.findall(r"```sh\n(.*?)```", section("README.md", "Run once"), re.DOTALL)

    done = shell(code)

    assert done.wait(timeout=120) == 0, done.read_stderr()
    judge(source.registry, job, names(source.corpus))


def test_readmes_service_works(job, shell, source):
    code = re.findall(r"```sh\n(.*?)```", section("README.md", "Run as a service"), re.DOTALL)[0]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"

    serving = shell("exec " + code, SYNCER_LISTEN=address)

    with httpx.Client(base_url=f"http://{address}", trust_env=False, verify=NO_AUTHORITIES) as client:
        wait_for(lambda: _outcomes(client) == ["success"], serving)
    judge(source.registry, job, names(source.corpus))
    serving.terminate()
    assert serving.wait(timeout=30) == 0


def _outcomes(client):
    try:
        return [run["outcome"] for run in client.get("/api/v1/runs").json()]
    except httpx.TransportError:
        return None


def test_readmes_figures_match_the_measurements():
    rows = re.findall(r"^\| (.+) \|$", section("README.md", "Why"), re.MULTILINE)[2:]
    measured = set(NUMBER.findall(read("benchmarks/RESULTS.md")))
    for row in rows:
        for cell in row.split(" | ")[1:]:
            assert set(NUMBER.findall(cell)) <= measured, row


def test_readme_names_the_archive_of_this_version():
    for page in READMES:
        assert f"dist/image-syncer-{__version__}-linux-amd64.tar.gz" in read(page)


def test_both_readmes_have_the_same_structure():
    english, chinese = (read(page) for page in READMES)
    assert BLOCK.findall(english) == BLOCK.findall(chinese)
    assert re.findall(r"^#+(?= )", english, re.MULTILINE) == re.findall(r"^#+(?= )", chinese, re.MULTILINE)
    here, there = (LINK.findall(text) for text in (english, chinese))
    assert sorted({*here, "README.md"}) == sorted({*there, "README.zh-CN.md"})
    for ours, theirs in zip(
        *(re.findall(r"^\|.*\|$", text, re.MULTILINE) for text in (english, chinese)), strict=True
    ):
        assert [NUMBER.findall(cell) for cell in ours.split("|")[2:]] == [
            NUMBER.findall(cell) for cell in theirs.split("|")[2:]
        ]
