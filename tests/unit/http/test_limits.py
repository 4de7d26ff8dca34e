"""What one registry is asked at once, and when."""

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

    monkeypatch.setattr("syncer.http.limits.anyio.sleep", sleep)
    return clock


async def test_no_more_requests_than_the_window_are_under_way(clock):
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


async def test_congestion_halves_the_window_once_for_all_requests_that_met_it(clock):
    limits = HostLimits(16, clock=clock)
    sent = [await limits.acquire() for _ in range(8)]
    clock.now += 1
    for moment in sent:
        limits.congested(moment)
        limits.release()
    assert limits.window == 8


async def test_congestion_of_a_later_request_halves_again(clock):
    limits = HostLimits(16, clock=clock)
    for _ in range(2):
        sent = await limits.acquire()
        clock.now += 1
        limits.congested(sent)
        limits.release()
        clock.now += 1
    assert limits.window == 4


async def test_the_window_never_closes(clock):
    limits = HostLimits(2, clock=clock)
    for _ in range(10):
        sent = await limits.acquire()
        clock.now += 1
        limits.congested(sent)
        limits.release()
        clock.now += 1
    assert limits.window == 1
    assert limits.ready


async def test_a_window_of_good_answers_makes_it_one_wider(clock):
    limits = HostLimits(16, clock=clock)
    sent = await limits.acquire()
    clock.now += 1
    limits.congested(sent)
    limits.release()
    for _ in range(9):
        await limits.acquire()
        limits.release(answered=True)
    assert limits.window == 9


async def test_retry_after_holds_everyone_on_one_clock(clock):
    limits = HostLimits(4, clock=clock)
    limits.hold(30)
    limits.hold(10)
    assert not limits.ready
    assert limits.paused == 30
    await limits.acquire()
    assert clock.now == pytest.approx(130)


async def test_requests_per_second_are_spread(clock):
    limits = HostLimits(10, HostSettings(requests_per_second=4), clock=clock)
    for _ in range(9):
        await limits.acquire()
        limits.release()
    assert clock.now - 100 == pytest.approx(2, abs=0.3)


async def test_max_connections_of_the_auth_file_count(clock):
    assert HostLimits(30, HostSettings(max_connections=2), clock=clock).window == 2


async def test_bandwidth_makes_bytes_wait(clock):
    limits = HostLimits(4, HostSettings(bandwidth=1000), clock=clock)
    for _ in range(10):
        await limits.spend(500)
    assert clock.now - 100 == pytest.approx(5, abs=0.3)


async def test_whoever_gives_up_waiting_leaves_the_place_to_the_next(clock):
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


async def test_a_quota_that_is_nearly_gone_spreads_what_is_left(clock):
    limits = HostLimits(4, clock=clock)
    assert limits.quota(50, 100, 21600) == 0
    assert limits.quota(5, 100, 21600) == pytest.approx(108)
    assert limits.paused == pytest.approx(108)
    assert limits.quota(0, 100, 21600) == pytest.approx(216)


async def test_those_who_hand_out_work_hear_when_there_is_room(clock):
    on_retry: list[str] = []
    limits = HostLimits(1, name="hub", clock=clock)
    limits.on_capacity = on_retry.append
    await limits.acquire()
    assert not limits.ready
    limits.release(answered=True)
    assert on_retry == ["hub"]
    assert limits.ready


async def test_a_host_that_cannot_be_reached_time_after_time_is_left_alone_for_a_while(clock):
    limits = HostLimits(4, clock=clock)
    for _ in range(MAX_UNREACHABLE - 1):
        limits.unreachable(REFUSED)
    assert limits.down == 0
    limits.unreachable(REFUSED)
    assert limits.down == DOWN_SECONDS
    clock.now += DOWN_SECONDS
    assert limits.down == 0


async def test_one_connection_that_is_made_makes_up_for_those_that_failed(clock):
    limits = HostLimits(4, clock=clock)
    for _ in range(MAX_UNREACHABLE - 1):
        limits.unreachable(REFUSED)
    limits.connected()
    limits.unreachable(REFUSED)
    assert limits.down == 0


async def test_it_is_told_when_the_window_changes(clock):
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
async def test_a_break_is_bounded_both_ways(clock, asked, held):
    limits = HostLimits(4, clock=clock)
    limits.hold(asked)
    assert limits.paused == held


async def test_bodies_that_come_too_slowly_count_as_down_unless_one_is_delivered(clock):
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
