"""When tags were pushed, as the APIs of registries tell it.

The answers have the form of the recorded exchange `list-project.json` of a Harbor (harbor_exchanges), of Docker Hub's
API reference ("List repository tags": https://docs.docker.com/reference/api/hub/latest/) and of Quay's
("listRepoTags": https://docs.quay.io/api/swagger/).
"""

from datetime import UTC, datetime

import httpx
import pytest

from syncer.accounts.settings import Account, HostSettings, Secret
from syncer.errors import RegistryError
from syncer.http.transport_errors import ConnectError
from syncer.observers import Observer
from syncer.oci.reference import Repository
from syncer.places.content import KnowsPushTimes
from syncer.places.open import PlaceDirectory
from tests.support.backoff import no_backoff  # noqa: F401 - a fixture for all tests here
from tests.support.messages import FakeTransport

TIME = "2026-11-26T05:28:34.198Z"
SECONDS = datetime(2026, 11, 26, 5, 28, 34, 198000, UTC).timestamp()


class Registry:
    """Answers by host and path, and keeps the requests."""

    def __init__(self, answers):
        self.answers = answers
        self.requests = []

    def __call__(self, request):
        self.requests.append(request)
        url = httpx.URL(f"http://{request.url.host}{request.url.raw_path.decode()}")
        answer = self.answers.get((url.host, url.path, url.params.get("page", "")))
        answer = answer or self.answers.get((url.host, url.path))
        if isinstance(answer, int):
            return httpx.Response(answer, json={})
        return httpx.Response(404, json={}) if answer is None else answer

    def source(self, name, *, account=True, mirrors=()):
        directory = PlaceDirectory(
            account_for=lambda _name: Account("robot", "robot", Secret("password")) if account else None,
            settings_for=lambda name: HostSettings(mirrors=mirrors if name.host != "mirror.test" else ()),
            transport=FakeTransport(self),
            observer=Observer(),
            connections=4,
        )
        found = directory.source(Repository.parse(name))
        assert isinstance(found, KnowsPushTimes)
        return found

    @property
    def targets(self):
        return [f"{request.url.host}{request.url.raw_path.decode()}" for request in self.requests]

    def authorizations(self, host):
        return {request.headers.get("Authorization") for request in self.requests if request.url.host == host}


def artifacts(*tags, time=TIME):
    return httpx.Response(
        200,
        json=[
            {"digest": "sha256:0", "push_time": time, "tags": [{"name": t, "push_time": time}]} for t in tags
        ],
    )


HARBOR = "/api/v2.0/projects/team/repositories/{}/artifacts"
QUAY = "/api/v1/repository/team/app/tag/"
HUB = "/v2/repositories/library/nginx/tags"


async def test_harbor_tells_push_times_to_the_account():
    registry = Registry(
        {("reg.test", "/api/v2.0/projects/team/repositories/a%2Fapp/artifacts"): artifacts("v1", "v2")}
    )
    source = registry.source("reg.test/team/a/app")
    assert await source.push_times(["v1"]) == {"v1": SECONDS}
    assert await source.push_times(["v2"]) == {"v2": SECONDS}
    assert registry.targets == [
        "reg.test/api/v2.0/projects/team/repositories/a%252Fapp/artifacts?with_tag=true&page_size=100&page=1"
    ]
    (sent,) = registry.authorizations("reg.test")
    assert sent.startswith("Basic ")


async def test_pages_are_read_until_all_tags_were_seen():
    pages = {
        ("reg.test", HARBOR.format("app"), str(number)): artifacts(*(f"{number}.{tag}" for tag in range(100)))
        for number in (1, 2, 3)
    }
    registry = Registry(pages | {("reg.test", HARBOR.format("app"), "4"): artifacts("4.0")})
    source = registry.source("reg.test/team/app")
    assert await source.push_times(["1.5"]) == {"1.5": SECONDS}
    assert len(registry.requests) == 1
    assert set(await source.push_times(["2.5", "1.7"])) == {"2.5", "1.7"}
    assert len(registry.requests) == 2
    assert await source.push_times(["missing"]) == {}
    assert await source.push_times(["missing"]) == {}
    assert len(registry.requests) == 4


