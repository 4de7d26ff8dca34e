"""`Request` and `Answer`: what is sent to a registry, and an answer that was read whole."""

from collections.abc import AsyncGenerator

import httpx
import msgspec

from syncer.errors import Attempt

MAX_BODY = 16 * 1024 * 1024
"""Bytes of an answer that is read whole, where nothing smaller is known to be enough."""

Scopes = tuple[str, ...]
"""What a token has to allow, each as `repository:name:pull,push` (distribution's token scope)."""


class Request(msgspec.Struct, frozen=True):
    """One request to a registry.

    `target` is a path behind the registry's address, or an absolute URL that the registry gave. `attempt` says what is
    asked, for errors and metrics. Statuses in `ok` are answers, any other is an error. A `stream` is read by the caller,
    as fast as it can be sent on. `insecure_redirect` allows a redirect from https to http: only for content that is
    checked by its digest. `counts_as_pull` is true for what a registry's pull limit counts. `read_seconds` is how long
    the registry may take for the headers where that is longer than usual. `prewarm` is how many requests are likely to
    follow. `limit` is the most bytes of an answer that is read whole: more is an error.
    """

    method: str
    target: str
    attempt: Attempt
    scopes: Scopes = ()
    headers: dict[str, str] = {}
    content: bytes | AsyncGenerator[bytes] | None = None
    ok: frozenset[int] = frozenset({200})
    stream: bool = False
    insecure_redirect: bool = False
    counts_as_pull: bool = False
    read_seconds: float | None = None
    prewarm: int = 0
    limit: int = MAX_BODY

    @property
    def repeatable(self) -> bool:
        """Whether the body can be sent a second time: one that was streamed is gone."""
        return self.content is None or isinstance(self.content, bytes)


class Answer(msgspec.Struct, frozen=True):
    """An answer that was read whole. `url` is where it came from, redirects followed."""

    status: int
    headers: httpx.Headers
    body: bytes
    url: str
