"""Merges the reports of the shards of a run into the report that a single process would have written.

Images are kept as the bytes in the files, so that a million of them fit in memory.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from syncer.lazy_pattern import lazy_pattern
from syncer.rules.shard import InvalidShard, Shard

Count = Annotated[int, msgspec.Meta(ge=0)]
Time = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
_MAX_SHOWN = 10
_BYTE = lazy_pattern(r" \(byte (\d+)\)$")


class MergeError(Exception):
    """The reports cannot be merged. `problems` lists every reason, one line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class RunPart(msgspec.Struct, omit_defaults=True):
    """The `run` object of a report. Without a shard, the report covers all rules."""

    id: str
    trigger: Literal["cli", "schedule", "api", "start", "event"]
    started: Time
    finished: Time
    outcome: Literal["success", "partial", "failure", "interrupted"]
    dry_run: bool = False
    shard: str = "0/1"
    missing_shards: list[str] = []
    error: str = ""


class _Image(msgspec.Struct):
    source: str
    destination: str
    digest: str | None
    previous_digest: str | None
    outcome: Literal["synced", "skipped", "failed"]
    bytes: Count
    seconds: float


class _Outcomes(msgspec.Struct, omit_defaults=True):
    synced: Count
    skipped: Count
    failed: Count
    drifted: Count = 0


class _Blobs(msgspec.Struct):
    copied: Count
    mounted: Count
    present: Count
    shared: Count


class _Bytes(msgspec.Struct):
    pulled: Count
    pushed: Count


class _Totals(msgspec.Struct):
    images: _Outcomes
    blobs: _Blobs
    bytes: _Bytes
    requests: Count
    retries: Count


class _Document(msgspec.Struct):
    run: RunPart
    images: list[msgspec.Raw]
    totals: _Totals
    pruned: list[dict[str, str]] = []


class _Part(msgspec.Struct):
    """One file, parsed and validated. `destinations` has the destination of each image."""

    path: Path
    shard: Shard
    document: _Document
    destinations: list[str]


class Merged(msgspec.Struct):
    """The parts of the merged report. `images()` yields its images as JSON, shard by shard."""

    run: RunPart
    totals: dict[str, Any]
    raw: list[list[msgspec.Raw]]
    pruned: list[dict[str, str]] = []

    @property
    def end(self) -> dict[str, Any]:
        """What follows the images."""
        return ({"pruned": self.pruned} if self.pruned else {}) | {"totals": self.totals}

    def images(self) -> Iterator[bytes]:
        # The file may be indented: write each image on one line.
        return (msgspec.json.format(bytes(image), indent=-1) for image in chain.from_iterable(self.raw))


def merge(paths: Sequence[Path], *, partial: bool = False) -> Merged:
    """Read and merge the reports. With `partial`, some shards may be missing. Raises `MergeError`."""
    problems: list[str] = []
    parts = [part for path in paths if (part := _read(path, problems)) is not None]
    if not problems:
        parts.sort(key=lambda part: part.shard.index)
        missing = _missing(parts)
        problems += _contradictions(parts)
        if missing and not partial:
            problems += [
                f"the report of shard {shard} is missing (--partial merges without it)" for shard in missing
            ]
    if not problems:
        problems += _common_images(parts)
    if problems:
        raise MergeError(problems)
    totals = _summed([msgspec.to_builtins(part.document.totals) for part in parts])
    run = _joined([part.document.run for part in parts], totals["images"], missing)
    pruned = list(chain.from_iterable(part.document.pruned for part in parts))
    return Merged(run, totals, [part.document.images for part in parts], pruned)


# --- reading ------------------------------------------------------------------------------------------------------


def _read(path: Path, problems: list[str]) -> _Part | None:
    """Read the report of a finished run. If it is invalid, add a problem and return None."""
    try:
        content = path.read_bytes()
    except OSError as error:
        problems.append(f"{path} cannot be read: {error.strerror}")
        return None
    try:
        document = msgspec.json.decode(content, type=_Document)
        shard = Shard.parse(document.run.shard)
    except msgspec.ValidationError as error:
        problems.append(f"{path}: not the report of a finished run: {_said(error)}")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        problems.append(f"{path}{_line(content, str(error))}: not JSON: {error}")
    except RecursionError:
        problems.append(f"{path}: not JSON: nested too deeply")
    except InvalidShard as error:
        problems.append(f"{path}: not a report: run.shard: {error}")
    else:
        if document.run.missing_shards:
            problems.append(
                f"{path}: is a merged report without some shards: merge the reports of the shards instead"
            )
            return None
        destinations = _destinations(path, document.images, problems)
        return None if destinations is None else _Part(path, shard, document, destinations)
    return None


