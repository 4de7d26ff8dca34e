"""Signals, files that change, locks: the daemon as a process."""

import json
import signal
import subprocess
import sys
import time

import pytest

from tests.integration.daemon.conftest import wait_until

NOWHERE = {"127.0.0.1:1/app:1": "127.0.0.1:1/copy"}
OTHER = {"127.0.0.1:1/other:1": "127.0.0.1:1/copy"}
PLAIN = {"127.0.0.1:1": {"plain_http": True}}


@pytest.fixture
def idle(served):
    """A daemon that has nothing to do: its registry does not exist."""
    served.auth.write_text(json.dumps(PLAIN))
    served.images.write_text(json.dumps(NOWHERE))
    return served


def sources(served):
    return [rule["source"] for rule in served.get("/api/v1/status")["rules"]]


def test_changed_files_are_reloaded_and_invalid_ones_ignored(idle):
    idle.start()
    idle.images.write_text(json.dumps(OTHER))
    wait_until(lambda: sources(idle) == ["127.0.0.1:1/other:1"])

    idle.images.write_text('{"127.0.0.1:1/app": 7}')
    idle.signal(signal.SIGHUP)
    problems = wait_until(lambda: idle.get("/api/v1/status")["files"]["problems"])
    assert "images.json" in problems[0]
    assert sources(idle) == ["127.0.0.1:1/other:1"]
    assert idle.status_of("/readyz") == 200
    assert "still using the version loaded at" in idle.log

    idle.images.write_text(json.dumps(NOWHERE))
    idle.signal(signal.SIGHUP)
    wait_until(lambda: sources(idle) == ["127.0.0.1:1/app:1"])
    assert idle.get("/api/v1/status")["files"]["problems"] == []
    assert idle.terminate() < 5


def test_the_log_level_is_switched_by_a_signal(idle):
    idle.start("--retries", "0")
    idle.signal(signal.SIGUSR1)
    wait_until(lambda: "log level set to debug" in idle.log)
    idle.run()
    assert " DEBUG " in idle.log
    idle.signal(signal.SIGUSR1)
    wait_until(lambda: "log level set to info" in idle.log)
    before = idle.log.count(" DEBUG ")
    idle.run()
    assert idle.log.count(" DEBUG ") == before
    idle.terminate()


def test_log_file_is_opened_again_by_a_signal(idle):
    path = idle.folder / "daemon.log"
    process = idle.program.start("serve", "--listen", "127.0.0.1:0", *idle.arguments("--log", str(path)))
    wait_until(lambda: path.exists() and "no --schedule is set" in path.read_text())
    path.rename(idle.folder / "daemon.log.1")
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: path.exists() and "reloading the configuration" in path.read_text())
    process.terminate()
    assert process.wait(timeout=40) == 0
    assert "stopped" in path.read_text()


def test_logs_are_lines_of_json_with_the_run(idle):
    idle.start("--log-format", "json", "--retries", "0")
    run = idle.run()
    wait_until(lambda: '"run finished"' in idle.log)
    lines = [json.loads(line) for line in idle.log.splitlines()]
    failed = next(line for line in lines if line["event"] == "image failed")
    assert failed["run"] == run["id"]
    assert failed["source"] == "127.0.0.1:1/app:1"
    idle.terminate()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_other_signals_during_exit_leave_the_exit_code(idle, number):
    idle.start()
    idle.signal(signal.SIGTERM)
    while idle.process.poll() is None:
        idle.signal(number)
        time.sleep(0.001)
    assert idle.process.wait() == 0


def test_second_signal_ends_daemon_immediately(idle, registry):
    # A registry that takes requests and never answers holds the run.
    slow = registry()
    slow.process.send_signal(signal.SIGSTOP)
    idle.auth.write_text(json.dumps({slow.host: {"plain_http": True}}))
    idle.images.write_text(json.dumps({f"{slow.host}/app:1": f"{slow.host}/copy"}))
    idle.start("--run-on-start")
    wait_until(lambda: idle.get("/api/v1/status")["run"])
    idle.signal(signal.SIGTERM)
    wait_until(lambda: "send it again to stop immediately" in idle.log)
    assert idle.status_of("/readyz") == 503
    assert idle.status_of("/healthz") == 200
    idle.signal(signal.SIGTERM)
    assert idle.process.wait(timeout=5) == 0


