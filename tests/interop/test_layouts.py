"""Layouts and archives beside other tools: they read what this program wrote, and the other way round."""

from functools import partial

import pytest

from tests.interop.images import ARTIFACT, REPOSITORY
from tests.interop.registries import KINDS


@pytest.fixture
def site(holding, files):
    """A registry with an image of each kind, and the arguments that name it."""
    held = holding("docker-registry")
    rules = {f"{held.registry.host}/{REPOSITORY}": ""}
    return held, files(rules, auth={held.registry.host: {"plain_http": True}})


@pytest.fixture
def save(site, run_syncer, tmp_path):
    """`save("images.tar")` saves all images, and returns the path."""

    def run(name, *options):
        done = run_syncer("save", "--output", tmp_path / name, *options, *site[1])
        assert done.returncode == 0, done.stderr
        return tmp_path / name

    return run


@pytest.fixture
def load(run_syncer, files):
    """`load(registry, path)` loads archives into `loaded` of a registry."""

    def run(registry, *paths):
        auth = files({}, auth={registry.host: {"plain_http": True}})[:2]
        done = run_syncer("load", *paths, "--to", f"{registry.host}/loaded", *auth)
        assert done.returncode == 0, done.stderr

    return run


def test_regctl_and_skopeo_read_a_folder(site, save, tool, tmp_path):
    held, _ = site
    layout = save("layout")
    for tag, digest in held.digests.items():
        assert tool("regctl", "manifest", "head", f"ocidir://{layout}:{tag}") == digest
        # skopeo does not find Docker's manifests in a layout.
        if tag not in (ARTIFACT, "docker", "docker-list"):
            name = f"{held.registry.host}/{REPOSITORY}:{tag}"
            tool("skopeo", "copy", "--all", f"oci:{layout}:{name}", f"dir:{tmp_path / 'out'}")


def test_skopeo_copies_from_an_archive_and_crane_finds_the_same_digest(site, save, tool, start_registry):
    held, _ = site
    archive = save("images.tar")
    destination = start_registry("crane")
    name = f"oci-archive:{archive}:{held.registry.host}/{REPOSITORY}:multi-platform"
    copy = f"{destination.host}/copy:1"
    tool("skopeo", "copy", "--all", "--preserve-digests", "--dest-tls-verify=false", name, f"docker://{copy}")
    assert tool("crane", "digest", copy) == held.digests["multi-platform"]


def test_layout_that_crane_wrote_is_loaded(site, tool, start_registry, load, tmp_path):
    held, _ = site
    image = f"{held.registry.host}/{REPOSITORY}:multi-platform"
    tool("crane", "pull", "--format=oci", "--annotate-ref", image, tmp_path / "pulled")
    destination = start_registry("crane")
    load(destination, tmp_path / "pulled")
    name = REPOSITORY.rpartition("/")[2]
    found = tool("crane", "digest", f"{destination.host}/loaded/{name}:multi-platform")
    assert found == held.digests["multi-platform"]


@pytest.mark.parametrize("kind", KINDS)
def test_volumes_arrive_with_all_digests(site, save, load, tool, kind, start_registry):  # noqa: PLR0917
    held, _ = site
    archive = save("images.tar", "--volume-size", "48MiB")
    destination = start_registry(kind)
    load(destination, *sorted(archive.parent.glob("images.*.tar"), reverse=True))
    digest = partial(tool, "crane", "digest")
    name = f"{destination.host}/loaded/{REPOSITORY.rpartition('/')[2]}"
    assert {tag: digest(f"{name}:{tag}") for tag in held.digests} == held.digests
