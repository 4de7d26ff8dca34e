"""Live bars, as they look on a terminal: what is on its screen after the program wrote to it."""

import io
import re
import threading
from contextlib import contextmanager

import pytest
from rich.console import Console

from syncer.events import (
    BlobProgress,
    BlobStarted,
    BytesMoved,
    Failure,
    ImageFailed,
    ImageSkipped,
    RoundStarted,
    RuleWarning,
    RunFinished,
    RunStarted,
    SkipReason,
    TagsListed,
)
from syncer.observe.log_observer import LogObserver
from syncer.observe.logs import configure_logging
from syncer.observe.progress import open_progress
from syncer.observe.progress.bars import BarProgress
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository
from tests.support.rules import numbered

APP, MIRROR = Repository("quay.io", "acme/app"), Repository("harbor.local", "mirror/app")
BLOBS = [Digest.of(bytes([number])) for number in range(40)]
NOT_FOUND = Failure(
    "not_found", "GET manifest quay.io/acme/app:9: 404 not found", "quay.io", 404, permanent=True
)
_ESCAPE = re.compile(r"\x1b\[(\??)(\d*)(?:;\d+)*([A-Za-z])")


class Screen(io.StringIO):
    """A terminal that knows what bars need: line ends, the cursor going up, and erasing. It wraps long lines."""

    encoding = "utf-8"

    def __init__(self, width=80, height=24):
        super().__init__()
        self.width = width
        self.height = height
        self.lines = [""]
        self.row = self.column = 0
        self.cursor = True
        self.gone = False
        self.raw = ""

    def isatty(self):
        return True

    def write(self, text):
        if self.gone:
            raise OSError(5, "Input/output error")
        self.raw += text
        place = 0
        while place < len(text):
            if match := _ESCAPE.match(text, place):
                self._obey(match[1] + match[3], match[2])
                place = match.end()
            else:
                self._put(text[place])
                place += 1
        return len(text)

    def _obey(self, code, number):
        if code == "A":
            self.row = max(self.row - int(number), 0, len(self.lines) - self.height)
        elif code == "K":
            self.lines[self.row] = "" if number == "2" else self.lines[self.row][: self.column]
        elif code == "J":
            self.lines[self.row] = self.lines[self.row][: self.column]
            del self.lines[self.row + 1 :]
        elif code in {"?h", "?l"}:
            self.cursor = code == "?h"
        else:
            assert code == "m", code

    def _put(self, character):
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self.row, self.column = self.row + 1, 0
        else:
            if self.column == self.width:
                self.row, self.column = self.row + 1, 0
                self._grow()
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
            self.column += 1
        self._grow()

    def _grow(self):
        while len(self.lines) <= self.row:
            self.lines.append("")

    @property
    def text(self):
        return "\n".join(line.rstrip() for line in self.lines).rstrip()


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Bench:
    """Bars on a screen, drawn when the test says so."""

    def __init__(self, width=80, height=24, **options):
        self.clock = Clock()
        self.screen = Screen(width, height)
        self.console = Console(
            **{
                "file": io.StringIO(),
                "width": width,
                "height": height,
                "force_terminal": True,
                "color_system": "standard",
                "highlight": False,
                "_environ": {},
                **options,
            }
        )
        self.progress = BarProgress(self.screen, console=self.console, clock=self.clock, ticking=False)

    def tell(self, *events):
        for event in events:
            self.progress.notify(event)

    def start(self, *events, rules=1):
        self.tell(RunStarted("r", "cli", rules), *events)

    def look(self):
        self.progress.draw()
        return self.screen.text

    def finish(self, outcome="success", seconds=12.0):
        self.tell(RunFinished("r", "cli", outcome, seconds))
        return self.screen.text


def image(tag):
    return Reference(APP, str(tag)), Reference(MIRROR, str(tag))


def skipped(tag):
    source, destination = image(tag)
    return ImageSkipped(numbered(1), source, destination, BLOBS[0], SkipReason.UP_TO_DATE)


def failed(tag, failure=NOT_FOUND):
    source, destination = image(tag)
    return ImageFailed(numbered(1), source, destination, failure)


def blob(number=0, size=10_000_000, source=APP):
    return BlobStarted(BLOBS[number], size, source, (MIRROR,))


def test_the_whole_run_and_each_transfer_have_a_line():
    bench = Bench()
    bench.start(TagsListed(numbered(1), APP, 20, 20), *(skipped(tag) for tag in range(10)), blob())
    bench.clock.now = 2.0
    bench.tell(BlobProgress(BLOBS[0], 5_000_000))

    assert bench.look().splitlines() == [
        "",
        f"  Syncing  {'━' * 27}╺{'━' * 26}  10/20 images",
        "  5.0 MB at 2.5 MB/s · 2 s",
        "",
        f"  {BLOBS[0].hex[:12]}  quay.io/acme/app  {'━' * 8}╸{'━' * 8}     5.0/10.0 MB    2.5 MB/s",
    ]


