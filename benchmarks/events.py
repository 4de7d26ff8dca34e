"""What events of registries cost: `python -m benchmarks.events`.

Three parts, each with a daemon of its own between two registries in memory, all processes of their own:
- a tag that is pushed while the daemon copies 10,000 images: the time from its event until it is at the destination,
- a flood while no run is in progress: events of distinct tags over connections that are kept open, and a request for the
  page ten times a second,
- many runs of repeated events: the memory of the daemon after each tenth of them.
The exit code is 1 if a bar is not held.
"""

import argparse
import asyncio
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from math import inf
from pathlib import Path

import httpx

from benchmarks import machine
from benchmarks.bars import Bar, Verdict
from benchmarks.contenders import syncer_command
from benchmarks.many_tags import MANIFEST, REPOSITORY
from benchmarks.processes import START_SECONDS, helper
from benchmarks.stage import scratch
from benchmarks.table import number, verdicts
from tests.support.processes import Process

CONNECTIONS = 32
COPY_SECONDS = 300.0
"""Seconds that copying the images of all events may take."""
_LISTENING = re.compile(r"listening on http://([\d.]+):(\d+)")


def _verdict(text: str, value: float, *, at_most: float = inf, at_least: float = 0.0) -> Verdict:
    return Verdict(Bar("events", text, at_most=at_most, at_least=at_least), value)


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that copies from `source` to `destination`, which are hosts."""

    process: Process
    host: str
    port: int
    source: str
    destination: str

    @property
    def megabytes(self) -> float:
        """The resident set."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1e3

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://{self.host}:{self.port}{path}", trust_env=False, timeout=60)

    @property
    def busy(self) -> bool:
        return self.get("/api/v1/status").json()["run"] is not None

    def tags(self) -> int:
        """The number of tags at the destination."""
        found = httpx.get(
            f"http://{self.destination}/v2/{REPOSITORY}/tags/list", params={"n": 1_000_000}, trust_env=False
        )
        return len(found.json()["tags"]) if found.status_code == httpx.codes.OK else 0

    def event(self, tag: str) -> bytes:
        """A request with the event of one tag."""
        target = {"mediaType": MANIFEST, "repository": REPOSITORY, "tag": tag}
        event = {"action": "push", "target": target, "request": {"host": self.source}}
        body = json.dumps({"events": [event]}).encode()
        head = f"POST /hooks/distribution HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body


@contextmanager
def daemon(folder: Path, tags: int, *options: str) -> Iterator[Daemon]:
    """A daemon with a state folder, and a source with so many tags."""
    folder.mkdir()
    with ExitStack() as stack:
        source = stack.enter_context(helper("benchmarks.many_tags", "--tags", str(tags), folder=folder))
        destination = stack.enter_context(helper("benchmarks.many_tags", "--tags", "0", folder=folder))
        images = {f"{source.host}/{REPOSITORY}": f"{destination.host}/{REPOSITORY}"}
        entry = {"plain_http": True}
        command = syncer_command(folder, images, {source.host: entry, destination.host: entry}, proc=6)
        command[3:3] = ["serve", "--listen", "127.0.0.1:0", "--state-dir", str(folder / "state"), *options]
        process = Process(command, stdout=folder / "out", stderr=folder / "err", cwd=folder)
        stack.callback(process.end)
        end = time.monotonic() + START_SECONDS
        while not (found := _LISTENING.search(process.read_stderr())):
            if time.monotonic() > end or process.poll() is not None:
                raise RuntimeError(f"the daemon does not start: {process.read_stderr()[-1000:]}")
            time.sleep(0.05)
        yield Daemon(process, found[1], int(found[2]), source.host, destination.host)


async def send(to: Daemon, tags: list[str], rate: float) -> list[float]:
    """Send an event for each tag, `rate` a second in all. Return the seconds of each answer, which must be 202."""
    begun, took = time.monotonic(), list[float]()

    async def sender(first: int) -> None:
        reader, writer = await asyncio.open_connection(to.host, to.port)
        for index in range(first, len(tags), CONNECTIONS):
            await asyncio.sleep(max(0.0, begun + index / rate - time.monotonic()))
            asked = time.monotonic()
            writer.write(to.event(tags[index]))
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 202 " not in head.partition(b"\r\n")[0]:
                raise RuntimeError(f"an event was refused: {head!r}")
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
            took.append(time.monotonic() - asked)
        writer.close()

    await asyncio.gather(*(sender(first) for first in range(min(CONNECTIONS, len(tags)))))
    return sorted(took)


