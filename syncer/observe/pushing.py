"""Pushes metrics to a Pushgateway. Credentials in its URL never appear in messages."""

import http.client
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any
from urllib.error import HTTPError
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import pushadd_to_gateway

_MAX_SAID = 200


class PushFailed(OSError):
    """The metrics could not be pushed. The message names the Pushgateway, without credentials."""


def push_metrics(
    url: str, registry: CollectorRegistry, *, job: str, grouping: Mapping[str, str], timeout: float
) -> None:
    """POST all metrics of `registry` to the group of `job` and `grouping`. Metrics with other names are kept.

    `timeout` is in seconds. Raises `PushFailed`.
    """
    gateway, handler = _split(url)
    try:
        pushadd_to_gateway(
            gateway, job, registry, grouping_key=dict(grouping), timeout=timeout, handler=handler
        )
    except HTTPError as error:
        with error:
            said = error.read(_MAX_SAID).decode("utf-8", "replace").partition("\n")[0].strip()
        reason = f"{error.code} {error.reason}{f' ({said})' if said else ''}"
        raise PushFailed(f"cannot push metrics to {gateway}: {reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = str(getattr(error, "reason", "") or error) or type(error).__name__
        raise PushFailed(f"cannot push metrics to {gateway}: {reason}") from None


def _split(url: str) -> tuple[str, Callable[..., Callable[[], None]]]:
    """Return the gateway's address, and a handler that sends the URL's credentials, if there are any."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        raise PushFailed("cannot push metrics: not an address (http://host:9091)") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PushFailed("cannot push metrics: expected an address such as http://host:9091")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}", _handler(parts)


def _handler(parts: SplitResult) -> Callable[..., Callable[[], None]]:
    authorization = ""
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {b64encode(credentials.encode()).decode()}"

    def prepare(
        url: str, method: str, timeout: float | None, headers: list[tuple[str, str]], data: bytes
    ) -> Callable[[], None]:
        request = Request(url, data=data, headers=dict(headers), method=method)  # noqa: S310 - http or https, see above
        if authorization:
            request.add_header("Authorization", authorization)

        def send() -> None:
            with build_opener(_NoRedirects).open(request, timeout=timeout):
                pass

        return send

    return prepare


class _NoRedirects(HTTPRedirectHandler):
    """Does not follow redirects: the push would become a GET, and send the password to another host."""

    def redirect_request(self, *_args: Any) -> None:
        return None
