"""Platform filters: filtered images can be pulled, and filtering is deterministic."""

import json
import subprocess
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.jobs import JobFiles, lines_with, methods, read_json
from tests.support.judge import judge, raw_manifest, whole
from tests.support.program import Program
from tests.support.registries import Registry, Request

INDEXES = {"oci-index", "docker-list"}


@dataclass
class Narrowed:
    """The small corpus at a destination, run with `--arch arm64` twice."""

    destination: Registry
    first: Any
    second: Any
    asked: list[Request]
    report: Any


@pytest.fixture(scope="module")
def filtered(source, scratch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("narrowed")
    destination = Registry(folder=scratch / "narrowed", storage=scratch / "narrowed/storage")
    destination.start()
    program = Program(folder)
    rules = source.corpus.rules(source.registry.host, destination.host)
    arguments = ["sync", *JobFiles(folder)(rules, source.registry, destination), "--arch", "arm64"]
    first = program.run(*arguments, "--report", "report.json")
    destination.clear_access_log()
    second = program.run(*arguments)
    asked = destination.access_log()
    yield Narrowed(destination, first, second, asked, read_json(folder / "report.json"))
    destination.close()


def test_filtered_index_is_pulled_by_skopeo_for_its_platform(source, filtered, tmp_path):
    assert filtered.first.returncode == 0, filtered.first.stderr
    for image in source.corpus.images:
        if image.kind not in INDEXES:
            continue
        folder = tmp_path / image.name.replace("/", "-")
        command = ["skopeo", "copy", "--override-arch", "arm64", "--override-variant", "v8"]
        command += [
            "--src-tls-verify=false",
            f"docker://{filtered.destination.host}/{image.name}",
            f"dir:{folder}",
        ]
        subprocess.run(command, check=True, capture_output=True)
        config = json.loads((folder / "manifest.json").read_text())["config"]["digest"]
        assert json.loads((folder / config.removeprefix("sha256:")).read_text())["architecture"] == "arm64"
    assert whole(filtered.destination) == 6


def test_kept_manifests_of_a_filtered_index_are_unchanged(source, filtered):
    for image in source.corpus.images:
        if image.kind in INDEXES:
            before = json.loads(raw_manifest(source.registry, image.name))
            after = json.loads(raw_manifest(filtered.destination, image.name))
            kept = [each for each in before["manifests"] if each["platform"]["architecture"] == "arm64"]
            assert after == before | {"manifests": kept}
            assert list(after) == list(before)


def test_report_lists_kept_and_omitted_platforms(source, filtered):
    digests = {f"{source.registry.host}/{image.name}": image.digest for image in source.corpus.images}
    synced = [image for image in filtered.report["images"] if image["outcome"] == "synced"]
    assert len(synced) == 6
    for image in synced:
        assert image["narrowed"] == {
            "kept": ["linux/arm64/v8"],
            "dropped": ["linux/amd64"],
            "source_digest": digests[image["source"]],
        }
        assert image["digest"] != digests[image["source"]]


def test_images_of_other_platforms_are_skipped_with_a_warning(filtered):
    skipped = [image for image in filtered.report["images"] if image["outcome"] == "skipped"]
    assert {image["reason"] for image in skipped} == {"no platform matches the filter"}
    assert len(skipped) == len(lines_with("warning", filtered.first.stderr)) == 6


def test_second_filtered_run_uploads_nothing(filtered):
    assert filtered.second.returncode == 0
    assert methods(filtered.asked) <= {"GET", "HEAD"}
    assert filtered.report["totals"]["images"] == {"synced": 6, "skipped": 6, "failed": 0}
    assert "0 synced, 12 skipped, 0 failed" in filtered.second.stderr


def test_platforms_of_the_rule_and_of_the_option_both_apply(source, registry, files, run_syncer):
    destination = registry()
    image = next(image for image in source.corpus.images if image.kind == "oci-index")
    rules = {
        f"{source.registry.host}/{image.name}": {
            "to": f"{destination.host}/app",
            "platforms": ["linux/amd64"],
        }
    }

    nothing = run_syncer("sync", *files(rules, source.registry, destination), "--arch", "arm64")
    something = run_syncer(
        "sync", *files(rules, source.registry, destination), "--arch", "amd64,arm64", "--os", "linux"
    )

    assert (nothing.returncode, something.returncode) == (0, 0)
    assert "no platform is left by the filter" in lines_with("warning", nothing.stderr)[0]
    (entry,) = json.loads(raw_manifest(destination, f"app:{image.tag}"))["manifests"]
    assert entry["platform"]["architecture"] == "amd64"


def test_run_without_the_filter_restores_the_whole_index(source, registry, files, run_syncer):
    destination = registry()
    image = next(image for image in source.corpus.images if image.kind == "docker-list")
    arguments = files(
        {f"{source.registry.host}/{image.name}": f"{destination.host}/app"}, source.registry, destination
    )

    first, second = run_syncer("sync", *arguments, "--arch", "arm64"), run_syncer("sync", *arguments)

    assert (first.returncode, second.returncode) == (0, 0)
    judge(source.registry, destination, [(image.name, f"app:{image.tag}")])
