"""deploy/github/action.yml and its script, in the environment that a runner of GitHub Actions gives."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.support.command_line import parse

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "github"
ACTION = yaml.safe_load((FOLDER / "action.yml").read_text())
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("image_syncer_action", FOLDER / "run.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = load_script()


@dataclass(frozen=True)
class Step:
    """What a step has left: its exit code, what it wrote, and the files that the runner named."""

    code: int
    log: str
    outputs: dict[str, str]
    summary: str

    @property
    def errors(self) -> list[tuple[str, str]]:
        """Title and message of each annotation, read as the runner reads them."""
        return [
            (unescape(title, "%3A:", "%2C,"), unescape(message))
            for title, message in re.findall(r"^::error title=(.*?)::(.*)$", self.heard, re.MULTILINE)
        ]

    @property
    def heard(self) -> str:
        """The log without what stands between `stop-commands` and its token."""
        return re.sub(r"^::stop-commands::(\w+)\n.*^::\1::\n", "", self.log, flags=re.DOTALL | re.MULTILINE)


def unescape(text: str, *more: str) -> str:
    for pair in (*more, "%0A\n", "%0D\r", "%25%"):
        text = text.replace(pair[:3], pair[3:])
    return text


def read_outputs(text: str) -> dict[str, str]:
    found = re.findall(r"^(\w+)<<(\w+)\n(.*?)\n\2$", text, re.DOTALL | re.MULTILINE)
    return {name: value for name, _, value in found}


@dataclass(frozen=True)
class Runner:
    """A runner: `folder` is the workspace, its variables are those of GitHub's documentation."""

    folder: Path

    def environment(self, inputs: Mapping[str, str], secrets: Mapping[str, str]) -> dict[str, str]:
        """Variables of the step Copy. Inputs that are not given are empty, as the action's defaults are."""
        temporary = self.folder / "temp"
        temporary.mkdir(exist_ok=True)
        installed = temporary / "image-syncer"
        if not installed.exists():
            # In place of the step Install, which makes a virtual environment there.
            installed.symlink_to(Path(sys.executable).parent.parent)
        given = {
            name: inputs.get(value.removeprefix("${{ inputs.").removesuffix(" }}"), "")
            for name, value in STEPS["Copy"]["env"].items()
        }
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(FOLDER),
            "GITHUB_OUTPUT": str(temporary / "output"),
            "GITHUB_STEP_SUMMARY": str(temporary / "summary"),
            "GITHUB_WORKSPACE": str(self.folder),
            "RUNNER_TEMP": str(temporary),
            "RUNNER_OS": "Linux",
            **given,
            **secrets,
        }

    def start(self, inputs: Mapping[str, str], secrets: Mapping[str, str]) -> "subprocess.Popen[str]":
        script = self.folder / "temp.sh"
        script.write_text(STEPS["Copy"]["run"])
        # As the runner starts `shell: bash`.
        return subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
            cwd=self.folder,
            env=self.environment(inputs, secrets),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, process: "subprocess.Popen[str]") -> Step:
        log, _ = process.communicate(timeout=120)
        texts = [
            (self.folder / "temp" / name).read_text() if (self.folder / "temp" / name).exists() else ""
            for name in ("output", "summary")
        ]
        return Step(process.returncode, log, read_outputs(texts[0]), texts[1])

    def run(self, secrets: Mapping[str, str] | None = None, **inputs: str) -> Step:
        return self.finish(self.start(inputs, secrets or {}))


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


# --- action.yml ---------------------------------------------------------------------------------------------------


def test_it_fits_the_schema_of_actions():
    check = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [check, "--builtin-schema", "vendor.github-actions", FOLDER / "action.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_has_the_inputs_of_image_syncers_actions_and_all_reach_the_script():
    inputs = ACTION["inputs"]
    assert {"auth", "images", "proc", "retries", "arch", "os"} <= inputs.keys()
    assert {each["default"] for each in inputs.values()} == {""}
    environment = STEPS["Copy"]["env"]
    assert environment == {f"INPUT_{name.upper()}": f"${{{{ inputs.{name} }}}}" for name in inputs}
    text = (FOLDER / "run.py").read_text()
    for name in inputs:
        assert f'"{name}"' in text or f"INPUT_{name.upper()}" in text


def test_nothing_from_outside_becomes_part_of_a_script_and_actions_are_pinned():
    for step in STEPS.values():
        assert "${{" not in step.get("run", "")
        if "uses" in step:
            assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step["uses"])


def test_outputs_are_those_that_the_script_gives():
    for name, output in ACTION["outputs"].items():
        assert output["value"] == f"${{{{ steps.{STEPS['Copy']['id']}.outputs.{name} }}}}"


