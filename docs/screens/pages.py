# ruff: noqa: ASYNC110, INP001 - polls another process; and is a script beside its pictures, no package
"""Runs the daemon between two registries in memory until it has a history, and keeps pictures of its pages.

`scripts/screens` calls it: the status page in light and dark and on a phone, and the pages of a run, an image and a rule.
"""

import asyncio
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
from make import CORPUS, DESTINATION_PORT, HERE, SOURCE_PORT, InMemory, refusal, write_files

from benchmarks.corpus import make_corpus
from syncer.demo import Answer, MemoryRegistry, Request
from tests.support.browser import Browser, Page
from tests.support.processes import Process

LISTEN = "127.0.0.1:5053"
PAGE = f"http://{LISTEN}/"
RUNS = 26
CHANGES = random.Random(7)  # noqa: S311 - the same pictures every time
PATIENCE = 120.0


class Trouble:
    """What the registries refuse: nothing, now and then a little, in the end what the pictures show."""

    def __init__(self) -> None:
        self.lost: tuple[str, ...] = ()
        self.unlabelled: tuple[str, ...] = ()

    async def at_source(self, request: Request) -> Answer | None:
        if self.lost and request.path.endswith(self.lost):
            return refusal(404, "MANIFEST_UNKNOWN", "manifest unknown")
        return None

    async def at_destination(self, request: Request) -> Answer | None:
        if self.unlabelled and request.method == "PUT" and request.path.endswith(self.unlabelled):
            return refusal(400, "MANIFEST_INVALID", "labels are missing: owner, contact")
        return None


def change(source: MemoryRegistry, images: int, name: str) -> None:
    """Somebody builds so many images anew."""
    if images:
        make_corpus(InMemory(source.store), replace(CORPUS, images=images, seed=name))


async def have_history(source: MemoryRegistry, trouble: Trouble) -> None:
    """One run after the other, each with other work."""
    async with httpx.AsyncClient(base_url=PAGE, trust_env=False) as client:
        for number in range(RUNS):
            await idle(client)
            change(source, CHANGES.choice((0, 1, 2, 3, 5, 8)) if number else 40, f"day {number}")
            trouble.unlabelled = ("/app-00/manifests/1.0",) if number in {9, 10} else ()
            await started(client)
            if number == 17:
                await idle(client)
                change(source, 40, "a large one")
                run = await started(client)
                await asyncio.sleep(1)
                await client.post(f"/api/v1/runs/{run}/cancel")
                await started(client)
        await idle(client)


async def started(client: httpx.AsyncClient) -> str:
    await idle(client)
    async with asyncio.timeout(PATIENCE):
        while (answer := await client.post("/api/v1/runs")).status_code != 202:
            await asyncio.sleep(0.05)
    return str(answer.json()["id"])


async def idle(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await client.get("/api/v1/status")).json()["run"]:
            await asyncio.sleep(0.05)


def take() -> None:
    """The pictures, before, while and after a run goes on."""
    browser = Browser()
    try:
        page = browser.page()
        page.resize(1120, 1010)
        page.open(PAGE)
        page.click("#start")
        page.until(lambda: done(page) >= 14 and page.text(".failing") and page.text("#live [data-of=eta]"))
        save(page, "page-light.png")
        page.resize(390, 844, phone=True, scale=1.5)
        save(page, "page-phone.png")
        page.resize(1120, 840)
        page.prefer(prefers_color_scheme="dark")
        page.until(lambda: not page.text("#live") and "failing" in page.text("#health"), patience=PATIENCE)
        save(page, "page-dark.png")
        page.prefer(prefers_color_scheme="light")
        page.resize(1120, 720)
        for name, link in (
            ("run.png", ".runs a"),
            ("image.png", "#failures .examples a"),
            ("rule.png", "#image .list a"),
        ):
            page.open(page.evaluate(f"document.querySelector({link!r}).href"))
            save(page, name)
    finally:
        browser.close()


def done(page: Page) -> int:
    return int(page.text("#live [data-of='images.done']") or 0)


def save(page: Page, name: str) -> None:
    page.screenshot(HERE / name)
    sys.stdout.write(f"{name}: {(HERE / name).stat().st_size // 1000} kB\n")


@contextmanager
def served(folder: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "syncer", "serve", "--listen", LISTEN, "--schedule", "0 */2 * * *"]
    process = Process(
        [*command, "--auth", "auth.json", "--images", "images.json", "--state-dir", "state"],
        stdout=folder / "out",
        stderr=folder / "err",
        cwd=folder,
    )
    try:
        yield
    finally:
        process.end()


async def main() -> None:
    trouble = Trouble()
    with tempfile.TemporaryDirectory(prefix="syncer-screens-") as name:
        async with (
            MemoryRegistry(port=SOURCE_PORT) as source,
            MemoryRegistry(port=DESTINATION_PORT) as destination,
        ):
            source.before(trouble.at_source)
            destination.before(trouble.at_destination)
            write_files(Path(name), source.host, destination.host)
            with served(Path(name)):
                async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(retries=20)) as client:
                    while (await client.get(f"{PAGE}readyz")).status_code != 200:
                        await asyncio.sleep(0.1)
                await have_history(source, trouble)
                change(source, 40, "now")
                trouble.lost = ("/app-06/manifests/1.2",)
                trouble.unlabelled = ("/app-02/manifests/1.1", "/app-05/manifests/1.3")
                await asyncio.to_thread(take)


asyncio.run(main())
