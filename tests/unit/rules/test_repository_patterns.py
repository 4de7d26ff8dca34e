"""Patterns of repositories, and the globs that filter what they match."""

import pytest

from syncer.oci.reference import InvalidReference, Repository
from syncer.rules.patterns import RepositoryFilter, RepositoryPattern

HOST = "harbor.example.com"


@pytest.mark.parametrize(
    ("pattern", "path", "captures"),
    [
        ("team/*", "team/app", ("app",)),
        ("team/*", "team/app/web", None),
        ("team/*", "team", None),
        ("team/**", "team/app", ("app",)),
        ("team/**", "team/a/b/c", ("a/b/c",)),
        ("team/**", "team", None),
        ("team/**", "teams/app", None),
        ("team/app-*", "team/app-web", ("web",)),
        ("team/app-*", "team/app", None),
        ("team/*-app", "team/web-app", ("web",)),
        ("team/a*c", "team/abc", ("b",)),
        ("*/app", "team/app", ("team",)),
        ("*", "app", ("app",)),
        ("**", "team/app", ("team/app",)),
        ("**/app", "team/web/app", ("team/web",)),
        ("**/app", "app", ("",)),
        ("a/**/b", "a/b", ("",)),
        ("a/**/b", "a/x/y/b", ("x/y",)),
        ("a/**/b", "ab", None),
        ("*/**", "team/a/b", ("team", "a/b")),
        ("*/x/*", "team/x/app", ("team", "app")),
        ("team/a.b*", "team/a.b1", ("1",)),
        ("team/a.b*", "team/axb1", None),
    ],
)
def test_pattern_matches_paths_and_captures_what_its_stars_matched(
    pattern: str, path: str, captures: tuple[str, ...] | None
) -> None:
    assert RepositoryPattern.parse(f"{HOST}/{pattern}").match(Repository(HOST, path)) == captures


def test_pattern_does_not_match_another_registry() -> None:
    assert RepositoryPattern.parse(f"{HOST}/team/*").match(Repository("quay.io", "team/app")) is None


@pytest.mark.parametrize(
    ("text", "host", "path", "prefix"),
    [
        ("bitnami/*", "docker.io", "bitnami/*", "bitnami"),
        ("my*", "docker.io", "library/my*", "library"),
        ("index.docker.io/bitnami/**", "docker.io", "bitnami/**", "bitnami"),
        ("quay.io/coreos/etcd*", "quay.io", "coreos/etcd*", "coreos"),
        ("LOCALHOST:5000/**", "localhost:5000", "**", ""),
        (f"{HOST}/a/b/c-*", HOST, "a/b/c-*", "a/b"),
    ],
)
def test_pattern_has_a_registry_and_a_prefix_without_stars(
    text: str, host: str, path: str, prefix: str
) -> None:
    pattern = RepositoryPattern.parse(text)
    assert (pattern.host, pattern.path, pattern.prefix) == (host, path, prefix)


@pytest.mark.parametrize(
    "text",
    [
        f"{HOST}/team/***",
        f"{HOST}/Team/*",
        f"{HOST}/team//*",
        f"{HOST}/team/*/",
        f"{HOST}/team/[ab]*",
        "harbor.*.com/team/app",
        f"{HOST}/{'a' * 253}/**",
        "*/app",
        "**/app",
        "docker.io/**/app",
    ],
)
def test_text_that_is_no_pattern_is_rejected(text: str) -> None:
    with pytest.raises(InvalidReference):
        RepositoryPattern.parse(text)


def test_matching_takes_linear_time() -> None:
    pattern = RepositoryPattern.parse(f"{HOST}/{'a*' * 60}b")
    assert pattern.match(Repository(HOST, "a" * 255)) is None


@pytest.mark.parametrize(
    ("pattern", "path", "covered"),
    [
        ("team/*", "team/app", "app"),
        ("team/**", "team/a/b", "a/b"),
        ("team/*/x/*", "team/a/x/b", "a/x/b"),
        ("team/app-*", "team/app-web", "web"),
        ("a/**/b", "a/b", ""),
        ("team/*", "other/app", None),
    ],
)
def test_pattern_covers_from_its_first_star_to_its_last(pattern: str, path: str, covered: str | None) -> None:
    assert RepositoryPattern.parse(f"{HOST}/{pattern}").covered(Repository(HOST, path)) == covered


@pytest.mark.parametrize(
    ("include", "exclude", "covered", "selected"),
    [
        ((), (), "app", True),
        (("app",), (), "app", True),
        (("app",), (), "web", False),
        (("*",), (), "a/b", False),
        (("**",), (), "a/b", True),
        (("*-cache",), (), "web-cache", True),
        ((), ("*-cache",), "web-cache", False),
        ((), ("*-cache",), "a/web-cache", True),
        ((), ("**-cache",), "a/web-cache", False),
        (("a/**", "b"), ("a/x",), "a/x", False),
        (("a/**", "b"), ("a/x",), "b", True),
    ],
)
def test_filter_selects_by_globs(
    include: tuple[str, ...], exclude: tuple[str, ...], covered: str, *, selected: bool
) -> None:
    assert RepositoryFilter(include, exclude).selects(covered) is selected
