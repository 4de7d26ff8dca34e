"""The responses of a Harbor: one row per response, with the recorded exchange that it comes from.

The recordings are of Harbor 2.15.2 over docker-registry 2.8.2, see `harbor_exchanges`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from syncer.demo import Answer

EXCHANGES = Path(__file__).with_name("harbor_exchanges")
ERRORS = "application/json; charset=utf-8"
API = {"Docker-Distribution-Api-Version": "registry/2.0"}
"""On answers of the registry behind Harbor, and on Harbor's own 401."""
BASIC = 'Basic realm="harbor"'
BEARER = 'Bearer realm="{url}/service/token",service="harbor-registry"'
BEARER_SCOPE = BEARER + ',scope="repository:{repository}:pull"'
CONTENT = {"Docker-Content-Digest": "{digest}", "Etag": '"{digest}"', **API}


@dataclass(frozen=True, slots=True)
class Row:
    """One answer. `{parts}` in headers and message are filled in; `seen_in` names the recorded exchange.

    With `code` the body is an error, and `message` and `detail` are its text. `cookie` is whether the answer
    sets the session's cookie.
    """

    seen_in: str
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    message: str = ""
    detail: str = ""
    cookie: bool = True

    def answer(self, body: bytes = b"", **parts: Any) -> Answer:
        """The answer with its parts filled in. `body` is that of an answer without `code`."""
        headers = {name: value.format(**parts) for name, value in self.headers.items()}
        if self.code:
            error = {"code": self.code, "message": self.message.format(**parts)}
            if self.detail:
                error["detail"] = self.detail.format(**parts)
            body = compact({"errors": [error]})
            headers["Content-Type"] = ERRORS
        if self.cookie:
            headers["Set-Cookie"] = "sid=0123456789abcdef; Path=/; HttpOnly"
        return Answer(self.status, headers, body)


def compact(document: object) -> bytes:
    """JSON as Go's encoder writes it: without spaces, and with a newline."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def recorded(name: str) -> dict[str, Any]:
    """A recorded exchange: its `situation`, and its `exchanges` or `webhooks`."""
    return _read(EXCHANGES / f"{name}.json")


@cache
def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def _twice(text: str) -> str:
    """Harbor's errors of authorization repeat their text."""
    return f"{text}: {text}"


def _refused(seen_in: str, challenge: str, message: str) -> Row:
    headers = {**API, "Www-Authenticate": challenge}
    return Row(seen_in, 401, headers, code="UNAUTHORIZED", message=_twice(message))


# Tokens
TOKEN = Row("check-online-ok", 200, {"Content-Type": ERRORS})
NO_TOKEN = Row("check-online-wrong-password", 401)

# Access
LOGIN_WANTED = _refused("check-online-ok", BEARER, "unauthorized")
TOKEN_WANTED = _refused("new-repository", BEARER_SCOPE, "authorize header needed to send HEAD to repository")
NO_RIGHTS = _refused(
    "wrong-password", BASIC, "unauthorized to access repository: {repository}, action: {action}"
)
NO_PROJECT = _refused("missing-project", "", "project {project} not found")
NO_CATALOG = _refused("list-project", BASIC, "unauthorized to list catalog")
NO_CSRF_TOKEN = Row("cookie", 403, code="FORBIDDEN", message="CSRF token not found in request", cookie=False)
NO_CSRF_COOKIE = Row(
    "cookie",
    403,
    {"Set-Cookie": "_gorilla_csrf=0123456789abcdef; Path=/; HttpOnly"},
    code="FORBIDDEN",
    message="CSRF token not found in request",
    cookie=False,
)
BAD_NAME = Row(
    "project-without-repository",
    400,
    code="BAD_REQUEST",
    message="bad request: invalid repository name: {repository}",
    cookie=False,
)
READ_ONLY = Row(
    "read-only",
    403,
    code="DENIED",
    message="The system is in read only mode. Any modification is prohibited.",
    cookie=False,
)
PROXY_PROJECT = Row(
    "proxy-cache-destination",
    403,
    code="DENIED",
    message="denied: can not push artifact to a proxy project: {project}",
)
PING = Row("check-online-ok", 200, {"Content-Type": ERRORS, **API})

