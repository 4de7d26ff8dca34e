"""A Harbor for tests, over real sockets: projects, robots, tokens and policies. It responds like recordings of Harbor 2.15.

A request that no recording covers gets a 501 and fails the test: see `Harbor.unrecorded`.
"""

import re
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import quote

from syncer.demo import Answer, Recorded, Request, Store
from syncer.demo.errors import Refusal
from syncer.demo.messages import kept_headers
from syncer.demo.server import Server
from syncer.demo.store import StoredManifest
from syncer.oci.digest import Digest
from tests.support import harbor_answers as rows
from tests.support.harbor_access import Access, Account, Login, NotRecorded, Project
from tests.support.harbor_answers import compact
from tests.support.harbor_api import Api
from tests.support.harbor_blobs import Blobs
from tests.support.wire import kind

HOST = "127.0.0.1"
_MAX_MANIFEST = 4 << 20
_PATH = re.compile(
    r"/v2/(?P<repository>.+)/(?:"
    r"manifests/(?P<manifest>[^/]+)"
    r"|blobs/uploads/(?P<upload>[^/]*)"
    r"|blobs/(?P<blob>[^/]+)"
    r"|(?P<tags>tags)/list"
    r"|referrers/(?P<referrers>[^/]+))"
)
_INDEX = "application/vnd.oci.image.index.v1+json"

Endpoint = Callable[[Request, str, str], Awaitable[Answer]]
Hook = Callable[[Request], Awaitable[None]]


