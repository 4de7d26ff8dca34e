"""Bad usage and invalid files: all problems are printed, the exit code is 2, and no request is sent."""

import pytest

from tests.e2e.jobs import JobFiles
from tests.support.registries import Registry


@pytest.fixture(scope="module")
def listener(scratch):
    started = Registry(folder=scratch / "quiet", storage=scratch / "quiet/storage")
    started.start()
    yield started
    started.close()


@pytest.fixture
def quiet(listener):
    """A registry that must get no request."""
    yield listener
    assert listener.access_log() == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["sync"], "--images FILE is missing"),
        (["sync", "--images", "no-such.json"], "no-such.json"),
        (["sync", "--imagse", "images.json"], "--imagse"),
        (["synk"], "synk"),
        (["sync", "more"], "more"),
        (["--images", "images.json", "--proc", "0"], "--proc"),
        (["--images", "images.json", "--retries", "-1"], "--retries"),
        (["--images", "images.json", "--log-format", "xml"], "--log-format"),
        (["--images", "images.json", "--arch", "a/b/c"], "--arch"),
        (["--images", "images.json", "--config", "images.json"], "--config"),
        (["--images", "images.json", "--log", "no/such/folder/log"], "no/such/folder/log"),
    ],
)
def test_bad_usage_exits_with_2_and_a_reason(quiet, run_syncer, tmp_path, arguments, told):
    (tmp_path / "images.json").write_text(f'{{"{quiet.host}/a": "{quiet.host}/b"}}')

    done = run_syncer(*arguments)

    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["sync", "plan", "check"])
def test_all_problems_of_both_files_are_printed(quiet, run_syncer, tmp_path, command):
    host = quiet.host
    (tmp_path / "auth.json").write_text(
        f'{{"{host}": {{"username": "$NO_SUCH_NAME", "password": 5, "plain_http": "yes"}}}}'
    )
    (tmp_path / "images.json").write_text(
        "{\n"
        f'  "{host}/a": "{host}/a",\n'
        f'  "{host}/b:/(/": "{host}/b",\n'
        f'  "{host}/c:1,2": "{host}/d:1",\n'
        f'  "{host}/e": {{"to": "{host}/f", "platform": []}},\n'
        f'  "{host}/g": "{host}/$NO_SUCH_PLACE"\n'
        "}\n"
    )

    done = run_syncer(command, "--auth", "auth.json", "--images", "images.json")

    assert done.returncode == 2
    problems = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    for told in ("NO_SUCH_NAME", "password", "plain_http", "platform", "NO_SUCH_PLACE", "images.json:3"):
        assert any(told in line for line in problems), f"{told} is not in {done.stderr}"
    assert len(problems) >= 7
    assert done.stderr.splitlines()[-1] == f"{len(problems)} problems; nothing was contacted"


@pytest.mark.parametrize(
    ("ending", "content"), [("json", ""), ("json", '{"r.io/a": '), ("yaml", "- a"), ("yaml", "a: [")]
)
def test_unsupported_file_format_is_reported_with_the_file_name(run_syncer, tmp_path, ending, content):
    (tmp_path / f"images.{ending}").write_text(content)

    done = run_syncer("sync", "--images", f"images.{ending}")

    assert done.returncode == 2, done.stdout + done.stderr
    assert f"images.{ending}" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_of_valid_files_sends_no_request(quiet, run_syncer, tmp_path):
    arguments = JobFiles(tmp_path)({f"{quiet.host}/a": f"{quiet.host}/b"}, quiet)

    done = run_syncer("check", *arguments)

    assert done.returncode == 0, done.stderr
    assert "1 rule: no problems found" in done.stdout


def test_an_unknown_key_of_the_auth_file_is_a_warning(run_syncer, tmp_path):
    (tmp_path / "auth.json").write_text('{"r.io": {"usrname": "a"}}')
    (tmp_path / "images.json").write_text("{}")

    checked = run_syncer("check", "--auth", "auth.json", "--images", "images.json")
    synced = run_syncer("sync", "--auth", "auth.json", "--images", "images.json")

    for done in (checked, synced):
        assert done.returncode == 0
        assert "usrname" in done.stderr
