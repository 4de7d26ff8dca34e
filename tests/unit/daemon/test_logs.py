"""The daemon's log: secrets that change stay masked, the level is switched in mid-run."""

import io
import logging

import pytest

from syncer.daemon.logs import DaemonLog
from syncer.events import RequestSent, RunStarted
from syncer.observe.progress import Progress

REQUEST = RequestSent("quay.io", "GET", "manifest", "/v2/app/manifests/1", 200, 0.1)


@pytest.fixture
def stream():
    return io.StringIO()


def opened(stream, *, file=None, level="info"):
    return DaemonLog(
        level=level,
        format_="text",
        file=file,
        stream=Progress(stream),
        own_secrets=["t0ken"],
        secrets=["first"],
        bind={},
    )


def test_new_and_previous_secrets_are_masked(stream):
    with opened(stream) as log:
        for secrets in (["first"], ["second"], ["third"]):
            log.renew(secrets)
        logging.getLogger("syncer.elsewhere").warning("first second third t0ken")
    assert stream.getvalue().endswith("first *** *** ***\n")


def test_log_file_is_appended_after_reload(stream, tmp_path):
    path = tmp_path / "log"
    with opened(stream, file=path) as log:
        log.tell("one")
        log.renew(["second"])
        log.tell("two")
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["one", "two"]


def test_renamed_log_file_is_created_again_after_reopening(stream, tmp_path):
    path = tmp_path / "log"
    with opened(stream, file=path) as log:
        run = log.observer()
        path.rename(tmp_path / "log.1")
        log.reopen()
        run.notify(RunStarted("1", "api", 1))
        log.tell("two")
    assert (tmp_path / "log.1").read_text() == ""
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["rule", "two"]


def test_log_file_that_cannot_be_opened_again_stays_in_use(stream, tmp_path):
    path, kept = tmp_path / "log", tmp_path / "log.1"
    with opened(stream, file=path) as log:
        path.rename(kept)
        path.mkdir()
        log.reopen()
        log.tell("still here")
    assert "cannot be opened for writing" in kept.read_text()
    assert "still here" in kept.read_text()


def test_log_on_a_stream_is_not_reopened(stream):
    with opened(stream) as log:
        log.reopen()
        log.tell("one")
    assert stream.getvalue().endswith("one\n")


def test_log_without_folder_falls_back_to_stream(stream, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    with opened(stream, file=folder / "log") as log:
        (folder / "log").unlink()
        folder.rmdir()
        log.renew(["second"])
        log.tell("still here")
    assert "cannot be opened" in stream.getvalue()
    assert "still here" in stream.getvalue()


def test_debug_is_toggled_during_run(stream):
    with opened(stream) as log:
        observer = log.observer()
        observer.notify(RunStarted("r", "api", 1))
        observer.notify(REQUEST)
        log.toggle_debug()
        observer.notify(REQUEST)
        log.toggle_debug()
        observer.notify(REQUEST)
    assert stream.getvalue().count("GET quay.io/v2/app/manifests/1") == 1
    assert observer.requests == 3
    assert "log level set to info" in stream.getvalue()


def test_debug_level_is_toggled_to_info(stream):
    with opened(stream, level="debug") as log:
        log.toggle_debug()
        log.observer().notify(REQUEST)
    assert "/v2/app" not in stream.getvalue()
