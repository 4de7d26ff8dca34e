"""The report of a run: a JSON document with the schema schemas/report.schema.json."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from syncer.events import (
    ImageFailed,
    ImageSkipped,
    ImageSynced,
    IndexFiltered,
    ProjectMade,
    PruneFailed,
    PruneHeld,
    RunFinished,
    RunStarted,
    TagKept,
    TagPruned,
    TagsListed,
)
from syncer.lazy_pattern import lazy_pattern
from syncer.observe import words
from syncer.observe.files import open_beside
from syncer.observe.progress.totals import Totals
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository

__all__ = ["ReportObserver", "write_parts", "write_report"]

OUTCOMES = ("synced", "skipped", "failed")
BLOB_OUTCOMES = ("copied", "mounted", "present", "shared")
_NUMBER = lazy_pattern(r"(\d+)", re.ASCII)

_Ended = ImageSynced | ImageSkipped | ImageFailed


def _now() -> datetime:
    return datetime.now(UTC)


class ReportObserver(Totals):
    """Collects the events of one run. `document()` may be called at any time, also during the run.

    A finished image is kept as its event, which takes a few hundred bytes. JSON is only created on request.
    """

    def __init__(self, *, now: Callable[[], datetime] = _now) -> None:
        super().__init__()
        self._now = now
        self._started: RunStarted | None = None
        self._finished: RunFinished | None = None
        self._started_at: datetime | None = None
        self._finished_at: datetime | None = None
        self._images: list[_Ended] = []
        self._filtered: dict[tuple[int, Reference, str], IndexFiltered] = {}
        self._projects: set[tuple[str, str]] = set()
        self._listed: dict[tuple[int, Repository], TagsListed] = {}
        self._pruned: list[TagPruned] = []
        self._not_pruned: list[TagKept | PruneHeld] = []
        self._prune_failures: list[PruneFailed] = []

    # --- events ---------------------------------------------------------------------------------------------------

    def on_run_started(self, event: RunStarted) -> None:
        super().on_run_started(event)
        self._started = event
        self._started_at = self._now()

    def on_run_finished(self, event: RunFinished) -> None:
        self._finished = event
        self._finished_at = self._now()

    def on_tags_listed(self, event: TagsListed) -> None:
        if event.steps:
            self._listed[event.rule.number, event.source] = event

    def on_index_filtered(self, event: IndexFiltered) -> None:
        self._filtered[event.rule.number, _named(event.source), event.filtered] = event

    def on_project_made(self, event: ProjectMade) -> None:
        self._projects.add((event.registry, event.project))

    def on_image_synced(self, event: ImageSynced) -> None:
        super().on_image_synced(event)
        self._images.append(event)

    def on_image_skipped(self, event: ImageSkipped) -> None:
        super().on_image_skipped(event)
        self._images.append(event)

    def on_image_failed(self, event: ImageFailed) -> None:
        super().on_image_failed(event)
        self._images.append(event)

    def on_tag_pruned(self, event: TagPruned) -> None:
        super().on_tag_pruned(event)
        self._pruned.append(event)

    def on_tag_kept(self, event: TagKept) -> None:
        if self.dry_run:
            self._not_pruned.append(event)

    def on_prune_held(self, event: PruneHeld) -> None:
        if self.dry_run:
            self._not_pruned.append(event)

    def on_prune_failed(self, event: PruneFailed) -> None:
        self._prune_failures.append(event)

    # --- the report -----------------------------------------------------------------------------------------------

    def document(self) -> dict[str, object]:
        """Return the report in its current state."""
        return {"run": self.run(), "images": list(self.images())} | self.end()

    def plan(self) -> dict[str, object]:
        """Return the report for display: a destination with variables is shown as written in the file."""
        images = [
            self._image(image) | {"destination": image.rule.destination_name(image.destination)}
            for image in sorted(self._images, key=_order)
        ]
        return {
            "run": self.run(),
            "images": images,
            "pruned": [
                _pruned(event) | {"destination": event.rule.destination_name(event.destination)}
                for event in sorted(self._pruned, key=_removal_order)
            ],
            "not_pruned": [_not_pruned(event) for event in self._not_pruned],
            "totals": self.totals(),
            "selections": self.selections(),
        }

    def selections(self) -> list[dict[str, object]]:
        """Return what each step of the key `tags` left, for the rules that have it, in their order."""
        return [
            {
                "rule": event.rule.name,
                "source": str(event.source),
                "tags": event.found,
                "steps": [{"name": step.name, "tags": step.count} for step in event.steps],
                "text": event.steps_text,
            }
            for event in sorted(
                self._listed.values(), key=lambda event: (event.rule.number, str(event.source))
            )
        ]

    def run(self) -> dict[str, object]:
        """Return the `run` object. `finished` and `outcome` are None during the run."""
        run: dict[str, object] = {
            "id": self._started.run_id if self._started else "",
            "trigger": self._started.trigger if self._started else "",
            "started": _utc(self._started_at),
            "finished": _utc(self._finished_at),
            "outcome": self._finished.outcome if self._finished else None,
        }
        if self.dry_run:
            run["dry_run"] = True
        if self._started and self._started.shard:
            run["shard"] = self._started.shard
        if self._prune_failures:
            run["error"] = _prune_error(self._prune_failures)
        return run

    def images(self) -> Iterator[dict[str, object]]:
        """Yield the finished images, sorted by rule and then by tag."""
        for image in sorted(self._images, key=_order):
            yield self._image(image)

    def ended(self) -> Iterator[dict[str, object]]:
        """Yield the finished images in the order in which they finished, which requires no sorting during the run."""
        for image in list(self._images):
            yield self._image(image)

    def totals(self) -> dict[str, int | dict[str, int]]:
        """Return the sums over the run, including blobs and bytes of failed images. In a dry run, the planned sums."""
        return self.as_fields()

    def end(self) -> dict[str, object]:
        """Return what follows the images: the totals, and the removed tags if there are any."""
        pruned = [_pruned(event) for event in sorted(self._pruned, key=_removal_order)]
        return ({"pruned": pruned} if pruned else {}) | {"totals": self.totals()}

    def _image(self, image: _Ended) -> dict[str, object]:
        synced = image if isinstance(image, ImageSynced) else None
        document: dict[str, object] = {
            "source": str(image.source),
            "destination": str(image.destination),
            "digest": _text(image.digest),
            "previous_digest": _text(synced.previous) if synced else None,
            "outcome": _outcome(image),
            "bytes": synced.nbytes if synced else 0,
            "seconds": round(image.seconds, 3),
        }
        if isinstance(image, ImageSkipped):
            document["reason"] = words.skipped(image)
            document["skip_reason"] = str(image.reason)
            if image.drift:
                document["drift"] = True
        elif isinstance(image, ImageFailed):
            document["error"] = msgspec.structs.asdict(image.failure)
        elif image.unverified:
            document["unverified"] = True
        if not isinstance(image, ImageFailed) and image.source_digest is not None:
            document["source_digest"] = str(image.source_digest)
        if not isinstance(image, ImageFailed) and image.rule.referrers is not None:
            document["referrers"] = image.referrers
        filtered = self._filtered.get((image.rule.number, _named(image.source), image.digest or ""))
        if filtered is not None:
            document["narrowed"] = {
                "kept": list(filtered.kept),
                "dropped": list(filtered.dropped),
                "source_digest": str(filtered.digest),
            }
        if self.dry_run:
            repository = image.destination.repository
            project = repository.path.partition("/")[0]
            is_made = (repository.host, project) in self._projects
            document["plan"] = _plan(image, makes=project if is_made else "")
        return document


def write_report(path: Path, observer: ReportObserver) -> None:
    """Write the report to a file, one image per line. Raises `OSError`."""
    encode = msgspec.json.Encoder().encode
    write_parts(path, observer.run(), map(encode, observer.images()), observer.end())


def write_parts(path: Path, run: object, images: Iterable[bytes], end: Mapping[str, object]) -> None:
    """Write a report from its parts. `images` are JSON texts, `end` is what follows them. Raises `OSError`."""
    encode = msgspec.json.encode
    with open_beside(path) as file:
        file.write(b'{"run": ' + encode(run) + b',\n "images": [')
        separator = b"\n  "
        for image in images:
            file.write(separator + image)
            separator = b",\n  "
        file.write(b"]")
        for name, value in end.items():
            file.write(b",\n " + encode(name) + b": " + encode(value))
        file.write(b"}\n")


def _pruned(event: TagPruned) -> dict[str, object]:
    return {"destination": str(event.destination), "digest": str(event.digest), "reason": event.reason}


def _not_pruned(event: TagKept | PruneHeld) -> dict[str, object]:
    """Return why a tag stays, or all tags of a repository."""
    destination = event.destination if isinstance(event, TagKept) else Reference(event.repository)
    return {"destination": event.rule.destination_name(destination), "reason": event.reason}


def _prune_error(failures: Sequence[PruneFailed]) -> str:
    first = min(failures, key=lambda event: str(event.destination))
    tags = words.count(len(failures), "tag")
    return f"{tags} could not be removed: {first.destination}: {first.failure.message}"


def _removal_order(event: TagPruned) -> str:
    return str(event.destination)


def _outcome(image: _Ended) -> str:
    match image:
        case ImageSynced():
            return "synced"
        case ImageSkipped():
            return "skipped"
        case ImageFailed():
            return "failed"


def _plan(image: _Ended, *, makes: str) -> dict[str, object]:
    """Return what a run would do with the image, and why. `makes` is the project that it would create for the image."""
    blobs = dict.fromkeys(BLOB_OUTCOMES, 0)
    match image:
        case ImageSynced():
            blobs = msgspec.structs.asdict(image.blobs)
            if image.previous is None:
                action, reason = "copy", "not at the destination yet"
                reason += f"; makes project {makes}" if makes else ""
            elif image.previous == image.digest:
                action, reason = "replace", "forced"
            else:
                action, reason = "replace", "the destination has another digest"
        case ImageSkipped():
            action, reason = "none", words.skipped(image)
        case ImageFailed():
            action, reason = "none", image.failure.message
    nbytes = image.nbytes if isinstance(image, ImageSynced) else 0
    return {"action": action, "blobs": blobs, "bytes": nbytes, "reason": reason}


def _named(source: Reference) -> Reference:
    """Return the source with only its tag, if it has one: not every event includes the digest."""
    return source if source.tag is None else Reference(source.repository, source.tag)


def _order(image: _Ended) -> tuple[int, list[str | int], str]:
    # Sort 1.9 before 1.10. Text and numbers alternate, so that the parts can always be compared.
    parts = _NUMBER.split(image.source.tag or "")
    tag = [int(part) if index % 2 else part for index, part in enumerate(parts)]
    return image.rule.number, tag, str(image.destination)


def _text(digest: Digest | None) -> str | None:
    # Some JSON encoders do not accept a subclass of str.
    return None if digest is None else str(digest)


def _utc(when: datetime | None) -> str | None:
    return None if when is None else when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
