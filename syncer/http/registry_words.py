"""Refusals that registries put into codes and words of their own: these say more than the status, so they come first.

Patterns are applied where registries have no code, to `MAX_WORDS` characters at most.
"""

import re

from syncer.errors import Kind
from syncer.http.status_rows import IN_REPOSITORY, MANIFEST, READS, STORED, UPLOAD, WRITES, Row, of

_REFUSED = of(400, 401, 403, 404, 405, 409, 412, 413, 422)
_GARBAGE_COLLECTION = 60.0
LOWEST_LIMIT = "anonymous access has the lowest limit: add an entry for {registry} to the auth file"
_TOO_MANY = frozenset({"TOOMANYREQUESTS", "TOO_MANY_REQUEST", "TOO_MANY_REQUESTS"})
_NO_ROOM = "there is no room left by the quota of this project at {registry}: raise it, or delete images"
_IMMUTABLE = "the tag is immutable there: delete it, or have the rule write to another tag"
POLICY = (
    "a policy of the project keeps it from being pulled: have the image signed or mended, or the policy changed"
    " (Harbor: deployment security)"
)


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_QUOTA = _words(r"quota|exceed\w{0,8}\W.{0,80}limit|upper limit")

SAID: tuple[Row, ...] = (
    Row(
        name="too many requests by its code, anonymously",
        source="distribution-spec, code-14; Docker Hub: pull rate limit",
        codes=_TOO_MANY,
        anonymous=True,
        kind=Kind.THROTTLED,
        retryable=True,
        advice=LOWEST_LIMIT,
    ),
    Row(
        name="too many requests by its code",
        source="distribution-spec, code-14",
        codes=_TOO_MANY,
        kind=Kind.THROTTLED,
        retryable=True,
    ),
    Row(
        name="rate limit told as forbidden",
        source="GitHub REST API: secondary rate limits (403)",
        statuses=of(403),
        words=_words(r"rate limit"),
        kind=Kind.THROTTLED,
        retryable=True,
    ),
    Row(
        name="blob in garbage collection",
        source="harbor: blob-in-garbage-collection",
        statuses=of(404, 409, 412),
        methods=WRITES,
        endpoints=UPLOAD,
        words=_words(r"\bin GC\b|garbage.?collect"),
        kind=Kind.CONFLICT,
        retryable=True,
        wait=_GARBAGE_COLLECTION,
        advice="the registry is just removing that blob: a later run finds it gone, and brings it",
    ),
    Row(
        name="parts that the registry lacks",
        source="distribution-spec, code-1; harbor: bad-manifest, blob-vanished",
        statuses=of(400, 404, 422),
        methods=frozenset({"PUT"}),
        endpoints=MANIFEST,
        codes=frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"}),
        kind=Kind.INVALID,
    ),
    Row(
        name="upload session that the registry has forgotten",
        source="distribution-spec, code-3, code-4; docker-registry 2.8",
        statuses=of(404),
        endpoints=UPLOAD,
        codes=frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"}),
        kind=Kind.NOT_FOUND,
    ),
    Row(
        name="storage quota",
        source="harbor: quota-at-blob, quota-at-index-with-attestations; GitLab: 413",
        statuses=of(400, 403, 405, 409, 412, 413, 422, 507),
        methods=WRITES,
        endpoints=STORED,
        words=_QUOTA,
        kind=Kind.FORBIDDEN,
        advice=_NO_ROOM,
    ),
    Row(
        name="image that is not scanned yet",
        source="Harbor, src/server/middleware/vulnerable",
        statuses=of(403, 412),
        methods=READS,
        words=_words(
            r"without vulnerability scanning|\"(?:pending|running|scheduled|queued|created|not scanned)\" status of"
            r" vulnerability|scan(?:ning)? (?:is )?(?:pending|running|in progress)|not (?:yet )?(?:been )?scanned"
        ),
        kind=Kind.FORBIDDEN,
        retryable=True,
        advice="the project lets only scanned images be pulled: once the scan is done it can be",
    ),
    Row(
        name="policy against pulling",
        source="harbor: content-trust-source, content-trust-destination",
        methods=READS,
        codes=frozenset({"PROJECTPOLICYVIOLATION"}),
        kind=Kind.FORBIDDEN,
        advice=POLICY,
    ),
    Row(
        name="immutable tag by the registry's words",
        source="Amazon ECR: tag immutability (400, TAG_INVALID); Nexus: disable redeploy (400)",
        statuses=of(400, 403, 405, 409),
        methods=frozenset({"PUT"}),
        endpoints=MANIFEST,
        words=_words(r"immutab|already\s{0,4}exists|cannot be overwritten|not allow updating"),
        kind=Kind.IMMUTABLE,
        advice=_IMMUTABLE,
    ),
    Row(
        name="immutable tag that is to be deleted",
        source="Harbor, src/server/middleware/immutable",
        statuses=of(400, 403, 405, 409, 412),
        methods=frozenset({"DELETE"}),
        words=_words(r"immutab"),
        kind=Kind.IMMUTABLE,
        advice="the tag is immutable there: change the project's rule for immutable tags first",
    ),
    Row(
        name="project that is a cache",
        source="harbor: proxy-cache-destination",
        statuses=of(400, 403, 404, 405),
        methods=WRITES,
        words=_words(r"proxy (?:project|cache|repository)|pull.?through cache"),
        kind=Kind.FORBIDDEN,
        presence="exists",
        advice="that project at {registry} is a cache of another registry, and takes no pushes there: choose another"
        " destination",
    ),
    Row(
        name="read-only registry",
        source="harbor: read-only; Azure: locked repositories",
        statuses=of(400, 403, 405, 423),
        methods=WRITES,
        words=_words(r"read.?only|operation is disallowed on this"),
        kind=Kind.FORBIDDEN,
        presence="exists",
        advice="{registry} takes no pushes there: end its read-only mode, or choose another destination",
    ),
    Row(
        name="missing project",
        source="harbor: missing-project, missing-project-anonymous",
        statuses=of(401, 403, 404),
        endpoints=IN_REPOSITORY,
        words=_words(r"\bproject \S{1,255} not found"),
        kind=Kind.NOT_FOUND,
        presence="missing",
        advice="{registry} has no project of that name",
    ),
    Row(
        name="missing repository",
        source="distribution-spec, code-7",
        statuses=_REFUSED,
        endpoints=IN_REPOSITORY,
        codes=frozenset({"NAME_UNKNOWN"}),
        kind=Kind.NOT_FOUND,
        presence="missing",
        advice="{registry} has no repository of that name",
    ),
    Row(
        name="repository without a project",
        source="harbor: project-without-repository",
        statuses=of(400),
        words=_words(r"invalid repository name"),
        kind=Kind.INVALID,
        advice="the registry wants another form of name: at a Harbor it is project/repository",
    ),
    Row(
        name="no right to push",
        source="harbor: robot-pull-only, create-project-robot-no-rights-in-it",
        statuses=of(401, 403),
        words=_words(r"action: push"),
        anonymous=False,
        kind=Kind.UNAUTHORIZED,
        presence="exists",
        advice="the entry {entry!r} has no right to push there: give the account that right (Harbor: a robot's push"
        " permission in this project), and check user name and password",
    ),
    Row(
        name="no right to pull",
        source="harbor: one-forbidden-among-others, wrong-password",
        statuses=of(401, 403),
        words=_words(r"action: pull"),
        anonymous=False,
        kind=Kind.UNAUTHORIZED,
        presence="exists",
        advice="check user name, password and rights of the entry {entry!r}: it may not pull there",
    ),
    Row(
        name="plain HTTP to a TLS port",
        source="Go, net/http: HTTP request to an HTTPS server; nginx: plain HTTP request to HTTPS port",
        statuses=of(400, 497),
        words=_words(r"http request (?:was sent )?to (?:an )?https (?:server|port)"),
        kind=Kind.INVALID,
        advice='{registry} speaks TLS: remove "plain_http" from its entry in the auth file',
    ),
)
