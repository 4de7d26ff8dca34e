"""Rows that match the error code or the message of a registry. They are more specific than the status, so they come first.

A row matches the message only if registries send no error code for the case. Patterns see at most `MAX_WORDS`
characters.
"""

import re

from syncer.errors import Kind
from syncer.http.status_rows import IN_REPOSITORY, MANIFEST, READS, STORED, UPLOAD, WRITES, Row, of
from syncer.lazy_pattern import lazy_pattern

_REFUSED = of(400, 401, 403, 404, 405, 409, 412, 413, 422)
_GARBAGE_COLLECTION = 60.0
LOWEST_LIMIT = (
    "anonymous requests have the lowest rate limit: add an entry for {registry} to the auth file to log in"
)
_TOO_MANY = frozenset({"TOOMANYREQUESTS", "TOO_MANY_REQUEST", "TOO_MANY_REQUESTS"})
_NO_ROOM = "the storage quota of the project at {registry} is exceeded: raise the quota, or delete images from the project"
_IMMUTABLE = (
    "the tag is immutable at the destination: delete it there, or change the rule to write to another tag"
)
POLICY = (
    "a policy of the project blocks pulling this image: sign the image or fix its vulnerabilities, or change the policy"
    " (Harbor: deployment security)"
)


def _words(pattern: str) -> re.Pattern[str]:
    return lazy_pattern(pattern, re.IGNORECASE)


_QUOTA = _words(r"quota|exceed\w{0,8}\W.{0,80}limit|upper limit")

SAID: tuple[Row, ...] = (
    Row(
        name="TOOMANYREQUESTS, anonymously",
        source="distribution-spec, code-14; Docker Hub: pull rate limit",
        codes=_TOO_MANY,
        anonymous=True,
        kind=Kind.THROTTLED,
        retryable=True,
        advice=LOWEST_LIMIT,
    ),
    Row(
        name="TOOMANYREQUESTS",
        source="distribution-spec, code-14",
        codes=_TOO_MANY,
        kind=Kind.THROTTLED,
        retryable=True,
    ),
    Row(
        name="rate limit with status 403",
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
        advice="the registry is deleting this blob in garbage collection: a later run will upload it again",
    ),
    Row(
        name="manifest with missing blobs or manifests",
        source="distribution-spec, code-1; harbor: bad-manifest, blob-vanished",
        statuses=of(400, 404, 422),
        methods=frozenset({"PUT"}),
        endpoints=MANIFEST,
        codes=frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"}),
        kind=Kind.INVALID,
    ),
    Row(
        name="unknown upload session",
        source="distribution-spec, code-3, code-4; docker-registry 2.8",
        statuses=of(404),
        endpoints=UPLOAD,
        codes=frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"}),
        kind=Kind.NOT_FOUND,
    ),
    Row(
        name="storage quota exceeded",
        source="harbor: quota-at-blob, quota-at-index-with-attestations; GitLab: 413",
        statuses=of(400, 403, 405, 409, 412, 413, 422, 507),
        methods=WRITES,
        endpoints=STORED,
        words=_QUOTA,
        kind=Kind.FORBIDDEN,
        advice=_NO_ROOM,
    ),
    Row(
        name="image not scanned yet",
        source="Harbor, src/server/middleware/vulnerable",
        statuses=of(403, 412),
        methods=READS,
        words=_words(
            r"without vulnerability scanning|\"(?:pending|running|scheduled|queued|created|not scanned)\" status of"
            r" vulnerability|scan(?:ning)? (?:is )?(?:pending|running|in progress)|not (?:yet )?(?:been )?scanned"
        ),
        kind=Kind.FORBIDDEN,
        retryable=True,
        advice="the project allows pulling only scanned images: run again when the vulnerability scan has finished",
    ),
    Row(
        name="pull blocked by policy",
        source="harbor: content-trust-source, content-trust-destination",
        methods=READS,
        codes=frozenset({"PROJECTPOLICYVIOLATION"}),
        kind=Kind.FORBIDDEN,
        advice=POLICY,
    ),
    Row(
        name="immutable tag, by message",
        source="Amazon ECR: tag immutability (400, TAG_INVALID); Nexus: disable redeploy (400)",
        statuses=of(400, 403, 405, 409),
        methods=frozenset({"PUT"}),
        endpoints=MANIFEST,
        words=_words(r"immutab|already\s{0,4}exists|cannot be overwritten|not allow updating"),
        kind=Kind.IMMUTABLE,
        advice=_IMMUTABLE,
    ),
    Row(
        name="immutable tag, on delete",
        source="Harbor, src/server/middleware/immutable",
        statuses=of(400, 403, 405, 409, 412),
        methods=frozenset({"DELETE"}),
        words=_words(r"immutab"),
        kind=Kind.IMMUTABLE,
        advice="the tag is immutable at the destination: change the immutability rule of the project first",
    ),
    Row(
        name="pull-through cache",
        source="harbor: proxy-cache-destination",
        statuses=of(400, 403, 404, 405),
        methods=WRITES,
        words=_words(r"proxy (?:project|cache|repository)|pull.?through cache"),
        kind=Kind.FORBIDDEN,
        presence="exists",
        advice="the project at {registry} is a pull-through cache and does not accept pushes: choose another destination",
    ),
    Row(
        name="read-only registry",
        source="harbor: read-only; Azure: locked repositories",
        statuses=of(400, 403, 405, 423),
        methods=WRITES,
        words=_words(r"read.?only|operation is disallowed on this"),
        kind=Kind.FORBIDDEN,
        presence="exists",
        advice="{registry} is read-only and does not accept pushes: end its read-only mode, or choose another destination",
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
        advice="{registry} does not accept this repository name: Harbor requires project/repository",
    ),
    Row(
        name="push permission missing",
        source="harbor: robot-pull-only, create-project-robot-no-rights-in-it",
        statuses=of(401, 403),
        words=_words(r"action: push"),
        anonymous=False,
        kind=Kind.UNAUTHORIZED,
        presence="exists",
        advice="the entry {entry!r} is not allowed to push to this repository: grant the account push permission (Harbor:"
        " push permission of the robot account in this project), and check user name and password",
    ),
    Row(
        name="pull permission missing",
        source="harbor: one-forbidden-among-others, wrong-password",
        statuses=of(401, 403),
        words=_words(r"action: pull"),
        anonymous=False,
        kind=Kind.UNAUTHORIZED,
        presence="exists",
        advice="check user name, password and rights of the entry {entry!r}: it is not allowed to pull from this repository",
    ),
    Row(
        name="plain HTTP request to a TLS port",
        source="Go, net/http: HTTP request to an HTTPS server; nginx: plain HTTP request to HTTPS port",
        statuses=of(400, 497),
        words=_words(r"http request (?:was sent )?to (?:an )?https (?:server|port)"),
        kind=Kind.INVALID,
        advice='{registry} uses TLS: remove "plain_http" from its entry in the auth file',
    ),
)
