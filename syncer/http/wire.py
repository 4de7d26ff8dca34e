"""The wire: an httpx transport over an aiohttp session.

httpx is how the program speaks of requests; aiohttp moves the bytes, at a third of the CPU over TLS. Nothing
here knows of registries. Bodies come as they arrive and as they are: nothing is decompressed, no cookie is kept.
"""

import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import cache
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
import yarl

Transport = httpx.AsyncBaseTransport
"""What sends requests: this, or httpx's `MockTransport` in a test."""

READ_BUFFER = 256 * 1024
"""Bytes read ahead of whoever takes them, for each connection."""

CONNECT_SECONDS = 15.0
READ_SECONDS = 60.0
"""How long a peer may be silent once the request is out."""

_OWN_HEADERS = frozenset({"accept-encoding", "user-agent", "content-type", "accept"})


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends httpx requests through one aiohttp session.

    A request may carry extensions: `ssl` (an `ssl.SSLContext`, for an https URL), `read_seconds`, and httpx' own
    `target` (what stands behind the URL's origin).
    Proxies are taken from the environment (`HTTPS_PROXY`, `NO_PROXY`).
    """

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # The hosts' own limits bound the connections: no second bound here, which would deadlock with them.
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=READ_BUFFER,
                skip_auto_headers=_OWN_HEADERS,
                # It would read ~/.netrc too, and in a thread for every request.
                trust_env=False,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS
                ),
            )
        return self._session

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        extensions = request.extensions
        content = request.stream
        body = content if isinstance(content, _Chunks) else request.content or None
        options: dict[str, object] = {}
        if "read_seconds" in extensions:
            options["timeout"] = aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_SECONDS, sock_read=extensions["read_seconds"]
            )
        with _as_httpx_errors(request):
            response = await self._open().request(
                request.method,
                yarl.URL(_url(request), encoded=True),
                headers=request.headers.multi_items(),
                data=body.chunks if isinstance(body, _Chunks) else body,
                allow_redirects=False,
                proxy=_proxy_for(request.url.scheme, request.url.netloc.decode("ascii")),
                ssl=extensions.get("ssl", True),
                **options,  # type: ignore[arg-type]
            )
        return httpx.Response(
            response.status, headers=response.raw_headers, stream=_Body(response, request), request=request
        )

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


@cache
def _proxy_for(scheme: str, netloc: str) -> str | None:
    """The proxy that the environment names for a host, its credentials in the URL."""
    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or proxy_bypass(netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _url(request: httpx.Request) -> str:
    target: bytes | None = request.extensions.get("target")
    if target is None:
        return str(request.url)
    return f"{request.url.scheme}://{request.url.netloc.decode('ascii')}{target.decode('ascii')}"


class _Chunks(httpx.AsyncByteStream):
    """A request body that is made while it is sent. Its length is known and set as a header."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self.chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.chunks


def streamed(chunks: AsyncIterator[bytes]) -> httpx.AsyncByteStream:
    """A request body of chunks; the caller sets `Content-Length`."""
    return _Chunks(chunks)


class _Body(httpx.AsyncByteStream):
    """A response body, chunk by chunk as the socket gives it."""

    def __init__(self, response: aiohttp.ClientResponse, request: httpx.Request) -> None:
        self._response = response
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx_errors(self._request):
            async for chunk in self._response.content.iter_any():
                yield chunk

    async def aclose(self) -> None:
        # A body that was read to its end gives its connection back; any other closes it.
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


@contextmanager
def _as_httpx_errors(request: httpx.Request) -> Iterator[None]:
    try:
        yield
    except (aiohttp.ConnectionTimeoutError, aiohttp.ServerTimeoutError) as error:
        timeout = (
            httpx.ConnectTimeout if isinstance(error, aiohttp.ConnectionTimeoutError) else httpx.ReadTimeout
        )
        raise timeout(str(error) or "no answer in time", request=request) from error
    except TimeoutError as error:
        raise httpx.ReadTimeout("no answer in time", request=request) from error
    except (aiohttp.ClientConnectorError, aiohttp.ClientProxyConnectionError) as error:
        raise httpx.ConnectError(_reason(error), request=request) from error
    except aiohttp.InvalidURL as error:
        raise httpx.UnsupportedProtocol(f"not a URL: {str(error)[:200]}", request=request) from error
    except (
        aiohttp.ClientResponseError,
        aiohttp.ClientPayloadError,
        aiohttp.http_exceptions.HttpProcessingError,
    ) as error:
        raise httpx.RemoteProtocolError(_reason(error), request=request) from error
    except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
        raise httpx.ReadError(_reason(error), request=request) from error


def _reason(error: BaseException) -> str:
    # aiohttp names its TLS context by its address in memory.
    return re.sub(r" ssl:(<[^>]*>|default|\w+)", "", str(error))[:300] or type(error).__name__
