"""How numbers are written for people."""

import pytest

from syncer.observe import words


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (180_249_000, "180.2 MB"),
        (999_949, "999.9 kB"),
        (999_960, "1.0 MB"),
        (3_500_000_000_000, "3.5 TB"),
        (10**19, "10000.0 PB"),
    ],
)
def test_sizes_have_one_decimal_and_a_decimal_unit(nbytes, text):
    assert words.size(nbytes) == text
    assert words.rate(nbytes) == f"{text}/s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1m 00s"), (125, "2m 05s"), (3900, "1h 05m")],
)
def test_durations_are_as_exact_as_one_cares(seconds, text):
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0004, "0s"),
        (0.012, "12ms"),
        (0.9996, "1s"),
        (1.234, "1.234s"),
        (10, "10s"),
        (123.5, "2m3.5s"),
        (3600, "1h0m0s"),
        (90061.05, "25h1m1.05s"),
    ],
)
def test_durations_for_scripts_are_written_as_go_does(seconds, text):
    assert words.go_duration(seconds) == text


def test_digests_are_shortened_as_docker_does():
    assert words.short(f"sha256:{'0123456789abcdef' * 4}") == "sha256:0123456789ab"


def test_one_is_not_many():
    assert words.count(1, "retry", "retries") == "1 retry"
    assert words.count(0, "image") == "0 images"
