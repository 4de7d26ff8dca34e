"""Tags read as versions: every tag can be read, and the order is total."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncer.rules.versions import parse_version

TAGS = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=128)
VERSIONS = st.builds(
    lambda prefix, numbers, suffix: prefix + ".".join(map(str, numbers)) + suffix,
    st.sampled_from(["", "v"]),
    st.lists(st.integers(0, 10**20), min_size=1, max_size=4),
    st.sampled_from(["", "-rc1", "-rc.2", "-alpha", "-beta.11", "-alpine", "b4", "-SNAPSHOT"]),
)


def version_of(tag):
    version = parse_version(tag)
    assert version is not None
    return version


@pytest.mark.parametrize(
    ("tag", "numbers", "suffix"),
    [
        ("1", (1, 0, 0, 0), ""),
        ("v1.2", (1, 2, 0, 0), ""),
        ("1.27-alpine", (1, 27, 0, 0), "-alpine"),
        ("2024.11.3", (2024, 11, 3, 0), ""),
        ("2024.01.05", (2024, 1, 5, 0), ""),
        ("10.0.17763.6532", (10, 0, 17763, 6532), ""),
        ("20241120", (20241120, 0, 0, 0), ""),
        ("12345678901234567890.1", (12345678901234567890, 1, 0, 0), ""),
        ("21.0.5_11-jdk", (21, 0, 5, 0), "_11-jdk"),
        ("1.2.3.RELEASE", (1, 2, 3, 0), ".RELEASE"),
        ("8u412-jre", (8, 0, 0, 0), "u412-jre"),
    ],
)
def test_tag_with_numbers_is_a_version(tag, numbers, suffix):
    version = version_of(tag)
    assert (version.numbers, version.suffix) == (numbers, suffix)


@pytest.mark.parametrize(
    "tag",
    ["latest", "jdk-21.0.5_11", "v", "a1b2c3d", "1a2b3c4d", "1.2.3.4.5", "vv1.2", "V1.2", "release-1.2", ""],
)
def test_tag_without_leading_numbers_is_no_version(tag):
    assert parse_version(tag) is None


@pytest.mark.parametrize(
    "suffix",
    [
        "-rc1", "-rc.1", "-RC1", "rc1", "b4", "a1", "-alpha.2", "-alpha.beta.1", "-beta", "-dev", "-snapshot", "-SNAPSHOT",
        "-nightly", "-nightly-20241120", "-dev.20241120.1a2b3c4", "-M2", ".rc1", "_beta", "-preview.3", "-canary.7",
    ],
)  # fmt: skip
def test_suffix_of_a_prerelease(suffix):
    version = version_of(f"1.2.3{suffix}")
    assert version.prerelease
    assert not version.is_variant


@pytest.mark.parametrize(
    "suffix",
    [
        "-alpine",
        "-alpine3.20",
        "-rc1-alpine",
        "-1",
        "-20241120",
        "-k3s1",
        "-debian-12-r5",
        "-b08",
        "-devel",
        "k",
    ],
)
def test_any_other_suffix_makes_a_variant(suffix):
    assert version_of(f"1.2.3{suffix}").is_variant


def test_versions_in_order():
    in_order = [
        "0.9",
        "1.2-alpha",
        "1.2-alpha.1",
        "1.2-alpha.beta",
        "1.2-beta",
        "1.2-beta.2",
        "1.2-beta.11",
        "1.2-rc2",
        "1.2-RC10",
        "1.2",
        "1.9",
        "1.10",
        "1.10.0.1",
        "2024.11.3",
        "2024.11.20",
        "99999999999999999999",
    ]
    keys = [version_of(tag).key for tag in in_order]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("one", "other"), [("1.2", "v1.2.0"), ("1", "1.0.0.0"), ("2024.01", "2024.1"), ("1-rc.1", "1-RC1")]
)
def test_equal_versions(one, other):
    assert version_of(one).key == version_of(other).key


@settings(max_examples=40)
@given(TAGS)
def test_every_tag_can_be_read(tag):
    version = parse_version(tag)
    assert version is None or len(version.numbers) == 4


@settings(max_examples=40)
@given(st.lists(VERSIONS | TAGS, max_size=10), st.randoms())
def test_order_is_total(tags, random):
    keys = [version.key for tag in tags if (version := parse_version(tag)) is not None]
    in_order = sorted(keys)
    random.shuffle(keys)
    assert sorted(keys) == in_order
