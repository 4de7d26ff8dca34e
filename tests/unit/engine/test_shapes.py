"""All kinds of content: what arrives is what was there, and nothing more is sent than belongs there."""

import json

import msgspec
import pytest

from syncer.demo import Answer, MemoryRegistry
from syncer.demo.images import (
    OCI_LAYER,
    make_artifact,
    make_attestation,
    make_image,
    make_index,
    make_layer,
    noise,
)
from syncer.oci import media_types
from syncer.oci.digest import Digest
from tests.support.schema1 import sign
from tests.support.wire import kind, kinds, same

LAYER = make_layer({"layer": noise("layer", 3000)})
LARGE = make_layer({"large": noise("large", 700_000)})


def put(store, document, *, tag="1", name="app", algorithm="sha256") -> Digest:
    """A manifest made by hand. Under a digest of another algorithm it is put without a tag."""
    raw = msgspec.json.encode(document)
    digest = Digest.of(raw, algorithm)
    store.put_manifest(name, raw, document["mediaType"], reference=tag if algorithm == "sha256" else digest)
    return digest


def described(store, content, media_type=OCI_LAYER, *, algorithm="sha256", name="app"):
    digest = store.put_blob(name, content, Digest.of(content, algorithm))
    return {"mediaType": media_type, "digest": str(digest), "size": len(content)}


def manifest(store, *layers, **more):
    config = described(store, b'{"os": "linux"}', media_types.OCI_CONFIG)
    return {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": config,
        "layers": list(layers),
        **more,
    }


async def test_docker_images_and_lists(source, destination, net):
    child = make_image(source.store, "app", layers=[LAYER], docker=True)
    make_index(source.store, "app", "1", children=[child], docker=True)
    assert (await net.sync({"source/app": "destination/app"})).counts == (1, 0, 0)
    assert same(source.store, destination.store, "app")


async def test_an_index_in_an_index(source, destination, net):
    child = make_image(source.store, "app", layers=[LAYER])
    inner = make_index(source.store, "app", children=[child])
    beside = make_image(source.store, "app", layers=[LAYER], platform="linux/arm64")
    make_index(source.store, "app", "1", children=[inner, beside])
    assert (await net.sync({"source/app": "destination/app"})).counts == (1, 0, 0)
    assert kinds(destination)["PUT manifest"] == 4
    assert same(source.store, destination.store, "app")


async def test_indexes_that_never_end_are_refused(source, destination, net):
    inner = make_image(source.store, "app", layers=[LAYER])
    for depth in range(8):
        inner = make_index(source.store, "app", "deep" if depth == 7 else "", children=[inner])
    outcome = await net.sync({"source/app": "destination/app"})
    assert outcome.failed[0].failure.kind == "invalid"
    assert destination.store.manifests("app") == []


async def test_a_child_without_platform(source, destination, net):
    bare = make_artifact(source.store, "app", artifact_type="text/plain", content=b"readme")
    make_index(source.store, "app", "1", children=[bare])
    assert (await net.sync({"source/app": "destination/app"})).counts == (1, 0, 0)
    assert same(source.store, destination.store, "app")


async def test_an_artifact_whose_subject_is_not_there(source, destination, net):
    image = make_image(source.store, "app", layers=[LAYER])
    make_artifact(source.store, "app", "sbom", artifact_type="text/spdx", content=b"{}", subject=image)
    assert (await net.sync({"source/app:sbom": "destination/app"})).counts == (1, 0, 0)
    assert same(source.store, destination.store, "app", ["sbom"])
    assert destination.store.manifest("app", image.digest) is None


async def test_an_artifact_whose_content_is_its_config(source, destination, net):
    make_artifact(source.store, "app", "1", artifact_type="text/plain", content=b"{}")
    await net.sync({"source/app": "destination/app"})
    assert kinds(destination)["PUT upload"] == 1
    assert same(source.store, destination.store, "app")


async def test_an_image_with_attestation(source, destination, net):
    image = make_image(source.store, "app", layers=[LAYER])
    attestation = make_attestation(source.store, "app", image=image)
    make_index(source.store, "app", "1", children=[image, attestation])
    assert (await net.sync({"source/app": "destination/app"})).counts == (1, 0, 0)
    assert same(source.store, destination.store, "app")


