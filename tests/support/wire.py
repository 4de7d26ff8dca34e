"""Runs in the test process between registries in memory, with records of requests and events."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlencode

import anyio

from syncer.accounts.book import AuthBook
from syncer.cli.files import attested, sharded
from syncer.config import Config
from syncer.config.auth_reader import parse_auth
from syncer.config.json_reader import read_json
from syncer.config.rule_reader import rules_from
from syncer.demo import Answer, DropConnection, MemoryRegistry, Recorded, Request, Store
from syncer.diagnostics import Findings
from syncer.engine.ages import ImageTimes
from syncer.engine.ledger import BlobCache
from syncer.engine.written import WrittenTags
from syncer.events import BlobCompleted, BytesMoved, ImageFailed, ImageSkipped, ImageSynced
from syncer.observers import Observer
from syncer.oci.digest import Digest
from syncer.rules.shard import WHOLE, Shard
from syncer.run import Announced, Run, RunOptions, RunResult

T = TypeVar("T")
PATIENCE = 60.0
"""Seconds after which a run is taken to hang."""

_ENDPOINTS = (
    (re.compile(r"/manifests/"), "manifest"),
    (re.compile(r"/tags/list$"), "tags"),
    (re.compile(r"/blobs/uploads/"), "upload"),
    (re.compile(r"/blobs/"), "blob"),
)


class Recorder(Observer):
    """Keeps every event. `heard` is called with each as it comes."""

    def __init__(self, heard: Callable[[object], None] | None = None) -> None:
        super().__init__()
        self.events: list[object] = []
        self._heard = heard

    def notify(self, event: object) -> None:
        self.events.append(event)
        if self._heard is not None:
            self._heard(event)

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]


@dataclass
class Outcome:
    """The outcome of a run."""

    result: RunResult
    told: Recorder

    @property
    def counts(self) -> tuple[int, int, int]:
        """Images synced, skipped, failed."""
        return self.result.synced, self.result.skipped, self.result.failed

    @property
    def synced(self) -> list[ImageSynced]:
        return self.told.of(ImageSynced)

    @property
    def skipped(self) -> list[ImageSkipped]:
        return self.told.of(ImageSkipped)

    @property
    def failed(self) -> list[ImageFailed]:
        return self.told.of(ImageFailed)

    @property
    def blobs(self) -> Counter[str]:
        """Blobs by what became of them."""
        return Counter(event.outcome for event in self.told.of(BlobCompleted))

    @property
    def moved(self) -> Counter[tuple[str, str]]:
        """Bytes by direction and registry."""
        moved: Counter[tuple[str, str]] = Counter()
        for event in self.told.of(BytesMoved):
            moved[event.direction, event.registry] += event.nbytes
        return moved


@dataclass
class Net:
    """Registries by short names. Rules are written with these: `{"here/app": "there/app:1"}`."""

    registries: dict[str, MemoryRegistry]
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    dead: dict[str, str] = field(default_factory=dict)
    leftovers: list[str] = field(default_factory=list)

    def run(
        self,
        images: Mapping[str, object],
        *,
        heard: Callable[[object], None] | None = None,
        drain_seconds: float = 5.0,
        cache: BlobCache | None = None,
        image_times: ImageTimes | None = None,
        shard: Shard = WHOLE,
        tags: Sequence[str] = (),
        announced: Mapping[str | None, Digest | None] | None = None,
        written: WrittenTags | None = None,
        only: Sequence[int] | None = None,
        trigger: str = "cli",
        **options: Any,
    ) -> tuple[Run, Recorder]:
        """A run that is not started yet, and who listens to it. Further arguments are those of `RunOptions`.

        With `announced`, only these tags are copied, each by all rules. `only` are the numbers of the rules to run.
        """
        recorder = Recorder(heard)
        chosen = RunOptions(**{"transfers": 2, "retries": 1, "shard": shard, **options})
        rules = rules_from({self._named(key): self._named(value) for key, value in images.items()})
        config = sharded(attested(Config(self._auth(), rules), None), shard)
        chosen_rules = [rule for rule in config.rules if only is None or rule.number in only]
        run = Run(
            chosen_rules if announced is None else (),
            config.auth,
            chosen,
            cache=cache,
            image_times=image_times,
            observers=[recorder],
            tags=tags,
            trigger=trigger,
            written=written,
            all_rules=config.every_rule,
            announced=[] if announced is None else [Announced(rule, announced) for rule in config.rules],
        )
        run._pool._drain_seconds = drain_seconds
        return run, recorder

    async def sync(self, images: Mapping[str, object], **options: Any) -> Outcome:
        """One run to its end. Further arguments are those of `run`."""
        run, recorder = self.run(images, **options)
        return await self.finish(run, recorder)

    async def finish(self, run: Run, recorder: Recorder) -> Outcome:
        before = asyncio.all_tasks()
        with anyio.fail_after(PATIENCE):
            result = await run.execute()
        self.leftovers += own_tasks(asyncio.all_tasks() - before)
        return Outcome(result, recorder)

    def forget(self) -> None:
        """Clear the records of requests."""
        for registry in self.registries.values():
            registry.requests.clear()

    def _named(self, value: Any) -> Any:
        if isinstance(value, str):
            short, slash, rest = value.partition("/")
            host = self.registries[short].host if short in self.registries else self.dead.get(short, short)
            return f"{host}{slash}{rest}"
        if isinstance(value, list):
            return [self._named(each) for each in value]
        return {**value, "to": self._named(value["to"])}

    def _auth(self) -> AuthBook:
        hosts = {name: registry.host for name, registry in self.registries.items()} | self.dead
        document = {host: {"plain_http": True, **self.settings.get(name, {})} for name, host in hosts.items()}
        findings = Findings()
        node = read_json(json.dumps(document), "auth", "auth", findings)
        assert node is not None
        book = parse_auth(node, folder=Path(), environment={}, findings=findings)
        findings.raise_if_any()
        return book


def own_tasks(tasks: Iterable["asyncio.Task[Any]"]) -> list[str]:
    """Those that are not the test's registries at work."""
    names = [getattr(task.get_coro(), "__qualname__", "?") for task in tasks if not task.done()]
    return [name for name in names if not name.startswith("RequestResponseCycle.")]


