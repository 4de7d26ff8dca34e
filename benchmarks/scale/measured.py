"""What was measured, as it is kept in `results.json`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import msgspec

FILE = Path(__file__).with_name("results.json")

PARTS = ("program", "source", "destination", "source proxy", "destination proxy")
"""The processes of a measurement: the shares of the program, the registries, and the paths to them."""


class Run(msgspec.Struct, frozen=True):
    """One run of all shares. Times are seconds, sizes bytes; `shares` are the times of each process.

    `cpu` is user and system time by part, `others` what everything else on the machine took meanwhile; `source` and
    `destination` are requests by kind.
    """

    seconds: float
    shares: list[float]
    cpu: dict[str, float]
    source: dict[str, int]
    destination: dict[str, int]
    pulled: int
    pushed: int
    destination_host: str
    others: float


class Measured(msgspec.Struct, frozen=True):
    """All runs by the name of their case, and `facts` about the machine."""

    facts: dict[str, str]
    runs: dict[str, list[Run]]

    @classmethod
    def read(cls, path: Path = FILE) -> Self:
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def write(self, path: Path = FILE) -> None:
        """A case a line: so changes can be read."""
        cases = ",\n".join(f"{_text(name)}: {_text(runs)}" for name, runs in self.runs.items())
        path.write_text(f'{{"facts": {_text(self.facts)},\n"runs": {{\n{cases}\n}}}}\n')

    def median(self, name: str) -> Run:
        """The run with the median time, whole: its figures belong together."""
        runs = sorted(self.runs[name], key=lambda run: run.seconds)
        return runs[(len(runs) - 1) // 2]

    def with_runs(self, facts: Mapping[str, str], name: str, runs: list[Run]) -> "Measured":
        return Measured({**self.facts, **facts}, {**self.runs, name: runs})


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
