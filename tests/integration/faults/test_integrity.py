"""For any responses of mirrors and registries, a copied tag has the digest of the source or the rule, or the image fails."""

import anyio
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from syncer.demo import MemoryRegistry
from syncer.demo.images import make_image, make_index, make_layer, noise
from syncer.http import retry
from syncer.oci import media_types
from syncer.oci.digest import Digest
from tests.support.faults import Faults, Reply
from tests.support.generated import examples
from tests.support.schema1 import sign
from tests.support.wire import Net, is_whole

LAYERS = [make_layer({name: noise(name, 2000)}) for name in ("wanted", "other")]
ALGORITHMS = ["sha256", "sha384", "sha512"]

bodies = st.sampled_from(
    ["same", "same", "other", "index", "flipped", "signed", "wrapped", "cut", "nothing", "page"]
)
kinds = st.sampled_from([*media_types.ACCEPT.split(", "), "", "application/json", "text/html"])
headers = st.fixed_dictionaries(
    {"content-type": kinds},
    optional={
        "docker-content-digest": st.sampled_from(["asked", "own", "other", "nonsense"]).flatmap(
            lambda which: st.tuples(st.just(which), st.sampled_from(ALGORITHMS))
        ),
        "content-encoding": st.sampled_from(["gzip", "identity"]),
    },
)
answers = st.one_of(st.none(), st.tuples(st.sampled_from([200, 200, 200, 203, 404, 500]), bodies, headers))


class Liar:
    """Serves manifests according to a plan: the requested manifest, or another one under its name."""

    def __init__(self, store, plan):
        self.wanted = store.get_manifest("app", "1").raw
        self.other = store.get_manifest("app", "other").raw
        self.index = store.get_manifest("app", "index").raw
        self.plan = plan

    def __call__(self, asked):
        if self.plan is None:
            return None
        status, which, chosen = self.plan
        body = self._body(which)
        said = dict(chosen)
        if "docker-content-digest" in said:
            which, algorithm = said["docker-content-digest"]
            said["docker-content-digest"] = self._digest(which, algorithm, asked.path, body)
        return Reply(status, said, body)

    def _body(self, which):
        payload = b'{"schemaVersion": 1, "fsLayers": []}'
        return {
            "same": self.wanted,
            "other": self.other,
            "index": self.index,
            "flipped": self.wanted.replace(b"sha256", b"sha512", 1),
            "signed": sign(payload),
            "wrapped": self.wanted[:-1] + b',"signatures":[{"protected":"e30"}]}',
            "cut": self.wanted[:-20],
            "nothing": b"",
            "page": b"<html>",
        }[which]

    def _digest(self, which, algorithm, path, body):
        target = path.rpartition("/")[2]
        return {
            "asked": target if ":" in target else Digest.of(self.wanted, algorithm),
            "own": Digest.of(body, algorithm),
            "other": Digest.of(b"x", algorithm),
            "nonsense": "latest",
        }[which]


async def copied(mirror_plan, get_plan, pinned):
    """Run one rule. Return the digest of the destination tag, the expected digest, and the outcome."""
    async with (
        MemoryRegistry() as source,
        MemoryRegistry() as target,
        Faults(source.host) as here,
        Faults(source.host) as mirror,
        Faults(target.host) as there,
    ):
        for tag, layer in zip(("1", "other"), LAYERS, strict=True):
            make_image(source.store, "app", tag, layers=[layer])
        make_index(
            source.store, "app", "index", children=[make_image(source.store, "app", layers=[LAYERS[1]])]
        )
        make_image(target.store, "app", "before", layers=[LAYERS[0]])
        net = Net({"here": here, "there": there, "mirror": mirror})  # type: ignore[dict-item]
        net.settings["here"] = {"mirrors": [mirror.host]}
        mirror.on("*", "*/manifests/*", reply=Liar(source.store, mirror_plan))
        # The registry's HEAD response has the correct digest; its GET response may have any content.
        here.on("GET", "*/manifests/*", reply=Liar(source.store, get_plan))
        there.on("PUT", "*/manifests/*", drop=["docker-content-digest"])
        raw = source.store.get_manifest("app", "1").raw
        rule = f"here/app:1@{Digest.of(raw, pinned)}" if pinned else "here/app:1"
        outcome = await net.sync({rule: "there/app"}, retries=0)
        stored = target.store.manifest("app", "1")
        assert stored is None or is_whole(target.store, "app", "1")
        return (stored and stored.raw), raw, outcome.counts


@pytest.fixture(scope="module", autouse=True)
def no_backoff():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retry, "_backoff", lambda _state: 0.0)
        yield


@examples(40)
@given(answers, answers, st.sampled_from(["", *ALGORITHMS]))
@example((200, "other", {"content-type": media_types.DOCKER_SCHEMA1_SIGNED}), None, "")
@example((200, "signed", {"content-type": media_types.DOCKER_SCHEMA1_SIGNED}), None, "sha256")
@example((200, "wrapped", {"content-type": media_types.DOCKER_SCHEMA1_SIGNED}), None, "sha512")
@example(None, (200, "other", {"content-type": media_types.OCI_MANIFEST}), "")
def test_copied_tag_has_the_expected_digest_or_the_image_fails(mirror_plan, get_plan, pinned):
    stored, wanted, counts = anyio.run(copied, mirror_plan, get_plan, pinned)
    if counts == (1, 0, 0):
        assert stored == wanted
    else:
        assert counts == (0, 0, 1)
        assert stored is None
