"""The forms of images files besides the mapping: objects with `rules`, lists, plain text, folders, standard input."""

import json
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from syncer.config import load, rule_reader, text_list
from syncer.config.rule_files import read_rule_files
from syncer.diagnostics import ConfigError, Findings
from syncer.rules.naming import DefaultDestination
from syncer.rules.tag_filter import FilteredTags
from syncer.rules.tags import TheseTags
from tests.support.generated import examples

STRUCTURED = """\
defaults:
  to: h.io/mirror/{path}
  platforms: [linux/amd64, linux/arm64]
  overwrite: false
rules:
  - nginx:1.27
  - from: quay.io/coreos/etcd
    platforms: [linux/s390x]
  - from: [redis:7, quay.io/a/b:1]
    name: caches
    to: ["h.io/x/{name}", ""]
    overwrite: true
"""


def read(tmp_path, text, name="images.yaml", **options):
    """The rules of a file as `source -> destinations`."""
    (tmp_path / name).write_text(text)
    config = load(images=tmp_path / name, **{"environment": {}, **options})
    return pairs(config)


def pairs(config):
    return [
        f"{rule.source_text} -> {', '.join(str(each.repository) for each in rule.destinations)}"
        for rule in config.rules
    ]


def refused(path, **options):
    with pytest.raises(ConfigError) as error:
        load(images=path, **{"environment": {}, **options})
    return [str(problem).removeprefix(f"{path.parent}/") for problem in error.value.problems]


def test_structured_form_takes_each_key_that_a_rule_does_not_set_from_defaults(tmp_path):
    (tmp_path / "images.yaml").write_text(STRUCTURED)
    rules = load(images=tmp_path / "images.yaml").rules
    assert [str(rule.platforms) for rule in rules] == [
        "linux/amd64,linux/arm64",
        "linux/s390x",
        *["linux/amd64,linux/arm64"] * 2,
    ]
    assert [rule.overwrite for rule in rules] == [False, False, True, True]
    assert [rule.name for rule in rules] == ["nginx:1.27", "quay.io/coreos/etcd", "caches", "caches"]
    assert [rule.number for rule in rules] == [0, 1, 2, 3]
    assert read(tmp_path, STRUCTURED) == [
        "nginx:1.27 -> h.io/mirror/library/nginx",
        "quay.io/coreos/etcd -> h.io/mirror/coreos/etcd",
        "redis:7 -> h.io/x/redis, h.io/mirror/library/redis",
        "quay.io/a/b:1 -> h.io/x/b, h.io/mirror/a/b",
    ]


def test_json_and_yaml_have_the_same_forms(tmp_path):
    as_json = json.dumps(yaml.safe_load(STRUCTURED))
    assert read(tmp_path, as_json, "images.json") == read(tmp_path, STRUCTURED)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("images.json", '["nginx:1.27", {"from": "quay.io/a/b", "to": "h.io/b"}]'),
        ("images.yaml", "- nginx:1.27\n- {from: quay.io/a/b, to: h.io/b}\n"),
        ("images", "- nginx:1.27\n- from: quay.io/a/b\n  to: h.io/b\n"),
        ("images.txt", "# what we need\nnginx:1.27 # the web server\n\nquay.io/a/b\th.io/b\r\n"),
        ("images.list", "nginx:1.27\nquay.io/a/b h.io/b"),
        ("images.txt", "\n  nginx:1.27\n  quay.io/a/b   h.io/b  \n"),
        ("images.txt", "rules:\n- nginx:1.27\n- {from: quay.io/a/b, to: h.io/b}\n"),
    ],
)
def test_list_forms_have_one_rule_for_each_item(tmp_path, name, text):
    assert read(tmp_path, text, name, to="h.io/m") == ["nginx:1.27 -> h.io/m/nginx", "quay.io/a/b -> h.io/b"]


def test_text_list_names_platforms_before_the_source(tmp_path):
    path = tmp_path / "images.txt"
    path.write_text("--platform=linux/amd64,linux/arm64 nginx:1\n--platform=linux/s390x redis:7 h.io/r\n")
    assert [str(rule.platforms) for rule in load(images=path, to="h.io").rules] == [
        "linux/amd64,linux/arm64",
        "linux/s390x",
    ]


