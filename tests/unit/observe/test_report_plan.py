"""The table of a plan, on a terminal and elsewhere."""

import re
from typing import Any

import msgspec
import pytest

from syncer.events import (
    BlobCounts,
    Failure,
    ImageFailed,
    ImageSkipped,
    ImageSynced,
    IndexFiltered,
    RunStarted,
    SkipReason,
    TagsListed,
)
from syncer.observe import plan_table
from syncer.observe.plan_table import render_plan
from syncer.observe.report import ReportObserver
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository
from syncer.rules.tag_filter import Step
from tests.support.rules import numbered

OLD, NEW = Digest.of(b"old"), Digest.of(b"new")
LONG = "registry.internal.example.com:5000/platform/team-with-a-long-name/service"


def synced(name: str, destination: str = "", **fields) -> ImageSynced:
    defaults = {"previous": None, "nbytes": 0, "blobs": BlobCounts()}
    return ImageSynced(
        rule=numbered(0),
        source=Reference.parse(f"q.io/{name}"),
        destination=Reference.parse(destination or f"d.io/{name}"),
        digest=NEW,
        seconds=0.1,
        **(defaults | fields),
    )


def failed(name: str, kind: str, message: str, status: int | None) -> ImageFailed:
    source, destination = Reference.parse(f"q.io/{name}"), Reference.parse(f"d.io/{name}")
    return ImageFailed(numbered(0), source, destination, Failure(kind, message, "q.io", status))


def skipped(name: str, reason: SkipReason) -> ImageSkipped:
    return ImageSkipped(
        numbered(0), Reference.parse(f"q.io/{name}"), Reference.parse(f"d.io/{name}"), NEW, reason
    )


EVENTS = (
    synced("a:1", nbytes=180_240_000, blobs=BlobCounts(copied=3, mounted=1, present=1, shared=2)),
    synced("a:2", previous=OLD, nbytes=12),
    synced("a:3", previous=NEW),
    skipped("a:4", SkipReason.UP_TO_DATE),
    skipped("a:5", SkipReason.NO_PLATFORM),
    failed("a:6", "conflict", "another rule already writes q.io/b:6 there", None),
    failed("a:7", "not_found", "HEAD manifest q.io/a:7: 404 not found", 404),
    IndexFiltered(numbered(0), Reference.parse("q.io/a:8"), OLD, NEW, ("linux/arm64",), ("linux/amd64",)),
    synced("a:8"),
)


def document_of(*events: object) -> Any:
    observer = ReportObserver()
    for event in (RunStarted("1", "cli", 1, dry_run=True), *events):
        observer.notify(event)
    return msgspec.json.decode(msgspec.json.encode(observer.document()))


def test_each_image_is_one_line_with_what_would_happen_and_why():
    change = f"sha256:{OLD.hex[:12]} -> sha256:{NEW.hex[:12]}"
    *lines, images, blobs = render_plan(document_of(*EVENTS))
    assert lines == [
        "action      copy  mount  there     bytes  image",
        "copy           3      1      3  180.2 MB  q.io/a:1 -> d.io/a:1",
        f"replace        0      0      0      12 B  q.io/a:2 -> d.io/a:2; {change}",
        "replace        0      0      0       0 B  q.io/a:3 -> d.io/a:3; forced",
        "up to date     0      0      0       0 B  q.io/a:4 -> d.io/a:4",
        "skipped        0      0      0       0 B  q.io/a:5 -> d.io/a:5; no platform matches the filter",
        "conflict       0      0      0       0 B  q.io/a:6 -> d.io/a:6; another rule already writes q.io/b:6 there",
        "failed         0      0      0       0 B  q.io/a:7 -> d.io/a:7; HEAD manifest q.io/a:7: 404 not found",
        "copy           0      0      0       0 B  q.io/a:8 -> d.io/a:8; keeps linux/arm64, drops linux/amd64",
    ]
    assert images == ("8 images: 2 to copy, 2 to replace, 1 up to date, 1 skipped, 1 in conflict, 1 failed")
    assert blobs == "3 blobs to copy, 1 to mount, 3 already there; 180.2 MB to push"


def test_kept_and_immutable_tags_have_actions_of_their_own():
    kept = msgspec.structs.replace(skipped("a:1", SkipReason.KEPT), digest=OLD, wanted=NEW)
    immutable = msgspec.structs.replace(skipped("a:2", SkipReason.IMMUTABLE), digest=None)
    observer = ReportObserver()
    for event in (RunStarted("1", "cli", 1, dry_run=True), kept, immutable):
        observer.notify(event)
    lines = list(render_plan(observer.plan()))
    assert lines[1].split()[0] == "drift"
    assert str(NEW) in lines[1]
    assert lines[2].split()[0] == "immutable"
    assert "1 drift, 1 immutable" in lines[3]


def test_a_plan_of_nothing_is_its_totals():
    nothing = ["0 images", "0 blobs to copy, 0 to mount, 0 already there; 0 B to push"]
    for styled in (True, False):
        assert list(render_plan(document_of(), styled=styled)) == nothing


def visible(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


@pytest.mark.parametrize("width", [60, 80, 160])
def test_a_terminal_gets_colours_and_no_line_that_is_too_wide(width):
    long = synced("a:9", f"{LONG}:1.2.3")
    *table, _images, _blobs = render_plan(document_of(*EVENTS, long), width=width, styled=True)
    shown = [visible(line) for line in table]
    assert "\x1b[" in "".join(table)
    assert max(map(len, shown)) <= width
    words = "".join("".join(shown).split())
    assert f"{LONG}:1.2.3" in words
    assert "404notfound" in words


def test_no_color_is_heeded(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in "".join(render_plan(document_of(*EVENTS), styled=True))


def test_names_are_never_taken_for_markup():
    text = "".join(render_plan(document_of(failed("a:1", "invalid", "[red]x[/]", 400)), styled=True))
    assert "[red]x[/]" in visible(text)


def test_a_long_plan_is_plain_lines(monkeypatch):
    monkeypatch.setattr(plan_table, "MAX_DRAWN", 1)
    lines = list(render_plan(document_of(*EVENTS), styled=True))
    assert len(lines) == len(EVENTS) + 2
    assert "\x1b" not in "".join(lines)


def test_plan_shows_what_each_step_of_a_selection_left():
    steps = (Step("include", 310), Step("semver", 96), Step("latest", 5))
    listed = TagsListed(numbered(0), Repository("q.io", "a"), 1204, 5, steps)
    report = ReportObserver()
    for event in (
        RunStarted("r", "cli", 1, dry_run=True),
        *EVENTS,
        listed,
        TagsListed(numbered(1), Repository("q.io", "b"), 7, 7),
    ):
        report.notify(event)
    lines = list(render_plan(report.plan()))
    assert [line for line in lines if "tags" in line] == [
        "q.io/a: 1,204 tags → include 310 → semver 96 → latest 5"
    ]
