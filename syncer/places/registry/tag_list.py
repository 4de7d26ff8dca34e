"""The tags of a repository, page by page (distribution-spec, "Listing Tags")."""

from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urljoin, urlsplit

import msgspec

from syncer.errors import Attempt, RegistryError
from syncer.http.request import Answer
from syncer.oci.reference import is_tag
from syncer.places.registry.answers import invalid, is_refusal, refuse_web_page, unreadable
from syncer.places.registry.capabilities import PAGE_SIZES, Capabilities
from syncer.places.registry.link_header import next_link

MAX_TAGS = 500_000
"""Of one repository: so many are held in 256 MB of memory, however long they are."""
MAX_PAGE_BYTES = 64 * 1024 * 1024
"""Of one answer: room for `MAX_TAGS` tags of 128 characters, since some registries know no pages."""
MAX_PAGES = 20_000
MAX_EMPTY_PAGES = 100
"""In a row."""
ROUND = 100
"""Some registries cut lists at a multiple of this, without a link."""
_NOT_FOR_SIZE = frozenset({401, 404})
"""Refusals that are not about the number of tags on a page."""


class _Listing(msgspec.Struct):
    tags: msgspec.Raw = msgspec.Raw(b"null")


class _Page(msgspec.Struct, frozen=True):
    """One page. `entries` counts what is no tag, too; `link` leads to the next one."""

    tags: list[str]
    entries: int
    link: str | None


class TagList:
    """The list at `path`. `get` sends a GET for a path of the registry and reads at most `MAX_PAGE_BYTES`."""

    def __init__(
        self,
        get: Callable[[str], Awaitable[Answer]],
        path: str,
        *,
        attempt: Attempt,
        capabilities: Capabilities,
    ) -> None:
        self._get = get
        self._path = path
        self._attempt = attempt
        self._capabilities = capabilities
        self._seen = 0
        self._empty = 0
        self._visited: set[str] = set()
        self._pages: set[int] = set()
        self._first_tags: set[str] = set()

    async def pages(self) -> AsyncIterator[list[str]]:
        """All pages in order. Raises `RegistryError` rather than end before the list does."""
        page = await self._first()
        while True:
            self._check(page)
            yield page.tags
            if page.link is not None:
                page = await self._linked(page.link)
            elif page.tags and page.entries % ROUND == 0:
                # A round number may be where a registry cuts that sends no links.
                following = await self._guessed(page.tags[-1])
                if following is None:
                    return
                page = following
            else:
                return

    async def _first(self) -> _Page:
        """The first page: of as many tags as the registry lets one ask for."""
        sizes = PAGE_SIZES[PAGE_SIZES.index(self._capabilities.page_size) :]
        for size in sizes[:-1]:
            try:
                page = await self._page(self._target(size))
            except RegistryError as error:
                if not is_refusal(error, "tags") or error.status in _NOT_FOR_SIZE:
                    raise
            else:
                self._capabilities.page_size = size
                return page
        page = await self._page(self._target(sizes[-1]))
        self._capabilities.page_size = sizes[-1]
        return page

    async def _linked(self, target: str) -> _Page:
        if target in self._visited:
            raise invalid("the pages of the list of tags go in a circle", self._attempt)
        return await self._page(target)

    async def _guessed(self, last: str) -> _Page | None:
        """The page behind a tag, without a link to it. None if the list has no further page."""
        try:
            page = await self._page(self._target(self._capabilities.page_size, last))
        except RegistryError as error:
            if error.permanent:
                return None
            raise
        # A registry that knows no `last` begins anew: that was all.
        return None if self._first_tags.intersection(page.tags[:1]) else page

    def _target(self, size: int | None, last: str = "") -> str:
        query = "&".join([*([f"n={size}"] if size else ()), *([f"last={last}"] if last else ())])
        return f"{self._path}?{query}" if query else self._path

    async def _page(self, target: str) -> _Page:
        self._visited.add(target)
        answer = await self._get(target)
        refuse_web_page(answer, self._attempt)
        try:
            listed = self._entries(answer.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise unreadable(f"the list of tags cannot be read: {error}", answer, self._attempt) from error
        # Nexus lists nulls, JFrog digests.
        tags = [tag for tag in listed if isinstance(tag, str) and is_tag(tag)]
        return _Page(tags, len(listed), self._next(answer))

    def _entries(self, body: bytes) -> list[object]:
        listing = msgspec.json.decode(body, type=_Listing).tags
        # Counted before they are made: a list of nothing much takes a hundred times its room.
        if body.count(b",") > MAX_TAGS and bytes(listing).count(b",") > MAX_TAGS:
            raise self._too_many()
        return msgspec.json.decode(listing, type=list[object] | None) or []

    def _next(self, answer: Answer) -> str | None:
        """The path and the query of the next page: whatever host a link names, the registry itself is asked."""
        try:
            link = next_link(answer.headers.get_list("link"), same_list=self._path)
            if link is None:
                return None
            parts = urlsplit(urljoin(answer.url, link))
        except ValueError as error:
            raise invalid(
                f"the list of tags goes on, and where is not clear: {error}", self._attempt
            ) from error
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        if not target.startswith("/") or not (target.isascii() and target.isprintable()) or " " in target:
            raise invalid(f"the list of tags goes on at an impossible address: {link[:200]!r}", self._attempt)
        return target

    def _check(self, page: _Page) -> None:
        """Raise where a list does not end, or does not get further."""
        self._seen += len(page.tags)
        self._empty = 0 if page.entries else self._empty + 1
        if self._seen > MAX_TAGS:
            raise self._too_many()
        if len(self._visited) > MAX_PAGES or self._empty > MAX_EMPTY_PAGES:
            raise invalid(f"the list of tags does not end: {len(self._visited)} pages", self._attempt)
        fingerprint = hash(tuple(page.tags))
        if page.tags and fingerprint in self._pages:
            raise invalid("the list of tags has one page twice", self._attempt)
        self._pages.add(fingerprint)
        self._first_tags.update(page.tags[:1])

    def _too_many(self) -> RegistryError:
        return invalid(f"more than {MAX_TAGS} tags", self._attempt)
