"""Tests of the status table: every row is reachable, and every status has a row."""

import json

import pytest

from syncer.accounts.settings import Account, Secret
from syncer.errors import RETRYABLE_KINDS, Attempt, Kind
from syncer.http import failures
from syncer.http.status_rows import Circumstances
from syncer.http.statuses import TABLE, find
from tests.support.harbor_answers import recorded
from tests.support.harbor_recordings import exchanges_of
from tests.support.messages import headers_of


def case(method, endpoint, status, *codes, words="", **circumstances):
    said = " ".join([*codes, words])
    return Circumstances(method, endpoint, status, frozenset(codes), said, **circumstances)


EXAMPLES = {
    "redirect to a host that requires a login": case("GET", "blob", 401, redirected=True, challenged=True),
    "expired signed URL": case("GET", "blob", 403, redirected=True),
    "TOOMANYREQUESTS, anonymously": case("GET", "manifest", 403, "TOOMANYREQUESTS", anonymous=True),
    "TOOMANYREQUESTS": case("GET", "manifest", 429, "TOOMANYREQUESTS"),
    "rate limit with status 403": case(
        "GET", "blob", 403, "DENIED", words="You have exceeded a secondary rate limit"
    ),
    "blob in garbage collection": case(
        "PUT",
        "upload",
        404,
        "NOT_FOUND",
        words="the asking blob is in GC, mark it as non existing, request id: 7",
    ),
    "manifest with missing blobs or manifests": case(
        "PUT", "manifest", 400, "MANIFEST_BLOB_UNKNOWN", words="blob unknown to registry"
    ),
    "unknown upload session": case("PATCH", "upload", 404, "BLOB_UPLOAD_INVALID"),
    "storage quota exceeded": case(
        "PUT",
        "manifest",
        403,
        "DENIED",
        words="adding 1.3 KiB of storage resource, which when updated to current usage of 3.8 KiB will exceed the"
        " configured upper limit of 3.8 KiB.",
    ),
    "image not scanned yet": case(
        "GET",
        "manifest",
        412,
        "PROJECTPOLICYVIOLATION",
        words='current image with "Running" status of vulnerability scanning cannot be pulled due to configured policy',
    ),
    "pull blocked by policy": case(
        "GET", "manifest", 412, "PROJECTPOLICYVIOLATION", words="The image is not signed by cosign."
    ),
    "immutable tag, by message": case("PUT", "manifest", 400, "TAG_INVALID", words="the tag is immutable"),
    "immutable tag, on delete": case(
        "DELETE", "manifest", 412, "PRECONDITION", words="'imm:v1' configured as immutable, cannot be deleted"
    ),
    "pull-through cache": case(
        "POST", "upload", 403, "DENIED", words="denied: can not push artifact to a proxy project: cache"
    ),
    "read-only registry": case(
        "POST",
        "upload",
        403,
        "DENIED",
        words="The system is in read only mode. Any modification is prohibited.",
    ),
    "missing project": case(
        "GET", "tags", 401, "UNAUTHORIZED", words="project nowhere not found: project nowhere not found"
    ),
    "missing repository": case("POST", "upload", 404, "NAME_UNKNOWN"),
    "repository without a project": case(
        "GET", "tags", 400, "BAD_REQUEST", words="bad request: invalid repository name: kinds"
    ),
    "push permission missing": case(
        "POST",
        "upload",
        401,
        "UNAUTHORIZED",
        words="unauthorized to access repository: robots/docker, action: push",
    ),
    "pull permission missing": case(
        "GET",
        "tags",
        401,
        "UNAUTHORIZED",
        words="unauthorized to access repository: other/app, action: pull",
    ),
    "plain HTTP request to a TLS port": case(
        "GET", "ping", 400, words="Client sent an HTTP request to an HTTPS server."
    ),
    "too many requests, anonymously": case("GET", "manifest", 429, anonymous=True),
    "too many requests": case("PUT", "upload", 429),
    "unavailable, with Retry-After": case("GET", "blob", 503, says_when=True),
    "precondition failed for a read": case("HEAD", "manifest", 412),
    "immutable tag": case(
        "PUT",
        "manifest",
        412,
        "PRECONDITION",
        words="Failed to process request due to 'imm:v1' configured as immutable.",
    ),
    "precondition failed": case("PUT", "upload", 412),
    "uploads not supported": case("POST", "upload", 405, "UNSUPPORTED"),
    "not found for a write": case("POST", "upload", 404, "NOT_FOUND"),
    "not found for a read": case("HEAD", "manifest", 404),
    "not found": case("GET", "blob", 404, "BLOB_UNKNOWN"),
    "no credentials": case("GET", "manifest", 401, anonymous=True),
    "credentials rejected": case("GET", "token", 401),
    "forbidden, anonymously": case("GET", "manifest", 403, anonymous=True),
    "forbidden": case("POST", "upload", 403, "DENIED"),
    "forbidden for other reasons": case("GET", "blob", 451),
    "proxy authentication required": case("GET", "ping", 407),
    "network authentication required": case("GET", "ping", 511),
    "request body too large": case("PUT", "upload", 413),
    "not supported": case("PATCH", "upload", 501),
    "timeout": case("GET", "blob", 504),
    "conflict": case("PUT", "manifest", 409),
    "temporary error with a 4xx status": case("GET", "blob", 499),
    "server error": case("GET", "blob", 507),
    "any other status": case("GET", "blob", 418),
}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_each_row_has_a_source_and_is_reached_by_its_example(row):
    assert row.source
    assert find(EXAMPLES[row.name]) is row


