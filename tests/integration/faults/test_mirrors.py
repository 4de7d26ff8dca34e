"""Pulls through mirrors that work, fail, are out of date, or return wrong content."""

import pytest

from syncer.demo import MemoryRegistry
from syncer.demo.images import make_image, make_layer, noise
from syncer.oci import media_types
from syncer.oci.digest import Digest
from syncer.oci.reference import Repository
from syncer.places.registry import mirrors
from syncer.places.registry.mirrors import FIRST_BACKOFF, MAX_BACKOFF, MirrorBackoff
from tests.support.faults import Faults
from tests.support.schema1 import sign
from tests.support.wire import same

LAYER = make_layer({"big": noise("big", 1_000_000)})
BLOB = f"/v2/app/blobs/{Digest.of(LAYER.content)}"
ONE = {"here/app:1": "there/app"}


@pytest.fixture
async def mirror(source, net):
    """A mirror with the content of the registry, configured for `here`."""
    make_image(source.store, "app", "1", layers=[LAYER])
    async with Faults(source.host) as faults:
        net.registries["mirror"] = faults
        net.settings["here"] = {"mirrors": [faults.host]}
        yield faults


@pytest.fixture
def stores(source, target):
    return source.store, target.store


@pytest.fixture
def arrived(source, target):
    return lambda: same(source.store, target.store, "app")


async def test_mirror_serves_content_and_registry_resolves_tag(here, mirror, net, arrived):
    outcome = await net.sync(ONE, retries=0)
    assert outcome.counts == (1, 0, 0)
    assert arrived()
    assert here.lines == ["HEAD /v2/app/manifests/1"]
    assert mirror.count("GET", "/v2/app/manifests/sha256:*") == 1
    assert not outcome.synced[0].unverified


async def test_registry_lists_tags_if_mirror_is_configured(here, mirror, net):
    await net.sync({"here/app": "there/app"}, retries=0)
    assert here.count("GET", "*/tags/list") == 1
    assert mirror.count("GET", "*/tags/list") == 0


PAGE = {"status": 200, "headers": {"content-type": "text/html"}, "body": b"<html>closed</html>"}


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 401},
        {"status": 403},
        {"status": 404},
        {"status": 500},
        {"status": 429},
        PAGE,
        {"reset": True},
    ],
    ids=["401", "403", "404", "500", "429", "web page", "closed"],
)
async def test_failing_mirror_is_skipped(here, mirror, net, arrived, fault):
    mirror.on("*", "*", **fault)
    outcome = await net.sync(ONE, retries=0)
    assert outcome.counts == (1, 0, 0)
    assert arrived()
    assert len(mirror.requests) <= 3
    assert not outcome.synced[0].unverified


async def test_silent_mirror_is_skipped(here, mirror, net, arrived, monkeypatch):
    monkeypatch.setattr(mirrors, "ANSWER_SECONDS", 0.1)
    mirror.on("*", "*", stall=30)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()
    assert len(mirror.requests) <= 2


async def test_mirror_with_different_manifests_is_skipped(mirror, net, arrived):
    mirror.on("GET", "*/manifests/*", flip=20)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


async def test_mirror_with_different_blobs_is_skipped(here, mirror, net, arrived):
    mirror.on("GET", BLOB, flip=500_000)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()
    assert here.count("GET", BLOB) == 1


async def test_mirror_with_wrong_blob_size_is_skipped(here, mirror, net, arrived):
    mirror.on("GET", "*/blobs/*", status=200, body=b"<html>")
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


async def test_download_interrupted_by_mirror_resumes_at_registry(here, mirror, net, arrived):
    mirror.on("GET", BLOB, cut=900_000)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()
    assert here.count("GET", BLOB) == 1


async def test_next_mirror_is_tried_before_the_registry(here, mirror, net, source, arrived):
    async with Faults(source.host) as second:
        net.registries["second"] = second
        net.settings["here"] = {"mirrors": [mirror.host, second.host]}
        mirror.on("*", "*", status=503)
        assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
        assert arrived()
        assert second.count("GET", BLOB) == 1
        assert here.lines == ["HEAD /v2/app/manifests/1"]


async def test_unreachable_registry_lets_mirror_resolve_tag_with_a_warning(here, mirror, net, arrived):
    here.on("*", "*", reset=True)
    outcome = await net.sync({"here/app": "there/app"}, retries=0)
    assert outcome.counts == (1, 0, 0)
    assert arrived()
    assert outcome.synced[0].unverified


async def test_pinned_digest_is_copied_from_mirror_without_registry(here, mirror, net, source):
    here.on("*", "*", reset=True)
    digest = source.store.digest("app", "1")
    outcome = await net.sync({f"here/app:1@{digest}": "there/app"}, retries=0)
    assert outcome.counts == (1, 0, 0)
    assert not outcome.synced[0].unverified


async def test_tag_missing_at_registry_is_not_taken_from_mirror(here, mirror, net):
    here.on("*", "*/manifests/*", status=404)
    outcome = await net.sync(ONE, retries=0)
    assert outcome.failed[0].failure.kind == "not_found"


@pytest.mark.parametrize("status", [400, 401, 403, 407, 408, 500, 502, 503, 504, 511, 520])
async def test_error_status_of_registry_is_not_replaced_by_mirror(here, mirror, net, target, status):
    here.on("*", "*", status=status)
    outcome = await net.sync(ONE, retries=0)
    assert outcome.counts == (0, 0, 1)
    assert target.store.tags("app") == []
    assert mirror.count("HEAD", "*/manifests/1") == mirror.count("GET", "*/manifests/1") == 0


