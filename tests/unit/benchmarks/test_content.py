"""What is made for the cases, and the check of what arrived."""

import json
from dataclasses import replace
from hashlib import sha256

import pytest

from benchmarks.big_blobs import BigBlobs, write_big_blobs
from benchmarks.cases import CopyCase
from benchmarks.corpus import CorpusSpec, write_corpus
from benchmarks.many_tags import REPOSITORY, fill
from benchmarks.stage import Scratch, Stage, copy_storage
from syncer.demo import Store
from tests.support.judge import whole_storage
from tests.support.registries import Registry

FEW = CorpusSpec(
    images=3, repositories=2, bases=1, kinds=("oci-index", "docker"), smallest=100, largest=9_000, seed="few"
)


def test_big_blobs_have_their_digests_and_take_no_room(tmp_path):
    corpus = write_big_blobs(tmp_path, BigBlobs(2, 3_000_001))
    assert whole_storage(tmp_path) == 2
    large = [digest for digest, size in corpus.blobs.items() if size > 3_000_000]
    assert len(large) == 2
    for digest in large:
        hexadecimal = digest.removeprefix("sha256:")
        data = tmp_path / "docker/registry/v2/blobs/sha256" / hexadecimal[:2] / hexadecimal / "data"
        assert sha256(data.read_bytes()).hexdigest() == hexadecimal
        assert data.stat().st_size == corpus.blobs[digest]
        assert data.stat().st_blocks * 512 < 100_000


def test_two_registries_of_many_tags_are_alike():
    one, other = Store(), Store()
    for store in (one, other):
        fill(store, 30)
    tags = one.tags(REPOSITORY)
    assert tags == other.tags(REPOSITORY)
    digests = {one.digest(REPOSITORY, tag) for tag in tags}
    assert len(digests) == 30
    assert digests == {other.digest(REPOSITORY, tag) for tag in tags}


def test_a_changed_copy_of_a_storage_leaves_the_first_alone(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    before = write_corpus(first, FEW)
    copy_storage(first, second)
    after = write_corpus(second, replace(FEW, change=1.0))
    assert before.images != after.images
    assert stage_of(first, before, tmp_path).problem() == ""
    assert stage_of(second, after, tmp_path).problem() == ""


def test_content_is_made_once(tmp_path):
    room = Scratch(tmp_path)
    made = room.storage_of(FEW)
    assert room.storage_of(FEW) == made
    changed = room.storage_of(replace(FEW, change=0.5))
    assert changed[0] != made[0]
    assert whole_storage(changed[0]) == 3


def test_a_tag_that_names_something_else_is_a_problem(tmp_path):
    corpus = write_corpus(tmp_path / "storage", FEW)
    other = replace(corpus, images=(replace(corpus.images[0], digest="sha256:0"), *corpus.images[1:]))
    assert "wrong copy" in stage_of(tmp_path / "storage", other, tmp_path).problem()


def test_a_missing_tag_and_a_missing_blob_are_problems(tmp_path):
    storage = tmp_path / "storage"
    corpus = write_corpus(storage, FEW)
    checked = stage_of(storage, corpus, tmp_path)
    assert not checked.problem()
    config = json.loads(_data(storage, corpus.images[-1].digest).read_bytes())["config"]["digest"]
    _data(storage, config).unlink()
    assert "missing" in checked.problem()
    absent = replace(corpus, images=(replace(corpus.images[0], tag="absent"),))
    assert "nothing" in stage_of(storage, absent, tmp_path).problem()


@pytest.fixture(autouse=True)
def _no_port(monkeypatch):
    """Nothing here starts a registry."""
    monkeypatch.setattr(Registry, "start", None)


def stage_of(storage, corpus, folder) -> Stage:
    source = Registry(folder / "source", folder / "source/storage")
    destination = Registry(folder / "destination", storage)
    return Stage(folder, corpus, source, destination, None, CopyCase("copy", "Copy"))


def _data(storage, digest):
    hexadecimal = digest.removeprefix("sha256:")
    return storage / "docker/registry/v2/blobs/sha256" / hexadecimal[:2] / hexadecimal / "data"
