"""Progress where there is no terminal: plain lines, or none; and which way is chosen."""

import io

import pytest

from syncer.events import (
    BlobProgress,
    BlobStarted,
    Failure,
    ImageFailed,
    ImageSkipped,
    RunFinished,
    RunStarted,
    SkipReason,
    TagsListed,
)
from syncer.observe.progress import open_progress
from syncer.observe.progress.plain import PlainProgress
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository
from tests.support.rules import numbered

BLOB = Digest.of(b"blob")
APP, MIRROR = Repository("quay.io", "acme/app"), Repository("harbor.local", "app")


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def image(tag):
    return Reference(APP, tag), Reference(MIRROR, tag)


def skipped(tag):
    source, destination = image(tag)
    return ImageSkipped(numbered(1), source, destination, BLOB, SkipReason.UP_TO_DATE)


def failed(tag):
    source, destination = image(tag)
    return ImageFailed(numbered(1), source, destination, Failure("not_found", "404"))


def test_a_line_comes_every_few_seconds_and_one_at_the_end():
    stream, clock = io.StringIO(), Clock()
    progress = PlainProgress(stream, clock)
    progress.notify(RunStarted("r", "cli", 1))
    progress.notify(TagsListed(numbered(1), APP, 60, 60))
    progress.notify(BlobStarted(BLOB, 10**9, APP, (MIRROR,)))
    for second in range(1, 13):
        clock.now = second
        progress.notify(BlobProgress(BLOB, 15_000_000))
        progress.notify(skipped(str(second)))
    progress.notify(failed("bad"))
    progress.notify(RunFinished("r", "cli", "partial", 12.0))

    assert stream.getvalue().splitlines() == [
        "4/60 images, 1 transfer, 75.0 MB at 15.0 MB/s",
        "9/60 images, 1 transfer, 150.0 MB at 15.0 MB/s",
        "13/60 images, 1 transfer, 180.0 MB at 15.0 MB/s, 1 failed",
    ]


def test_nothing_is_written_while_nothing_changes():
    stream, clock = io.StringIO(), Clock()
    progress = PlainProgress(stream, clock)
    progress.notify(RunStarted("r", "cli", 1))
    for second in range(6, 600, 6):
        clock.now = second
        progress.notify(TagsListed(numbered(1), APP, 60, 60))

    assert stream.getvalue() == "0/60 images, 0 B at 0 B/s\n"


def test_no_escape_codes_are_written_where_there_is_no_terminal():
    for kind in ("auto", "bar", "plain"):
        stream = io.StringIO()
        with open_progress(kind, stream=stream, log_format="text") as progress:
            progress.notify(RunStarted("r", "cli", 1))
            progress.notify(failed("1"))
            progress.notify(RunFinished("r", "cli", "failure", 1.0))
            assert not progress.draws

        assert stream.getvalue() == "1/1 images, 0 B at 0 B/s, 1 failed\n"


def test_none_shows_nothing_but_lets_the_log_pass():
    stream = Terminal()
    with open_progress("none", stream=stream, log_format="text") as progress:
        progress.notify(RunStarted("r", "cli", 1))
        progress.write("a line of the log\n")
        progress.notify(RunFinished("r", "cli", "success", 1.0))

    assert stream.getvalue() == "a line of the log\n"


@pytest.mark.parametrize(
    ("kind", "log_format", "term", "draws"),
    [
        ("auto", "text", "xterm-256color", True),
        ("bar", "text", "xterm-256color", True),
        ("bar", "json", "xterm-256color", True),
        ("auto", "json", "xterm-256color", False),
        ("plain", "text", "xterm-256color", False),
        ("none", "text", "xterm-256color", False),
        ("auto", "text", "dumb", False),
        ("bar", "text", "dumb", False),
        ("auto", "text", "", False),
    ],
)
def test_bars_are_drawn_only_on_a_terminal_that_can_and_for_a_log_that_people_read(
    kind, log_format, term, draws, monkeypatch
):
    monkeypatch.setenv("TERM", term)

    with open_progress(kind, stream=Terminal(), log_format=log_format) as progress:
        assert progress.draws is draws


def test_json_on_a_terminal_has_no_progress_among_its_lines(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with open_progress("auto", stream=stream, log_format="json") as progress:
        progress.notify(RunStarted("r", "cli", 1))
        progress.notify(RunFinished("r", "cli", "success", 1.0))

    assert stream.getvalue() == ""
