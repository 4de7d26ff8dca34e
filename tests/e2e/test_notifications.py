"""Messages of commands that end: what is sent, when, and what a failure to send changes."""

import json

import pytest

from tests.e2e.jobs import last_line
from tests.support.chat import chat_server

SECRET = "Atoken-s3cret"


@pytest.fixture
def chat():
    with chat_server() as server:
        yield server


@pytest.fixture
def job(registry, files, fill):
    """The arguments of a job of three images, and the destination."""
    source, destination = registry(), registry()
    rules = fill(source).rules(source.host, destination.host)
    return [*files(rules, source, destination), "--retries", "0"], destination


def test_failures_are_named_once_and_then_the_recovery(job, run_syncer, tmp_path, chat):
    arguments, destination = job
    (tmp_path / "urls").write_text(f"# the room of the team\ngotify://{chat.host}/{SECRET}\n")
    options = ["--notify-file", tmp_path / "urls", "--external-url", "https://mirror.example/"]
    options += ["--state-dir", tmp_path / "state"]

    destination.stop()
    done = [run_syncer(command, *arguments, *options) for command in ("plan", "sync", "sync")]
    destination.start()
    done += [run_syncer(command, *arguments, *options) for command in ("sync", "audit")]

    assert [each.returncode for each in done] == [1, 1, 1, 0, 0]
    first, second = [json.loads(taken.body) for taken in chat.taken]
    assert first["title"] == "image-syncer: 3 of 3 images failed"
    assert destination.host in first["message"]
    assert "(new)" in first["message"]
    assert first["message"].endswith("\nhttps://mirror.example")
    assert second["title"] == "image-syncer: run succeeded after a failure"
    assert second["message"].startswith("3 images that failed before are fine now\n")
    for each in done:
        assert SECRET not in each.stdout + each.stderr
    # Scripts look for the last line of the log.
    assert "Synchronization finished" in last_line(done[3].stderr)


def test_message_that_cannot_be_sent_leaves_the_exit_status_alone(job, run_syncer, chat):
    arguments, _ = job
    chat.answers = [403] * 10
    url = f"http://{chat.host}/hook/{SECRET}"

    done = run_syncer("sync", *arguments, "--notify", url, "--notify-on", "success")

    assert done.returncode == 0
    assert f"notification to http://{chat.host}/… failed: status 403" in done.stderr
    assert SECRET not in done.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--notify", f"ftp://{SECRET}"], "does not know ftp://"),
        (["--notify", SECRET], "expected a URL such as https://host/path or lark://TOKEN"),
        (["--notify-on", "sometimes"], "expected one or more of success, failure"),
        (["--external-url", "mirror.example"], "expected a URL such as https://mirror.example.com"),
        (["--external-url", f"https://user:{SECRET}@mirror.example"], "expected a URL such as"),
        (["--notify-file", "missing"], "cannot read missing: No such file or directory"),
    ],
)
def test_wrong_option_ends_the_program_before_it_starts(run_syncer, tmp_path, options, told):
    (tmp_path / "images.json").write_text("{}")
    done = run_syncer("sync", "--images", tmp_path / "images.json", *options)
    assert done.returncode == 2
    assert told in " ".join(done.stderr.split())
    assert SECRET not in done.stderr
