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


def test_new_secrets_are_masked_and_those_of_the_time_before_too(stream):
    with opened(stream) as log:
        for secrets in (["first"], ["second"], ["third"]):
            log.renew(secrets)
        logging.getLogger("syncer.elsewhere").warning("first second third t0ken")
    assert stream.getvalue().endswith("first *** *** ***\n")


def test_a_log_file_is_gone_on_with(stream, tmp_path):
    path = tmp_path / "log"
    with opened(stream, file=path) as log:
        log.tell("one")
        log.renew(["second"])
        log.tell("two")
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["one", "two"]


def test_without_its_folder_it_goes_to_the_stream(stream, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    with opened(stream, file=folder / "log") as log:
        (folder / "log").unlink()
        folder.rmdir()
        log.renew(["second"])
        log.tell("still here")
    assert "cannot be opened" in stream.getvalue()
    assert "still here" in stream.getvalue()


def test_debugging_is_switched_in_mid_run(stream):
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


def test_one_that_tells_everything_from_the_start_can_be_calmed(stream):
    with opened(stream, level="debug") as log:
        log.toggle_debug()
        log.observer().notify(REQUEST)
    assert "/v2/app" not in stream.getvalue()
