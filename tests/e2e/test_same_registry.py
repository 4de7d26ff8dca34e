"""Source and destination at the same docker-registry: blobs are mounted instead of uploaded."""

import json

from syncer.oci.digest import Digest
from tests.e2e.jobs import gets, methods, read_json
from tests.support.judge import judge
from tests.support.registries import Registry

INDEX = "application/vnd.oci.image.index.v1+json"


def _copies(registry, corpus):
    rules = {f"{registry.host}/{name}": f"{registry.host}/copies/{name}" for name in corpus.repositories}
    pairs = [(image.name, f"copies/{image.name}") for image in corpus.images]
    return rules, pairs


def test_blobs_are_mounted_within_a_registry(registry, fill, files, run_syncer, tmp_path):
    target = registry()
    corpus = fill(target)
    rules, pairs = _copies(target, corpus)
    target.clear_access_log()

    report = tmp_path / "report.json"
    done = run_syncer("sync", *files(rules, target), "--report", report)

    assert done.returncode == 0, done.stderr
    requests = target.access_log()
    totals = read_json(report)["totals"]
    assert not gets(requests, "blob")
    assert "PUT" not in {each.method for each in requests if each.endpoint == "upload"}
    uploads = [each for each in requests if each.endpoint == "upload"]
    assert {each.status for each in uploads} == {201}
    assert len(uploads) == totals["blobs"]["mounted"]
    assert (totals["blobs"]["copied"], totals["blobs"]["present"]) == (0, 0)
    judge(target, target, pairs)


def test_a_second_run_within_a_registry_changes_nothing(registry, fill, files, run_syncer):
    target = registry()
    rules, _pairs = _copies(target, fill(target))
    arguments = files(rules, target)
    run_syncer("sync", *arguments)
    target.clear_access_log()

    done = run_syncer("sync", *arguments)

    assert done.returncode == 0, done.stderr
    assert methods(target.access_log()) <= {"GET", "HEAD"}


def _push_cache(registry: Registry, repository: str) -> Digest:
    """An index of blobs, as BuildKit exports its cache."""
    blobs = [b"layer one", b"layer two", b'{"layers": []}']
    types = ["application/vnd.oci.image.layer.v1.tar+gzip"] * 2 + ["application/vnd.buildkit.cacheconfig.v0"]
    with registry.client() as client:
        for blob in blobs:
            started = client.post(f"/v2/{repository}/blobs/uploads/").raise_for_status()
            location = f"{started.headers['location']}&digest={Digest.of(blob)}"
            client.put(location, content=blob).raise_for_status()
        entries = [
            {"mediaType": type_, "digest": Digest.of(blob), "size": len(blob)}
            for type_, blob in zip(types, blobs, strict=True)
        ]
        raw = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
        headers = {"Content-Type": INDEX}
        client.put(f"/v2/{repository}/manifests/1", content=raw, headers=headers).raise_for_status()
    return Digest.of(raw)


def test_buildkit_cache_is_copied(registry, files, run_syncer):
    source, destination = registry(), registry()
    digest = _push_cache(source, "cache")

    done = run_syncer(
        "sync", *files({f"{source.host}/cache": f"{destination.host}/cache"}, source, destination)
    )

    assert done.returncode == 0, done.stderr
    with destination.client() as client:
        found = client.head("/v2/cache/manifests/1", headers={"Accept": INDEX}).raise_for_status()
        assert found.headers["docker-content-digest"] == digest
        assert client.get(f"/v2/cache/blobs/{Digest.of(b'layer two')}").content == b"layer two"
