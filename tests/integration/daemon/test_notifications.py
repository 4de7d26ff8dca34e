"""Notifications of a daemon as a process, to a server of the test's own."""

import hashlib
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.corpus import FOR_TESTS, write_corpus
from tests.integration.daemon.conftest import wait_until


class Room(ThreadingHTTPServer):
    """Refuses the first message once, and takes all others."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.answers = [503]
        self.heard: list[tuple[str, str, bytes]] = []


class Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        room = self.server
        assert isinstance(room, Room)
        body = self.rfile.read(int(self.headers["content-length"]))
        status = room.answers.pop() if room.answers else 200
        if status == 200:
            room.heard.append((self.path, self.headers["x-syncer-signature-256"], body))
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def room():
    with Room() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_failures_and_recoveries_are_notified_and_signed(served, registry, room):
    origin, target = registry(), registry()
    repository = write_corpus(origin.storage, FOR_TESTS).repositories[0]
    rule = {f"{origin.host}/{repository}": f"{target.host}/copy"}
    served.write(rule, origin, target)
    secret = served.folder / "secret"
    secret.write_text("key\n")
    target.stop()
    served.start(
        *("--notify", f"http://127.0.0.1:{room.server_port}/services/s3cret"),
        *("--notify-secret-file", str(secret), "--retries", "0", "--state-dir", "state"),
    )
    assert served.run()["outcome"] == "failure"
    wait_until(lambda: len(room.heard) == 1)
    target.start()
    assert served.run()["outcome"] == "success"
    wait_until(lambda: len(room.heard) == 2)
    assert served.run()["outcome"] == "success"
    served.terminate()

    messages = [json.loads(body) for _, _, body in room.heard]
    assert [message["event"] for message in messages] == ["failure", "recovery"]
    assert target.host in messages[0]["text"]
    assert messages[0]["failed"][0]["error"]["kind"] == "connection"
    assert "run succeeded after a failure" in messages[1]["text"]
    for path, signature, body in room.heard:
        assert path == "/services/s3cret"
        assert signature == "sha256=" + hmac.new(b"key", body, hashlib.sha256).hexdigest()
    assert "s3cret" not in served.log
