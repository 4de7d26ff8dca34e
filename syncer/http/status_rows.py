"""How an answer and its meaning are written down: see `syncer.http.statuses`."""

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
"""Characters of a registry's own words that patterns are applied to."""


class Circumstances(msgspec.Struct, frozen=True):
    """An answer, as far as it says what it means.

    `codes` and `words` are the registry's own, `words` of `MAX_WORDS` characters at most. `redirected` says that
    another host than the registry answered, `challenged` that it wants credentials (`WWW-Authenticate`), `says_when`
    that there is a `Retry-After`, `anonymous` that no account was shown.
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
    """Answers of one meaning. An empty set, and None, stand for any.

    `advice` may name `{registry}`, `{entry}` (the key of the auth entry) and `{host}` (who answered). `wait` are the
    seconds before another try can help, where the registry does not say. `presence` is what the answer tells of the
    repository's existence.
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
    """The set of these statuses."""
    return frozenset(statuses)
