"""Clients that send half a request, read nothing, or open more than their share."""

import contextlib
import http.client
import socket

import pytest

from tests.integration.daemon.conftest import wait_until

HALF = {
    "nothing": b"",
    "half a line": b"GET /api",
    "half a head": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ",
    "half a body": b"POST /api/v1/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nhalf",
    "body of a GET": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nhalf",
    "open stream": b"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
}


@pytest.fixture
def daemon(served):
    served.write({})
    return served.start()


@pytest.fixture
def connect(daemon):
    """`connect(text)` opens a connection and sends that."""
    host, _, port = daemon.url.removeprefix("http://").partition(":")
    with contextlib.ExitStack() as stack:

        def open_one(text, *, receive_buffer=None):
            client = stack.enter_context(socket.socket())
            if receive_buffer:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            client.settimeout(60)
            client.connect((host, int(port)))
            with contextlib.suppress(OSError):
                client.sendall(text)
            return client

        yield open_one


def probe(daemon, path="/healthz"):
    host, _, port = daemon.url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("text", HALF.values(), ids=HALF)
def test_probes_are_answered_beside_a_thousand_half_open_requests(daemon, connect, text):
    for number in range(1000):
        connect(text)
        if number % 250 == 249:
            assert [probe(daemon, path) for path in ("/healthz", "/readyz", "/metrics", "/")] == [200] * 4


def closed(client):
    """Whether the other side has ended the connection."""
    try:
        return client.recv(65536) == b""
    except ConnectionError:
        return True


def test_incomplete_requests_are_dropped(connect):
    """All at once, and one of them slowly: the deadlines of the daemon run side by side."""
    clients = {name: connect(text) for name, text in HALF.items() if name != "open stream"}
    slow = connect(HALF["half a head"])
    slow.settimeout(0.05)

    def ended():
        try:
            slow.sendall(b"x")
            return slow.recv(1) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    wait_until(ended)
    for name, client in clients.items():
        try:
            while not closed(client):
                pass
        except TimeoutError:
            pytest.fail(f"still open: {name}")


def test_unread_responses_are_dropped(daemon, connect):
    many = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 500
    for _ in range(200):
        connect(many, receive_buffer=4096)
    assert probe(daemon) == 200


def test_connection_of_other_peer_survives_flood(daemon):
    """Loopback has many addresses: one of them floods, another one is in the middle of a request."""
    host, _, port = daemon.url.removeprefix("http://").partition(":")
    with contextlib.ExitStack() as stack:

        def connect_from(address):
            client = stack.enter_context(socket.socket())
            client.settimeout(30)
            client.bind((address, 0))
            client.connect((host, int(port)))
            return client

        calm = connect_from("127.0.0.2")
        calm.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        for _ in range(300):
            connect_from("127.0.0.3")
        calm.sendall(b"\r\n")
        assert calm.recv(1024).startswith(b"HTTP/1.1 200")


def test_dropped_connections_are_logged(daemon, connect):
    for _ in range(300):
        connect(b"GET /")
    wait_until(lambda: "connections dropped" in daemon.log)
