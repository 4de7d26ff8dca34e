"""The text of a notification: what failed, since when, what to do, and a link, in a bounded size."""

import pytest

from syncer.errors import Kind
from syncer.notify.message import MAX_TEXT
from tests.unit.notify.conftest import HOUR, ended, notification

LINK = "https://mirror.example/runs/r1"


def test_text_says_what_failed_since_when_and_what_to_do(watch, clock):
    notification(ended(failed=["1.0", "1.1"]), watch)
    clock.time += 5 * HOUR
    run = ended(failed=["1.0", "1.1", "2.0"], synced=["3.0"])
    assert notification(run, watch, link=LINK).text().splitlines() == [
        "image-syncer: 3 of 4 images failed",
        "source.test/app:2.0 -> to.test/app:2.0: no such image (new); check the name and the tag in the rule",
        "2 images, such as source.test/app:1.0 -> to.test/app:1.0: no such image (since Tue 2026-11-24 03:00 UTC); check the name and the tag in the rule",
        "run r1 (schedule): 1 copied",
        LINK,
    ]


def test_message_with_advice_keeps_its_own(watch):
    told = notification(ended(failed=["1.0"], message="401; run `syncer check`", kind="unauthorized"), watch)
    assert told.lines[0].endswith("401; run `syncer check` (new)")


@pytest.mark.parametrize("kind", sorted(set(Kind) - {Kind.INTERRUPTED}))
def test_every_kind_of_failure_has_advice(watch, kind):
    told = notification(ended(failed=["1.0"], message="no", kind=kind), watch)
    assert "; " in told.lines[0]


def test_recovery_names_how_many(watch):
    notification(ended(failed=["1.0", "1.1"]), watch)
    told = notification(ended(synced=["1.0", "1.1"]), watch, occasion="recovery")
    assert told.title == "image-syncer: run succeeded after a failure"
    assert told.lines[0] == "2 images that failed before are fine now"
    assert told.is_good
    assert told.data["recovered"] == ["to.test/app:1.0", "to.test/app:1.1"]


def test_recovery_of_some_images_is_not_good_news_yet(watch):
    notification(ended(failed=["1.0", "1.1"]), watch)
    told = notification(ended(failed=["1.0"], synced=["1.1"]), watch, occasion="recovery")
    assert told.title == "image-syncer: some images recovered, 1 still failing"
    assert not told.is_good


def test_drifted_image_counts_once(watch):
    run = ended(failed=["1.0"], synced=["1.1"])
    run.summary["totals"]["images"] |= {"skipped": 2, "drifted": 1}
    assert notification(run, watch).title == "image-syncer: 1 of 4 images failed"


def test_aborted_run_is_named(watch):
    told = notification(ended("failure", error="the run was aborted: KeyError"), watch)
    assert told.title == "image-syncer: run failed"
    assert told.lines[0] == "the run was aborted: KeyError (new)"


@pytest.mark.parametrize("text", ["x" * 5000, "镜像" * 3000, "a\nb\n" * 900, "<!channel> " * 500])
def test_text_is_bounded_and_keeps_its_link(watch, text):
    told = notification(ended(failed=[f"1.{number}" for number in range(40)], message=text), watch, link=LINK)
    assert len(told.text().encode()) <= MAX_TEXT
    assert told.text().endswith(f"\n{LINK}")
    assert told.text().startswith("image-syncer: 40 of 40 images failed\n")


@pytest.mark.parametrize("limit", [0, 40, 200, 900])
def test_body_fits_into_what_a_service_accepts(watch, limit):
    told = notification(ended(failed=["1.0"], message="x" * 300), watch, link=LINK)
    assert len(told.body(limit).encode()) <= max(limit, len(LINK) + 4)
    assert told.body(limit).endswith(LINK)


def test_failures_of_one_cause_share_a_line(watch):
    told = notification(ended(failed=[f"1.{number}" for number in range(500)]), watch)
    assert told.lines[0].startswith("500 images, such as ")
    assert len(told.data["failed"]) == 20


def test_data_names_when_each_image_began_to_fail(watch, clock):
    notification(ended(failed=["1.0"]), watch)
    clock.time += HOUR
    data = notification(ended(failed=["1.0", "1.1"]), watch, link=LINK).data
    assert [(image["since"], image["new"]) for image in data["failed"]] == [
        ("2026-11-24T03:00:00Z", False),
        ("2026-11-24T04:00:00Z", True),
    ]
    assert data["url"] == LINK
    assert data["run"]["id"] == "r1"
    assert data["totals"]["images"]["failed"] == 2
