"""Images that cosign signed and attested, with a bill of materials, copied to every registry and verified there."""

import json
import random

import pytest

from tests.interop.images import REPOSITORY
from tests.interop.registries import KINDS
from tests.support.judge import judge

COPY = "mirror/copy"
SBOM = "application/spdx+json"
PLAIN = ("--allow-http-registry", "--key")
NO_LOG = ("--tlog-upload=false", "--use-signing-config=false")
IGNORE_LOG = "--insecure-ignore-tlog"
FORMS = {"bundle": "--new-bundle-format=true", "tags": "--new-bundle-format=false"}


@pytest.fixture(params=["demo", "distribution"])
def signed(request, start_registry, holding, tool, tmp_path):
    """A registry with an index that is signed and attested in both forms, and has a bill of materials."""
    registry, held = start_registry(request.param), holding("distribution")
    image = f"{registry.host}/{REPOSITORY}"
    tool("crane", "copy", f"{held.registry.host}/{REPOSITORY}:multi-platform", f"{image}:1")
    digest = held.digests["multi-platform"]
    tool("cosign", "generate-key-pair")
    (tmp_path / "predicate.json").write_text('{"made": "here"}')
    (tmp_path / "sbom.json").write_text('{"spdxVersion": "SPDX-2.3"}')
    for form in FORMS.values():
        tool(
            "cosign", "sign", "--yes", "--recursive", form, *NO_LOG, *PLAIN, "cosign.key", f"{image}@{digest}"
        )
        attest = ("attest", "--yes", form, *NO_LOG, "--predicate", "predicate.json", "--type", "custom")
        tool("cosign", *attest, *PLAIN, "cosign.key", f"{image}@{digest}")
    host = f"reg={registry.host},tls=disabled"
    tool("regctl", "--host", host, "artifact", "put", "--subject", f"{image}@{digest}", "--artifact-type", SBOM,
         "--file", "sbom.json", "--file-media-type", SBOM)  # fmt: skip
    return registry, digest


@pytest.fixture
def sync(files, run_syncer, tmp_path):
    """`sync(source, destination, **keys)` runs one rule, and returns its report."""

    def run(source, destination, **keys):
        plain = {each.host: {"plain_http": True} for each in (source, destination)}
        rules = {f"{source.host}/{REPOSITORY}:1": {"to": f"{destination.host}/{COPY}", **keys}}
        report = tmp_path / "report.json"
        done = run_syncer("sync", *files(rules, auth=plain), "--report", report)
        document = json.loads(report.read_text())
        assert done.returncode == (0 if not document["totals"]["images"]["failed"] else 1), done.stderr
        return document["images"][0]

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_cosign_verifies_copies_with_their_signatures_and_attestations(
    kind, signed, start_registry, *, sync, tool, tmp_path
):
    source, digest = signed
    destination = start_registry(kind)
    keys = {"referrers": True, "verify": {"keys": [str(tmp_path / "cosign.pub")]}}

    first = sync(source, destination, **keys)
    second = sync(source, destination, **keys)

    assert (first["outcome"], second["outcome"], second["referrers"]) == ("synced", "skipped", 0)
    assert first["digest"] == digest
    copy = f"{destination.host}/{COPY}@{digest}"
    for form in FORMS.values():
        assert digest in tool("cosign", "verify", form, IGNORE_LOG, *PLAIN, "cosign.pub", copy)
        tool("cosign", "verify-attestation", form, IGNORE_LOG, "--type", "custom", *PLAIN, "cosign.pub", copy)
    hosts = [f"reg={each.host},tls=disabled" for each in (source, destination)]
    listings = [
        json.loads(
            tool("regctl", "--host", host, "artifact", "list", image, "--format", "{{json .Descriptors}}")
        )
        for host, image in zip(hosts, (f"{source.host}/{REPOSITORY}@{digest}", copy), strict=True)
    ]
    assert sorted(each["digest"] for each in listings[0]) == sorted(each["digest"] for each in listings[1])
    assert SBOM in [each["artifactType"] for each in listings[1]]
    tags = [tag for tag in tool("crane", "ls", f"{source.host}/{REPOSITORY}").split() if "." in tag]
    judge(source, destination, [(f"{REPOSITORY}:{tag}", f"{COPY}:{tag}") for tag in [*tags, "1"]])


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_an_image_that_another_key_signed_is_not_copied(
    form, start_registry, holding, *, sync, tool, tmp_path
):
    source, destination = start_registry("distribution"), start_registry("demo")
    held = holding("distribution")
    image = f"{source.host}/{REPOSITORY}"
    tool("crane", "copy", f"{held.registry.host}/{REPOSITORY}:docker", f"{image}:1")
    tool("cosign", "generate-key-pair")
    tool("cosign", "generate-key-pair", "--output-key-prefix", "other")
    name = f"{image}@{held.digests['docker']}"
    tool("cosign", "sign", "--yes", form, *NO_LOG, *PLAIN, "other.key", name)

    rejected = sync(source, destination, verify={"keys": [str(tmp_path / "cosign.pub")]})

    assert (rejected["outcome"], rejected["error"]["kind"]) == ("failed", "untrusted")
    tool("cosign", "sign", "--yes", form, *NO_LOG, *PLAIN, "cosign.key", name)
    assert sync(source, destination, verify={"keys": [str(tmp_path / "cosign.pub")]})["outcome"] == "synced"