@pytest.mark.parametrize("width", [40, 41, 63, 64, 65, 80, 100, 160, 250])
def test_no_line_is_as_wide_as_the_window(width):
    bench = Bench(width)
    long = Repository("registry.of.a.long.name.example:5000", "team/with/many/parts/and-an-application")
    bench.start(
        TagsListed(numbered(1), APP, 99_999, 99_999), blob(0), blob(1, size=-1), blob(2, 999_999, long)
    )
    bench.clock.now = 7.0
    bench.tell(BlobProgress(BLOBS[0], 9_999_999), *(skipped(tag) for tag in range(5)), RoundStarted(1, 3))
    bench.tell(failed("9"))

    lines = bench.look().splitlines()

    assert max(map(len, lines[-6:])) < width
    assert sum(line.startswith("  ") for line in lines[-6:]) == 5


def test_in_a_narrow_window_the_end_of_a_name_and_a_share_are_left():
    bench = Bench(40)
    bench.start(blob(0, source=Repository("quay.io", "acme/web-app")), BlobProgress(BLOBS[0], 2_500_000))

    assert bench.look().splitlines()[-1] == f"  {BLOBS[0].hex[:7]}  …e/web-app  ━━╸━━━━━━━   25%"


def test_transfers_that_do_not_fit_the_height_are_counted():
    bench = Bench(height=12)
    bench.start(*(blob(number) for number in range(20)))

    lines = bench.look().splitlines()

    assert len(lines) < 12
    assert sum("acme/app" in line for line in lines) == 5
    assert lines[-1] == "  and 15 more"


def test_the_time_left_is_there_once_it_is_known():
    bench = Bench()
    bench.start(TagsListed(numbered(1), APP, 20, 20))
    for tag in range(10):
        bench.clock.now += 6.0
        bench.tell(skipped(tag))
        bench.look()

    assert "· 1m 00s, about 1m 00s left" in bench.look()


def test_failures_go_up_above_the_bars_and_stay():
    bench = Bench()
    bench.start(
        TagsListed(numbered(1), APP, 3, 3), failed(1), RuleWarning(numbered(2), "nothing is selected")
    )
    bench.look()
    bench.tell(failed(2))

    assert bench.look().splitlines()[:8] == [
        "✗ quay.io/acme/app:1 → harbor.local/mirror/app:1",
        "  GET manifest quay.io/acme/app:9: 404 not found",
        "! nothing is selected",
        "✗ quay.io/acme/app:2 → harbor.local/mirror/app:2",
        "  GET manifest quay.io/acme/app:9: 404 not found",
        "",
        f"  Syncing  {'━' * 37}╺{'━' * 18}  2/3 images",
        "  2 failed · 0 B at 0 B/s · 0 s",
    ]


@contextmanager
def log_through(progress, **options):
    log = configure_logging(
        **{"level": "info", "format": "text", "file": None, "stream": progress, "secrets": (), **options}
    )
    try:
        yield log
    finally:
        log.close()


def test_lines_of_the_log_and_bars_do_not_tear_each_other():
    bench = Bench()
    bench.start(blob())
    with log_through(bench.progress) as log:
        for number in range(30):
            log.logger.warning("x", message=f"line {number} {'long-' * 30}end")
            bench.look()
        bench.finish()

    logged = bench.screen.text.partition("✓")[0].replace("\n", "")
    assert re.findall(r"line (\d+) (?:long-)+end", logged) == [str(number) for number in range(30)]
    assert "Syncing" not in bench.screen.text


def test_the_closing_table_stands_before_the_logs_last_line():
    bench = Bench()
    with log_through(bench.progress) as log:
        observers = bench.progress, LogObserver(log, beside_bars=True)
        for event in (
            RunStarted("r", "cli", 1),
            skipped(1),
            BytesMoved("pulled", "quay.io", 24_000_000),
            failed(2),
            RunFinished("r", "cli", "partial", 12.0),
        ):
            for observer in observers:
                observer.notify(event)

    assert bench.screen.text.splitlines() == [
        "✗ quay.io/acme/app:2 → harbor.local/mirror/app:2",
        "  GET manifest quay.io/acme/app:9: 404 not found",
        "",
        "✗ Finished in 12 s: 1 image of 2 failed",
        "",
        "  Images  0 synced, 1 skipped, 1 failed",
        "  Blobs   0 copied, 0 mounted, 0 shared, 0 present",
        "  Bytes   24.0 MB pulled, 0 B pushed, 2.0 MB/s on average",
        "",
        "✗ quay.io/acme/app:2 → harbor.local/mirror/app:2",
        "  404 not found",
        "",
        "Synchronization finished, 1 tasks failed, cost 12s.",
    ]
    assert bench.screen.cursor


def test_at_the_end_the_first_failures_are_listed_and_the_others_counted():
    bench = Bench()
    bench.start(*(failed(tag) for tag in range(25)))

    ending = bench.finish("failure").partition("Finished")[2]

    assert ending.count("✗") == 10
    assert ending.endswith("  and 15 more, see the report")