@pytest.mark.parametrize(
    ("content", "sources"),
    [
        (b"nginx:1\nredis:7\n", ["nginx:1", "redis:7"]),
        (b"nginx:1", ["nginx:1"]),
        (b"localhost:5000/nginx:1\n", ["localhost:5000/nginx:1"]),
        (b"a/b@sha256:" + b"a" * 64, ["a/b@sha256:" + "a" * 64]),
        (b'{"nginx:1": ""}', ["nginx:1"]),
        (b'["nginx:1"]', ["nginx:1"]),
        (b"nginx:1:\n", ["nginx:1"]),
        (b"# list\n- nginx:1\n", ["nginx:1"]),
        (b"---\nrules: [nginx:1]\n", ["nginx:1"]),
        (b"# nothing to do\n", []),
        (b"[]", []),
    ],
)
def test_form_of_standard_input_follows_from_its_first_rule(content, sources):
    config = load(images=Path("-"), standard_input=lambda: content, to="h.io/m", environment={})
    assert [rule.source_text for rule in config.rules] == sources


def test_standard_input_is_named_in_messages():
    with pytest.raises(ConfigError) as error:
        load(images=Path("-"), standard_input=lambda: b"nginx:1\na b c\n", to="h.io")
    assert str(error.value).startswith("standard input:2: expected [--platform=OS/ARCH] SOURCE [DESTINATION]")


def test_files_of_a_folder_are_read_in_the_order_of_their_names(tmp_path):
    for name, source in (("b.yaml", "b"), ("a.json", "a"), ("d.txt", "d"), ("c.YML", "c")):
        (tmp_path / name).write_text(f'{{"{source}": "h.io/{source}"}}' if name != "d.txt" else "d h.io/d")
    (tmp_path / ".hidden.json").write_text("broken")
    (tmp_path / "README.md").write_text("broken")
    (tmp_path / "sub.yaml").mkdir()
    config = load(images=tmp_path)
    assert [rule.source_text for rule in config.rules] == ["a", "b", "c", "d"]
    assert [rule.number for rule in config.rules] == [0, 1, 2, 3]


def test_folder_without_rule_files_is_an_error(tmp_path):
    (tmp_path / "x").mkdir()
    (problem,) = refused(tmp_path / "x")
    assert problem == "x: expected files in this folder with the endings .json, .yaml, .yml, .txt, found none"


def test_pipe_in_a_folder_is_refused_and_not_waited_for(tmp_path):
    (tmp_path / "x").mkdir()
    os.mkfifo(tmp_path / "x/images.json")
    (problem,) = refused(tmp_path / "x")
    assert "not a regular file" in problem


def test_duplicates_and_conflicts_between_files_name_the_other_file(tmp_path):
    (tmp_path / "a.yaml").write_text("nginx:1: h.io/a\nredis:1: h.io/r\n")
    (tmp_path / "b.yaml").write_text("quay.io/x:1: h.io/a\n\nredis:1: h.io/r\n")
    config = load(images=[tmp_path / "a.yaml", tmp_path / "b.yaml"])
    (warning,) = config.warnings
    assert str(warning).endswith(f"duplicate of the rule in line 2 of {tmp_path}/a.yaml: it runs once")
    first, second = map(str, config.conflicts)
    assert f"from the rule in line 1 of {tmp_path}/b.yaml" in first
    assert f"from the rule in line 1 of {tmp_path}/a.yaml" in second

    (tmp_path / "b.yaml").write_text("\nnginx:1: e.io/a\n")
    (problem,) = refused(tmp_path)
    assert f"the source stands in line 1 of {tmp_path}/a.yaml already, with other destinations" in problem


