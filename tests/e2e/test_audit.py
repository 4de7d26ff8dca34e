"""`syncer audit` against a docker-registry whose files are damaged."""

import json
import shutil

import pytest

from tests.e2e.jobs import methods, read_json
from tests.support.judge import judge, raw_manifest


@pytest.fixture
def mirrored(registry, fill, files, run_syncer):
    """A source, a destination that has all of its images, and the arguments that name both."""
    source, destination = registry(), registry()
    corpus = fill(source)
    rules = {f"{source.host}/{name}": f"{destination.host}/{name}" for name in corpus.repositories}
    arguments = files(rules, source, destination)
    assert run_syncer("sync", *arguments).returncode == 0
    destination.clear_access_log()
    source.clear_access_log()
    return source, destination, corpus, arguments


def _storage(registry):
    return registry.storage / "docker/registry/v2"


def _index(registry, corpus):
    """The name, repository and index of an image with several platforms."""
    for image in corpus.images:
        document = json.loads(raw_manifest(registry, image.name))
        if "manifests" in document:
            return image.name, image.name.rpartition(":")[0], document
    raise AssertionError("the corpus has no index")


def _layer(registry, repository, child):
    document = json.loads(raw_manifest(registry, f"{repository}@{child}"))
    return max(document["layers"], key=lambda layer: layer["size"])["digest"].partition(":")[2]


def _remove_blob(registry, corpus):
    name, repository, index = _index(registry, corpus)
    digest = _layer(registry, repository, index["manifests"][0]["digest"])
    shutil.rmtree(_storage(registry) / f"repositories/{repository}/_layers/sha256/{digest}")
    return name, f"the blob sha256:{digest} is missing"


def _remove_child(registry, corpus):
    name, repository, index = _index(registry, corpus)
    digest = index["manifests"][1]["digest"].partition(":")[2]
    shutil.rmtree(_storage(registry) / f"repositories/{repository}/_manifests/revisions/sha256/{digest}")
    return name, f"the child manifest sha256:{digest} is missing"


def _remove_tag(registry, corpus):
    name, repository, _ = _index(registry, corpus)
    tag = name.rpartition(":")[2]
    shutil.rmtree(_storage(registry) / f"repositories/{repository}/_manifests/tags/{tag}")
    return name, "the image is not there"


def _data(registry, corpus):
    _name, repository, index = _index(registry, corpus)
    digest = _layer(registry, repository, index["manifests"][0]["digest"])
    return _storage(registry) / f"blobs/sha256/{digest[:2]}/{digest}/data"


def test_complete_images_are_requested_with_head_and_nothing_is_written(mirrored, run_syncer, tmp_path):
    _source, destination, corpus, arguments = mirrored
    report = tmp_path / "report.json"

    done = run_syncer("audit", *arguments, "--report", report)

    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    requests = destination.access_log()
    assert methods(requests) <= {"GET", "HEAD"}
    blobs = [each for each in requests if each.endpoint == "blob"]
    assert {each.method for each in blobs} == {"HEAD"}
    assert len(blobs) == len({(each.repository, each.reference) for each in blobs})
    images = read_json(report)["images"]
    assert len(images) == len(corpus.images)
    assert {(image["outcome"], image["reason"]) for image in images} == {("skipped", "complete")}


@pytest.mark.parametrize(
    ("damage", "keys"),
    [(_remove_blob, {"immutable": ["*"]}), (_remove_child, {}), (_remove_tag, {"overwrite": False})],
)
def test_missing_content_is_found_and_repaired(mirrored, run_syncer, files, damage, keys):
    source, destination, corpus, _ = mirrored
    name, message = damage(destination, corpus)
    rules = {
        f"{source.host}/{name}": {"to": f"{destination.host}/{name}", **keys} for name in corpus.repositories
    }
    arguments = files(rules, source, destination)

    found = run_syncer("audit", *arguments)
    repaired = run_syncer("audit", *arguments, "--repair")
    again = run_syncer("audit", *arguments)

    assert found.returncode == 1
    assert f"{destination.host}/{name}: {message}" in found.stdout
    assert repaired.returncode == 0, repaired.stderr
    assert f"{destination.host}/{name}: repaired ({message})" in repaired.stdout
    assert (again.returncode, again.stdout) == (0, "")
    judge(source, destination, [(image.name, image.name) for image in corpus.images])


def test_truncated_blob_is_found_by_its_size(mirrored, run_syncer):
    _source, destination, corpus, arguments = mirrored
    data = _data(destination, corpus)
    data.write_bytes(data.read_bytes()[:-1])

    done = run_syncer("audit", *arguments)

    assert done.returncode == 1
    assert data.parent.name in done.stdout


def test_wrong_byte_is_found_by_a_deep_audit_only(mirrored, run_syncer, tmp_path):
    _source, destination, corpus, arguments = mirrored
    data = _data(destination, corpus)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    metrics = tmp_path / "metrics.prom"

    shallow = run_syncer("audit", *arguments)
    deep = run_syncer("audit", *arguments, "--deep", "--metrics-file", metrics)

    assert (shallow.returncode, shallow.stdout) == (0, "")
    assert deep.returncode == 1
    assert "different content than its digest" in deep.stdout
    assert data.parent.name in deep.stdout
    (line,) = [
        line for line in metrics.read_text().splitlines() if line.startswith("syncer_images_incomplete{")
    ]
    assert line.split() == [
        f'syncer_images_incomplete{{destination="{destination.host}"}}',
        f"{len(deep.stdout.splitlines())}.0",
    ]


def test_repair_reports_content_that_the_registry_keeps_wrong(mirrored, run_syncer):
    """docker-registry does not replace a blob that it has (registry/storage/blobwriter.go, moveBlob)."""
    _source, destination, corpus, arguments = mirrored
    data = _data(destination, corpus)
    content = bytearray(data.read_bytes())
    content[0] ^= 1
    data.write_bytes(content)

    done = run_syncer("audit", *arguments, "--deep", "--repair")

    assert done.returncode == 1
    assert "repaired" not in done.stdout
    assert data.parent.name in done.stdout


@pytest.fixture
def archived(registry, fill, files, run_syncer, tmp_path):
    """A layout that has all images of a registry, one of its indexes, and the arguments that name both."""
    source = registry()
    corpus = fill(source)
    layout = tmp_path / "layout"
    arguments = files({f"{source.host}/{name}": f"oci:{layout}" for name in corpus.repositories}, source)
    assert run_syncer("sync", *arguments).returncode == 0
    _name, repository, index = _index(source, corpus)
    child = index["manifests"][0]["digest"].partition(":")[2]
    return layout / "blobs/sha256", child, _layer(source, repository, f"sha256:{child}"), arguments


@pytest.mark.parametrize("damage", ["child removed", "blob removed", "truncated", "wrong byte"])
def test_damaged_file_of_a_layout_is_found_and_repaired(archived, run_syncer, damage):
    folder, child, layer, arguments = archived
    path = folder / (child if damage == "child removed" else layer)
    content = path.read_bytes()
    deep: list[str] = []
    if damage.endswith("removed"):
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[:-1])
    else:
        deep = ["--deep"]
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])

    found = run_syncer("audit", *arguments, *deep)
    repaired = run_syncer("audit", *arguments, *deep, "--repair")

    assert found.returncode == 1
    assert path.name in found.stdout
    assert (repaired.returncode, repaired.stdout.count("repaired (")) == (0, found.stdout.count("\n"))
    assert path.read_bytes() == content
