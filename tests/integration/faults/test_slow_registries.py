"""Slow and malicious registries: requests time out, and other registries are not affected."""

import anyio
import pytest

from syncer.demo import DropConnection, MemoryRegistry
from syncer.demo.images import make_image, make_layer, noise
from syncer.events import ImageSynced
from syncer.http import connection, exchange, limits, pace, wire
from tests.support.hostile import HostileRegistry
from tests.support.wire import same

LAYER = make_layer({"file": noise("slow", 3000)})
ONE = {"here/app:1": "there/app"}


@pytest.fixture(autouse=True)
def image(source):
    return make_image(source.store, "app", "1", layers=[LAYER])


# --- the first byte --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["manifests", "blobs"])
async def test_blobs_and_manifests_have_a_longer_read_timeout(here, net, monkeypatch, what):
    monkeypatch.setattr(wire, "READ_SECONDS", 0.2)
    here.on("*", f"/v2/app/{what}/*", stall=0.6, times=1)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert here.count("GET", f"/v2/app/{what}/*") == (1 if what == "manifests" else 2)


@pytest.mark.parametrize("what", ["manifests", "blobs"])
async def test_read_timeout_of_the_account_is_used(here, net, what):
    net.settings["here"] = {"read_timeout": "200ms"}
    here.on("*", f"/v2/app/{what}/*", stall=60)
    outcome = await net.sync(ONE, retries=0)
    (failed,) = outcome.failed
    assert failed.failure.kind == "timeout"
    assert not failed.failure.permanent


async def test_tag_list_has_the_short_read_timeout(here, net, monkeypatch):
    monkeypatch.setattr(wire, "READ_SECONDS", 0.2)
    here.on("GET", "*/tags/list", stall=60)
    (failed,) = (await net.sync({"here/app": "there/app"}, retries=0)).failed
    assert failed.failure.kind == "timeout"


def obey_late(registry: MemoryRegistry, over: anyio.Event, method: str, pattern: str) -> list[str]:
    """Process the first matching request but never respond to it. Return the list of matching requests."""
    asked: list[str] = []

    @registry.before
    async def answer(request):
        if request.method != method or pattern not in request.path:
            return
        asked.append(request.path)
        if len(asked) == 1:
            await registry._endpoints.answer(request)
            await over.wait()
            raise DropConnection

    return asked


@pytest.fixture
async def over():
    event = anyio.Event()
    yield event
    event.set()


@pytest.mark.parametrize(("pattern", "sent"), [("/manifests/1", 1), ("/blobs/uploads/", 2)])
async def test_timed_out_put_is_checked_before_retry(  # noqa: PLR0917
    source, target, net, over, pattern, sent
):
    net.settings["there"] = {"read_timeout": "300ms"}
    asked = obey_late(target, over, "PUT", pattern)
    outcome = await net.sync(ONE, retries=0)
    over.set()
    assert outcome.counts == (1, 0, 0)
    assert same(source.store, target.store, "app")
    # Two blobs (layer and config), or one tag.
    assert len(asked) == sent


# --- malicious registries ----------------------------------------------------------------------------------------------------

GOOD = 5


@pytest.fixture
def hurried(monkeypatch):
    """Reduce the timeouts to a hundredth."""
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(pace, "RATE_SECONDS", 0.3)
    monkeypatch.setattr(exchange, "BODY_SECONDS", 0.6)
    monkeypatch.setattr(limits, "DOWN_SECONDS", 1.0)


@pytest.mark.parametrize(
    "on",
    [
        {"tags": "drip"},
        {"tags": "flood"},
        {"manifests": "drip"},
        {"manifests": "drip_head"},
        {"manifests": "silent"},
        {"manifests": "flood"},
        {"manifests": "redirect"},
        {"manifests": "lie"},
        {"blobs": "drip"},
        {"blobs": "drip_head"},
        {"blobs": "silent"},
        {"blobs": "flood"},
        {"blobs": "redirect"},
        {"blobs": "lie"},
    ],
    ids=lambda on: " ".join(*on.items()),
)
@pytest.mark.usefixtures("hurried")
async def test_malicious_registry_does_not_block_other_rules(source, net, on):
    for number in range(GOOD):
        make_image(source.store, "good", str(number), layers=[LAYER])
    async with HostileRegistry(**on) as hostile:
        for number in range(40):
            layer = make_layer({"file": noise(f"hostile {number}", 3000)})
            make_image(hostile.store, "app", str(number), layers=[layer])
        net.dead["hostile"] = hostile.host
        done = anyio.Event()
        synced: list[object] = []

        def heard(event: object) -> None:
            if isinstance(event, ImageSynced) and event.source.repository.path == "good":
                synced.append(event)
                if len(synced) == GOOD:
                    done.set()

        rules = {"hostile/app": "there/hostile", "here/good": "there/good"}
        run, recorder = net.run(rules, heard=heard, transfers=2, drain_seconds=0.1)
        async with anyio.create_task_group() as group:
            group.start_soon(net.finish, run, recorder)
            with anyio.fail_after(30):
                await done.wait()
            run.stop()
    assert len(synced) == GOOD


@pytest.mark.usefixtures("hurried")
async def test_blob_sent_byte_by_byte_is_not_resumed_forever(net):
    async with HostileRegistry(blobs="drip") as hostile:
        make_image(hostile.store, "app", "1", layers=[LAYER])
        net.dead["hostile"] = hostile.host
        with anyio.fail_after(30):
            outcome = await net.sync({"hostile/app:1": "there/app"}, retries=1)
    (failed,) = outcome.failed
    assert failed.failure.kind == "timeout"
    assert "bytes per second" in failed.failure.message
    assert hostile.asked["blobs"] <= 4


async def test_circuit_breaker_reports_the_original_failure(net):
    net.dead["dead"] = "127.0.0.1:1"
    rules = {f"dead/app:{number}": "there/app" for number in range(9)}
    outcome = await net.sync(rules, retries=0, transfers=1)
    assert len(outcome.failed) == 9
    messages = [each.failure.message for each in outcome.failed]
    assert all("Connect call failed ('127.0.0.1', 1)" in message for message in messages), messages
    assert any("several consecutive attempts failed" in message for message in messages)


async def test_429_without_retry_after_is_retried_with_backoff(here, net):
    for value in ("0", "-5", "Thu, 01 Jan 1970 00:00:00 GMT"):
        here.on("GET", "*/tags/list", status=429, headers={"retry-after": value}, times=1)
    held: list[float] = []
    real = limits.HostLimits._hold

    def hold(self, seconds):
        held.append(seconds)
        real(self, min(seconds, 0.01))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits.HostLimits, "_hold", hold)
        assert (await net.sync({"here/app": "there/app"}, retries=0)).counts == (1, 0, 0)
    assert held
    assert min(held) >= limits.MIN_HOLD
