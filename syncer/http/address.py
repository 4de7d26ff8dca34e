"""Where a registry is reached: scheme, API host and TLS, as its settings say."""

import ssl
from collections.abc import Awaitable, Callable
from urllib.parse import urljoin, urlsplit

import anyio

from syncer.accounts.settings import HostSettings
from syncer.errors import Attempt, Kind, RegistryError
from syncer.http.dialling import usual_context
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
    """One registry's address. Which scheme an `insecure` registry speaks is found out once, by `probe`."""

    def __init__(self, host: str, settings: HostSettings) -> None:
        self.host = host
        self.api_host = _API_HOSTS.get(host, host)
        self.settings = settings
        self._scheme = "http" if settings.plain_http else None if settings.insecure else "https"
        self._lock = anyio.Lock()
        self._own: ssl.SSLContext | None = None
        self._others: ssl.SSLContext | None = None

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
        own = f"{self._scheme}://{self.api_host}"
        if url.startswith(f"{own}/"):
            return True
        origin = _origin(url)
        return origin is not None and origin == _origin(own)

    def resolve(self, url: str, location: str) -> str:
        """An absolute URL of a `Location` or `Link` that came with the answer to `url`.

        A registry behind a proxy that ends TLS may name itself with `http://`: it is spoken to over TLS still.
        Raises `RegistryError` where it leads nowhere.
        """
        try:
            if "://" not in location.partition("?")[0]:
                location = urljoin(url.partition("?")[0], location)
            parts = urlsplit(location)
            valid = (
                parts.scheme in {"http", "https"}
                and parts.hostname
                and (parts.port or 1)
                and not parts.username
            )
        except ValueError:
            valid = False
        if not valid or not location.isascii() or not location.isprintable() or " " in location:
            raise RegistryError(
                Kind.INVALID,
                f"the registry names an impossible address: {clean(location)!r}",
                attempt=Attempt(self.host),
            )
        if (
            parts.scheme == "http"
            and self.secure
            and parts.hostname == urlsplit(f"//{self.api_host}").hostname
        ):
            netloc = self.api_host if parts.port in {None, 80} else parts.netloc
            location = parts._replace(scheme="https", netloc=netloc).geturl()
        return location

    def tls(self, *, own: bool) -> ssl.SSLContext:
        """The TLS context for this registry (`own`) or for a host that it sends us to.

        A client certificate is shown to the registry alone; the private CA and `insecure` hold for both.
        Raises `RegistryError` if a file cannot be read.
        """
        settings = self.settings
        if not (settings.insecure or settings.ca_file or settings.cert_file):
            return usual_context()
        if own:
            self._own = self._own or self._context(settings.cert_file, settings.key_file)
            return self._own
        self._others = self._others or self._context(None, None)
        return self._others

    def _context(self, cert_file: str | None, key_file: str | None) -> ssl.SSLContext:
        context = ssl.create_default_context()
        tried = self.settings.ca_file
        try:
            if tried:
                context.load_verify_locations(tried)
            if cert_file:
                tried = f"{cert_file}, {key_file or 'no key_file'}"
                context.load_cert_chain(cert_file, key_file)
        except (OSError, ssl.SSLError) as error:
            raise RegistryError(
                Kind.TLS, f"cannot use the certificate file ({tried}): {error}", attempt=Attempt(self.host)
            ) from error
        if self.settings.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
