"""Tests of exit codes for usage errors and outcomes, without a registry."""

import json

import pytest
from click.testing import CliRunner

from syncer.cli.main import cli
from syncer.cli.once import EXITS
from syncer.events import RuleWarning, RunFinished
from syncer.observe.closing_line import ClosingLine
from syncer.observers import Observer
from tests.support.rules import numbered


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments):
        return CliRunner().invoke(cli, arguments, catch_exceptions=False)

    return invoke


def test_outcome_maps_to_exit_code():
    assert EXITS == {"success": 0, "partial": 1, "failure": 1, "interrupted": 3}


def test_nothing_to_do_is_success(run, tmp_path):
    (tmp_path / "images.json").write_text("{}")
    done = run("sync", "--images", "images.json")
    assert done.exit_code == 0
    assert done.stderr.splitlines()[-1].startswith("Synchronization finished, 0 tasks failed, cost ")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("sync",),
        ("plan",),
        ("check",),
        ("sync", "--images", "missing.json"),
        ("check", "--images", "missing.json"),
        ("sync", "--images", "images.json", "--config", "images.json"),
        ("sync", "--images", "images.json", "--proc", "0"),
        ("sync", "--images", "images.json", "--proc", "x"),
        ("sync", "--images", "images.json", "--retries", "-1"),
        ("sync", "--images", "images.json", "--log-level", "loud"),
        ("sync", "--images", "images.json", "--progress", "much"),
        ("sync", "--images", "images.json", "--output-images-format", "toml"),
        ("sync", "--images", "images.json", "--arch", "a/b/c"),
        ("sync", "--images", "images.json", "--log", "missing/log"),
        ("sync", "--images", "images.json", "further"),
        ("sink",),
    ],
)
def test_bad_usage_and_bad_files_exit_with_2(run, tmp_path, arguments):
    (tmp_path / "images.json").write_text("{}")
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert done.stderr.strip()


def test_each_problem_is_printed_on_its_own_line(run, tmp_path):
    (tmp_path / "images.json").write_text(json.dumps({"r.io/a": 5, "r.io/b": "", "r.io/c": []}))
    done = run("check", "--images", "images.json")
    *problems, last = done.stderr.splitlines()
    assert len(problems) >= 3
    assert all(line.startswith("error: images.json") for line in problems)
    assert last == f"{len(problems)} problems; nothing was contacted"


def test_check_prints_the_effective_rules(run, tmp_path):
    (tmp_path / "images.json").write_text(json.dumps({"r.io/a": ["s.io/a", "s.io/b"]}))
    done = run("check", "--images", "images.json")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == "1 rule: no problems found"
    assert len(done.stdout.splitlines()) == 3


def test_final_line_is_printed_after_all_files_are_written():
    heard: list[object] = []

    class Log(Observer):
        def notify(self, event):
            heard.append(event)

    closing = ClosingLine(Log())
    warning, end = RuleWarning(numbered(0), "x"), RunFinished("1", "cli", "success", 1.0)
    for event in (end, warning):
        closing.notify(event)
    assert heard == [warning]
    closing.tell()
    assert heard == [warning, end]
