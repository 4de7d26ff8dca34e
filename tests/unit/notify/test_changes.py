"""What is notified: what is new, what continues for a day, and what is over."""

import sqlite3

import pytest

from syncer.notify.changes import REMINDER_SECONDS, THE_RUN, FailureWatch
from syncer.notify.notifier import occasion_of
from syncer.notify.occasions import USUALLY
from syncer.state import failures
from syncer.state.failures import FailureTable
from tests.unit.notify.conftest import HOUR, TUESDAY, ended


class Room:
    """Runs, one after the other, with what is notified about them."""

    def __init__(self, watch, clock, *, wanted=USUALLY):
        self.watch = watch
        self.clock = clock
        self.wanted = wanted

    def after(self, hours, **run):
        self.clock.time += hours * HOUR
        finished = ended(**run)
        changes = self.watch.compare(finished)
        occasion = occasion_of(finished.outcome, changes, self.wanted)
        if finished.outcome != "interrupted":
            self.watch.record(changes, told=occasion in ("failure", "partial"))
        return occasion


@pytest.fixture
def room(watch, clock):
    return Room(watch, clock)


class TestTheSameFailure:
    def test_failure_that_continues_is_named_once_a_day(self, room):
        heard = [room.after(1, failed=["1.0"]) for _ in range(72)]
        assert [hour for hour, occasion in enumerate(heard) if occasion] == [0, 23, 46, 69]

    def test_run_of_a_daily_schedule_that_varies_is_named_each_day(self, room):
        heard = [room.after(24 + late, failed=["1.0"]) for late in (0, -0.01, 0.01, -0.02)]
        assert heard == ["failure"] * 4

    def test_other_reason_for_the_same_image_is_not_new(self, room):
        assert room.after(1, failed=["1.0"], kind="timeout", message="no answer") == "failure"
        assert room.after(1, failed=["1.0"], kind="connection", message="refused") is None

    def test_further_image_is_new(self, room):
        assert room.after(1, failed=["1.0"]) == "failure"
        assert room.after(1, failed=["1.0", "1.1"]) == "failure"
        assert room.after(1, failed=["1.0", "1.1"]) is None

    def test_image_that_fails_again_after_it_recovered_is_new(self, room):
        heard = [room.after(1, failed=["1.0"]), room.after(1, synced=["1.0"]), room.after(1, failed=["1.0"])]
        assert heard == ["failure", "recovery", "failure"]

    def test_clock_that_was_set_back_does_not_silence_a_failure(self, room):
        assert room.after(1, failed=["1.0"]) == "failure"
        assert room.after(-48, failed=["1.0"]) == "failure"

    def test_aborted_run_is_named_once_a_day_too(self, room):
        heard = [room.after(1, outcome="failure", error="the run was aborted: KeyError") for _ in range(3)]
        assert heard == ["failure", None, None]
        assert room.after(REMINDER_SECONDS / HOUR, outcome="failure", error="KeyError") == "failure"

    def test_aborted_run_with_failed_images_recovers(self, room):
        room.after(1, outcome="failure", failed=["1.0"], error="KeyError")
        assert room.after(1, failed=["1.0"]) == "recovery"
        assert room.after(1, synced=["1.0"]) == "recovery"


class TestRecovery:
    def test_success_after_a_failure_is_a_recovery_once(self, room):
        room.after(1, failed=["1.0"])
        assert [room.after(1, synced=["1.0"]) for _ in range(2)] == ["recovery", None]

    def test_some_images_recover_while_others_fail(self, room):
        room.after(1, failed=["1.0", "1.1"])
        assert room.after(1, failed=["1.0"], synced=["1.1"]) == "recovery"
        assert room.after(1, failed=["1.0"], synced=["1.1"]) is None

    def test_image_that_its_rule_no_longer_selects_recovers(self, room):
        room.after(1, failed=["1.0"], synced=["1.1"])
        assert room.after(1, synced=["1.1"]) == "recovery"

    def test_run_of_some_tags_says_nothing_about_the_others(self, room):
        room.after(1, failed=["1.0"], synced=["1.1"])
        assert room.after(1, synced=["1.1"], whole=False) is None
        assert room.after(1, synced=["1.0"], whole=False) == "recovery"

    def test_interrupted_run_changes_nothing(self, room):
        room.after(1, failed=["1.0"])
        assert room.after(1, outcome="interrupted", synced=["1.0"]) is None
        assert room.after(1, outcome="interrupted", failed=["1.1"], kind="interrupted") is None
        assert room.after(1, synced=["1.0"]) == "recovery"

    def test_success_without_a_failure_before_is_not_notified(self, room):
        assert room.after(1, synced=["1.0"]) is None


