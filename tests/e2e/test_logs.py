"""Logs as text, as JSON, in a file, and at all levels. They never contain a secret."""

import base64
import json
import os
import pty
import re
import signal
from urllib.parse import quote, quote_plus

import pytest

from tests.e2e.jobs import FEW, last_line, lines_with, slowed, stored_blobs, wait_for
from tests.support.judge import whole
from tests.support.tokens import Grant

ESCAPE = "\x1b["
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3|4|9|10)\d(?:;\d+)*m")  # bold and dim are none


@pytest.fixture
def job(registry, files, fill):
    source, destination = registry(), registry()
    corpus = fill(source)
    return files(corpus.rules(source.host, destination.host), source, destination), source, destination


def test_json_lines_stay_json_when_the_run_is_stopped(registry, source, files, start_syncer):
    destination = registry()
    rules = source.corpus.rules(source.registry.host, destination.host)
    slow = files(rules, destination, auth=slowed(source.registry, "600KiB"))

    running = start_syncer("sync", *slow, "--log-format", "json")
    wait_for(lambda: stored_blobs(destination.storage) >= 5, running)
    running.send_signal(signal.SIGTERM)

    assert running.wait(timeout=30) == 3
    lines = [json.loads(line) for line in running.read_stderr().splitlines()]
    assert any(line["event"] == "stopping" for line in lines)
    assert lines[-1]["outcome"] == "interrupted"


def test_json_lines_parse_one_by_one(job, run_syncer):
    done = run_syncer("sync", *job[0], "--log-format", "json", "--log-level", "debug")

    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.stdout == ""
    assert all({"timestamp", "level", "event"} <= set(line) for line in lines)
    synced = [line for line in lines if line["event"] == "image synced"]
    assert len(synced) == FEW.images
    assert len({line["run"] for line in synced}) == 1
    assert lines[-1]["event"] == "run finished"
    assert lines[-1]["message"].startswith("Synchronization finished, 0 tasks failed, cost ")


def test_log_file_gets_the_log_instead_of_stderr(job, run_syncer, tmp_path):
    first = run_syncer("sync", *job[0], "--log", "run.log")
    second = run_syncer("sync", *job[0], "--log", "run.log")

    log = (tmp_path / "run.log").read_text()
    assert log.count("Synchronization finished, 0 tasks failed") == 2
    assert last_line(log).startswith("Synchronization finished, 0 tasks failed")
    for done in (first, second):
        assert done.returncode == 0
        assert "Synchronization" not in done.stderr


def test_debug_shows_each_request_and_info_none(job, run_syncer):
    arguments, source, destination = job
    debug = run_syncer("sync", *arguments, "--log-level", "debug")
    asked = source.access_log() + destination.access_log()
    info = run_syncer("sync", *arguments)

    for request in asked:
        assert f"{request.method} " in debug.stderr
        assert request.path.partition("?")[0] in debug.stderr
    told = [line for line in lines_with("debug", debug.stderr) if re.search(r": \d{3} in [\d.]+ ms$", line)]
    assert len(told) == len(asked)
    assert not lines_with("debug", info.stderr)


def test_level_error_prints_only_the_final_line(job, run_syncer):
    done = run_syncer("sync", *job[0], "--log-level", "error", "--progress", "none")
    (line,) = done.stderr.splitlines()
    assert line.startswith("Synchronization finished, 0 tasks failed")


def test_plain_progress_prints_lines_and_none_prints_nothing(job, run_syncer):
    arguments, _, _ = job
    plain = run_syncer("sync", *arguments, "--progress", "plain")
    none = run_syncer("sync", *arguments, "--progress", "none", "--force")

    assert re.search(r"^3/3 images", plain.stderr, re.MULTILINE)
    assert not re.search(r"^\d/3 images", none.stderr, re.MULTILINE)
    assert ESCAPE not in plain.stderr + none.stderr


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}], ids=["colour", "NO_COLOR"])
def test_terminal_gets_bars_and_color_if_allowed(job, program, env):
    screen = _on_a_terminal(program, ["sync", *job[0]], {"TERM": "xterm-256color", **env})

    assert ESCAPE in screen
    assert bool(COLOUR.search(screen)) is not bool(env)
    assert "Synchronization finished, 0 tasks failed" in screen.rstrip().splitlines()[-1]
    assert whole(job[2]) == FEW.images


def _on_a_terminal(program, arguments, env):
    """Run the program with a terminal as stderr. What it wrote there."""
    ours, theirs = pty.openpty()
    pid = os.fork()
    if pid == 0:  # pragma: no cover - becomes the program
        os.setsid()
        os.dup2(theirs, 1)
        os.dup2(theirs, 2)
        os.chdir(program.folder)
        command = program._command(tuple(arguments))
        os.execve(command[0], command, program._environment(env))
    os.close(theirs)
    screen = b""
    try:
        while part := os.read(ours, 65536):
            screen += part
    except OSError:
        pass  # how Linux tells that the other end is closed
    finally:
        os.close(ours)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, screen
    return screen.decode()


NASTY = ["p@ss w0rd/+&=%\"'", "Ünïcödé-Gehéim", "back\\slash$NAME`x`", "a:b:c?#[]{}", "YWRtaW46c2VjcmV0"]


@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
def test_no_output_contains_a_secret(registry, files, fill, program, right):
    source, guarded = registry(), registry(auth="token")
    corpus = fill(source)
    users = {f"robot${number}+puller": secret for number, secret in enumerate(NASTY)}
    guarded.token_server.users |= users if right else dict.fromkeys(users, "another one")
    guarded.token_server.grants += [Grant(user) for user in users]
    auth = {
        f"{guarded.host}/{number}": {"username": user, "password": secret, "plain_http": True}
        for number, (user, secret) in enumerate(users.items())
    }
    places = [f"{name}/app" for name in auth]
    arguments = files({f"{source.host}/{corpus.repositories[0]}": places}, source, auth=auth)
    kept = ("report.json", "metrics.prom", "success.yaml", "failed.yaml")
    options = ("--report", "--metrics-file", "--output-success-images", "--output-failed-images")

    runs = [
        program.run(
            *("sync", *arguments, "--log-level", "debug"),
            *(part for pair in zip(options, kept, strict=True) for part in pair),
        ),
        program.run("sync", *arguments, "--log-level", "debug", "--log-format", "json", "--force"),
        program.run("check", "--online", *arguments),
    ]

    assert [each.returncode for each in runs] == ([0, 0, 0] if right else [1, 1, 1]), runs[0].stderr
    written = "".join(each.stdout + each.stderr for each in runs)
    written += "".join((program.folder / name).read_text() for name in kept)
    for user, secret in users.items():
        for spelling in _spellings(user, secret):
            assert spelling not in written
    assert "eyJ" not in written  # how a token of the server begins


def _spellings(user: str, secret: str) -> list[str]:
    pair = base64.b64encode(f"{user}:{secret}".encode()).decode()
    alone = base64.b64encode(secret.encode()).decode()
    escaped = json.dumps(secret)[1:-1]
    quoted = [quote(secret), quote(secret, safe=""), quote_plus(secret)]
    return [secret, escaped, *quoted, pair, pair.rstrip("="), alone]
