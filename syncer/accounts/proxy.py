"""A proxy as the auth file or the environment names it. A URL that cannot be used is never repeated: it may hold a password."""

from urllib.parse import unquote, urlsplit

from syncer.accounts.settings import DIRECT, Proxy, Secret

SCHEMES = ("http", "https", "socks5", "socks5h")
_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
EXPECTED = "the URL of a proxy (http://, https:// or socks5://, with a host), or none"
_ESCAPE = "write / # ? and @ in its user name or password as %2F %23 %3F and %40"


class InvalidProxy(ValueError):
    """A text that names no proxy. Its own text says nothing of what was written."""


def parse_proxy(text: str) -> Proxy:
    """`http://user:password@proxy:3128`, `socks5://proxy`, `proxy:3128`, or `none`. Raises `InvalidProxy`."""
    text = text.strip()
    if text.lower() == "none":
        return DIRECT
    url = text if "://" in text else f"http://{text}"
    if not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidProxy(f"expected {EXPECTED}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidProxy(f"expected {EXPECTED}; {_ESCAPE}") from None
    scheme = parts.scheme.lower()
    if scheme not in SCHEMES:
        raise InvalidProxy(f"expected {EXPECTED}")
    # A bare / # or ? in a password ends the host: the @ is in what follows then.
    if not parts.hostname or port == 0 or "@" in parts.path + parts.query + parts.fragment:
        raise InvalidProxy(f"expected {EXPECTED}; {_ESCAPE}")
    username = None if parts.username is None else unquote(parts.username)
    password = None if username is None else Secret(unquote(parts.password or ""))
    if any(ord(char) < 32 for char in (username or "") + (password.reveal() if password else "")):
        raise InvalidProxy(f"expected {EXPECTED}")
    if scheme.startswith("socks") and username is not None:
        too_long = (
            len(username.encode()) > 255 or len(password.reveal().encode()) > 255 if password else False
        )
        if not username or too_long:
            raise InvalidProxy("expected 1 to 255 bytes as user name and as password of a SOCKS proxy")
    return Proxy(scheme, parts.hostname, port or _PORTS[scheme], username, password)