def kind(request: Recorded | Request) -> str:
    """`HEAD manifest`, `GET blob`, `POST upload`, `POST mount`, `PUT upload`, `GET tags`, …

    A mount from the repository itself opens an upload, unless the blob is there.
    """
    endpoint = next((name for pattern, name in _ENDPOINTS if pattern.search(request.path)), "ping")
    query = request.query if isinstance(request.query, str) else urlencode(request.query)
    asked = parse_qs(query)
    if "mount" in asked and not request.path.startswith(f"/v2/{asked['from'][0]}/blobs/"):
        endpoint = "mount"
    return f"{request.method} {endpoint}"


def kinds(registry: MemoryRegistry) -> dict[str, int]:
    """How many requests of each kind a registry has had."""
    return dict(Counter(kind(request) for request in registry.requests))


def paths(registry: MemoryRegistry, wanted: str) -> list[str]:
    """The paths of the requests of one kind, in order."""
    return [request.path for request in registry.requests if kind(request) == wanted]


def refuse(
    registry: MemoryRegistry, wanted: str, status: int = 500, *, times: int = -1, where: str = ""
) -> None:
    """Answer requests of a kind, those with `where` in their path, with a status; 0 drops the connection.

    The first `times` of them; -1 means all.
    """
    left = times

    @registry.before
    async def answer(request: Request) -> Answer | None:
        nonlocal left
        if kind(request) != wanted or where not in request.path or not left:
            return None
        left -= 1
        if not status:
            raise DropConnection
        return Answer(status, {"Content-Type": "application/json"}, b'{"errors": [{"code": "SCRIPTED"}]}')


def call_new_without_tags(registry: MemoryRegistry) -> None:
    """As docker-registry does: what was pushed by digest alone does not show in its list of tags."""

    @registry.before
    async def answer(request: Request) -> Answer | None:
        if kind(request) != "GET tags":
            return None
        return Answer(404, {"Content-Type": "application/json"}, b'{"errors": [{"code": "NAME_UNKNOWN"}]}')


def without_referrers_api(
    registry: MemoryRegistry, status: int = 404, body: bytes = b"404 page not found"
) -> None:
    """Make a registry one of distribution-spec 1.0: no referrers API, and no `OCI-Subject` for pushed manifests."""

    @registry.before
    async def answer(request: Request) -> Answer | None:
        if "/referrers/" in request.path:
            return Answer(status, {"Content-Type": "text/plain"}, body)
        if request.method == "PUT" and "/manifests/" in request.path:
            stored = await registry._endpoints.answer(request)
            headers = {name: value for name, value in stored.headers.items() if name != "OCI-Subject"}
            return Answer(stored.status, headers, stored.body)
        return None


def hold(registry: MemoryRegistry, wanted: str, until: Callable[[], bool], *, where: str = "") -> None:
    """Keep requests of a kind, those with `where` in their path, waiting for something to become true."""

    @registry.before
    async def wait(request: Request) -> None:
        while kind(request) == wanted and where in request.path and not until():  # noqa: ASYNC110 - a store tells nobody
            await anyio.sleep(0.001)


def is_whole(store: Store, repository: str, reference: str) -> bool:
    """Whether a manifest is there with everything that it refers to."""
    stored = store.manifest(repository, reference)
    return (
        stored is not None
        and all(store.blob(repository, blob.digest) is not None for blob in stored.manifest.blobs)
        and all(
            is_whole(store, repository, child.digest) or store.blob(repository, child.digest) is not None
            for child in stored.manifest.children
        )
    )


def same(one: Store, other: Store, repository: str, tags: Iterable[str] = ()) -> bool:
    """Whether the tags of a repository are at both, whole, and byte for byte the same."""
    return all(
        is_whole(other, repository, tag)
        and one.get_manifest(repository, tag).raw == other.get_manifest(repository, tag).raw
        and one.get_manifest(repository, tag).media_type == other.get_manifest(repository, tag).media_type
        for tag in tags or one.tags(repository)
    )
