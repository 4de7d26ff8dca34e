"""Rules with patterns: repositories are found page by page, each list once, and become rules of their own."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from syncer.demo import Answer, MemoryRegistry, Request, Store
from syncer.demo.images import make_image, make_layer
from syncer.events import RepositoriesListed, RuleWarning, RunFinished
from syncer.rules.allowlist import Allowlist
from syncer.rules.shard import Shard
from tests.support.backoff import no_backoff  # noqa: F401
from tests.support.wire import Net, is_whole

LAYER = make_layer({"a": b"b"})
NAMES = ("team/app", "team/web", "team/web/cache", "team/web/front", "other/app", "zoo/app")


@pytest.fixture
async def net() -> AsyncIterator[Net]:
    async with MemoryRegistry() as source, MemoryRegistry() as destination:
        for name in NAMES:
            add(source.store, name)
        yield Net({"source": source, "destination": destination})


def add(store: Store, name: str, *tags: str) -> None:
    for tag in tags or ("1",):
        make_image(store, name, tag, layers=[LAYER], annotations={"name": name, "tag": tag})


def catalogs(net: Net) -> list[str]:
    return [request.query for request in net.registries["source"].requests if request.path == "/v2/_catalog"]


def held(net: Net) -> list[str]:
    """The repositories at the destination, all of them whole."""
    store = net.registries["destination"].store
    assert all(is_whole(store, name, tag) for name in store.repositories() for tag in store.tags(name))
    return store.repositories()


def answer_catalog(net: Net, status: int, document: object, *, times: int = -1, **headers: str) -> None:
    """Answer `_catalog` like this, the first `times` times; -1 means always."""
    left = times

    @net.registries["source"].before
    async def answer(request: Request) -> Answer | None:
        nonlocal left
        if request.path != "/v2/_catalog" or not left:
            return None
        left -= 1
        return Answer(status, {"Content-Type": "application/json", **headers}, json.dumps(document).encode())


async def test_pattern_copies_the_repositories_that_it_matches(net: Net) -> None:
    outcome = await net.sync({"source/team/**": "destination/mirror/{1}"})
    assert outcome.counts == (4, 0, 0)
    assert held(net) == ["mirror/app", "mirror/web", "mirror/web/cache", "mirror/web/front"]
    (listed,) = outcome.told.of(RepositoriesListed)
    assert (listed.method, listed.found, listed.selected, listed.warning) == ("_catalog", 6, 4, "")


async def test_single_star_matches_within_one_component(net: Net) -> None:
    await net.sync({"source/team/*": "destination/{path}"})
    assert held(net) == ["team/app", "team/web"]


async def test_tags_of_the_source_apply_to_each_repository(net: Net) -> None:
    add(net.registries["source"].store, "team/app", "2", "3")
    outcome = await net.sync({"source/team/*:2,3": "destination/{path}"})
    assert outcome.counts == (2, 0, 2)
    assert {(str(event.source.repository.path), event.failure.kind) for event in outcome.failed} == {
        ("team/web", "not_found")
    }


async def test_filter_leaves_repositories_out(net: Net) -> None:
    rule = {"to": "destination/{path}", "repositories": {"include": ["**"], "exclude": ["**/cache", "app"]}}
    await net.sync({"source/team/**": rule})
    assert held(net) == ["team/web", "team/web/front"]


async def test_second_run_writes_nothing_and_finds_new_repositories(net: Net) -> None:
    rules = {"source/team/**": "destination/{path}"}
    await net.sync(rules)
    add(net.registries["source"].store, "team/new")
    assert (await net.sync(rules)).counts == (1, 4, 0)


async def test_list_is_read_once_for_several_rules(net: Net) -> None:
    await net.sync(
        {
            "source/team/**": "destination/a/{path}",
            "source/other/*": "destination/b/{path}",
            "source/**:1": "destination/c/{path}",
        }
    )
    assert len(catalogs(net)) == 1
    assert len(held(net)) == 4 + 1 + 6


async def test_pages_are_followed(net: Net) -> None:
    net.registries["source"]._endpoints._max_page = 2
    assert (await net.sync({"source/**": "destination/{path}"})).counts == (6, 0, 0)
    assert len(catalogs(net)) == 3


async def test_pattern_without_a_match_is_a_warning(net: Net) -> None:
    outcome = await net.sync({"source/nothing/**": "destination/{path}"})
    assert outcome.result.outcome == "success"
    (warning,) = outcome.told.of(RuleWarning)
    assert "no repository of" in warning.message
    assert "_catalog" in warning.message


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_refused_list_fails_the_rule_with_advice_and_nothing_else(net: Net, status: Any) -> None:
    answer_catalog(net, status, {"errors": [{"code": "DENIED", "message": "not for you"}]})
    outcome = await net.sync({"source/team/**": "destination/{path}", "source/team/app:1": "destination/one"})
    assert outcome.counts == (1, 0, 1)
    (failed,) = outcome.failed
    assert failed.source.repository.path == "team/**"
    assert "_catalog" in failed.failure.message
    assert "name the repositories in the rules" in failed.failure.message
    assert not outcome.told.of(RuleWarning)


async def test_list_that_fails_for_a_moment_is_read_again_in_the_next_round(net: Net) -> None:
    answer_catalog(net, 500, {}, times=4)
    outcome = await net.sync({"source/team/*": "destination/{path}"})
    assert outcome.counts == (2, 0, 0)
    assert len(catalogs(net)) == 5


async def test_page_that_fails_keeps_what_was_found_and_fails_the_rule(net: Net) -> None:
    net.registries["source"]._endpoints._max_page = 2

    @net.registries["source"].before
    async def answer(request: Request) -> Answer | None:
        if request.path != "/v2/_catalog" or "last" not in request.query:
            return None
        return Answer(403, {"Content-Type": "application/json"}, b'{"errors": [{"code": "DENIED"}]}')

    outcome = await net.sync({"source/**": "destination/{path}"})
    assert outcome.counts == (2, 0, 1)
    assert outcome.result.outcome == "partial"
    assert len(held(net)) == 2


@pytest.mark.parametrize(
    ("document", "headers"),
    [
        ({"repositories": ["team/app"]}, {"Link": '</v2/_catalog?n=1000>; rel="next"'}),
        ({"repositories": ["team/app"]}, {"Link": '<no link; rel="next"'}),
        ({"repositories": {"team/app": 1}}, {}),
        ({"tags": []}, {}),
        (["team/app"], {}),
    ],
    ids=["loop", "bad link", "no list", "another document", "no mapping"],
)
async def test_list_that_is_no_list_fails_the_rule(net: Net, document: Any, headers: Any) -> None:
    answer_catalog(net, 200, document, **headers)
    outcome = await net.sync({"source/team/*": "destination/{path}"})
    assert outcome.result.failed == 1
    assert outcome.failed[-1].source.repository.path == "team/*"


async def test_names_that_are_no_names_are_left_out(net: Net) -> None:
    names = ["team/app", "../etc", "team/UPPER", "a" * 300, "team/app"]
    answer_catalog(net, 200, {"repositories": names})
    assert (await net.sync({"source/**": "destination/{path}"})).counts == (1, 0, 0)


async def test_full_page_without_a_link_is_followed_by_what_comes_after_its_last_entry(net: Net) -> None:
    names = [f"many/app{number:02}" for number in range(25)]
    for name in names:
        add(net.registries["source"].store, name)

    @net.registries["source"].before
    async def answer(request: Request) -> Answer | None:
        if request.path != "/v2/_catalog":
            return None
        after = [name for name in names if name > request.query.get("last", "")]
        body = json.dumps({"repositories": after[:10]}).encode()
        return Answer(200, {"Content-Type": "application/json"}, body)

    assert (await net.sync({"source/many/*": "destination/{path}"})).counts == (25, 0, 0)


async def test_smaller_page_is_asked_for_if_the_size_is_refused(net: Net) -> None:
    @net.registries["source"].before
    async def answer(request: Request) -> Answer | None:
        if request.path != "/v2/_catalog" or request.query.get("n") == "100":
            return None
        return Answer(400, {"Content-Type": "application/json"}, b'{"errors": [{"code": "PAGINATION"}]}')

    assert (await net.sync({"source/team/*": "destination/{path}"})).counts == (2, 0, 0)


# --- conflicts


async def test_sources_in_one_destination_conflict_only_where_their_tags_meet(net: Net) -> None:
    store = net.registries["source"].store
    add(store, "team/app", "only-app")
    add(store, "other/app", "only-other")
    outcome = await net.sync({"source/**/app": "destination/{name}"})
    assert sorted(net.registries["destination"].store.tags("app")) == ["1", "only-app", "only-other"]
    assert outcome.counts == (3, 0, 2)
    assert {event.failure.kind for event in outcome.failed} == {"conflict"}
    assert all("{path}" in event.failure.message for event in outcome.failed)


@pytest.mark.parametrize("pattern_first", [True, False])
async def test_earlier_rule_wins_where_a_pattern_and_a_plain_rule_meet(net: Net, pattern_first: Any) -> None:
    rules = [("source/team/*", "destination/{name}"), ("source/zoo/app", "destination/app")]
    outcome = await net.sync(dict(rules if pattern_first else reversed(rules)))
    winner = "team/app" if pattern_first else "zoo/app"
    assert outcome.counts == (2, 0, 1)
    expected = net.registries["source"].store.get_manifest(winner, "1").raw
    assert net.registries["destination"].store.get_manifest("app", "1").raw == expected


@pytest.mark.parametrize("first", ["team", "other"])
async def test_earlier_of_two_patterns_wins(net: Net, first: Any) -> None:
    second = {"team": "other", "other": "team"}[first]
    net.registries["source"]._endpoints._max_page = 1
    outcome = await net.sync(
        {f"source/{first}/*": "destination/{name}", f"source/{second}/*": "destination/{name}"}
    )
    expected = net.registries["source"].store.get_manifest(f"{first}/app", "1").raw
    assert net.registries["destination"].store.get_manifest("app", "1").raw == expected
    assert [str(event.source.repository.path) for event in outcome.failed] == [f"{second}/app"]
    assert len([query for query in catalogs(net) if "last" not in query]) == 1


async def test_patterns_between_which_a_plain_rule_stands_do_not_wait_for_each_other_forever(
    net: Net,
) -> None:
    outcome = await net.sync(
        {
            "source/team/*": "destination/{name}",
            "source/zoo/app": "destination/app",
            "source/other/*": "destination/{name}",
        }
    )
    expected = net.registries["source"].store.get_manifest("team/app", "1").raw
    assert net.registries["destination"].store.get_manifest("app", "1").raw == expected
    assert outcome.counts == (2, 0, 2)


async def test_repository_that_is_copied_onto_itself_fails_alone(net: Net) -> None:
    outcome = await net.sync({"source/team/*": "source/{path}", "source/other/app": "destination/x"})
    assert outcome.counts == (1, 0, 2)
    assert {event.failure.kind for event in outcome.failed} == {"conflict"}


# --- allowlists and shards


async def test_found_repository_that_is_not_allowed_fails(net: Net) -> None:
    allowed = Allowlist(sources=(f"{net.registries['source'].host}/team/a*",))
    outcome = await net.sync({"source/team/*": "destination/{path}"}, allowed=allowed)
    assert held(net) == ["team/app"]
    (failed,) = outcome.failed
    assert failed.source.repository.path == "team/web"
    assert "--allow-source" in failed.failure.message


async def test_shards_split_a_project_without_overlap(net: Net) -> None:
    for number in range(20):
        add(net.registries["source"].store, f"many/app{number}")
    rules = {"source/many/*": "destination/{path}", "source/many/app3": "destination/many/app4"}
    copied: Counter[str] = Counter()
    for index in range(3):
        outcome = await net.sync(rules, shard=Shard(index, 3), dry_run=True)
        copied.update(str(event.destination) for event in outcome.synced)
        assert not [event for event in outcome.failed if event.failure.kind != "conflict"]
        assert not outcome.told.of(RuleWarning)
    assert len(copied) == 20
    assert set(copied.values()) == {1}


# --- size


async def test_thousands_of_repositories_are_streamed(net: Net) -> None:
    source = net.registries["source"]
    source._endpoints._max_page = 10
    for number in range(120):
        add(source.store, f"many/app{number:04}")
    most = 0

    def look(_event: object) -> None:
        nonlocal most
        found = run._graph.counts("tags")
        most = max(most, found.waiting + found.ready + found.running)

    run, recorder = net.run({"source/many/*": "destination/{path}"}, heard=look, dry_run=True)
    outcome = await net.finish(run, recorder)
    assert outcome.counts == (120, 0, 0)
    assert len(catalogs(net)) == 13
    assert most < 45
    assert outcome.told.of(RunFinished)
