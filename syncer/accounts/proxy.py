"""Parses the URL of a proxy. Error messages never contain the URL, because it may contain a password."""

from urllib.parse import unquote, urlsplit

from syncer.accounts.settings import DIRECT, Proxy, Secret

SCHEMES = ("http", "https", "socks5", "socks5h")
_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
EXPECTED = "the URL of a proxy (http://, https:// or socks5://, with a host), or none"
_ESCAPE = "write / # ? and @ in its user name or password as %2F %23 %3F and %40"


class InvalidProxy(ValueError):
    """The text is not the URL of a proxy. The message does not contain the text."""


def parse_proxy(text: str) -> Proxy:
    """Parse `http://user:password@proxy:3128`, `socks5://proxy`, `proxy:3128` or `none`. Raises `InvalidProxy`."""
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
    # An unescaped / # or ? in a password ends the host, and the @ is in the rest of the URL.
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
            raise InvalidProxy("expected a user name and a password of 1 to 255 bytes each for a SOCKS proxy")
    return Proxy(scheme, parts.hostname, port or _PORTS[scheme], username, password)
