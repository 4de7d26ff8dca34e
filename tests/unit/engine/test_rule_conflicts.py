"""Rules that the file shows in conflict: their images fail, everything else is copied."""

import pytest

from syncer.demo.images import make_image, make_layer
from tests.support.wire import kinds


@pytest.fixture(autouse=True)
def images(source):
    for repository in ("app", "other"):
        for tag in ("1", "2"):
            make_image(source.store, repository, tag, layers=[make_layer({repository: tag.encode()})])


def failed(outcome):
    return sorted((str(event.source.tag), event.failure.kind) for event in outcome.failed)


async def test_two_images_for_one_tag_both_fail_and_all_others_are_copied(destination, net):
    outcome = await net.sync(
        {
            "source/app:1,2": "destination/app",
            "source/other:2": "destination/app",
            "source/other:1": "destination/other",
        }
    )
    assert outcome.counts == (2, 0, 2)
    assert failed(outcome) == [("2", "conflict"), ("2", "conflict")]
    assert destination.store.tags("app") == ["1"]
    assert destination.store.tags("other") == ["1"]
    assert all(event.failure.permanent and event.failure.status is None for event in outcome.failed)


async def test_other_destinations_of_an_image_in_conflict_get_it(destination, elsewhere, net):
    outcome = await net.sync(
        {"source/app:1": ["destination/app", "elsewhere/app"], "source/other:1": "destination/app"}
    )
    assert outcome.counts == (1, 0, 2)
    assert destination.store.tags("app") == []
    assert elsewhere.store.tags("app") == ["1"]


@pytest.mark.parametrize("first", [True, False])
async def test_a_whole_repository_does_not_take_the_tag_of_images_in_conflict(destination, net, first):
    whole = {"source/other": "destination/app"}
    both = {"source/app:1": "destination/app", "source/app:2": "destination/app:1"}
    outcome = await net.sync({**whole, **both} if first else {**both, **whole})
    assert destination.store.tags("app") == (["1", "2"] if first else ["2"])
    assert len(outcome.failed) == (2 if first else 3)


@pytest.mark.parametrize("rules", [{"source/app": "source/app"}, {"source/app:/./": "source/app"}])
async def test_a_repository_copied_onto_itself_fails_once_and_is_not_listed(source, destination, net, rules):
    outcome = await net.sync({**rules, "source/other:1": "destination/other"}, retries=2)
    assert outcome.counts == (1, 0, 1)
    assert failed(outcome) == [("None", "conflict")]
    assert "GET tags" not in kinds(source)


async def test_a_repository_onto_itself_and_elsewhere_gets_elsewhere(destination, net):
    outcome = await net.sync({"source/app": ["source/app", "destination/app"]})
    assert outcome.counts == (2, 0, 1)
    assert destination.store.tags("app") == ["1", "2"]


async def test_a_tag_onto_itself_fails_and_the_others_are_copied(source, net):
    outcome = await net.sync({"source/app:1,2": "source/app:1,3"})
    assert outcome.counts == (1, 0, 1)
    assert failed(outcome) == [("1", "conflict")]
    assert source.store.tags("app") == ["1", "2", "3"]


async def test_an_expression_that_turns_out_to_copy_a_tag_onto_itself_fails_there(source, net):
    outcome = await net.sync({"source/app:/^[12]$/": "source/app:1,9"})
    assert failed(outcome) == [("1", "conflict")]
    assert source.store.digest("app", "9") == source.store.digest("app", "2")
