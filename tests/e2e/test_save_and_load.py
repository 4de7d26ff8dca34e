"""`save` and `load`: images go to archives, and from there to another registry, as on a disconnected site."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from syncer.demo import MemoryRegistry
from syncer.demo.images import make_image, make_index, make_layer
from syncer.oci.digest import Digest
from syncer.places.layout.archive import ArchiveStore
from tests.support.generated import seeds

BASE = make_layer({"base": random.Random("base").randbytes(60_000)})
IMAGES = 6
BANDWIDTH = "900KiB"


def layer(name: str, size: int = 80_000):
    return make_layer({name: random.Random(name).randbytes(size)})


class Site:
    """A registry with images, another one that is empty, and a folder that is carried from one to the other."""

    def __init__(self, folder: Path, source: MemoryRegistry, destination: MemoryRegistry) -> None:
        self.folder = folder
        self.source = source
        self.destination = destination
        self.auth()
        for number in range(IMAGES):
            self.add(f"team/app{number}", "1")
        amd64, arm64 = (
            make_image(source.store, "team/multi", layers=[BASE], platform=f"linux/{each}")
            for each in ("amd64", "arm64")
        )
        make_index(source.store, "team/multi", "latest", children=[amd64, arm64])
        self.rules()

    def auth(self, **settings: object) -> None:
        """Write the auth file. The settings are for the source."""
        document = {
            self.source.host: {"plain_http": True, **settings},
            self.destination.host: {"plain_http": True},
        }
        (self.folder / "auth.json").write_text(json.dumps(document))

    def rules(self) -> None:
        rules = {f"{self.source.host}/{name}": "nowhere.test/x" for name in self.source.store.repositories()}
        (self.folder / "images.json").write_text(json.dumps(rules))

    def add(self, repository: str, tag: str) -> None:
        make_image(self.source.store, repository, tag, layers=[BASE, layer(repository + tag)])

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "syncer", *arguments, "--auth", "auth.json", "--progress", "none"]

    async def run(self, *arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        return await anyio.run_process(
            self.command(*arguments), input=stdin, check=False, cwd=self.folder, env=self.environment
        )

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHONPATH": str(Path.cwd())}

    async def run_check(self, *options: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "syncer", "check", "--images", "images.json", *options]
        return await anyio.run_process(command, check=False, cwd=self.folder, env=self.environment)

    async def save(self, output: str, *options: str) -> subprocess.CompletedProcess[bytes]:
        return await self.run("save", "--output", output, "--images", "images.json", *options)

    async def load(self, *files: str, to: str = "mirror/{path|-}", stdin: bytes | None = None):
        return await self.run("load", *files, "--to", f"{self.destination.host}/{to}", stdin=stdin)

    def arrived(self, *, at: str = "mirror") -> dict[str, str]:
        """The digests at the destination, by the names that the images had at the source."""
        store = self.destination.store
        return {
            f"{name.removeprefix(f'{at}/').replace('-', '/', 1)}:{tag}": str(store.digest(name, tag))
            for name in store.repositories()
            if name.startswith(f"{at}/")
            for tag in store.tags(name)
        }

    def expected(self) -> dict[str, str]:
        store = self.source.store
        return {
            f"{name}:{tag}": str(store.digest(name, tag))
            for name in store.repositories()
            for tag in store.tags(name)
        }


@pytest.fixture
async def site(tmp_path) -> AsyncIterator[Site]:
    async with MemoryRegistry() as source, MemoryRegistry() as destination:
        yield Site(tmp_path, source, destination)


def succeeded(done: subprocess.CompletedProcess[bytes]) -> str:
    told = done.stderr.decode()
    assert done.returncode == 0, told
    return told


@pytest.mark.parametrize("output", ["images", "images.tar"])
async def test_images_arrive_with_their_digests(site, output):
    succeeded(await site.save(output))
    contents = json.loads(
        (site.folder / f"{output}{'/' if output == 'images' else ''}.contents.json").read_bytes()
    )
    assert contents["archive"] == output
    assert len(contents["references"]) == IMAGES + 1
    told = succeeded(await site.load(output))
    assert f"{IMAGES + 1} synced" in told
    assert site.arrived() == site.expected()


async def test_pipe_is_loaded_without_a_copy_on_the_disk(site):
    make_image(site.source.store, "team/large", "1", layers=[layer("large", 9_000_000), BASE])
    site.rules()
    succeeded(await site.save("images.tar"))
    # The layers are larger than any file that the program may write.
    command = [
        "prlimit",
        "--fsize=60000",
        *site.command("load", "-", "--to", f"{site.destination.host}/mirror/{{path|-}}"),
    ]
    archive = (site.folder / "images.tar").read_bytes()
    done = await anyio.run_process(command, input=archive, check=False, cwd=site.folder, env=site.environment)
    assert "1 failed" not in succeeded(done)
    assert site.arrived() == site.expected()


async def test_pipe_of_another_tool_is_loaded(site):
    succeeded(await site.save("images"))
    packed = await anyio.run_process(["tar", "c", "."], cwd=site.folder / "images")
    succeeded(await site.load("-", stdin=packed.stdout))
    assert site.arrived() == site.expected()


@pytest.mark.parametrize("length", [0, 700, 150_000, -1500])
async def test_truncated_pipe_fails_and_writes_no_incomplete_image(site, length):
    succeeded(await site.save("images.tar"))
    done = await site.load("-", stdin=(site.folder / "images.tar").read_bytes()[:length])
    assert done.returncode == 1
    assert "the archive is truncated" in done.stderr.decode()
    assert site.arrived() == {}


async def test_incremental_archive_leaves_out_what_earlier_ones_hold(site):
    succeeded(await site.save("first.tar"))
    site.add("team/app0", "2")
    succeeded(await site.save("second.tar", "--since", "first.tar.contents.json"))
    site.add("team/app1", "2")
    succeeded(await site.save("third.tar", "--since", "second.tar.contents.json"))
    contents = json.loads((site.folder / "third.tar.contents.json").read_bytes())
    assert [name.partition("/")[2] for name in contents["references"]] == ["team/app1:2"]
    assert len(contents["blobs"]) == 3
    assert str(Digest.of(BASE.content)) in contents["earlier"]

    alone = await site.load("third.tar")
    assert alone.returncode == 1
    assert "first.tar, which was not loaded" in alone.stderr.decode()
    assert site.arrived() == {}
    succeeded(await site.load("third.tar", "first.tar", "second.tar"))
    assert site.arrived() == site.expected()


async def test_incremental_archive_needs_only_what_the_destination_lacks(site):
    succeeded(await site.save("first.tar"))
    succeeded(await site.load("first.tar"))
    site.add("team/app0", "2")
    succeeded(await site.save("second.tar", "--since", "first.tar.contents.json"))
    succeeded(await site.load("second.tar"))
    assert site.arrived() == site.expected()


async def test_newest_archive_decides_what_a_tag_is(site):
    succeeded(await site.save("first.tar"))
    site.add("team/app0", "1")
    make_image(site.source.store, "team/app0", "1", layers=[layer("changed")])
    succeeded(await site.save("second.tar", "--since", "first.tar.contents.json"))
    succeeded(await site.load("second.tar", "first.tar"))
    assert site.arrived() == site.expected()


async def test_volumes_are_loaded_in_any_order_and_a_missing_one_is_named(site):
    succeeded(await site.save("images.tar", "--volume-size", "300KiB"))
    volumes = sorted(path.name for path in site.folder.glob("images.*.tar"))
    assert len(volumes) == 3
    assert all((site.folder / name).stat().st_size <= 300 * 1024 for name in volumes)
    contents = json.loads((site.folder / "images.tar.contents.json").read_bytes())
    assert contents["volumes"] == volumes
    assert {blob["archive"] for blob in contents["blobs"].values()} == set(volumes)

    (site.folder / "images.tar.contents.json").unlink()
    lacking = await site.load("images.2.tar", "images.1.tar")
    assert lacking.returncode == 1
    told = lacking.stderr.decode()
    assert "images.0.tar, which was not loaded" in told
    assert told.index("images.0.tar: this volume was not given") < told.index("started")
    assert set(site.arrived().items()) <= set(site.expected().items())
    succeeded(await site.load("images.1.tar", "images.2.tar", "images.0.tar"))
    assert site.arrived() == site.expected()


async def test_archive_without_its_index_volume_fails_and_says_so(site):
    succeeded(await site.save("images.tar", "--volume-size", "300KiB"))
    (site.folder / "images.tar.contents.json").unlink()
    done = await site.load("images.0.tar")
    assert done.returncode == 1
    assert "images.2.tar: this volume was not given" in done.stderr.decode()


async def test_truncated_archive_is_reported_before_anything_is_written(site):
    succeeded(await site.save("images.tar", "--volume-size", "300KiB"))
    with (site.folder / "images.0.tar").open("r+b") as file:
        file.truncate(200_000)
    done = await site.load("images.0.tar", "images.1.tar", "images.2.tar")
    assert done.returncode == 1
    told = done.stderr.decode()
    assert told.index("the archive is truncated") < told.index("started")
    assert set(site.arrived().items()) < set(site.expected().items())


@pytest.mark.parametrize("output", ["images", "images.tar"])
async def test_dry_run_of_save_writes_nothing(site, output):
    before = {path.name for path in site.folder.iterdir()}
    succeeded(await site.save(output, "--dry-run"))
    assert {path.name for path in site.folder.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("save", "--output", "images.tar.gz", "--images", "images.json"), "compressed"),
        (("save", "--output", "x", "--volume-size", "4GiB", "--images", "images.json"), "--volume-size"),
        (("save", "--output", "x.tar", "--volume-size", "4KiB", "--images", "images.json"), "at least"),
        (("save", "--output", "x.tar", "--since", "images.json", "--images", "images.json"), "--since"),
        (("load", "missing.tar", "--to", "h.test/x"), "missing.tar"),
        (("load", "pipe", "--to", "h.test/x"), "pipe"),
        (("load", "images.json", "--to", "h.test/{unknown}"), "unknown"),
    ],
)
async def test_wrong_usage_is_found_before_anything_is_contacted(site, arguments, expected):
    os.mkfifo(site.folder / "pipe")
    done = await site.run(*arguments)
    assert done.returncode == 2
    assert expected in done.stderr.decode()


async def test_check_reads_layouts_and_asks_no_registry_for_them(site):
    succeeded(await site.save("images"))
    rules = {"oci:images": "oci:other", "oci:missing//quay.io/x": "oci:other//quay.io/x"}
    (site.folder / "images.json").write_text(json.dumps(rules))
    done = await site.run_check("--online")
    said = done.stdout.decode()
    assert f"oci:{site.folder}/images: ok" in said
    assert f"oci:{site.folder}/missing: index of" in said
    assert done.returncode == 1
    assert not (site.folder / "other").exists()


def whole_images(layout: Path) -> set[str]:
    """The reference names of an index. Everything that they refer to is there, with its digest."""
    if not (layout / "index.json").exists():
        return set()

    def read(digest: str) -> bytes:
        content = (layout / "blobs" / digest.replace(":", "/")).read_bytes()
        assert Digest.of(content) == digest
        return content

    names = set()
    for entry in json.loads((layout / "index.json").read_bytes())["manifests"]:
        manifests = [json.loads(read(entry["digest"]))]
        manifests += [json.loads(read(child["digest"])) for child in manifests[0].get("manifests", ())]
        for manifest in manifests:
            for blob in (*manifest.get("layers", ()), *filter(None, [manifest.get("config")])):
                read(blob["digest"])
        names.add(entry["annotations"]["org.opencontainers.image.ref.name"])
    return names


def stored(path: Path) -> int:
    """The bytes that are at a path so far."""
    if path.is_dir():
        total = 0
        for each in path.rglob("*"):
            with suppress(FileNotFoundError):
                total += each.stat().st_blocks * 512
        return total
    return path.stat().st_blocks * 512 if path.exists() else 0


async def killed(site: Site, *arguments: str, when: Callable[[], bool]) -> None:
    process = await anyio.open_process(site.command(*arguments), cwd=site.folder, env=site.environment)
    deadline = time.monotonic() + 30
    while not when():
        assert time.monotonic() < deadline
        assert process.returncode is None, "it had ended"
        await anyio.sleep(0.005)
    process.kill()
    await process.wait()


@pytest.mark.parametrize(
    ("output", "seed"),
    [*(("images", seed) for seed in seeds(1)), *(("images.tar", seed) for seed in seeds(2))],
)
async def test_killed_save_is_completed_by_the_next_run(site, output, seed):
    site.auth(bandwidth=BANDWIDTH)
    moment = random.Random(f"{output}{seed}").randrange(100_000, 450_000)
    growing = site.folder / ("images" if output == "images" else "images.tar.tmp")
    arguments = ("save", "--output", output, "--images", "images.json")
    await killed(site, *arguments, when=lambda: stored(growing) >= moment)
    if output == "images":
        whole_images(site.folder / output)
    else:
        assert not (site.folder / output).exists()
    site.auth()
    site.source.requests.clear()
    succeeded(await site.save(output))
    if output == "images":
        assert len(whole_images(site.folder / output)) == IMAGES + 1
    else:
        assert not ArchiveStore(site.folder / output, "").problem
    blobs = [
        request for request in site.source.requests if "/blobs/" in request.path and request.method == "GET"
    ]
    assert len(blobs) < 2 * IMAGES + 4, "what the first run has stored is not fetched again"
    succeeded(await site.load(output))
    assert site.arrived() == site.expected()


@pytest.mark.parametrize("seed", seeds(1))
async def test_killed_load_is_completed_by_the_next_run(site, seed):
    succeeded(await site.save("images.tar"))
    wanted = random.Random(seed).randrange(2, 20)
    writes = lambda: sum(request.method in ("PUT", "PATCH") for request in site.destination.requests)  # noqa: E731
    to = f"{site.destination.host}/mirror/{{path|-}}"
    await killed(site, "load", "images.tar", "--to", to, when=lambda: writes() >= wanted)
    assert set(site.arrived().items()) <= set(site.expected().items())
    succeeded(await site.load("images.tar"))
    assert site.arrived() == site.expected()
