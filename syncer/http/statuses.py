"""Maps a registry's error response to its meaning: the kind of error, whether to retry, and the advice for the user.

`find` returns the first matching row of `TABLE`. The `source` of a row names the specification or the registry that
the row comes from. `harbor: NAME` is a recorded exchange with Harbor 2.15. Only this table and `syncer.errors` decide
which errors are retried.
"""

from syncer.errors import Kind
from syncer.http.registry_words import LOWEST_LIMIT, POLICY, SAID
from syncer.http.status_rows import MANIFEST, READS, STORED, UPLOAD, WRITES, Circumstances, Row, of

_SERVER = frozenset(range(500, 600)) - {501, 505, 511}

ELSEWHERE: tuple[Row, ...] = (
    Row(
        name="redirect to a host that requires a login",
        source="RFC 9110, section 11.6.1",
        statuses=of(401),
        redirected=True,
        challenged=True,
        kind=Kind.UNAUTHORIZED,
        advice="{host} requires its own login, and the credentials for {registry} are never sent to another host:"
        ' use {host} in the rule, or list it as a mirror of {registry} ("mirrors"), and add an entry for {host} to'
        " the auth file",
    ),
    Row(
        name="expired signed URL",
        source="Amazon S3, Azure Blob Storage: presigned URLs",
        statuses=of(400, 401, 403),
        redirected=True,
        kind=Kind.SERVER_ERROR,
        retryable=True,
    ),
)
"""Responses of a host that the registry redirected to."""

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
        name="unavailable, with Retry-After",
        source="RFC 9110, sections 10.2.3 and 15.6.4",
        statuses=of(503),
        says_when=True,
        kind=Kind.THROTTLED,
        retryable=True,
    ),
    Row(
        name="precondition failed for a read",
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
        advice="the tag is immutable at the destination: delete it there, or change the rule to write to another tag",
    ),
    Row(
        name="precondition failed",
        source="RFC 9110, section 15.5.13",
        statuses=of(412),
        kind=Kind.FORBIDDEN,
    ),
    Row(
        name="uploads not supported",
        source="distribution-spec, code-13; docker-registry 2.8: readonly",
        statuses=of(405),
        methods=frozenset({"POST"}),
        endpoints=UPLOAD,
        kind=Kind.UNSUPPORTED,
        advice="{registry} does not accept pushes: it is read-only or a pull-through cache",
    ),
    Row(
        name="not found for a write",
        source="distribution-spec, end-4a",
        statuses=of(404),
        methods=WRITES,
        endpoints=STORED,
        kind=Kind.NOT_FOUND,
        presence="missing",
    ),
    Row(
        name="not found for a read",
        source="distribution-spec, end-3, end-8a; harbor: missing-repository",
        statuses=of(404, 410),
        methods=READS,
        endpoints=frozenset({"manifest", "tags"}),
        kind=Kind.NOT_FOUND,
        advice="check the rule's source: {registry} has no such repository, tag or digest",
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
        advice="no credentials for {registry} were found: add an entry for it to the auth file, or check the spelling"
        " of the repository (registries also answer 401 if a repository does not exist)",
    ),
    Row(
        name="credentials rejected",
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
        advice="{registry} refuses anonymous access: add an entry for it to the auth file",
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
        name="proxy authentication required",
        source="RFC 9110, section 15.5.8",
        statuses=of(407),
        kind=Kind.CONNECTION,
        advice="check the user name and password of the proxy",
    ),
    Row(
        name="network authentication required",
        source="RFC 6585, section 6",
        statuses=of(511),
        kind=Kind.CONNECTION,
        advice="a captive portal blocks the way to {registry}: log in to the network, or have this machine exempted",
    ),
    Row(
        name="request body too large",
        source="RFC 9110, section 15.5.14; nginx: client_max_body_size",
        statuses=of(413),
        kind=Kind.TOO_LARGE,
        advice="a reverse proxy in front of {registry} may limit the size of a request (nginx: client_max_body_size)",
    ),
    Row(
        name="not supported",
        source="RFC 9110, sections 15.5.6, 15.5.7, 15.5.16, 15.6.2 and 15.6.6",
        statuses=of(405, 406, 415, 501, 505),
        kind=Kind.UNSUPPORTED,
    ),
    Row(
        name="timeout",
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
        name="temporary error with a 4xx status",
        source="RFC 8470, section 5.2; nginx: 499",
        statuses=of(425, 499),
        kind=Kind.SERVER_ERROR,
        retryable=True,
    ),
    Row(
        name="server error",
        source="RFC 9110, section 15.6; Cloudflare: 520 to 530",
        statuses=_SERVER,
        kind=Kind.SERVER_ERROR,
        retryable=True,
    ),
    Row(
        name="any other status",
        source="RFC 9110, section 15: treat an unknown status as the x00 status of its class",
        kind=Kind.INVALID,
    ),
)

TABLE: tuple[Row, ...] = (*ELSEWHERE, *SAID, *BY_STATUS)


def find(case: Circumstances) -> Row:
    """Return the first row that matches a response. The last row matches every response."""
    return next(row for row in TABLE if row.fits(case))