@pytest.mark.parametrize("signed", ["distribution"], indirect=True)
def test_cosign_verifies_at_every_registry_what_came_through_a_layout_and_volumes(  # noqa: PLR0917
    signed, start_registry, files, run_syncer, tool, tmp_path
):
    source, digest = signed
    name = f"{source.host}/{REPOSITORY}"
    host = ("--host", f"reg={source.host},tls=disabled")
    parts = []
    for number in range(3):
        (tmp_path / f"part{number}").write_bytes(random.Random(number).randbytes(150_000))
        parts += ["--file", f"part{number}", "--file-media-type", "application/octet-stream"]
    tool(
        "regctl",
        *host,
        "artifact",
        "put",
        "--artifact-type",
        "x/large",
        "--subject",
        f"{name}@{digest}",
        *parts,
    )

    def run(*command, rules, host):
        done = run_syncer(*command, *files(rules, auth={host: {"plain_http": True}}))
        assert done.returncode == 0, done.stderr

    run("save", "--output", tmp_path / "first.tar", rules={f"{name}:1": ""}, host=source.host)
    layout = tmp_path / "layout"
    run("sync", "--referrers", rules={f"{name}:1": f"oci:{layout}//{name}"}, host=source.host)
    listed = json.loads(_referrers(tool, f"ocidir://{layout}:1"))
    volumes = ("--since", tmp_path / "first.tar.contents.json", "--volume-size", "256KiB", "--referrers")
    archive = ("save", "--output", tmp_path / "second.tar", *volumes)
    run(*archive, rules={f"oci:{layout}//{name}:1": ""}, host=source.host)
    archives = [tmp_path / "first.tar", *sorted(tmp_path.glob("second.*.tar"), reverse=True)]
    assert len(archives) == 1 + 3

    found = json.loads(_referrers(tool, f"{name}@{digest}", *host))
    assert sorted(each["digest"] for each in listed) == sorted(each["digest"] for each in found)
    tags = [tag for tag in tool("crane", "ls", name).split() if "." in tag]
    for kind in KINDS:
        destination = start_registry(kind)
        auth = files({}, auth={destination.host: {"plain_http": True}})[:2]
        done = run_syncer("load", *archives, "--to", f"{destination.host}/{COPY}", *auth)
        assert done.returncode == 0, done.stderr
        copy = f"{destination.host}/{COPY}/app@{digest}"
        for form in FORMS.values():
            tool("cosign", "verify", form, IGNORE_LOG, *PLAIN, "cosign.pub", copy)
            tool(
                "cosign",
                "verify-attestation",
                form,
                IGNORE_LOG,
                "--type",
                "custom",
                *PLAIN,
                "cosign.pub",
                copy,
            )
        there = json.loads(_referrers(tool, copy, "--host", f"reg={destination.host},tls=disabled"))
        assert sorted(each["digest"] for each in there) == sorted(each["digest"] for each in found)
        judge(source, destination, [(f"{REPOSITORY}:{tag}", f"{COPY}/app:{tag}") for tag in [*tags, "1"]])


def _referrers(tool, image, *host):
    return tool("regctl", *host, "artifact", "list", image, "--format", "{{json .Descriptors}}")
