"""Notifications about finished runs: one signed POST per URL, with retries, without delaying runs.

URLs of webhooks are secrets: messages contain only their host.
"""

import hashlib
import hmac
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import anyio
import anyio.from_thread
import httpx
import msgspec
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter
from tenacity.wait import wait_base

from syncer.accounts.settings import Secret
from syncer.daemon.runs import Ended
from syncer.http.wire import ConnectionPool, Transport
from syncer.observe import words

SIGNATURE_HEADER = "X-Syncer-Signature-256"
Occasion = Literal["success", "failure", "partial", "interrupted", "recovery"]
OCCASIONS: tuple[str, ...] = get_args(Occasion)
USUALLY = ("failure", "partial", "recovery")

_ATTEMPTS = 5
_BACKOFF = wait_exponential_jitter(initial=1, max=30)
_ANSWER_SECONDS = 10.0
_MAX_WAITING = 32
_MAX_IMAGES = 20
_MAX_LINES = 5
_LONGEST_LINE = 300
_MIN_SECRET = 8
"""Minimum number of characters. A shorter path, such as `/hook`, is not a secret, and other texts may contain it."""

_log = logging.getLogger(__name__)


class _Refused(Exception):
    """The notification failed permanently."""


class _Unanswered(Exception):
    """The notification failed; a retry may succeed."""


class InvalidAddress(ValueError):
    """Not an http or https URL. The message does not contain the URL."""


class Notifier:
    """Sends a notification to all `urls` if the occasion is one of `occasions`. Raises `InvalidAddress`.

    `secret` is the key of the signature. `wait` is the backoff between attempts.
    """

    def __init__(
        self,
        urls: Iterable[str],
        *,
        occasions: Collection[str] = USUALLY,
        secret: Secret | None = None,
        transport: Callable[[], Transport] = ConnectionPool,
        wait: wait_base = _BACKOFF,
    ) -> None:
        self._targets = [_Target(url, secret, wait) for url in urls]
        self._occasions = frozenset(occasions)
        self._transport = transport

    def tell(self, ended: Ended) -> None:
        """Queue notifications about a finished run. Called from a worker thread."""
        occasion = occasion_of(ended, self._occasions)
        if occasion is None or not self._targets:
            return
        body = msgspec.json.encode(message(occasion, ended))
        for target in self._targets:
            anyio.from_thread.run_sync(target.put, body)

    async def run(self) -> None:
        """Send queued notifications until cancelled."""
        async with (
            httpx.AsyncClient(transport=self._transport(), timeout=_ANSWER_SECONDS) as client,
            anyio.create_task_group() as group,
        ):
            for target in self._targets:
                group.start_soon(target.send_all, client)

    async def drain(self) -> None:
        """Wait until all queues are empty."""
        for target in self._targets:
            await target.drained()


class _Target:
    """One URL and its queue."""

    def __init__(self, url: str, secret: Secret | None, wait: wait_base) -> None:
        self._url = url
        self._name = _shown(url)
        self._secret = secret
        self._wait = wait
        self._send, self._receive = anyio.create_memory_object_stream[bytes](_MAX_WAITING)
        self._left = 0
        self._empty = anyio.Event()

    def put(self, body: bytes) -> None:
        try:
            self._send.send_nowait(body)
        except anyio.WouldBlock:
            _log.error("notification to %s dropped: the queue is full", self._name)
            return
        self._left += 1

    async def drained(self) -> None:
        while self._left:
            self._empty = anyio.Event()
            await self._empty.wait()

    async def send_all(self, client: httpx.AsyncClient) -> None:
        with self._send, self._receive:
            async for body in self._receive:
                await self._deliver(client, body)
                self._left -= 1
                self._empty.set()

    async def _deliver(self, client: httpx.AsyncClient, body: bytes) -> None:
        attempts = AsyncRetrying(
            stop=stop_after_attempt(_ATTEMPTS),
            wait=self._wait,
            retry=retry_if_exception_type(_Unanswered),
            sleep=anyio.sleep,
            reraise=True,
        )
        try:
            await attempts(self._post, client, body)
        except (_Refused, _Unanswered) as error:
            _log.error("notification to %s failed: %s", self._name, error)
        except Exception as error:  # noqa: BLE001 - must not stop the daemon; its text may contain the URL
            _log.error("notification to %s failed: %s", self._name, type(error).__name__)

    async def _post(self, client: httpx.AsyncClient, body: bytes) -> None:
        headers = {"content-type": "application/json", "user-agent": "image-syncer"}
        if self._secret is not None:
            headers[SIGNATURE_HEADER] = signature(self._secret, body)
        try:
            with anyio.fail_after(_ANSWER_SECONDS):
                # Redirects are not followed: the notification is for this URL only.
                async with client.stream("POST", self._url, content=body, headers=headers) as response:
                    status = response.status_code
        except (httpx.TransportError, TimeoutError) as error:
            raise _Unanswered(f"no response ({type(error).__name__})") from None
        if status == httpx.codes.TOO_MANY_REQUESTS or status >= 500:
            raise _Unanswered(f"status {status}")
        if status >= 300:
            raise _Refused(f"status {status}")


