"""Converts an error response or a failed connection to a `RegistryError` with a kind, a one-line message and advice."""

import re
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC
from typing import Any

import msgspec

from syncer import untrusted
from syncer.accounts.settings import Account
from syncer.errors import Attempt, Kind, RegistryError
from syncer.http.dialling import TooManyOpenFiles
from syncer.http.internal import InternalAddress
from syncer.http.pace import TooSlow
from syncer.http.proxies import ProxyRefused, ProxyUnreachable
from syncer.http.status_rows import MAX_WORDS, Circumstances
from syncer.http.transport import Headers
from syncer.http.transport_errors import (
    ConnectError,
    ConnectTimeout,
    TimeoutException,
    TransportError,
    UnsupportedProtocol,
)
from syncer.lazy_pattern import lazy_pattern
from syncer.untrusted import clean

_REASONS = {401: "unauthorized", 403: "forbidden", 404: "not found", 429: "too many requests"}
_MAX_BODY = 65536
_MAX_CODES = 5
_MIN_WAIT = 1.0
_MAX_WAIT = 86400.0
_SINCE_1970 = 1e9
"""A `Retry-After` above this value is a Unix timestamp: some servers send one instead of a number of seconds."""
SLOW_SECONDS = 10.0
"""Seconds before the retry of a request whose response was too slow."""
_CERTIFICATES = {
    9: "check the clock of this machine: the certificate of {host} is not valid yet",
    10: "renew the certificate of {host}, or check the clock of this machine",
    62: "use a name that the certificate of {host} contains, or have the certificate issued for this name",
    64: "use a name that the certificate of {host} contains, or have the certificate issued for this address",
}
"""The advice by the code of OpenSSL (X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED, …), where no CA helps."""
_LOCAL = (InternalAddress, TooManyOpenFiles, ProxyUnreachable)
"""Errors that name the host, or that do not depend on it."""

_NOT_TLS = lazy_pattern(r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|UNEXPECTED_MESSAGE")
_TITLE = lazy_pattern(rb"<title[^<>]{0,200}>([^<]{1,200})", re.IGNORECASE)
_SECONDS = lazy_pattern(r"-?[0-9]{1,20}(?:\.[0-9]{1,9})?", re.ASCII)


def from_answer(
    status: int,
    headers: Headers,
    body: bytes,
    *,
    attempt: Attempt,
    account: Account | None,
    elsewhere: str = "",
) -> RegistryError:
    """Return the error for a response (distribution-spec, "Error Codes"), by the table in `syncer.http.statuses`.

    `elsewhere` is the host that responded if the registry redirected to another host. The error does not quote the
    body of that host.
    """
    from syncer.http import statuses

    codes, message = ((), "") if elsewhere else _own_words(headers, body)
    waits = retry_after(headers.get("retry-after"))
    row = statuses.find(
        Circumstances(
            attempt.method,
            attempt.endpoint,
            status,
            frozenset(code.upper() for code in codes),
            f"{' '.join(codes)} {message}"[:MAX_WORDS],
            redirected=bool(elsewhere),
            challenged="www-authenticate" in headers,
            says_when=waits is not None,
            anonymous=account is None,
        )
    )
    host = clean(elsewhere)
    said = f" ({': '.join(part for part in (' '.join(codes), message) if part)})" if codes or message else ""
    advised = row.advice if row.redirected or not elsewhere else ""
    return RegistryError(
        row.kind,
        _status_words(status)
        + said
        + (f" from {host}, to which the registry redirected" if elsewhere else ""),
        attempt=attempt,
        status=status,
        codes=codes,
        permanent=not row.retryable,
        retry_after=waits if waits is not None else row.wait,
        advice=advised.format(registry=attempt.registry, entry=account.name if account else "", host=host),
        presence="" if elsewhere else row.presence,
    )


def _status_words(status: int) -> str:
    word = _REASONS.get(status)
    if word is None:
        from http import HTTPStatus

        try:
            word = HTTPStatus(status).phrase.lower()
        except ValueError:
            word = ""
    return f"{status} {word}".strip()


def from_transport(
    error: TransportError, *, attempt: Attempt, insecure: bool = False, elsewhere: str = ""
) -> RegistryError:
    """Return the error for a connection that could not be opened or that broke.

    `elsewhere` is the host of the connection if the registry redirected to it, or if it is the token service.
    """
    if elsewhere and not isinstance(error, _LOCAL):
        kind, message, advice, permanent = _broken_elsewhere(error, attempt, clean(elsewhere))
    else:
        kind, message, advice, permanent = _broken(error, attempt.registry, insecure=insecure)
    # An immediate retry would be as slow. Other requests go first.
    wait = SLOW_SECONDS if isinstance(error, TooSlow) else None
    return RegistryError(kind, message, attempt=attempt, advice=advice, permanent=permanent, retry_after=wait)


def _broken_elsewhere(
    error: TransportError, attempt: Attempt, host: str
) -> tuple[Kind, str, str, bool | None]:
    # `insecure` and `plain_http` of the registry do not apply to other hosts, so they are no advice.
    kind, message, advice, permanent = _broken(error, host, insecure=True)
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError | ssl.CertificateError):
        advice = _CERTIFICATES.get(getattr(cause, "verify_code", 0), "").format(host=host) or (
            f'add the CA certificate of {host} to the "ca_file" of {attempt.registry} in the auth file'
        )
    elif isinstance(cause, socket.gaierror):
        advice = "check the DNS settings of this machine"
    if attempt.endpoint != "token":
        message += f" ({host}, to which the registry redirected)"
    return kind, message, advice, permanent


