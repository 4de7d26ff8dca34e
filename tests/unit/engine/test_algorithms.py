"""Registries that name one manifest by different algorithms: the bytes are compared, not the names."""

import pytest

from syncer.demo import Answer
from syncer.demo.images import make_image, make_index, make_layer, noise
from syncer.events import SkipReason
from syncer.oci.digest import Digest
from tests.support.wire import kind, kinds

LAYER = make_layer({"layer": noise("layer", 3000)})
ALGORITHMS = pytest.mark.parametrize("algorithm", ["sha384", "sha512"])


def name_by(registry, algorithm):
    """Have a registry name its manifests by another algorithm, in HEAD, GET and PUT, and serve them by that name."""

    @registry.before
    async def answer(request):
        repository, slash, target = request.path.removeprefix("/v2/").partition("/manifests/")
        if not slash or request.method not in ("HEAD", "GET"):
            return None
        wanted = registry.store.digest(repository, target) if ":" not in target else target
        for stored in registry.store.manifests(repository):
            name = Digest.of(stored.raw, algorithm)
            if wanted in (name, stored.digest):
                headers = {"Content-Type": stored.media_type, "Docker-Content-Digest": name}
                headers["Content-Length"] = str(len(stored.raw))
                return Answer(200, headers, b"" if request.method == "HEAD" else stored.raw)
        return None


@ALGORITHMS
async def test_tag_with_another_digest_algorithm_at_the_source_is_up_to_date(
    source, destination, net, algorithm
):
    made = make_image(source.store, "app", "1", layers=[LAYER])
    name_by(source, algorithm)
    first = await net.sync({"source/app": "destination/app"})
    assert [event.digest for event in first.synced] == [made.digest]
    net.forget()
    second = await net.sync({"source/app": "destination/app"})
    assert [(event.reason, event.digest) for event in second.skipped] == [
        (SkipReason.UP_TO_DATE, made.digest)
    ]
    assert "PUT manifest" not in kinds(destination)
    assert "GET blob" not in kinds(source)


@ALGORITHMS
async def test_tag_with_another_digest_algorithm_at_the_destination_is_up_to_date(
    source, destination, net, algorithm
):
    made = make_image(source.store, "app", "1", layers=[LAYER])
    await net.sync({"source/app": "destination/app"})
    name_by(destination, algorithm)
    net.forget()
    second = await net.sync({"source/app": "destination/app"})
    raw = source.store.get_manifest("app", made.digest).raw
    assert [event.digest for event in second.skipped] == [Digest.of(raw, algorithm)]
    assert "PUT manifest" not in kinds(destination)


@ALGORITHMS
async def test_different_bytes_are_replaced_with_any_digest_algorithm(source, destination, net, algorithm):
    make_image(source.store, "app", "1", layers=[LAYER])
    name_by(source, algorithm)
    await net.sync({"source/app": "destination/app"})
    made = make_image(source.store, "app", "1", layers=[LAYER], annotations={"new": "yes"})
    outcome = await net.sync({"source/app": "destination/app"})
    assert [event.digest for event in outcome.synced] == [made.digest]


@ALGORITHMS
async def test_index_with_another_digest_algorithm_is_up_to_date(source, destination, net, algorithm):
    children = [make_image(source.store, "app", layers=[LAYER], platform="linux/amd64")]
    make_index(source.store, "app", "1", children=children)
    name_by(source, algorithm)
    await net.sync({"source/app": "destination/app"})
    assert (await net.sync({"source/app": "destination/app"})).counts == (0, 1, 0)


async def test_a_digest_that_the_registry_makes_up_is_an_error(source, destination, net):
    make_image(source.store, "app", "1", layers=[LAYER])

    @destination.before
    async def answer(request):
        if kind(request) == "PUT manifest":
            return Answer(201, {"Docker-Content-Digest": Digest.of(b"another", "sha512")})
        return None

    outcome = await net.sync({"source/app": "destination/app"})
    assert outcome.failed[0].failure.kind == "digest_mismatch"