async def test_an_empty_blob(source, destination, net):
    put(source.store, manifest(source.store, described(source.store, b"")))
    assert (await net.sync({"source/app": "destination/app"})).counts == (1, 0, 0)
    assert destination.store.blob("app", Digest.of(b"")) == b""


async def test_foreign_layers_stay_where_they_are(source, destination, net):
    foreign = {
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": str(Digest.of(b"elsewhere")),
        "size": 9,
        "urls": ["https://example.com/layer"],
    }
    put(source.store, manifest(source.store, foreign, described(source.store, LAYER.content)))
    assert (await net.sync({"source/app": "destination/app"})).counts == (1, 0, 0)
    assert kinds(source)["GET blob"] == kinds(destination)["PUT upload"] == 2
    assert same(source.store, destination.store, "app")


@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
@pytest.mark.parametrize("layer", [LAYER, LARGE], ids=["small", "large"])
async def test_digests_of_other_algorithms(source, destination, net, algorithm, layer):
    put(source.store, manifest(source.store, described(source.store, layer.content, algorithm=algorithm)))
    assert (await net.sync({"source/app": "destination/app"})).counts == (1, 0, 0)
    assert same(source.store, destination.store, "app")


async def test_a_manifest_under_a_digest_of_another_algorithm(source, destination, net):
    digest = put(
        source.store, manifest(source.store, described(source.store, LAYER.content)), algorithm="sha512"
    )
    outcome = await net.sync({f"source/app@{digest}": "destination/app"})
    assert outcome.counts == (1, 0, 0)
    assert destination.store.manifest("app", digest)
    assert (await net.sync({f"source/app@{digest}": "destination/app"})).counts == (0, 1, 0)


@pytest.mark.parametrize("layer", [LAYER, LARGE], ids=["small", "large"])
async def test_a_schema_1_manifest(source, destination, net, layer):
    digest = source.store.put_blob("old", layer.content)
    put(
        source.store,
        {
            "schemaVersion": 1,
            "mediaType": media_types.DOCKER_SCHEMA1,
            "name": "old",
            "tag": "1",
            "fsLayers": [{"blobSum": str(digest)}, {"blobSum": str(digest)}],
            "history": [{"v1Compatibility": "{}"}] * 2,
        },
        name="old",
    )
    outcome = await net.sync({"source/old": "destination/old"})
    assert outcome.counts == (1, 0, 0)
    assert outcome.moved["pushed", destination.host] == outcome.moved["pulled", source.host]
    assert kinds(source)["GET blob"] == 1
    assert same(source.store, destination.store, "old")


async def test_a_signed_schema_1_manifest_keeps_its_digest(source, destination, net):
    digest = source.store.put_blob("old", LAYER.content)
    document = {"schemaVersion": 1, "fsLayers": [{"blobSum": str(digest)}], "history": []}
    payload = msgspec.json.encode(document)
    raw, signed = sign(payload), Digest.of(payload)
    headers = {"Content-Type": media_types.DOCKER_SCHEMA1_SIGNED, "Docker-Content-Digest": signed}

    @source.before
    async def signed_manifest(request):
        return Answer(200, headers, raw) if kind(request) == "GET manifest" else None

    pushed = []

    @destination.before
    async def take_manifest(request):
        if kind(request) == "PUT manifest":
            pushed.append(await request.read(10_000))
            return Answer(201, {"Docker-Content-Digest": signed})
        return None

    outcome = await net.sync({"source/old:1": "destination/old"})
    assert [event.digest for event in outcome.synced] == [signed]
    assert pushed == [raw]


async def test_a_media_type_that_only_the_registry_names(source, destination, net):
    document = manifest(source.store, described(source.store, LAYER.content))
    raw = msgspec.json.encode({key: value for key, value in document.items() if key != "mediaType"})
    source.store.put_manifest("app", raw, media_types.OCI_MANIFEST, reference="1")
    assert (await net.sync({"source/app": "destination/app"})).counts == (1, 0, 0)
    assert same(source.store, destination.store, "app")


