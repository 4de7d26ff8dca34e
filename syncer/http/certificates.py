"""TLS contexts for one registry, from its settings or else from the `certs.d` folders of docker and podman."""

import ssl
from contextlib import suppress
from pathlib import Path

import msgspec

from syncer.accounts.settings import HostSettings
from syncer.errors import Attempt, Kind, RegistryError
from syncer.http.trust import new_context, usual_context


def certificate_folders() -> tuple[Path, ...]:
    """Return the folders that may contain a folder for a host. The first match is used (containers-certs.d(5))."""
    folders = [Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d")]
    with suppress(RuntimeError):  # a user without a home
        folders.insert(0, Path.home() / ".config/containers/certs.d")
    return tuple(folders)


class HostCertificates(msgspec.Struct, frozen=True):
    """The CAs (`*.crt`) and client certificates with their keys (`*.cert`, `*.key`) of one host, by file."""

    authorities: tuple[str, ...] = ()
    clients: tuple[tuple[str, str], ...] = ()


def find_certificates(host: str) -> HostCertificates:
    """Find the certificates of a host (`host` or `host:port`) in `certs.d`. Raises `OSError` if a folder is unreadable."""
    if "/" in host or host in {"", ".", ".."}:
        return HostCertificates()
    for folder in certificate_folders():
        try:
            names = sorted(path.name for path in (folder / host).iterdir())
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        here = folder / host
        authorities = tuple(str(here / name) for name in names if name.endswith(".crt"))
        clients = tuple(
            (str(here / name), str(here / f"{name.removesuffix('.cert')}.key"))
            for name in names
            if name.endswith(".cert")
        )
        return HostCertificates(authorities, clients)
    return HostCertificates()


class TlsContexts:
    """The TLS contexts for a registry and for the hosts that it redirects to."""

    def __init__(self, host: str, settings: HostSettings) -> None:
        self._host = host
        self._settings = settings
        self._found: HostCertificates | None = None
        self._own: ssl.SSLContext | None = None
        self._others: ssl.SSLContext | None = None

    def own(self) -> ssl.SSLContext:
        """Return the context for the registry. It has the client certificate; `insecure` disables verification."""
        if self._own is None:
            self._own = self._context(self._certificates().clients, insecure=self._settings.insecure)
        return self._own

    def others(self) -> ssl.SSLContext:
        """Return the context for other hosts, such as token services. It always verifies, also against the private CA."""
        if self._others is None:
            self._others = self._context(())
        return self._others

    def _certificates(self) -> HostCertificates:
        if self._found is None:
            settings = self._settings
            try:
                found = find_certificates(self._host)
            except OSError as error:
                raise self._failure("certs.d", error) from error
            authorities = (settings.ca_file,) if settings.ca_file else found.authorities
            clients = (
                ((settings.cert_file, settings.key_file or ""),) if settings.cert_file else found.clients
            )
            self._found = HostCertificates(authorities, clients)
        return self._found

    def _context(self, clients: tuple[tuple[str, str], ...], *, insecure: bool = False) -> ssl.SSLContext:
        authorities = self._certificates().authorities
        if not authorities and not clients and not insecure:
            return usual_context()
        tried = authorities[0] if authorities else ""
        try:
            context = new_context(tried or None)
            for tried in authorities[1:]:
                context.load_verify_locations(tried)
            for certificate, key in clients:
                tried = f"{certificate}, {key or 'no key_file'}"
                context.load_cert_chain(certificate, key or None)
        except (OSError, ssl.SSLError) as error:
            raise self._failure(tried, error) from error
        if authorities:
            # Python 3.13 requires key identifiers (RFC 5280, section 4.2.1). Many private CAs have none.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _failure(self, tried: str, error: OSError) -> RegistryError:
        return RegistryError(
            Kind.TLS, f"cannot use the certificate file ({tried}): {error}", attempt=Attempt(self._host)
        )
