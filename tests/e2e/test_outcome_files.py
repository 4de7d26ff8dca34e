"""What a run leaves in files: report, metrics, lists. Whole, in their places, and fit for their readers."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import syncer.observe
from tests.e2e.jobs import FEW, last_line, lines_with, read_json
from tests.support.judge import whole

SCHEMA = read_json(Path(syncer.observe.__file__).parent / "schemas/report.schema.json")


@pytest.fixture
def job(registry, files, fill):
    """The arguments of a job of three images, of a repository that is missing, and the two registries."""
    source, destination = registry(), registry()
    corpus = fill(source)
    rules = corpus.rules(source.host, destination.host)
    rules[f"{source.host}/no/such"] = f"{destination.host}/no/such"
    return files(rules, source, destination), source, destination


@pytest.mark.parametrize("command", ["sync", "plan"])
def test_the_report_is_what_its_schema_says(job, run_syncer, tmp_path, command):
    arguments, source, _ = job
    report = tmp_path / "report.json"

    done = run_syncer(command, *arguments, "--report", report)

    document = read_json(report)
    jsonschema.validate(document, SCHEMA, format_checker=jsonschema.FormatChecker())
    assert done.returncode == 1
    assert document["run"]["outcome"] == "partial"
    assert document["totals"]["images"] == {"synced": 3, "skipped": 0, "failed": 1}
    (failed,) = [image for image in document["images"] if image["outcome"] == "failed"]
    assert failed["source"] == f"{source.host}/no/such"
    assert failed["error"] | {"message": ""} == {
        "kind": "not_found",
        "message": "",
        "registry": source.host,
        "status": 404,
        "permanent": True,
    }


def test_the_report_counts_what_the_registries_saw(job, run_syncer, tmp_path):
    arguments, source, destination = job
    run_syncer("sync", *arguments, "--report", tmp_path / "report.json")
    totals = read_json(tmp_path / "report.json")["totals"]
    asked = source.access_log() + destination.access_log()
    assert totals["requests"] == len(asked)
    assert totals["blobs"]["copied"] == sum(
        (each.method, each.endpoint) == ("GET", "blob") for each in source.access_log()
    )
    assert totals["bytes"]["pulled"] == sum(
        each.bytes
        for each in source.access_log()
        if each.method == "GET" and each.endpoint in {"blob", "manifest"}
    )


def test_the_metrics_are_read_by_prometheus(job, run_syncer, tmp_path):
    arguments, source, destination = job
    run_syncer("sync", *arguments, "--metrics-file", tmp_path / "syncer.prom")

    text = (tmp_path / "syncer.prom").read_text()
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }

    ends = (("destination", destination.host), ("outcome", "synced"), ("source", source.host))
    assert samples["syncer_images_total", *ends] == 3
    assert samples["syncer_runs_total", ("outcome", "partial"), ("trigger", "cli")] == 1
    assert "_created" not in text
    assert "last_success" not in text  # it was none


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_the_lists_are_images_files(job, run_syncer, tmp_path, form):
    arguments, source, destination = job
    success, failed = tmp_path / f"success.{form}", tmp_path / f"failed.{form}"

    run_syncer(
        "sync",
        *arguments,
        *("--output-success-images", success, "--output-failed-images", failed),
        *("--output-images-format", form),
    )

    assert len(yaml.safe_load(success.read_text())) == FEW.images
    assert yaml.safe_load(failed.read_text()) == {f"{source.host}/no/such": f"{destination.host}/no/such"}
    again = run_syncer("sync", *arguments[:2], "--images", success)
    assert again.returncode == 0, again.stderr
    assert "0 synced, 3 skipped, 0 failed" in again.stderr
    if form == "json":
        assert len(json.loads(success.read_text())) == FEW.images


def test_an_empty_failed_list_is_an_images_file_too(job, run_syncer, tmp_path):
    arguments, source, destination = job
    good = {
        f"{source.host}/{name}": f"{destination.host}/a{number}"
        for number, name in enumerate(["corpus/app-00"])
    }
    (tmp_path / "good.json").write_text(json.dumps(good))

    first = run_syncer(
        "sync", *arguments[:2], "--images", "good.json", "--output-failed-images", "failed.yaml"
    )
    second = run_syncer("sync", *arguments[:2], "--images", "failed.yaml")

    assert (first.returncode, second.returncode) == (0, 0)


FILES = {
    "--report": "report.json",
    "--metrics-file": "syncer.prom",
    "--output-success-images": "success.yaml",
    "--output-failed-images": "failed.yaml",
}


def test_files_are_written_beside_and_renamed(job, run_syncer, tmp_path):
    arguments, _, _ = job
    folder = tmp_path / "outcome"
    folder.mkdir()
    for name in FILES.values():
        (folder / name).write_text("# old\n")
        (tmp_path / name).hardlink_to(folder / name)

    run_syncer(
        "sync", *arguments, *(part for option, name in FILES.items() for part in (option, folder / name))
    )

    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES.values())
    for name in FILES.values():
        assert (tmp_path / name).read_text() == "# old\n"
        assert "# old" not in (folder / name).read_text()


def test_files_that_cannot_be_written_are_errors_in_the_log_and_no_more(registry, files, fill, run_syncer):
    source, destination = registry(), registry()
    corpus = fill(source)
    options = [part for option in FILES for part in (option, "no/such/folder/file")]

    done = run_syncer(
        "sync", *files(corpus.rules(source.host, destination.host), source, destination), *options
    )

    assert done.returncode == 0
    assert whole(destination) == FEW.images
    errors = lines_with("error", done.stderr)
    assert len(errors) == len(FILES)
    assert all("cannot write" in line and "no/such/folder/file" in line for line in errors)
    assert last_line(done.stderr).startswith("Synchronization finished, 0 tasks failed")
