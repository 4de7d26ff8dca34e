"""The types of the table in `syncer.http.statuses`: a response, and a row that matches responses."""

import re

import msgspec

from syncer.errors import Kind, Presence

READS = frozenset({"GET", "HEAD"})
WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
MANIFEST = frozenset({"manifest"})
UPLOAD = frozenset({"upload"})
STORED = MANIFEST | UPLOAD
IN_REPOSITORY = STORED | {"tags", "blob", "referrers"}
MAX_WORDS = 1000
"""Patterns are applied to at most so many characters of a registry's codes and message."""


class Circumstances(msgspec.Struct, frozen=True):
    """The properties of a response that decide its meaning.

    `codes` are the registry's error codes; `words` are its codes and message, at most `MAX_WORDS` characters.
    `redirected`: a host other than the registry responded. `challenged`: the response has a `WWW-Authenticate` header.
    `says_when`: the response has a `Retry-After` header. `anonymous`: the request had no account.
    """

    method: str
    endpoint: str
    status: int
    codes: frozenset[str] = frozenset()
    words: str = ""
    redirected: bool = False
    challenged: bool = False
    says_when: bool = False
    anonymous: bool = False


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions on a response, and the meaning of the responses that match. An empty set or None matches any value.

    `advice` may contain `{registry}`, `{entry}` (the key of the auth entry) and `{host}` (the host that responded).
    `wait` is the delay before a retry in seconds if the response has no `Retry-After`. `presence` says whether the
    response shows that the repository exists.
    """

    name: str
    source: str
    kind: Kind
    retryable: bool = False
    advice: str = ""
    wait: float | None = None
    presence: Presence = ""
    statuses: frozenset[int] = frozenset()
    methods: frozenset[str] = frozenset()
    endpoints: frozenset[str] = frozenset()
    codes: frozenset[str] = frozenset()
    words: re.Pattern[str] | None = None
    redirected: bool | None = None
    challenged: bool | None = None
    says_when: bool | None = None
    anonymous: bool | None = None

    def fits(self, case: Circumstances) -> bool:
        return (
            (not self.statuses or case.status in self.statuses)
            and (not self.methods or case.method in self.methods)
            and (not self.endpoints or case.endpoint in self.endpoints)
            and (not self.codes or not self.codes.isdisjoint(case.codes))
            and (self.words is None or self.words.search(case.words) is not None)
            and self.redirected in {None, case.redirected}
            and self.challenged in {None, case.challenged}
            and self.says_when in {None, case.says_when}
            and self.anonymous in {None, case.anonymous}
        )


def of(*statuses: int) -> frozenset[int]:
    """Return a set of statuses."""
    return frozenset(statuses)
