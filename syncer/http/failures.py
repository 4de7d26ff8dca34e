"""An answer or a broken connection, told as a `RegistryError`: its kind, one line of text, and what to do."""

import re
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import msgspec

from syncer.accounts.settings import Account
from syncer.errors import Attempt, Kind, RegistryError, check_source
from syncer.http.dialling import ProxyRefused, ProxyUnreachable

_KINDS = {
    400: Kind.INVALID,
    401: Kind.UNAUTHORIZED,
    403: Kind.FORBIDDEN,
    404: Kind.NOT_FOUND,
    405: Kind.UNSUPPORTED,
    407: Kind.CONNECTION,
    408: Kind.TIMEOUT,
    409: Kind.CONFLICT,
    410: Kind.NOT_FOUND,
    412: Kind.IMMUTABLE,
    413: Kind.TOO_LARGE,
    415: Kind.UNSUPPORTED,
    422: Kind.INVALID,
    425: Kind.SERVER_ERROR,
    429: Kind.THROTTLED,
    501: Kind.UNSUPPORTED,
    504: Kind.TIMEOUT,
}
_WORDS = {401: "unauthorized", 403: "forbidden", 404: "not found", 429: "too many requests"}
_LINK_EXPIRED = frozenset({400, 401, 403})
_MAX_WORDS = 65536

# Registries have no common code for these: their words tell.
_IMMUTABLE = re.compile(r"immutab|already\s?exists|cannot be overwritten|not allow updating", re.IGNORECASE)
_READ_ONLY = re.compile(r"read.?only|proxy (?:project|cache|repository)", re.IGNORECASE)
_QUOTA = re.compile(r"quota|exceed\w* .*limit|upper limit", re.IGNORECASE)
_NOT_TLS = re.compile(r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|UNEXPECTED_MESSAGE")
_TITLE = re.compile(rb"<title[^>]*>([^<]{1,200})", re.IGNORECASE)


_RETRYABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})


def from_answer(
    status: int,
    headers: httpx.Headers,
    body: bytes,
    *,
    attempt: Attempt,
    account: Account | None,
    elsewhere: str = "",
) -> RegistryError:
    """The failure that an answer tells of (distribution-spec, "Error Codes").

    `elsewhere` is the host that answered, where the registry had sent us on to another.
    """
    codes, message = _own_words(headers, body)
    kind = _KINDS.get(status, Kind.SERVER_ERROR if status >= 500 else Kind.INVALID)
    permanent = status not in _RETRYABLE_STATUSES
    words = f"{' '.join(codes)} {message}"
    if elsewhere and status in _LINK_EXPIRED:
        # A signed link that has run out: the registry gives a new one when it is asked again.
        kind, permanent = Kind.SERVER_ERROR, False
    elif status == 503 and headers.get("retry-after"):
        kind = Kind.THROTTLED
    elif status in {400, 403, 409} and _writes_manifest(attempt) and _IMMUTABLE.search(words):
        kind = Kind.IMMUTABLE
    elif status in {403, 405} and _READ_ONLY.search(words):
        kind = Kind.FORBIDDEN
    said = f" ({': '.join(part for part in (' '.join(codes), message) if part)})" if codes or message else ""
    advice = "" if elsewhere else _advice(kind, status, words, attempt.registry, account)
    if kind is Kind.NOT_FOUND and _reads_source(attempt):
        advice = check_source(attempt.registry)
    place = f" from {elsewhere}, where the registry sent us" if elsewhere else ""
    return RegistryError(
        kind,
        _status_words(status) + said + place,
        attempt=attempt,
        status=status,
        codes=codes,
        permanent=permanent,
        retry_after=retry_after(headers.get("retry-after")),
        advice=advice,
    )


def _writes_manifest(attempt: Attempt) -> bool:
    return (attempt.method, attempt.endpoint) == ("PUT", "manifest")


def _reads_source(attempt: Attempt) -> bool:
    return attempt.method in {"GET", "HEAD"} and attempt.endpoint in {"manifest", "tags"}


def _status_words(status: int) -> str:
    word = _WORDS.get(status) or httpx.codes.get_reason_phrase(status).lower()
    return f"{status} {word}".strip()


def from_transport(error: httpx.HTTPError, *, attempt: Attempt, insecure: bool = False) -> RegistryError:
    """The failure that a broken connection is."""
    kind, message, advice, permanent = _broken(error, attempt.registry, insecure=insecure)
    return RegistryError(kind, message, attempt=attempt, advice=advice, permanent=permanent)


