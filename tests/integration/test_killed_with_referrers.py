"""A run that is killed while it copies referrers: what is there is complete, and the next run does the rest."""

import json
import random
import sys

import anyio
import pytest

from syncer.demo import MemoryRegistry
from syncer.demo.images import make_artifact, make_image, make_index, make_layer
from syncer.demo.messages import Answer, Request
from syncer.demo.registry import DropConnection
from syncer.demo.store import Store
from syncer.oci.digest import Digest
from syncer.oci.referrers import cosign_tags, fallback_tag
from tests.support.generated import seeds
from tests.support.wire import Net, is_whole, without_referrers_api

WRITES = 66
"""PUT requests of a whole run."""
MOMENTS = random.Random("referrers").sample(range(2, WRITES), len(seeds(3)))
SBOM = "application/spdx+json"


@pytest.fixture
async def net():
    async with MemoryRegistry() as source, MemoryRegistry() as destination:
        without_referrers_api(destination)
        yield Net({"source": source, "destination": destination})


def fill(store: Store) -> list[Digest]:
    """Put images with referrers of them, of their children, and of referrers. Return the digests of the subjects."""
    subjects = []
    for number in range(3):
        layer = make_layer({"number": str(number).encode()})
        platforms = ("linux/amd64", "linux/arm64")
        children = [make_image(store, "app", layers=[layer], platform=platform) for platform in platforms]
        index = make_index(store, "app", f"v{number}", children=children)
        for subject in (index, children[1]):
            content = f"of {subject.digest}".encode()
            sbom = make_artifact(store, "app", artifact_type=SBOM, content=content, subject=subject)
            make_artifact(store, "app", artifact_type=SBOM, content=b"signature" + content, subject=sbom)
            subjects += [subject.digest, sbom.digest]
        signature = next(iter(cosign_tags(index.digest)))
        make_artifact(store, "app", signature, artifact_type=SBOM, content=f"signature {number}".encode())
    return subjects


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_killed_run_leaves_complete_tags_and_the_next_run_completes(net, tmp_path, moment):
    source, destination = net.registries["source"], net.registries["destination"]
    subjects = fill(source.store)
    writes = 0

    async def kill(request: Request) -> Answer | None:
        nonlocal writes
        writes += request.method == "PUT"
        if writes == moment and process.returncode is None:
            process.kill()
        if writes >= moment and process.returncode is None:
            raise DropConnection
        return None

    destination.before(kill)
    rules = {f"{source.host}/app": {"to": f"{destination.host}/app", "referrers": True}}
    (tmp_path / "images.json").write_text(json.dumps(rules))
    plain = {each.host: {"plain_http": True} for each in (source, destination)}
    (tmp_path / "auth.json").write_text(json.dumps(plain))
    files = ("--images", str(tmp_path / "images.json"), "--auth", str(tmp_path / "auth.json"))
    process = await anyio.open_process([sys.executable, "-m", "syncer", *files, "--progress", "none"])
    async with process:
        assert await process.wait() == -9, "it was not killed, it had ended"

    store = destination.store
    left = list(store.tags("app"))
    assert all(is_whole(store, "app", tag) for tag in left)
    # A tag of an image is written after its referrers.
    for tag in {"v0", "v1", "v2"}.intersection(left):
        assert next(iter(cosign_tags(store.get_manifest("app", tag).digest))) in left
        assert fallback_tag(store.get_manifest("app", tag).digest) in left
    writes = moment + 1
    outcome = await net.sync({"source/app": {"to": "destination/app", "referrers": True}})

    assert outcome.result.failed == 0
    assert {"v0", "v1", "v2", *map(fallback_tag, subjects)} < set(store.tags("app"))
    assert all(is_whole(store, "app", tag) for tag in store.tags("app"))
    for subject in subjects:
        assert store.referrers("app", subject) == source.store.referrers("app", subject)
