"""An answer or a broken connection, told as a `RegistryError`: its kind, one line of text, and what to do."""

import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
import msgspec

from syncer.config.settings import Account
from syncer.http.errors import Kind, RegistryError
from syncer.http.retry import TRANSIENT_STATUSES

_KINDS = {
    400: Kind.INVALID,
    401: Kind.UNAUTHORIZED,
    403: Kind.FORBIDDEN,
    404: Kind.NOT_FOUND,
    405: Kind.UNSUPPORTED,
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


class _Entry(msgspec.Struct):
    code: object = ""
    message: object = ""


class _Errors(msgspec.Struct):
    errors: list[_Entry] = []


def from_answer(
    status: int, headers: httpx.Headers, body: bytes, *, registry: str, attempt: str, account: Account | None
) -> RegistryError:
    """The failure that an answer tells of (distribution-spec, "Error Codes")."""
    codes, message = _own_words(body)
    kind = _KINDS.get(status, Kind.SERVER_ERROR if status >= 500 else Kind.INVALID)
    if kind is Kind.SERVER_ERROR and status == 503 and headers.get("retry-after"):
        kind = Kind.THROTTLED
    said = f" ({': '.join(part for part in (' '.join(codes), message) if part)})" if codes or message else ""
    word = _WORDS.get(status) or httpx.codes.get_reason_phrase(status).lower()
    return RegistryError(
        kind,
        f"{status} {word}{said}".strip(),
        registry=registry,
        attempt=attempt,
        status=status,
        codes=codes,
        permanent=status not in TRANSIENT_STATUSES,
        retry_after=retry_after(headers.get("retry-after")),
        advice=_advice(kind, registry, account),
    )


def from_transport(
    error: httpx.HTTPError, *, registry: str, attempt: str, insecure: bool = False
) -> RegistryError:
    """The failure that a broken connection is."""
    text = " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        return RegistryError(Kind.TIMEOUT, f"timed out: {text}", registry=registry, attempt=attempt)
    cause = error.__cause__
    inner = getattr(cause, "os_error", cause)
    if isinstance(inner, ssl.SSLCertVerificationError | ssl.CertificateError):
        advice = f'give the CA with "ca_file", or set "insecure": true, for {registry} in the auth file'
        return RegistryError(
            Kind.TLS,
            f"the certificate is not trusted: {text}",
            registry=registry,
            attempt=attempt,
            advice=advice,
        )
    if isinstance(inner, ssl.SSLError):
        speaks_http = any(
            word in str(inner)
            for word in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_MESSAGE")
        )
        advice = (
            "" if insecure else f'if {registry} has no TLS, set "plain_http": true for it in the auth file'
        )
        return RegistryError(
            Kind.TLS, f"no TLS connection: {text}", registry=registry, attempt=attempt, advice=advice,
            permanent=speaks_http,
        )  # fmt: skip
    if isinstance(error, httpx.UnsupportedProtocol):
        return RegistryError(Kind.INVALID, text, registry=registry, attempt=attempt)
    verb = "cannot connect" if isinstance(error, httpx.ConnectError) else "the connection broke"
    return RegistryError(Kind.CONNECTION, f"{verb}: {text}", registry=registry, attempt=attempt)


def retry_after(value: str | None) -> float | None:
    """Seconds to wait, from a `Retry-After` of seconds or a date (RFC 9110, section 10.2.3)."""
    if not value:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(min(int(value[:12]), 86400 * 365))
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _own_words(body: bytes) -> tuple[tuple[str, ...], str]:
    try:
        entries = msgspec.json.decode(body[:65536], type=_Errors).errors[:5]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return (), ""
    codes = tuple(dict.fromkeys(str(entry.code)[:60] for entry in entries if entry.code))
    messages = dict.fromkeys(" ".join(str(entry.message).split())[:200] for entry in entries if entry.message)
    return codes, "; ".join(messages)


def _advice(kind: Kind, registry: str, account: Account | None) -> str:
    if kind is Kind.UNAUTHORIZED and account is None:
        return f"no credentials for {registry} were found: add an entry for it to the auth file"
    if kind in {Kind.UNAUTHORIZED, Kind.FORBIDDEN} and account is not None:
        return f"check user name, password and rights of the entry {account.name!r}"
    if kind is Kind.FORBIDDEN:
        return f"anonymous access is refused: add an entry for {registry} to the auth file"
    return ""
