"""All kinds of content: what arrives is what was there, and nothing more is sent than belongs there."""

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


async def test_docker_images_and_lists(here, there, net):
    child = make_image(here.store, "app", layers=[LAYER], docker=True)
    make_index(here.store, "app", "1", children=[child], docker=True)
    assert (await net.sync({"here/app": "there/app"})).counts == (1, 0, 0)
    assert same(here.store, there.store, "app")


async def test_an_index_in_an_index(here, there, net):
    child = make_image(here.store, "app", layers=[LAYER])
    inner = make_index(here.store, "app", children=[child])
    beside = make_image(here.store, "app", layers=[LAYER], platform="linux/arm64")
    make_index(here.store, "app", "1", children=[inner, beside])
    assert (await net.sync({"here/app": "there/app"})).counts == (1, 0, 0)
    assert kinds(there)["PUT manifest"] == 4
    assert same(here.store, there.store, "app")


async def test_indexes_that_never_end_are_refused(here, there, net):
    inner = make_image(here.store, "app", layers=[LAYER])
    for depth in range(8):
        inner = make_index(here.store, "app", "deep" if depth == 7 else "", children=[inner])
    outcome = await net.sync({"here/app": "there/app"})
    assert outcome.failed[0].failure.kind == "invalid"
    assert there.store.manifests("app") == []


async def test_a_child_without_platform(here, there, net):
    bare = make_artifact(here.store, "app", artifact_type="text/plain", content=b"readme")
    make_index(here.store, "app", "1", children=[bare])
    assert (await net.sync({"here/app": "there/app"})).counts == (1, 0, 0)
    assert same(here.store, there.store, "app")


async def test_an_artifact_whose_subject_is_not_there(here, there, net):
    image = make_image(here.store, "app", layers=[LAYER])
    make_artifact(here.store, "app", "sbom", artifact_type="text/spdx", content=b"{}", subject=image)
    assert (await net.sync({"here/app:sbom": "there/app"})).counts == (1, 0, 0)
    assert same(here.store, there.store, "app", ["sbom"])
    assert there.store.manifest("app", image.digest) is None


async def test_an_artifact_whose_content_is_its_config(here, there, net):
    make_artifact(here.store, "app", "1", artifact_type="text/plain", content=b"{}")
    await net.sync({"here/app": "there/app"})
    assert kinds(there)["PUT upload"] == 1
    assert same(here.store, there.store, "app")


async def test_an_image_with_attestation(here, there, net):
    image = make_image(here.store, "app", layers=[LAYER])
    attestation = make_attestation(here.store, "app", image=image)
    make_index(here.store, "app", "1", children=[image, attestation])
    assert (await net.sync({"here/app": "there/app"})).counts == (1, 0, 0)
    assert same(here.store, there.store, "app")


async def test_an_empty_blob(here, there, net):
    put(here.store, manifest(here.store, described(here.store, b"")))
    assert (await net.sync({"here/app": "there/app"})).counts == (1, 0, 0)
    assert there.store.blob("app", Digest.of(b"")) == b""


async def test_foreign_layers_stay_where_they_are(here, there, net):
    foreign = {
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": str(Digest.of(b"elsewhere")),
        "size": 9,
        "urls": ["https://example.com/layer"],
    }
    put(here.store, manifest(here.store, foreign, described(here.store, LAYER.content)))
    assert (await net.sync({"here/app": "there/app"})).counts == (1, 0, 0)
    assert kinds(here)["GET blob"] == kinds(there)["PUT upload"] == 2
    assert same(here.store, there.store, "app")


@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
@pytest.mark.parametrize("layer", [LAYER, LARGE], ids=["small", "large"])
async def test_digests_of_other_algorithms(here, there, net, algorithm, layer):
    put(here.store, manifest(here.store, described(here.store, layer.content, algorithm=algorithm)))
    assert (await net.sync({"here/app": "there/app"})).counts == (1, 0, 0)
    assert same(here.store, there.store, "app")


