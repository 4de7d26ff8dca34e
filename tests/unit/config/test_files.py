"""What can be in a file as such: JSON, YAML, nothing, garbage."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.config import documents, load
from syncer.config.documents import read_document
from syncer.config.json_reader import read_json
from syncer.config.nodes import Mapping, Scalar, Sequence
from syncer.config.yaml_reader import read_yaml
from syncer.diagnostics import ConfigError, Findings
from tests.support.generated import examples, long

json_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    json_texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(json_texts, inner, max_size=4),
    max_leaves=20,
)


def plain_value(node):
    """The node as Python data, with every scalar as text."""
    if isinstance(node, Mapping):
        return {entry.key: plain_value(entry.value) for entry in node}
    if isinstance(node, Sequence):
        return [plain_value(item) for item in node.items]
    return node.text


@examples(100)
@given(json_values, st.sampled_from([None, 1, "\t"]))
def test_json_is_read_as_the_standard_library_reads_it(value, indent):
    findings = Findings()
    node = read_json(json.dumps(value, indent=indent), "f.json", "", findings)
    assert node is not None
    assert plain_value(node) == value
    assert not findings.problems


@examples(100)
@given(long(st.text(max_size=60), 5_000))
def test_any_text_is_either_read_or_a_problem(text):
    for read in (read_json, read_yaml):
        findings = Findings()
        node = read(text, "f", "", findings)
        assert node is not None or findings.problems or not text.strip("\ufeff \t\r\n") or read is read_yaml


@examples(100)
@given(long(st.text("{}[]:,\"'*&!|>-#? \n\ta1\\", max_size=40), 5_000))
def test_text_made_of_punctuation_is_either_read_or_a_problem(text):
    for read in (read_json, read_yaml):
        read(text, "f", "", Findings())


def test_tabs_and_trailing_blanks_are_allowed_in_json(folder):
    config = folder.load(images='{\t"a":\t"b.io/a"  ,   \r\n\t\t"c" : "b.io/c"\t}  \n\n')
    assert [str(rule.source) for rule in config.rules] == ["docker.io/library/a", "docker.io/library/c"]


def test_an_empty_mapping_means_nothing_to_do(folder):
    assert folder.load(images="{}", auth="{}").rules == ()
    assert folder.load(images="{}", auth="{}", ending="yaml").rules == ()


@pytest.mark.parametrize("ending", ["json", "yaml", "yml", "conf"])
@pytest.mark.parametrize("content", ["", "  \n\t\n", "\ufeff"])
def test_an_empty_file_is_a_problem(folder, ending, content):
    assert folder.problem(images=content, ending=ending).startswith(
        f"images.{ending}: expected a mapping, found an empty"
    )


def test_a_yaml_file_of_comments_is_empty(folder):
    assert "empty file" in folder.problem(images="# later\n", ending="yaml")


def test_a_byte_order_mark_is_ignored(folder):
    assert len(folder.load(images='\ufeff{"a": "b.io/a"}').rules) == 1
    assert len(folder.load(images="\ufeffa: b.io/a", ending="yaml").rules) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("images.JSON", '{"a": "b.io/a"}'),
        ("images.YML", "a: b.io/a"),
        ("images", '\n {"a": "b.io/a"}'),
        ("images.txt", "a: b.io/a"),
    ],
)
def test_the_ending_tells_the_format_and_otherwise_the_content(folder, name, content):
    assert len(load(images=folder.write(name, content), environment={}).rules) == 1


def test_a_missing_file_and_a_directory_are_problems_with_their_names(tmp_path):
    with pytest.raises(ConfigError) as error:
        load(auth=tmp_path, images=tmp_path / "absent.json", environment={})
    assert str(error.value).splitlines() == [
        f"{tmp_path}: cannot be read: is a directory",
        f"{tmp_path}/absent.json: cannot be read: no such file or directory",
    ]


def test_a_name_that_no_file_can_have_is_a_problem():
    with pytest.raises(ConfigError, match="cannot be read"):
        load(images=Path("a\0b.json"), environment={})


def test_bytes_that_are_not_utf8_are_a_problem_with_line_and_column(tmp_path):
    path = tmp_path / "images.json"
    path.write_bytes(b'{\n "a": "\xff"}')
    with pytest.raises(ConfigError, match=r"images.json:2:8: expected UTF-8 text$"):
        load(images=path, environment={})
    path.write_text("{}", encoding="utf-16")
    with pytest.raises(ConfigError, match="looks like UTF-16"):
        load(images=path, environment={})


def test_a_huge_file_is_refused_and_not_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "MAX_FILE_SIZE", 1000)
    path = tmp_path / "images.json"
    path.write_text(" " * 1001)
    with pytest.raises(ConfigError, match="larger than 1,000 bytes"):
        load(images=path, environment={})
    with pytest.raises(ConfigError, match="larger than 1,000 bytes"):
        load(images=Path("/dev/zero"), environment={})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": "b"', "images.json:1:10: not JSON: expected ',' or '}', found the end of the file"),
        (
            '{"a": "b",\n}',
            "images.json:2:1: not JSON: expected a name in double quotes, found '}': the last entry has no comma behind it",
        ),
        (
            '{"a": ["b",\n]}',
            "images.json:2:1: not JSON: expected a value, found ']': the last entry has no comma behind it",
        ),
        ('{"a": "b"\n  "c": "d"}', "images.json:2:3: not JSON: expected ',' or '}', found '\"'"),
        ('{"a" "b"}', "images.json:1:6: not JSON: expected ':' after a name, found '\"'"),
        (
            "{} {}",
            "images.json:1:4: not JSON: expected the end of the file after the object, found '{': a file holds one object, and here another one begins",
        ),
        (
            '{"a": "b"}}',
            "images.json:1:11: not JSON: expected the end of the file after the object, found '}': nothing is open that it could close",
        ),
        (
            '{"a": "b"},\n"c": "d"',
            "images.json:1:11: not JSON: expected the end of the file after the object, found ',' and what follows it",
        ),
        (
            '{"a": "b"}\nEOF\n',
            "images.json:2:1: not JSON: expected the end of the file after the object, found other text",
        ),
        (
            "{} # hi",
            "images.json:1:4: not JSON: expected the end of the file after the object, found '#' and what follows it",
        ),
        (
            "{\n// hi\n}",
            "images.json:2:1: not JSON: expected a name in double quotes, found '/': JSON has no comments (YAML has)",
        ),
        (
            "{'a': 1}",
            "images.json:1:2: not JSON: expected a name in double quotes, found a single quote: JSON has double quotes only",
        ),
        ('{"a": "b\nc"}', "images.json:1:9: not JSON: bad text: invalid control character"),
        ('{"a": "\\x"}', "images.json:1:8: not JSON: bad text: invalid \\escape"),
        ('{"a": "b}', "images.json:1:7: not JSON: bad text: unterminated string"),
        ('{"a": "\\ud800"}', "images.json:1:7: not JSON: bad text: half of a \\u surrogate pair"),
        (
            '{"a": NaN}',
            "images.json:1:7: not JSON: expected a value (text in double quotes, {, [, a number, true, false or null)",
        ),
        ('{"a": 01}', "images.json:1:8: not JSON: expected ',' or '}'"),
        (
            "\x00",
            "images.json:1:1: not JSON: expected a value (text in double quotes, {, [, a number, true, false or null)",
        ),
    ],
)
def test_bad_json_is_reported_with_line_column_and_what_was_expected(folder, text, expected):
    assert folder.problem(images=text) == expected


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: b\n\tc: d", "2:1: not YAML: found a tab"),
        ("a: [b", "2:1: not YAML"),
        ('a: "b', "1:6: not YAML"),
        ("a: b: c", "1:5: not YAML"),
        ("a: @x", "1:4: not YAML: found a character that cannot stand here"),
        ("a: b\nc: \x01", "2: not YAML: control characters are not allowed"),
        ("a: *x", "1: images.a: an alias"),
        ("&a [*a]", "1: images[0]: an alias"),
        ("a: !!python/object:os.system x", "1: images.a: a YAML tag"),
        ("[a, b]: c", "1: images: expected a name"),
        ("{{ .Values.images }}: c", "1: images: expected a name"),
        ("? \n: c", "1: images: expected a name"),
        ("a: {<<: b}", '1: images.a."<<": expected a mapping'),
    ],
)
def test_bad_yaml_is_reported_with_its_place(folder, text, place):
    assert folder.problems(images=text, ending="yaml")[0].startswith(f"images.yaml:{place}")


@pytest.mark.parametrize("ending", ["json", "yaml"])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_nesting_is_a_problem_and_not_a_crash(folder, ending, opening):
    assert "nested more than 32 levels deep" in folder.problem(images=opening * 100_000, ending=ending)


def test_a_bomb_of_aliases_is_refused_at_once(folder):
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
    ]
    started = time.monotonic()
    assert "once its aliases are expanded" in folder.problem(images="\n".join(lines), ending="yaml")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        ("json", '{"a.io": {"insecure": true},\n "c.io": {},\n "a.io": {}}'),
        ("yaml", "a.io: {insecure: true}\nc.io: {}\na.io: {}"),
    ],
)
def test_a_duplicate_key_is_a_problem_that_names_both_lines(folder, ending, text):
    assert folder.problem(auth=text, images="{}", ending=ending) == (
        f"auth.{ending}:3: auth.\"a.io\": duplicate key 'a.io': it stands in line 1 already"
    )


@pytest.mark.parametrize(
    ("ending", "text"),
    [("json", '{"a": {"to": "d.io/a",\n"to": "e.io/a"}}'), ("yaml", "a:\n  to: d.io/a\n  to: e.io/a")],
)
def test_a_duplicate_key_within_a_rule_is_a_problem(folder, ending, text):
    assert "duplicate key 'to': it stands in line" in folder.problem(images=text, ending=ending)


def test_a_second_yaml_document_is_a_warning(folder):
    config = folder.load(images="---\na:1: d.io/a\n---\nb:1: [\n", ending="yaml")
    assert [str(rule) for rule in config.rules] == ["a:1"]
    (warning,) = config.warnings
    assert str(warning).endswith(
        "images.yaml:3: images: a second document begins here ('---'): it and all that follows is ignored"
    )


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        ("json", '{"x": {"a": 1, "a": 2}, "x": 3, "auth": {}, "images": {"a:1": "d.io/a"}}'),
        ("yaml", "x: {a: 1, a: 2}\nx: 3\nauth: {}\nimages: {'a:1': d.io/a}"),
    ],
)
def test_what_a_combined_file_holds_besides_auth_and_images_is_not_looked_at(folder, ending, text):
    assert [str(rule) for rule in folder.load(combined=text, ending=ending).rules] == ["a:1"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"images": {}, "images": {"a:1": "d.io/a"}}', "combined.json:1: images: stands there twice"),
        ('{"images": {}, "auth": {"a.io": {}, "a.io": {}}}', "duplicate key 'a.io'"),
    ],
)
def test_duplicates_in_the_parts_of_a_combined_file_are_problems(folder, text, expected):
    assert expected in folder.problem(combined=text)


def test_anchors_and_merge_keys_work_in_yaml(folder):
    text = "q.io: &base\n  username: u\n  password: p\nr.io: *base\ns.io:\n  <<: *base\n  username: v\n"
    config = folder.load(auth=text, images="{}", ending="yaml")
    names = [config.auth._accounts[host] for host in config.auth.hosts()]
    assert [account and account.username for account in names] == ["u", "u", "v"]


@pytest.mark.parametrize(
    "text", ["0123456", "on", "1e3", "0x1F", "12:30:00", "1_000", ".5", "2026-11-21", "yes", "=", "1.10"]
)
def test_unquoted_yaml_keeps_its_text(text):
    node = read_yaml(f"- {text}", "f", "", Findings())
    assert isinstance(node, Sequence)
    assert isinstance(node.items[0], Scalar)
    assert node.items[0].text == text


def test_numbers_are_names_in_yaml():
    node = read_yaml("123: a\n1.10: b\ntrue: c\n", "f", "", Findings())
    assert node is not None
    assert plain_value(node) == {"123": "a", "1.10": "b", "true": "c"}


@pytest.mark.parametrize(
    ("name", "text"), [("a.json", '{"a":\n"b",\n\n"c": "d"}'), ("a.yaml", "a:\n  b\n\nc: d\n")]
)
def test_nodes_know_their_line(folder, name, text):
    node = read_document(folder.write(name, text), "", Findings())
    assert isinstance(node, Mapping)
    assert [entry.place.line for entry in node] == [1, 4]


@pytest.mark.parametrize("ending", ["json", "yaml"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        *((name, content) for name in ("auth", "combined") for content in ("[]", '["a"]')),
        *(
            (name, content)
            for name in ("auth", "images", "combined")
            for content in ("3", "null", "true", '"text"')
        ),
    ],
)
def test_a_file_that_holds_no_mapping_is_a_problem(folder, ending, content, name):
    assert "expected a mapping" in folder.problem(**{name: content, "ending": ending})
