"""The content of the pages about images: one image with its history, and a search over the images of the last runs."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import anyio.to_thread
import msgspec

from syncer.daemon.rule_view import source_filter
from syncer.daemon.run_view import PER_PAGE, Reports, page_of, text_of
from syncer.daemon.service import Service
from syncer.observe.causes import parts_of
from syncer.rules.meeting import may_meet, outlines
from syncer.rules.rule import Rule
from syncer.state.history import Document, utc

MAX_RUNS = 20
"""Maximum number of runs in which an image is looked for."""
MAX_MOMENTS = 10
"""Maximum number of entries in the history of an image."""
MAX_REPORTS = 5
"""Maximum number of reports in which the search looks."""
MAX_FOUND = 2000
"""Maximum number of images that a search finds."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What became of an image in a run."""

    run: Document
    image: Document


@dataclass(frozen=True, slots=True)
class ImageView:
    """An image, by its destination. `since` is set if it is behind; `next` is when a rule that may write it runs next.

    `run` is the run in progress, if the image is behind and this run has not finished it. `removed` is the run that
    removed the tag, if no later run copied it again.
    """

    destination: str
    source: str
    since: str | None
    moments: Sequence[Moment]
    rules: Sequence[str]
    next: str | None
    run: str | None
    removed: Document | None

    @property
    def last(self) -> Moment | None:
        return self.moments[0] if self.moments else None


@dataclass(frozen=True, slots=True)
class Found:
    """One page of the images that a search found. `state` is `behind`, `failed` or empty; `cut` means that there are more."""

    text: str
    state: str
    page: int
    images: Sequence[Document] = ()
    found: int = 0
    cut: bool = False

    @property
    def pages(self) -> int:
        return max(1, -(-self.found // PER_PAGE))


@dataclass(slots=True)
class _Gathering:
    """Collects the newest state of each destination that `wanted` selects. Reports are read newest first.

    Older reports say nothing about the destinations in `removed`.
    """

    wanted: Callable[[Document], bool]
    images: dict[str, Document] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    cut: bool = False

    def see(self, image: Document) -> None:
        destination = image["destination"]
        if destination in self.images or destination in self.removed or not self.wanted(image):
            return
        if len(self.images) >= MAX_FOUND:
            self.cut = True
            return
        self.images[destination] = image


class Images:
    """Finds images in the reports of the last runs, and among those that are behind."""

    def __init__(self, service: Service, reports: Reports) -> None:
        self._service = service
        self._reports = reports

    async def view(self, destination: str) -> ImageView:
        """Return an image with its history. An unknown image has none. Raises `sqlite3.Error`."""
        destination = destination.strip()[:1000]
        moments: list[Moment] = []
        removed: Document | None = None
        for run in await self._runs(MAX_RUNS):
            found: list[Document] = []

            def see(image: Document, found: list[Document] = found) -> None:
                if image["destination"] == destination and len(found) < 2:
                    found.append(image)

            pruned = await self._read(run, see)
            if not moments and removed is None and destination in pruned:
                removed = run
            moments += (Moment(run, image) for image in found)
            if len(moments) >= MAX_MOMENTS:
                break
        since = self._service.lag.behind().get(destination)
        source = moments[0].image["source"] if moments else ""
        rules = self._rules_of(destination, source)
        times = self._service.timetable.next_times()
        due = [times[text] for rule in rules for text in self._service.schedules_of(rule) if text in times]
        current = self._service.runner.current
        is_over = (
            current is None or since is None or any(moment.run["id"] == current.id for moment in moments)
        )
        return ImageView(
            destination,
            source,
            None if since is None else utc(since),
            moments[:MAX_MOMENTS],
            list(dict.fromkeys(rule.name for rule in rules)),
            utc(min(due).timestamp()) if due else None,
            None if current is None or is_over else current.id,
            removed,
        )

    async def search(self, query: Mapping[str, str]) -> Found:
        """Return the images that match `q`, and `state` if it is `behind` or `failed`. Raises `sqlite3.Error`."""
        text, page = text_of(query), page_of(query)
        state = query.get("state", "")
        state = state if state in ("behind", "failed") else ""
        behind = self._service.lag.behind()
        wanted = text.lower()

        def matches(image: Document) -> bool:
            return wanted in f"{image['source']} {image['destination']} {image['digest'] or ''}".lower()

        gathering = _Gathering(matches)
        for run in await self._runs(MAX_REPORTS):
            gathering.removed |= await self._read(run, gathering.see)
        gathering.removed.clear()
        for name in behind:
            # Nothing is known about an image that was announced and not copied yet.
            gathering.see({"source": "", "destination": name, "digest": None, "outcome": "", "bytes": 0})
        images = [
            image | {"since": utc(behind[name]) if name in behind else None}
            for name, image in gathering.images.items()
            if state == "" or (name in behind if state == "behind" else image["outcome"] == "failed")
        ]
        images.sort(key=lambda image: (image["outcome"] != "failed", image["since"] is None))
        first = (page - 1) * PER_PAGE
        return Found(text, state, page, images[first : first + PER_PAGE], len(images), gathering.cut)

    async def _runs(self, number: int) -> list[Document]:
        """Return the newest runs, with that in progress."""
        history = self._service.history
        found = await anyio.to_thread.run_sync(history.summaries, number)
        return [msgspec.json.decode(text) for text in found]

    async def _read(self, run: Document, see: Callable[[Document], None]) -> set[str]:
        """Call `see` with each image of a run. Return the destinations of the tags that it removed."""
        try:
            report = await self._reports.read(run["id"], see)
        except (KeyError, sqlite3.Error):
            return set()  # The run was deleted, or has just finished and is not stored yet.
        return {tag["destination"] for tag in report["pruned"]}

    def _rules_of(self, destination: str, source: str) -> list[Rule]:
        """Return the rules that may write an image. Its source is empty if it is not known."""
        repository = parts_of(destination)[0]
        found = [rule for rule in self._service.files.config.rules if may_meet((repository,), outlines(rule))]
        if not source:
            return found
        return [rule for rule in found if source_filter([rule])({"source": source})]
