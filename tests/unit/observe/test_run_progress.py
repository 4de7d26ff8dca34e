"""What is known of a run while it goes on: how much there is, how fast it goes, how long it takes."""

import pytest

from syncer.events import (
    BlobFinished,
    BlobProgress,
    BlobStarted,
    BytesMoved,
    Failure,
    ImageFailed,
    ImageSkipped,
    ImageStarted,
    ImageSynced,
    RunFinished,
    RunStarted,
    SkipReason,
    TagsListed,
)
from syncer.observe.progress.run_progress import RunProgress
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository
from tests.support.rules import numbered

BLOB = Digest.of(b"blob")
APP = Repository("quay.io", "acme/app")
HERE, THERE = Repository("a.local", "app"), Repository("b.local", "app")


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def picture_of(clock, *events, rules=1):
    progress_now = RunProgress(clock)
    for event in (RunStarted("r", "cli", rules), *events):
        progress_now.notify(event)
    return progress_now


def started(tag, *places, rule=1):
    return ImageStarted(
        numbered(rule), Reference(APP, tag), tuple(Reference(place, tag) for place in places or (HERE,))
    )


def synced(tag, place=HERE, rule=1):
    return ImageSynced(numbered(rule), Reference(APP, tag), Reference(place, tag), BLOB, None, 1, 1.0)


def skipped(tag, place=HERE, rule=1):
    return ImageSkipped(
        numbered(rule), Reference(APP, tag), Reference(place, tag), BLOB, SkipReason.UP_TO_DATE
    )


def test_a_rule_that_was_not_heard_of_counts_as_one_image(clock):
    assert picture_of(clock, rules=7).total == 7


def test_a_listed_rule_counts_its_selected_tags_at_each_destination(clock):
    progress_now = picture_of(clock, TagsListed(numbered(1), APP, 30, 20), rules=3)
    assert progress_now.total == 20 + 2

    progress_now.notify(started("1", HERE, THERE))
    assert progress_now.total == 40 + 2


def test_a_rule_of_named_tags_counts_what_was_seen(clock):
    progress_now = picture_of(clock, started("1"), synced("1"), skipped("2"), started("3"))

    assert (progress_now.done, progress_now.total) == (2, 3)


def test_an_image_that_is_opened_again_in_a_retry_round_counts_once(clock):
    progress_now = picture_of(clock, started("1"), started("1"), synced("1"))

    assert (progress_now.done, progress_now.total) == (1, 1)


def test_a_rule_that_could_not_be_listed_counts_its_failure(clock):
    failed = ImageFailed(numbered(1), Reference(APP), Reference(HERE), Failure("not_found", "404"))
    progress_now = picture_of(clock, failed)

    assert (progress_now.failed, progress_now.done, progress_now.total) == (1, 1, 1)
    assert [each.failure.message for each in progress_now.failures] == ["404"]


def test_bytes_of_running_and_of_ended_transfers_count_once(clock):
    progress_now = picture_of(clock, BlobStarted(BLOB, 100, APP, (HERE,)), BlobProgress(BLOB, 60))
    assert progress_now.moved == 60

    progress_now.notify(BlobProgress(BLOB, 40))
    progress_now.notify(BytesMoved("pulled", "quay.io", 100))
    progress_now.notify(BlobFinished(BLOB, ok=True))
    progress_now.notify(BytesMoved("pushed", "a.local", 100))
    assert progress_now.moved == 100
    assert progress_now.transfers == []


def test_a_blob_that_two_registries_get_at_once_is_one_transfer_of_both(clock):
    progress_now = picture_of(
        clock,
        BlobStarted(BLOB, 100, APP, (HERE,)),
        BlobStarted(BLOB, 100, APP, (THERE,)),
        BlobProgress(BLOB, 150),
        BytesMoved("pulled", "quay.io", 100),
        BlobFinished(BLOB, ok=True),
    )

    [transfer] = progress_now.transfers
    assert (transfer.moved, transfer.whole) == (50, 100)
    assert progress_now.moved == 150


def test_a_transfer_keeps_its_row_until_it_ends_and_another_takes_it(clock):
    first, second, third = (Digest.of(text) for text in (b"1", b"2", b"3"))
    progress_now = picture_of(clock, *(BlobStarted(each, 1, APP, (HERE,)) for each in (first, second)))

    progress_now.notify(BlobFinished(first, ok=True))
    assert [slot and slot.digest for slot in progress_now.slots] == [None, second]
    progress_now.notify(BlobStarted(third, 1, APP, (HERE,)))
    assert [slot and slot.digest for slot in progress_now.slots] == [third, second]
    for each in (second, third):
        progress_now.notify(BlobFinished(each, ok=False))
    assert progress_now.slots == []


def test_the_rate_is_that_of_the_last_seconds(clock):
    progress_now = picture_of(clock, BlobStarted(BLOB, -1, APP, (HERE,)))
    for moved in [1000] * 10 + [0] * 10:
        clock.now += 1
        progress_now.notify(BlobProgress(BLOB, moved))
        speed = progress_now.speed()
        if clock.now == 110.0:
            assert speed == pytest.approx(1000)

    assert speed == 0
    progress_now.notify(RunFinished("r", "cli", "success", 20.0))
    assert progress_now.average() == pytest.approx(500)


def test_the_time_left_is_told_only_when_it_is_no_guess(clock):
    progress_now = picture_of(clock, TagsListed(numbered(1), APP, 100, 100))
    assert progress_now.time_left(0.0) is None

    for number in range(10):
        clock.now += 1
        progress_now.notify(skipped(str(number)))
        left = progress_now.time_left(0.0)
        assert (left is None) == (number < 3)

    assert left == pytest.approx(90, rel=0.2)


def test_a_large_blob_that_still_comes_makes_the_time_left_longer(clock):
    progress_now = picture_of(
        clock, TagsListed(numbered(1), APP, 11, 11), BlobStarted(BLOB, 10_000, APP, (HERE,))
    )
    for number in range(10):
        clock.now += 1
        progress_now.notify(skipped(str(number)))

    assert progress_now.time_left(speed=10.0) == pytest.approx(1000)


def test_nothing_is_left_when_all_is_done_and_nothing_is_said_while_rules_wait_to_be_listed(clock):
    events = [skipped(str(number)) for number in range(10)]
    done = picture_of(clock, *events)
    unlisted = picture_of(clock, TagsListed(numbered(1), APP, 20, 20), *events, rules=2)
    clock.now += 10

    assert done.time_left(1.0) is None
    assert unlisted.time_left(1.0) is None


def test_a_second_run_begins_with_nothing(clock):
    progress_now = picture_of(clock, skipped("1"), BlobStarted(BLOB, 1, APP, (HERE,)))
    clock.now += 50

    progress_now.notify(RunStarted("r2", "schedule", 2))
    assert (progress_now.done, progress_now.total, progress_now.moved, progress_now.elapsed) == (0, 2, 0, 0)
    assert progress_now.slots == []
