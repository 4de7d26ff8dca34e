"""Lists the repositories of a registry: Harbor's, Docker Hub's and Quay's APIs, otherwise `_catalog`.

`_catalog` is not in distribution-spec 1.1. It is described by the documentation of the distribution registry ("Listing
Repositories"), and registries implement it in part.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from urllib.parse import quote

import msgspec

from syncer.errors import Attempt, RegistryError
from syncer.http.client import RegistryClient
from syncer.http.request import Answer
from syncer.oci.reference import DOCKER_HUB, Repository
from syncer.places.content import ListsRepositories, RepositoryListing
from syncer.places.registry.answers import SUCCESS, invalid, is_refusal
from syncer.places.registry.capabilities import PAGE_SIZES
from syncer.places.registry.catalog_pages import MAX_PAGE_BYTES, Get, Page, PagedListing
from syncer.places.registry.headers import number
from syncer.places.registry.link_header import InvalidLink, next_target, target_of

HUB_API_HOST = "hub.docker.com"
_PAGE = 100
"""Repositories per page. Harbor and Docker Hub allow no more."""
_CATALOG = "/v2/_catalog"
_CATALOG_SCOPE = ("registry:catalog:*",)
_HARBOR = "/api/v2.0"
_ENDPOINT = "tags"  # the label of listings in metrics
_REFUSED = frozenset({401, 403})
ROUND = 10
"""Some registries truncate lists at a multiple of this number and send no `Link` header."""
_OAUTH_USER = "$oauthtoken"


class RegistryRepositories(ListsRepositories):
    """The repositories of one registry, as one account sees them. `client_for` returns the client for another host."""

    def __init__(self, client: RegistryClient, client_for: Callable[[Repository], RegistryClient]) -> None:
        self._client = client
        self._client_for = client_for
        self._lock = asyncio.Lock()
        self._is_harbor: bool | None = None
        self._listings: dict[str, RepositoryListing] = {}

    async def listing(self, prefix: str) -> RepositoryListing:
        host, project = self._client.host, prefix.partition("/")[0]
        async with self._lock:
            if host == DOCKER_HUB:
                make: Callable[[str], RepositoryListing] = self._docker_hub
            elif project and _is_quay(host):
                make = self._quay
            elif await self._speaks_harbor():
                make = self._harbor
            else:
                make, project = self._catalog, ""
            if project not in self._listings:
                self._listings[project] = make(project)
            return self._listings[project]

    async def _speaks_harbor(self) -> bool:
        """Whether the registry has Harbor's API: `GET /ping` answers `Pong` without an account."""
        if self._is_harbor is None:
            try:
                answer = await self._get(f"{_HARBOR}/ping", "Harbor's API")
                self._is_harbor = answer.body.strip().lower() == b"pong"
            except RegistryError as error:
                if not is_refusal(error, _ENDPOINT) or not error.permanent:
                    raise
                self._is_harbor = False
        return self._is_harbor

    async def _get(self, target: str, what: str, headers: dict[str, str] | None = None) -> Answer:
        """Send a GET request to a vendor's API, which takes no tokens of the registry."""
        return await self._client.send(
            "GET",
            target,
            endpoint=_ENDPOINT,
            scopes=None,
            what=what,
            headers={"Accept": "application/json", **(headers or {})},
            ok=SUCCESS,
            limit=MAX_PAGE_BYTES,
        )

    # Harbor (`api/v2.0/swagger.yaml`: listRepositories, listAllRepositories)

    def _harbor(self, project: str) -> RepositoryListing:
        path = f"{_HARBOR}/projects/{quote(project)}/repositories" if project else f"{_HARBOR}/repositories"
        what = f"repositories of {self._client.host}/{project}"

        async def get(target: str) -> Answer:
            return await self._get(target, what, await self._client.basic())

        attempt = self._attempt(what)

        def read(answer: Answer) -> Page:
            listed = msgspec.json.decode(answer.body, type=list[_Named])
            names = [each.name for each in listed]
            following = _linked(answer, path, attempt)
            total = number(answer.headers.get("x-total-count"))
            return Page(names, len(names), following, None if total < 0 else total)

        advice = (
            f"give the account the permission to list the repositories of {project or 'its projects'} (for a robot"
            " account: Repository, List), or name the repositories in the rules"
        )
        return PagedListing(
            "Harbor's API",
            get,
            f"{path}?page=1&page_size={_PAGE}&sort=name",
            read=read,
            attempt=attempt,
            refused=lambda error: _explained(error, "Harbor's API", advice),
        )

    # Docker Hub (docs.docker.com, "Docker Hub API": List repositories, Create access token)

    def _docker_hub(self, namespace: str) -> RepositoryListing:
        what = f"repositories of {DOCKER_HUB}/{namespace}"
        attempt = Attempt(HUB_API_HOST, "GET", _ENDPOINT, what)
        hub = _HubClient(self._client_for(Repository(HUB_API_HOST, namespace)), self._client, what)
        path = f"/v2/repositories/{quote(namespace)}/"

        def read(answer: Answer) -> Page:
            found = msgspec.json.decode(answer.body, type=_HubPage)
            names = [f"{each.namespace or namespace}/{each.name}" for each in found.results]
            try:
                following = found.next and target_of(found.next, url=answer.url, same_list=path)
            except InvalidLink as error:
                raise invalid(f"the link to the next page is invalid: {error}", attempt) from error
            return Page(names, len(names), following or None, found.count)

        advice = (
            f"check the namespace {namespace!r} and the account for {DOCKER_HUB}, or name the repositories"
        )
        return PagedListing(
            "Docker Hub's API",
            hub.get,
            f"{path}?page=1&page_size={_PAGE}",
            read=read,
            attempt=attempt,
            refused=lambda error: _explained(error, "Docker Hub's API", advice),
            warning="" if self._client.account else "only public repositories are listed without an account",
        )

    # Quay (its API's listRepos)

    def _quay(self, namespace: str) -> RepositoryListing:
        what = f"repositories of {self._client.host}/{namespace}"
        path = f"/api/v1/repository?namespace={quote(namespace, safe='')}&public=true"
        account = self._client.account
        token = account.password if account and account.username == _OAUTH_USER else None
        attempt = self._attempt(what)

        async def get(target: str) -> Answer:
            return await self._get(
                target, what, {"Authorization": f"Bearer {token.reveal()}"} if token else None
            )

        def read(answer: Answer) -> Page:
            found = msgspec.json.decode(answer.body, type=_QuayPage)
            names = [f"{each.namespace or namespace}/{each.name}" for each in found.repositories]
            following = f"{path}&next_page={quote(found.next_page, safe='')}" if found.next_page else None
            return Page(names, len(names), following)

        advice = (
            f'use an OAuth token of Quay with the permission "View all visible repositories" (user {_OAUTH_USER}), or name'
            " the repositories in the rules"
        )
        return PagedListing(
            "Quay's API",
            get,
            path,
            read=read,
            attempt=attempt,
            refused=lambda error: _explained(error, "Quay's API", advice),
            warning="" if token else f"only public repositories are listed: to list all, {advice}",
        )

    # _catalog

    def _catalog(self, _project: str) -> RepositoryListing:
        host = self._client.host
        what = f"_catalog of {host}"
        attempt = self._attempt(what)

        async def get(target: str) -> Answer:
            return await self._client.send(
                "GET",
                target,
                endpoint=_ENDPOINT,
                scopes=_CATALOG_SCOPE,
                what=what,
                ok=SUCCESS,
                limit=MAX_PAGE_BYTES,
            )

        return CatalogListing(get, attempt)

    def _attempt(self, what: str) -> Attempt:
        return Attempt(self._client.host, "GET", _ENDPOINT, what)


