"""Ranges, as the documentation of node-semver ("Advanced Range Syntax") and of Masterminds/semver describes them."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncer.rules.ranges import InvalidRange, parse_range
from syncer.rules.versions import parse_version

# A range, the versions in it, and others.
TABLE = [
    (">=1.20 <2", "1.20 1.20.0 1.99.9 1.20.0.1", "1.19.9 2 2.0.0"),
    (">=1.20, <2", "1.20 1.99", "1.19 2"),
    (">= 1.20 < 2", "1.20 1.99", "1.19 2"),
    ("=>1.20 =<2.1.0", "1.20 2.1.0", "1.19 2.1.1 2.1.0.1"),
    ("1.2.3", "1.2.3 v1.2.3 1.2.3.0", "1.2.3.1 1.2.4 1.2"),
    ("=1.2.3.4", "1.2.3.4", "1.2.3 1.2.3.5"),
    ("v1.2.3", "1.2.3", "1.2.4"),
    ("1.2", "1.2 1.2.0 1.2.9 1.2.0.5", "1.3 1.1.9"),
    ("=1", "1 1.9", "2 0.9"),
    ("1.x", "1 1.0.0 1.99", "2.0 0.9"),
    ("1.2.*", "1.2 1.2.7", "1.3"),
    ("1.2.3.x", "1.2.3 1.2.3.9", "1.2.4 1.2.2"),
    ("1.x.x", "1.5", "2"),
    ("*", "0 1.2.3 20241120", ""),
    ("x", "1", ""),
    ("^1.2.3", "1.2.3 1.9.9", "1.2.2 2.0.0"),
    ("^1.4", "1.4 1.9", "1.3.9 2.0"),
    ("^0.2.3", "0.2.3 0.2.9", "0.2.2 0.3.0"),
    ("^0.0.3", "0.0.3 0.0.3.9", "0.0.4 0.0.2"),
    ("^0.0", "0.0.0 0.0.9", "0.1.0"),
    ("^0.x", "0.9.9 0", "1.0"),
    ("^1.2.3.4", "1.2.3.4 1.2.4 1.9", "1.2.3.3 2"),
    ("~1.2.3", "1.2.3 1.2.9", "1.2.2 1.3.0"),
    ("~1.2", "1.2.0 1.2.9", "1.3 1.1"),
    ("~1", "1.0 1.9", "2 0.9"),
    ("~>1.2.3", "1.2.9", "1.3"),
    ("~1.2.3.4", "1.2.3.4 1.2.9", "1.2.3.3 1.3"),
    (">1.4", "1.5 1.5.0 2", "1.4 1.4.9 1.4.0.1"),
    (">1.4.0", "1.4.1 1.4.0.1", "1.4 1.4.0"),
    ("<=1.4", "1.4 1.4.9 1.4.9.9 1.3", "1.5"),
    ("<=1.4.0", "1.4", "1.4.1"),
    ("<1.4", "1.3.9", "1.4 1.4.0"),
    ("1.2 - 1.4", "1.2 1.2.0 1.4.9", "1.1.9 1.5"),
    ("1.2.3 - 2.3.4", "1.2.3 2.3.4", "1.2.2 2.3.5 2.3.4.1"),
    ("1.2.3 - 2", "1.2.3 2.9", "3.0"),
    ("1.0 - 2.0, !=1.5", "1.4.9 1.6", "1.5 1.5.3 2.1"),
    ("!=1.2.3", "1.2.4 1.2.3.1 0", "1.2.3 1.2.3.0"),
    ("!=1.2.x", "1.1.9 1.3", "1.2.0 1.2.9"),
    (">=1, !=1.5, <2", "1.4 1.6", "1.5.1 2"),
    ("1.2 || >=3 <4 || 7.x", "1.2.9 3.5 7", "1.3 4 6 8"),
    # The examples of Masterminds' README.
    (">= 1.2, < 3.0.0 || >= 4.2.3", "1.2 2.9.9 4.2.3", "1.1 3.0.0 4.2.2"),
    ("<= 2.x", "2.9 0", "3"),
    ("2.3.4 - 4.5", "2.3.4 4.5.9", "2.3.3 4.6"),
    ("~1.x", "1.0 1.9", "2"),
    ("^2.x", "2.0.0 2.9", "3"),
    ("^1.2.x", "1.2.0 1.9", "1.1 2"),
    (">*", "", "0 1 99"),
    ("<0", "", "0 1"),
    (">2 <1", "", "0 1 1.5 2 3"),
    (">=2024.1", "2024.01 2024.11.3 20241120", "2023.12"),
    # Pre-releases: named by the range.
    (">=1.2.3-rc1", "1.2.3-rc1 1.2.3-rc10 1.2.3 2.0.0-beta 2", "1.2.3-beta 1.2.2"),
    (">=1.2.0-0", "1.2.0-alpha 1.3.0-rc1 1.3", "1.1.9 1.1.9-rc1"),
    (">=1.2-rc2 <1.3", "1.2-rc2 1.2-rc10 1.2.9-beta", "1.2-rc1 1.3-rc1 1.3"),
    ("^1.2.3-beta.2", "1.2.3-beta.4 1.2.3 1.9-rc1", "1.2.3-beta.1 2.0.0-rc1 2"),
    ("~1.2.3-beta.2", "1.2.3-beta.4 1.2.9", "1.2.3-beta.1 1.3.0-rc1"),
    ("=1.0-rc1", "1.0-rc1 1.0.0-RC.1", "1.0 1.0-rc2"),
    ("<=1.0-rc1", "1.0-rc1 1.0-beta 0.9", "1.0-rc2 1.0"),
    (">1.0-rc1", "1.0-rc2 1.0", "1.0-rc1 1.0-beta"),
    ("<1 || >=2.0-0", "0.9 2.0-rc1 2", "0.9-rc1 1.5"),
    # and not.
    (">=1.2", "1.2 1.3", "1.3-rc1 1.2-rc1"),
    ("*", "1", "1-rc1"),
]  # fmt: skip


def version_of(tag):
    version = parse_version(tag)
    assert version is not None
    return version


@pytest.mark.parametrize(("text", "within", "outside"), TABLE, ids=[row[0] for row in TABLE])
def test_range(text, within, outside):
    parsed = parse_range(text)
    assert [tag for tag in within.split() if not parsed.contains(version_of(tag))] == []
    assert [tag for tag in outside.split() if parsed.contains(version_of(tag))] == []


@pytest.mark.parametrize(
    ("text", "within", "outside"),
    [
        (">=1.20 <2", "1.20-rc1 1.99-rc1", "2.0-rc1 1.19-rc1"),
        ("1.x", "1.0-rc1 1.5-beta", "2.0-alpha"),
        ("<2.0.0", "2.0.0-rc1 1-rc1", "2.0.0"),
        (">1.4", "1.5-rc1", "1.4.9-rc1 1.4-rc1"),
        ("*", "1-rc1 0-alpha", ""),
    ],
)
def test_partial_version_stands_for_its_prereleases_too(text, within, outside):
    parsed = parse_range(text)
    assert all(parsed.contains(version_of(tag), prereleases=True) for tag in within.split())
    assert not any(parsed.contains(version_of(tag), prereleases=True) for tag in outside.split())


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "abc", "1.2.3.4.5", ">", ">=", "1.2 -", "1 - 2 - 3", "||", "1 ||", ",1", "1,,2", "==1", "1.x-rc1",
        ">=1.2-alpine", "^^1", "1.2.", ".1", "1..2", "latest", "-1", "1 - 2 <3", "!1", "x" * 1001, "1.2 -1.4",
    ],
)  # fmt: skip
def test_invalid_range_is_refused(text):
    with pytest.raises(InvalidRange):
        parse_range(text)


def test_variant_in_a_range_is_refused_with_advice():
    with pytest.raises(InvalidRange, match="variant"):
        parse_range(">=1.27-alpine")


@settings(max_examples=40)
@given(st.text(string.digits + "xX*v.-|,<>=!~^ ab", max_size=60))
def test_any_text_is_a_range_or_refused(text):
    try:
        parsed = parse_range(text)
    except InvalidRange:
        return
    parsed.contains(version_of("1.2.3"))
