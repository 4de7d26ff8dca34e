"""The services of Apprise: chat robots, mail and many others. Apprise is imported only if a URL needs it.

Apprise blocks, so each message is sent by a thread. It writes URLs to its log, so its log is not shown.
"""

import asyncio
import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import anyio

from syncer.lazy_pattern import lazy_pattern
from syncer.notify.channel import Channel, InvalidAddress, Unanswered
from syncer.notify.message import MAX_TEXT, Notification
from syncer.untrusted import KNOWN, clean

if TYPE_CHECKING:
    import apprise

_SEND_SECONDS = 60.0
_MIN_SECRET = 8
"""Minimum number of characters of a part of a URL that is masked. Shorter ones are names of channels, or ports."""
_REPLACED = {"msteams": "workflows"}
"""Schemes of earlier versions of Apprise. Microsoft has replaced the connectors of Teams by workflows."""
_MENTION = lazy_pattern(r"(?i)@(?=(?:all|channel|everyone|here|room)\b)")


class AppriseService(Channel):
    """A URL of Apprise, such as `lark://TOKEN`. Raises `InvalidAddress`, also if Apprise is not installed."""

    attempts = 3

    def __init__(self, url: str, *, link: str = "") -> None:
        self._scheme = url.partition("://")[0].lower()
        self._plugin = _plugin(url, self._scheme, link)
        self._url = url
        KNOWN.hold(self)

    @property
    def name(self) -> str:
        try:
            parts = urlsplit(self._url)
            host, port = parts.hostname or "", f":{parts.port}" if parts.port else ""
        except ValueError:
            host = port = ""
        return f"{self._scheme}://{host}{port}/…" if host and self._has_host else f"{self._scheme}://…"

    def secret_texts(self) -> Iterator[str]:
        """Return all parts of the URL that can be a token, a key or a password."""
        try:
            parts = urlsplit(self._url)
        except ValueError:
            yield self._url.partition("://")[2]
            return
        userinfo, _, host = parts.netloc.rpartition("@")
        user, _, password = userinfo.partition(":")
        found = [user, *parts.path.split("/"), *(value for _, value in parse_qsl(parts.query))]
        if not self._has_host:
            found.append(host)
        found += [unquote(text) for text in found]
        yield from filter(None, (password, unquote(password)))
        yield from (text for text in found if len(text) >= _MIN_SECRET)

    async def send(self, notification: Notification) -> None:
        try:
            with anyio.fail_after(_SEND_SECONDS):
                problem = await _in_thread(lambda: self._notify(notification))
        except TimeoutError:
            raise Unanswered("no response") from None
        if problem:
            raise Unanswered(problem)

    @property
    def _has_host(self) -> bool:
        """Whether the URL begins with a host name in all its forms. In others, a token is in that place."""
        forms: tuple[str, ...] = self._plugin.templates
        return all(re.match(r"\{schema\}://(?:[^/]*@)?\{host\}", form) for form in forms)

    def _notify(self, notification: Notification) -> str:
        """Send a notification. Return an empty text, or what is wrong."""
        # A service without titles puts the title before the text. Apprise would split a longer text.
        limit = min(MAX_TEXT, self._plugin.body_maxlen) - len(notification.title.encode()) - 8
        reasons = _reasons()
        reasons.take()
        sent = self._plugin.notify(
            title=_harmless(notification.title),
            body=_harmless(notification.body(limit)),
            notify_type="success" if notification.is_good else "failure",
            body_format="text",
        )
        return "" if sent else reasons.take() or "not accepted"


class _Reasons(logging.Handler):
    """Keeps the last warning of each thread: Apprise returns only whether it sent a message."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._local = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        self._local.text = record.getMessage()

    def take(self) -> str:
        """Return the last warning of this thread without secrets, and forget it."""
        text: str = getattr(self._local, "text", "")
        self._local.text = ""
        return clean(text)


@cache
def _reasons() -> _Reasons:
    handler = _Reasons()
    logger = logging.getLogger("apprise")
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    logger.addHandler(handler)
    return handler


def _plugin(url: str, scheme: str, link: str) -> "apprise.NotifyBase":
    try:
        import apprise  # part of an extra
    except ImportError:
        raise InvalidAddress(
            f"{_known_form(scheme)} requires the extra notify: pip install 'image-syncer[notify]'"
        ) from None
    _reasons()
    asset = apprise.AppriseAsset(
        app_id="image-syncer",
        app_desc="image-syncer",
        app_url=link,
        image_url_mask="",
        image_url_logo="",
        http_redirects=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of imports in Apprise's modules
        found: Any = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    if not isinstance(found, apprise.NotifyBase):
        hint = f"; use {_REPLACED[scheme]}://" if scheme in _REPLACED else ""
        raise InvalidAddress(
            f"Apprise {apprise.__version__} does not know {_known_form(scheme)}, or a part of the URL is wrong{hint}"
        )
    return found


def _known_form(scheme: str) -> str:
    return f"{scheme}://" if re.fullmatch(r"[a-z][a-z0-9]{1,20}", scheme) else "this URL"


def _harmless(text: str) -> str:
    """Return the text so that text of a registry mentions no one and is no markup of a chat."""
    text = text.replace("<", "\u2039").replace("](", "]\u200b(")
    return _MENTION.sub("@\u200b", text)


async def _in_thread(function: Callable[[], str]) -> str:
    """Call a function in a thread that does not keep the process alive."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[str] = loop.create_future()

    def finish(result: str, error: Exception | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def work() -> None:
        result, error = "", None
        try:
            result = function()
        except Exception as raised:  # noqa: BLE001 - raised again where the result is awaited
            error = raised
        with suppress(RuntimeError):  # the loop is closed: no one waits for the result
            loop.call_soon_threadsafe(finish, result, error)

    threading.Thread(target=work, name="notification", daemon=True).start()
    return await done
