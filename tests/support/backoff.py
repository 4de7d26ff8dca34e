"""Retries without backoff, for tests that do not test the delays."""

import pytest

from syncer.http import retry
from syncer.places.registry import upload


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are sent again at once. Import it into a conftest: it holds for all tests there."""
    monkeypatch.setattr(retry, "_backoff", lambda _state: 0.0)
    monkeypatch.setattr(upload, "pause", lambda _fruitless: 0.0)