def signature(secret: Secret, body: bytes) -> str:
    """Return the HMAC-SHA256 of a body, as sent in `SIGNATURE_HEADER`."""
    return "sha256=" + hmac.new(secret.reveal().encode(), body, hashlib.sha256).hexdigest()


def occasion_of(ended: Ended, wanted: Collection[str]) -> str | None:
    """Return the occasion of a run, or None if it is not in `wanted`.

    A successful run is a recovery if one of its rules failed before. An interrupted run does not change that: a
    restart is neither a failure nor a recovery.
    """
    outcome = str(ended.summary["outcome"])
    if outcome == "success" and "recovery" in wanted:
        failed = {rule for rule, result in ended.before.items() if result.outcome != "success"}
        if failed & set(ended.rules):
            return "recovery"
    return outcome if outcome in wanted else None


def message(occasion: str, ended: Ended) -> dict[str, Any]:
    """Return the body of a notification: `text` for people, the rest for programs."""
    failed = [image for image in ended.report.images() if image["outcome"] == "failed"]
    return {
        "text": _text(occasion, ended, failed),
        "event": occasion,
        "run": {key: value for key, value in ended.summary.items() if key != "totals"},
        "totals": ended.summary["totals"],
        "failed": failed[:_MAX_IMAGES],
    }


def _text(occasion: str, ended: Ended, failed: Sequence[dict[str, Any]]) -> str:
    summary = ended.summary
    images = summary["totals"]["images"]
    count = sum(images.values())
    verdicts = {
        "success": "run succeeded",
        "recovery": "run succeeded after a failure",
        "interrupted": "run interrupted",
    }
    verdict = verdicts.get(occasion, f"{images['failed']} of {words.count(count, 'image')} failed")
    lines = [f"image-syncer: {verdict} (run {summary['id']}, {occasion}; {images['synced']} synced)"]
    if "error" in summary:
        lines.append(str(summary["error"]))
    lines += [
        f"{image['source']} -> {image['destination']}: {image['error']['message']}"
        for image in failed[:_MAX_LINES]
    ]
    if len(failed) > _MAX_LINES:
        lines.append(f"and {len(failed) - _MAX_LINES} more")
    return "\n".join(_plain(line) for line in lines)


def _plain(line: str) -> str:
    """Truncate and escape a line, so that text of a registry is not a chat command, such as `<!channel>`."""
    line = line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 1] + "…"
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def secrets_of(url: str) -> Iterator[str]:
    """Return the secret parts of a URL: its path with the query, and its userinfo.

    Not the whole URL: the log also masks prefixes of secrets, which would mask host names.
    """
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    if len(target) >= _MIN_SECRET:
        yield target
    if userinfo := parts.netloc.rpartition("@")[0]:
        yield userinfo


def _shown(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        raise InvalidAddress("expected a URL such as https://host/path") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidAddress("expected a URL such as https://host/path")
    return f"{parts.scheme}://{parts.hostname}{port}/…"
