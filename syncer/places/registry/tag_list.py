"""Lists the tags of a repository page by page (distribution-spec 1.1, "Listing Tags")."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import quote

import msgspec

from syncer.errors import Attempt, RegistryError
from syncer.http.request import Answer
from syncer.oci.reference import is_tag
from syncer.places.registry.answers import invalid, is_refusal, refuse_web_page, unreadable
from syncer.places.registry.capabilities import PAGE_SIZES, Capabilities
from syncer.places.registry.link_header import InvalidLink, next_target

MAX_TAGS = 500_000
"""Tags of one repository. This many tags of 128 characters fit into 256 MB of memory."""
MAX_PAGE_BYTES = 64 * 1024 * 1024
"""Bytes of one response: `MAX_TAGS` tags of 128 characters, because some registries do not paginate."""
MAX_LAST = 200
"""Maximum characters of the entry that the next page is requested after."""
MAX_PAGES = 20_000
MAX_EMPTY_PAGES = 100
"""Consecutive pages without entries."""
ROUND = 10
"""Some registries truncate lists at a multiple of this number and send no `Link` header."""
CAP = 100
"""A list of a multiple of this number of tags may be truncated if the registry cannot continue it."""
_NOT_FOR_SIZE = frozenset({401, 404})
"""Error statuses that do not depend on the page size."""


_log = logging.getLogger(__name__)


class _Listing(msgspec.Struct):
    tags: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Page(msgspec.Struct, frozen=True):
    """One page. `entries` also counts entries that are not tags. `last` is the last entry that is a string.

    `link` is the target of the next page.
    """

    tags: list[str]
    entries: int
    last: str
    link: str | None


def _ignore(_reason: str) -> None:
    return


class TagList:
    """The tag list at `path`. `get` sends a GET request for a path and reads at most `MAX_PAGE_BYTES` bytes.

    `doubt` is called with the reason if the list ends where a registry may have truncated it.
    """

    def __init__(
        self,
        get: Callable[[str], Awaitable[Answer]],
        path: str,
        *,
        attempt: Attempt,
        capabilities: Capabilities,
        doubt: Callable[[str], None] = _ignore,
    ) -> None:
        self._get = get
        self._path = path
        self._attempt = attempt
        self._capabilities = capabilities
        self._doubt = doubt
        self._seen = 0
        self._empty = 0
        self._visited: set[str] = set()
        self._pages: set[int] = set()
        self._first_tags: set[str] = set()

    async def pages(self) -> AsyncIterator[list[str]]:
        """Yield all pages in order. Raise `RegistryError` if the list is incomplete."""
        page = await self._first()
        while True:
            self._check(page)
            yield page.tags
            if page.link is not None:
                page = await self._linked(page.link)
            elif self._may_be_truncated(page):
                following = await self._guessed(page)
                if following is None:
                    return
                page = following
            else:
                return

    def _may_be_truncated(self, page: _Page) -> bool:
        """Return whether the registry may have truncated the list after a page that has no link.

        A registry that sends more entries than requested does not paginate.
        """
        size = self._capabilities.page_size
        return bool(page.entries) and page.entries % ROUND == 0 and (size is None or page.entries <= size)

    async def _first(self) -> _Page:
        """Return the first page, with the largest page size that the registry accepts."""
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
            raise invalid("the links between the pages of the tag list form a loop", self._attempt)
        return await self._page(target)

    async def _guessed(self, page: _Page) -> _Page | None:
        """Return the page after one that has no link; None if no further page is found."""
        if not page.last:
            self._warn_of_end(page, "the last entries are no tags")
            return None
        try:
            following = await self._page(self._target(self._capabilities.page_size, page.last))
        except RegistryError as error:
            if not error.permanent:
                raise
            self._warn_of_end(page, str(error))
            return None
        # A registry without support for `last` returns the first page again: the list is complete.
        begins_anew = self._first_tags.intersection(following.tags[:1])
        if begins_anew and page.entries % CAP == 0:
            self._doubt(f"the registry sends no page after {page.entries} tags")
        return None if begins_anew or set(following.tags) <= set(page.tags) else following

    def _warn_of_end(self, page: _Page, reason: str) -> None:
        self._doubt(f"the page after {page.entries} tags cannot be requested: {reason}")
        _log.warning(
            "%s: a page of %d entries has no link, and the next page cannot be requested: %s",
            self._attempt.subject,
            page.entries,
            reason,
        )

    def _target(self, size: int | None, last: str = "") -> str:
        query = "&".join(
            [*([f"n={size}"] if size else ()), *([f"last={quote(last, safe='')}"] if last else ())]
        )
        return f"{self._path}?{query}" if query else self._path

    async def _page(self, target: str) -> _Page:
        self._visited.add(target)
        answer = await self._get(target)
        refuse_web_page(answer, self._attempt)
        try:
            listed = self._entries(answer.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise unreadable(f"the tag list cannot be parsed: {error}", answer, self._attempt) from error
        # Nexus lists null values, and JFrog lists digests. Objects would be tags in another format.
        if any(isinstance(entry, dict | list) for entry in listed):
            raise invalid("the entries of the tag list are no strings", self._attempt)
        texts = [entry for entry in listed if isinstance(entry, str)]
        tags = [text for text in texts if is_tag(text)]
        return _Page(tags, len(listed), texts[-1][:MAX_LAST] if texts else "", self._next(answer))

    def _entries(self, body: bytes) -> list[object]:
        listing = msgspec.json.decode(body, type=_Listing).tags
        if isinstance(listing, msgspec.UnsetType):
            # Some registries omit `tags` if a repository is empty. Any other document is not a tag list.
            if msgspec.json.decode(body, type=dict[str, object]).keys() == {"name"}:
                return []
            raise invalid("the tag list has no field `tags`", self._attempt)
        # Count before decoding: a decoded list of tiny entries needs a hundred times the memory of its JSON.
        if body.count(b",") > MAX_TAGS and bytes(listing).count(b",") > MAX_TAGS:
            raise self._too_many()
        return msgspec.json.decode(listing, type=list[object] | None) or []

    def _next(self, answer: Answer) -> str | None:
        """Return the path and query of the next page. The host of the link is ignored: the registry itself is used."""
        try:
            return next_target(answer.headers.get_list("link"), url=answer.url, same_list=self._path)
        except InvalidLink as error:
            raise invalid(
                f"the tag list has an invalid link to its next page: {error}", self._attempt
            ) from error

    def _check(self, page: _Page) -> None:
        """Raise `RegistryError` if the list is too long, or if a page repeats."""
        self._seen += len(page.tags)
        self._empty = 0 if page.entries else self._empty + 1
        if self._seen > MAX_TAGS:
            raise self._too_many()
        if len(self._visited) > MAX_PAGES or self._empty > MAX_EMPTY_PAGES:
            raise invalid(f"the tag list does not end: {len(self._visited)} pages", self._attempt)
        fingerprint = hash(tuple(page.tags))
        if page.tags and fingerprint in self._pages:
            raise invalid("the tag list contains a page twice", self._attempt)
        self._pages.add(fingerprint)
        self._first_tags.update(page.tags[:1])

    def _too_many(self) -> RegistryError:
        return invalid(f"the repository has more than {MAX_TAGS} tags", self._attempt)
