"""The API v2.0 of the Harbor for tests: it creates projects and lists repositories and artifacts."""

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import quote, unquote, urlencode

from syncer.demo import Answer, Request, Store
from syncer.demo.store import StoredManifest
from tests.support import harbor_answers as rows
from tests.support.harbor_access import Access, Account, NotRecorded, Project
from tests.support.harbor_answers import compact

_PREFIX = "/api/v2.0"
_PROJECT_NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_MAX_PAGE = 100
_NEVER = "0001-01-01T00:00:00.000Z"
_THEN = "2026-11-26T05:32:11.137Z"

_Endpoint = Callable[[Request, re.Match[str]], Awaitable[Answer]]


class Api:
    """Answers what is under `/api/v2.0/`, with the projects and accounts of `access` and the content of `store`."""

    def __init__(self, access: Access, store: Store) -> None:
        self._access = access
        self._store = store
        self._endpoints: tuple[tuple[str, str, _Endpoint], ...] = (
            ("GET", r"/ping", self._ping),
            ("GET", r"/repositories", self._all_repositories),
            ("POST", r"/projects", self._create),
            ("HEAD", r"/projects", self._exists),
            ("GET", r"/projects/(?P<project>[^/]+)/repositories", self._repositories),
            (
                "GET",
                r"/projects/(?P<project>[^/]+)/repositories/(?P<repository>[^/]+)/artifacts",
                self._artifacts,
            ),
            (
                "DELETE",
                (
                    r"/projects/(?P<project>[^/]+)/repositories/(?P<repository>[^/]+)"
                    r"/artifacts/(?P<reference>[^/]+)/tags/(?P<tag>[^/]+)"
                ),
                self._delete_tag,
            ),
            ("GET", r"/users/current", self._user),
            ("GET", r"/robots", self._robots),
        )

    async def answer(self, request: Request) -> Answer:
        """Raises `NotRecorded` for what no recording shows."""
        for method, pattern, endpoint in self._endpoints:
            match = re.fullmatch(_PREFIX + pattern, request.path)
            if match and request.method == method:
                return await endpoint(request, match)
        raise NotRecorded("no such endpoint of the API")

    async def _ping(self, _request: Request, _match: re.Match[str]) -> Answer:
        # Not recorded: `getPing` of Harbor's api/v2.0/swagger.yaml.
        return Answer(200, {"Content-Type": "text/plain; charset=utf-8"}, b"Pong")

    async def _all_repositories(self, request: Request, _match: re.Match[str]) -> Answer:
        # Not recorded: `listAllRepositories` of Harbor's api/v2.0/swagger.yaml lists the authorized ones, as in a project.
        account = self._access.basic(request, "api")
        visible = [
            project
            for project in self._access.projects.values()
            if project.public or (account and _lists(account, project.name))
        ]
        return _page(request, [document for project in visible for document in self._documents(project.name)])

    async def _create(self, request: Request, _match: re.Match[str]) -> Answer:
        account = self._access.basic(request, "api")
        if account is None:
            return rows.API_LOGIN_WANTED.answer()
        name = json.loads(await request.read(1 << 16))["project_name"]
        if not account.admin and not account.creates_projects:
            return (rows.ONLY_SYSTEM_ROBOTS if account.is_robot else rows.ONLY_ADMINS).answer()
        if not _PROJECT_NAME.fullmatch(name):
            return rows.PROJECT_BAD_NAME.answer()
        if name in self._access.projects:
            return rows.PROJECT_EXISTS.answer(project=name)
        return rows.PROJECT_CREATED.answer(id=self._access.create(Project(name)).id)

    async def _exists(self, request: Request, _match: re.Match[str]) -> Answer:
        if self._access.basic(request, "api") is None:
            raise NotRecorded("whether a project exists, without a login")
        name = request.query["project_name"]
        if name in self._access.projects:
            return rows.PROJECT_FOUND.answer()
        return rows.API_NO_PROJECT.answer(project=name)

    async def _repositories(self, request: Request, match: re.Match[str]) -> Answer:
        if refused := self._refused(request, match["project"]):
            return refused
        return _page(request, self._documents(match["project"])[::-1])

    def _documents(self, project: str) -> list[dict[str, Any]]:
        names = [name for name in self._store.repositories() if name.startswith(f"{project}/")]
        return [
            _repository(number, name, self._access.projects[project], self._store.manifests(name))
            for number, name in enumerate(names, 1)
            if self._store.manifests(name)
        ]

    async def _artifacts(self, request: Request, match: re.Match[str]) -> Answer:
        if refused := self._refused(request, match["project"]):
            return refused
        # A slash is escaped twice; the server has decoded the path once.
        name = f"{match['project']}/{unquote(match['repository'])}"
        stored = self._store.manifests(name)
        if not stored:
            raise NotRecorded("artifacts of a repository that does not exist")
        tags = {
            manifest.digest: [
                tag for tag in self._store.tags(name) if self._store.digest(name, tag) == manifest.digest
            ]
            for manifest in stored
        }
        project = self._access.projects[match["project"]]
        children = {child.digest for each in stored for child in each.manifest.children}
        documents = [
            _artifact(number, name, project, each, tags[each.digest])
            for number, each in enumerate(stored, 1)
            if each.digest not in children or tags[each.digest]
        ]
        return _page(request, documents[::-1])

    async def _delete_tag(self, request: Request, match: re.Match[str]) -> Answer:
        """As Harbor's api/v2.0/swagger.yaml describes "deleteTag": 200, and the artifact stays."""
        account = self._access.basic(request, "api")
        if account is None:
            return rows.API_LOGIN_WANTED.answer()
        name = f"{match['project']}/{unquote(match['repository'])}"
        if not account.admin and "delete" not in account.rights.get(match["project"], ()):
            return rows.API_FORBIDDEN.answer(reason="forbidden")
        if self._store.digest(name, match["tag"]) is None:
            return rows.NO_TAG.answer(repository=name, reference=match["tag"])
        self._store.delete_tag(name, match["tag"])
        return Answer(200, {}, b"")

    async def _user(self, request: Request, _match: re.Match[str]) -> Answer:
        account = self._access.basic(request, "api")
        if account is None or not account.admin:
            raise NotRecorded("who the user is, of another than the administrator")
        document = {
            "admin_role_in_auth": False,
            "comment": "admin user",
            "creation_time": _THEN,
            "realname": "system admin",
            "sysadmin_flag": True,
            "update_time": _THEN,
            "user_id": 1,
            "username": account.name,
        }
        return rows.CURRENT_USER.answer(compact(document))

    async def _robots(self, request: Request, _match: re.Match[str]) -> Answer:
        account = self._access.basic(request, "api")
        if account is None or not account.is_robot:
            raise NotRecorded("the list of robots, for another than a robot")
        return rows.API_FORBIDDEN.answer(reason=account.name)

    def _refused(self, request: Request, name: str) -> Answer | None:
        """Who may not list what is in a project."""
        account = self._access.basic(request, "api")
        project = self._access.projects.get(name)
        if project is None:
            if account is None:
                raise NotRecorded("a project that does not exist, without a login")
            return rows.API_NO_PROJECT.answer(project=name)
        if project.public or (account and _lists(account, name)):
            return None
        return rows.API_FORBIDDEN.answer(reason="forbidden") if account else rows.API_LOGIN_WANTED.answer()


