"""Pulling through mirrors that work, fail, lag behind and lie."""

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
    """A mirror that has what the registry has, named in the settings of `here`."""
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


async def test_content_comes_from_the_mirror_and_the_digest_from_the_registry(here, mirror, net, arrived):
    outcome = await net.sync(ONE, retries=0)
    assert outcome.counts == (1, 0, 0)
    assert arrived()
    assert here.lines == ["HEAD /v2/app/manifests/1"]
    assert mirror.count("GET", "/v2/app/manifests/sha256:*") == 1
    assert not outcome.synced[0].unverified


async def test_tags_are_listed_by_the_registry_itself(here, mirror, net):
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
async def test_a_mirror_that_fails_is_passed_over(here, mirror, net, arrived, fault):
    mirror.on("*", "*", **fault)
    outcome = await net.sync(ONE, retries=0)
    assert outcome.counts == (1, 0, 0)
    assert arrived()
    assert len(mirror.requests) <= 3
    assert not outcome.synced[0].unverified


async def test_a_mirror_that_is_silent_is_passed_over(here, mirror, net, arrived, monkeypatch):
    monkeypatch.setattr(mirrors, "ANSWER_SECONDS", 0.1)
    mirror.on("*", "*", stall=30)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()
    assert len(mirror.requests) <= 2


async def test_a_mirror_that_gives_other_manifests_is_passed_over(mirror, net, arrived):
    mirror.on("GET", "*/manifests/*", flip=20)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


async def test_a_mirror_that_gives_other_blobs_is_passed_over(here, mirror, net, arrived):
    mirror.on("GET", BLOB, flip=500_000)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()
    assert here.count("GET", BLOB) == 1


async def test_a_mirror_that_gives_blobs_of_another_size_is_passed_over(here, mirror, net, arrived):
    mirror.on("GET", "*/blobs/*", status=200, body=b"<html>")
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()


async def test_a_download_that_a_mirror_breaks_off_goes_on_at_the_registry(here, mirror, net, arrived):
    mirror.on("GET", BLOB, cut=900_000)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert arrived()
    assert here.count("GET", BLOB) == 1


async def test_the_next_mirror_is_asked_before_the_registry(here, mirror, net, source, arrived):
    async with Faults(source.host) as second:
        net.registries["second"] = second
        net.settings["here"] = {"mirrors": [mirror.host, second.host]}
        mirror.on("*", "*", status=503)
        assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
        assert arrived()
        assert second.count("GET", BLOB) == 1
        assert here.lines == ["HEAD /v2/app/manifests/1"]


async def test_where_the_registry_cannot_be_asked_a_mirror_is_believed_and_that_is_told(
    here, mirror, net, arrived
):
    here.on("*", "*", reset=True)
    outcome = await net.sync({"here/app": "there/app"}, retries=0)
    assert outcome.counts == (1, 0, 0)
    assert arrived()
    assert outcome.synced[0].unverified


async def test_a_digest_in_the_rule_needs_no_word_of_the_registry(here, mirror, net, source):
    here.on("*", "*", reset=True)
    digest = source.store.digest("app", "1")
    outcome = await net.sync({f"here/app:1@{digest}": "there/app"}, retries=0)
    assert outcome.counts == (1, 0, 0)
    assert not outcome.synced[0].unverified


async def test_what_the_registry_does_not_have_is_not_taken_from_a_mirror(here, mirror, net):
    here.on("*", "*/manifests/*", status=404)
    outcome = await net.sync(ONE, retries=0)
    assert outcome.failed[0].failure.kind == "not_found"


@pytest.mark.parametrize("status", [400, 401, 403, 407, 408, 500, 502, 503, 504, 511, 520])
async def test_an_answer_of_the_registry_is_its_word(here, mirror, net, target, status):
    here.on("*", "*", status=status)
    outcome = await net.sync(ONE, retries=0)
    assert outcome.counts == (0, 0, 1)
    assert target.store.tags("app") == []
    assert mirror.count("HEAD", "*/manifests/1") == mirror.count("GET", "*/manifests/1") == 0


@pytest.mark.parametrize("fault", [{"reset": True}, {"stall": 30}], ids=["closed", "silent"])
async def test_a_registry_that_does_not_answer_leaves_it_to_the_mirror(here, mirror, net, fault):
    net.settings["here"]["read_timeout"] = "1s"
    here.on("*", "*", **fault)
    outcome = await net.sync(ONE, retries=0)
    assert outcome.counts == (1, 0, 0)
    assert outcome.synced[0].unverified


async def test_a_registry_where_nobody_listens_leaves_it_to_the_mirror(mirror, net):
    net.dead["nowhere"] = "127.0.0.1:1"
    net.settings["nowhere"] = net.settings.pop("here")
    outcome = await net.sync({"nowhere/app:1": "there/app"}, retries=0)
    assert outcome.synced[0].unverified


@pytest.mark.parametrize("rule", ["tls/app:1", "tls/app"], ids=["a tag", "all tags"])
async def test_a_certificate_that_is_not_trusted_leaves_nothing_to_a_mirror(mirror, net, source, ca, rule):
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
async def test_a_mirror_cannot_give_other_content_whatever_it_calls_it(
    mirror, net, stores, *, answer, pinned
):
    source, target = stores
    stored = source.get_manifest("app", "1")
    body, kind = answer(stored.raw)
    digest = Digest.of(stored.raw, pinned or "sha256")
    if pinned == "sha512":
        net.registries["here"].on("GET", f"*/manifests/{digest}", status=200, body=stored.raw)
    # It says of other content whatever it is asked to say, and the destination says nothing.
    headers = {"content-type": kind, "docker-content-digest": digest}
    mirror.on("GET", "*/manifests/*", status=200, headers=headers, body=body)
    net.registries["there"].on("PUT", "*/manifests/*", drop=["docker-content-digest"])
    rule = f"here/app:1@{digest}" if pinned else "here/app:1"
    assert (await net.sync({rule: "there/app"}, retries=0)).counts == (1, 0, 0)
    assert target.get_manifest("app", "1").raw == stored.raw


async def test_neither_registry_nor_mirror_is_the_registrys_failure(here, mirror, net):
    for faults in (here, mirror):
        faults.on("*", "*", status=500)
    outcome = await net.sync(ONE, retries=0)
    assert outcome.failed[0].failure.registry == here.host


async def test_a_mirror_gets_its_own_credentials_only(here, source, net):
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

    def test_who_failed_rests_longer_each_time_up_to_a_bound(self, resting, clock):
        rests = []
        for _ in range(30):
            resting.failed(self.NAME)
            began = clock[0]
            while resting.rests(self.NAME):
                clock[0] += 1.0
            rests.append(clock[0] - began)
        assert rests[:3] == [FIRST_BACKOFF, FIRST_BACKOFF * 2, FIRST_BACKOFF * 4]
        assert max(rests) == MAX_BACKOFF

    def test_who_worked_is_as_new(self, resting, clock):
        resting.failed(self.NAME)
        resting.worked(self.NAME)
        assert not resting.rests(self.NAME)
        resting.failed(self.NAME)
        clock[0] += FIRST_BACKOFF
        assert not resting.rests(self.NAME)

    def test_a_repository_that_is_missing_says_nothing_of_others(self, resting):
        resting.failed(self.NAME, one_repository=True)
        assert resting.rests(self.NAME)
        assert not resting.rests(self.OTHER)
