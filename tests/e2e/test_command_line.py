"""Tests of the command line: commands, all file formats, and environment variables."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import syncer
from tests.e2e.jobs import last_line, names
from tests.support.judge import judge, whole

SCRIPTS = Path(sys.executable).parent


@pytest.fixture
def pair(registry, fill):
    """A source with a few images, a destination, and the rules between them."""
    source, destination = registry(), registry()
    corpus = fill(source)
    return source, destination, corpus, corpus.rules(source.host, destination.host)


def test_image_syncers_own_command_works_unchanged(pair, files, tmp_path):
    source, destination, corpus, rules = pair
    files(rules, source, destination)
    options = ["--proc", "6", "--retries", "3", "--auth", "./auth-1.json", "--images", "./images-1.json"]

    done = subprocess.run(
        [SCRIPTS / "image-syncer", *options],
        cwd=tmp_path,
        env={"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert last_line(done.stderr).startswith("Synchronization finished, 0 tasks failed, cost ")
    judge(source, destination, names(corpus))


@pytest.mark.parametrize("name", ["syncer", "image-syncer"])
def test_both_scripts_run_the_program(name):
    told = subprocess.run([SCRIPTS / name, "--version"], capture_output=True, text=True, check=True).stdout
    assert told == f"image-syncer {syncer.__version__}\n"


@pytest.mark.parametrize("command", [["sync"], []], ids=["named", "meant"])
def test_missing_command_runs_sync(pair, files, run_syncer, command):
    source, destination, corpus, rules = pair

    done = run_syncer(*command, *files(rules, source, destination))

    assert done.returncode == 0, done.stderr
    assert whole(destination) == len(corpus.images)


def test_the_old_combined_file_works(pair, run_syncer, tmp_path):
    source, destination, corpus, rules = pair
    combined = {"auth": {each.host: each.auth_entry for each in (source, destination)}, "images": rules}
    (tmp_path / "config.json").write_text(json.dumps(combined))

    done = run_syncer("--config", "config.json", "--proc", "6")

    assert done.returncode == 0, done.stderr
    assert whole(destination) == len(corpus.images)


def test_both_files_may_be_yaml(pair, run_syncer, tmp_path):
    source, destination, corpus, rules = pair
    auth = {each.host: each.auth_entry for each in (source, destination)}
    (tmp_path / "auth.yaml").write_text(yaml.safe_dump(auth))
    (tmp_path / "images.yml").write_text(yaml.safe_dump(rules))

    done = run_syncer("sync", "--auth", "auth.yaml", "--images", "images.yml")

    assert done.returncode == 0, done.stderr
    assert whole(destination) == len(corpus.images)


def test_everything_can_come_from_the_environment(pair, files, run_syncer, tmp_path):
    source, destination, corpus, rules = pair
    _, auth, _, images = files(rules, source, destination)
    env = {
        "SYNCER_AUTH": auth,
        "SYNCER_IMAGES": images,
        "SYNCER_PROC": "6",
        "SYNCER_RETRIES": "",
        "SYNCER_LOG": "run.log",
        "SYNCER_REPORT": "report.json",
        "SYNCER_ARCH": "amd64;arm64",
    }

    done = run_syncer(env=env)

    assert done.returncode == 0, done.stderr
    assert whole(destination) == len(corpus.images)
    assert (tmp_path / "report.json").exists()
    assert "finished, 0 tasks failed" in (tmp_path / "run.log").read_text()


def test_a_flag_wins_over_the_environment(pair, files, run_syncer):
    source, destination, _, rules = pair
    arguments = files(rules, source, destination)
    env = {"SYNCER_PROC": "many", "SYNCER_IMAGES": "no-such.json"}

    refused = run_syncer("sync", *arguments, env=env)
    done = run_syncer("sync", *arguments, "--proc", "2", env=env)

    assert refused.returncode == 2
    assert "SYNCER_PROC" in refused.stderr or "--proc" in refused.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("how", ["plan", "--dry-run", "SYNCER_DRY_RUN"])
def test_plan_has_three_spellings(pair, files, run_syncer, how):
    source, destination, corpus, rules = pair
    arguments = files(rules, source, destination)

    match how:
        case "plan":
            done = run_syncer("plan", *arguments)
        case "--dry-run":
            done = run_syncer(*arguments, "--dry-run")
        case _:
            done = run_syncer(*arguments, env={"SYNCER_DRY_RUN": "true"})

    assert done.returncode == 0, done.stderr
    assert f"{len(corpus.images)} images: {len(corpus.images)} to copy" in done.stdout
    assert whole(destination) == 0


def test_empty_images_file_has_nothing_to_do(run_syncer, tmp_path):
    (tmp_path / "images.json").write_text("{}")
    done = run_syncer("--images", "images.json")
    assert done.returncode == 0, done.stderr


def test_tags_patterns_digests_and_renames_reach_their_destinations(pair, files, run_syncer):
    source, destination, corpus, _ = pair
    image = corpus.images[0]
    digest = image.digest
    here, there = f"{source.host}/{image.repository}", destination.host
    rules = {
        f"{here}:1.0,1.1": f"{there}/named:first,second",
        f"{here}:/^1\\.1$/": f"{there}/matched",
        f"{here}@{digest}": f"{there}/by-digest",
        f"{here}:kept@{digest}": f"{there}/tagged",
    }

    done = run_syncer("sync", *files(rules, source, destination))

    assert done.returncode == 0, done.stderr
    judge(
        source,
        destination,
        [
            (f"{image.repository}:1.0", "named:first"),
            (f"{image.repository}:1.1", "named:second"),
            (f"{image.repository}:1.1", "matched:1.1"),
            (image.name, f"by-digest@{digest}"),
            (image.name, "tagged:kept"),
        ],
    )
    assert whole(destination) == 4
