"""Platforms as users write them, and which images they keep."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.oci.descriptor import Platform
from syncer.rules.platforms import (
    InvalidPlatform,
    PlatformFilter,
    PlatformPattern,
    parse_arch,
    parse_os,
    parse_platform,
)

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64", "v8")
WINDOWS = Platform("windows", "amd64", "", "10.0.17763.5122")


@pytest.mark.parametrize(
    ("read", "text", "expected"),
    [
        (parse_platform, "linux/amd64", PlatformPattern("linux", "amd64")),
        (parse_platform, "linux/arm64/v8", PlatformPattern("linux", "arm64", "v8")),
        (parse_platform, "Linux/x86_64", PlatformPattern("linux", "amd64")),
        (parse_platform, "windows/amd64:10.0.17763", PlatformPattern("windows", "amd64", "", "10.0.17763")),
        (parse_os, "linux", PlatformPattern("linux")),
        (parse_os, "windows:10.0.x", PlatformPattern("windows", os_version="10.0")),
        (parse_os, "windows:10.0.*", PlatformPattern("windows", os_version="10.0")),
        (parse_arch, "arm64:v8", PlatformPattern(architecture="arm64", variant="v8")),
        (parse_arch, "arm/v7", PlatformPattern(architecture="arm", variant="v7")),
        (parse_arch, "aarch64", PlatformPattern(architecture="arm64")),
    ],
)
def test_a_platform_is_read(read, text, expected):
    assert read(text) == expected


@pytest.mark.parametrize("read", [parse_platform, parse_os, parse_arch])
@pytest.mark.parametrize(
    "text", ["", ":", "/", "a/b/c/d", "linux/", "/amd64", "linux:", "a b", "linux/amd64:", "ä/ö", "a/b:c:d"]
)
def test_other_text_is_refused_with_an_example(read, text):
    with pytest.raises(InvalidPlatform, match=r"expected .* as "):
        read(text)


@given(st.text(max_size=30))
def test_any_text_is_a_platform_or_refused(text):
    for read in (parse_platform, parse_os, parse_arch):
        with suppress(InvalidPlatform):
            assert str(read(text))


def kept(
    *, os: tuple[str, ...] = (), arch: tuple[str, ...] = (), platforms: tuple[str, ...] = ()
) -> list[str]:
    wanted = PlatformFilter.of(os=os, arch=arch, platforms=platforms)
    return [str(one) for one in (AMD64, ARM64, WINDOWS) if wanted.matches(one)]


def test_no_filter_keeps_everything():
    assert len(kept()) == 3
    assert not PlatformFilter()
    assert PlatformFilter().matches(None)


def test_os_and_architecture_both_narrow():
    assert kept(os=("linux",)) == ["linux/amd64", "linux/arm64/v8"]
    assert kept(arch=("amd64",)) == ["linux/amd64", "windows/amd64:10.0.17763.5122"]
    assert kept(os=("linux",), arch=("amd64",)) == ["linux/amd64"]
    assert kept(os=("linux", "windows"), arch=("arm64:v8",)) == ["linux/arm64/v8"]
    assert kept(arch=("amd64",), platforms=("linux/amd64", "linux/arm64")) == ["linux/amd64"]


def test_filters_of_command_line_and_rule_both_narrow():
    both = PlatformFilter.of(os=["linux"]) & PlatformFilter.of(platforms=["linux/amd64", "windows/amd64"])
    assert [one for one in (AMD64, ARM64, WINDOWS) if both.matches(one)] == [AMD64]
    assert PlatformFilter() & PlatformFilter.of(os=["linux"]) == PlatformFilter.of(os=["linux"])
    assert hash(both) == hash(both & both)


@pytest.mark.parametrize(
    ("pattern", "keeps"),
    [
        ("10.0.x", True),
        ("10.0", True),
        ("10", True),
        ("10.0.17763", True),
        ("10.0.1776", False),
        ("10.0.17763.5122", True),
        ("10.1.x", False),
    ],
)
def test_versions_match_by_dotted_prefix(pattern, keeps):
    assert PlatformFilter.of(os=[f"windows:{pattern}"]).matches(WINDOWS) is keeps


def test_an_unknown_platform_is_kept():
    wanted = PlatformFilter.of(platforms=["linux/amd64"])
    assert wanted.matches(None)
    assert wanted.matches(Platform())
    assert wanted.matches(Platform("unknown", "unknown"))
    assert not wanted.matches(Platform("windows", "unknown"))
    assert PlatformFilter.of(os=["windows:10.0.x"]).matches(Platform("windows", "amd64"))


def test_the_usual_variant_need_not_be_said():
    assert PlatformFilter.of(arch=["arm64:v8"]).matches(Platform("linux", "arm64"))
    assert PlatformFilter.of(arch=["arm:v7"]).matches(Platform("linux", "arm"))
    assert not PlatformFilter.of(arch=["arm:v6"]).matches(Platform("linux", "arm"))
    assert PlatformFilter.of(arch=["arm"]).matches(Platform("linux", "arm", "v6"))
