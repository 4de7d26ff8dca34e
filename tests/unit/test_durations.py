"""Durations as people write them."""

import pytest

from syncer.durations import InvalidDuration, parse_duration, show_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("0.5", 0.5),
        ("90s", 90),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("500ms", 0.5),
        ("1d", 86400),
        (" 5 M ", 300),
    ],
)
def test_a_duration_has_units_or_counts_seconds(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "5x", "-5m", "0", "0s", "5m x", "1e3", "nan", "9999d", "m5"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(InvalidDuration, match="expected a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.5, "0.5s"), (59, "59s"), (300, "5m"), (5400, "1h30m"), (7200, "2h"), (3661, "1h1m1s")],
)
def test_a_duration_is_shown_with_units(seconds, shown):
    assert show_duration(seconds) == shown
