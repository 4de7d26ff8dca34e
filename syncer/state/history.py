"""The runs of a daemon with their reports, and how each rule did last: bounded by count, age and size.

Reports are kept as gzip: a browser takes them as they are.
"""

import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from syncer.state.database import Database

Document = dict[str, Any]

GZIP = 31  # zlib's word for gzip's format
_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept: so many runs, seconds, and bytes of reports. The newest run is kept in any case."""

    runs: int = 1000
    seconds: float = 90 * 86400.0
    nbytes: int = 256 << 20


ON_DISK = Bounds()
IN_MEMORY = Bounds(runs=100, nbytes=16 << 20)


class RuleResult(msgspec.Struct, frozen=True):
    """How a rule did the last time: Unix times, `succeeded` the last time that all its images went through."""

    run: str
    finished: float
    outcome: str
    succeeded: float | None = None


class History:
    """What runs there were. Every method may block, and raises `sqlite3.Error`."""

    def __init__(
        self, database: Database, *, bounds: Bounds = ON_DISK, now: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._bounds = bounds
        self._now = now

    # --- writing --------------------------------------------------------------------------------------------------

    def begin(self, summary: Document) -> None:
        """A run has started. `summary` is the report's `run` with its `totals`."""
        now = self._now()
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO runs (id, started, seen, summary) VALUES (?, ?, ?, ?)",
                (summary["id"], now, now, _json(summary)),
            )

    def touch(self, summary: Document) -> None:
        """It still goes on: should the process be killed, this is what is known of it."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE runs SET seen = ?, summary = ? WHERE id = ?",
                (self._now(), _json(summary), summary["id"]),
            )

    def finish(self, summary: Document, report: bytes, rules: Mapping[str, str]) -> None:
        """It is over. `report` is as `syncer.daemon.packing` makes it; `rules` are the outcomes of rules, by name."""
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
            self._prune(connection, now)

    def close_unfinished(self) -> list[str]:
        """Mark runs that a killed process left behind as interrupted, when they were last seen. Their ids."""
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

    # --- reading --------------------------------------------------------------------------------------------------

    def summaries(self, limit: int, *, before: str | float | None = None) -> list[bytes]:
        """Runs as JSON, the newest first: those older than the run of that id, or than that Unix time.

        Raises `KeyError` for a run that is not known.
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
        """A run's report as gzip. None where there is none, or it is not over."""
        with self._database.reading() as connection:
            row = connection.execute("SELECT report FROM runs WHERE id = ?", (run_id,)).fetchone()
        return row[0] if row else None

    def outcome(self, run_id: str) -> str | None:
        """How a run ended; None while it goes on. Raises `KeyError` for one that is not known."""
        with self._database.reading() as connection:
            row = connection.execute("SELECT outcome FROM runs WHERE id = ?", (run_id,)).fetchone()
        if row is None:
            raise KeyError(run_id)
        return None if row[0] is None else str(row[0])

    def last_times(self) -> tuple[float | None, float | None]:
        """When the last run succeeded, and when the last one ended that was not interrupted."""
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


def utc(moment: float) -> str:
    """Unix time as reports write it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def gzip_of(text: bytes) -> bytes:
    packer = zlib.compressobj(wbits=GZIP)
    return packer.compress(text) + packer.flush()


def unpacked(report: bytes) -> Iterator[bytes]:
    """The JSON of a packed report, piece by piece."""
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
