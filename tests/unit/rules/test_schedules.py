"""Schedules are checked when the file is read."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.rules.schedules import InvalidSchedule, check_schedule


@pytest.mark.parametrize(
    "text",
    [
        "0 3 * * *",
        "*/15 * * * mon-fri",
        "30 0 3 * * *",
        "@daily",
        "@hourly",
        "0 0 29 2 *",
        "0 0 L * *",
        "0 0 * * thu",
    ],
)
def test_the_usual_forms_are_taken(text):
    assert check_schedule(text) == text


@pytest.mark.parametrize("text", ["0  3 * * *", " 0 3 * * *\n", "0\t3 * * *"])
def test_blanks_between_fields_make_no_other_schedule(text):
    assert check_schedule(text) == "0 3 * * *"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected five fields"),
        ("daily", "expected five fields"),
        ("* * * *", "expected five fields"),
        ("0 0 3 * * * 2030", "expected five fields"),
        ("H 3 * * *", "expected five fields"),
        ("R 3 * * *", "expected five fields"),
        ("@every 1h", "expected five fields"),
        ("* " * 3000, "expected five fields"),
        ("@reboot", "not a schedule"),
        ("60 * * * *", "not a schedule"),
        ("*/0 * * * *", "not a schedule"),
        ("0 0 30 2 *", "names a date that never comes"),
        ("0 0 31 4,6,9,11 *", "names a date that never comes"),
    ],
)
def test_a_bad_or_impossible_schedule_is_refused(text, expected):
    with pytest.raises(InvalidSchedule, match=expected):
        check_schedule(text)


@given(st.text("0123456789*/,-@#LHR? abcdefghijklmnopqrstuvwxyz", max_size=30))
def test_any_text_is_a_schedule_or_refused(text):
    with suppress(InvalidSchedule):
        check_schedule(text)