def _destinations(path: Path, images: Sequence[msgspec.Raw], problems: list[str]) -> list[str] | None:
    decode = msgspec.json.Decoder(_Image).decode
    destinations = []
    for index, image in enumerate(images):
        try:
            destinations.append(decode(image).destination)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            problems.append(f"{path}: not a report: {_said(error, f'images[{index}]')}")
            return None
    return destinations


def _said(error: Exception, within: str = "") -> str:
    """Return the error, preceded by the path of the field."""
    message, _, place = str(error).partition(" - at `$")
    return f"{within}{place.rstrip('`')}: ".lstrip(".").removeprefix(": ") + message


def _line(content: bytes, message: str) -> str:
    found = _BYTE.search(message)
    if found is None:
        return ""
    line = content.count(b"\n", 0, int(found[1])) + 1
    return f":{line}"


# --- together -----------------------------------------------------------------------------------------------------


def _missing(parts: Sequence[_Part]) -> list[str]:
    """Return the shards without a report, or none if the reports are of different splits."""
    count = parts[0].shard.count
    if any(part.shard.count != count for part in parts):
        return []
    there = {part.shard.index for part in parts}
    return [str(Shard(index, count)) for index in range(count) if index not in there]


def _contradictions(parts: Sequence[_Part]) -> Iterator[str]:
    first, earlier = parts[0], dict[Shard, _Part]()
    for part in parts:
        same = earlier.setdefault(part.shard, part)
        if part.shard.count != first.shard.count:
            yield f"{_named(first)} and {_named(part)} are of different splits: expected shards with the same N"
        elif same is not part:
            yield f"{same.path} and {part.path} are both of shard {part.shard}"
        if part.document.run.dry_run != first.document.run.dry_run:
            yield f"{first.path} and {part.path}: one is of a dry run, the other is not"


def _named(part: _Part) -> str:
    return f"{part.path} ({part.shard})"


def _common_images(parts: Sequence[_Part]) -> list[str]:
    """Return problems for destinations in two reports. A destination belongs to one shard, so the rules differed."""
    owner: dict[str, _Part] = {}
    twice: dict[str, _Part] = {}
    for part in parts:
        for destination in part.destinations:
            if owner.setdefault(destination, part) is not part:
                twice[destination] = part
    problems = [
        f"{destination} is in two reports, {owner[destination].path} and {part.path}: did the shards have different rules?"
        for destination, part in twice.items()
    ]
    more = len(problems) - _MAX_SHOWN
    return problems if more <= 1 else [*problems[:_MAX_SHOWN], f"{more} more images are in two reports"]


def _joined(runs: Sequence[RunPart], images: dict[str, int], missing: list[str]) -> RunPart:
    return RunPart(
        # The ID does not depend on the order of the reports.
        id=blake2b(" ".join(run.id for run in runs).encode(), digest_size=6).hexdigest(),
        trigger=runs[0].trigger,
        started=min(run.started for run in runs),
        finished=max(run.finished for run in runs),
        outcome=_outcome({run.outcome for run in runs}, images, whole=not missing),
        dry_run=runs[0].dry_run,
        missing_shards=missing,
        error="; ".join(dict.fromkeys(run.error for run in runs if run.error)),
    )


def _outcome(
    outcomes: set[str], images: dict[str, int], *, whole: bool
) -> Literal["success", "partial", "failure", "interrupted"]:
    if "interrupted" in outcomes:
        return "interrupted"
    if outcomes == {"success"}:
        return "success" if whole else "partial"
    return "partial" if images["synced"] or images["skipped"] else "failure"


def _summed(totals: Sequence[Any]) -> Any:
    """Return the sums of the numbers in mappings. A number that a mapping lacks is 0."""
    if isinstance(totals[0], dict):
        keys = dict.fromkeys(key for each in totals for key in each)
        return {key: _summed([each[key] for each in totals if key in each]) for key in keys}
    return sum(totals)
