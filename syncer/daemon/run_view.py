"""One run as its page shows it: summary, the causes of its failures, and those of its images that somebody looks for.

A report may have a hundred thousand images: it is gone through once, piece by piece, in a thread of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import anyio
import anyio.to_thread

from syncer.daemon.causes import Causes
from syncer.daemon.packing import read_report
from syncer.daemon.runs import summary_of
from syncer.daemon.service import Service
from syncer.observe.report import OUTCOMES
from syncer.state.history import Document

PER_PAGE = 100
_MAX_TEXT = 200
_MAX_PAGES = 10**6


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for: an outcome of images (empty: any), a text in names, digests and messages, a page from 1."""

    outcome: str = ""
    text: str = ""
    page: int = 1

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Search":
        """As the page's own address has it. Nonsense counts as nothing."""
        outcome = query.get("outcome", "")
        return cls(outcome if outcome in OUTCOMES else "", text_of(query), page_of(query))

    def fits(self, image: Document) -> bool:
        if self.outcome and image["outcome"] != self.outcome:
            return False
        wanted = self.text.lower()
        return not wanted or any(wanted in text.lower() for text in _texts(image))


@dataclass(slots=True)
class RunView:
    """A run, and a page of the images that fit `search`: `found` of them in all."""

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
        """The number of the first image on the page, from 1."""
        return (self.search.page - 1) * PER_PAGE + 1

    def see(self, image: Document) -> None:
        """Take an image of the report."""
        self.causes.see(image)
        if self.search.fits(image):
            self.found += 1
            if self.first <= self.found < self.first + PER_PAGE:
                self.images.append(image)


class Reports:
    """Reads reports, one at a time however many ask."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._one_at_a_time = anyio.CapacityLimiter(1)

    async def view(self, run_id: str, search: Search) -> RunView:
        """The run of that id, over or not. Raises `KeyError` for one that is not known, and `sqlite3.Error`."""
        view = RunView(search)
        view.run = await self.read(run_id, view.see)
        return view

    async def read(self, run_id: str, see: Callable[[Document], None]) -> Document:
        """Show each image of the run to `see`, in a thread. The run with its totals; raises as `view`."""
        return await anyio.to_thread.run_sync(self._read, run_id, see, limiter=self._one_at_a_time)

    def _read(self, run_id: str, see: Callable[[Document], None]) -> Document:
        current = self._service.runner.current
        if current is not None and current.id == run_id:
            for image in current.report.ended():
                see(image)
            return summary_of(current.report) | {"id": run_id, "trigger": current.trigger}
        packed = self._service.history.report(run_id)
        if packed is None:
            raise KeyError(run_id)
        document = read_report(packed, see)
        return {**document["run"], "totals": document["totals"]}


def text_of(query: Mapping[str, str]) -> str:
    """The text that a query looks for."""
    return query.get("q", "").strip()[:_MAX_TEXT]


def page_of(query: Mapping[str, str]) -> int:
    """The number of a page in a query, from 1."""
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
