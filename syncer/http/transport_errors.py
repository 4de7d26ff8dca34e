"""The errors of a transport, by the names that httpx has for them. httpx itself is imported only where it is used."""


class TransportError(Exception):
    """There is no response, or its body broke off."""


class TimeoutException(TransportError):
    """The server took too long."""


class ConnectTimeout(TimeoutException):
    """No connection within the time limit."""


class ReadTimeout(TimeoutException):
    """No response, or no more data, within the time limit."""


class ConnectError(TransportError):
    """The connection could not be opened."""


class ReadError(TransportError):
    """The connection broke before the response."""


class ProxyError(TransportError):
    """The proxy does not connect to the server."""


class RemoteProtocolError(TransportError):
    """The response violates HTTP."""


class LocalProtocolError(TransportError):
    """The request would violate HTTP."""


class UnsupportedProtocol(TransportError):
    """The URL is not one that a transport can request."""
