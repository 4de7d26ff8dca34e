"""The log of a run: which lines there are, and how they read, as text and as JSON."""

import io
import json
import logging
import re
import subprocess
import sys
import warnings
from contextlib import contextmanager

import pytest

from syncer.events import (
    BlobCompleted,
    BytesMoved,
    Decision,
    Failure,
    ImageFailed,
    ImageSkipped,
    ImageSynced,
    IndexFiltered,
    QuotaLow,
    RequestRetried,
    RequestSent,
    RoundStarted,
    RuleWarning,
    RunFinished,
    RunStarted,
    SkipReason,
    TagsListed,
    TaskEnded,
)
from syncer.observe.log_observer import LogObserver
from syncer.observe.logs import configure_logging
from syncer.observers import Observers
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference
from tests.support.rules import numbered

OLD, NEW = Digest.of(b"old"), Digest.of(b"new")
SOURCE, DESTINATION = Reference.parse("quay.io/acme/app:1.0"), Reference.parse("harbor.local/mirror/app:1.0")
STARTED = RunStarted("r1", "cli", 3)
SYNCED = ImageSynced(numbered(1), SOURCE, DESTINATION, NEW, None, 12_300_000, 1.25)
SKIPPED = ImageSkipped(numbered(1), SOURCE, DESTINATION, NEW, SkipReason.UP_TO_DATE)
FAILED = ImageFailed(
    numbered(2),
    SOURCE,
    DESTINATION,
    Failure("not_found", "GET manifest 1.0: 404 not found", "quay.io", 404, permanent=True),
)
REQUEST = RequestSent("quay.io", "HEAD", "manifest", "/v2/acme/app/manifests/1.0", 200, 0.0123)
FINISHED = RunFinished("r1", "cli", "partial", 83.5)


@contextmanager
def logging_to(stream, *, level="info", form="text", **options):
    log = configure_logging(
        level=level, format=form, stream=stream, **{"file": None, "secrets": (), **options}
    )
    try:
        yield log
    finally:
        log.close()


def lines_of(*events, level="info", form="text", beside_bars=False):
    """What these events leave in the log."""
    stream = io.StringIO()
    with logging_to(stream, level=level, form=form) as log:
        observer = LogObserver(log, beside_bars=beside_bars)
        for event in events:
            observer.notify(event)
    lines = stream.getvalue().splitlines()
    return [json.loads(line) for line in lines] if form == "json" else lines


def sentence(line):
    """A text line without its time."""
    time, _, rest = line.partition(" ")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)
    return " ".join(rest.split())


def test_each_image_is_one_line():
    assert [sentence(line) for line in lines_of(STARTED, SYNCED, FAILED)] == [
        "INFO run r1 started: 3 rules",
        (
            "INFO synced quay.io/acme/app:1.0 -> harbor.local/mirror/app:1.0: "
            "sha256:11507a0e2f5e new, 12.3 MB in 1.2 s"
        ),
        "ERROR quay.io/acme/app:1.0 -> harbor.local/mirror/app:1.0: GET manifest 1.0: 404 not found",
    ]


def test_a_replaced_image_names_what_was_there():
    [line] = lines_of(ImageSynced(numbered(1), SOURCE, DESTINATION, NEW, OLD, 5, 0.1, unverified=True))

    assert f"sha256:{NEW.hex[:12]} replaces sha256:{OLD.hex[:12]}, 5 B" in line
    assert line.endswith("confirmed by a mirror only")


def test_up_to_date_images_are_logged_at_debug_and_other_skips_as_warnings():
    narrowed_to_nothing = ImageSkipped(numbered(1), SOURCE, DESTINATION, None, SkipReason.NO_PLATFORM)

    assert lines_of(SKIPPED) == []
    assert lines_of(SKIPPED, level="debug")[0].endswith("up to date")
    assert lines_of(narrowed_to_nothing)[0].endswith("no platform matches the filter")


