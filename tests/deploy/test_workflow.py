"""deploy/github/mirror.yml: a mirror that GitHub Actions keeps."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "github" / "mirror.yml"
WORKFLOW = yaml.safe_load(FILE.read_text())
ACTION = "./.image-syncer/deploy/github"
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
        if action == ACTION:
            continue
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
        assert "run" not in step
        for value in step.get("env", {}).values():
            assert re.fullmatch(r"\$\{\{ secrets\.\w+ \}\}", value)


def test_it_runs_the_action_of_the_program_that_it_has_checked_out():
    folder = STEPS["Check out the program"]["with"]["path"]
    step = STEPS["Copy"]
    assert step["uses"] == ACTION == f"./{folder}/deploy/github"
    inputs = yaml.safe_load((FILE.parent / "action.yml").read_text())["inputs"]
    assert step["with"].keys() <= inputs.keys()
    assert step["with"]["plan"] == "${{ inputs.plan }}"


def test_the_report_is_kept_also_after_a_failure():
    step = STEPS["Keep the report"]
    output = f"steps.{STEPS['Copy']['id']}.outputs.report"
    assert step["if"] == f"always() && {output}"
    assert step["with"]["path"] == f"${{{{ {output} }}}}"
    outputs = yaml.safe_load((FILE.parent / "action.yml").read_text())["outputs"]
    assert output.rpartition(".")[2] in outputs
