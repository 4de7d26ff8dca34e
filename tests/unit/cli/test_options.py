"""Tests of flags, environment variables, and the option groups in the help."""

import os
import subprocess
import sys
from ast import literal_eval

import click
import pytest
from click.testing import CliRunner

from syncer.cli.main import cli
from syncer.cli.options import CommaSeparated, DefaultGroup, GroupedCommand, Option


@click.command(
    cls=GroupedCommand,
    params=[
        Option("--many", multiple=True, group="Several"),
        Option("-o", "--one-word", default="default", group="Single"),
        Option("--number", type=int, default=5, group="Single"),
        Option("--flag", is_flag=True, group="Single"),
        Option("--parts", type=CommaSeparated(), multiple=True, group="Several"),
    ],
)
def shown(**values):
    """Show what came in."""
    click.echo(repr(values))


@pytest.fixture
def values():
    """`values(*arguments, **environment)` is what the options of a command become."""

    def run(*arguments, **env):
        done = CliRunner().invoke(shown, arguments, env=env, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return literal_eval(done.stdout)

    return run


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 3 * * *", ("0 3 * * *",)),
        ("0 3 * * *;@daily", ("0 3 * * *", "@daily")),
        ("0 3 * * *\n@daily\n", ("0 3 * * *", "@daily")),
        (" a b ; ; c\r\n", ("a b", "c")),
        ("", ()),
        (" ;\n ", ()),
    ],
)
def test_list_variable_is_split_at_newlines_and_semicolons_only(values, text, expected):
    assert values(SYNCER_MANY=text)["many"] == expected


def test_a_variable_is_named_after_the_long_option(values):
    assert values(SYNCER_ONE_WORD="x")["one_word"] == "x"
    assert values(SYNCER_O="x")["one_word"] == "default"


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_variable_counts_as_unset(values, text):
    assert values(SYNCER_ONE_WORD=text)["one_word"] == "default"
    assert values(SYNCER_NUMBER=text)["number"] == 5
    assert values(SYNCER_FLAG=text)["flag"] is False


@pytest.mark.parametrize(("text", "expected"), [("true", True), ("1", True), ("0", False), ("no", False)])
def test_flag_variable_is_true_or_false(values, text, expected):
    assert values(SYNCER_FLAG=text)["flag"] is expected


def test_flag_precedes_variable(values):
    got = values("--one-word", "flag", "--many", "a;b", SYNCER_ONE_WORD="env", SYNCER_MANY="c;d")
    assert got["one_word"] == "flag"
    assert got["many"] == ("a;b",)


def test_commas_separate_only_if_the_option_allows_it(values):
    assert values("--parts", "a, b", "--parts", "c")["parts"] == (["a", "b"], ["c"])
    assert values(SYNCER_PARTS="a,b;c")["parts"] == (["a", "b"], ["c"])


def test_help_shows_the_options_in_their_groups():
    told = CliRunner().invoke(cli, ["sync", "--help"]).output
    groups = [
        line.rstrip(":") for line in told.splitlines() if line.endswith(":") and not line.startswith(" ")
    ]
    assert groups[-1] == "Other"
    assert groups[:2] == ["Files", "Work"]
    files = told.split("Files:")[1].split("Work:")[0]
    assert all(name in files for name in ("--auth FILE", "--images FILE", "--config FILE"))


def test_every_option_of_every_command_has_its_variable():
    context = click.Context(cli)
    for name in ("sync", "plan", "check"):
        command = cli.get_command(context, name)
        assert command is not None
        for parameter in command.params:
            longest = max(parameter.opts, key=len)
            assert parameter.envvar == f"SYNCER_{longest[2:].upper().replace('-', '_')}"


def test_program_help_lists_the_commands():
    told = CliRunner().invoke(cli, ["-h"]).output
    assert all(f"\n  {name} " in told for name in ("sync", "plan", "check", "demo"))


def test_version_is_printed_with_the_distribution_name():
    done = CliRunner().invoke(cli, ["--version"])
    assert done.exit_code == 0
    assert done.stdout.startswith("image-syncer ")


@pytest.fixture
def group():
    @click.group(cls=DefaultGroup, default="usual")
    def group():
        """Two commands."""

    @group.command()
    @click.option("--a")
    @click.argument("rest", nargs=-1)
    def usual(a, rest):
        click.echo(f"usual {a} {rest}")

    @group.command()
    def other():
        click.echo("other")

    return group


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "usual None ()\n"),
        (["--a", "1"], "usual 1 ()\n"),
        (["usual", "--a", "1"], "usual 1 ()\n"),
        (["other"], "other\n"),
    ],
)
def test_missing_command_defaults_to_sync(group, arguments, expected):
    assert CliRunner().invoke(group, arguments).stdout == expected


def test_unknown_command_is_reported(group):
    done = CliRunner().invoke(group, ["othr", "--a", "1"])
    assert done.exit_code == 2
    assert "No such command 'othr'" in done.output


def test_closed_pipe_prints_no_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        command = [sys.executable, "-m", "syncer", "sync", "--help"]
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writing)
    assert done.returncode == 1
    assert done.stderr == ""


class TestCompletion:
    """Shell completion, as the scripts of click ask for it."""

    @pytest.fixture
    def complete(self):
        def ask(*words):
            variables = {
                "_SYNCER_COMPLETE": "bash_complete",
                "COMP_WORDS": " ".join(["syncer", *words]),
                "COMP_CWORD": str(len(words)),
            }
            answer = CliRunner().invoke(cli, prog_name="syncer", env=variables)
            return [line.removeprefix("plain,") for line in answer.output.splitlines()]

        return ask

    def test_first_word_is_completed_to_commands(self, complete):
        assert complete("s") == ["save", "serve", "sync"]

    def test_first_option_is_completed_to_options_of_the_default_command(self, complete):
        assert complete("--ver") == ["--version"]
        assert complete("--pro") == ["--proc", "--progress"]

    def test_option_behind_an_option_is_completed(self, complete):
        assert complete("--proc", "6", "--retr") == ["--retries"]

    def test_option_of_a_command_is_completed(self, complete):
        assert complete("serve", "--over") == ["--overlap"]


def test_list_of_commands_has_whole_sentences():
    shown = CliRunner().invoke(cli, ["--help"], terminal_width=80).output
    commands, _, _ = shown.partition("Commands:")[2].partition("Options of the default command")
    assert "sync  " in commands
    assert "..." not in commands


@pytest.mark.parametrize("command", ["sync", "check", "plan", "audit", "serve"])
def test_file_without_an_option_is_refused_with_the_options(command):
    refused = CliRunner().invoke(cli, [command, "images.yaml"])
    assert refused.exit_code == 2
    assert "Unexpected argument 'images.yaml'. Use --images FILE" in refused.stderr


def test_third_argument_of_copy_is_refused_without_these_options():
    refused = CliRunner().invoke(cli, ["copy", "nginx", "there.example/nginx", "other.example/nginx"])
    assert refused.exit_code == 2
    assert "--images" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["sync", "--proc", "many"], "'many' is not a valid whole number."),
        (["sync", "--retries", "1.5"], "'1.5' is not a valid whole number."),
        (["serve", "--jitter", "1m"], "'1m' is not a valid number of seconds."),
    ],
)
def test_text_for_a_number_is_refused_in_plain_words(arguments, told):
    refused = CliRunner().invoke(cli, arguments)
    assert refused.exit_code == 2
    assert told in refused.stderr
