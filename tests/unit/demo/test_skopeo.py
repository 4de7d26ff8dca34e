"""Another tool takes the registry and its images for real ones."""

import json
import shutil

import anyio
import pytest

from syncer.demo.command import demo_registries

pytestmark = pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")

IMAGES = [("library/alpine", "3.20"), ("library/nginx", "latest"), ("team/app", "v2.0")]


@pytest.fixture
async def registries():
    async with demo_registries() as both:
        yield both


async def skopeo(*arguments: str) -> bytes:
    run = await anyio.run_process(["skopeo", *arguments], check=False)
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout


@pytest.mark.parametrize(("name", "tag"), IMAGES)
async def test_skopeo_reads_manifests_byte_for_byte(registries, name, tag):
    source, _ = registries
    raw = await skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{source.host}/{name}:{tag}")
    assert raw == source.store.manifest(name, tag).raw


async def test_skopeo_reads_configs(registries):
    source, _ = registries
    image = f"docker://{source.host}/library/nginx:1.27"
    shown = json.loads(await skopeo("inspect", "--tls-verify=false", "--override-arch=arm64", image))
    assert (shown["Os"], shown["Architecture"], len(shown["Layers"])) == ("linux", "arm64", 2)


@pytest.mark.parametrize(("name", "tag"), IMAGES)
async def test_skopeo_copies_images_whole(registries, name, tag):
    source, destination = registries
    await skopeo(
        "copy",
        "--all",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        f"docker://{source.host}/{name}:{tag}",
        f"docker://{destination.host}/copy/of:{tag}",
    )
    copied = destination.store.manifest("copy/of", tag)
    assert copied.raw == source.store.manifest(name, tag).raw
    for child in copied.manifest.children:
        image = destination.store.manifest("copy/of", child.digest).manifest
        for blob in image.blobs:
            assert destination.store.blob("copy/of", blob.digest) == source.store.blob(name, blob.digest)


async def test_skopeo_unpacks_an_image(registries, tmp_path):
    source, _ = registries
    image = f"docker://{source.host}/library/alpine:3.20"
    # As an archive of Docker's: for that, each layer is unpacked and compared with its diff_id.
    await skopeo(
        "copy", "--override-arch=amd64", "--src-tls-verify=false", image, f"docker-archive:{tmp_path}/a.tar"
    )
    assert (tmp_path / "a.tar").stat().st_size > 300_000
