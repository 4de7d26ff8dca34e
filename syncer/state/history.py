"""The history of a daemon's runs: their reports, and the last result of each rule. Limited by count, age and size.

Reports are stored as gzip, so that they can be sent to a browser unchanged.
"""

import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from syncer.state.database import Database

Document = dict[str, Any]

GZIP = 31  # zlib's `wbits` for the gzip format
_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of the history: number of runs, age in seconds, bytes of reports. The newest run is always kept."""

    runs: int = 1000
    seconds: float = 90 * 86400.0
    nbytes: int = 256 << 20


ON_DISK = Bounds()
IN_MEMORY = Bounds(runs=100, nbytes=16 << 20)


class RuleResult(msgspec.Struct, frozen=True):
    """The last result of a rule. Times are Unix times; `succeeded` is the last time when none of its images failed."""

    run: str
    finished: float
    outcome: str
    succeeded: float | None = None


class History:
    """The stored runs. Every method may block, and raises `sqlite3.Error`."""

    def __init__(
        self, database: Database, *, bounds: Bounds = ON_DISK, now: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._bounds = bounds
        self._now = now

    # --- writing --------------------------------------------------------------------------------------------------

    def begin(self, summary: Document) -> None:
        """Record the start of a run. `summary` is the report's `run` with its `totals`."""
        now = self._now()
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO runs (id, started, seen, summary) VALUES (?, ?, ?, ?)",
                (summary["id"], now, now, _json(summary)),
            )

    def touch(self, summary: Document) -> None:
        """Update a running run. If the process is killed, this is its last known state."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE runs SET seen = ?, summary = ? WHERE id = ?",
                (self._now(), _json(summary), summary["id"]),
            )

    def finish(
        self,
        summary: Document,
        report: bytes,
        rules: Mapping[str, str],
        images: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        """Record the end of a run. `report` is packed by `syncer.daemon.packing`.

        `rules` has the outcome of each rule, and `images` the number of its images by outcome.
        """
        now = self._now()
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE runs SET seen = ?, outcome = ?, summary = ?, report = ? WHERE id = ?",
                (now, summary["outcome"], _json(summary), report, summary["id"]),
            )
            connection.executemany(
                "INSERT INTO rule_results VALUES (:rule, :run, :now, :outcome, iif(:outcome = 'success', :now, NULL))"
                " ON CONFLICT (rule) DO UPDATE SET run = :run, finished = :now, outcome = :outcome,"
                " succeeded = iif(:outcome = 'success', :now, succeeded)",
                [
                    {"rule": rule, "run": summary["id"], "now": now, "outcome": outcome}
                    for rule, outcome in rules.items()
                ],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO rule_images VALUES (?, ?)",
                [(rule, _json(counts)) for rule, counts in (images or {}).items()],
            )
            self._prune(connection, now)

    def close_unfinished(self) -> list[str]:
        """Mark unfinished runs of a killed process as interrupted at their last update. Return their IDs."""
        with self._database.transaction() as connection:
            rows = connection.execute("SELECT id, seen, summary FROM runs WHERE outcome IS NULL").fetchall()
            for run_id, seen, text in rows:
                summary = msgspec.json.decode(text)
                totals = summary.pop("totals")
                summary |= {"finished": utc(seen), "outcome": "interrupted"}
                report = gzip_of(_json({"run": summary, "images": [], "totals": totals}))
                connection.execute(
                    "UPDATE runs SET outcome = 'interrupted', summary = ?, report = ? WHERE id = ?",
                    (_json(summary | {"totals": totals}), report, run_id),
                )
        return [row[0] for row in rows]

    def _prune(self, connection: Any, now: float) -> None:
        bounds = self._bounds
        kept, nbytes = 0, 0
        rows = connection.execute(
            "SELECT number, seen, coalesce(length(report), 0) FROM runs ORDER BY number DESC"
        )
        for number, seen, size in rows.fetchall():
            kept, nbytes = kept + 1, nbytes + size
            over = kept > bounds.runs or nbytes > bounds.nbytes or seen < now - bounds.seconds
            if over and kept > 1:
                connection.execute("DELETE FROM runs WHERE number <= ?", (number,))
                break
        connection.execute("DELETE FROM rule_results WHERE finished < ?", (now - bounds.seconds,))
        connection.execute("DELETE FROM rule_images WHERE rule NOT IN (SELECT rule FROM rule_results)")

    # --- reading --------------------------------------------------------------------------------------------------

    def summaries(self, limit: int, *, before: str | float | None = None) -> list[bytes]:
        """Return runs as JSON, newest first: at most `limit`, older than the run ID or Unix time `before`.

        Raises `KeyError` for an unknown run.
        """
        with self._database.reading() as connection:
            where = "1"
            value: tuple[object, ...] = ()
            if isinstance(before, str):
                row = connection.execute("SELECT number FROM runs WHERE id = ?", (before,)).fetchone()
                if row is None:
                    raise KeyError(before)
                where, value = "number < ?", row
            elif before is not None:
                where, value = "started < ?", (before,)
            rows = connection.execute(
                f"SELECT summary FROM runs WHERE {where} ORDER BY number DESC LIMIT ?",  # noqa: S608 - one of three texts
                (*value, limit),
            ).fetchall()
        return [row[0] for row in rows]

    def report(self, run_id: str) -> bytes | None:
        """Return a run's report as gzip, or None if there is none or the run is not finished."""
        with self._database.reading() as connection:
            row = connection.execute("SELECT report FROM runs WHERE id = ?", (run_id,)).fetchone()
        return row[0] if row else None

    def outcome(self, run_id: str) -> str | None:
        """Return the outcome of a run, or None while it is running. Raises `KeyError` for an unknown run."""
        with self._database.reading() as connection:
            row = connection.execute("SELECT outcome FROM runs WHERE id = ?", (run_id,)).fetchone()
        if row is None:
            raise KeyError(run_id)
        return None if row[0] is None else str(row[0])

    def last_times(self) -> tuple[float | None, float | None]:
        """Return when a run last succeeded, and when a run last ended without interruption."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT max(iif(outcome = 'success', seen, NULL)), max(seen) FROM runs"
                " WHERE outcome IN ('success', 'partial', 'failure')"
            ).fetchone()
        return row[0], row[1]

    def rule_results(self) -> dict[str, RuleResult]:
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT rule, run, finished, outcome, succeeded FROM rule_results"
            ).fetchall()
        return {row[0]: RuleResult(*row[1:]) for row in rows}

    def rule_images(self) -> dict[str, dict[str, int]]:
        """Return the number of images by outcome, for the last run of each rule."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT rule, images FROM rule_images").fetchall()
        return {rule: msgspec.json.decode(images) for rule, images in rows}


def utc(moment: float) -> str:
    """Format a Unix time as in reports."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def gzip_of(text: bytes) -> bytes:
    packer = zlib.compressobj(wbits=GZIP)
    return packer.compress(text) + packer.flush()


def unpacked(report: bytes) -> Iterator[bytes]:
    """Yield the JSON of a packed report in pieces."""
    unpacker = zlib.decompressobj(wbits=GZIP)
    rest = report
    while rest:
        if piece := unpacker.decompress(rest, _CHUNK):
            yield piece
        rest = unpacker.unconsumed_tail
    if piece := unpacker.flush():
        yield piece


def _json(document: object) -> bytes:
    return msgspec.json.encode(document)
