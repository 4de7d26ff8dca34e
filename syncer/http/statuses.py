"""What an answer means: its kind, whether trying again can help, and what the user can do. Data, and a look-up.

`TABLE` is read from the top, and the first row that fits holds. Each row names where it is specified, or where it was
seen: `harbor` are recorded exchanges of a Harbor 2.15. Only this table and `syncer.errors` say what is tried again.
"""

from syncer.errors import Kind
from syncer.http.registry_words import LOWEST_LIMIT, POLICY, SAID
from syncer.http.status_rows import MANIFEST, READS, STORED, UPLOAD, WRITES, Circumstances, Row, of

_SERVER = frozenset(range(500, 600)) - {501, 505, 511}

ELSEWHERE: tuple[Row, ...] = (
    Row(
        name="redirect to a host that wants a login",
        source="RFC 9110, section 11.6.1",
        statuses=of(401),
        redirected=True,
        challenged=True,
        kind=Kind.UNAUTHORIZED,
        advice="{host} wants a login of its own, and credentials of {registry} are not sent there: name {host} in the"
        ' rule, or as a mirror of {registry} ("mirrors"), and add an entry for it to the auth file',
    ),
    Row(
        name="signed link that has run out",
        source="Amazon S3, Azure Blob Storage: presigned URLs",
        statuses=of(400, 401, 403),
        redirected=True,
        kind=Kind.SERVER_ERROR,
        retryable=True,
    ),
)
"""Answers of another host than the registry."""

BY_STATUS: tuple[Row, ...] = (
    Row(
        name="too many requests, anonymously",
        source="distribution-spec, code-14; Docker Hub: pull rate limit",
        statuses=of(429),
        anonymous=True,
        kind=Kind.THROTTLED,
        retryable=True,
        advice=LOWEST_LIMIT,
    ),
    Row(
        name="too many requests",
        source="RFC 6585, section 4",
        statuses=of(429),
        kind=Kind.THROTTLED,
        retryable=True,
    ),
    Row(
        name="unavailable, with a time",
        source="RFC 9110, sections 10.2.3 and 15.6.4",
        statuses=of(503),
        says_when=True,
        kind=Kind.THROTTLED,
        retryable=True,
    ),
    Row(
        name="precondition of a read",
        source="harbor: content-trust-destination (HEAD has no body)",
        statuses=of(412),
        methods=READS,
        kind=Kind.FORBIDDEN,
        advice=POLICY,
    ),
    Row(
        name="immutable tag",
        source="harbor: immutable-force, immutable-source-changed",
        statuses=of(412),
        methods=frozenset({"PUT"}),
        endpoints=MANIFEST,
        kind=Kind.IMMUTABLE,
        advice="the tag is immutable there: delete it, or have the rule write to another tag",
    ),
    Row(
        name="other precondition",
        source="RFC 9110, section 15.5.13",
        statuses=of(412),
        kind=Kind.FORBIDDEN,
    ),
    Row(
        name="registry without uploads",
        source="distribution-spec, code-13; docker-registry 2.8: readonly",
        statuses=of(405),
        methods=frozenset({"POST"}),
        endpoints=UPLOAD,
        kind=Kind.UNSUPPORTED,
        advice="{registry} takes no pushes: it is read-only, or a cache of another registry",
    ),
    Row(
        name="nothing to write to",
        source="distribution-spec, end-4a",
        statuses=of(404),
        methods=WRITES,
        endpoints=STORED,
        kind=Kind.NOT_FOUND,
        presence="missing",
    ),
    Row(
        name="nothing of that name",
        source="distribution-spec, end-3, end-8a; harbor: missing-repository",
        statuses=of(404, 410),
        methods=READS,
        endpoints=frozenset({"manifest", "tags"}),
        kind=Kind.NOT_FOUND,
        advice="check the rule's source: {registry} has nothing of that name",
    ),
    Row(
        name="not found",
        source="RFC 9110, sections 15.5.5 and 15.5.11",
        statuses=of(404, 410),
        kind=Kind.NOT_FOUND,
    ),
    Row(
        name="no credentials",
        source="RFC 9110, section 15.5.2; distribution-spec, code-11",
        statuses=of(401),
        anonymous=True,
        kind=Kind.UNAUTHORIZED,
        presence="unknown",
        advice="no credentials for {registry} were found: add an entry for it to the auth file, or check the"
        " repository's spelling"
        " (registries answer so for what does not exist, too)",
    ),
    Row(
        name="refused credentials",
        source="RFC 9110, section 15.5.2; harbor: wrong-password",
        statuses=of(401),
        kind=Kind.UNAUTHORIZED,
        presence="unknown",
        advice="check user name, password and rights of the entry {entry!r}",
    ),
    Row(
        name="forbidden, anonymously",
        source="distribution-spec, code-12",
        statuses=of(403),
        anonymous=True,
        kind=Kind.FORBIDDEN,
        presence="unknown",
        advice="anonymous access is refused: add an entry for {registry} to the auth file",
    ),
    Row(
        name="forbidden",
        source="distribution-spec, code-12",
        statuses=of(403),
        kind=Kind.FORBIDDEN,
        presence="unknown",
        advice="check user name, password and rights of the entry {entry!r}",
    ),
    Row(
        name="forbidden for other reasons",
        source="RFC 9110, section 15.5.3; RFC 7725",
        statuses=of(402, 451),
        kind=Kind.FORBIDDEN,
    ),
    Row(
        name="proxy that wants a login",
        source="RFC 9110, section 15.5.8",
        statuses=of(407),
        kind=Kind.CONNECTION,
        advice="check the proxy's user name and password",
    ),
    Row(
        name="network that wants a login",
        source="RFC 6585, section 6",
        statuses=of(511),
        kind=Kind.CONNECTION,
        advice="a portal between here and {registry} wants a login: have this machine let through",
    ),
    Row(
        name="body that is too large",
        source="RFC 9110, section 15.5.14; nginx: client_max_body_size",
        statuses=of(413),
        kind=Kind.TOO_LARGE,
        advice="a proxy before the registry may limit what one request holds (nginx: client_max_body_size)",
    ),
    Row(
        name="not taken",
        source="RFC 9110, sections 15.5.6, 15.5.7, 15.5.16, 15.6.2 and 15.6.6",
        statuses=of(405, 406, 415, 501, 505),
        kind=Kind.UNSUPPORTED,
    ),
    Row(
        name="request that took too long",
        source="RFC 9110, sections 15.5.9 and 15.6.5",
        statuses=of(408, 504),
        kind=Kind.TIMEOUT,
        retryable=True,
    ),
    Row(
        name="conflict",
        source="RFC 9110, section 15.5.10",
        statuses=of(409),
        kind=Kind.CONFLICT,
    ),
    Row(
        name="passing trouble told as the client's",
        source="RFC 8470, section 5.2; nginx: 499",
        statuses=of(425, 499),
        kind=Kind.SERVER_ERROR,
        retryable=True,
    ),
    Row(
        name="server in trouble",
        source="RFC 9110, section 15.6; Cloudflare: 520 to 530",
        statuses=_SERVER,
        kind=Kind.SERVER_ERROR,
        retryable=True,
    ),
    Row(
        name="anything else",
        source="RFC 9110, section 15: a status that is not known counts as the first of its class",
        kind=Kind.INVALID,
    ),
)

TABLE: tuple[Row, ...] = (*ELSEWHERE, *SAID, *BY_STATUS)


def find(case: Circumstances) -> Row:
    """The row for an answer. There is one for every status."""
    return next(row for row in TABLE if row.fits(case))
