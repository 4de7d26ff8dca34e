"""The address of a registry: scheme, API host and TLS settings."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from syncer.accounts.settings import HostSettings
from syncer.errors import Attempt, Kind, RegistryError
from syncer.http.internal import AllowedHosts, Guard
from syncer.http.transport import PORTS
from syncer.oci.reference import DOCKER_HUB
from syncer.untrusted import clean

if TYPE_CHECKING:
    from syncer.http.certificates import TlsContexts

_API_HOSTS = {DOCKER_HUB: "registry-1.docker.io"}


def _origin(url: str) -> tuple[str, str, int] | None:
    """Return the origin of a URL (RFC 6454, section 4): scheme, host and port. Return None if the URL is invalid."""
    parts = urlsplit(url)
    try:
        port = parts.port or PORTS[parts.scheme]
    except (ValueError, KeyError):
        return None
    return None if parts.username or not parts.hostname else (parts.scheme, parts.hostname, port)


class Address:
    """The address of one registry. For an `insecure` registry, `base` probes once whether it uses TLS.

    `allowed` are the internal hosts that a public registry may redirect to.
    """

    def __init__(
        self,
        host: str,
        settings: HostSettings,
        allowed: AllowedHosts = AllowedHosts(),  # noqa: B008 - never changed
    ) -> None:
        self.host = host
        self.api_host = _API_HOSTS.get(host, host)
        self.settings = settings
        self._scheme = "http" if settings.plain_http else None if settings.insecure else "https"
        self._lock = asyncio.Lock()
        self._guard = Guard(allowed)
        self._public = False

    @cached_property
    def _contexts(self) -> "TlsContexts":
        from syncer.http.certificates import TlsContexts

        return TlsContexts(self.host, self.settings)

    @property
    def secure(self) -> bool:
        return self._scheme != "http"

    async def base(self, probe: Callable[[str], Awaitable[object]]) -> str:
        """Return the base URL of the API. If the scheme is unknown, call `probe(base)` with https, then with http."""
        if self._scheme is None:
            async with self._lock:
                if self._scheme is None:
                    self._scheme = await self._spoken(probe)
        return f"{self._scheme}://{self.api_host}"

    async def _spoken(self, probe: Callable[[str], Awaitable[object]]) -> str:
        try:
            await probe(f"https://{self.api_host}")
        except RegistryError as error:
            if error.kind not in {Kind.TLS, Kind.CONNECTION}:
                raise
            try:
                await probe(f"http://{self.api_host}")
            except RegistryError:
                raise error from None
            return "http"
        return "https"

    def is_own(self, url: str) -> bool:
        """Whether a URL has the origin of this registry. Credentials are sent to no other origin."""
        if url.startswith(f"{self._scheme}://{self.api_host}/"):
            return True
        origin = _origin(url)
        return origin is not None and origin == _origin(f"{self._scheme}://{self.api_host}")

    def elsewhere(self, url: str) -> str:
        """Return the host and port of a URL that does not have the origin of this registry, else an empty string."""
        return "" if self.is_own(url) else urlsplit(url).netloc

    def resolve(
        self, url: str, location: str, *, downgrade: bool = False, attempt: Attempt | None = None
    ) -> str:
        """Return the absolute URL of a `Location`, `Link` or realm from the response to `url`.

        Every URL that a server sends passes through this method. It checks scheme, host and user information; `guard`
        checks the IP address on connect. If a registry behind a TLS-terminating proxy names itself with `http://`, the
        URL is changed to https. `downgrade` allows a redirect from https to http on another host; set it only for
        content that is verified by its digest. Raises `RegistryError` with `attempt` if the URL is not allowed.
        """
        plain = location.isascii() and location.isprintable() and " " not in location
        own = f"{self._scheme}://{self.api_host}/"
        if plain and location.startswith(own) and url.startswith(own):
            # The usual case: each upload gets a location. There is nothing to parse.
            return location.partition("#")[0]
        try:
            if "://" not in location.partition("?")[0]:
                location = urljoin(url.partition("?")[0], location)
            parts = urlsplit(location)
            valid = (
                parts.scheme in {"http", "https"}
                and parts.hostname
                and (parts.port is None or parts.port > 0)
                and parts.username is None
            )
        except ValueError:
            valid = False
        if not valid or not plain:
            raise RegistryError(
                Kind.INVALID,
                f"the registry sent an invalid URL: {clean(location)!r}",
                attempt=attempt or Attempt(self.host),
            )
        # Lowercase the scheme and host only. The path and query may be signed, so they stay byte for byte.
        scheme, netloc = parts.scheme, parts.netloc.lower()
        rest = location[len(scheme) + len("://") + len(netloc) :].partition("#")[0]
        if scheme == "http" and url.startswith("https:"):
            if parts.hostname == urlsplit(f"//{self.api_host}").hostname:
                scheme, netloc = "https", self.api_host if parts.port in {None, 80} else netloc
            elif not downgrade:
                raise RegistryError(
                    Kind.TLS,
                    f"the registry redirects from https to http at {clean(netloc)}, which is not allowed",
                    attempt=attempt or Attempt(self.host),
                )
        return f"{scheme}://{netloc}{rest}"

    # --- addresses ------------------------------------------------------------------------------------------------

    def answered(self, *, internal: bool) -> None:
        """Record that the registry responded from an internal or a public address."""
        if not internal and not self._public:
            self._public = True

    def guard(self) -> Guard | None:
        """Return the guard for requests to this registry and for its redirects, or None.

        None until the registry has responded from a public address: an internal registry may redirect to internal hosts.
        """
        return self._guard if self._public else None

    def strict_guard(self) -> Guard:
        """Return the guard for redirects from a public host. It does not depend on the address of the registry."""
        return self._guard

    # --- TLS ------------------------------------------------------------------------------------------------------

    def tls(self, *, own: bool) -> ssl.SSLContext:
        """Return the TLS context for this registry (`own`) or for a host that it redirects to.

        Client certificates and `insecure` apply to the registry only. A private CA applies to both. Raises
        `RegistryError` if a certificate file cannot be read.
        """
        return self._contexts.own() if own else self._contexts.others()