def test_drift_is_a_warning_and_a_listed_immutable_tag_is_not():
    kept = ImageSkipped(numbered(1), SOURCE, DESTINATION, OLD, SkipReason.KEPT, wanted=NEW)
    immutable = ImageSkipped(numbered(1), SOURCE, DESTINATION, None, SkipReason.IMMUTABLE)

    assert lines_of(immutable) == []
    assert lines_of(immutable, level="debug")[0].endswith("the tag is immutable and exists")
    (line,) = lines_of(kept, level="warning", form="json")
    assert (line["level"], line["drift"]) == ("warning", True)
    assert str(NEW) in line["message"]


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_the_last_line_is_image_syncers_at_any_level(level):
    lines = lines_of(STARTED, FAILED, FINISHED, level=level)

    assert lines[-1] == "Synchronization finished, 1 tasks failed, cost 1m23.5s."


def test_totals_are_logged_before_the_last_line():
    blob = BlobCompleted("mounted", NEW, 5, DESTINATION.repository)
    moved = BytesMoved("pulled", "quay.io", 1_500_000), BytesMoved("pushed", "harbor.local", 3_000_000)

    lines = lines_of(STARTED, SYNCED, SKIPPED, blob, *moved, REQUEST, FAILED, FINISHED)

    assert sentence(lines[-2]) == (
        "INFO images: 1 synced, 1 skipped, 1 failed; blobs: 0 copied, 1 mounted, 0 present, 0 shared; "
        "1.5 MB pulled, 3.0 MB pushed; 1 request, 0 retries"
    )


def test_a_second_run_counts_from_nothing():
    lines = lines_of(STARTED, FAILED, FINISHED, STARTED, SYNCED, FINISHED)

    assert lines[-1].startswith("Synchronization finished, 0 tasks failed")


def test_a_dry_run_says_what_would_be():
    lines = lines_of(RunStarted("r1", "cli", 1, dry_run=True), SYNCED, FINISHED)

    assert lines[0].endswith("(dry run: nothing will be changed)")
    assert " would sync quay.io" in lines[1]
    assert "1 would be synced" in lines[2]


def test_a_stopped_run_says_so():
    lines = lines_of(STARTED, RunFinished("r1", "cli", "interrupted", 1.0))

    assert "stopped before the end; images: 0 synced" in lines[-2]


def test_other_events_are_logged_at_their_levels():
    failure = Failure("timeout", "PUT blob: timed out; trying again may help", "harbor.local")
    lines = lines_of(
        TagsListed(numbered(1), SOURCE.repository, 12, 1),
        IndexFiltered(numbered(1), SOURCE, OLD, NEW, ("linux/arm64",), ("linux/amd64", "linux/s390x")),
        RuleWarning(numbered(2), "quay.io/acme/none: no tag is selected"),
        TaskEnded("blob", "retried", "blob sha256:1234 of quay.io/acme/app", failure),
        RoundStarted(1, 2),
        TaskEnded("blob", "failed", "blob sha256:1234 of quay.io/acme/app", failure),
        TaskEnded("blob", "done", "blob sha256:5678 of quay.io/acme/app"),
        QuotaLow("docker.io", "anonymous", 1, 36.0),
    )

    assert [sentence(line) for line in lines] == [
        "INFO quay.io/acme/app: 12 tags, 1 selected",
        (
            "INFO quay.io/acme/app:1.0: linux/arm64 kept, linux/amd64, linux/s390x dropped; "
            f"sha256:{OLD.hex[:12]} becomes sha256:{NEW.hex[:12]}"
        ),
        "WARNING quay.io/acme/none: no tag is selected",
        (
            "WARNING blob sha256:1234 of quay.io/acme/app: PUT blob: timed out; trying again may help "
            "(will be retried)"
        ),
        "INFO retry round 1: 2 tasks",
        "WARNING docker.io: 1 pull left for anonymous, now one every 36 s",
    ]


