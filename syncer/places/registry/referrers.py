"""Referrers of a manifest at a registry: the referrers API and the fallback tag (distribution-spec 1.1).

A registry that confirms the subject of a pushed manifest (`OCI-Subject`), or whose API lists the manifest afterwards,
needs no fallback tag.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urljoin, urlsplit

from syncer.errors import Attempt, Kind, RegistryError
from syncer.http.request import Answer
from syncer.oci import media_types
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import InvalidManifest, Manifest, parse_manifest
from syncer.oci.referrers import MAX_REFERRERS, TooManyReferrers, fallback_tag, lacks, merge_referrers
from syncer.places.registry.answers import invalid, is_hang_up, is_refusal
from syncer.places.registry.capabilities import ReferrersApi
from syncer.places.registry.link_header import next_link

MAX_PAGES = 200
MAX_ATTEMPTS = 8
"""Times that a fallback tag is written if other writers overwrite it."""
MIN_SETTLE_SECONDS = 0.1
MAX_SETTLE_SECONDS = 5.0
"""Seconds between writing a fallback tag and reading it again: a writer that read it before must have finished by then."""
NO_API = frozenset({400, 404, 405, 406, 410, 415, 501})
"""Statuses of registries without the API. They are remembered; other refusals count for one repository only."""


class ReferrersList:
    """Lists referrers at one repository. `get` sends a GET request for a path, `fetch_tag` fetches a manifest by its tag."""

    def __init__(
        self,
        base: str,
        api: ReferrersApi,
        *,
        attempt: Attempt,
        get: Callable[[str], Awaitable[Answer]],
        fetch_tag: Callable[[str], Awaitable[Manifest]],
    ) -> None:
        self._base = base
        self._api = api
        self._attempt = attempt
        self._get = get
        self._fetch_tag = fetch_tag

    async def referrers(self, subject: Digest, *, tagged: bool | None = None) -> Sequence[Descriptor]:
        """Return the referrers of a manifest: see `syncer.places.content.ListsReferrers`.

        A fallback tag that is known to exist is read in any case: a registry that got the API later may not have
        taken over what the tag lists.
        """
        listed = await self.from_api(subject)
        if listed is not None and not tagged:
            return listed
        if tagged is False:
            return []
        tag = await self.from_tag(subject)
        return [*(listed or ()), *lacks(listed or (), tag.children if tag else ())]

    async def from_api(self, subject: Digest) -> Sequence[Descriptor] | None:
        """Return what the referrers API lists, from all pages; None if the registry has no such API."""
        if self._api.supported is None:
            async with self._api.probing:
                return None if self._api.supported is False else await self._pages(subject)
        return await self._pages(subject) if self._api.supported else None

    async def _pages(self, subject: Digest) -> Sequence[Descriptor] | None:
        found: dict[Digest, Descriptor] = {}
        target: str | None = f"{self._base}/referrers/{subject}"
        visited: set[str] = set()
        while target is not None:
            if target in visited or len(visited) >= MAX_PAGES:
                raise invalid("the list of referrers does not end", self._attempt)
            visited.add(target)
            try:
                answer = await self._get(target)
            except RegistryError as error:
                if len(visited) > 1 or not (is_refusal(error, "referrers") or is_hang_up(error)):
                    raise
                if error.status in NO_API:
                    self._api.refused()
                elif error.status not in {401, 403} or not error.permanent:
                    raise
                return None
            page = self._page(answer)
            if page is None and len(visited) == 1:
                # Registries and proxies without the API may answer any path with a document of their own.
                self._api.refused()
                return None
            if page is None:
                raise invalid("a page of the list of referrers is not an index", self._attempt)
            found |= {entry.digest: entry for entry in page}
            if len(found) > MAX_REFERRERS:
                raise self._too_many()
            target = self._next(answer)
        self._api.answered()
        return list(found.values())

    async def from_tag(self, subject: Digest) -> Manifest | None:
        """Return the index that the fallback tag names; None if there is no such tag."""
        tag = fallback_tag(subject)
        try:
            listed = await self._fetch_tag(tag)
        except RegistryError as error:
            if error.status == 404:
                return None
            raise
        if listed.media_type != media_types.OCI_INDEX:
            raise invalid(
                f"the tag {tag} is not a list of referrers: it names a {listed.media_type}", self._attempt
            )
        return listed

    def _page(self, answer: Answer) -> Sequence[Descriptor] | None:
        try:
            index = parse_manifest(answer.body, media_types.OCI_INDEX)
        except InvalidManifest:
            return None
        return index.children if index.is_index else None

    def _next(self, answer: Answer) -> str | None:
        """Return the path and query of the next page. The host of the link is ignored: the registry itself is used."""
        try:
            link = next_link(answer.headers.get_list("link"), same_list=f"{self._base}/referrers/")
            if link is None:
                return None
            parts = urlsplit(urljoin(answer.url, link))
        except ValueError as error:
            raise invalid(
                f"the list of referrers has an invalid link to its next page: {error}", self._attempt
            ) from error
        # A proxy that removes a part of the path leaves it in the links.
        at = parts.path.find(f"{self._base}/referrers/")
        path = parts.path[at:] if at >= 0 else parts.path
        target = f"{path}?{parts.query}" if parts.query else path
        if not target.startswith("/") or not (target.isascii() and target.isprintable()) or " " in target:
            raise invalid(
                f"the list of referrers links to an invalid next page: {link[:200]!r}", self._attempt
            )
        return target

    def _too_many(self) -> RegistryError:
        return RegistryError(Kind.TOO_LARGE, f"more than {MAX_REFERRERS} referrers", attempt=self._attempt)


class FallbackTag:
    """Keeps the fallback tag of one manifest complete, also if others write it at the same time.

    Registries have no conditional write. So the tag is read, merged, written, and read again after a pause that is
    longer than it took to read and write it: a writer that had read the tag before has written it by then.
    """

    def __init__(
        self,
        subject: Digest,
        listing: ReferrersList,
        *,
        attempt: Attempt,
        push: Callable[[Manifest, str], Awaitable[object]],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._subject = subject
        self._listing = listing
        self._attempt = attempt
        self._push = push
        self._sleep = sleep

    async def add(self, referrers: Sequence[Descriptor]) -> None:
        """Add referrers to the list of the tag, and keep those that it has. Raises `RegistryError`."""
        for _ in range(MAX_ATTEMPTS):
            began = time.monotonic()
            listed = await self._listing.from_tag(self._subject)
            missing = lacks(listed.children if listed else (), referrers)
            if not missing:
                return
            try:
                merged = merge_referrers(listed, missing)
            except (TooManyReferrers, InvalidManifest) as error:
                raise RegistryError(Kind.TOO_LARGE, str(error), attempt=self._attempt) from error
            await self._push(merged, fallback_tag(self._subject))
            took = time.monotonic() - began
            pause = min(MAX_SETTLE_SECONDS, max(MIN_SETTLE_SECONDS, 2 * took))
            await self._sleep(pause * random.uniform(1, 2))  # noqa: S311 - not for secrets
        listed = await self._listing.from_tag(self._subject)
        if lacks(listed.children if listed else (), referrers):
            raise RegistryError(
                Kind.CONFLICT,
                f"others overwrote the tag {fallback_tag(self._subject)} {MAX_ATTEMPTS} times",
                attempt=self._attempt,
                permanent=False,
            )
