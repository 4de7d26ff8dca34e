"""Webhooks: one signed POST of JSON. The path of the URL is a secret, so texts contain only its host."""

import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx
import msgspec

from syncer.accounts.settings import Secret
from syncer.http.httpx_transport import HttpxTransport
from syncer.http.wire import ConnectionPool
from syncer.notify.channel import Channel, InvalidAddress, Refused, Unanswered
from syncer.notify.message import Notification

SIGNATURE_HEADER = "X-Syncer-Signature-256"

_ANSWER_SECONDS = 10.0
_MIN_SECRET = 8
"""Minimum number of characters. A shorter path, such as `/hook`, is not a secret, and other texts may contain it."""


def _pooled() -> httpx.AsyncBaseTransport:
    return HttpxTransport(ConnectionPool())


class Webhook(Channel):
    """An http or https URL. Raises `InvalidAddress`. `secret` is the key of the signature."""

    attempts = 5

    def __init__(
        self,
        url: str,
        *,
        secret: Secret | None = None,
        transport: Callable[[], httpx.AsyncBaseTransport] = _pooled,
    ) -> None:
        self._name = _shown(url)
        self._url = url
        self._secret = secret
        self._transport = transport

    @property
    def name(self) -> str:
        return self._name

    def secret_texts(self) -> Iterator[str]:
        """Return the path with the query, and the userinfo.

        Not the whole URL: the log also masks prefixes of secrets, which would mask host names.
        """
        parts = urlsplit(self._url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        if len(target) >= _MIN_SECRET:
            yield target
        if userinfo := parts.netloc.rpartition("@")[0]:
            yield userinfo

    async def send(self, notification: Notification) -> None:
        body = msgspec.json.encode(document(notification))
        headers = {"content-type": "application/json", "user-agent": "image-syncer"}
        if self._secret is not None:
            headers[SIGNATURE_HEADER] = signature(self._secret, body)
        try:
            with anyio.fail_after(_ANSWER_SECONDS):
                async with (
                    httpx.AsyncClient(transport=self._transport()) as client,
                    # Redirects are not followed: the notification is for this URL only.
                    client.stream("POST", self._url, content=body, headers=headers) as response,
                ):
                    status = response.status_code
        except (httpx.TransportError, TimeoutError) as error:
            raise Unanswered(f"no response ({type(error).__name__})") from None
        if status == httpx.codes.TOO_MANY_REQUESTS or status >= 500:
            raise Unanswered(f"status {status}")
        if status >= 300:
            raise Refused(f"status {status}")


def signature(secret: Secret, body: bytes) -> str:
    """Return the HMAC-SHA256 of a body, as sent in `SIGNATURE_HEADER`."""
    return "sha256=" + hmac.new(secret.reveal().encode(), body, hashlib.sha256).hexdigest()


def document(notification: Notification) -> Mapping[str, Any]:
    """Return the body of the POST: `text` for people, the rest for programs.

    `text` is escaped, so that text of a registry is not a chat command, such as `<!channel>`.
    """
    text = notification.text().replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"text": text, **notification.data}


def _shown(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        raise InvalidAddress("expected a URL such as https://host/path") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidAddress("expected a URL such as https://host/path")
    return f"{parts.scheme}://{parts.hostname}{port}/…"