class CatalogListing(RepositoryListing):
    """What `_catalog` lists. It tries smaller pages if the registry refuses the page size."""

    method = "_catalog"

    def __init__(self, get: Get, attempt: Attempt) -> None:
        self._get = get
        self._attempt = attempt

    async def pages(self) -> AsyncIterator[list[str]]:
        begun = False
        for size in PAGE_SIZES:
            try:
                async for page in self._listing(size).pages():
                    begun = True
                    yield page
            except RegistryError as error:
                may_be_size = is_refusal(error, _ENDPOINT) and error.status not in {*_REFUSED, 404}
                if begun or size is None or not may_be_size:
                    raise
            else:
                return

    def _listing(self, size: int | None) -> RepositoryListing:
        def read(answer: Answer) -> Page:
            # Some registries send null if there is nothing. Any other document is not a list.
            names = msgspec.json.decode(answer.body, type=_Catalog).repositories or []
            following = _linked(answer, _CATALOG, self._attempt)
            if following is None and names and len(names) % ROUND == 0:
                # The registry may have truncated the list here without sending a link.
                return Page(names, len(names), _catalog_target(size, names[-1]), guessed=True)
            return Page(names, len(names), following)

        return PagedListing(
            self.method,
            self._get,
            _catalog_target(size),
            read=read,
            attempt=self._attempt,
            refused=lambda error: _explained(
                error,
                self.method,
                f"{error.registry} may show its list of repositories to administrators only, or to nobody: use another"
                " account, or name the repositories in the rules",
            ),
        )