@pytest.mark.parametrize(
    ("wanted", "heard"),
    [
        (["success"], [None, None, "success", "success"]),
        (["recovery"], [None, None, "recovery", None]),
        (["success", "recovery"], [None, None, "recovery", "success"]),
        (["failure"], ["failure", None, None, None]),
        (["partial"], [None, None, None, None]),
    ],
)
def test_only_selected_occasions_are_notified(watch, clock, wanted, heard):
    room = Room(watch, clock, wanted=wanted)
    runs = [{"failed": ["1.0"]}, {"failed": ["1.0"]}, {"synced": ["1.0"]}, {"synced": ["1.0"]}]
    assert [room.after(1, **run) for run in runs] == heard


def test_interruptions_are_notified_on_request(watch, clock):
    assert Room(watch, clock, wanted=["interrupted"]).after(1, outcome="interrupted") == "interrupted"


class TestState:
    def test_another_process_knows_what_failed(self, room, database, clock):
        room.after(0, failed=["1.0"])
        clock.time += 2 * HOUR
        changes = FailureWatch(FailureTable(database), now=clock).compare(ended(failed=["1.0"]))
        assert changes.failing == {"to.test/app:1.0": TUESDAY}
        assert not changes.new
        assert not changes.is_due

    def test_notification_that_was_not_delivered_is_sent_after_the_next_run(self, room, watch):
        assert room.after(1, failed=["1.0"]) == "failure"
        watch.not_delivered(room.clock.time)
        assert room.after(1, failed=["1.0"]) == "failure"
        assert room.after(1, failed=["1.0"]) is None

    def test_unusable_state_is_logged_and_this_process_still_remembers(self, room, database, caplog):
        with database.transaction() as connection:
            connection.execute("DROP TABLE failures")
        assert room.after(1, failed=["1.0"]) == "failure"
        assert room.after(1, failed=["1.0"]) is None
        assert "cannot record which images fail" in caplog.text

    def test_failure_that_no_run_sees_is_forgotten(self, room, database, clock):
        room.after(0, failed=["1.0"])
        clock.time += 31 * 24 * HOUR
        room.after(0, outcome="success", synced=["2.0"], whole=False)
        assert FailureTable(database).load() == {}

    def test_failures_beyond_the_limit_are_not_new_each_time(self, monkeypatch, room, database):
        monkeypatch.setattr("syncer.notify.changes.MAX_FAILURES", 3)
        monkeypatch.setattr(failures, "MAX_FAILURES", 3)
        tags = [f"1.{number}" for number in range(6)]
        assert [room.after(1, failed=tags) for _ in range(2)] == ["failure", None]
        assert len(FailureTable(database).load()) == 3

    def test_key_of_the_run_is_no_image(self, room, watch):
        room.after(1, outcome="failure", error="KeyError")
        changes = watch.compare(ended(synced=["1.0"]))
        assert changes.recovered == {THE_RUN}


def test_closed_database_does_not_end_the_run(database, clock, caplog):
    watch = FailureWatch(FailureTable(database), now=clock)
    with database.transaction() as connection:
        connection.execute("DROP TABLE failures")
    with pytest.raises(sqlite3.Error):
        FailureTable(database).load()
    watch.not_delivered(1.0)
    assert "cannot record" in caplog.text
