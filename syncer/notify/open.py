"""Opens the URLs of `--notify`."""

from syncer.accounts.settings import Secret
from syncer.notify.channel import Channel, InvalidAddress
from syncer.notify.webhook import Webhook


def open_channel(url: str, *, secret: Secret | None = None, link: str = "") -> Channel:
    """Return the channel of a URL. Raises `InvalidAddress`.

    `secret` is the key that signs webhooks. `link` is the URL of this program, for services that show one.
    """
    scheme, mark, _ = url.partition("://")
    if not mark:
        raise InvalidAddress("expected a URL such as https://host/path or lark://TOKEN")
    if scheme.lower() in ("http", "https"):
        return Webhook(url, secret=secret)
    from syncer.notify.services import AppriseService  # only what is used

    return AppriseService(url, link=link)
