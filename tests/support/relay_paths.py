"""Both ways in which a blob is relayed: chunk by chunk in the event loop, and by threads."""

import pytest

from syncer.http import splice, wire


@pytest.fixture(params=["event loop", "threads"])
def relay_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test over both ways. With threads, the event loop reads only the start of each body."""
    path: str = request.param
    threads = path == "threads"
    monkeypatch.setattr(wire, "SPLICE_THRESHOLD", 1 if threads else float("inf"))
    monkeypatch.setattr(wire, "READ_SIZE", 16 * 1024 if threads else wire.READ_SIZE)
    # Shorter than the timeouts that tests set.
    monkeypatch.setattr(splice, "SPLICE_SECONDS", 0.1)
    return path
