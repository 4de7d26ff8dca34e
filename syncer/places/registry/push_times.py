"""When tags were pushed, from the APIs of Harbor, Docker Hub and Quay.

- Harbor: `GET /api/v2.0/projects/{project}/repositories/{repository}/artifacts` of its API 2.0 ("listArtifacts").
- Docker Hub: `GET /v2/repositories/{namespace}/{repository}/tags` at hub.docker.com ("List repository tags").
- Quay: `GET /api/v1/repository/{namespace}/{repository}/tag/` ("listRepoTags").

All of them list the tags that were pushed last first, as long as nothing else is asked for.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import quote

import msgspec

from syncer.errors import Attempt, RegistryError
from syncer.http.client import RegistryClient
from syncer.http.failures import is_html
from syncer.http.request import REDIRECTS, Answer
from syncer.oci.reference import DOCKER_HUB, Repository
from syncer.places.registry.answers import invalid
from syncer.places.registry.capabilities import Capabilities

HUB_API = "hub.docker.com"
QUAY = "quay.io"
PAGE_SIZE = 100
"""The most that all three APIs return."""
MAX_PAGES = 5_000

_NO_SUCH_API = REDIRECTS | {400, 404, 405, 406, 410, 415, 422, 501}
_REFUSED = _NO_SUCH_API | {401, 403}
"""The registry has no such API, or the account may not use it."""

Page = tuple[dict[str, float], bool]
"""Push times by tag, and whether further pages follow."""
T = TypeVar("T")


def api_host(host: str) -> str:
    """Return the host of a registry's API."""
    return HUB_API if host == DOCKER_HUB else host


class _HarborTag(msgspec.Struct):
    name: str
    push_time: str | None = None


class _HarborArtifact(msgspec.Struct):
    tags: list[_HarborTag] | None = None


class _HubTag(msgspec.Struct):
    name: str
    tag_last_pushed: str | None = None


class _HubPage(msgspec.Struct):
    results: list[_HubTag]
    next: str | None = None


class _QuayTag(msgspec.Struct):
    name: str
    start_ts: float | None = None


class _QuayPage(msgspec.Struct):
    tags: list[_QuayTag]
    has_additional: bool = False


class _NotProvided(Exception):
    """The registry does not tell. `lasting` is whether this holds for all of its repositories."""

    def __init__(self, *, lasting: bool) -> None:
        super().__init__()
        self.lasting = lasting


