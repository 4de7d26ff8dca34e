"""Follows the pages of a list of repositories, within bounds. How a page is read is left to each API."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from syncer.errors import Attempt, Kind, RegistryError
from syncer.http.request import Answer
from syncer.oci.reference import is_path
from syncer.places.content import RepositoryListing
from syncer.places.registry.answers import invalid, refuse_web_page, unreadable

MAX_REPOSITORIES = 1_000_000
MAX_PAGES = 20_000
MAX_EMPTY_PAGES = 100
"""Consecutive pages without entries."""
MAX_PAGE_BYTES = 64 * 1024 * 1024
"""Bytes of one response: some registries do not paginate `_catalog`."""

_log = logging.getLogger(__name__)

Get = Callable[[str], Awaitable[Answer]]
"""Sends a GET request for a path with a query, and reads at most `MAX_PAGE_BYTES`."""


class Page(msgspec.Struct, frozen=True):
    """One page: paths of repositories, the path and query of the next page, and how many repositories there are in all.

    `entries` also counts what is no repository name. If `guessed`, the answer named no next page, and there may be none.
    """

    paths: list[str]
    entries: int
    following: str | None
    total: int | None = None
    guessed: bool = False


class PagedListing(RepositoryListing):
    """The list of repositories that begins at `first`. `read` makes a page of an answer, or raises `RegistryError`.

    `refused` makes the error that a user sees of one that a request raised: it adds what is not permitted, and advice.
    """

    def __init__(
        self,
        method: str,
        get: Get,
        first: str,
        *,
        read: Callable[[Answer], Page],
        attempt: Attempt,
        refused: Callable[[RegistryError], RegistryError],
        warning: str = "",
    ) -> None:
        self.method = method
        self._get = get
        self._first = first
        self._read = read
        self._attempt = attempt
        self._refused = refused
        self._warning = warning

    @property
    def warning(self) -> str:
        return self._warning

    async def pages(self) -> AsyncIterator[list[str]]:
        visited: set[str] = set()
        seen: set[int] = set()
        empty = invalid_names = 0
        target: str | None = self._first
        total: int | None = None
        guessed = False
        while target is not None:
            if target in visited:
                raise invalid("the pages of the list of repositories form a loop", self._attempt)
            visited.add(target)
            page = await self._page(target)
            if guessed and seen.issuperset(map(hash, page.paths)):
                return  # the end, or a registry that answers with its first page again
            seen.update(map(hash, page.paths))
            empty = 0 if page.entries else empty + 1
            if len(seen) > MAX_REPOSITORIES:
                raise invalid(f"the list has more than {MAX_REPOSITORIES:,} repositories", self._attempt)
            if len(visited) > MAX_PAGES or empty > MAX_EMPTY_PAGES:
                raise invalid(f"the list of repositories does not end: {len(visited)} pages", self._attempt)
            names = [path for path in page.paths if is_path(path)]
            invalid_names += len(page.paths) - len(names)
            total, target, guessed = page.total, page.following, page.guessed
            yield names
        if invalid_names:
            _log.warning(
                "%s: %d entries are no repository names, and are left out",
                self._attempt.subject,
                invalid_names,
            )
        if total is not None and len(seen) < total:
            raise RegistryError(
                Kind.INVALID,
                f"the list is incomplete: {len(seen):,} of {total:,} repositories",
                attempt=self._attempt,
                permanent=False,
                advice="the list may have changed while it was read: run again",
            )

    async def _page(self, target: str) -> Page:
        try:
            answer = await self._get(target)
        except RegistryError as error:
            raise self._refused(error) from error
        refuse_web_page(answer, self._attempt)
        try:
            return self._read(answer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise unreadable(
                f"the list of repositories cannot be parsed: {error}", answer, self._attempt
            ) from error