async def test_blobs_that_the_source_keeps_elsewhere(destination, net):
    async with MemoryRegistry(redirect_blobs=True, username="me", password="secret") as origin:
        net.registries["origin"] = origin
        net.settings["origin"] = {"username": "me", "password": "secret"}
        make_image(origin.store, "app", "1", layers=[LAYER, LARGE])
        assert (await net.sync({"origin/app": "destination/app"})).counts == (1, 0, 0)
        assert same(origin.store, destination.store, "app")
        elsewhere = [request for request in origin.requests if request.path.startswith("/elsewhere/")]
        assert len(elsewhere) == 3
        assert not any("Authorization" in request.headers for request in elsewhere)


async def test_a_copy_within_one_registry(source, net):
    make_image(source.store, "app", "1", layers=[LAYER, LARGE])
    assert (await net.sync({"source/app": "source/copy"})).counts == (1, 0, 0)
    assert source.store.digest("copy", "1") == source.store.digest("app", "1")


async def test_names_and_tags_at_the_limits(source, destination, net):
    name = "/".join(["a" * 50] * 5)[:255]
    tag = "T" + "_.-" * 42 + "9"
    make_image(source.store, name, tag, layers=[LAYER])
    assert (await net.sync({f"source/{name}:{tag}": f"destination/{name}"})).counts == (1, 0, 0)
    assert destination.store.tags(name) == [tag]


async def test_tags_in_many_pages(destination, net):
    async with MemoryRegistry(max_page=7) as origin:
        net.registries["origin"] = origin
        image = make_image(origin.store, "app", "0", layers=[LAYER])
        for number in range(1, 50):
            origin.store.tag("app", str(number), image.digest)
        assert (await net.sync({"origin/app": "destination/app"})).counts == (50, 0, 0)
        assert kinds(origin)["GET tags"] == 8
        assert len(destination.store.tags("app")) == 50


BUILDKIT_CACHE = "application/vnd.buildkit.cacheconfig.v0"
"""The type of a cache's config, in BuildKit's cache/remotecache/v1/spec.go."""


def make_cache(store, repository, tag, layers):
    """An index of blobs, as BuildKit exports its cache without `image-manifest=true`."""
    config = json.dumps({"layers": [{"blob": Digest.of(layer.content)} for layer in layers]}).encode()
    entries = [
        {"mediaType": OCI_LAYER, "digest": Digest.of(layer.content), "size": len(layer.content)}
        for layer in layers
    ]
    entries.append({"mediaType": BUILDKIT_CACHE, "digest": Digest.of(config), "size": len(config)})
    for content in (*(layer.content for layer in layers), config):
        store.put_blob(repository, content)
    raw = json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries}).encode()
    return store.put_manifest(repository, raw, media_types.OCI_INDEX, reference=tag)


async def test_entries_of_an_index_that_are_no_manifests_are_copied_as_blobs(source, destination, net):
    made = make_cache(source.store, "cache", "1", [LAYER, LARGE])
    outcome = await net.sync({"source/cache": "destination/cache"})
    assert outcome.counts == (1, 0, 0)
    assert outcome.blobs == {"copied": 3}
    assert kinds(source) == {"GET tags": 1, "GET manifest": 1, "GET blob": 3}
    assert destination.store.digest("cache", "1") == made.digest
    assert same(source.store, destination.store, "cache")
    assert (await net.sync({"source/cache": "destination/cache"})).counts == (0, 1, 0)


async def test_an_index_of_images_and_blobs_keeps_its_blobs_under_a_platform_filter(source, destination, net):
    children = [
        make_image(source.store, "app", layers=[LAYER], platform=platform)
        for platform in ("linux/amd64", "linux/arm64")
    ]
    made = make_index(source.store, "app", "", children=children)
    document = json.loads(source.store.get_manifest("app", made.digest).raw)
    source.store.put_blob("app", LARGE.content)
    blob = Digest.of(LARGE.content)
    document["manifests"].append({"mediaType": OCI_LAYER, "digest": blob, "size": len(LARGE.content)})
    source.store.put_manifest("app", json.dumps(document).encode(), reference="1")
    rule = {"to": "destination/app", "platforms": ["linux/amd64"]}
    assert (await net.sync({"source/app:1": rule})).counts == (1, 0, 0)
    stored = json.loads(destination.store.get_manifest("app", "1").raw)
    assert [entry["digest"] for entry in stored["manifests"]] == [children[0].digest, blob]
    assert destination.store.blob("app", blob) == LARGE.content
    assert (await net.sync({"source/app:1": rule})).counts == (0, 1, 0)
