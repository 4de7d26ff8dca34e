"""Random faults of all kinds with fixed seeds: images are copied without corruption."""

import json

import anyio
import pytest

from benchmarks.corpus import FOR_TESTS, write_corpus
from tests.support.faults import Chaos, Faults
from tests.support.judge import judge, whole
from tests.support.wire import Net


@pytest.mark.parametrize(("seed", "rate"), [(1, 0.02), (2, 0.05), (3, 0.1)])
async def test_random_faults_do_not_corrupt_images(registry, tmp_path, seed, rate):
    corpus = write_corpus(tmp_path / "corpus", FOR_TESTS)
    source, destination = registry(storage=tmp_path / "corpus"), registry()
    async with Faults(source.host) as here, Faults(destination.host) as there:
        here.chaos, there.chaos = Chaos(seed, rate, stall=0.1), Chaos(seed + 100, rate, stall=0.1)
        net = Net({"here": here, "there": there})  # type: ignore[dict-item]
        outcome = await net.sync(corpus.rules("here", "there"), transfers=3, retries=3)
        assert outcome.result.outcome == "success", [each.failure for each in outcome.failed]
        assert here.chaos.happened + there.chaos.happened
    names = [(image.name, image.name) for image in corpus.images]
    await anyio.to_thread.run_sync(judge, source, destination, names)
    assert await anyio.to_thread.run_sync(whole, destination) == len(corpus.images)


async def test_stalling_connection_does_not_lose_images(full_source, registry, run_syncer, tmp_path):
    destination = registry()
    async with Faults(full_source.registry.host) as here, Faults(destination.host) as there:
        here.chaos, there.chaos = Chaos(7, 0.02, stall=5), Chaos(107, 0.02, stall=5)
        auth, images = tmp_path / "auth.json", tmp_path / "images.json"
        auth.write_text(json.dumps({faults.host: {"plain_http": True} for faults in (here, there)}))
        images.write_text(json.dumps(full_source.corpus.rules(here.host, there.host)))
        options = ("--proc", "6", "--retries", "3", "--auth", auth, "--images", images)
        done = await anyio.to_thread.run_sync(lambda: run_syncer(*options, timeout=300))
        assert (here.chaos.happened + there.chaos.happened).total() > 10
    assert done.returncode == 0, done.stderr
    names = [(image.name, image.name) for image in full_source.corpus.images]
    await anyio.to_thread.run_sync(judge, full_source.registry, destination, names)
    assert await anyio.to_thread.run_sync(whole, destination) == len(names)