def _broken(error: TransportError, registry: str, *, insecure: bool) -> tuple[Kind, str, str, bool | None]:
    text = clean(str(error), 300) or type(error).__name__
    cause = error.__cause__
    if isinstance(error, ConnectTimeout):
        advice = (
            f"a firewall or NetworkPolicy may block connections to {registry}: allow connections to its port"
        )
        return Kind.TIMEOUT, f"timed out: {text}", advice, None
    if isinstance(error, TimeoutException):
        return Kind.TIMEOUT, f"timed out: {text}", "", None
    if isinstance(error, InternalAddress):
        message = f"the registry redirects to an internal address ({text}), which is not allowed"
        return (
            Kind.FORBIDDEN,
            message,
            f"if this is intended, allow it with --allow-internal {clean(error.host)}",
            True,
        )
    if isinstance(error, TooManyOpenFiles):
        advice = "raise the limit of open files (ulimit -n, LimitNOFILE), or set a smaller --proc"
        return Kind.CONNECTION, f"cannot open another connection: {text}", advice, None
    if isinstance(error, ProxyRefused):
        reason = _status_words(error.status) if error.status else text
        message = f"the proxy refuses to connect: {reason}"
        advice = (
            'check the address, user name and password in HTTPS_PROXY, or in "proxy" of the auth file,'
            f" or add {registry} to NO_PROXY"
        )
        return Kind.CONNECTION, message, advice, 0 < error.status < 500
    if isinstance(error, ProxyUnreachable):
        advice = 'check HTTPS_PROXY and NO_PROXY, or "proxy" in the auth file'
        return Kind.CONNECTION, f"cannot connect to the proxy: {text}", advice, None
    if isinstance(cause, ssl.SSLCertVerificationError | ssl.CertificateError):
        advice = _CERTIFICATES.get(getattr(cause, "verify_code", 0), "").format(host=registry) or (
            f'set "ca_file" to the CA certificate, or set "insecure": true, for {registry} in the auth file'
        )
        return Kind.TLS, f"the certificate is not trusted: {text}", advice, None
    if isinstance(cause, ssl.SSLError):
        advice = (
            ""
            if insecure
            else f'if {registry} does not use TLS, set "plain_http": true for it in the auth file'
        )
        return Kind.TLS, f"TLS handshake failed: {text}", advice, bool(_NOT_TLS.search(str(cause)))
    if isinstance(error, UnsupportedProtocol):
        return Kind.INVALID, text, "", None
    if isinstance(cause, socket.gaierror):
        advice = "check the spelling of the registry's name, and the DNS settings of this machine"
        return Kind.CONNECTION, f"cannot resolve the host name {registry}: {text}", advice, None
    if isinstance(error, ConnectError):
        advice = f"check that {registry} is running and that the port is correct"
        return Kind.CONNECTION, f"cannot connect: {text}", advice, None
    return Kind.CONNECTION, f"connection lost: {text}", "", None


def retry_after(value: str | None) -> float | None:
    """Parse a `Retry-After` header: a number of seconds or a date (RFC 9110, section 10.2.3).

    Returns the seconds to wait, from one second to one day. Returns None if the value is invalid.
    """
    text = (value or "")[:64].strip()
    if _SECONDS.fullmatch(text):
        seconds = float(text)
        if seconds > _SINCE_1970 * 1000:
            seconds /= 1000
        if seconds > _SINCE_1970:
            seconds -= time.time()
    else:
        from email.utils import parsedate_to_datetime

        try:
            when = parsedate_to_datetime(text)
            seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - time.time()
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    return min(max(seconds, _MIN_WAIT), _MAX_WAIT)


def is_html(headers: Headers, body: bytes) -> bool:
    """Whether a response is a web page. Captive portals, proxies and broken mirrors send them with any status."""
    return "text/html" in headers.get("content-type", "").lower() or body[:64].lstrip()[:1] == b"<"


def page_title(body: bytes) -> str:
    """Return the title of a web page for an error message."""
    title = _TITLE.search(body[:_MAX_BODY])
    return clean(title[1].decode("utf-8", "replace")) if title else ""


def _own_words(headers: Headers, body: bytes) -> tuple[tuple[str, ...], str]:
    """Return the registry's error codes and message from any of the known formats."""
    if not body:
        return (), ""
    if is_html(headers, body):
        title = page_title(body)
        return (), f"a web page, {title!r}" if title else "a web page"
    try:
        document = msgspec.json.decode(body[:_MAX_BODY])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        text = body[: untrusted.MAX_SEARCHED + 1].decode("utf-8", "replace")
        return (), clean(text) if "".join(text[: untrusted.MAX_SHOWN].split()).isprintable() else ""
    entries = list(_entries(document))[:_MAX_CODES]
    codes = dict.fromkeys(clean(code, 60) for code, _ in entries if code)
    messages = dict.fromkeys(clean(message) for _, message in entries if message)
    return tuple(codes), "; ".join(messages)


def _entries(document: Any) -> Iterator[tuple[str, str]]:
    """Yield codes and messages of the `errors` list (distribution-spec), or the single message of other services."""
    if not isinstance(document, dict):
        return
    listed = document.get("errors")
    if isinstance(listed, list):
        for entry in listed[:_MAX_CODES]:
            if isinstance(entry, dict):
                yield _text(entry.get("code")), _text(entry.get("message"))
    for name in ("message", "details", "detail", "error_description", "error"):
        if text := _text(document.get(name)):
            yield "", text
            return


def _text(value: object) -> str:
    return str(value) if isinstance(value, str | int) else ""
