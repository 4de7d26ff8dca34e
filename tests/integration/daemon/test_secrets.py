"""Secrets of a daemon: who may read it, where they are kept, and that nothing it tells has one in it."""

import base64
import http.server
import json
import threading
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.integration.daemon.conftest import wait_until
from tests.support.plain_http import NO_AUTHORITIES

PASSWORD = "Sw0rdf/ish&co"
PAIR = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
ROOM = "/services/T000/r00m-s3cret"


class Handler(http.server.BaseHTTPRequestHandler):
    """A registry that repeats what it was sent, and a chat room that takes messages."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        sent = self.headers.get("authorization")
        if sent is None:
            self.answer(401, {"www-authenticate": 'Basic realm="x"'}, b"{}")
        else:
            errors = [{"code": "DENIED", "message": f"not with {sent}, that is {PASSWORD}"}]
            self.answer(403, {}, json.dumps({"errors": errors}).encode())

    def do_HEAD(self):
        if self.headers.get("authorization") is None:
            self.do_GET()
        else:
            self.answer(405, {}, b"")  # so that GET is tried, whose answer has a text

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        assert isinstance(self.server, Outside)
        self.server.messages.append((self.path, body.decode()))
        self.answer(200, {}, b"")

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


class Outside(http.server.ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.messages: list[tuple[str, str]] = []
        self.host = f"127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def outside():
    """The registry and the chat room, on one address."""
    server = Outside()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def echoing(served, outside, tmp_path):
    """A daemon whose registry sends the password back, with a chat room of `--notify-file`."""
    served.auth.write_text(
        json.dumps({outside.host: {"username": "me", "password": PASSWORD, "plain_http": True}})
    )
    served.images.write_text(json.dumps({f"{outside.host}/app:1": f"{outside.host}/copy"}))
    rooms = tmp_path / "rooms"
    rooms.write_text(f"# where failures are told\n\n  http://{outside.host}{ROOM}  \n")
    served.options = ["--retries", "0", "--notify-file", str(rooms), "--log-level", "debug"]
    return served


def test_echoed_password_appears_in_no_output(echoing, outside):
    echoing.start()
    run = echoing.run()
    assert run["outcome"] == "failure"
    ((path, message),) = wait_until(lambda: outside.messages)
    assert path == ROOM
    told = [message, echoing.log]
    for each in ("/", "/runs", f"/runs/{run['id']}", "/api/v1/status", "/api/v1/runs", "/metrics"):
        told.append(httpx.get(echoing.url + each, trust_env=False, verify=NO_AUTHORITIES).text)
    told.append(
        httpx.get(f"{echoing.url}/api/v1/runs/{run['id']}", trust_env=False, verify=NO_AUTHORITIES).text
    )
    assert "that is ***" in told[-1]
    for text in told:
        assert PASSWORD not in text
        assert PASSWORD.replace("&", "&amp;") not in text
        assert PAIR not in text


def test_url_of_notify_file_is_not_in_process_list_or_log(echoing):
    echoing.start()
    command = Path(f"/proc/{echoing.process.pid}/cmdline").read_bytes()
    assert b"--notify-file" in command
    assert b"r00m-s3cret" not in command
    echoing.run()
    assert "r00m-s3cret" not in echoing.log


@pytest.mark.parametrize("content", ["ftp://r00m-s3cret", "https://ok.example/\nr00m-s3cret", "# none\n \0"])
def test_invalid_notify_file_exits_with_2_and_is_not_shown(served, tmp_path, content):
    served.write({})
    rooms = tmp_path / "rooms"
    rooms.write_text(content)
    done = served.program.run(
        "serve", *served.arguments("--listen", "127.0.0.1:0", "--notify-file", str(rooms))
    )
    assert done.returncode == 2
    assert "--notify-file" in done.stderr
    assert "s3cret" not in done.stderr


def test_reading_requires_token_and_new_token_applies_at_once(served, tmp_path):
    token = tmp_path / "read-token"
    token.write_text("first\n")
    served.write({})
    served.start("--api-read-token-file", str(token))

    def status(shown, path="/api/v1/status"):
        headers = {"authorization": f"Bearer {shown}"} if shown else {}
        return httpx.get(
            served.url + path, headers=headers, timeout=30, trust_env=False, verify=NO_AUTHORITIES
        ).status_code

    assert status("first") == 200
    assert status("") == status("wrong") == 401
    assert status("", "/healthz") == status("", "/readyz") == 200
    assert status("", "/metrics") == status("", "/") == 401
    token.write_text("second\n")
    assert status("second") == 200
    assert status("first") == 401
    assert "wrong token from 127.0.0.1" in served.log
    assert "first" not in served.log


class Hanging(http.server.BaseHTTPRequestHandler):
    """A registry that takes requests and never answers."""

    def handle(self):
        with suppress(OSError):
            while self.connection.recv(65536):
                pass


@pytest.fixture
def hanging():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hanging)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_hanging_registry_does_not_block_later_runs(served, hanging):
    served.auth.write_text(json.dumps({hanging: {"plain_http": True}}))
    served.images.write_text(json.dumps({f"{hanging}/app:1": f"{hanging}/copy"}))
    served.start("--schedule", "* * * * * *", "--max-run-time", "1s")
    (ended,) = wait_until(lambda: [run for run in served.runs if run["outcome"]])
    assert ended["outcome"] == "interrupted"
    wait_until(lambda: [run for run in served.runs if run["id"] != ended["id"]])
    assert served.status_of("/readyz") == 200
