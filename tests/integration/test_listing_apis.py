"""Docker Hub's and Quay's APIs as lists of repositories. Neither can run here; each answer names where it was seen."""

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from syncer.demo import Answer, MemoryRegistry, Request
from syncer.errors import RegistryError
from syncer.oci.reference import Repository
from syncer.places.content import RepositoryListing
from syncer.places.registry import catalog
from tests.support.listing import Lists

JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def api() -> AsyncIterator[MemoryRegistry]:
    async with MemoryRegistry() as registry:
        yield registry


@pytest.fixture
def lists(api: MemoryRegistry, monkeypatch: pytest.MonkeyPatch) -> Lists:
    """The lists of a registry whose API answers at `api`."""
    monkeypatch.setattr(catalog, "HUB_API_HOST", api.host)
    monkeypatch.setattr(catalog, "_is_quay", lambda host: host == api.host)
    return Lists(api.host)


async def names(listing: RepositoryListing) -> list[str]:
    return [name async for page in listing.pages() for name in page]


def answer_hub(api: MemoryRegistry, *, token: str = "", fail: int = 0) -> None:
    """As hub.docker.com answers: docs.docker.com, Docker Hub API, "List repositories" and "Create access token"."""

    @api.before
    async def answer(request: Request) -> Answer | None:
        if request.path == "/v2/auth/token":
            asked = json.loads(await request.read(10_000))
            if asked != {"identifier": "anna", "secret": "pa55"}:
                return Answer(401, JSON, b'{"detail": "Incorrect authentication credentials"}')
            return Answer(200, JSON, json.dumps({"access_token": token}).encode())
        if not request.path.startswith("/v2/repositories/"):
            return None
        if request.path != "/v2/repositories/bitnami/":
            return Answer(404, JSON, b'{"message": "object not found", "errinfo": {}}')
        if fail and request.query["page"] == "2":
            return Answer(fail, JSON, b"{}")
        private = request.headers.get("Authorization") == f"Bearer {token}" and token
        found = ["redis", "nginx", "kafka", *(["secret"] if private else [])]
        number, size = int(request.query["page"]), 2
        following = f"https://hub.docker.com/v2/repositories/bitnami/?page={number + 1}&page_size=100"
        document: dict[str, Any] = {
            "count": len(found),
            "next": following if number * size < len(found) else None,
            "previous": None,
            "results": [
                {"name": name, "namespace": "bitnami", "repository_type": "image"}
                for name in found[(number - 1) * size : number * size]
            ],
        }
        return Answer(200, JSON, json.dumps(document).encode())


async def test_docker_hub_lists_a_namespace_through_its_links(api: MemoryRegistry, lists: Lists) -> None:
    answer_hub(api)
    async with lists.at(Repository("docker.io", "bitnami")) as listing:
        assert await names(listing) == ["bitnami/redis", "bitnami/nginx", "bitnami/kafka"]
        assert listing.method == "Docker Hub's API"
        assert "only public repositories" in listing.warning


async def test_docker_hub_lists_private_repositories_with_an_account(
    api: MemoryRegistry, lists: Lists
) -> None:
    answer_hub(api, token="jwt")
    async with lists.at(Repository("docker.io", "bitnami"), username="anna", password="pa55") as listing:
        assert "bitnami/secret" in await names(listing)
        assert not listing.warning


async def test_docker_hub_that_refuses_the_account_fails(api: MemoryRegistry, lists: Lists) -> None:
    answer_hub(api, token="jwt")
    async with lists.at(Repository("docker.io", "bitnami"), username="anna", password="no") as listing:
        with pytest.raises(RegistryError, match="401"):
            await names(listing)


async def test_docker_hub_without_the_namespace_fails_with_advice(api: MemoryRegistry, lists: Lists) -> None:
    answer_hub(api)
    async with lists.at(Repository("docker.io", "nobody")) as listing:
        with pytest.raises(RegistryError, match="404") as caught:
            await names(listing)
    assert "'nobody'" in caught.value.advice


async def test_docker_hub_page_that_fails_fails_the_list(api: MemoryRegistry, lists: Lists) -> None:
    answer_hub(api, fail=403)
    async with lists.at(Repository("docker.io", "bitnami")) as listing:
        with pytest.raises(RegistryError, match="403"):
            await names(listing)


