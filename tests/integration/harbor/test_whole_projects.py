"""Rules with patterns whose source is a Harbor: one project, or all that the account may see."""

import json
from collections.abc import Callable

import pytest

from syncer.demo import Answer, Request
from syncer.events import ImageSynced, RepositoriesListed
from syncer.places.registry import catalog
from tests.integration.harbor.conftest import ADMIN, PULLER, add_image
from tests.support.harbor import Harbor
from tests.support.harbor_access import Account
from tests.support.wire import Net, Outcome


@pytest.fixture(autouse=True)
def images(harbor: Harbor) -> None:
    for name in ("mirror/app", "mirror/x/y/z", "mirror/web", "open/app", "other/app"):
        add_image(harbor, name, "v1")


def copied(outcome: Outcome) -> list[str]:
    return sorted(event.source.repository.path for event in outcome.told.of(ImageSynced))


def lists(harbor: Harbor) -> list[str]:
    """The requests for lists of repositories, without their queries."""
    return [
        request.path
        for request in harbor.requests
        if request.path.endswith("/repositories") or request.path.endswith("/_catalog")
    ]


async def test_project_is_listed_by_harbors_api(net: Net, harbor: Harbor) -> None:
    outcome = await net.sync({"harbor/mirror/**": "plain/{path}"})
    assert copied(outcome) == ["mirror/app", "mirror/web", "mirror/x/y/z"]
    (listed,) = outcome.told.of(RepositoriesListed)
    assert (listed.method, listed.found, listed.selected) == ("Harbor's API", 3, 3)
    assert lists(harbor) == ["/api/v2.0/projects/mirror/repositories"]


async def test_project_of_many_pages_is_listed_to_its_end(
    net: Net, harbor: Harbor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "_PAGE", 1)
    assert len(copied(await net.sync({"harbor/mirror/**": "plain/{path}"}))) == 3
    assert len(lists(harbor)) == 3


async def test_project_is_listed_once_for_several_rules(net: Net, harbor: Harbor) -> None:
    await net.sync(
        {
            "harbor/mirror/**": "plain/a/{path}",
            "harbor/mirror/x/**": "plain/b/{path}",
            "harbor/open/*": "plain/c/{path}",
        }
    )
    assert sorted(lists(harbor)) == [
        "/api/v2.0/projects/mirror/repositories",
        "/api/v2.0/projects/open/repositories",
    ]


async def test_all_projects_are_listed_by_one_list(net: Net, harbor: Harbor) -> None:
    outcome = await net.sync({"harbor/*/app": "plain/{path}"})
    assert copied(outcome) == ["mirror/app", "open/app", "other/app"]
    assert lists(harbor) == ["/api/v2.0/repositories"]


async def test_public_project_is_listed_without_an_account(net: Net, log_in: Callable[..., None]) -> None:
    log_in(None, plain_http=True)
    assert copied(await net.sync({"harbor/open/*": "plain/{path}"})) == ["open/app"]


async def test_robot_that_may_list_needs_no_more(
    net: Net, harbor: Harbor, log_in: Callable[..., None]
) -> None:
    harbor.access.accounts["robot$mirror+list"] = Account(
        "robot$mirror+list", rights={"mirror": ("pull", "list")}
    )
    log_in("robot$mirror+list")
    assert len(copied(await net.sync({"harbor/mirror/**": "plain/{path}"}))) == 3


async def test_robot_that_may_only_pull_fails_with_the_right_that_it_lacks(
    net: Net, log_in: Callable[..., None]
) -> None:
    log_in(PULLER)
    outcome = await net.sync({"harbor/mirror/**": "plain/{path}", "harbor/mirror/app": "plain/one"})
    assert outcome.counts == (1, 0, 1)
    message = outcome.failed[0].failure.message
    assert "Harbor's API: 403" in message
    assert "Repository, List" in message


async def test_project_that_does_not_exist_fails_the_rule(net: Net) -> None:
    outcome = await net.sync({"harbor/nothere/**": "plain/{path}"})
    assert outcome.counts == (0, 0, 1)
    assert "project nothere not found" in outcome.failed[0].failure.message


@pytest.mark.parametrize("stale_pages", [1, 4])
async def test_list_that_is_shorter_than_its_total_is_read_again_and_then_fails(
    net: Net, harbor: Harbor, log_in: Callable[..., None], stale_pages: int
) -> None:
    log_in(ADMIN)
    left = stale_pages
    answer_as_before = harbor._answer

    async def answer(request: Request) -> Answer:
        nonlocal left
        answered = await answer_as_before(request)
        if not request.path.endswith("/repositories") or not left:
            return answered
        left -= 1
        names = json.loads(bytes(answered.body))[1:]
        return Answer(answered.status, answered.headers, json.dumps(names).encode())

    harbor._answer = answer  # type: ignore[method-assign]
    outcome = await net.sync({"harbor/mirror/**": "plain/{path}"})
    if stale_pages == 1:
        assert outcome.counts == (3, 0, 0)
    else:
        assert outcome.counts == (2, 0, 1)
        assert "incomplete: 2 of 3" in outcome.failed[0].failure.message
