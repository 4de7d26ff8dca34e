"""Tests of the share of the work: by flag, by variable, and by the index of an Indexed Job."""

import json

import pytest
from click.testing import CliRunner

from syncer.cli.files import describe_share
from syncer.cli.main import cli
from syncer.cli.once import load_config
from syncer.cli.once_options import OnceOptions
from syncer.rules.shard import Shard, share_of

RULES = {f"r.io/app-{number}:1": f"s.io/copy-{number}" for number in range(24)}


@pytest.fixture
def rules(tmp_path):
    """`rules(mapping)` writes an images file."""

    def write(images):
        path = tmp_path / "images.json"
        path.write_text(json.dumps(images))
        return path

    return write


@pytest.fixture
def plan(rules):
    """`plan(*arguments, **environment)` plans without rules, or with those of `images`."""

    def invoke(*arguments, images=None, **env):
        usual = ("plan", "--images", str(rules(images or {})))
        return CliRunner().invoke(cli, [*usual, *arguments], env=env, catch_exceptions=False)

    return invoke


def shares_told(done):
    return [line.partition("shard ")[2] for line in done.stderr.splitlines() if " shard " in line]


JOB = {"JOB_COMPLETION_INDEX": "1", "SYNCER_SHARDS": "2"}


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ((), {}, []),
        (("--shard", "0/1"), {}, []),
        (("--shard", "1/2"), {}, ["1/2"]),
        ((), {"SYNCER_SHARD": " 1/2 "}, ["1/2"]),
        ((), JOB, ["1/2"]),
        ((), JOB | {"SYNCER_SHARD": "0/3"}, ["0/3"]),
        ((), JOB | {"SYNCER_SHARD": ""}, ["1/2"]),
        (("--shard", "2/3"), JOB | {"SYNCER_SHARD": "0/3"}, ["2/3"]),
        (("--shard", "0/3"), {"JOB_COMPLETION_INDEX": "x", "SYNCER_SHARDS": "y"}, ["0/3"]),
        ((), {"JOB_COMPLETION_INDEX": "5"}, []),
        ((), {"JOB_COMPLETION_INDEX": "5", "SYNCER_SHARDS": ""}, []),
    ],
)
def test_shard_flag_precedes_its_variable_and_the_job_index(plan, arguments, environment, expected):
    done = plan(*arguments, **environment)
    assert done.exit_code == 0
    assert [told.partition(" has ")[0] for told in shares_told(done)] == expected


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (("--shard", "4/4"), {}, "'--shard': expected I/N with 0 <= I < N, such as 0/4, found '4/4'"),
        (("--shard", "1"), {}, "found '1'"),
        ((), {"SYNCER_SHARD": "a/b"}, "found 'a/b'"),
        ((), {"JOB_COMPLETION_INDEX": "2", "SYNCER_SHARDS": "2"}, "JOB_COMPLETION_INDEX and SYNCER_SHARDS are not a valid share I/N: expected"),
        ((), {"JOB_COMPLETION_INDEX": "two", "SYNCER_SHARDS": "3"}, "found 'two/3'"),
        ((), {"JOB_COMPLETION_INDEX": "0", "SYNCER_SHARDS": "many"}, "found '0/many'"),
        ((), {"SYNCER_SHARDS": "3"}, "SYNCER_SHARDS is '3', but JOB_COMPLETION_INDEX is not set"),
    ],
)  # fmt: skip
def test_invalid_share_is_reported_before_any_request(plan, arguments, environment, said):
    done = plan(*arguments, **environment)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())
    assert " ERROR " not in done.stderr


def test_shares_log_their_rules_and_cover_all_rules(rules):
    path, found = rules(RULES), []
    for index in range(3):
        shard = Shard(index, 3)
        config = load_config(OnceOptions(images=[path], shard=shard))
        assert describe_share(config, shard) == f"shard {index}/3 has {len(config.rules)} of 24 rules"
        found += [str(rule) for rule in config.rules]
    assert sorted(found) == sorted(RULES)


def test_a_share_without_rules_is_a_success(plan):
    only = share_of("r.io/copy", 3)
    done = plan("--shard", f"{(only + 1) % 3}/3", images={"r.io/app:1": "r.io/copy"})
    assert done.exit_code == 0
    (told,) = shares_told(done)
    assert told.endswith("has 0 of 1 rule: nothing to do here")
    assert "Synchronization finished, 0 tasks failed" in done.stderr


def test_each_share_validates_all_rules(plan):
    images = {"r.io/good": "s.io/good", "r.io/bad": "$NOBODY_SET_THIS/app", "::": "x"}
    for index in range(3):
        done = plan("--shard", f"{index}/3", images=images)
        assert done.exit_code == 2
        assert done.stderr.splitlines()[-1] == "2 problems; nothing was contacted"


def test_every_line_of_a_json_log_names_the_share(plan):
    done = plan("--shard", "1/2", "--log-format", "json")
    assert {json.loads(line)["shard"] for line in done.stderr.splitlines()} == {"1/2"}
    assert "shard" not in plan("--log-format", "json").stderr


@pytest.mark.parametrize("command", ["sync", "plan", "serve"])
def test_help_lists_the_shard_option(command):
    assert "--shard I/N" in CliRunner().invoke(cli, [command, "--help"]).output


def test_check_ignores_the_share(rules):
    env = JOB | {"SYNCER_SHARD": "0/9"}
    done = CliRunner().invoke(cli, ["check", "--images", str(rules(RULES))], env=env)
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == "24 rules: no problems found"
