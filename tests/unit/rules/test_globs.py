import pytest

from syncer.rules.globs import InvalidGlob, check_glob, matches_any, path_matches_any


@pytest.mark.parametrize(
    ("glob", "text", "matches"),
    [
        ("v*", "v1.2", True),
        ("v*", "V1.2", False),
        ("1.?", "1.10", False),
        ("[0-9]*", "1-alpine", True),
        ("[!0-9]*", "1-alpine", False),
        ("1.*", "1x2", False),
        ("*/*", "a/b/c", True),
    ],
)
def test_glob_matches_whole_text_and_case(glob, text, matches):
    assert matches_any([glob], text) is matches


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("*", "web", True),
        ("*", "team/web", False),
        ("**", "team/web", True),
        ("team/*", "team/web", True),
        ("team/*", "team/web/api", False),
        ("**/api", "team/web/api", True),
        ("we?", "we/", False),
        ("[a-c]*", "b.x", True),
        ("[!a-c]*", "b.x", False),
        ("a.b", "axb", False),
        ("*a" * 60 + "b", "a" * 250, False),
    ],
)
def test_star_in_a_path_glob_stays_within_a_component(glob, path, matches):
    assert path_matches_any([glob], path) is matches


@pytest.mark.parametrize("text", ["", "{a,b}", "v[1", "x" * 301])
def test_invalid_glob_is_refused(text):
    with pytest.raises(InvalidGlob):
        check_glob(text)


@pytest.mark.parametrize("text", ["*", "[a-z]?", "[!0-9]", "sha256-*"])
def test_valid_glob_is_returned(text):
    assert check_glob(text) == text
