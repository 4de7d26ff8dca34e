# ruff: noqa: INP001 - a script beside its pictures, no package
"""Runs the program in tmux against two registries in memory, and keeps what the terminal shows as pictures.

`scripts/screens` calls it: start, middle and end of a run, at 80 and at 160 columns.
"""

import asyncio
import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.corpus import CorpusSpec, make_corpus
from syncer.demo import Answer, MemoryRegistry, Request, Store

HERE = Path(__file__).parent
SIZES = ((80, 24), (160, 36))
PATIENCE = 120.0
"""Seconds that a moment may be waited for."""
SOURCE_PORT, DESTINATION_PORT = 5051, 5052
BANDWIDTH = "20MiB"
CORPUS = CorpusSpec(images=40, repositories=8, prefix="acme/")
THEME = TerminalTheme(
    (24, 26, 31),
    (214, 217, 224),
    [
        (58, 63, 75),
        (240, 98, 102),
        (126, 200, 112),
        (229, 192, 90),
        (97, 160, 240),
        (190, 130, 220),
        (86, 190, 200),
        (214, 217, 224),
    ],
)


@dataclass(frozen=True)
class InMemory:
    """Puts the corpus into a registry's store."""

    store: Store

    def put_blob(self, repository: str, content: bytes) -> str:
        return self.store.put_blob(repository, content)

    def put_manifest(self, repository: str, content: bytes, media_type: str, tag: str | None = None) -> str:
        return self.store.put_manifest(repository, content, media_type, reference=tag or "").digest

    def link_blob(self, repository: str, digest: str, from_repository: str) -> None:
        self.store.mount(repository, digest, from_repository)


@dataclass(frozen=True)
class Terminal:
    """A tmux session of a given size, with a shell in it."""

    width: int
    height: int

    async def start(self, folder: Path) -> None:
        await self._tmux(
            *("-f", "/dev/null", "new-session", "-d", "-c", str(folder)),
            *("-x", str(self.width), "-y", str(self.height)),
            *(
                "env",
                "-u",
                "NO_COLOR",
                f"PATH={Path(sys.executable).parent}:{os.environ['PATH']}",
                "PS1=$ ",
                "sh",
            ),
        )

    async def type(self, line: str) -> None:
        await self._tmux("send-keys", line, "Enter")

    async def show(self) -> str:
        return await self._tmux("capture-pane", "-e", "-p")

    async def end(self) -> None:
        await self._tmux("kill-server")

    async def _tmux(self, *arguments: str) -> str:
        # A server for each size: the last one may still be on its way out.
        socket = f"syncer-screens-{self.width}"
        process = await asyncio.create_subprocess_exec(
            "tmux", "-L", socket, *arguments, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        if process.returncode:
            raise SystemExit(f"tmux {arguments[0]} failed")
        return out.decode()


async def wait_for(terminal: Terminal, moment: Callable[[str], bool]) -> str:
    """What the terminal shows when `moment` is there."""
    async with asyncio.timeout(PATIENCE):
        while True:
            screen = await terminal.show()
            if moment(plain(screen)):
                return screen
            await asyncio.sleep(0.05)


def plain(screen: str) -> str:
    return Text.from_ansi(screen).plain


def done(text: str) -> int:
    counts = re.findall(r"(\d+)/\d+ images", text)
    return int(counts[-1]) if counts else -1


async def take(width: int, height: int, source: MemoryRegistry) -> None:
    """One run, three pictures."""
    async with MemoryRegistry(port=DESTINATION_PORT) as destination:

        @destination.before
        async def refuse(request: Request) -> Answer | None:
            if request.method == "PUT" and request.path.endswith(
                ("/app-02/manifests/1.1", "/app-05/manifests/1.3")
            ):
                return refusal(400, "MANIFEST_INVALID", "labels are missing: owner, contact")
            return None

        folder = Path(tempfile.mkdtemp(prefix="syncer-screens-"))
        terminal = Terminal(width, height)
        try:
            write_files(folder, source.host, destination.host)
            await terminal.start(folder)
            await terminal.type("clear; syncer --auth auth.json --images images.json")
            moments: list[tuple[str, Callable[[str], bool]]] = [
                ("start", lambda text: text.count("MB/s") > 4),
                ("middle", lambda text: done(text) >= 18 and " failed" in text and text.count("MB/s") > 4),
                ("end", lambda text: "Synchronization finished" in text and text.rstrip().endswith("$")),
            ]
            for name, moment in moments:
                screen = await wait_for(terminal, moment)
                save(screen, terminal, HERE / f"{name}-{width}.svg")
        finally:
            await terminal.end()
            shutil.rmtree(folder)


def refusal(status: int, code: str, message: str) -> Answer:
    return Answer(status, body=json.dumps({"errors": [{"code": code, "message": message}]}).encode())


def write_files(folder: Path, source: str, destination: str) -> None:
    auth = {source: {"plain_http": True, "bandwidth": BANDWIDTH}, destination: {"plain_http": True}}
    rules = {f"{source}/acme/app-{number:02}": f"{destination}/mirror/app-{number:02}" for number in range(8)}
    (folder / "auth.json").write_text(json.dumps(auth))
    (folder / "images.json").write_text(json.dumps(rules))


def save(screen: str, terminal: Terminal, path: Path) -> None:
    console = Console(
        record=True, width=terminal.width, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(Text.from_ansi(screen), no_wrap=True, overflow="crop", end="")
    svg = console.export_svg(title="syncer", theme=THEME, unique_id=path.stem)
    path.write_text(svg)
    sys.stdout.write(f"{path.name}: {len(svg) // 1000} kB\n")


async def main() -> None:
    async with MemoryRegistry(port=SOURCE_PORT) as source:

        @source.before
        async def forget(request: Request) -> Answer | None:
            # Somebody deletes a tag between its listing and its turn.
            if request.path.endswith("/app-06/manifests/1.2"):
                return refusal(404, "MANIFEST_UNKNOWN", "manifest unknown")
            return None

        make_corpus(InMemory(source.store), CORPUS)
        for width, height in SIZES:
            await take(width, height, source)


if __name__ == "__main__":
    asyncio.run(main())
