"""What one run learns of the destinations, the next one uses; and a wrong memory does no harm."""

import pytest

from syncer.demo import MemoryRegistry
from syncer.demo.images import make_image, make_index, make_layer, noise
from syncer.oci.digest import Digest
from syncer.oci.reference import Repository
from syncer.state.blob_cache import SqliteBlobCache
from syncer.state.database import open_database
from tests.support.wire import Net, kinds, same

LAYERS = [make_layer({f"file{number}": noise(f"layer {number}", 2000)}) for number in range(3)]
DAY = 86400


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


@pytest.fixture
async def here():
    async with MemoryRegistry() as registry:
        yield registry


@pytest.fixture
async def there():
    async with MemoryRegistry() as registry:
        yield registry


async def sync(here, there, folder, images, **options):
    database = open_database(folder)
    net = Net({"here": here, "there": there})
    try:
        return await net.sync(images, cache=SqliteBlobCache(database), **options)
    finally:
        database.close()


async def test_blobs_of_an_earlier_run_are_mounted(here, there, folder):
    make_image(here.store, "one", "1", layers=LAYERS)
    await sync(here, there, folder, {"here/one": "there/one"})
    make_image(here.store, "two", "1", layers=LAYERS)
    here.requests.clear()
    outcome = await sync(here, there, folder, {"here/two": "there/two"})
    assert outcome.blobs == {"mounted": 4}
    assert "GET blob" not in kinds(here)


async def test_without_a_memory_they_are_uploaded_again(here, there, folder):
    make_image(here.store, "one", "1", layers=LAYERS)
    make_image(here.store, "two", "1", layers=LAYERS)
    net = Net({"here": here, "there": there})
    await net.sync({"here/one": "there/one"})
    outcome = await net.sync({"here/two": "there/two"})
    assert outcome.blobs == {"copied": 4}


async def test_a_wrong_memory_costs_one_request_and_heals(here, there, folder):
    make_image(here.store, "one", "1", layers=LAYERS[:1])
    await sync(here, there, folder, {"here/one": "there/one"})
    for digest in list(there.store.blobs("one")):
        there.store.delete_blob("one", digest)
    make_image(here.store, "two", "1", layers=LAYERS[:1])
    there.requests.clear()
    outcome = await sync(here, there, folder, {"here/two": "there/two"})
    assert outcome.counts == (1, 0, 0)
    assert outcome.blobs == {"copied": 2}
    assert kinds(there) == {"GET tags": 1, "POST mount": 2, "PUT upload": 2, "PUT manifest": 1}
    assert same(here.store, there.store, "two")
    database = open_database(folder)
    known = SqliteBlobCache(database)
    holders = {known.holders(there.host, digest)[0].path for digest in there.store.blobs("two")}
    database.close()
    assert holders == {"two"}


async def test_a_second_filtered_run_sends_only_heads(here, there, folder):
    children = [
        make_image(here.store, "app", layers=LAYERS, platform=f"linux/{arch}") for arch in ("amd64", "arm64")
    ]
    make_index(here.store, "app", "1", children=children)
    rule = {"here/app:1": {"to": "there/app", "platforms": ["linux/arm64"]}}
    await sync(here, there, folder, rule)
    here.requests.clear()
    outcome = await sync(here, there, folder, rule)
    assert outcome.counts == (0, 1, 0)
    assert kinds(here) == {"HEAD manifest": 1}


async def test_a_dry_run_is_not_remembered(here, there, folder):
    make_image(here.store, "one", "1", layers=LAYERS)
    await sync(here, there, folder, {"here/one": "there/one"}, dry_run=True)
    database = open_database(folder)
    digest = next(iter(here.store.blobs("one")))
    assert SqliteBlobCache(database).holders(there.host, digest) == []
    database.close()


def test_what_was_not_seen_for_long_is_forgotten(folder):
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


def test_a_database_that_cannot_be_written_is_done_without(folder, caplog):
    database = open_database(folder)
    known = SqliteBlobCache(database)
    with database.transaction() as connection:
        connection.execute("DROP TABLE blobs")
    known.record(Repository("there:5000", "app"), Digest.of(b"layer"))
    known.flush()
    assert known.holders("there:5000", Digest.of(b"layer")) == []
    assert len(caplog.records) == 1
    database.close()
