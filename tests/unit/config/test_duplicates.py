"""Rules that stand twice: the same again is a warning, other destinations are an error that shows the list to write."""

import pytest

from syncer.config import DefaultDestination, load


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        ("json", '{"a:1": "d.io/a",\n"a:1": "d.io/a"}'),
        ("json", '{"a:1": "d.io/a",\n"docker.io/library/a:1": ["d.io/a"]}'),
        ("json", '{"a:1": ["d.io/a", "e.io/a"],\n"a:1": {"to": ["e.io/a", "d.io/a"]}}'),
        ("yaml", "a:1: d.io/a\na:1: d.io/a"),
        ("yaml", "a:/x/: $HOST/a\na:/x/: d.io/a"),
    ],
)
def test_an_exact_duplicate_is_a_warning_and_runs_once(folder, ending, text):
    config = folder.load(images=text, ending=ending, environment={"HOST": "d.io"})
    assert len(config.rules) == 1
    (warning,) = config.warnings
    assert str(warning).endswith("duplicate of the rule in line 1: it runs once")
    assert warning.line == 2


def test_each_duplicate_is_told(folder):
    assert len(folder.load(images='{"a": "d.io/a", "a": "d.io/a", "a": "d.io/a"}').warnings) == 2


@pytest.mark.parametrize(
    ("first", "second", "listed"),
    [
        ('"a:1": "d.io/a"', '"a:1": "e.io/a"', '"a:1": ["d.io/a", "e.io/a"]'),
        ('"a": "$HOST/a"', '"docker.io/a": ["e.io/a"]', '"a": ["$HOST/a", "e.io/a"]'),
        ('"a:1": {"to": "d.io/a:x"}', '"a:1": ["d.io/a:x", "e.io/a"]', '"a:1": ["d.io/a:x", "e.io/a"]'),
    ],
)
def test_a_source_with_other_destinations_is_an_error_that_shows_the_list(folder, first, second, listed):
    problem = folder.problem(images=f"{{{first},\n{second}}}", environment={"HOST": "d.io"})
    assert problem.startswith("images.json:2: ")
    assert problem.endswith(
        f"the source stands in line 1 already, with other destinations: write one rule with a list, {listed}"
    )


def test_a_source_that_stands_there_three_times_is_one_error(folder):
    problem = folder.problem(images='{"a": "d.io/a",\n"a": "e.io/a",\n"a": "f.io/a"}')
    assert problem.startswith("images.json:3: images.a: the source stands in line 1, 2 already")
    assert problem.endswith('"a": ["d.io/a", "e.io/a", "f.io/a"]')


@pytest.mark.parametrize(
    "images",
    [
        '{"a:1": "d.io/a", "a:2": "e.io/a"}',
        '{"a": "d.io/a", "a:1": "e.io/a"}',
        '{"a": {"to": "d.io/a", "platforms": ["linux/amd64"]}, "a": "e.io/a"}',
        '{"a": {"to": "d.io/a", "platforms": ["linux/amd64"]}, "a": {"to": "e.io/a", "platforms": ["linux/arm64"]}}',
        '{"a": {"to": "d.io/a", "attestations": "drop"}, "a": "e.io/a"}',
    ],
)
def test_rules_that_differ_in_tags_platforms_or_more_both_run(folder, images):
    config = folder.load(images=images)
    assert len(config.rules) == 2
    assert config.conflicts == config.warnings == ()


class TestEmptyDestination:
    @pytest.mark.parametrize("empty", ['""', '" "', "null", "[]", '[""]', "{}", '{"to": ""}', '{"to": null}'])
    @pytest.mark.parametrize(
        ("source", "repository", "tags"),
        [("quay.io/a/b/c:1,2", "r.io/n/c", ("1", "2")), ("nginx:1", "r.io/n/nginx", ("1",))],
    )
    def test_it_is_the_place_that_the_options_name(self, tmp_path, empty, source, repository, tags):
        (tmp_path / "i.json").write_text(f'{{"{source}": {empty}}}')
        config = load(images=tmp_path / "i.json", default=DefaultDestination("r.io", "n"))
        (destination,) = config.rules[0].destinations
        assert str(destination.repository) == repository
        assert [destination.tag_for(tag, index) for index, tag in enumerate(tags)] == list(tags)
        assert config.warnings == ()

    @pytest.mark.parametrize("source", ["quay.io/a/b", "quay.io/a/b:/x/", f"quay.io/a/b@sha256:{'a' * 64}"])
    def test_it_keeps_the_tags_of_every_kind_of_source(self, tmp_path, source):
        (tmp_path / "i.yaml").write_text(f"{source}:\n")
        (rule,) = load(images=tmp_path / "i.yaml", default=DefaultDestination("r.io", "n/m")).rules
        assert str(rule.destinations[0].repository) == "r.io/n/m/b"
        assert rule.destinations[0].tags is None

    def test_without_a_namespace_the_whole_path_follows_the_registry(self, tmp_path):
        (tmp_path / "i.json").write_text('{"nginx": ""}')
        (rule,) = load(images=tmp_path / "i.json", default=DefaultDestination("r.io")).rules
        assert str(rule.destinations[0].repository) == "r.io/library/nginx"

    def test_without_a_registry_it_is_an_error_that_says_what_to_do(self, folder):
        assert "--registry and --namespace" in folder.problem(images='{"nginx": ""}')

    def test_where_none_is_empty_the_options_are_told_to_be_without_effect(self, tmp_path):
        (tmp_path / "i.json").write_text('{"nginx": "d.io/nginx"}')
        (warning,) = load(images=tmp_path / "i.json", default=DefaultDestination("r.io", "n")).warnings
        assert str(warning).startswith("--registry, --namespace: without effect")
        unasked = DefaultDestination("r.io", "n", stated=False)
        assert load(images=tmp_path / "i.json", default=unasked).warnings == ()