def test_names_of_rows_are_unique():
    assert len({row.name for row in TABLE}) == len(TABLE)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_advice_names_only_what_is_known(row):
    row.advice.format(registry="r", entry="e", host="h")


def test_every_status_has_a_row_under_all_circumstances():
    for status in range(100, 1000):
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
            for endpoint in ("manifest", "blob", "upload", "tags", "referrers", "token", "ping"):
                for flag in ({}, {"redirected": True}, {"anonymous": True}, {"says_when": True}):
                    find(case(method, endpoint, status, **flag))


@pytest.mark.parametrize("status", range(500, 600))
def test_server_errors_are_retryable_except_permanent_ones(status):
    assert find(case("GET", "blob", status)).retryable is (status not in {501, 505, 511})


@pytest.mark.parametrize("status", [*range(400, 500)])
def test_client_errors_are_not_retryable_except_temporary_ones(status):
    assert find(case("GET", "ping", status)).retryable is (status in {408, 425, 429, 499})


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("endpoint", ["manifest", "blob", "upload", "tags"])
def test_bare_412_is_an_immutable_tag_only_for_a_manifest_push(method, endpoint):
    assert find(case(method, endpoint, 412)).kind is not Kind.IMMUTABLE
    assert find(case("PUT", "manifest", 412)).kind is Kind.IMMUTABLE


@pytest.mark.parametrize(
    ("status", "retryable"),
    [("Pending", True), ("Running", True), ("Scheduled", True), ("Error", False), ("Stopped", False)],
)
def test_running_scan_is_retryable_and_failed_scan_is_not(status, retryable):
    words = f'current image with "{status}" status of vulnerability scanning cannot be pulled'
    row = find(case("GET", "manifest", 412, "PROJECTPOLICYVIOLATION", words=words))
    assert (row.kind, row.retryable) == (Kind.FORBIDDEN, retryable)


def test_rows_that_override_a_permanent_kind_are_known():
    odd = {row.name for row in TABLE if row.retryable and row.kind not in RETRYABLE_KINDS}
    assert odd == {"blob in garbage collection", "image not scanned yet"}


RECORDED = {
    "blob-in-garbage-collection": (404, Kind.CONFLICT, False, "is deleting this blob in garbage collection"),
    "content-trust-source": (412, Kind.FORBIDDEN, True, "a policy of the project blocks pulling this image"),
    "content-trust-destination": (
        412,
        Kind.FORBIDDEN,
        True,
        "a policy of the project blocks pulling this image",
    ),
    "immutable-force": (412, Kind.IMMUTABLE, True, "write to another tag"),
    "immutable-source-changed": (412, Kind.IMMUTABLE, True, "write to another tag"),
    "missing-project": (401, Kind.NOT_FOUND, True, "has no project of that name"),
    "missing-project-anonymous": (401, Kind.NOT_FOUND, True, "has no project of that name"),
    "project-without-repository": (400, Kind.INVALID, True, "Harbor requires project/repository"),
    "proxy-cache-destination": (403, Kind.FORBIDDEN, True, "is a pull-through cache"),
    "quota-at-blob": (403, Kind.FORBIDDEN, True, "the storage quota of the project"),
    "quota-at-index-with-attestations": (403, Kind.FORBIDDEN, True, "the storage quota of the project"),
    "read-only": (403, Kind.FORBIDDEN, True, "end its read-only mode"),
    "robot-pull-only": (401, Kind.UNAUTHORIZED, True, "is not allowed to push"),
    "wrong-password": (401, Kind.UNAUTHORIZED, True, "check user name, password and rights"),
}
_ENDPOINTS = {"manifests": "manifest", "blobs/uploads": "upload", "blobs": "blob", "tags": "tags"}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_harbor_refusal_maps_to_kind_and_advice(name):
    status, kind, permanent, advice = RECORDED[name]
    told = [
        failures.from_answer(
            exchange.status,
            headers_of(exchange.response["headers"]),
            json.dumps(exchange.response["body"]).encode() if "body" in exchange.response else b"",
            attempt=Attempt("harbor.test", exchange.method, _ENDPOINTS.get(exchange.target[1], "ping")),
            account=Account("harbor.test", "robot", Secret("hush-hush")),
        )
        for exchange in exchanges_of(recorded(name))
        if exchange.status == status
    ]
    assert (kind, permanent) in {(error.kind, error.permanent) for error in told}
    assert any(advice in error.advice for error in told if error.kind is kind)