def test_sources_that_meet_at_one_tag_are_told_to_use_the_path(tmp_path):
    (tmp_path / "images.txt").write_text("quay.io/a/app:1\nquay.io/b/app:1\nquay.io/b/app:2\n")
    first, second = map(str, load(images=tmp_path / "images.txt", to="h.io/m").conflicts)
    for message in (first, second):
        assert "quay.io/a/app:1" in message
        assert "quay.io/b/app:1" in message
        assert "{path}" in message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "rules:\n- {to: h.io/x}",
            'images.yaml:2: images.rules[0]: expected a rule: a source as text, or a mapping with "from"',
        ),
        ("rules:\n- [nginx]", "images.rules[0]: expected a rule"),
        (
            "rules:\n- {from: [], to: h.io/x}",
            "images.rules[0].from: expected a source as text, or a list of sources",
        ),
        ("rules:\n- {from: {a: b}, to: h.io/x}", "images.rules[0].from: expected a source as text"),
        (
            "rules:\n- {from: nginx, to: h.io/x, platfroms: [a/b]}",
            "unknown key 'platfroms': expected from, to,",
        ),
        ("rules: []\ndefaults: {form: x}", ""),
        (
            "rules: [nginx]\ndefaults: {to: h.io, form: x}",
            "images.defaults.form: unknown key 'form': expected to,",
        ),
        ("rules: [nginx]\ndefaults: {to: h.io, name: x}", "unknown key 'name'"),
        (
            "rules: []\ndefaults: [h.io]",
            "images.defaults: expected a mapping with keys of rules, found a list",
        ),
        ("rules: []\nnginx: h.io/x", "unknown key 'nginx' beside a list of rules"),
        (
            "rules: {nginx: h.io}\ndefaults: {to: h.io}",
            "images.rules: expected a list of rules, found a mapping",
        ),
        ("rules:", "images.rules: expected a list of rules, found nothing (null)"),
        ('"$schema": x\nrules: ~', "images.rules: expected a list of rules, found nothing (null)"),
        ("rules:\n- {from: a, from: b, to: h.io/x}", "duplicate key 'from'"),
        ("rules: [nginx]\ndefaults: {to: 'h.io/{nam}'}", "images.defaults.to: unknown placeholder '{nam}'"),
        ("rules: [nginx]\ndefaults: {to: $UNSET/x}", "expected the environment variable UNSET to be set"),
        (
            "- nginx",
            "expected a destination, found an empty one: write it out, or name a place for all of them with --to",
        ),
        ("- from: nginx\n  to: h.io/{1}", "{1} has no value: the source has no * or **"),
    ],
)
def test_problems_name_the_place_and_what_was_expected(tmp_path, text, told):
    path = tmp_path / "images.yaml"
    path.write_text(text)
    if not told:
        assert load(images=path).rules == ()
        return
    assert told in refused(path)[0]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("a b c", "found 3 words"),
        ("--platform linux/amd64 nginx", "expected --platform=OS/ARCH"),
        ("--platform= nginx", "expected --platform=OS/ARCH"),
        ("--os=linux nginx", "expected --platform=OS/ARCH"),
        ("--platform=linux/amd64", "found 0 words"),
        ("--platform=linux nginx", "expected os/architecture"),
        ("Nginx:1", "not a repository name"),
    ],
)
def test_problems_of_a_text_list_name_the_line(tmp_path, line, told):
    (tmp_path / "images.txt").write_text(f"redis\n{line}\n")
    (problem,) = refused(tmp_path / "images.txt", to="h.io/m")
    assert problem.startswith("images.txt:2: ")
    assert told in problem


def test_tags_that_a_source_names_precede_those_of_defaults(tmp_path):
    path = tmp_path / "images.yaml"
    path.write_text("defaults: {to: h.io, tags: {latest: 2}}\nrules: [nginx:1.27, redis]")
    named, filtered = load(images=path).rules
    assert named.selection == TheseTags(("1.27",))
    assert isinstance(filtered.selection, FilteredTags)
    key, value = filtered.entry_for(["7"])
    assert (key, value) == ("redis:7", {"to": "h.io/redis:7"})
    assert filtered.entry_for(None) == ("redis", {"tags": {"latest": 2}, "to": "h.io/redis"})
    path.write_text("- {from: nginx:1.27, to: h.io/nginx, tags: {latest: 2}}")
    assert "`tags` cannot be combined with tags or a digest in the source" in refused(path)[0]