@pytest.mark.parametrize("fault", [{"reset": True}, {"stall": 30}], ids=["closed", "silent"])
async def test_registry_without_response_falls_back_to_mirror(here, mirror, net, fault):
    net.settings["here"]["read_timeout"] = "1s"
    here.on("*", "*", **fault)
    outcome = await net.sync(ONE, retries=0)
    assert outcome.counts == (1, 0, 0)
    assert outcome.synced[0].unverified


async def test_refused_connection_to_registry_falls_back_to_mirror(mirror, net):
    net.dead["nowhere"] = "127.0.0.1:1"
    net.settings["nowhere"] = net.settings.pop("here")
    outcome = await net.sync({"nowhere/app:1": "there/app"}, retries=0)
    assert outcome.synced[0].unverified


@pytest.mark.parametrize("rule", ["tls/app:1", "tls/app"], ids=["a tag", "all tags"])
async def test_untrusted_certificate_does_not_fall_back_to_mirror(mirror, net, source, ca, rule):
    async with Faults(source.host, tls=ca) as other:
        net.registries["tls"] = other
        net.settings["tls"] = {**net.settings["here"], "plain_http": False}
        outcome = await net.sync({rule: "there/app"}, retries=0)
        assert outcome.failed[0].failure.kind == "tls"
        assert mirror.count("HEAD") == mirror.count("GET") == 0


OTHERS = {
    "an image called signed": lambda raw: (raw, media_types.DOCKER_SCHEMA1_SIGNED),
    "a signed manifest": lambda _raw: (
        sign(b'{"schemaVersion": 1, "fsLayers": []}'),
        media_types.DOCKER_SCHEMA1_SIGNED,
    ),
    "another image": lambda raw: (raw.replace(b"}", b" }"), media_types.OCI_MANIFEST),
    "the image as another kind": lambda raw: (raw, media_types.DOCKER_INDEX),
}


@pytest.mark.parametrize("answer", OTHERS.values(), ids=OTHERS.keys())
@pytest.mark.parametrize("pinned", ["", "sha256", "sha512"], ids=["by tag", "by digest", "by sha512"])
async def test_mirror_cannot_substitute_content(mirror, net, stores, *, answer, pinned):
    source, target = stores
    stored = source.get_manifest("app", "1")
    body, kind = answer(stored.raw)
    digest = Digest.of(stored.raw, pinned or "sha256")
    if pinned == "sha512":
        net.registries["here"].on("GET", f"*/manifests/{digest}", status=200, body=stored.raw)
    # The mirror claims the expected digest for different content, and the destination states no digest.
    headers = {"content-type": kind, "docker-content-digest": digest}
    mirror.on("GET", "*/manifests/*", status=200, headers=headers, body=body)
    net.registries["there"].on("PUT", "*/manifests/*", drop=["docker-content-digest"])
    rule = f"here/app:1@{digest}" if pinned else "here/app:1"
    assert (await net.sync({rule: "there/app"}, retries=0)).counts == (1, 0, 0)
    assert target.get_manifest("app", "1").raw == stored.raw


async def test_unreachable_registry_and_mirror_report_registry_error(here, mirror, net):
    for faults in (here, mirror):
        faults.on("*", "*", status=500)
    outcome = await net.sync(ONE, retries=0)
    assert outcome.failed[0].failure.registry == here.host


async def test_mirror_receives_only_its_own_credentials(here, source, net):
    make_image(source.store, "app", "1", layers=[LAYER])
    async with (
        MemoryRegistry(username="m", password="mirror-secret", store=source.store) as guarded,
        Faults(guarded.host) as mirror,
    ):
        net.registries["mirror"] = mirror
        net.settings["mirror"] = {"username": "m", "password": "mirror-secret"}
        net.settings["here"] = {"mirrors": [mirror.host], "username": "h", "password": "here-secret"}
        assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
        assert mirror.count("GET", BLOB) >= 1
        assert not any("authorization" in asked.headers for asked in here.requests)


class TestResting:
    NAME, OTHER = Repository("mirror", "app"), Repository("mirror", "other")

    @pytest.fixture
    def clock(self):
        return [100.0]

    @pytest.fixture
    def resting(self, clock):
        return MirrorBackoff(clock=lambda: clock[0])

    def test_mirror_backoff_doubles_up_to_its_maximum(self, resting, clock):
        rests = []
        for _ in range(30):
            resting.failed(self.NAME)
            began = clock[0]
            while resting.rests(self.NAME):
                clock[0] += 1.0
            rests.append(clock[0] - began)
        assert rests[:3] == [FIRST_BACKOFF, FIRST_BACKOFF * 2, FIRST_BACKOFF * 4]
        assert max(rests) == MAX_BACKOFF

    def test_success_resets_mirror_backoff(self, resting, clock):
        resting.failed(self.NAME)
        resting.worked(self.NAME)
        assert not resting.rests(self.NAME)
        resting.failed(self.NAME)
        clock[0] += FIRST_BACKOFF
        assert not resting.rests(self.NAME)

    def test_repository_missing_at_mirror_does_not_affect_others(self, resting):
        resting.failed(self.NAME, one_repository=True)
        assert resting.rests(self.NAME)
        assert not resting.rests(self.OTHER)
