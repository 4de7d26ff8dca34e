"""Options that name rules, and that change all of them: `--images`, `--to`, `--rule`, `copy`, `--no-clobber` and others."""

import json

import pytest
from click.testing import CliRunner

from syncer.cli.files import read_config
from syncer.cli.main import cli
from syncer.cli.once import load_config
from syncer.cli.once_options import OnceOptions
from syncer.diagnostics import ConfigError

RULES = """\
- {from: "nginx:1.27", to: h.io/mirror/nginx, name: web}
- {from: quay.io/coreos/etcd, to: h.io/mirror/etcd}
- {from: "quay.io/team/app:1", to: "$HOST/app"}
"""


@pytest.fixture
def images(tmp_path):
    path = tmp_path / "images.yaml"
    path.write_text(RULES)
    return path


@pytest.fixture
def check(tmp_path):
    """`check(*options)`: the lines that `syncer check` prints, and its exit code."""

    def run(*options, text=None, **env):
        done = CliRunner().invoke(
            cli,
            ["check", *map(str, options)],
            env={"HOST": "e.io", **env},
            input=text,
            catch_exceptions=False,
        )
        return done.output.splitlines(), done.exit_code

    return run


@pytest.mark.parametrize(
    ("patterns", "count"),
    [
        (["web"], 1),
        (["nginx:1.27"], 1),
        (["docker.io/library/nginx"], 1),
        (["quay.io/*"], 2),
        (["h.io/mirror/*"], 2),
        (["e.io/app"], 1),
        (["$HOST/app"], 1),
        (["web", "*/etcd"], 2),
        (["*"], 3),
    ],
)
def test_rule_option_matches_name_source_or_destination(images, check, patterns, count):
    lines, code = check("--images", images, *(part for each in patterns for part in ("--rule", each)))
    assert code == 0
    assert lines[-1].startswith(f"{count} rule")


def test_rule_option_has_a_variable(images, check):
    assert check("--images", images, SYNCER_RULE="web;*/etcd")[0][-1].startswith("2 rules")


@pytest.mark.parametrize("command", ["check", "sync", "plan", "serve", "audit"])
def test_rule_option_that_matches_no_rule_exits_with_2(images, command):
    options = [command, "--images", str(images), "--rule", "postgres"]
    done = CliRunner().invoke(cli, options, env={"HOST": "e.io"}, catch_exceptions=False)
    assert done.exit_code == 2
    assert (
        "'postgres' matches the name, source or destination of no rule (3 rules in the files)" in done.output
    )


def test_invalid_glob_exits_with_2(images, check):
    lines, code = check("--images", images, "--rule", "[a")
    assert code == 2
    assert "expected ] after [" in lines[-1]


def test_images_may_be_repeated_and_its_variable_holds_several(images, check, tmp_path):
    (tmp_path / "more.txt").write_text("redis:7\n")
    assert check("--images", images, "--images", tmp_path / "more.txt", "--to", "h.io/m")[0][-1].startswith(
        "4 rules"
    )
    for separator in ("\n", ";"):
        value = f"{images}{separator}{tmp_path / 'more.txt'}"
        assert check(SYNCER_IMAGES=value, SYNCER_TO="h.io/m")[0][-1].startswith("4 rules")


def test_check_shows_the_names_that_result(check, tmp_path):
    (tmp_path / "more.txt").write_text("redis:7\nquay.io/a/b:1 $HOST/x-{path|-}:{tag}-m\n")
    lines, _ = check("--images", tmp_path / "more.txt", "--to", "h.io/m/{full}")
    assert lines[:2] == ["redis:7 -> h.io/m/docker.io/library/redis", "quay.io/a/b:1 -> $HOST/x-a-b:1-m"]


def test_place_of_to_may_name_variables(check, tmp_path):
    (tmp_path / "more.txt").write_text("redis:7\n")
    lines, code = check("--images", tmp_path / "more.txt", "--to", "$HOST/m")
    assert (lines[0], code) == ("redis:7 -> $HOST/m/redis", 0)
    lines, code = check("--images", tmp_path / "more.txt", "--to", "h.io/{pth}")
    assert code == 2
    assert lines[0].startswith("error: --to: unknown placeholder '{pth}'")


def test_copy_has_one_rule_without_a_file(monkeypatch, tmp_path):
    seen: list[OnceOptions] = []
    monkeypatch.setattr("syncer.cli.once.run_once", seen.append)
    (tmp_path / "x.json").write_text("{}")
    arguments = ["copy", "nginx:1.27", "--to", "h.io/m", "--proc", "9", "--dry-run"]
    done = CliRunner().invoke(cli, arguments, env={"SYNCER_IMAGES": str(tmp_path / "x.json")})
    assert done.exit_code == 0, done.output
    (options,) = seen
    (rule,) = read_config(options).rules
    assert (str(rule), str(rule.destinations[0].repository)) == ("nginx:1.27", "h.io/m/nginx")
    assert (options.proc, options.dry_run) == (9, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nginx:1.27"], "SOURCE: expected a destination, found an empty one"),
        (["Nginx", "h.io/x"], "SOURCE: not a repository name"),
        (["nginx:1,2", "h.io/x:1"], "DESTINATION: expected no tag or as many"),
        (["nginx", "h.io/x", "--images", "x.json"], "leave out --images"),
        ([], "Missing argument"),
    ],
)
def test_copy_tells_what_is_wrong_with_its_arguments(arguments, told):
    done = CliRunner().invoke(cli, ["copy", *arguments])
    assert done.exit_code == 2
    assert told in done.output


def test_options_for_all_rules_set_their_fields(tmp_path):
    path = tmp_path / "images.json"
    path.write_text(
        json.dumps(
            [{"from": "a", "to": "h.io/a"}, {"from": "b", "to": "h.io/b", "referrers": {"include": ["x"]}}]
        )
    )
    plain = load_config(OnceOptions(images=[path])).rules
    changed = load_config(OnceOptions(images=[path], no_clobber=True, referrers=True)).rules
    assert [rule.overwrite for rule in plain] == [True, True]
    assert [rule.overwrite for rule in changed] == [False, False]
    assert plain[0].referrers is None
    assert changed[0].referrers is not None
    assert changed[0].referrers.include == ()
    assert changed[1].referrers == plain[1].referrers


def test_rule_that_disappears_from_the_files_is_a_problem_of_the_files(images):
    images.write_text("[]")
    with pytest.raises(ConfigError, match="of no rule"):
        load_config(OnceOptions(images=[images], rule=["web"]))
