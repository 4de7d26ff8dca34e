"""Metrics pushed to a gateway: what it gets, and what is told when it does not."""

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from syncer.events import RunFinished, RunStarted
from syncer.observe.metrics import MetricsObserver, PushFailed


class Gateway(ThreadingHTTPServer):
    """Takes whatever comes, or answers `status`; remembers what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[tuple[str, str, str | None, bytes]] = []
        self.status, self.said, self.location = 200, b"", ""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        gateway = self.server
        assert isinstance(gateway, Gateway)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        gateway.asked.append((self.command, self.path, self.headers.get("authorization"), body))
        self.send_response(gateway.status)
        if gateway.location:
            self.send_header("Location", gateway.location)
        self.send_header("Content-Length", str(len(gateway.said)))
        self.end_headers()
        self.wfile.write(gateway.said)

    do_GET = do_PUT = do_POST  # noqa: N815 - http.server's names

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def gateway(monkeypatch) -> Iterator[Gateway]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Gateway() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def observer() -> MetricsObserver:
    observer = MetricsObserver(now=lambda: 1000.0)
    observer.notify(RunStarted("1", "cli", 1))
    observer.notify(RunFinished("1", "cli", "failure", 1.0))
    return observer


def test_a_push_adds_to_the_group_and_leaves_other_names_alone(gateway, observer):
    observer.push(f"http://{gateway.address}")
    ((method, path, authorization, body),) = gateway.asked
    assert (method, path, authorization) == ("POST", "/metrics/job/image-syncer", None)
    assert body == observer.render()
    assert b"last_success" not in body


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("{address}", "/metrics/job/image-syncer/shard/3"),
        ("http://{address}/", "/metrics/job/image-syncer/shard/3"),
        ("http://{address}/push/", "/push/metrics/job/image-syncer/shard/3"),
    ],
)
def test_a_share_has_a_group_of_its_own(gateway, observer, url, path):
    observer.push(url.format(address=gateway.address), shard="3")
    assert gateway.asked[0][1] == path


def test_credentials_of_the_url_are_sent_and_not_part_of_the_path(gateway, observer):
    observer.push(f"http://robot%40ci:s3%2Fcret@{gateway.address}")
    _, path, authorization, _ = gateway.asked[0]
    assert path == "/metrics/job/image-syncer"
    assert authorization == "Basic " + base64.b64encode(b"robot@ci:s3/cret").decode()


def test_a_refusal_is_told_with_the_gateways_words_and_without_the_password(gateway, observer):
    gateway.status, gateway.said = 400, b"pushed metrics are invalid\nmore"
    with pytest.raises(PushFailed) as error:
        observer.push(f"http://robot:s3cret@{gateway.address}")
    assert str(error.value) == (
        f"cannot push metrics to http://{gateway.address}: 400 Bad Request (pushed metrics are invalid)"
    )


def test_the_password_follows_no_redirect(gateway, observer):
    gateway.status, gateway.location = 302, f"http://{gateway.address}/elsewhere"
    with pytest.raises(PushFailed, match="302"):
        observer.push(f"http://robot:s3cret@{gateway.address}")
    assert len(gateway.asked) == 1


def test_a_gateway_that_is_not_there_is_told_as_such(observer):
    with Gateway() as closed:
        address = closed.address
    with pytest.raises(PushFailed, match=f"cannot push metrics to http://{address}: .*refused") as error:
        observer.push(f"http://robot:s3cret@{address}")
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    "url", ["ftp://robot:s3cret@host", "http://", "http://robot:s3cret@host:port", "http://[s3cret"]
)
def test_invalid_address_is_an_error_without_its_secrets(observer, url):
    with pytest.raises(PushFailed, match=r"cannot push metrics: .*http://host:9091") as error:
        observer.push(url)
    assert "s3cret" not in str(error.value)
