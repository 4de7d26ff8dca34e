"""deploy/github/mirror.yml: a mirror that GitHub Actions keeps."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.command_line import parse

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "github" / "mirror.yml"
WORKFLOW = yaml.safe_load(FILE.read_text())
STEPS = {step["name"]: step for step in WORKFLOW["jobs"]["mirror"]["steps"]}


def test_it_fits_the_schema_of_workflows():
    check = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [check, "--builtin-schema", "vendor.github-workflows", FILE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_it_uses_is_pinned_by_commit_with_the_version_beside_it():
    used = re.findall(r"uses: (\S+)(.*)", FILE.read_text())
    assert len(used) == 4
    for action, comment in used:
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action)
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment)


def test_it_may_read_only_runs_alone_and_comes_to_an_end():
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert WORKFLOW["concurrency"] == {"group": "mirror", "cancel-in-progress": False}
    job = WORKFLOW["jobs"]["mirror"]
    assert job["environment"]
    assert 0 < job["timeout-minutes"] < 360
    for step in STEPS.values():
        if "checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False
        # What comes from outside never becomes part of a script.
        assert "${{" not in step.get("run", "")
        for value in step.get("env", {}).values():
            assert re.fullmatch(r"\$\{\{ (?:secrets|inputs)\.\w+ \}\}", value)


def test_the_program_is_installed_from_its_locks():
    for name in re.findall(r"-r (\S+)", STEPS["Install"]["run"]):
        assert (ROOT / name).is_file()
    assert "--require-hashes" in STEPS["Install"]["run"]


@pytest.mark.parametrize(("plan", "dry"), [("", False), ("false", False), ("true", True)])
def test_the_program_understands_how_it_is_called(plan, dry):
    for name in ("Check the files", "Copy"):
        program, *arguments = shlex.split(STEPS[name]["run"])
        assert program == "image-syncer"
        environment = {
            key: plan for key, value in STEPS[name]["env"].items() if value == "${{ inputs.plan }}"
        }
        command = parse(arguments, environment)
        assert (name == "Copy") == (command.command == "sync")
        if name == "Copy":
            assert command.options["dry_run"] is dry
            assert str(command.options["report"]) == STEPS["Keep the report"]["with"]["path"]


def summarise(folder, script):
    summary = folder / "summary.md"
    assert STEPS["Summarise"]["shell"] == "python"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env=os.environ | {"GITHUB_STEP_SUMMARY": str(summary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return summary.read_text()


def test_the_summary_says_what_became_of_the_images(run_syncer, tmp_path):
    (tmp_path / "images.json").write_text(json.dumps({"127.0.0.1:1/app:1": "127.0.0.1:1/copy"}))
    run_syncer("--images", "images.json", "--report", "report.json", "--retries", "0")
    text = summarise(tmp_path, STEPS["Summarise"]["run"])
    assert text.startswith("### failure\n")
    assert "| 0 | 0 | 1 | 0.0 MB |" in text
    assert re.search(r"```text\n127\.0\.0\.1:1/copy:1: .*127\.0\.0\.1:1.*\n```", text)


def test_the_summary_says_so_where_no_run_began(tmp_path):
    assert "did not begin" in summarise(tmp_path, STEPS["Summarise"]["run"])


def test_both_steps_that_tell_run_also_after_a_failure():
    assert [name for name, step in STEPS.items() if step.get("if") == "always()"] == [
        "Summarise",
        "Keep the report",
    ]