def answer_quay(api: MemoryRegistry, *, repeats: bool = False) -> None:
    """As Quay answers: "listRepos" of its API reference, pages by `next_page` (endpoints/api/repository.py)."""

    @api.before
    async def answer(request: Request) -> Answer | None:
        if request.path != "/api/v1/repository" or request.query.get("namespace") != "coreos":
            return None
        authorization = request.headers.get("Authorization", "")
        if authorization not in {"", "Bearer oauth"}:
            return Answer(401, JSON, b'{"error_message": "Invalid bearer token format"}')
        pages = {"": ["etcd", "flannel"], "token 2=": ["clair", *(["private"] if authorization else [])]}
        page = request.query.get("next_page", "")
        document = {
            "repositories": [
                {"namespace": "coreos", "name": name, "kind": "image", "state": "NORMAL", "is_public": True}
                for name in pages[page]
            ]
        }
        if not page or repeats:
            document["next_page"] = "token 2="  # type: ignore[assignment]
        return Answer(200, JSON, json.dumps(document).encode())


async def test_quay_lists_public_repositories_and_says_so(api: MemoryRegistry, lists: Lists) -> None:
    answer_quay(api)
    async with lists.at(Repository(api.host, "coreos"), username="coreos+robot", password="x") as listing:
        assert await names(listing) == ["coreos/etcd", "coreos/flannel", "coreos/clair"]
        assert listing.method == "Quay's API"
        assert "OAuth" in listing.warning


async def test_quay_lists_private_repositories_with_an_oauth_token(api: MemoryRegistry, lists: Lists) -> None:
    answer_quay(api)
    async with lists.at(Repository(api.host, "coreos"), username="$oauthtoken", password="oauth") as listing:
        assert "coreos/private" in await names(listing)
        assert not listing.warning


async def test_quay_whose_pages_form_a_loop_fails(api: MemoryRegistry, lists: Lists) -> None:
    answer_quay(api, repeats=True)
    async with lists.at(Repository(api.host, "coreos")) as listing:
        with pytest.raises(RegistryError, match="loop"):
            await names(listing)


async def test_registry_with_harbors_path_and_another_answer_is_asked_for_its_catalog(
    api: MemoryRegistry, lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "_is_quay", lambda _host: False)

    @api.before
    async def answer(request: Request) -> Answer | None:
        return Answer(200, {}, b"<html>") if request.path == "/api/v2.0/ping" else None

    async with lists.at(Repository(api.host, "team")) as listing:
        assert listing.method == "_catalog"


async def test_catalog_is_asked_for_with_its_own_scope(
    api: MemoryRegistry, lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the distribution registry's token documentation says ("registry:catalog:*")."""
    monkeypatch.setattr(catalog, "_is_quay", lambda _host: False)
    scopes: list[str] = []

    @api.before
    async def answer(request: Request) -> Answer | None:
        if request.path == "/token":
            scopes.append(request.query.get("scope", ""))
            return Answer(200, JSON, b'{"token": "for-the-catalog"}')
        if (
            request.path.startswith("/v2/")
            and request.headers.get("Authorization") != "Bearer for-the-catalog"
        ):
            realm = f'Bearer realm="http://{api.host}/token",service="x"'
            return Answer(401, {"WWW-Authenticate": realm}, b"")
        return None

    async with lists.at(Repository(api.host, "team")) as listing:
        assert await names(listing) == []
    assert scopes[-1] == "registry:catalog:*"


def test_host_is_quay_by_its_name() -> None:
    names = {"quay.io": True, "quay.example.com:443": True, "registry.quay.example": True, "harbor.io": False}
    assert {name: catalog._is_quay(name) for name in names} == names


async def test_bounds_hold_for_lists_that_never_end(
    api: MemoryRegistry, lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "_is_quay", lambda _host: False)

    @api.before
    async def answer(request: Request) -> Answer | None:
        if request.path != "/v2/_catalog":
            return None
        link = f'</v2/_catalog?last={int(request.query.get("last", "0")) + 1}>; rel="next"'
        return Answer(200, {**JSON, "Link": link}, b'{"repositories": []}')

    async with lists.at(Repository(api.host, "team")) as listing:
        with anyio.fail_after(60), pytest.raises(RegistryError, match="does not end"):
            await names(listing)