@pytest.mark.parametrize("status", [401, 403])
async def test_account_without_permission_in_harbor_has_no_push_times(status):
    registry = Registry({("reg.test", HARBOR.format("app")): status})
    assert await registry.source("reg.test/team/app").push_times(["v1"]) == {}
    assert len(registry.requests) == 1


async def test_name_with_one_component_is_in_no_such_registry():
    registry = Registry({})
    assert await registry.source("reg.test/app").push_times(["v1"]) == {}
    assert not registry.requests


async def test_missing_time_in_harbor_is_unknown():
    registry = Registry(
        {("reg.test", HARBOR.format("app")): artifacts("v1", time="0001-01-01T00:00:00.000Z")}
    )
    assert await registry.source("reg.test/team/app").push_times(["v1"]) == {}


async def test_docker_hub_gets_no_credentials():
    page = {
        "count": 2,
        "next": None,
        "previous": None,
        "results": [{"name": "1.27", "tag_last_pushed": TIME}],
    }
    registry = Registry({("hub.docker.com", HUB): httpx.Response(200, json=page)})
    assert await registry.source("nginx").push_times(["1.27", "1.28"]) == {"1.27": SECONDS}
    assert registry.targets == [f"hub.docker.com{HUB}?page_size=100&page=1"]
    assert registry.authorizations("hub.docker.com") == {None}


async def test_quay_gets_no_credentials():
    page = {"tags": [{"name": "v1", "start_ts": 1700000000, "manifest_digest": "sha256:0"}], "page": 1}
    registry = Registry({("quay.io", QUAY): httpx.Response(200, json=page | {"has_additional": False})})
    assert await registry.source("quay.io/team/app").push_times(["v1"]) == {"v1": 1700000000}
    assert registry.targets == [f"quay.io{QUAY}?onlyActiveTags=true&limit=100&page=1"]
    assert registry.authorizations("quay.io") == {None}


async def test_quay_of_ones_own_is_found():
    page = {"tags": [{"name": "v1", "start_ts": 1700000000}], "page": 1, "has_additional": False}
    registry = Registry({("reg.test", QUAY): httpx.Response(200, json=page)})
    assert await registry.source("reg.test/team/app").push_times(["v1"]) == {"v1": 1700000000}


@pytest.mark.parametrize(
    "answer",
    [
        404,
        405,
        501,
        302,
        httpx.Response(200, text="<!doctype html><html><title>Sign in</title></html>"),
        httpx.Response(200, json={"errors": []}),
        httpx.Response(200, text="ok"),
        httpx.Response(200, json=[{"tags": "x"}]),
    ],
)
async def test_registry_without_such_an_api_is_asked_once(answer):
    registry = Registry({("reg.test", HARBOR.format("app")): answer, ("reg.test", QUAY): answer})
    source = registry.source("reg.test/team/app")
    assert await source.push_times(["v1"]) == {}
    assert await source.push_times(["v1"]) == {}
    assert len(registry.requests) == 2


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_api_that_fails_for_now_is_an_error(status):
    registry = Registry({("hub.docker.com", HUB): status})
    with pytest.raises(RegistryError) as raised:
        await registry.source("nginx").push_times(["1.27"])
    assert not raised.value.permanent


async def test_unreachable_docker_hub_api_is_an_error_with_advice():
    class Down(Registry):
        def __call__(self, request):
            raise ConnectError("refused")

    registry = Down({})
    with pytest.raises(RegistryError, match=r"hub\.docker\.com"):
        await registry.source("nginx").push_times(["1.27"])


async def test_registry_tells_push_times_and_not_its_mirror():
    registry = Registry({("reg.test", HARBOR.format("app")): artifacts("v1")})
    source = registry.source("reg.test/team/app", mirrors=("mirror.test",))
    assert await source.push_times(["v1"]) == {"v1": SECONDS}
    assert {request.url.host for request in registry.requests} == {"reg.test"}
