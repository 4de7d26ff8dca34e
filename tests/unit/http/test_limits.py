"""Tests of `HostLimits`: concurrency, rate, bandwidth and pauses of one registry."""

import anyio
import pytest

from syncer.accounts.settings import HostSettings
from syncer.errors import MAX_HOLD, Kind, RegistryError
from syncer.http.limits import DOWN_SECONDS, MAX_SLOW, MAX_UNREACHABLE, MIN_HOLD, HostLimits

REFUSED = RegistryError(Kind.CONNECTION, "cannot connect: connection refused")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()

    async def sleep(seconds: float) -> None:
        clock.now += max(seconds, 1e-6)

    monkeypatch.setattr("syncer.http.limits.asyncio.sleep", sleep)
    return clock


async def test_concurrent_requests_do_not_exceed_the_window(clock):
    limits = HostLimits(3, clock=clock)
    most = under_way = 0

    async def request() -> None:
        nonlocal most, under_way
        await limits.acquire()
        under_way += 1
        most = max(most, under_way)
        await anyio.lowlevel.checkpoint()
        under_way -= 1
        limits.release(answered=True)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(request)
    assert most == 3
    assert limits.ready


async def test_congestion_halves_the_window_once_per_burst(clock):
    limits = HostLimits(16, clock=clock)
    sent = [await limits.acquire() for _ in range(8)]
    clock.now += 1
    for moment in sent:
        limits.congested(moment)
        limits.release()
    assert limits.window == 8


async def test_later_congestion_halves_the_window_again(clock):
    limits = HostLimits(16, clock=clock)
    for _ in range(2):
        sent = await limits.acquire()
        clock.now += 1
        limits.congested(sent)
        limits.release()
        clock.now += 1
    assert limits.window == 4


async def test_window_is_at_least_one(clock):
    limits = HostLimits(2, clock=clock)
    for _ in range(10):
        sent = await limits.acquire()
        clock.now += 1
        limits.congested(sent)
        limits.release()
        clock.now += 1
    assert limits.window == 1
    assert limits.ready


async def test_window_of_successful_responses_widens_it_by_one(clock):
    limits = HostLimits(16, clock=clock)
    sent = await limits.acquire()
    clock.now += 1
    limits.congested(sent)
    limits.release()
    for _ in range(9):
        await limits.acquire()
        limits.release(answered=True)
    assert limits.window == 9


async def test_retry_after_pauses_all_requests(clock):
    limits = HostLimits(4, clock=clock)
    limits.hold(30)
    limits.hold(10)
    assert not limits.ready
    assert limits.paused == 30
    await limits.acquire()
    assert clock.now == pytest.approx(130)


async def test_requests_per_second_spaces_requests(clock):
    limits = HostLimits(10, HostSettings(requests_per_second=4), clock=clock)
    for _ in range(9):
        await limits.acquire()
        limits.release()
    assert clock.now - 100 == pytest.approx(2, abs=0.3)


async def test_max_connections_limits_the_window(clock):
    assert HostLimits(30, HostSettings(max_connections=2), clock=clock).window == 2


async def test_bandwidth_delays_bytes(clock):
    limits = HostLimits(4, HostSettings(bandwidth=1000), clock=clock)
    for _ in range(10):
        await limits.spend(500)
    assert clock.now - 100 == pytest.approx(5, abs=0.3)


async def test_cancelled_waiter_passes_its_slot_on(clock):
    limits = HostLimits(1, clock=clock)
    await limits.acquire()
    done = anyio.Event()

    async def next_one() -> None:
        await limits.acquire()
        done.set()

    async with anyio.create_task_group() as group:
        with anyio.move_on_after(0) as scope:
            group.start_soon(next_one)
            await limits.acquire()
        assert scope.cancelled_caught
        limits.release()
        with anyio.fail_after(5):
            await done.wait()


async def test_low_quota_slows_pulls_down(clock):
    limits = HostLimits(4, clock=clock)
    assert limits.quota(50, 100, 21600) == 0
    assert limits.quota(5, 100, 21600) == pytest.approx(108)
    assert limits.paused == pytest.approx(108)
    assert limits.quota(0, 100, 21600) == pytest.approx(216)


async def test_on_capacity_is_called_when_a_slot_is_free(clock):
    on_retry: list[str] = []
    limits = HostLimits(1, name="hub", clock=clock)
    limits.on_capacity = on_retry.append
    await limits.acquire()
    assert not limits.ready
    limits.release(answered=True)
    assert on_retry == ["hub"]
    assert limits.ready


async def test_repeatedly_unreachable_host_counts_as_down(clock):
    limits = HostLimits(4, clock=clock)
    for _ in range(MAX_UNREACHABLE - 1):
        limits.unreachable(REFUSED)
    assert limits.down == 0
    limits.unreachable(REFUSED)
    assert limits.down == DOWN_SECONDS
    clock.now += DOWN_SECONDS
    assert limits.down == 0


async def test_successful_connection_resets_the_failures(clock):
    limits = HostLimits(4, clock=clock)
    for _ in range(MAX_UNREACHABLE - 1):
        limits.unreachable(REFUSED)
    limits.connected()
    limits.unreachable(REFUSED)
    assert limits.down == 0


async def test_resized_is_called_when_the_window_changes(clock):
    limits = HostLimits(4, clock=clock)
    windows: list[int] = []
    limits.resized = lambda: windows.append(limits.window)
    limits.congested(await limits.acquire())
    limits.release()
    for _ in range(20):
        await limits.acquire()
        limits.release(answered=True)
    assert windows == [2, 3, 4]


@pytest.mark.parametrize(
    ("asked", "held"),
    [(0.0, MIN_HOLD), (-5.0, MIN_HOLD), (3.0, 3.0), (1.7e9, MAX_HOLD), (float("inf"), MAX_HOLD)],
)
async def test_pause_has_a_minimum_and_a_maximum(clock, asked, held):
    limits = HostLimits(4, clock=clock)
    limits.hold(asked)
    assert limits.paused == held


async def test_consecutive_slow_bodies_count_as_down(clock):
    limits = HostLimits(4, clock=clock)
    for _ in range(MAX_SLOW - 1):
        limits.too_slow(REFUSED)
    limits.delivered()
    for _ in range(MAX_SLOW - 1):
        limits.too_slow(REFUSED)
    assert limits.down == 0
    limits.too_slow(REFUSED)
    assert limits.down == DOWN_SECONDS
    assert limits.last_failure is REFUSED
