"""Every kind of image, from every registry to every other, looked at with tools of others."""

import itertools
import json

import pytest

from tests.interop.images import ARTIFACT, ARTIFACT_TYPE, IMAGES, REPOSITORY
from tests.interop.registries import KINDS
from tests.support.judge import judge

COPY = "mirror/copy"
HAS_REFERRERS_API = "demo"  # the others have none, and no tag of the referrers tag schema was there to copy


@pytest.fixture(params=itertools.permutations(KINDS, 2), ids="-to-".join)
def pair(request, holding, start_registry):
    """A source that holds images, an empty destination, and the kind of the latter."""
    source, destination = request.param
    return holding(source), start_registry(destination), destination


@pytest.fixture
def sync(pair, files, run_syncer, tmp_path):
    """`sync()` runs the program from the pair's source to its destination, and returns its report's totals."""
    held, destination, _ = pair
    plain = {registry.host: {"plain_http": True} for registry in (held.registry, destination)}
    rules = {f"{held.registry.host}/{REPOSITORY}": f"{destination.host}/{COPY}"}

    def run():
        report = tmp_path / "report.json"
        done = run_syncer("sync", *files(rules, auth=plain), "--report", report)
        assert done.returncode == 0, done.stderr
        return json.loads(report.read_text())["totals"]

    return run


def test_images_of_all_kinds_arrive_as_they_are(pair, sync, tool, tmp_path):
    held, destination, kind = pair
    copy = f"{destination.host}/{COPY}"

    totals = sync()

    assert totals["images"] == {**totals["images"], "synced": len(held.digests), "skipped": 0, "failed": 0}
    judge(held.registry, destination, [(f"{REPOSITORY}:{tag}", f"{COPY}:{tag}") for tag in held.digests])
    assert {tag: tool("crane", "digest", f"{copy}:{tag}") for tag in held.digests} == held.digests
    for tag in IMAGES:
        # Of layers crane knows only those of images: not what an attestation has.
        platform = ["--platform", "linux/amd64"] if tag == "attested" else []
        tool("crane", "validate", *platform, "--remote", f"{copy}:{tag}")
        layout = f"oci:{tmp_path / 'layout'}:{tag}"
        tool("skopeo", "copy", "--all", "--src-tls-verify=false", f"docker://{copy}:{tag}", layout)
    artifact = json.loads(tool("crane", "manifest", f"{copy}:{ARTIFACT}"))
    assert artifact["subject"]["digest"] == held.digests["multi-platform"]
    if kind == HAS_REFERRERS_API:
        subject = f"{copy}@{held.digests['multi-platform']}"
        host = f"reg={destination.host},tls=disabled"
        listed = json.loads(
            tool("regctl", "--host", host, "artifact", "list", subject, "--format", "{{json .Descriptors}}")
        )
        assert [(each["digest"], each["artifactType"]) for each in listed] == [
            (held.digests[ARTIFACT], ARTIFACT_TYPE)
        ]


def test_second_run_skips_all_images(pair, sync):
    held, _, _ = pair
    sync()

    totals = sync()

    assert totals["images"] == {**totals["images"], "synced": 0, "skipped": len(held.digests), "failed": 0}
    assert totals["bytes"]["pushed"] == 0