def test_a_registry_in_trouble_gives_one_warning_of_a_kind():
    trouble = [RequestRetried("quay.io", "throttled", 2.0)] * 100
    other = RequestRetried("quay.io", "timeout", 1.0), RequestRetried("quay.io", "token", 0.0)

    lines = lines_of(STARTED, *trouble, *other)

    assert [sentence(line) for line in lines[1:]] == [
        "WARNING quay.io: too many requests, retrying in 2.0 s; further retries are logged at level debug",
        "WARNING quay.io: timeout, retrying in 1.0 s; further retries are logged at level debug",
    ]
    assert len(lines_of(*trouble, level="debug")) == 100


def test_debug_shows_requests_and_decisions():
    broken = RequestSent("quay.io", "GET", "blob", "/v2/acme/app/blobs/x", 0, 1.0)

    lines = lines_of(REQUEST, broken, Decision("harbor.local/mirror/app", "known to be new"), level="debug")

    assert [sentence(line) for line in lines] == [
        "DEBUG HEAD quay.io/v2/acme/app/manifests/1.0: 200 in 12.3 ms",
        "DEBUG GET quay.io/v2/acme/app/blobs/x: broke off in 1000.0 ms",
        "DEBUG harbor.local/mirror/app: known to be new",
    ]


def test_at_info_no_text_of_a_decision_or_request_is_made():
    class NoText(str):
        __slots__ = ()

        def __format__(self, spec):
            raise AssertionError("formatted")

    with logging_to(io.StringIO()) as log:
        observer = LogObserver(log)
        observer.notify(Decision(NoText("a"), "b"))
        observer.notify(RequestSent(NoText("r"), "GET", "tags", "/v2/", 200, 0.1))


def test_level_that_changes_during_a_run_holds_for_requests_at_once():
    written = io.StringIO()
    with logging_to(written) as log:
        observer = LogObserver(log)
        both = Observers([observer])
        for level in ("info", "debug", "info"):
            log.set_level(level)
            both.notify(RequestSent("r", "GET", "tags", f"/v2/{level}", 200, 0.1))
    assert written.getvalue().count("GET r/v2/") == written.getvalue().count("GET r/v2/debug") == 1


def test_with_bars_only_other_events_are_logged():
    retried = TaskEnded("blob", "retried", "blob 1", Failure("timeout", "timed out"))

    lines = lines_of(
        STARTED,
        SYNCED,
        FAILED,
        RuleWarning(numbered(1), "nothing selected"),
        retried,
        FINISHED,
        beside_bars=True,
    )

    assert [line.partition("Z ")[2] or line for line in lines] == [
        "WARNING blob 1: timed out (will be retried)",
        "Synchronization finished, 1 tasks failed, cost 1m23.5s.",
    ]


def test_json_beside_bars_is_complete():
    lines = lines_of(STARTED, FAILED, FINISHED, form="json", beside_bars=True)

    assert [line["event"] for line in lines] == ["run started", "image failed", "run finished"]


def test_json_has_an_object_a_line_with_all_fields():
    started, synced, failed, finished = lines_of(STARTED, SYNCED, FAILED, FINISHED, form="json")

    assert started | {"timestamp": ""} == {
        "timestamp": "",
        "level": "info",
        "event": "run started",
        "run": "r1",
        "message": "run r1 started: 3 rules",
        "trigger": "cli",
        "rules": 3,
        "dry_run": False,
    }
    assert synced["run"] == "r1"
    assert (synced["source"], synced["destination"]) == (str(SOURCE), str(DESTINATION))
    assert (synced["digest"], synced["previous_digest"], synced["bytes"]) == (NEW, None, 12_300_000)
    assert failed["level"] == "error"
    assert (failed["error"], failed["registry"], failed["status"], failed["permanent"]) == (
        "not_found",
        "quay.io",
        404,
        True,
    )
    assert finished["message"] == "Synchronization finished, 1 tasks failed, cost 1m23.5s."
    assert finished["images"] == {"synced": 1, "skipped": 0, "failed": 1}


def test_bound_fields_are_on_every_json_line():
    stream = io.StringIO()
    with logging_to(stream, form="json", bind={"shard": "0/3"}) as log:
        log.logger.info("one")
        logging.getLogger("asyncio").warning("two")

    assert [json.loads(line)["shard"] for line in stream.getvalue().splitlines()] == ["0/3", "0/3"]


