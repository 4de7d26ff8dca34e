"""What the demo's source holds."""

import gzip
import io
import json
import tarfile

import pytest

from syncer.demo import Store, seed
from syncer.demo.images import make_image, make_layer
from syncer.oci import media_types
from syncer.oci.digest import Digest


@pytest.fixture(scope="module")
def store() -> Store:
    store = Store()
    seed(store)
    return store


def test_the_seed_has_the_promised_tags(store):
    assert {name: store.tags(name) for name in store.repositories()} == {
        "library/alpine": ["3.19", "3.20", "latest"],
        "library/nginx": ["1.26", "1.27", "latest"],
        "team/app": ["v1.0", "v1.1", "v2.0"],
    }


def test_latest_is_the_newest(store):
    assert store.digest("library/alpine", "latest") == store.digest("library/alpine", "3.20")
    assert store.digest("library/nginx", "latest") == store.digest("library/nginx", "1.27")


def test_the_seed_is_the_same_every_time(store):
    again = Store()
    seed(again)
    for name in store.repositories():
        assert [stored.raw for stored in again.manifests(name)] == [
            stored.raw for stored in store.manifests(name)
        ]


def test_each_image_is_an_index_of_two_platforms(store):
    for name in store.repositories():
        for tag in store.tags(name):
            index = store.manifest(name, tag).manifest
            assert index.media_type in media_types.INDEXES
            platforms = [str(child.platform) for child in index.children]
            assert platforms[:2] == ["linux/amd64", "linux/arm64"]


def test_the_seed_has_both_families_of_media_types(store):
    assert store.manifest("library/nginx", "1.27").media_type == media_types.DOCKER_INDEX
    assert store.manifest("library/alpine", "3.20").media_type == media_types.OCI_INDEX


def test_nginx_and_app_share_the_base_of_alpine(store):
    base, nginx, app = (
        {store.manifest(name, child.digest).manifest.blobs[1].digest for child in children}
        for name, children in (
            (name, [c for c in store.manifest(name, tag).manifest.children if c.platform.os == "linux"])
            for name, tag in (("library/alpine", "3.20"), ("library/nginx", "1.27"), ("team/app", "v2.0"))
        )
    )
    assert base == nginx == app
    assert len(base) == 2


def test_the_configs_name_the_layers_that_are_there(store):
    for name in store.repositories():
        for stored in store.manifests(name):
            config = stored.manifest.config
            if config is None or config.media_type == media_types.OCI_EMPTY:
                continue
            document = json.loads(store.blob(name, config.digest))
            layers = [blob for blob in stored.manifest.blobs if blob is not config]
            plain = [store.blob(name, layer.digest) for layer in layers]
            unpacked = [gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw for raw in plain]
            assert document["rootfs"]["diff_ids"] == [Digest.of(content) for content in unpacked]


def test_app_has_attestations_and_a_bill_of_materials(store):
    index = store.manifest("team/app", "v2.0")
    *images, first, second = index.manifest.children
    for image, attestation in zip(images, (first, second), strict=True):
        assert str(attestation.platform) == "unknown/unknown"
        assert dict(attestation.annotations) == {
            "vnd.docker.reference.digest": image.digest,
            "vnd.docker.reference.type": "attestation-manifest",
        }
    [referrer] = store.referrers("team/app", index.digest)
    assert referrer["artifactType"] == "application/spdx+json"
    assert store.manifest("team/app", referrer["digest"]).manifest.config.media_type == media_types.OCI_EMPTY


def test_the_seed_is_a_few_megabytes(store):
    unique = {digest: len(raw) for name in store.repositories() for digest, raw in store.blobs(name).items()}
    assert 1_000_000 < sum(unique.values()) < 5_000_000


def test_a_layer_holds_its_files():
    with tarfile.open(fileobj=io.BytesIO(make_layer({"etc/motd": b"hello"}).content)) as archive:
        [member] = archive
        assert member.name == "etc/motd"
        content = archive.extractfile(member)
        assert content is not None
        assert content.read() == b"hello"


def test_a_platform_may_have_a_variant():
    store = Store()
    image = make_image(store, "team/app", layers=[], platform="linux/arm/v7")
    config = store.get_manifest("team/app", image.digest).manifest.config
    assert config is not None
    assert json.loads(store.get_blob("team/app", config.digest))["variant"] == "v7"
    assert str(image.platform) == "linux/arm/v7"
