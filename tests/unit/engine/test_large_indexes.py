"""Indexes of many children: how much of them is in memory at once, and what is too much."""

import pytest

from syncer.demo.images import make_image, make_index, make_layer
from syncer.engine import image_copy, images
from syncer.engine.graph import TaskGraph
from tests.support.wire import kinds, same

CHILDREN = 12


@pytest.fixture
def many(source, monkeypatch):
    """Eight indexes of twelve children, which count as large ones."""
    monkeypatch.setattr(images, "MANY_PARTS", CHILDREN - 1)
    for tag in range(8):
        children = [
            make_image(source.store, "app", layers=[make_layer({"n": f"{tag} {number}".encode()})])
            for number in range(CHILDREN)
        ]
        make_index(source.store, "app", str(tag), children=children)


@pytest.fixture
def most_open(monkeypatch):
    """The most manifests that were in the graph at once."""
    most = [0]
    add = TaskGraph.add

    def counted(graph, task, **options):
        add(graph, task, **options)
        counts = graph.counts("manifest")
        most[0] = max(most[0], counts.waiting + counts.ready + counts.running)

    monkeypatch.setattr(TaskGraph, "add", counted)
    return most


async def test_large_indexes_are_copied_one_after_the_other(many, most_open, source, destination, net):
    outcome = await net.sync({"source/app": "destination/app"}, transfers=4)
    assert outcome.counts == (8, 0, 0)
    assert same(source.store, destination.store, "app")
    # One index with its children, and what was pushed of the one before.
    assert most_open[0] <= 2 * CHILDREN + 2
    # Each is fetched once to learn that it is large, and once when its turn has come.
    assert kinds(source)["GET manifest"] <= 8 * CHILDREN + 2 * 8


async def test_large_indexes_go_to_several_destinations(many, source, destination, elsewhere, net):
    outcome = await net.sync({"source/app": ["destination/app", "elsewhere/app"]}, transfers=4)
    assert outcome.counts == (16, 0, 0)
    assert same(source.store, elsewhere.store, "app")


async def test_a_large_index_that_fails_lets_the_next_one_go(many, source, destination, net):
    broken = source.store.get_manifest("app", "0").manifest.children[0].digest
    del source.store._repositories["app"].manifests[broken]
    outcome = await net.sync({"source/app": "destination/app"}, transfers=4)
    assert outcome.counts == (7, 0, 1)


@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [
        ("MAX_MANIFESTS", CHILDREN - 1, "manifests"),
        ("MAX_REFERENCES", CHILDREN + 5, "references"),
        ("MAX_MANIFEST_BYTES", 3000, "bytes of manifests"),
    ],
)
@pytest.mark.usefixtures("many")
async def test_an_image_beyond_the_limit_fails_and_says_so(net, monkeypatch, limit, value, said):
    monkeypatch.setattr(image_copy, limit, value)
    outcome = await net.sync({"source/app:1": "destination/app"})
    failure = outcome.failed[0].failure
    assert (failure.kind, failure.permanent) == ("too_large", True)
    assert f"more than {value} {said}" in failure.message


async def test_each_image_has_a_budget_of_its_own(many, source, destination, net, monkeypatch):
    monkeypatch.setattr(image_copy, "MAX_MANIFESTS", CHILDREN + 1)
    assert (await net.sync({"source/app": "destination/app"})).counts == (8, 0, 0)


async def test_indexes_in_indexes_are_copied_one_after_the_other(source, most_open, net):
    for tag in range(8):
        inner = [
            make_index(
                source.store,
                "app",
                children=[
                    make_image(
                        source.store, "app", layers=[make_layer({"n": f"{tag} {each} {leaf}".encode()})]
                    )
                    for leaf in range(6)
                ],
            )
            for each in range(3)
        ]
        make_index(source.store, "app", str(tag), children=inner)
    outcome = await net.sync({"source/app": "destination/app"}, transfers=4)
    assert outcome.counts == (8, 0, 0)
    assert most_open[0] <= 2 * (3 + 3 * 6 + 1)
