"""Fixtures: a Harbor with projects, robots and images, a plain registry, and runs between them."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import anyio.to_thread
import pytest

from syncer.demo import MemoryRegistry
from syncer.demo.images import make_image, make_layer, noise
from syncer.http import retry
from syncer.oci.descriptor import Descriptor
from syncer.places.registry import upload
from tests.support.harbor import Harbor
from tests.support.harbor_access import Account, Project
from tests.support.program import Program
from tests.support.wire import Net

PUSHER, PULLER, DISABLED, EXPIRED = (
    f"robot$mirror+{name}" for name in ("push", "pull", "disabled", "expired")
)
SYSTEM_ROBOT, CREATOR, USER, ADMIN = "robot$system", "robot$creator", "dev", "admin"


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry requests without a delay. Other tests cover the delays."""
    monkeypatch.setattr(retry, "_backoff", lambda _state: 0.0)
    monkeypatch.setattr(upload, "pause", lambda _fruitless: 0.0)


@pytest.fixture
async def harbor() -> AsyncIterator[Harbor]:
    """A Harbor without images. The test fails if it asked what no recording covers."""
    both = ("pull", "push")
    async with Harbor(
        [
            Project("mirror"),
            Project("other"),
            Project("open", public=True),
            Project("cache", proxy_cache=True),
            Project("trusted", signed_only=True),
            Project("fixed", immutable=("v*",)),
            Project("small", quota=1 << 20),
        ],
        [
            Account(ADMIN, admin=True),
            Account(USER),
            Account(PUSHER, rights={"mirror": both}),
            Account(PULLER, rights={"mirror": ("pull",)}),
            Account(DISABLED, rights={"mirror": both}, disabled=True),
            Account(EXPIRED, rights={"mirror": both}, expired=True),
            Account(SYSTEM_ROBOT, rights={"mirror": both, "other": both}),
            Account(CREATOR, rights={"mirror": both}, creates_projects=True),
        ],
    ) as running:
        yield running


@pytest.fixture
async def plain() -> AsyncIterator[MemoryRegistry]:
    """A registry in memory that holds `app` with the tags v1, v2 and v3."""
    async with MemoryRegistry() as registry:
        for tag in ("v1", "v2", "v3"):
            add_image(registry, "app", tag)
        yield registry


def add_image(registry: Harbor | MemoryRegistry, repository: str, tag: str, size: int = 2_000) -> Descriptor:
    """Put an image into a registry's store: a layer that all images share, and one of `size` bytes of its own."""
    layers = [make_layer({"base": noise("base", 4_000)}), make_layer({"own": noise(tag, size)})]
    return make_image(registry.store, repository, tag, layers=layers)


@pytest.fixture
def net(harbor: Harbor, plain: MemoryRegistry) -> Iterator[Net]:
    """`await net.sync({"plain/app": "harbor/mirror/app"})`, as the administrator. Nothing may be left running."""
    made = Net({"harbor": harbor, "plain": plain})  # type: ignore[dict-item]
    made.settings["harbor"] = harbor.entry(ADMIN)
    yield made
    assert not made.leftovers


@pytest.fixture
def log_in(net: Net, harbor: Harbor) -> Callable[..., None]:
    """`log_in(PUSHER)`, `log_in(ADMIN, password="wrong")`, `log_in(ADMIN, create=True)`, `log_in(None)`."""

    def log_in(name: str | None, **settings: Any) -> None:
        net.settings["harbor"] = {**(harbor.entry(name) if name else {}), **settings}

    return log_in


@pytest.fixture
def command(
    harbor: Harbor, plain: MemoryRegistry, program: Program, tmp_path: Path
) -> Callable[..., Awaitable[CompletedProcess[str]]]:
    """The program in a process of its own.

    `await command("sync", {"plain/app": "harbor/mirror/app"}, as_=PUSHER)`.
    """
    hosts = {"harbor": harbor.host, "plain": plain.host}

    def in_full(place: str) -> str:
        name, slash, rest = place.partition("/")
        return f"{hosts[name]}{slash}{rest}"

    async def run(
        name: str, images: dict[str, str], *options: str, as_: str = ADMIN
    ) -> CompletedProcess[str]:
        auth = {harbor.host: harbor.entry(as_), plain.host: {"plain_http": True}}
        rules = {in_full(source): in_full(destination) for source, destination in images.items()}
        (tmp_path / "auth.json").write_text(json.dumps(auth))
        (tmp_path / "images.json").write_text(json.dumps(rules))
        arguments = (name, "--auth", "auth.json", "--images", "images.json", *options)
        return await anyio.to_thread.run_sync(lambda: program.run(*arguments))

    return run
