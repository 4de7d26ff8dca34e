"""The program as a process: closed and full streams, empty options, and signals during startup."""

import json
import shlex
import signal
import subprocess
import sys

import pytest

from syncer.cli import exits


@pytest.fixture
def shell(tmp_path):
    """Run a shell line: `$SYNC` is a run with nothing to do, `$FAIL` one whose image fails, `$SERVE` the daemon."""
    (tmp_path / "images.json").write_text("{}")
    (tmp_path / "failing.json").write_text(json.dumps({"127.0.0.1:1/a:1": "127.0.0.1:1/b"}))
    python = shlex.quote(sys.executable)

    def run(line):
        names = f"SERVE='{python} -m syncer serve --listen 127.0.0.1:0 --images images.json'"
        names += f" SYNC='{python} -m syncer --images images.json' FAIL='{python} -m syncer --retries 0 --images failing.json'"
        return subprocess.run(
            ["sh", "-c", f"{names}; {line}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams_leave_the_exit_code_to_the_outcome(shell, closed):
    assert shell(f"$SYNC {closed}").returncode == exits.DONE
    failed = shell(f"$FAIL {closed}")
    assert failed.returncode == exits.FAILED
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize("target", ["--log /dev/full", "--report /dev/full", "> /dev/full", "2> /dev/full"])
def test_a_full_disk_leaves_the_exit_code_to_the_outcome(shell, target):
    done = shell(f"$SYNC {target}")
    assert done.returncode == exits.DONE
    failed = shell(f"$FAIL {target}")
    assert failed.returncode == exits.FAILED
    assert "Traceback" not in failed.stderr
    if target != "2> /dev/full":
        assert "No space left on device" in failed.stderr


def test_plan_on_a_full_disk_leaves_the_exit_code_to_the_outcome(shell):
    planned = shell("$FAIL --dry-run > /dev/full")
    assert planned.returncode == exits.FAILED
    assert "error: cannot write to standard output: No space left on device" in planned.stderr


@pytest.mark.parametrize("line", ["--help", "--version", "sync --help"])
def test_help_on_a_full_disk_is_told_in_one_line(shell, line):
    done = shell(f"{shlex.quote(sys.executable)} -m syncer {line} > /dev/full")
    assert done.returncode == exits.FAILED
    assert done.stderr == "error: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("command", ["$SYNC", "$SERVE"])
def test_state_folder_that_cannot_be_written_is_named(shell, command):
    unwritable = shell(f"ulimit -f 0; {command} --state-dir state")
    assert unwritable.returncode == exits.UNUSABLE
    assert "error: the state folder state cannot be used: File too large" in unwritable.stderr


@pytest.mark.parametrize("progress", ["plain", "bar", "none"])
def test_a_full_log_beside_progress_is_told_once(shell, progress):
    failed = shell(f"$FAIL --log /dev/full --progress {progress}")
    assert failed.returncode == exits.FAILED
    assert failed.stderr.count("cannot write to the log file: No space left on device") == 1
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize("around", ["ulimit -n 64;", "unset HOME;", "export HOME=/nonexistent;"])
def test_few_descriptors_and_no_home_leave_the_exit_code_to_the_outcome(shell, around):
    assert shell(f"{around} $SYNC").returncode == exits.DONE
    failed = shell(f"{around} $FAIL")
    assert failed.returncode == exits.FAILED
    assert "Traceback" not in failed.stderr


def test_empty_variables_count_as_unset(shell):
    names = "PROC AUTH LOG OS ARCH FORCE ATTESTATIONS REGISTRY NAMESPACE DRY_RUN SHARD SHARDS PROGRESS LOG_LEVEL LOG_FORMAT"
    empty = " ".join(f"SYNCER_{name}=" for name in names.split())
    done = shell(f"env {empty} $SYNC")
    assert done.returncode == exits.DONE, done.stderr


def test_unwritable_log_file_ends_the_run_before_any_request(shell):
    done = shell("$FAIL --log missing/log")
    assert done.returncode == exits.UNUSABLE
    assert done.stderr.startswith("error: the log file")


def test_failed_images_are_followed_by_the_final_line_on_stdout(shell):
    failed = shell("$FAIL")
    assert failed.stdout == "failed tasks exist\n"
    assert failed.stderr.splitlines()[-1].startswith("Synchronization finished, 1 tasks failed, cost ")
    assert shell("$SYNC").stdout == ""


def test_empty_option_values_count_as_unset(shell):
    done = shell(
        "$SYNC --auth= --arch= --os= --log= --proc= --report= --metrics-push= --state-dir= --shard="
        " --attestations= --registry= --namespace= --config= --log-level= --progress="
    )
    assert done.returncode == exits.DONE, done.stderr


def test_empty_option_value_keeps_the_variable(shell):
    done = shell("export SYNCER_PROC=0; $SYNC --proc=")
    assert done.returncode == exits.UNUSABLE
    assert "0 is not in the range" in done.stderr


def test_bad_file_is_reported_as_json_if_the_log_is_json(shell, tmp_path):
    (tmp_path / "images.json").write_text('{"a": 5, "b": 6}')
    done = shell("$SYNC --log-format json")
    assert done.returncode == exits.UNUSABLE
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in lines] == ["error", "error"]
    assert all("images.json:1" in line["message"] for line in lines)


def test_help_without_a_command_shows_the_options_of_sync(shell):
    done = shell(f"{shlex.quote(sys.executable)} -m syncer --help")
    assert "--output-failed-images" in done.stdout
    assert "Commands:" in done.stdout


def test_signal_handler_is_installed_before_imports():
    code = (
        "import signal, sys; before = set(sys.modules)\n"
        "from syncer.cli import process; process.prepare()\n"
        "assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL\n"
        "print(*sorted(name for name in set(sys.modules) - before if not name.startswith('syncer')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"click", "logging", "re", "typing"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("command", "code"), [("sync", exits.STOPPED), ("serve", exits.DONE)])
def test_signal_during_startup_ends_the_program(tmp_path, command, code, number):
    (tmp_path / "slow.py").write_text("import time; print('loading', flush=True); time.sleep(30)")
    program = "import sys; sys.argv = ['syncer', sys.argv[1]]; from syncer.cli import process; process.prepare(); import slow"
    running = subprocess.Popen(
        [sys.executable, "-c", program, command], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == "loading\n"
        running.send_signal(number)
        assert running.wait(timeout=20) == code
    finally:
        running.kill()
        running.wait()
        if running.stdout is not None:
            running.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_signal_that_a_daemon_handles_does_not_end_its_startup(tmp_path, number):
    (tmp_path / "slow.py").write_text("print('loading', flush=True); input()")
    program = "import sys; sys.argv = ['syncer', 'serve']; from syncer.cli import process; process.prepare(); import slow"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "loading\n"
        running.send_signal(number)
        running.communicate("go on\n", timeout=20)
        assert running.returncode == 0
