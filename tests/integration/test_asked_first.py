"""Registries that send a challenge only at `/v2/` and return less to anonymous requests."""

import base64

import pytest

from syncer.demo import Answer, MemoryRegistry, Request
from syncer.demo.images import make_image, make_layer
from tests.support.wire import Net, kinds

ANNA = {"username": "anna", "password": "pa55"}
BASIC = "Basic " + base64.b64encode(b"anna:pa55").decode()


@pytest.fixture
async def net():
    async with MemoryRegistry() as source, MemoryRegistry() as destination:
        for tag in ("v1", "v2", "v3"):
            make_image(source.store, "app", tag, layers=[make_layer({"file": tag.encode()})])
        yield Net({"source": source, "destination": destination})


def asks_at_v2(registry: MemoryRegistry) -> None:
    """Send a challenge at `/v2/` only."""

    @registry.before
    async def answer(request: Request) -> Answer | None:
        if request.path != "/v2/" or request.headers.get("Authorization") == BASIC:
            return None
        return Answer(401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")


def gives_nobody(registry: MemoryRegistry, what: Answer, path: str) -> None:
    """Send this response to anonymous requests."""

    @registry.before
    async def answer(request: Request) -> Answer | None:
        return what if path in request.path and "Authorization" not in request.headers else None


@pytest.mark.parametrize(
    ("what", "path"),
    [
        (Answer(200, {"Content-Type": "application/json"}, b'{"tags": ["v1"]}'), "/tags/list"),
        (Answer(404, {}, b""), "/app/"),
        (Answer(403, {}, b""), "/app/"),
    ],
    ids=["a shorter list", "404", "403"],
)
async def test_v2_challenge_prevents_incomplete_anonymous_results(net, what, path):
    asks_at_v2(net.registries["source"])
    gives_nobody(net.registries["source"], what, path)
    net.settings["source"] = ANNA

    assert (await net.sync({"source/app": "destination/app"})).counts == (3, 0, 0)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("location", ["/v2", "/api/v2/", "http://{host}/api/v2/"])
async def test_v2_that_leads_to_another_path_is_followed_to_its_challenge(net, status, location):
    source = net.registries["source"]
    gives_nobody(source, Answer(200, {"Content-Type": "application/json"}, b'{"tags": ["v1"]}'), "/tags/list")
    net.settings["source"] = ANNA

    @source.before
    async def answer(request):
        if request.path == "/v2/":
            return Answer(status, {"Location": location.format(host=source.host)}, b"")
        if request.path in {"/v2", "/api/v2/"}:
            known = request.headers.get("Authorization") == BASIC
            return Answer(200 if known else 401, {"WWW-Authenticate": 'Basic realm="x"'}, b"{}")
        return None

    assert (await net.sync({"source/app": "destination/app"})).counts == (3, 0, 0)


@pytest.mark.parametrize("location", ["/v2/", "http://{other}/v2/", "http://[::1/x", ""])
async def test_v2_that_leads_elsewhere_or_in_a_circle_is_left_alone(net, location):
    source, other = net.registries["source"], net.registries["destination"]
    net.settings["source"] = ANNA

    @source.before
    async def answer(request):
        if request.path == "/v2/":
            return Answer(307, {"Location": location.format(other=other.host)}, b"")
        return None

    assert (await net.sync({"source/app": "destination/app"})).counts == (3, 0, 0)
    assert not [each for each in other.requests if "Authorization" in each.headers]


async def test_error_says_that_the_request_was_anonymous(net):
    gives_nobody(net.registries["source"], Answer(403, {}, b""), "/app/")
    net.settings["source"] = ANNA

    outcome = await net.sync({"source/app:v1": "destination/app"})

    (failed,) = outcome.failed
    assert "requested without an account" in failed.failure.message


async def test_account_costs_one_request_for_each_registry(net):
    await net.sync({f"source/app:v{number}": f"destination/app{number}" for number in (1, 2, 3)})
    without = [kinds(registry) for registry in net.registries.values()]
    net.forget()
    net.settings = {"source": ANNA, "destination": ANNA}
    await net.sync({f"source/app:v{number}": f"destination/new{number}" for number in (1, 2, 3)})

    assert [kinds(each) for each in net.registries.values()] == [{**each, "GET ping": 1} for each in without]


@pytest.mark.parametrize("shape", ["one rule", "a rule for each tag"])
async def test_wrong_password_at_a_basic_registry_fails_all_with_one_login(net, shape):
    refused = []

    async def answer(request: Request) -> Answer | None:
        authorization = request.headers.get("Authorization")
        refused.extend([authorization] if authorization else [])
        return Answer(401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")

    net.registries["destination"].before(answer)
    net.settings["destination"] = ANNA
    rules = {"source/app": "destination/app"}
    if shape != "one rule":
        rules = {f"source/app:v{number}": f"destination/app{number}" for number in (1, 2, 3)}
    outcome = await net.sync(rules, retries=2)

    assert outcome.counts == (0, 0, 3)
    assert len(refused) == 1
    assert len({event.failure.message for event in outcome.failed}) == 1
