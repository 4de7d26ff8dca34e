"""`Request` and `Answer`: a request to a registry, and a response that was read completely."""

import msgspec

from syncer.errors import Attempt
from syncer.http.splice import BodyStream
from syncer.http.transport import Headers

MAX_BODY = 16 * 1024 * 1024
"""Default maximum size in bytes of a response that is read completely."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})
SAME_METHOD = frozenset({307, 308})
"""The redirects that are followed with the method and the body of the request (RFC 9110, section 15.4)."""
MAX_REDIRECTS = 5
"""Maximum number of redirects that one request follows."""

Scopes = tuple[str, ...]
"""The scopes of a token, such as `repository:name:pull,push` (distribution, "Token Scope Documentation")."""


class Request(msgspec.Struct, frozen=True):
    """One request to a registry.

    `target`: a path at the registry, or an absolute URL that the registry sent. `attempt`: describes the request in
    errors and metrics. `scopes`: what the token must allow; None sends no credentials. `ok`: the statuses that are not
    errors. `stream`: the caller reads the body as fast as it can send it on. `insecure_redirect`: allow a redirect from
    https to http, only for content that is verified by its digest. `counts_as_pull`: the registry's pull limit counts the
    request. `read_seconds`: seconds to wait for the headers, if not the default. `prewarm`: the number of requests that
    are likely to follow. `limit`: the maximum size in bytes of a response that is read completely.
    """

    method: str
    target: str
    attempt: Attempt
    scopes: Scopes | None = ()
    headers: dict[str, str] = {}
    content: bytes | BodyStream | None = None
    ok: frozenset[int] = frozenset({200})
    stream: bool = False
    insecure_redirect: bool = False
    counts_as_pull: bool = False
    read_seconds: float | None = None
    prewarm: int = 0
    limit: int = MAX_BODY

    @property
    def repeatable(self) -> bool:
        """Whether the body can be sent again. A streamed body cannot."""
        return self.content is None or isinstance(self.content, bytes)


class Answer(msgspec.Struct, frozen=True):
    """A response that was read completely. `url` is the final URL after redirects."""

    status: int
    headers: Headers
    body: bytes
    url: str
