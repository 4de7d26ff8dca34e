"""When runs are due: cron's fields, time zones, the days on which clocks change."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncer.daemon.schedule import LONGEST_WAIT, Schedule, Timetable

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [
    UTC,
    BERLIN,
    ZoneInfo("America/New_York"),
    ZoneInfo("America/St_Johns"),
    ZoneInfo("Australia/Lord_Howe"),  # sets its clock by half an hour
    ZoneInfo("America/Sao_Paulo"),  # used to set it at midnight
    ZoneInfo("Asia/Kathmandu"),
]


def times(text, zone, start, count):
    """The next times on the wall."""
    schedule, moment = Schedule(text, zone), start
    found = []
    for _ in range(count):
        moment = schedule.next_after(moment)
        found.append(moment.astimezone(zone).strftime("%d. %H:%M:%S%z"))
    return found


def utc(year, month=1, day=1, hour=0, minute=0):
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("*/15 * * * *", "01. 00:15:00+0000", "01. 00:30:00+0000"),
        ("*/2 * * * * *", "01. 00:00:02+0000", "01. 00:00:04+0000"),
        ("30 0 3 * * *", "01. 03:00:30+0000", "02. 03:00:30+0000"),
        ("@daily", "02. 00:00:00+0000", "03. 00:00:00+0000"),
        ("@hourly", "01. 01:00:00+0000", "01. 02:00:00+0000"),
        ("@weekly", "07. 00:00:00+0000", "14. 00:00:00+0000"),
        ("0 0 29 2 *", "29. 00:00:00+0000", "29. 00:00:00+0000"),
    ],
)
def test_six_fields_start_with_seconds(text, first, second):
    assert times(text, UTC, utc(2026, 6, 1), 2) == [first, second]


class TestChangingClocks:
    """Berlin goes from 2:00 to 3:00 on 29 March 2026, and from 3:00 to 2:00 on 25 October."""

    def test_skipped_time_is_due_when_clock_is_set_forward(self):
        assert times("30 2 * * *", BERLIN, utc(2026, 3, 28, 0), 3) == [
            "28. 02:30:00+0100",
            "29. 03:00:00+0200",
            "30. 02:30:00+0200",
        ]

    def test_repeated_time_is_due_once(self):
        assert times("30 2 * * *", BERLIN, utc(2026, 10, 24, 0), 3) == [
            "24. 02:30:00+0200",
            "25. 02:30:00+0200",
            "26. 02:30:00+0100",
        ]

    def test_a_daemon_that_starts_in_the_second_hour_does_not_run_again(self):
        assert times("30 2 * * *", BERLIN, utc(2026, 10, 25, 1, 10), 1) == ["26. 02:30:00+0100"]

    def test_a_daemon_that_starts_right_after_the_skipped_hour_has_not_missed_it_yet(self):
        change = utc(2026, 3, 29, 1)
        assert times("30 2 * * *", BERLIN, change - timedelta(seconds=1), 1) == ["29. 03:00:00+0200"]
        assert times("30 2 * * *", BERLIN, change, 1) == ["30. 02:30:00+0200"]

    def test_hourly_schedule_follows_elapsed_hours(self):
        assert times("30 * * * *", BERLIN, utc(2026, 10, 24, 23), 3) == [
            "25. 01:30:00+0200",
            "25. 02:30:00+0200",
            "25. 02:30:00+0100",
        ]
        assert times("30 * * * *", BERLIN, utc(2026, 3, 29, 0), 2) == [
            "29. 01:30:00+0100",
            "29. 03:30:00+0200",
        ]

    def test_several_skipped_times_are_due_once(self):
        assert times("*/20 2 * * *", BERLIN, utc(2026, 3, 28, 23), 2) == [
            "29. 03:00:00+0200",
            "30. 02:00:00+0200",
        ]

    def test_skipped_midnight_is_due_when_clock_is_set_forward(self):
        sao_paulo = ZoneInfo("America/Sao_Paulo")  # 4 November 2018 began at 1:00
        assert times("@daily", sao_paulo, utc(2018, 11, 3, 12), 2) == [
            "04. 01:00:00-0200",
            "05. 00:00:00-0200",
        ]


zones = st.sampled_from(ZONES)
moments = st.integers(utc(2015).toordinal(), utc(2035).toordinal()).flatmap(
    lambda day: st.integers(0, 86399).map(
        lambda second: datetime.fromordinal(day).replace(tzinfo=UTC) + timedelta(seconds=second)
    )
)


@given(zone=zones, start=moments, hour=st.integers(0, 23), minute=st.integers(0, 59))
@settings(max_examples=20, deadline=None)
def test_time_of_day_is_due_once_a_day(zone, start, hour, minute):
    schedule, moment = Schedule(f"{minute} {hour} * * *", zone), start
    days = []
    for _ in range(370):
        moment = schedule.next_after(moment)
        days.append(moment.astimezone(zone).date())
    assert days == [days[0] + timedelta(days=number) for number in range(370)]


@given(
    zone=zones,
    start=moments,
    text=st.sampled_from(
        ["*/7 * * * *", "30 * * * *", "0 */6 * * *", "15,45 2-4 * * *", "*/30 * * * * *", "0 5 * * 1-5"]
    ),
)
@settings(max_examples=20, deadline=None)
def test_due_times_increase_and_match_the_schedule(zone, start, text):
    schedule, moment = Schedule(text, zone), start
    for _ in range(50):
        following = schedule.next_after(moment)
        assert following > moment
        # Nothing lies between: asked a moment earlier, the answer is the same.
        assert schedule.next_after(following - timedelta(seconds=1)) == following
        moment = following


@given(zone=zones, start=moments)
@settings(max_examples=20, deadline=None)
def test_quarter_hourly_schedule_is_due_within_15_minutes(zone, start):
    schedule, moment = Schedule("*/15 * * * *", zone), start
    for _ in range(100):
        following = schedule.next_after(moment)
        assert following - moment <= timedelta(minutes=15)
        moment = following


class TestTimetable:
    START = utc(2026, 6, 1, 12)

    def table(self, *texts, **options):
        table = Timetable(UTC, **options)
        table.set_schedules(texts, self.START)
        return table

    def at(self, **passed):
        return self.START + timedelta(**passed)

    def test_each_time_is_taken_once(self):
        table = self.table("*/10 * * * *")
        assert table.take_due(self.at(minutes=9)) == set()
        assert table.take_due(self.at(minutes=10)) == {"*/10 * * * *"}
        assert table.take_due(self.at(minutes=10, seconds=1)) == set()
        assert table.take_due(self.at(minutes=20)) == {"*/10 * * * *"}

    def test_schedules_due_at_same_time_are_taken_together(self):
        table = self.table("0 13 * * *", "@hourly")
        assert table.take_due(self.at(hours=1)) == {"0 13 * * *", "@hourly"}

    def test_missed_times_are_due_once(self):
        table = self.table("*/10 * * * *", "@daily")
        assert table.take_due(self.at(days=3, minutes=5)) == {"*/10 * * * *", "@daily"}
        assert table.take_due(self.at(days=3, minutes=6)) == set()
        assert table.next_times()["@daily"] == utc(2026, 6, 5)

    def test_a_clock_that_is_set_back_does_not_stop_the_runs(self):
        table = self.table("*/10 * * * *")
        table.take_due(self.START + timedelta(days=400))
        assert table.take_due(self.START) == set()
        assert table.take_due(self.at(minutes=10)) == {"*/10 * * * *"}

    def test_a_small_correction_of_the_clock_runs_nothing_twice(self):
        table = self.table("*/10 * * * *")
        assert table.take_due(self.at(minutes=10))
        assert table.take_due(self.at(minutes=9, seconds=59)) == set()
        assert table.take_due(self.at(minutes=10)) == set()

    def test_wait_is_limited_by_next_due_time_and_clock_check(self):
        table = self.table("*/10 * * * *")
        assert table.wait(self.START) == LONGEST_WAIT <= 60
        assert table.wait(self.at(minutes=9, seconds=50)) == 10
        assert table.wait(self.at(minutes=15)) == 0
        assert self.table().wait(self.START) == LONGEST_WAIT

    def test_jitter_is_bounded_and_equal_for_same_due_time(self):
        table = self.table("0 13 * * *", "@hourly", jitter=120, seed="one")
        one, other = table.next_times().values()
        assert one == other
        assert self.at(hours=1) <= one <= self.at(hours=1, minutes=2)
        assert table.take_due(one - timedelta(seconds=1)) == set()
        assert len(table.take_due(one)) == 2
        assert table.next_times()["@hourly"] >= self.at(hours=2)

    def test_jitter_differs_between_daemons_and_from_time_to_time(self):
        delays = {
            (seed, number): Timetable(UTC, jitter=1000, seed=seed)
            ._after("@hourly", self.at(hours=number))
            .at.timestamp()
            % 3600
            for seed in ("a", "b")
            for number in range(3)
        }
        assert len(set(delays.values())) == 6

    def test_new_schedule_keeps_due_times_of_others(self):
        table = self.table("@hourly", "@daily")
        table.set_schedules(["@hourly", "*/5 * * * *"], self.at(minutes=90))
        assert table.next_times() == {"@hourly": self.at(hours=1), "*/5 * * * *": self.at(minutes=95)}


@given(start=moments, steps=st.lists(st.floats(0, 5000), max_size=30), jitter=st.floats(0, 600))
@settings(max_examples=20, deadline=None)
def test_a_timetable_never_runs_early_or_twice_for_one_time(start, steps, jitter):
    table = Timetable(BERLIN, jitter=jitter, seed="s")
    text = "*/20 * * * *"
    table.set_schedules([text], start)
    now, before = start, start
    for step in steps:
        now += timedelta(seconds=step)
        due = table.next_times()[text]
        if table.take_due(now):
            assert due <= now
            assert Schedule(text, BERLIN).next_after(before) <= now
            before = now
        assert table.next_times()[text] > now
