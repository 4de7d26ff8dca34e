"""httpx over a transport of this package, for messages to services that are not registries."""

from collections.abc import AsyncIterator

import httpx

from syncer.http.transport import HttpRequest, HttpResponse, Transport
from syncer.http.transport_errors import TransportError


class HttpxTransport(httpx.AsyncBaseTransport):
    """A transport for httpx that sends its requests over `transport`. Request bodies are bytes.

    The errors of `transport` are raised as those of httpx with the same names.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        headers = {name: value for name, value in request.headers.items() if name != "host"}
        message = HttpRequest(
            request.method,
            url.scheme,
            url.netloc.decode("ascii"),
            url.raw_path,
            headers,
            await request.aread(),
            tls=request.extensions.get("ssl"),
        )
        try:
            response = await self._transport.send(message)
        except TransportError as error:
            raise _as_httpx(error, request) from error
        return httpx.Response(
            response.status, headers=[*response.headers.raw], stream=_Body(response, request)
        )

    async def aclose(self) -> None:
        await self._transport.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: HttpResponse, request: httpx.Request) -> None:
        self._response = response
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.body:
                yield chunk
        except TransportError as error:
            raise _as_httpx(error, self._request) from error

    async def aclose(self) -> None:
        await self._response.aclose()


def _as_httpx(error: TransportError, request: httpx.Request) -> httpx.TransportError:
    for kind in type(error).__mro__:
        found = getattr(httpx, kind.__name__, None)
        if isinstance(found, type) and issubclass(found, httpx.TransportError):
            return found(str(error), request=request)
    return httpx.TransportError(str(error), request=request)
