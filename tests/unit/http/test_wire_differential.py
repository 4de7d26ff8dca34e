"""Differential test: the transport and httpx's own transport agree on generated responses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import anyio
import httpx
from hypothesis import given
from hypothesis import strategies as st

from syncer.http.httpx_transport import HttpxTransport
from syncer.http.wire import ConnectionPool
from tests.support.generated import examples

TOKEN = st.text("abcXYZ-09", min_size=1, max_size=8).map(lambda text: f"X-{text}")
VALUE = st.text("abc =;,/\"'()<>:%é", max_size=20).map(str.strip)
HEADERS = st.lists(st.tuples(TOKEN, VALUE), max_size=4)
BODIES = st.binary(max_size=300)


@st.composite
def framed(draw) -> tuple[str, bytes]:
    """A body, and how it is framed; now and then wrongly."""
    body = draw(BODIES)
    framing = draw(st.sampled_from(["length", "length", "chunked", "chunked", "close", "short", "cut"]))
    if framing == "length":
        return f"Content-Length: {len(body)}\r\n", body
    if framing == "short":
        return f"Content-Length: {len(body) + 1}\r\n", body
    if framing == "close":
        return "", body
    sizes = draw(st.lists(st.integers(1, 50), min_size=1, max_size=5))
    pieces: list[bytes] = []
    rest = body
    while rest:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(b"%x\r\n%b\r\n" % (len(rest[:size]), rest[:size]))
        rest = rest[size:]
    encoded = b"".join(pieces) + (b"" if framing == "cut" else b"0\r\n\r\n")
    return "Transfer-Encoding: chunked\r\n", encoded


@st.composite
def answers(draw) -> tuple[str, bytes]:
    """A method, and what is answered to it."""
    method = draw(st.sampled_from(["GET", "GET", "HEAD", "POST"]))
    status = draw(st.sampled_from([200, 201, 202, 204, 206, 304, 307, 401, 404, 416, 500, 503]))
    version = draw(st.sampled_from(["1.1", "1.1", "1.0"]))
    framing, body = draw(framed())
    if version == "1.0" and "chunked" in framing:
        version = "1.1"  # RFC 9112, section 6.1: what becomes of those is nobody's to say
    if method == "HEAD" or status in {204, 304}:
        body = b""
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"]))
    lines = "".join(f"{name}: {value}\r\n" for name, value in draw(HEADERS))
    head = f"HTTP/{version} {status} Some Words\r\n{lines}{framing}\r\n".encode()
    return method, interim + head + body


@asynccontextmanager
async def answering(answer: bytes, cuts: list[int]) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            marks = sorted({0, len(answer), *(cut % (len(answer) + 1) for cut in cuts)})
            for start, end in pairwise(marks):
                writer.write(answer[start:end])
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v2/"
    finally:
        server.close()
        await server.wait_closed()


async def outcome(transport: httpx.AsyncBaseTransport, method: str, url: str) -> object:
    """Status, headers and body; None where it fails."""
    async with transport:
        try:
            request = httpx.Request(method, url, headers={"Content-Length": "0"} if method == "POST" else {})
            response = await transport.handle_async_request(request)
            assert isinstance(response.stream, httpx.AsyncByteStream)
            try:
                body = b"".join([chunk async for chunk in response.stream])
            finally:
                await response.aclose()
        except httpx.TransportError:
            return None
        headers = [(name.lower(), value) for name, value in response.headers.raw]
        return response.status_code, headers, body


@examples(50)
@given(answers(), st.lists(st.integers(0, 1000), max_size=3))
def test_response_is_parsed_as_httpx_parses_it(asked, cuts):
    method, answer = asked

    async def compare() -> tuple[object, object]:
        async with answering(answer, cuts) as url:
            with anyio.fail_after(30):
                return (
                    await outcome(HttpxTransport(ConnectionPool()), method, url),
                    await outcome(httpx.AsyncHTTPTransport(), method, url),
                )

    ours, theirs = anyio.run(compare)
    assert ours == theirs