def test_hanging_run_ends_within_stop_deadline(idle, registry):
    """Kubernetes kills after thirty seconds."""
    slow = registry()
    slow.process.send_signal(signal.SIGSTOP)
    idle.auth.write_text(json.dumps({slow.host: {"plain_http": True}}))
    idle.images.write_text(json.dumps({f"{slow.host}/app:1": f"{slow.host}/copy"}))
    idle.options = ["--state-dir", "state"]
    idle.start("--run-on-start")
    run = wait_until(lambda: idle.get("/api/v1/status")["run"])
    assert idle.terminate() < 25.5
    idle.start()
    assert [(each["id"], each["outcome"]) for each in idle.runs] == [(run["id"], "interrupted")]
    assert "marked as interrupted" not in idle.log.split("listening")[-1]
    idle.terminate()


def test_two_daemons_do_not_share_a_state_folder(idle, run_syncer):
    idle.options = ["--state-dir", "state"]
    idle.start()
    second = run_syncer("serve", "--listen", "127.0.0.1:0", *idle.arguments())
    assert second.returncode == 2
    assert f"another daemon (process {idle.process.pid}) works with the state folder state" in second.stderr
    idle.terminate()


def test_one_shot_is_refused_during_daemon_run(idle, registry, run_syncer):
    slow = registry()
    slow.process.send_signal(signal.SIGSTOP)
    idle.auth.write_text(json.dumps({slow.host: {"plain_http": True}}))
    idle.images.write_text(json.dumps({f"{slow.host}/app:1": f"{slow.host}/copy"}))
    idle.options = ["--state-dir", "state"]
    idle.start()
    arguments = ["sync", "--retries", "0", *idle.arguments()]
    run_id = idle.post("/api/v1/runs").json()["id"]
    refused = run_syncer(*arguments)
    assert refused.returncode == 2
    assert "another run (process" in refused.stderr

    slow.process.send_signal(signal.SIGCONT)
    idle.ended(run_id)
    wait_until(lambda: run_syncer(*arguments).returncode == 1)  # no such image: but it worked
    idle.terminate()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--schedule", "* * *"], "expected five fields"),
        (["--schedule", "0 0 31 2 *"], "never comes"),
        (["--timezone", "Europe/Nowhere"], "unknown time zone"),
        (["--listen", "8080"], "expected HOST:PORT"),
        (["--listen", "127.0.0.1:99999"], "expected HOST:PORT"),
        (["--listen", "192.0.2.1:8080"], "cannot listen on 192.0.2.1:8080"),
        (["--api-token-file", "missing"], "cannot read missing"),
        (["--notify-on", "failure,never"], "found 'never'"),
        (["--notify", "hooks.example/s3cret"], "expected a URL"),
    ],
)
def test_bad_usage_exits_with_2(idle, run_syncer, options, message):
    done = run_syncer("serve", *idle.arguments(), *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert "s3cret" not in done.stderr


def test_port_in_use_is_reported(idle, run_syncer):
    idle.start()
    second = run_syncer("serve", "--listen", idle.url.removeprefix("http://"), *idle.arguments())
    assert second.returncode == 2
    assert "cannot listen on" in second.stderr
    idle.terminate()


def test_invalid_files_are_reported_at_start(idle, run_syncer):
    idle.images.write_text("{")
    done = run_syncer("serve", "--listen", "127.0.0.1:0", *idle.arguments())
    assert done.returncode == 2
    assert "images.json" in done.stderr


def test_a_corrupt_state_is_set_aside(idle):
    (idle.program.folder / "state").mkdir()
    (idle.program.folder / "state/syncer.db").write_bytes(b"no database" * 1000)
    idle.options = ["--state-dir", "state"]
    idle.start()
    assert "set aside as syncer.db.corrupt-" in idle.log
    assert idle.runs == []
    idle.terminate()


def test_start_requires_api_token(idle):
    token = idle.folder / "token"
    token.write_text("s3cret\n")
    idle.start("--api-token-file", str(token), "--retries", "0")
    assert idle.post("/api/v1/runs").status_code == 401
    assert idle.post("/api/v1/runs", authorization="Bearer s3cret").status_code == 202
    token.write_text("another\n")
    assert idle.post("/api/v1/runs", authorization="Bearer s3cret").status_code == 401
    assert "s3cret" not in idle.log
    idle.terminate()


def test_other_commands_do_not_load_what_only_the_daemon_needs():
    script = (
        "import sys, syncer.cli.main, syncer.cli.once, syncer.cli.check\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & set(sys.argv[1:])))"
    )
    names = ["starlette", "uvicorn", "jinja2", "croniter", "prometheus_client", "sqlite3"]
    done = subprocess.run([sys.executable, "-c", script, *names], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