# Manifests and tags
NO_REPOSITORY = Row("new-repository", 404, code="NOT_FOUND", message="repository {repository} not found")
NO_TAG = Row("artifact-deleted", 404, code="NOT_FOUND", message="artifact {repository}:{reference} not found")
NO_MANIFEST = Row(
    "missing-things", 404, code="NOT_FOUND", message="artifact {repository}@{reference} not found"
)
# A HEAD has no body. This message has the length that was recorded; its words were not.
NO_UPSTREAM_TAG = Row(
    "proxy-cache-missing",
    404,
    code="NOT_FOUND",
    message="(words not recorded) artifact {repository}:{reference} not found",
)
UNSIGNED = Row(
    "content-trust-source", 412, code="PROJECTPOLICYVIOLATION", message="The image is not signed by cosign."
)
MANIFEST = Row("public-anonymous", 200, {"Content-Type": "{media_type}", **CONTENT})
UPSTREAM_MANIFEST = Row(
    "proxy-cache-source",
    200,
    {"Content-Type": "{media_type}", "Docker-Content-Digest": "{digest}", "Etag": "{digest}"},
)
IMMUTABLE = Row(
    "immutable-force",
    412,
    code="PRECONDITION",
    message="Failed to process request due to '{name}:{reference}' configured as immutable.",
)
QUOTA = Row(
    "quota-at-blob",
    403,
    code="DENIED",
    message="adding {size} of storage resource, which when updated to current usage of {used} "
    "will exceed the configured upper limit of {quota}.",
)
UNKNOWN_TYPE = Row(
    "bad-manifest", 400, code="MANIFEST_INVALID", message="unmarshal manifest failed: missing signature key"
)
MISSING_PART = Row(
    "blob-vanished",
    400,
    API,
    code="MANIFEST_BLOB_UNKNOWN",
    message="blob unknown to registry",
    detail="{digest}",
)
PUSHED = Row(
    "new-repository",
    201,
    {"Location": "{url}/v2/{repository}/manifests/{digest}", "Docker-Content-Digest": "{digest}", **API},
)
PUSHED_REFERRER = Row("kinds", 201, {**PUSHED.headers, "Oci-Subject": "{subject}"})
TAGS = Row("tags-paging", 200, {"Content-Type": ERRORS})
TAGS_PAGE = Row("tags-paging", 200, {"Content-Type": ERRORS, "Link": '<{next}>; rel="next"'})
BAD_PAGE = Row("tags-paging", 400, code="BAD_REQUEST", message="the N must be a positive int type")
CATALOG_PAGE = Row("list-project", 200, TAGS_PAGE.headers)
# The last page of the catalog was not recorded: it is taken to be as the last page of tags.
CATALOG = Row("tags-paging", 200, TAGS.headers)
_INDEX = {"Content-Type": "application/vnd.oci.image.index.v1+json", "X-Total-Count": "{total}"}
REFERRERS = Row("referrers", 200, _INDEX)
REFERRERS_OF_TYPE = Row("referrers", 200, {**_INDEX, "Oci-Filters-Applied": "artifactType"})

# Blobs
BLOB = Row("public-anonymous", 200, {"Content-Type": "application/octet-stream", **CONTENT})
UPSTREAM_BLOB = Row("proxy-cache-source", 200, {"Content-Type": "{media_type}"})
NO_BLOB = Row(
    "missing-things",
    404,
    API,
    code="BLOB_UNKNOWN",
    message="blob unknown to registry",
    detail="{digest}",
)
# To HEAD only: the message has the length that was recorded.
NO_BLOB_ANYWHERE = Row("new-repository", 404, code="NOT_FOUND", message="blob {digest} not found")
BLOB_IN_COLLECTION = Row(
    "blob-in-garbage-collection",
    404,
    code="NOT_FOUND",
    message="the asking blob is in GC, mark it as non existing, request id: {request}",
)
_SESSION = {
    "Docker-Upload-Uuid": "{upload}",
    "Location": "{url}/v2/{repository}/blobs/uploads/{upload}?_state={state}",
    "Range": "0-{end}",
    **API,
}
UPLOAD_STARTED = Row("new-repository", 202, _SESSION)
UPLOAD_CONTINUED = Row("blob-in-garbage-collection", 202, _SESSION)
UPLOAD_CANCELLED = Row("quota-at-blob", 204, {"Docker-Upload-Uuid": "{upload}", **API})
_BLOB_CREATED = {
    "Location": "{url}/v2/{repository}/blobs/{digest}",
    "Docker-Content-Digest": "{digest}",
    **API,
}
UPLOADED = Row("new-repository", 201, _BLOB_CREATED)
MOUNTED = Row("mount", 201, _BLOB_CREATED)

# Harbor's own API
_JSON = {"Content-Type": "application/json"}
_LISTED = {**_JSON, "X-Total-Count": "{total}"}
PROJECT_CREATED = Row("create-project", 201, {"Location": "/api/v2.0/projects/{id}"})
PROJECT_EXISTS = Row(
    "create-project-conflict", 409, code="CONFLICT", message="The project named {project} already exists"
)
PROJECT_BAD_NAME = Row(
    "project-names",
    400,
    code="BAD_REQUEST",
    message="project name is not in lower case or contains illegal characters",
)
ONLY_ADMINS = Row(
    "create-project-refused", 403, code="FORBIDDEN", message="Only system admin can create project"
)
ONLY_SYSTEM_ROBOTS = Row(
    "create-project-refused-robot",
    403,
    code="FORBIDDEN",
    message="Only system level robot can create project",
)
API_LOGIN_WANTED = Row("list-project", 401, code="UNAUTHORIZED", message="unauthorized")
API_FORBIDDEN = Row("list-project", 403, code="FORBIDDEN", message="{reason}")
API_NO_PROJECT = Row("list-project", 404, code="NOT_FOUND", message="project {project} not found")
PROJECT_FOUND = Row("list-project", 200)
BAD_PAGE_SIZE = Row(
    "list-project",
    422,
    code="UNPROCESSABLE_ENTITY",
    message="validation failure list:\npage_size in query should be less than or equal to 100",
)
LISTED = Row("list-project", 200, _LISTED)
LISTED_PAGE = Row("list-project", 200, {**_LISTED, "Link": '<{next}>; rel="next"'})
CURRENT_USER = Row("list-project", 200, _JSON)
