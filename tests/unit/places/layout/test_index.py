"""`index.json`: which references it has, whatever tool wrote it."""

import json
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import parse_manifest
from syncer.oci.reference import Repository
from syncer.places.layout import index as index_module
from syncer.places.layout.index import (
    REF_NAME,
    InvalidIndex,
    index_entry,
    merge_index,
    parse_index,
    unnamed_repository,
)
from tests.support.generated import examples

DIGEST = Digest.of(b"x")
UNNAMED = Repository("localhost", "images")
MANIFEST = parse_manifest(
    json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "c", "digest": DIGEST, "size": 1},
            "layers": [],
        }
    ).encode()
)


def entry(name: object = None, **fields: object) -> dict[str, object]:
    annotations = {} if name is None else {REF_NAME: name}
    return {"mediaType": "m", "digest": DIGEST, "size": 3, "annotations": annotations, **fields}


def index_of(*entries: object) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": entries}).encode()


@pytest.mark.parametrize(
    ("listed", "repository", "target"),
    [
        (entry("quay.io/acme/app:1.0"), "quay.io/acme/app", "1.0"),
        (entry("quay.io/acme/app"), "quay.io/acme/app", "latest"),
        (entry(f"quay.io/acme/app@{DIGEST}"), "quay.io/acme/app", DIGEST),
        (entry("1.0"), "localhost/images", "1.0"),
        (entry("nginx:1.27"), "docker.io/library/nginx", "1.27"),
        (entry(), "localhost/images", "latest"),
        (
            entry(annotations={REF_NAME: "1.0", "io.containerd.image.name": "docker.io/library/nginx:1.0"}),
            "docker.io/library/nginx",
            "1.0",
        ),
    ],
)
def test_entry_names_a_reference(listed, repository, target):
    index = parse_index(index_of(listed), UNNAMED)
    [(found, targets)] = index.entries.items()
    assert str(found) == repository
    assert list(targets) == [target]
    found_target = targets[target]
    assert isinstance(found_target, Descriptor)
    assert found_target.digest == DIGEST
    assert not index.unreadable


@pytest.mark.parametrize(
    "listed",
    [
        entry("quay.io/a:1", digest="sha256:../../etc/passwd"),
        entry("quay.io/a:1", digest=7),
        entry("quay.io/a:1", size=-5),
        entry("quay.io/a:1", size="3"),
        entry("quay.io/a:1", size=2**60),
        entry(f"quay.io/a@{Digest.of(b'other')}"),
    ],
)
def test_invalid_entry_spoils_only_its_own_reference(listed):
    index = parse_index(index_of(listed, entry("quay.io/b:1")), UNNAMED)
    [spoiled] = index.entries[Repository("quay.io", "a")].values()
    assert isinstance(spoiled, str)
    assert isinstance(index.entries[Repository("quay.io", "b")]["1"], Descriptor)


@pytest.mark.parametrize("name", ["../../etc:1", "quay.io/Upper:1", "quay.io/a:" + "x" * 200, "a b", 7])
def test_entry_with_an_invalid_name_is_unreadable_and_others_are_read(name):
    index = parse_index(index_of(entry(name), entry("quay.io/b:1")), UNNAMED)
    assert len(index.unreadable) == 1
    assert list(index.entries) == [Repository("quay.io", "b")]


def test_one_reference_with_two_manifests_is_invalid():
    listed = [entry("quay.io/a:1"), entry("quay.io/a:1", digest=Digest.of(b"other"))]
    index = parse_index(index_of(*listed), UNNAMED)
    assert isinstance(index.entries[Repository("quay.io", "a")]["1"], str)


def test_several_entries_without_a_name_are_not_images():
    assert not parse_index(index_of(entry(), entry()), UNNAMED).entries


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=12,
)


@examples(100)
@given(st.lists(json_values | st.builds(entry, json_values), max_size=4))
def test_any_entries_are_read_or_reported(listed):
    try:
        index = parse_index(index_of(*listed), UNNAMED)
    except InvalidIndex:
        return
    assert sum(map(len, index.entries.values())) + len(index.unreadable) <= len(listed)


@examples(100)
@given(st.binary(max_size=60))
def test_any_bytes_are_an_index_or_refused(raw):
    with suppress(InvalidIndex):
        parse_index(raw, UNNAMED)


def test_deeply_nested_index_is_refused():
    with pytest.raises(InvalidIndex):
        parse_index(b'{"manifests":' + b"[" * 100_000, UNNAMED)


def test_millions_of_tiny_entries_are_refused_before_they_fill_the_memory():
    with pytest.raises(InvalidIndex, match="too many values"):
        parse_index(b'{"manifests":[' + b"0," * 2_000_000 + b"0]}", UNNAMED)


def test_too_many_entries_are_refused(monkeypatch):
    monkeypatch.setattr(index_module, "MAX_ENTRIES", 2)
    with pytest.raises(InvalidIndex, match="3 entries"):
        parse_index(index_of(entry(), entry(), entry()), UNNAMED)
    with pytest.raises(InvalidIndex, match="more than 2"):
        merge_index(index_of(entry(), entry()), {"quay.io/x:1": index_entry(MANIFEST, "quay.io/x:1")})


def test_merge_replaces_the_same_name_and_keeps_the_rest():
    other = {**entry("tag-of-another-tool"), "x-field": [1, {"y": None}]}
    before = json.dumps(
        {"schemaVersion": 2, "manifests": [entry("quay.io/a:1"), other], "annotations": {"k": "v"}}
    ).encode()
    after = msgspec.json.decode(merge_index(before, {"quay.io/a:1": index_entry(MANIFEST, "quay.io/a:1")}))
    assert after["annotations"] == {"k": "v"}
    assert after["manifests"][0] == other
    assert [each["digest"] for each in after["manifests"]] == [DIGEST, MANIFEST.digest]


@pytest.mark.parametrize(
    ("stem", "path"),
    [("images", "images"), ("My Images (2)", "my-images-2"), ("---", "layout"), ("", "layout")],
)
def test_images_without_a_full_name_are_named_after_the_archive(stem, path):
    assert unnamed_repository(stem) == Repository("localhost", path)