class TestEmptyDestination:
    def test_defaults_precede_to_and_to_precedes_registry(self, tmp_path):
        text = "defaults: {to: a.io/m}\nrules: [nginx]"
        default = DefaultDestination("c.io", "n")
        assert read(tmp_path, text, to="b.io", default=default) == ["nginx -> a.io/m/nginx"]
        assert read(tmp_path, "[nginx]", to="b.io", default=default) == ["nginx -> b.io/nginx"]
        assert read(tmp_path, "[nginx]", default=default) == ["nginx -> c.io/n/nginx"]
        assert read(tmp_path, "nginx:", to="b.io/{path}") == ["nginx -> b.io/library/nginx"]

    def test_several_places_are_several_destinations(self, tmp_path):
        text = "defaults: {to: [a.io/m, '${HOST}/{path}']}\nrules: [nginx]"
        config = read(tmp_path, text, environment={"HOST": "b.io"})
        assert config == ["nginx -> a.io/m/nginx, b.io/library/nginx"]

    def test_written_destination_is_not_completed(self, tmp_path):
        assert read(tmp_path, "- {from: nginx, to: a.io/m}", to="b.io") == ["nginx -> a.io/m"]

    def test_registry_is_without_effect_beside_to(self, tmp_path):
        (tmp_path / "i.yaml").write_text("[nginx]")
        (warning,) = load(
            images=tmp_path / "i.yaml", to="b.io", default=DefaultDestination("c.io", "n")
        ).warnings
        assert "without effect" in str(warning)
        assert "--to" in str(warning)


class TestBounds:
    def test_pairs_of_sources_and_destinations_are_counted(self, tmp_path, monkeypatch):
        monkeypatch.setattr(rule_reader, "MAX_COPIES", 50)
        sources = [f"a{number}" for number in range(10)]
        (tmp_path / "i.json").write_text(
            json.dumps([{"from": sources, "to": [f"h{n}.io/{{name}}" for n in range(6)]}])
        )
        (problem,) = refused(tmp_path / "i.json")
        assert "expected at most 50 pairs of a source and a destination" in problem

    def test_list_with_many_problems_is_not_read_to_its_end(self, tmp_path, monkeypatch):
        monkeypatch.setattr(text_list, "MAX_PROBLEMS", 10)
        (tmp_path / "i.txt").write_text("a b c\n" * 100)
        problems = refused(tmp_path / "i.txt")
        assert len(problems) == 11
        assert "the rest of the file is not read" in problems[-1]

    def test_all_files_together_have_a_limit(self, tmp_path, monkeypatch):
        monkeypatch.setattr("syncer.config.documents.MAX_FILE_SIZE", 100)
        for name in ("a.txt", "b.txt"):
            (tmp_path / name).write_text("nginx h.io/n\n" * 5)
        (problem,) = refused(tmp_path)
        assert "all files together are larger than 100 bytes" in problem

    def test_keys_that_sources_share_are_read_once(self, tmp_path):
        (tmp_path / "i.yaml").write_text("- from: [a, b, c]\n  to: h.io/{name}\n  platform: x\n")
        assert len(refused(tmp_path / "i.yaml")) == 1


scalars = st.sampled_from(
    ["nginx", "a:1", "h.io/{path}", "{", "", "*", "$X", "--platform=a/b", "#", "a b"]
) | st.text(max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["from", "to", "rules", "defaults", "platforms", "name"]) | scalars,
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@examples(100)
@given(values)
def test_any_document_gives_rules_or_problems(value):
    findings = Findings()
    content = json.dumps(value).encode()
    trees = read_rule_files([Path("-")], findings, standard_input=lambda: content)
    rules = rule_reader.parse_rules(trees, environment={}, findings=findings, to="h.io/m")
    assert (
        rules or findings.problems or not value or value in ({"rules": []}, [[]]) or isinstance(value, dict)
    )


@examples(100)
@given(st.text(max_size=60) | st.lists(scalars, max_size=4).map(" ".join))
def test_any_text_gives_rules_or_problems(text):
    findings = Findings()
    trees = read_rule_files(
        [Path("-")], findings, standard_input=lambda: text.encode("utf-8", "surrogatepass")
    )
    rule_reader.parse_rules(trees, environment={}, findings=findings, to="h.io/m")