def test_a_reason_that_is_too_long_for_the_closing_table_is_cut():
    bench = Bench(60)
    bench.start(failed(1, Failure("invalid", f"PUT manifest x: 400 {'bad ' * 30}; mend it")))

    text = bench.finish("failure")
    above, _, ending = text.partition("Finished")

    assert "mend it" in above
    assert ending.splitlines()[-1].startswith("  400 bad bad")
    assert ending.endswith("…")


def test_interrupted_images_are_counted_and_not_listed():
    interrupted = Failure("interrupted", "the run was stopped before this was done")
    bench = Bench()
    bench.start(failed(1), *(failed(tag, interrupted) for tag in range(2, 500)))

    text = bench.finish("interrupted")

    assert "! Stopped before the end in 12 s: 498 images not done" in text
    assert "was stopped before this" not in text
    assert text.count("✗ quay.io/acme/app:1 ") == 2
    assert "more, see the report" not in text


@pytest.mark.parametrize(
    ("dry_run", "first"),
    [
        (False, "✓ Finished in 12 s: every image is at its destination"),
        (True, "✓ Planned in 12 s: nothing was changed"),
    ],
)
def test_a_good_end_says_so(dry_run, first):
    bench = Bench()
    bench.tell(RunStarted("r", "cli", 1, dry_run=dry_run), skipped(1))

    text = bench.finish()

    assert first in text
    assert ("would be synced" in text) == dry_run


@pytest.mark.parametrize("width", [40, 60])
def test_the_closing_table_fits_a_narrow_window(width):
    bench = Bench(width)
    bench.start(failed(1))

    assert max(map(len, bench.finish("failure").splitlines())) <= width


def test_without_color_there_is_none():
    bench = Bench(no_color=True)
    bench.start(failed(1), blob())
    bench.progress.write("2026-11-21T03:00:00.000Z ERROR   it is red elsewhere\n")
    bench.look()
    bench.finish("failure")

    assert not re.search(r"\x1b\[(?:\d+;)*[34]\d", bench.screen.raw)
    assert "it is red elsewhere" in bench.screen.text


def test_a_terminal_that_has_only_ascii_gets_only_ascii():
    bench = Bench()
    bench.screen.encoding = "ascii"
    bench.progress = BarProgress(bench.screen, console=bench.console, clock=bench.clock, ticking=False)
    bench.start(failed(1), blob())
    bench.look()
    bench.finish("failure")

    assert bench.screen.raw.isascii()


def test_a_registrys_words_cannot_steer_the_terminal():
    bench = Bench()
    bench.start(failed(1, Failure("invalid", "400 \x1b[2J\x1b]0;title\x07 [red]markup[/red]")))
    bench.look()

    text = bench.finish("failure")

    assert "\x1b[2J" not in bench.screen.raw
    assert "\x07" not in bench.screen.raw
    assert "[red]markup[/red]" in text


def test_secrets_are_masked_in_failures_too():
    bench = Bench()
    with log_through(bench.progress, secrets=["pa$$w(rd"]):
        bench.start(
            failed(1, Failure("invalid", "400: no user pa$$w(rd")), RuleWarning(numbered(1), "Bearer abc")
        )
        bench.look()
        bench.finish("failure")

    assert "no user ***" in bench.screen.text
    assert "w(rd" not in bench.screen.raw
    assert "abc" not in bench.screen.raw


def test_json_lines_pass_through_bars_as_they_are():
    bench = Bench(40)
    bench.start(blob())
    line = '{"timestamp": "2026-11-21T03:00:00.000Z", "message": "longer than forty columns"}\n'
    bench.progress.write(line)
    bench.look()

    assert line in bench.screen.raw


def test_a_run_that_breaks_off_leaves_the_terminal_as_it_was(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()

    def run():
        with open_progress("auto", stream=screen, log_format="text") as progress:
            progress.notify(RunStarted("r", "cli", 1))
            progress.write("the last words\n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()

    assert screen.text == "the last words"
    assert screen.cursor
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]


def test_what_is_written_before_and_after_a_run_appears_at_once():
    bench = Bench()
    bench.progress.write("before\n")
    assert bench.screen.text == "before"

    bench.start()
    bench.finish()
    bench.progress.write("after\n")
    assert bench.screen.text.endswith("after")


def test_a_terminal_that_goes_away_does_not_stop_the_run():
    bench = Bench()
    bench.start(blob())
    bench.look()
    bench.screen.gone = True

    bench.progress.draw()
    bench.tell(failed(1), RunFinished("r", "cli", "failure", 1.0))


def test_a_thousand_images_cost_no_more_to_draw_than_ten():
    def length(images):
        bench = Bench()
        bench.start(
            TagsListed(numbered(1), APP, images, images), *(skipped(tag) for tag in range(images)), blob()
        )
        bench.look()
        return len(bench.screen.raw)

    assert length(1000) <= length(10) + 10