class _HubClient:
    """Sends requests to Docker Hub's API, which has tokens of its own. `registry` has the account."""

    def __init__(self, api: RegistryClient, registry: RegistryClient, what: str) -> None:
        self._api = api
        self._registry = registry
        self._what = what
        self._token: str | None = None

    async def get(self, target: str) -> Answer:
        header = (await self._registry.basic()).get("Authorization")
        if header is not None and self._token is None:
            self._token = await self._log_in(header)
        return await self._api.send(
            "GET",
            target,
            endpoint=_ENDPOINT,
            scopes=None,
            what=self._what,
            headers={"Authorization": f"Bearer {self._token}"} if self._token else None,
            ok=SUCCESS,
            limit=MAX_PAGE_BYTES,
        )

    async def _log_in(self, header: str) -> str:
        """Return a token for the user name and password of a Basic header."""
        user, _, secret = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
        answer = await self._api.send(
            "POST",
            "/v2/auth/token",
            endpoint="token",
            scopes=None,
            what=f"token for {HUB_API_HOST}",
            headers={"Content-Type": "application/json"},
            content=msgspec.json.encode({"identifier": user, "secret": secret}),
            ok=SUCCESS,
        )
        try:
            return msgspec.json.decode(answer.body, type=_HubToken).access_token
        except msgspec.MsgspecError as error:
            attempt = Attempt(HUB_API_HOST, "POST", "token", f"token for {HUB_API_HOST}")
            raise invalid(f"the answer has no token: {error}", attempt) from None


class _Named(msgspec.Struct, frozen=True):
    name: str


class _InNamespace(msgspec.Struct, frozen=True):
    name: str
    namespace: str = ""


class _HubPage(msgspec.Struct, frozen=True):
    results: list[_InNamespace]
    count: int | None = None
    next: str | None = None


class _HubToken(msgspec.Struct, frozen=True):
    access_token: str


class _QuayPage(msgspec.Struct, frozen=True):
    repositories: list[_InNamespace]
    next_page: str | None = None


class _Catalog(msgspec.Struct, frozen=True):
    repositories: list[str] | None


def _is_quay(host: str) -> bool:
    """Return whether a host is Quay by its name: no answer of Quay names it before the account is known."""
    return "quay" in host.partition(":")[0].split(".")


def _linked(answer: Answer, path: str, attempt: Attempt) -> str | None:
    try:
        return next_target(answer.headers.get_list("link"), url=answer.url, same_list=path)
    except InvalidLink as error:
        raise invalid(f"the link to the next page is invalid: {error}", attempt) from error


def _catalog_target(size: int | None, last: str = "") -> str:
    query = "&".join([*([f"n={size}"] if size else ()), *([f"last={quote(last, safe='')}"] if last else ())])
    return f"{_CATALOG}?{query}" if query else _CATALOG


def _explained(error: RegistryError, method: str, advice: str) -> RegistryError:
    """Return the error of a refused request with the method and advice."""
    message = f"{method}: {error.message}"
    if error.status in _REFUSED and error.advice:
        advice = f"{error.advice}; or {advice}"
    elif error.status not in {*_REFUSED, 404}:
        advice = error.advice
    return error.with_changes(message=message, advice=advice)
