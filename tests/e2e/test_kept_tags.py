"""`immutable` and `overwrite: false` against docker-registry: the requests, the report and the exit code."""

import re
from functools import partial

import pytest

from syncer.oci.digest import Digest
from tests.e2e.jobs import read_json
from tests.unit.cli.test_imports import OF_SOME_RUNS, SLOW

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def push_image(registry, repository, tag, config):
    """Push an image without layers and return its digest."""
    with registry.client() as client:
        started = client.post(f"/v2/{repository}/blobs/uploads/").raise_for_status()
        location = f"{started.headers['location']}&digest={Digest.of(config)}"
        client.put(location, content=config).raise_for_status()
        document = (
            f'{{"schemaVersion": 2, "mediaType": "{MANIFEST}", "config": {{"mediaType": '
            f'"application/vnd.oci.image.config.v1+json", "digest": "{Digest.of(config)}", "size": {len(config)}}}, '
            '"layers": []}'
        ).encode()
        client.put(
            f"/v2/{repository}/manifests/{tag}", content=document, headers={"Content-Type": MANIFEST}
        ).raise_for_status()
        return str(Digest.of(document))


@pytest.fixture
def push(shared_registry):
    """`push(repository, tag, config)` pushes an image without layers and returns its digest."""
    return partial(push_image, shared_registry)


def tag_many(registry, repository, digest, count):
    """Tag a manifest in the registry's storage, as docker-registry does: a file for each tag."""
    tags = registry.storage / "docker/registry/v2/repositories" / repository / "_manifests/tags"
    for number in range(count):
        folder = tags / f"v{number}" / "current"
        folder.mkdir(parents=True)
        (folder / "link").write_text(digest)


def test_2000_immutable_tags_take_two_requests(shared_registry, repository_name, push, files, run_syncer):
    source, destination = f"{repository_name}/source", f"{repository_name}/destination"
    for number, repository in enumerate((source, destination)):
        tag_many(shared_registry, repository, push(repository, "v2000", b"%d" % number), 2000)
    host = shared_registry.host
    rule = {f"{host}/{source}": {"to": f"{host}/{destination}", "immutable": ["v*"]}}
    shared_registry.clear_access_log()

    report = files.folder / "report.json"
    done = run_syncer("sync", *files(rule, shared_registry), "--report", report)

    assert done.returncode == 0, done.stderr
    totals = read_json(report)["totals"]
    assert totals["images"] == {"synced": 0, "skipped": 2001, "failed": 0}
    assert totals["requests"] == 2
    requests = shared_registry.access_log()
    assert sorted((each.method, each.endpoint, each.repository) for each in requests) == [
        ("GET", "tags", destination),
        ("GET", "tags", source),
    ]


def test_blobs_of_an_interrupted_run_without_a_tag_are_not_sent_again(
    shared_registry, repository_name, push, files, run_syncer
):
    source, destination = f"{repository_name}/source", f"{repository_name}/destination"
    push(source, "1", b"config of the image")
    digest = Digest.of(b"config of the image")
    with shared_registry.client() as client:
        started = client.post(f"/v2/{destination}/blobs/uploads/").raise_for_status()
        client.put(f"{started.headers['location']}&digest={digest}", content=b"config of the image")
    host = shared_registry.host
    # As another registry, since a blob of the same registry is mounted.
    other = host.replace("127.0.0.1", "localhost")
    shared_registry.clear_access_log()

    rule, auth = {f"{other}/{source}": f"{host}/{destination}"}, {other: {"plain_http": True}}
    done = run_syncer("sync", *files(rule, shared_registry, auth=auth))

    assert done.returncode == 0, done.stderr
    assert "1 synced" in done.stderr
    assert "1 present" in done.stderr
    uploads = [each.method for each in shared_registry.access_log() if each.endpoint == "upload"]
    assert uploads == ["POST"]


def test_run_with_nothing_to_do_imports_only_what_every_run_needs(
    shared_registry, repository_name, push, files, run_syncer
):
    source, destination = f"{repository_name}/source", f"{repository_name}/destination"
    for repository in (source, destination):
        push(repository, "1", b"same")
    host = shared_registry.host
    rule = {f"{host}/{source}": f"{host}/{destination}"}

    done = run_syncer("sync", *files(rule, shared_registry), env={"PYTHONPROFILEIMPORTTIME": "1"})

    assert "4 requests, 0 retries" in done.stderr
    imported = set(re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE))
    assert "syncer.run" in imported
    assert imported & set((SLOW + OF_SOME_RUNS).split()) == set()


def test_drift_is_reported_and_fails_the_run_if_asked(
    shared_registry, repository_name, push, files, run_syncer
):
    source, destination = f"{repository_name}/source", f"{repository_name}/destination"
    new, old = push(source, "1", b"new"), push(destination, "1", b"old")
    push(source, "2", b"missing")
    host = shared_registry.host
    arguments = files({f"{host}/{source}": f"{host}/{destination}"}, shared_registry)
    report, metrics = files.folder / "report.json", files.folder / "metrics.prom"

    options = ["--no-clobber", "--report", report, "--metrics-file", metrics]
    kept = run_syncer("sync", *arguments, *options)
    failed = run_syncer("sync", *arguments, *options, "--fail-on-drift")

    assert (kept.returncode, failed.returncode) == (0, 1)
    assert "1 image not overwritten" in failed.stderr
    assert "Synchronization finished, 0 tasks failed" in failed.stderr.splitlines()[-1]
    document = read_json(report)
    assert document["run"]["outcome"] == "success"
    assert document["totals"]["images"] == {"synced": 0, "skipped": 2, "failed": 0, "drifted": 1}
    (drifted,) = [image for image in document["images"] if image.get("drift")]
    assert drifted["digest"] == old
    assert new in drifted["reason"]
    assert f'syncer_images_drifted{{destination="{host}"}} 1.0' in metrics.read_text()
    overwritten = run_syncer("sync", *arguments, "--fail-on-drift")
    assert overwritten.returncode == 0