async def test_a_manifest_under_a_digest_of_another_algorithm(here, there, net):
    digest = put(here.store, manifest(here.store, described(here.store, LAYER.content)), algorithm="sha512")
    outcome = await net.sync({f"here/app@{digest}": "there/app"})
    assert outcome.counts == (1, 0, 0)
    assert there.store.manifest("app", digest)
    assert (await net.sync({f"here/app@{digest}": "there/app"})).counts == (0, 1, 0)


@pytest.mark.parametrize("layer", [LAYER, LARGE], ids=["small", "large"])
async def test_a_schema_1_manifest(here, there, net, layer):
    digest = here.store.put_blob("old", layer.content)
    put(
        here.store,
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
    outcome = await net.sync({"here/old": "there/old"})
    assert outcome.counts == (1, 0, 0)
    assert outcome.moved["pushed", there.host] == outcome.moved["pulled", here.host]
    assert kinds(here)["GET blob"] == 1
    assert same(here.store, there.store, "old")


async def test_a_signed_schema_1_manifest_keeps_its_digest(here, there, net):
    digest = here.store.put_blob("old", LAYER.content)
    document = {"schemaVersion": 1, "fsLayers": [{"blobSum": str(digest)}], "history": [], "signatures": [{}]}
    raw, signed = msgspec.json.encode(document), Digest.of(b"the payload without its signature")
    headers = {"Content-Type": media_types.DOCKER_SCHEMA1_SIGNED, "Docker-Content-Digest": signed}

    @here.before
    async def signed_manifest(request):
        return Answer(200, headers, raw) if kind(request) == "GET manifest" else None

    pushed = []

    @there.before
    async def take_manifest(request):
        if kind(request) == "PUT manifest":
            pushed.append(await request.read(10_000))
            return Answer(201, {"Docker-Content-Digest": signed})
        return None

    outcome = await net.sync({"here/old:1": "there/old"})
    assert [event.digest for event in outcome.synced] == [signed]
    assert pushed == [raw]


async def test_a_media_type_that_only_the_registry_names(here, there, net):
    document = manifest(here.store, described(here.store, LAYER.content))
    raw = msgspec.json.encode({key: value for key, value in document.items() if key != "mediaType"})
    here.store.put_manifest("app", raw, media_types.OCI_MANIFEST, reference="1")
    assert (await net.sync({"here/app": "there/app"})).counts == (1, 0, 0)
    assert same(here.store, there.store, "app")


async def test_blobs_that_the_source_keeps_elsewhere(there, net):
    async with MemoryRegistry(redirect_blobs=True, username="me", password="secret") as source:
        net.registries["source"] = source
        net.settings["source"] = {"username": "me", "password": "secret"}
        make_image(source.store, "app", "1", layers=[LAYER, LARGE])
        assert (await net.sync({"source/app": "there/app"})).counts == (1, 0, 0)
        assert same(source.store, there.store, "app")
        elsewhere = [request for request in source.requests if request.path.startswith("/elsewhere/")]
        assert len(elsewhere) == 3
        assert not any("Authorization" in request.headers for request in elsewhere)


async def test_a_copy_within_one_registry(here, net):
    make_image(here.store, "app", "1", layers=[LAYER, LARGE])
    assert (await net.sync({"here/app": "here/copy"})).counts == (1, 0, 0)
    assert here.store.digest("copy", "1") == here.store.digest("app", "1")


async def test_names_and_tags_at_the_limits(here, there, net):
    name = "/".join(["a" * 50] * 5)[:255]
    tag = "T" + "_.-" * 42 + "9"
    make_image(here.store, name, tag, layers=[LAYER])
    assert (await net.sync({f"here/{name}:{tag}": f"there/{name}"})).counts == (1, 0, 0)
    assert there.store.tags(name) == [tag]


async def test_tags_in_many_pages(there, net):
    async with MemoryRegistry(max_page=7) as source:
        net.registries["source"] = source
        image = make_image(source.store, "app", "0", layers=[LAYER])
        for number in range(1, 50):
            source.store.tag("app", str(number), image.digest)
        assert (await net.sync({"source/app": "there/app"})).counts == (50, 0, 0)
        assert kinds(source)["GET tags"] == 8
        assert len(there.store.tags("app")) == 50