def _lists(account: Account, project: str) -> bool:
    return account.admin or "list" in account.rights.get(project, ())


def _page(request: Request, documents: Sequence[dict[str, Any]]) -> Answer:
    query = request.query
    size, page = int(query.get("page_size", "10")), int(query.get("page", "1"))
    if size > _MAX_PAGE:
        return rows.BAD_PAGE_SIZE.answer()
    body = compact(documents[(page - 1) * size : page * size])
    if page * size >= len(documents):
        return rows.LISTED.answer(body, total=len(documents))
    following = urlencode({**query, "page": page + 1, "page_size": size})
    # The order is that of Go's url.Values, by name.
    ordered = "&".join(sorted(following.split("&")))
    target = request.path.replace("%", "%25")
    return rows.LISTED_PAGE.answer(body, total=len(documents), next=f"{target}?{ordered}")


def _repository(number: int, name: str, project: Project, stored: Sequence[StoredManifest]) -> dict[str, Any]:
    children = {child.digest for each in stored for child in each.manifest.children}
    return {
        "artifact_count": sum(each.digest not in children for each in stored),
        "creation_time": _THEN,
        "id": number,
        "name": name,
        "project_id": project.id,
        "pull_count": 0,
        "update_time": _THEN,
    }


def _artifact(
    number: int, repository: str, project: Project, stored: StoredManifest, tags: Sequence[str]
) -> dict[str, Any]:
    """An image of one platform as Harbor describes it. Raises `NotRecorded` for what is none."""
    config = stored.manifest.config
    if config is None:
        raise NotRecorded("an artifact that is an index")
    escaped = quote(quote(repository.partition("/")[2], safe=""), safe="")
    href = (
        f"{_PREFIX}/projects/{project.name}/repositories/{escaped}"
        f"/artifacts/{stored.digest}/additions/build_history"
    )
    return {
        "accessories": None,
        "addition_links": {"build_history": {"absolute": False, "href": href}},
        "artifact_type": config.media_type,
        "digest": stored.digest,
        "extra_attrs": {"architecture": "amd64", "author": "", "config": {}, "created": None, "os": "linux"},
        "icon": "sha256:0048162a053eef4d4ce3fe7518615bef084403614f8bca43b40ae2e762e11e06",
        "id": number,
        "labels": None,
        "manifest_media_type": stored.media_type,
        "media_type": config.media_type,
        "project_id": project.id,
        "pull_time": _NEVER,
        "push_time": _THEN,
        "references": None,
        "repository_id": 1,
        "repository_name": repository,
        "size": len(stored.raw) + sum(blob.size for blob in stored.manifest.blobs),
        "tags": [
            {
                "artifact_id": number,
                "id": number,
                "immutable": False,
                "name": tag,
                "pull_time": _NEVER,
                "push_time": _THEN,
                "repository_id": 1,
            }
            for tag in tags
        ]
        or None,
        "type": "IMAGE",
    }
