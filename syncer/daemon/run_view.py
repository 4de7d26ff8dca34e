"""The content of the page of a run: summary, causes of failures, and the images that match a search.

A report may have a hundred thousand images. A worker thread reads it once, in parts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import anyio
import anyio.to_thread

from syncer.daemon.packing import read_report
from syncer.daemon.service import Service
from syncer.observe.causes import Causes
from syncer.observe.report import OUTCOMES
from syncer.state.history import Document

PER_PAGE = 100
_MAX_TEXT = 200
_MAX_PAGES = 10**6


@dataclass(frozen=True, slots=True)
class Search:
    """A search for images: an outcome (empty: any), a text in names, digests and messages, a page number from 1."""

    outcome: str = ""
    text: str = ""
    page: int = 1

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Search":
        """Return the search of a query string. Invalid values are ignored."""
        outcome = query.get("outcome", "")
        return cls(outcome if outcome in OUTCOMES else "", text_of(query), page_of(query))

    def matches(self, image: Document) -> bool:
        if self.outcome and image["outcome"] != self.outcome:
            return False
        wanted = self.text.lower()
        return not wanted or any(wanted in text.lower() for text in _texts(image))


@dataclass(slots=True)
class RunView:
    """A run, and one page of the `found` images that match `search`."""

    search: Search
    run: Document = field(default_factory=dict)
    causes: Causes = field(default_factory=Causes)
    images: list[Document] = field(default_factory=list)
    found: int = 0

    @property
    def pages(self) -> int:
        return max(1, -(-self.found // PER_PAGE))

    @property
    def first(self) -> int:
        """The number of the first image on the page, counted from 1."""
        return (self.search.page - 1) * PER_PAGE + 1

    def see(self, image: Document) -> None:
        """Add an image of the report."""
        self.causes.see(image)
        if self.search.matches(image):
            self.found += 1
            if self.first <= self.found < self.first + PER_PAGE:
                self.images.append(image)


class Reports:
    """Reads reports, one at a time."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._one_at_a_time = anyio.CapacityLimiter(1)

    async def view(self, run_id: str, search: Search) -> RunView:
        """Return a run, finished or in progress. Raises `KeyError` if there is no such run, and `sqlite3.Error`."""
        view = RunView(search)
        view.run = await self.read(run_id, view.see)
        return view

    async def read(self, run_id: str, see: Callable[[Document], None]) -> Document:
        """Call `see` with each image of the run, in a thread. Raises the same as `view`.

        Return the run with its totals, and under `pruned` the tags that it removed.
        """
        return await anyio.to_thread.run_sync(self._read, run_id, see, limiter=self._one_at_a_time)

    def _read(self, run_id: str, see: Callable[[Document], None]) -> Document:
        current = self._service.runner.current
        if current is not None and current.id == run_id:
            for image in current.report.ended():
                see(image)
            run = current.report.run() | {"id": run_id, "trigger": current.trigger}
            return {"pruned": []} | run | current.report.end()
        packed = self._service.history.report(run_id)
        if packed is None:
            raise KeyError(run_id)
        document = read_report(packed, see)
        return {**document.pop("run"), "pruned": [], **document}


def text_of(query: Mapping[str, str]) -> str:
    """Return the search text of a query."""
    return query.get("q", "").strip()[:_MAX_TEXT]


def page_of(query: Mapping[str, str]) -> int:
    """Return the page number of a query, counted from 1."""
    text = query.get("page", "")
    return max(1, min(int(text), _MAX_PAGES)) if text.isascii() and text.isdigit() and len(text) < 8 else 1


def _texts(image: Document) -> list[str]:
    return [
        image["source"],
        image["destination"],
        image["digest"] or "",
        image.get("reason", ""),
        image.get("error", {}).get("message", ""),
    ]
