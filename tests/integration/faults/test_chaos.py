"""All kinds of faults by chance, and everything arrives whole. The same chances each time."""

import anyio
import pytest

from benchmarks.corpus import FOR_TESTS, write_corpus
from tests.support.faults import Chaos, Faults
from tests.support.judge import judge, whole
from tests.support.wire import Net


@pytest.mark.parametrize(("seed", "rate"), [(1, 0.02), (2, 0.05), (3, 0.1)])
async def test_a_corpus_arrives_whole_over_a_bad_line(registry, tmp_path, seed, rate):
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