def _broken(error: httpx.HTTPError, registry: str, *, insecure: bool) -> tuple[Kind, str, str, bool | None]:
    text = " ".join(str(error).split())[:300] or type(error).__name__
    cause = error.__cause__
    if isinstance(error, httpx.TimeoutException):
        return Kind.TIMEOUT, f"timed out: {text}", "", None
    if isinstance(error, ProxyRefused):
        message = f"the proxy refuses to connect: {_status_words(error.status)}"
        advice = f"check HTTPS_PROXY and its user name and password, or add {registry} to NO_PROXY"
        return Kind.CONNECTION, message, advice, error.status < 500
    if isinstance(error, ProxyUnreachable):
        return Kind.CONNECTION, f"cannot connect to the proxy: {text}", "check HTTPS_PROXY and NO_PROXY", None
    if isinstance(cause, ssl.SSLCertVerificationError | ssl.CertificateError):
        advice = f'give the CA with "ca_file", or set "insecure": true, for {registry} in the auth file'
        return Kind.TLS, f"the certificate is not trusted: {text}", advice, None
    if isinstance(cause, ssl.SSLError):
        advice = (
            "" if insecure else f'if {registry} has no TLS, set "plain_http": true for it in the auth file'
        )
        return Kind.TLS, f"no TLS connection: {text}", advice, bool(_NOT_TLS.search(str(cause)))
    if isinstance(error, httpx.UnsupportedProtocol):
        return Kind.INVALID, text, "", None
    if isinstance(cause, socket.gaierror):
        advice = "check how the registry's name is spelled, and this machine's DNS"
        return Kind.CONNECTION, f"the name {registry} cannot be resolved: {text}", advice, None
    verb = "cannot connect" if isinstance(error, httpx.ConnectError) else "the connection broke"
    return Kind.CONNECTION, f"{verb}: {text}", "", None


def retry_after(value: str | None) -> float | None:
    """Seconds to wait, from a `Retry-After` of seconds or a date (RFC 9110, section 10.2.3)."""
    if not value:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(min(int(value[:12]), 86400 * 365))
    try:
        when = parsedate_to_datetime(value)
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        return max(0.0, (when - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def is_html(headers: httpx.Headers, body: bytes) -> bool:
    """Whether this is a web page: what a portal, a proxy or a mirror out of order says, with whatever status."""
    return "text/html" in headers.get("content-type", "").lower() or body[:64].lstrip()[:1] == b"<"


def page_title(body: bytes) -> str:
    """What a web page calls itself, for an error text."""
    title = _TITLE.search(body[:_MAX_WORDS])
    return _line(title[1].decode("utf-8", "replace")) if title else ""


def _own_words(headers: httpx.Headers, body: bytes) -> tuple[tuple[str, ...], str]:
    """The registry's own codes and message, whatever form it gives them."""
    if not body:
        return (), ""
    if is_html(headers, body):
        title = page_title(body)
        return (), f"a web page, {title!r}" if title else "a web page"
    try:
        document = msgspec.json.decode(body[:_MAX_WORDS])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        text = _line(body[:200].decode("utf-8", "replace"))
        return (), text if text.isprintable() else ""
    entries = list(_entries(document))[:5]
    codes = dict.fromkeys(_line(code)[:60] for code, _ in entries if code)
    messages = dict.fromkeys(_line(message) for _, message in entries if message)
    return tuple(codes), "; ".join(messages)


def _entries(document: Any) -> Iterator[tuple[str, str]]:
    """The specification's `errors`, or the one message that token services and proxies write."""
    if not isinstance(document, dict):
        return
    listed = document.get("errors")
    if isinstance(listed, list):
        for entry in listed[:5]:
            if isinstance(entry, dict):
                yield _text(entry.get("code")), _text(entry.get("message"))
    for name in ("message", "details", "detail", "error_description", "error"):
        if text := _text(document.get(name)):
            yield "", text
            return


def _text(value: object) -> str:
    return str(value) if isinstance(value, str | int) else ""


def _line(text: str) -> str:
    return " ".join(text.split())[:200]


def _advice(kind: Kind, status: int, words: str, registry: str, account: Account | None) -> str:
    if _QUOTA.search(words) and kind in {Kind.FORBIDDEN, Kind.TOO_LARGE, Kind.IMMUTABLE, Kind.INVALID}:
        return f"there is no room left by the quota of this project at {registry}: raise it, or delete images"
    if kind is Kind.FORBIDDEN and _READ_ONLY.search(words):
        return f"{registry} takes no pushes there: end its read-only mode, or choose another destination"
    if kind is Kind.UNAUTHORIZED and account is None:
        return (
            f"no credentials for {registry} were found: add an entry for it to the auth file, or check the"
            " repository's spelling (registries answer so for what does not exist, too)"
        )
    if kind is Kind.UNAUTHORIZED or (kind is Kind.FORBIDDEN and account is not None):
        assert account is not None
        return f"check user name, password and rights of the entry {account.name!r}"
    if kind is Kind.FORBIDDEN:
        return f"anonymous access is refused: add an entry for {registry} to the auth file"
    if kind is Kind.THROTTLED and account is None:
        return f"anonymous access has the lowest limit: add an entry for {registry} to the auth file"
    if kind is Kind.TOO_LARGE:
        return "a proxy before the registry may limit what one request holds (nginx: client_max_body_size)"
    if kind is Kind.IMMUTABLE:
        return "the tag is immutable there: delete it, or have the rule write to another tag"
    if status == 400 and "http request to an https server" in words.lower():
        return f'{registry} speaks TLS: remove "plain_http" from its entry in the auth file'
    return ""
