"""Where a registry is reached: scheme, API host and TLS, as its settings say."""

import ssl
from collections.abc import Awaitable, Callable
from urllib.parse import urljoin, urlsplit

import anyio

from syncer.accounts.settings import HostSettings
from syncer.errors import Attempt, Kind, RegistryError
from syncer.http.certificates import TlsContexts
from syncer.http.internal import AllowedHosts, Guard
from syncer.oci.reference import DOCKER_HUB
from syncer.untrusted import clean

_API_HOSTS = {DOCKER_HUB: "registry-1.docker.io"}
_PORTS = {"http": 80, "https": 443}


def _origin(url: str) -> tuple[str, str, int] | None:
    """What all URLs of one server have in common (RFC 6454, section 4); None for what names no server."""
    parts = urlsplit(url)
    try:
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        return None
    return None if parts.username or not parts.hostname else (parts.scheme, parts.hostname, port)


class Address:
    """One registry's address. Which scheme an `insecure` registry speaks is found out once, by `probe`.

    `allowed` are the internal hosts that it may send us to though it is a public one.
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
        self._lock = anyio.Lock()
        self._contexts = TlsContexts(host, settings)
        self._guard = Guard(allowed)
        self._public = False

    @property
    def secure(self) -> bool:
        return self._scheme != "http"

    async def base(self, probe: Callable[[str], Awaitable[object]]) -> str:
        """The URL that paths are put behind. `probe(base)` is asked once where TLS may or may not be spoken."""
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
        """Whether a URL leads to this registry: the only place its credentials go to."""
        if url.startswith(f"{self._scheme}://{self.api_host}/"):
            return True
        origin = _origin(url)
        return origin is not None and origin == _origin(f"{self._scheme}://{self.api_host}")

    def resolve(
        self, url: str, location: str, *, downgrade: bool = False, attempt: Attempt | None = None
    ) -> str:
        """An absolute URL of a `Location`, `Link` or realm that came with the answer to `url`.

        The one place where a URL of a stranger becomes one that is asked: scheme, host and credentials are checked here,
        the address of the host by `guard` when it is connected to. A registry behind a proxy that ends TLS may name
        itself with `http://`: it is spoken to over TLS still. `downgrade` allows to go from https to http elsewhere:
        only for content that is checked by its digest. Raises `RegistryError`, about `attempt`.
        """
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
        if not valid or not location.isascii() or not location.isprintable() or " " in location:
            raise RegistryError(
                Kind.INVALID,
                f"the registry names an impossible address: {clean(location)!r}",
                attempt=attempt or Attempt(self.host),
            )
        # Schemes and hosts may come in capitals; what follows stays byte for byte, since it may be signed.
        scheme, netloc = parts.scheme, parts.netloc.lower()
        rest = location[len(scheme) + len("://") + len(netloc) :].partition("#")[0]
        if scheme == "http" and url.startswith("https:"):
            if parts.hostname == urlsplit(f"//{self.api_host}").hostname:
                scheme, netloc = "https", self.api_host if parts.port in {None, 80} else netloc
            elif not downgrade:
                raise RegistryError(
                    Kind.TLS,
                    f"the registry leads from https to http at {clean(netloc)}: not followed",
                    attempt=attempt or Attempt(self.host),
                )
        return f"{scheme}://{netloc}{rest}"

    # --- addresses ------------------------------------------------------------------------------------------------

    def answered(self, *, internal: bool) -> None:
        """An answer of the registry came, from an internal address or from a public one."""
        if not internal and not self._public:
            self._public = True

    def guard(self) -> Guard | None:
        """What keeps requests to this registry, and to where it sends us, away from internal addresses.

        None until it has answered from a public address: one that is internal itself may name its neighbours.
        """
        return self._guard if self._public else None

    def strict_guard(self) -> Guard:
        """The same for where a host of the public internet sends us, whatever the registry is."""
        return self._guard

    # --- TLS ------------------------------------------------------------------------------------------------------

    def tls(self, *, own: bool) -> ssl.SSLContext:
        """The TLS context for this registry (`own`) or for a host that it sends us to.

        A client certificate is shown to the registry alone, and `insecure` holds for it alone; a private CA holds for
        both. Raises `RegistryError` if a file cannot be read.
        """
        return self._contexts.own() if own else self._contexts.others()
