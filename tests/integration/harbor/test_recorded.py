"""The Harbor for tests answers recorded requests as the real Harbor did."""

import re
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tests.support import harbor_answers
from tests.support.harbor import Harbor
from tests.support.harbor_access import Account, Login, Project
from tests.support.harbor_answers import ERRORS, EXCHANGES, Row, recorded
from tests.support.harbor_recordings import Contents, exchanges_of
from tests.support.harbor_replay import Player
from tests.support.harbor_stage import Stage, accounts_of, projects_of
from tests.support.plain_http import NO_AUTHORITIES

CASES = sorted(path.stem for path in EXCHANGES.glob("*.json"))


@pytest.mark.parametrize("case", CASES)
async def test_recorded_requests_get_the_recorded_answers(case: str) -> None:
    exchanges = exchanges_of(recorded(case))
    contents = Contents(exchanges)
    async with Harbor(projects_of(exchanges), accounts_of(exchanges)) as harbor:
        stage = Stage(harbor, contents)
        blobs = harbor.blobs
        stage.prepare(exchanges, collecting=blobs.stuck if "stuck" in case else blobs.collecting)
        harbor.read_only = case == "read-only"
        if case == "missing-things":
            stage.put_image("mirror/app", "v1")
        if case == "list-project":
            fill_lists(stage)
        if case == "quota-at-index-with-attestations":
            stage.fill("q2", used=3890, quota=3892)  # bytes: both are 3.8 KiB
        player = Player(harbor, contents, exchanges)
        differences = []
        async with httpx.AsyncClient(
            trust_env=False, verify=NO_AUTHORITIES, headers={"Accept-Encoding": "identity"}
        ) as client:
            for exchange in exchanges:
                if case != "cookie":
                    client.cookies.clear()
                found = await player.play(client, exchange)
                differences += [f"{exchange.method} {exchange.path}: {each}" for each in found]
        assert not differences, "\n".join(differences)
        assert not harbor.unrecorded


def fill_lists(stage: Stage) -> None:
    """The repositories that the recorded lists name, and as many others as they count."""
    for project, names in {
        "kinds": ("a", "b", "c", "x/y/z/w"),
        "robots": ("d2", "docker"),
        "a": ("app",),
        "cache": ("src/app", "src/many", "src/more"),
    }.items():
        for name in names:
            stage.put_image(f"{project}/{name}", "1")
    for repository in ("kinds/multi", "robots/m2"):
        stage.put_image(repository, "1")
        stage.put_image(repository, "2")
    for repository in ("robots/app", "mirror/app", "open/app"):
        for tag, digest in TAGGED.items():
            stage.put_image(repository, tag, digest)
    stage.put_image("robots/x/y/z", "1", "d6be069d41ae043fbf2ccd8c14269e5a9aee0d0bff6f31d128e6e40a4e5db51b")


TAGGED = {
    "v1": "169d4663005f5c78eb3798f7a11942de7a323729cd5877512b2b5337e662d8f8",
    "v2": "ffb6c7c12807d46ba04003880693d94508ec6ae9f8279a604923111294f309d5",
    "v3": "90162a4d2d5b5becdf38407c35c165f2db0eb68284c6f76d09642478161c193e",
}


ROWS = {name: row for name, row in vars(harbor_answers).items() if isinstance(row, Row)}


@pytest.mark.parametrize("name", ROWS)
def test_each_answer_was_recorded_where_it_says(name: str) -> None:
    row = ROWS[name]
    answers = [exchange.response for exchange in exchanges_of(recorded(row.seen_in))]
    assert any(is_answer_of(row, answer) for answer in answers)


def is_answer_of(row: Row, answer: dict[str, Any]) -> bool:
    """Whether a recorded answer has the status and headers of a row, and its text if it has one."""
    headers = {name: value for name, value in answer["headers"].items() if name != "Content-Length"}
    wanted = {**row.headers, **({"Content-Type": ERRORS} if row.code else {})}
    if row.cookie:
        wanted["Set-Cookie"] = "sid={session}"
    elif "Set-Cookie" in wanted:
        wanted["Set-Cookie"] = wanted["Set-Cookie"].partition("=")[0] + "={session}"
    if answer["status"] != row.status or not fills(wanted, headers):
        return False
    body = answer.get("body")
    if not row.code or body is None:
        return True
    texts = {"code": row.code, "message": row.message, **({"detail": row.detail} if row.detail else {})}
    return fills(texts, body["errors"][0])


def fills(templates: Mapping[str, str], texts: Mapping[str, str]) -> bool:
    """Whether the texts are the templates with their parts filled in."""
    patterns = {name: re.sub(r"\\{\w+\\}", ".+", re.escape(text)) for name, text in templates.items()}
    return texts.keys() == patterns.keys() and all(
        re.fullmatch(pattern, texts[name]) for name, pattern in patterns.items()
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/v2/mirror/app/manifests/v1"),
        ("GET", "/api/v2.0/systeminfo"),
        ("POST", "/service/token"),
        ("POST", "/v2/mirror/app/blobs/uploads/"),
        ("GET", "/"),
    ],
)
async def test_request_that_was_not_recorded_fails_the_test(method: str, path: str) -> None:
    harbor = Harbor([Project("mirror")])
    await harbor.__aenter__()
    async with httpx.AsyncClient(base_url=harbor.url, trust_env=False, verify=NO_AUTHORITIES) as client:
        answer = await client.request(method, path)
    assert answer.status_code == httpx.codes.NOT_IMPLEMENTED
    with pytest.raises(AssertionError, match=f"{method} {path}"):
        await harbor.__aexit__(None)


async def test_expired_token_gets_a_basic_challenge() -> None:
    admin = Account("admin", admin=True)
    async with (
        Harbor([Project("mirror")], [admin]) as harbor,
        httpx.AsyncClient(base_url=harbor.url, trust_env=False, verify=NO_AUTHORITIES) as client,
    ):
        scope = {"service": "harbor-registry", "scope": "repository:mirror/app:pull"}
        answer = await client.get("/service/token", params=scope, auth=(admin.name, admin.password))
        headers = {"Authorization": f"Bearer {answer.json()['token']}"}
        before = await client.get("/v2/mirror/app/tags/list", headers=headers)
        harbor.access.expire_tokens()
        after = await client.get("/v2/mirror/app/tags/list", headers=headers)
        assert (before.status_code, after.status_code) == (404, 401)
        assert after.headers["www-authenticate"] == 'Basic realm="harbor"'
        assert harbor.logins == [Login("token", "admin", accepted=True)]
