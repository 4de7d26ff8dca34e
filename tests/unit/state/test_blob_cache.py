"""What one run learns of the destinations, the next one uses; and a wrong memory does no harm."""

import pytest

from syncer.demo import MemoryRegistry
from syncer.demo.images import make_image, make_index, make_layer, noise
from syncer.oci.digest import Digest
from syncer.oci.reference import Repository
from syncer.state.blob_cache import SqliteBlobCache
from syncer.state.database import open_database
from tests.support.wire import Net, call_new_without_tags, kinds, refuse, same

LAYERS = [make_layer({f"file{number}": noise(f"layer {number}", 2000)}) for number in range(3)]
DAY = 86400


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


@pytest.fixture
async def source():
    async with MemoryRegistry() as registry:
        yield registry


@pytest.fixture
async def destination():
    async with MemoryRegistry() as registry:
        yield registry


async def sync(source, destination, folder, images, **options):
    database = open_database(folder)
    net = Net({"source": source, "destination": destination})
    try:
        return await net.sync(images, cache=SqliteBlobCache(database), **options)
    finally:
        database.close()


async def test_blobs_that_an_earlier_run_left_without_a_tag_are_not_sent_again(source, destination, folder):
    call_new_without_tags(destination)
    make_image(source.store, "one", "1", layers=LAYERS)
    refuse(destination, "PUT manifest", 403, times=1)
    assert (await sync(source, destination, folder, {"source/one": "destination/one"})).counts == (0, 0, 1)
    destination.requests.clear()
    outcome = await sync(source, destination, folder, {"source/one": "destination/one"})
    assert outcome.blobs == {"present": 4}
    assert kinds(destination) == {"GET tags": 1, "HEAD blob": 4, "PUT manifest": 1}


async def test_blobs_that_were_collected_since_an_earlier_run_are_sent_again(source, destination, folder):
    call_new_without_tags(destination)
    make_image(source.store, "one", "1", layers=LAYERS)
    refuse(destination, "PUT manifest", 403, times=1)
    await sync(source, destination, folder, {"source/one": "destination/one"})
    destination.store._repositories["one"].blobs.clear()
    outcome = await sync(source, destination, folder, {"source/one": "destination/one"})
    assert outcome.blobs == {"copied": 4}
    assert same(source.store, destination.store, "one")


async def test_blobs_of_an_earlier_run_are_mounted(source, destination, folder):
    make_image(source.store, "one", "1", layers=LAYERS)
    await sync(source, destination, folder, {"source/one": "destination/one"})
    make_image(source.store, "two", "1", layers=LAYERS)
    source.requests.clear()
    outcome = await sync(source, destination, folder, {"source/two": "destination/two"})
    assert outcome.blobs == {"mounted": 4}
    assert "GET blob" not in kinds(source)


async def test_without_a_memory_they_are_uploaded_again(source, destination, folder):
    make_image(source.store, "one", "1", layers=LAYERS)
    make_image(source.store, "two", "1", layers=LAYERS)
    net = Net({"source": source, "destination": destination})
    await net.sync({"source/one": "destination/one"})
    outcome = await net.sync({"source/two": "destination/two"})
    assert outcome.blobs == {"copied": 4}


async def test_wrong_fact_costs_one_request_and_is_removed(source, destination, folder):
    make_image(source.store, "one", "1", layers=LAYERS[:1])
    await sync(source, destination, folder, {"source/one": "destination/one"})
    for digest in list(destination.store.blobs("one")):
        destination.store.delete_blob("one", digest)
    make_image(source.store, "two", "1", layers=LAYERS[:1])
    destination.requests.clear()
    outcome = await sync(source, destination, folder, {"source/two": "destination/two"})
    assert outcome.counts == (1, 0, 0)
    assert outcome.blobs == {"copied": 2}
    assert kinds(destination) == {"GET tags": 1, "POST mount": 2, "PUT upload": 2, "PUT manifest": 1}
    assert same(source.store, destination.store, "two")
    database = open_database(folder)
    known = SqliteBlobCache(database)
    holders = {known.holders(destination.host, digest)[0].path for digest in destination.store.blobs("two")}
    database.close()
    assert holders == {"two"}


async def test_a_second_filtered_run_sends_only_heads(source, destination, folder):
    children = [
        make_image(source.store, "app", layers=LAYERS, platform=f"linux/{arch}")
        for arch in ("amd64", "arm64")
    ]
    make_index(source.store, "app", "1", children=children)
    rule = {"source/app:1": {"to": "destination/app", "platforms": ["linux/arm64"]}}
    await sync(source, destination, folder, rule)
    source.requests.clear()
    outcome = await sync(source, destination, folder, rule)
    assert outcome.counts == (0, 1, 0)
    assert kinds(source) == {"HEAD manifest": 1}


async def test_a_dry_run_is_not_remembered(source, destination, folder):
    make_image(source.store, "one", "1", layers=LAYERS)
    await sync(source, destination, folder, {"source/one": "destination/one"}, dry_run=True)
    database = open_database(folder)
    digest = next(iter(source.store.blobs("one")))
    assert SqliteBlobCache(database).holders(destination.host, digest) == []
    database.close()


def test_old_facts_are_removed(folder):
    digest = Digest.of(b"layer")
    place = Repository("there:5000", "app")
    now = 1_000_000_000.0
    database = open_database(folder)
    known = SqliteBlobCache(database, now=lambda: now)
    known.record(place, digest)
    known.flush()
    assert known.holders("there:5000", digest) == [place]
    later = SqliteBlobCache(database, now=lambda: now + 91 * DAY)
    assert later.holders("there:5000", digest) == []
    database.close()


def test_unwritable_database_does_not_stop_the_run(folder, caplog):
    database = open_database(folder)
    known = SqliteBlobCache(database)
    with database.transaction() as connection:
        connection.execute("DROP TABLE blobs")
    known.record(Repository("there:5000", "app"), Digest.of(b"layer"))
    known.flush()
    assert known.holders("there:5000", Digest.of(b"layer")) == []
    assert len(caplog.records) == 1
    database.close()
