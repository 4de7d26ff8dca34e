"""Registries that say wait, or are slow: nobody else is kept from working."""

from syncer.demo import Answer
from syncer.demo.images import make_image, make_layer, noise
from syncer.events import RequestSent
from syncer.http import limits

SMALL = [make_layer({"file": noise("small", 2000)})]


def throttling(times: int, retry_after: str = "3"):
    """A handler that answers the first requests for manifests with 429."""
    left = times

    async def handler(request):
        nonlocal left
        if "/manifests/" in request.path and left:
            left -= 1
            return Answer(429, {"retry-after": retry_after}, b"")
        return None

    return handler


async def test_retry_after_is_awaited_without_counting_a_failure(source, destination, net):
    make_image(source.store, "app", "1", layers=SMALL)
    source.before(throttling(2))
    outcome = await net.sync({"source/app": "destination/app"}, retries=0)
    assert outcome.counts == (1, 0, 0)


async def test_retry_after_does_not_delay_other_registries(source, destination, elsewhere, net):
    for number in range(40):
        make_image(source.store, "slow", str(number), layers=SMALL)
        make_image(elsewhere.store, "fast", str(number), layers=SMALL)
    source.before(throttling(1))
    outcome = await net.sync(
        {"source/slow": "destination/slow", "elsewhere/fast": "destination/fast"}, transfers=1
    )
    assert outcome.counts == (80, 0, 0)
    order = [synced.source.repository.path for synced in outcome.synced]
    assert order.index("slow") > order.index("fast")
    assert set(order[-39:]) == {"slow"}


async def test_a_destination_that_is_down_does_not_hold_up_another(source, destination, net, monkeypatch):
    monkeypatch.setattr(limits, "DOWN_SECONDS", 60.0)
    net.dead["dead"] = "127.0.0.1:1"
    for number in range(30):
        make_image(source.store, "app", str(number), layers=SMALL)
    outcome = await net.sync({"source/app": ["destination/app", "dead/app"]}, transfers=2, retries=0)
    assert len(outcome.synced) == 30
    assert {failed.failure.kind for failed in outcome.failed} == {"connection"}
    tried = [event for event in outcome.told.of(RequestSent) if event.registry == net.dead["dead"]]
    # Each of the thirty would have tried it four times over.
    assert len(tried) < 60