class PushTimes:
    """The push times of one repository's tags. Pages are requested until all tags that are asked for were seen.

    `client` has the account and is only used for Harbor, which is the registry itself. `anonymous` opens a client for
    `api_host` that sends no credentials.
    """

    def __init__(
        self,
        name: Repository,
        *,
        client: RegistryClient,
        anonymous: Callable[[], RegistryClient],
        capabilities: Capabilities,
    ) -> None:
        self._name = name
        self._client = client
        self._anonymous = anonymous
        self._capabilities = capabilities
        self._provided = True
        self._found: dict[str, float] = {}
        self._read: Callable[[int], Awaitable[Page]] | None = None
        self._pages = 0
        self._more = True

    async def of(self, tags: Collection[str]) -> Mapping[str, float]:
        """Return the push times of `tags`, in seconds since the epoch; none if the registry does not tell them.

        Raises `RegistryError` if the registry may tell them later: another time would select other tags.
        """
        while self._provided and self._more and any(tag not in self._found for tag in tags):
            await self._next()
        return {tag: self._found[tag] for tag in tags if tag in self._found}

    async def _next(self) -> None:
        """Read the next page, and on the first one find out which API there is."""
        if self._read is None:
            try:
                self._read, (times, self._more) = await self._first()
            except _NotProvided:
                self._provided = False
                return
        else:
            if self._pages >= MAX_PAGES:
                raise invalid(f"the list of push times does not end: {MAX_PAGES} pages", self._attempt())
            try:
                times, self._more = await self._read(self._pages + 1)
            except _NotProvided as refused:
                raise invalid("a page of the list of push times is missing", self._attempt()) from refused
        self._pages += 1
        # A tag may move between two pages: the page that was read first is newer.
        self._found = times | self._found

    async def _first(self) -> tuple[Callable[[int], Awaitable[Page]], Page]:
        """Return the API that answers, and its first page. Raises `_NotProvided`, `RegistryError`."""
        if not self._capabilities.push_times:
            raise _NotProvided(lasting=True)
        # A name with one component cannot be in Harbor or Quay: it says nothing of the registry.
        lasting = "/" in self._name.path
        for read in self._apis():
            try:
                return read, await read(1)
            except _NotProvided as refused:
                lasting = refused.lasting
            if not lasting:
                # This is the API of the registry, and the account may not use it.
                break
        self._capabilities.push_times = not lasting
        raise _NotProvided(lasting=lasting)

    def _apis(self) -> Iterator[Callable[[int], Awaitable[Page]]]:
        if self._name.host == DOCKER_HUB:
            yield self._hub
            return
        if "/" not in self._name.path:
            return
        if self._name.host != QUAY:
            yield self._harbor
        yield self._quay

    async def _harbor(self, page: int) -> Page:
        project, _, repository = self._name.path.partition("/")
        # Harbor decodes the name twice.
        encoded = quote(quote(repository, safe=""), safe="")
        target = (
            f"/api/v2.0/projects/{quote(project, safe='')}/repositories/{encoded}/artifacts"
            f"?with_tag=true&page_size={PAGE_SIZE}&page={page}"
        )
        credentials = await self._client.basic()
        client = self._client if credentials else self._anonymous()
        read = await self._get(client, target, list[_HarborArtifact], credentials)
        times = {
            tag.name: time
            for artifact in read
            for tag in artifact.tags or ()
            if (time := _seconds(tag.push_time)) is not None
        }
        return times, len(read) >= PAGE_SIZE

    async def _hub(self, page: int) -> Page:
        target = f"/v2/repositories/{quote(self._name.path)}/tags?page_size={PAGE_SIZE}&page={page}"
        try:
            read = await self._get(self._anonymous(), target, _HubPage)
        except RegistryError as error:
            if error.status is None and not error.advice:
                raise error.with_changes(
                    advice=f"ages of images at Docker Hub are read from {HUB_API}: allow access to it"
                ) from error
            raise
        return _times((tag.name, _seconds(tag.tag_last_pushed)) for tag in read.results), bool(read.next)

    async def _quay(self, page: int) -> Page:
        target = (
            f"/api/v1/repository/{quote(self._name.path)}/tag/"
            f"?onlyActiveTags=true&limit={PAGE_SIZE}&page={page}"
        )
        # Quay takes tokens of applications here, and no robot accounts.
        read = await self._get(self._anonymous(), target, _QuayPage)
        return _times((tag.name, tag.start_ts) for tag in read.tags), read.has_additional

    async def _get(
        self,
        client: RegistryClient,
        target: str,
        expected: type[T],
        headers: dict[str, str] | None = None,
    ) -> T:
        """Send one request. Raises `_NotProvided` if the API does not answer, and `RegistryError` if it fails."""
        try:
            answer = await client.send(
                "GET", target, endpoint="tags", scopes=(), what=self._subject, headers=headers
            )
        except RegistryError as error:
            if error.status in _REFUSED:
                raise _NotProvided(lasting=error.status in _NO_SUCH_API) from error
            raise
        return _parsed(answer, expected)

    @property
    def _subject(self) -> str:
        return f"push times of {self._name}"

    def _attempt(self) -> Attempt:
        return Attempt(self._name.host, "GET", "tags", self._subject)


def _parsed(answer: Answer, expected: type[T]) -> T:
    """Return the document of an answer. Raises `_NotProvided` if it is another one: many registries answer any path."""
    if is_html(answer.headers, answer.body):
        raise _NotProvided(lasting=True)
    try:
        return msgspec.json.decode(answer.body, type=expected)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _NotProvided(lasting=True) from error


def _times(pairs: Iterator[tuple[str, float | None]]) -> dict[str, float]:
    return {name: time for name, time in pairs if time is not None}


def _seconds(text: str | None) -> float | None:
    """Return a time (RFC 3339) in seconds since the epoch; None if it is missing or invalid."""
    try:
        read = datetime.fromisoformat(text) if text else None
        time = read.replace(tzinfo=read.tzinfo or UTC).timestamp() if read else 0.0
    except (ValueError, OverflowError):
        return None
    # Go writes the year 1 for a missing time.
    return time if time > 0 else None