class Harbor:
    """Up while the `async with` block runs, at `host`. `store` is the registry behind it. What tests may set:

    `read_only`: the whole system refuses changes;
    `vanishing`: blobs, as repository and digest, that go when the next manifest is pushed;
    `projects` and `access.accounts`, and what garbage collection does: `blobs.collecting`, `blobs.stuck`.

    `requests`, `logins` and `unrecorded` are records, in order; `moved` are the bytes of blobs by direction.
    """

    def __init__(self, projects: Iterable[Project] = (), accounts: Iterable[Account] = ()) -> None:
        self.store = Store()
        self.access = Access(projects, accounts)
        self.requests: deque[Recorded] = deque()
        self.unrecorded: list[str] = []
        self.moved: Counter[str] = Counter()
        self.read_only = False
        self.vanishing: set[tuple[str, Digest]] = set()
        self.host = ""
        self.blobs = Blobs(self.access, self.store, lambda: self.url)
        self._api = Api(self.access, self.store)
        self._hooks: list[Hook] = []
        self._endpoints: dict[tuple[str, str], Endpoint] = {
            ("GET", "manifest"): self._get_manifest,
            ("HEAD", "manifest"): self._get_manifest,
            ("PUT", "manifest"): self._put_manifest,
            ("GET", "blob"): self.blobs.get,
            ("HEAD", "blob"): self.blobs.head,
            ("POST", "upload"): self.blobs.start,
            ("PATCH", "upload"): self.blobs.continue_,
            ("PUT", "upload"): self.blobs.finish,
            ("DELETE", "upload"): self.blobs.cancel,
            ("GET", "tags"): self._list_tags,
            ("GET", "referrers"): self._list_referrers,
        }

    async def __aenter__(self) -> Self:
        self._server = Server(self._handle)
        self.host = f"{HOST}:{await self._server.listen(HOST, 0)}"
        return self

    async def __aexit__(self, kind: object, *_exc: object) -> None:
        await self._server.close()
        if kind is None and self.unrecorded:
            raise AssertionError("no recording of Harbor covers:\n" + "\n".join(self.unrecorded))

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    @property
    def projects(self) -> dict[str, Project]:
        return self.access.projects

    @property
    def logins(self) -> list[Login]:
        """The logins with user name and password at the token service, the registry and the API."""
        return self.access.logins

    def entry(self, account: str) -> dict[str, Any]:
        """Return the auth file entry of an account for this Harbor."""
        found = self.access.accounts[account]
        return {"username": found.name, "password": found.password, "plain_http": True}

    def before(self, hook: Hook) -> Hook:
        """Call `hook` with each request before the response, to change something at a given moment."""
        self._hooks.append(hook)
        return hook

    def forget(self) -> None:
        """Clear all records."""
        self.requests.clear()
        self.logins.clear()
        self.moved.clear()

    def kinds(self) -> Counter[tuple[str, int]]:
        """How many requests of each kind were answered with each status: `("PUT manifest", 412)`, `("GET token", 200)`."""
        return Counter((_kind(request), request.status) for request in self.requests)

    def delete_artifact(self, repository: str, digest: Digest) -> None:
        """Delete an artifact and its tags as Harbor's UI does. Its blobs stay until garbage collection."""
        self.store.delete_manifest(repository, digest)

    def delete_repository(self, repository: str) -> None:
        """As in Harbor's UI: blobs stay until they are collected."""
        for stored in self.store.manifests(repository):
            self.store.delete_manifest(repository, stored.digest)

    def knows(self, repository: str) -> bool:
        """Whether Harbor lists the repository: something was pushed to it, not only blobs."""
        return bool(self.store.manifests(repository))

    # One request

    async def _handle(self, request: Request) -> Answer | None:
        try:
            answer = await self._answer(request)
        except ConnectionError:
            self._record(request, 0, 0)
            return None
        except NotRecorded as reason:
            target = f"{request.method} {request.path}?{request.query_string}".rstrip("?")
            self.unrecorded.append(f"{target}: {reason}")
            answer = Answer(501, {"Content-Type": "text/plain"}, f"no recording covers {target}".encode())
        self._record(request, answer.status, len(answer.body))
        return answer

    def _record(self, request: Request, status: int, size: int) -> None:
        sent = 0 if request.method == "HEAD" else size
        if "/blobs/" in request.path and request.received:
            self.moved["in"] += request.received
        if "/blobs/" in request.path and status == HTTPStatus.OK and sent:
            self.moved["out"] += sent
        record = Recorded(
            request.method,
            request.path,
            request.query_string,
            status,
            kept_headers(request.headers),
            request.received,
            sent,
        )
        self.requests.append(record)

    async def _answer(self, request: Request) -> Answer:
        for hook in self._hooks:
            await hook(request)
        if request.path == "/service/token":
            return self.access.token(request)
        changes = request.method not in {"GET", "HEAD"}
        if changes and "sid=" in request.headers.get("Cookie", ""):
            has_both = "_gorilla_csrf=" in request.headers["Cookie"]
            return (rows.NO_CSRF_TOKEN if has_both else rows.NO_CSRF_COOKIE).answer()
        if request.path.startswith("/api/v2.0/"):
            if changes and self.read_only:
                raise NotRecorded("a change through the API in read-only mode")
            return await self._api.answer(request)
        if request.path == "/v2/":
            return self.access.ping(request, self.url)
        if request.path == "/v2/_catalog":
            return self._catalog(request)
        return await self._registry(request, changes=changes)

    async def _registry(self, request: Request, *, changes: bool) -> Answer:
        match = _PATH.fullmatch(request.path)
        endpoint = match and self._endpoints.get((request.method, match.lastgroup or ""))
        if match is None or endpoint is None:
            raise NotRecorded("no such endpoint")
        repository = match["repository"]
        if "/" not in repository:
            return rows.BAD_NAME.answer(repository=repository)
        if changes and self.read_only:
            return rows.READ_ONLY.answer()
        action = "push" if changes else "pull"
        if refused := self.access.refusal(request, repository, action, self.url):
            return refused
        if changes and self._project(repository).proxy_cache:
            return rows.PROXY_PROJECT.answer(project=self._project(repository).name)
        return await endpoint(request, repository, match[match.lastgroup or ""])

    def _project(self, repository: str) -> Project:
        return self.access.projects[repository.partition("/")[0]]

    # Manifests

    async def _get_manifest(self, request: Request, repository: str, reference: str) -> Answer:
        project = self._project(repository)
        stored = self.store.manifest(repository, reference)
        if stored is None:
            return self._no_manifest(request, repository, reference)
        if project.signed_only and not self._is_signed(repository, stored, reference):
            return rows.UNSIGNED.answer()
        row = rows.UPSTREAM_MANIFEST if project.proxy_cache else rows.MANIFEST
        return row.answer(stored.raw, media_type=stored.media_type, digest=stored.digest)

    def _no_manifest(self, request: Request, repository: str, reference: str) -> Answer:
        if self._project(repository).proxy_cache:
            if request.method != "HEAD":
                raise NotRecorded("GET of a manifest that the upstream does not have")
            row = rows.NO_UPSTREAM_TAG
        elif ":" in reference:
            row = rows.NO_MANIFEST
        else:
            row = rows.NO_TAG if self.knows(repository) else rows.NO_REPOSITORY
        return row.answer(repository=repository, reference=reference)

    def _is_signed(self, repository: str, stored: StoredManifest, reference: str) -> bool:
        """A signature of cosign is a tag beside the image; signatures themselves may be pulled."""
        signature = stored.digest.replace(":", "-") + ".sig"
        return reference.endswith(".sig") or signature in self.store.tags(repository)

    async def _put_manifest(self, request: Request, repository: str, reference: str) -> Answer:
        raw = await request.read(_MAX_MANIFEST)
        for name, digest in self.vanishing:
            self.blobs.lose(name, digest)
        self.vanishing.clear()
        project = self._project(repository)
        is_immutable = any(fnmatchcase(reference, pattern) for pattern in project.immutable)
        if is_immutable and self.store.manifest(repository, reference):
            name = repository.partition("/")[2]
            return rows.IMMUTABLE.answer(name=name, reference=reference)
        is_new = self.store.manifest(repository, Digest.of(raw)) is None
        if is_new and (refused := self.blobs.over_quota(project, len(raw))):
            return refused
        try:
            stored = self.store.put_manifest(
                repository, raw, request.headers.get("Content-Type", ""), reference=reference
            )
        except Refusal as refusal:
            return _manifest_refused(refusal)
        parts: dict[str, Any] = {"url": self.url, "repository": repository, "digest": stored.digest}
        if subject := stored.manifest.subject:
            return rows.PUSHED_REFERRER.answer(subject=subject, **parts)
        return rows.PUSHED.answer(**parts)

    # Tags, catalog, referrers

    async def _list_tags(self, request: Request, repository: str, _rest: str) -> Answer:
        if not self._project(repository).proxy_cache and not self.knows(repository):
            return rows.NO_REPOSITORY.answer(repository=repository)
        asked = request.query.get("n")
        if asked is not None and not re.fullmatch("[0-9]+", asked):
            return rows.BAD_PAGE.answer()
        last = request.query.get("last", "")
        tags = [tag for tag in sorted(self.store.tags(repository)) if tag > last]
        page = tags if asked is None else tags[: int(asked)]
        body = compact({"name": repository, "tags": page})
        if not page or len(page) == len(tags):
            return rows.TAGS.answer(body)
        return rows.TAGS_PAGE.answer(body, next=_next(request.path, page, asked))

    def _catalog(self, request: Request) -> Answer:
        account = self.access.basic(request, "registry")
        if account is None and not request.headers.get("Authorization", "").startswith("Basic "):
            raise NotRecorded("the catalog without a name and a password")
        if account is None or not account.admin:
            return rows.NO_CATALOG.answer()
        asked = request.query.get("n")
        if asked is None:
            raise NotRecorded("the catalog without n")
        last = request.query.get("last", "")
        names = [name for name in self.store.repositories() if self.knows(name) and name > last]
        page = names[: int(asked)]
        body = compact({"repositories": page})
        if len(page) == len(names):
            return rows.CATALOG.answer(body)
        return rows.CATALOG_PAGE.answer(body, next=_next(request.path, page, asked))

    async def _list_referrers(self, request: Request, repository: str, subject: str) -> Answer:
        found = self.store.referrers(repository, subject)
        row = rows.REFERRERS
        if wanted := request.query.get("artifactType"):
            found = [entry for entry in found if entry.get("artifactType") == wanted]
            row = rows.REFERRERS_OF_TYPE
        index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": found}
        return row.answer(compact(index), total=len(found))


def _kind(request: Recorded) -> str:
    for prefix, name in (("/service/", "token"), ("/api/", "api"), ("/v2/_catalog", "catalog")):
        if request.path.startswith(prefix):
            return f"{request.method} {name}"
    return kind(request)


def _next(path: str, page: list[str], asked: str | None) -> str:
    return f"{path}?last={quote(page[-1], safe='')}&n={asked}"


def _manifest_refused(refusal: Refusal) -> Answer:
    if refusal.code == "MANIFEST_BLOB_UNKNOWN" and len(refusal.details) == 1:
        return rows.MISSING_PART.answer(digest=refusal.details[0]["digest"])
    if refusal.code == "MANIFEST_INVALID":
        return rows.UNKNOWN_TYPE.answer()
    raise NotRecorded(str(refusal))