def test_libraries_are_heard_from_warnings_on_and_our_own_modules_from_the_level_on():
    stream = io.StringIO()
    with logging_to(stream, level="debug") as log:
        logging.getLogger("asyncio").info("unheard")
        logging.getLogger("asyncio").warning("a library warns")
        logging.getLogger("syncer.engine.pool").debug("of our own")
        log.set_level("error")
        logging.getLogger("asyncio").warning("unheard")
        logging.getLogger("syncer.engine.pool").warning("unheard")

    assert [sentence(line) for line in stream.getvalue().splitlines()] == [
        "WARNING asyncio: a library warns",
        "DEBUG of our own",
    ]


def test_warnings_of_python_do_not_go_past_the_log():
    stream = io.StringIO()
    with logging_to(stream), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("odd", stacklevel=1)

    assert "UserWarning: odd" in stream.getvalue()


def test_untrusted_text_cannot_break_a_line_or_control_the_terminal():
    stream = io.StringIO()
    with logging_to(stream) as log:
        log.logger.error("x", message="it said \x1b[2J\r\nSynchronization finished, 0 tasks failed\x9b")
        log.logger.error("x", message="turned \u202e around, \u200b hidden")

    assert stream.getvalue().count("\n") == 2
    assert r"turned \u202e around, \u200b hidden" in stream.getvalue()
    assert r"\x1b[2J\x0d\x0aSynchronization" in stream.getvalue()


def test_a_traceback_stands_below_its_line():
    stream = io.StringIO()
    with logging_to(stream):
        try:
            raise KeyError("lost")
        except KeyError:
            logging.getLogger("syncer.engine").exception("went wrong")

    first, *rest = stream.getvalue().splitlines()
    assert sentence(first) == "ERROR went wrong"
    assert rest[0] == "    Traceback (most recent call last):"
    assert rest[-1] == "    KeyError: 'lost'"


def test_a_file_is_added_to_line_by_line(tmp_path):
    path = tmp_path / "syncer.log"
    path.write_text("before\n")
    stream = io.StringIO()
    with logging_to(stream, file=path) as log:
        log.logger.info("x", message="one")

        assert path.read_text().splitlines()[0] == "before"
        assert path.read_text().endswith("INFO    one\n")
    assert stream.getvalue() == ""


def test_a_file_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "missing" / "syncer.log"

    with pytest.raises(
        OSError, match=re.escape(f"the log file {path} cannot be opened for writing: No such file")
    ):
        configure_logging(level="info", format="text", file=path, stream=io.StringIO(), secrets=())


def test_a_log_that_cannot_be_written_any_more_stops_nothing():
    class Full(io.StringIO):
        def write(self, _text):
            raise OSError(28, "No space left on device")

    with logging_to(Full()) as log:
        log.logger.info("x", message="lost")


def test_a_closed_log_takes_itself_away():
    before = list(logging.getLogger().handlers)
    stream = io.StringIO()
    with logging_to(stream):
        pass
    logging.getLogger("syncer.x").error("late")

    assert logging.getLogger().handlers == before
    assert stream.getvalue() == ""


def test_observers_side_by_side_each_get_their_own_counts():
    first, second = io.StringIO(), io.StringIO()
    with logging_to(first) as one:
        Observers([LogObserver(one), LogObserver(one)]).notify(SYNCED)
    with logging_to(second) as two:
        LogObserver(two).notify(FINISHED)

    assert first.getvalue().count("synced quay.io") == 2
    assert "0 tasks failed" in second.getvalue()


def test_rich_is_not_loaded_for_a_log_without_bars():
    code = (
        "import io, sys; from syncer.observe.log_observer import LogObserver; from syncer.observe.logs import configure_logging;"
        "from syncer.observe.progress import open_progress\n"
        "with open_progress('auto', stream=io.StringIO(), log_format='text') as progress:\n"
        "    configure_logging(level='info', format='text', file=None, stream=progress, secrets=()).close()\n"
        "print('rich' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert shown.stdout == "False\n"