async def look(at: Daemon, pages: list[float]) -> None:
    """Ask for the page ten times a second, until cancelled."""
    async with httpx.AsyncClient(
        base_url=f"http://{at.host}:{at.port}", trust_env=False, timeout=60
    ) as client:
        await client.get("/")  # the first one compiles the templates
        while True:
            asked = time.monotonic()
            (await client.get("/")).raise_for_status()
            pages.append(time.monotonic() - asked)
            await asyncio.sleep(0.1)


def pushed_during_a_run(folder: Path, images: int) -> list[Verdict]:
    with daemon(folder, images, "--run-on-start") as copying:
        _wait(lambda: copying.tags() > images // 20)
        where = f"http://{copying.source}/v2/{REPOSITORY}/manifests"
        found = httpx.get(f"{where}/1.{images - 1}", headers={"accept": MANIFEST}, trust_env=False)
        content = found.content + b" "
        httpx.put(
            f"{where}/pushed", content=content, headers={"content-type": MANIFEST}, trust_env=False
        ).raise_for_status()
        there = f"http://{copying.destination}/v2/{REPOSITORY}/manifests/sha256:{sha256(content).hexdigest()}"
        begun = time.monotonic()
        asyncio.run(send(copying, ["pushed"], 1))
        _wait(
            lambda: (
                httpx.head(there, headers={"accept": MANIFEST}, trust_env=False).status_code == httpx.codes.OK
            )
        )
        seconds = time.monotonic() - begun
        if not copying.busy:
            raise RuntimeError("the run was over before the tag was pushed: it says nothing")
    return [
        _verdict(f"seconds until a tag is complete, during a run of {images:,} images", seconds, at_most=5)
    ]


def flood(folder: Path, rate: float, seconds: float) -> list[Verdict]:
    events = round(rate * seconds)
    with daemon(folder, events, "--hook-delay", "2") as flooded:
        pages: list[float] = []
        before = flooded.megabytes

        async def both() -> tuple[list[float], float]:
            looking = asyncio.create_task(look(flooded, pages))
            begun = time.monotonic()
            took = await send(flooded, [f"1.{each}" for each in range(events)], rate)
            lasted = time.monotonic() - begun
            looking.cancel()
            return took, lasted

        took, lasted = asyncio.run(both())
        _wait(lambda: flooded.tags() >= events and not flooded.busy)
        after = flooded.megabytes
        lost = events - flooded.tags()
    pages.sort()
    return [
        _verdict("events answered a second", events / lasted, at_least=0.98 * rate),
        _verdict("ms until an event is answered, 99%", 1e3 * took[int(0.99 * len(took))], at_most=100),
        _verdict(
            "ms until the page is answered meanwhile, 99%", 1e3 * pages[int(0.99 * len(pages))], at_most=100
        ),
        _verdict("events lost", lost, at_most=0),
        _verdict("MB more after all images are copied", after - before, at_most=40),
    ]


def many_runs(folder: Path, events: int, runs: int) -> list[Verdict]:
    each = max(1, events // runs)
    sizes = []
    with daemon(folder, each, "--hook-delay", "0.1") as running:
        for count in range(runs):
            asyncio.run(send(running, [f"1.{index}" for index in range(each)], 1e9))
            _wait(lambda: not running.busy and running.tags() >= each)
            if (count + 1) % max(1, runs // 10) == 0:
                sizes.append(running.megabytes)
    print("MB after each tenth of the runs:", ", ".join(map(number, sizes)), file=sys.stderr)
    return [
        _verdict(
            f"MB after {events:,} events in {runs} runs, / after a fifth",
            sizes[-1] / sizes[len(sizes) // 5],
            at_most=1.1,
        )
    ]


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + COPY_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"not within {COPY_SECONDS:.0f} s")
        time.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.events",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--parts", default="run,flood,memory", metavar="LIST", help="(run,flood,memory)")
    parser.add_argument("--rate", type=float, default=1000, metavar="N", help="events a second (1000)")
    parser.add_argument("--seconds", type=float, default=10, metavar="N", help="of the flood (10)")
    parser.add_argument("--images", type=int, default=10_000, metavar="N", help="of the run (10000)")
    parser.add_argument("--events", type=int, default=100_000, metavar="N", help="in all runs (100000)")
    parser.add_argument("--runs", type=int, default=200, metavar="N", help="(200)")
    options = parser.parse_args()
    parts = options.parts.split(",")
    bars: list[Verdict] = []
    with scratch() as room:
        if "run" in parts:
            bars += pushed_during_a_run(room.folder / "run", options.images)
        if "flood" in parts:
            bars += flood(room.folder / "flood", options.rate, options.seconds)
        if "memory" in parts:
            bars += many_runs(room.folder / "memory", options.events, options.runs)
    print("\n".join(f"- {name}: {value}" for name, value in machine.facts().items()), end="\n\n")
    print(verdicts(bars))
    return 0 if all(bar.held for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