def test_the_program_is_installed_from_its_locks():
    script = STEPS["Install"]["run"]
    assert "--require-hashes" in script
    for name in re.findall(r'-r "\$source/(\S+)"', script):
        assert (ROOT / name).is_file()
    done = subprocess.run(["bash", "-n", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# --- arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "options"),
    [
        ({}, {"proc": 5, "retries": 2, "dry_run": False}),
        ({"auth": "a.yaml", "proc": "9", "retries": "0"}, {"auth": Path("a.yaml"), "proc": 9, "retries": 0}),
        ({"plan": "true"}, {"dry_run": True}),
        ({"plan": "false"}, {"dry_run": False}),
        ({"log": "run.log", "args": "--log-format json"}, {"log": Path("run.log"), "log_format": "json"}),
        ({"args": "--proc 7 --output-failed-images 'my list'"}, {"output_failed_images": Path("my list")}),
    ],
    ids=str,
)
def test_inputs_become_options_and_empty_ones_none(inputs, options, monkeypatch):
    for name, value in ({"images": "images.yaml"} | inputs).items():
        monkeypatch.setenv(f"INPUT_{name.upper()}", value)
    found = parse(SCRIPT.read_arguments("report.json")).options
    assert options.items() <= found.items()
    assert found["report"] == Path("report.json")


def test_lines_of_an_input_become_one_option_each(monkeypatch):
    monkeypatch.setenv("INPUT_IMAGES", "a.yaml\n\n  b.yaml\n")
    monkeypatch.setenv("INPUT_ARCH", "amd64,arm64")
    assert SCRIPT.read_arguments("r")[1:4] == ["--images=a.yaml", "--images=b.yaml", "--arch=amd64,arm64"]


# --- runs ---------------------------------------------------------------------------------------------------------


def test_a_run_copies_and_tells_its_result(runner, source, registry, tmp_path):
    target = registry(auth="htpasswd")
    name = source.corpus.repositories[0]
    entry = target.auth_entry
    password = entry["password"]
    auth = {source.registry.host: source.registry.auth_entry, target.host: entry | {"password": "$PASSWORD"}}
    (tmp_path / "auth.json").write_text(json.dumps(auth))
    rules = {
        f"{source.registry.host}/{name}": f"{target.host}/copy",
        f"{source.registry.host}/no:1": f"{target.host}/no",
    }
    (tmp_path / "images.json").write_text(json.dumps(rules))
    step = runner.run({"PASSWORD": password}, auth="auth.json", images="images.json", retries="0")
    assert step.code == 1, step.log
    assert step.outputs["outcome"] == "partial"
    assert int(step.outputs["synced"]) > 0
    assert step.outputs["failed"] == "1"
    report = json.loads(Path(step.outputs["report"]).read_text())
    assert report["totals"]["images"]["synced"] == int(step.outputs["synced"])
    assert step.summary.startswith("### image-syncer: partial\n")
    assert f"| {step.outputs['synced']} | 0 | 1 |" in step.summary
    ((title, message),) = step.errors
    assert title == f"{target.host}/no:1: not_found"
    assert message == next(each["error"]["message"] for each in report["images"] if "error" in each)
    assert "Synchronization finished, 1 tasks failed" in step.log
    assert password not in step.log + step.summary + str(step.outputs)


def test_a_run_without_failures_annotates_nothing_and_adds_to_the_summary(runner, source, registry, tmp_path):
    target = registry()
    (tmp_path / "auth.json").write_text(
        json.dumps({each.host: each.auth_entry for each in (source.registry, target)})
    )
    name = source.corpus.repositories[0]
    (tmp_path / "images.json").write_text(
        json.dumps({f"{source.registry.host}/{name}": f"{target.host}/copy"})
    )
    inputs = {"auth": "auth.json", "images": "images.json", "report": "own.json"}
    plan = runner.run(plan="true", **inputs)
    assert (plan.code, plan.errors) == (0, [])
    assert "nothing was changed" in plan.summary
    step = runner.run(**inputs)
    assert (step.code, step.errors) == (0, [])
    assert step.summary.startswith(plan.summary)
    assert step.summary.count("### image-syncer: success") == 2
    assert step.outputs["report"] == "own.json"
    assert (tmp_path / "own.json").is_file()


@pytest.mark.parametrize(
    "inputs", [{}, {"images": "missing.yaml"}, {"images": "images.json", "args": "--proc none"}]
)
def test_a_run_that_does_not_start_says_so(runner, tmp_path, inputs):
    (tmp_path / "images.json").write_text("{}")
    (tmp_path / "temp").mkdir()
    (tmp_path / "temp" / "image-syncer-report.json").write_text('{"run": "of an earlier step"}')
    step = runner.run(**inputs)
    assert step.code == 2
    ((_, message),) = step.errors
    assert "exit code 2" in message
    assert step.summary.startswith("### image-syncer: no result")
    assert step.outputs == {}


def test_arguments_are_not_printed_also_where_they_cannot_be_read(runner, tmp_path):
    (tmp_path / "images.json").write_text("{}")
    secret = "the-password-of-a-gateway"
    option = f"--metrics-push=http://me:{secret}@127.0.0.1:1"
    for args in (option, f"'{option}"):
        step = runner.run(images="images.json", args=args)
        assert secret not in step.log + step.summary
        assert step.code == (2 if args.count("'") else 0), step.log


def test_what_a_log_says_is_no_command_to_the_runner(runner, tmp_path):
    # A file's name is the user's own here; a registry's answer gets into the log in the same way.
    step = runner.run(
        images="x\u2028::set-output name=a::b.yaml", args="--log-level '\n::error::from a stranger\n'"
    )
    assert step.code == 2
    assert "from a stranger" in step.log
    assert "from a stranger" not in step.heard


def test_a_cancelled_run_ends_in_order(runner, source, registry, tmp_path):
    target = registry()
    entries = {each.host: each.auth_entry for each in (source.registry, target)}
    entries[source.registry.host] = entries[source.registry.host] | {"bandwidth": "100KiB"}
    (tmp_path / "auth.json").write_text(json.dumps(entries))
    rules = {f"{source.registry.host}/{name}": f"{target.host}/{name}" for name in source.corpus.repositories}
    (tmp_path / "images.json").write_text(json.dumps(rules))
    inputs = {"auth": "auth.json", "images": "images.json", "log": "run.log", "args": "--log-level=debug"}
    process = runner.start(inputs, {})
    end = time.monotonic() + 60
    log = tmp_path / "run.log"
    while not (log.exists() and "/blobs/" in log.read_text()):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    step = runner.finish(process)
    assert step.code == 3, step.log
    assert step.outputs["outcome"] == "interrupted"


# --- the texts ----------------------------------------------------------------------------------------------------


def image(number: int, message: str) -> dict[str, Any]:
    return {
        "source": f"a.example.com/app:{number}",
        "destination": f"b.example.com/app:{number}",
        "outcome": "failed",
        "error": {"kind": "invalid", "message": message},
    }


def report_of(failed: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "run": {"outcome": "failure"},
        "images": failed,
        "totals": {"images": {"synced": 0, "skipped": 0, "failed": len(failed)}, "bytes": {"pushed": 0}},
    }


HOSTILE = [
    "100% | of | it\r\n::error::x\n| new row |",
    "<script>alert(1)</script> <img src=x>",
    "`code` *bold* _it_ [link](https://x.example) ![i](y) @team #12 ~~no~~ www.x.example",
    "::set-output name=a::b",
    "\u2028zero\u200bwidth\x00",
]


@pytest.mark.parametrize("message", HOSTILE)
def test_a_message_stays_within_its_cell_and_its_annotation(message, capsys):
    failed = [image(1, message)]
    text = SCRIPT.summary_of(report_of(failed), failed)
    (row,) = [line for line in text.splitlines() if "b.example.com" in line]
    assert row.count("|") == 5
    cell = row.split("|")[4]
    assert not re.search(r"[<>`*_\[\]@~!()]|://|www\.", cell.replace("&#", "").replace(";", ""))
    SCRIPT.annotate_failed(failed)
    (line,) = (
        capsys.readouterr().out.splitlines()
        if "\u2028" not in message
        else [capsys.readouterr().out.rstrip("\n")]
    )
    title, _, data = line.removeprefix("::error title=").partition("::")
    assert unescape(title, "%3A:", "%2C,") == "b.example.com/app:1: invalid"
    assert unescape(data) == message


def test_many_failures_are_annotated_as_far_as_github_shows_them(capsys):
    for count, lines in ((10, 10), (11, 10), (5000, 10)):
        SCRIPT.annotate_failed([image(number, "gone") for number in range(count)])
        told = capsys.readouterr().out.splitlines()
        assert len(told) == lines
        assert (f"{count - 9} more images failed" in told[-1]) == (count > 10)


def test_a_summary_keeps_to_what_github_takes():
    failed = [image(number, "|" * 500) for number in range(2000)]
    text = SCRIPT.summary_of(report_of(failed), failed)
    assert len(text.encode()) < 1 << 20
    assert re.search(r"^\d+ more images failed: see the report\.$", text, re.MULTILINE)


def test_outputs_end_where_they_should(monkeypatch, tmp_path):
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    SCRIPT.give(report="a\noutcome=success\nEOF", failed=1)
    assert read_outputs((tmp_path / "output").read_text()) == {
        "report": "a\noutcome=success\nEOF",
        "failed": "1",
    }
