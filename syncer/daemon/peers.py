"""Peers, identified by address, and the wrong tokens that they sent."""

import ipaddress
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import anyio

_FIRST_DELAY = 0.25
_MAX_DELAY = 4.0
_FORGET_SECONDS = 600.0
_MAX_PEERS = 1024

_log = logging.getLogger(__name__)


def peer_of(address: str) -> str:
    """Return the peer of an address, for limits. All IPv6 addresses of a /64 are one peer: one host may use all of them."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))


class WrongTokens:
    """Logs wrong tokens and delays the responses to them. The delay doubles with each one from a peer, up to 4 seconds.

    A valid token is never delayed, so users behind the same proxy are not locked out. `now` returns seconds; `sleep`
    takes seconds.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._now = now
        self._sleep = sleep
        self._seen: OrderedDict[str, tuple[int, float]] = OrderedDict()

    async def delay(self, address: str, request: str) -> None:
        """Count a wrong token from `address`, and wait. `request` is the method and path, for the log."""
        peer = peer_of(address)
        count, last = self._seen.pop(peer, (0, 0.0))
        now = self._now()
        count = 1 if now - last > _FORGET_SECONDS else count + 1
        self._seen[peer] = count, now
        while len(self._seen) > _MAX_PEERS:
            self._seen.popitem(last=False)
        # Log the 1st, 2nd, 4th, 8th, …: a brute-force attack must not fill the log.
        if count & (count - 1) == 0:
            _log.warning("wrong token from %s for %s (%d in a row)", address, request, count)
        await self._sleep(min(_FIRST_DELAY * 2 ** min(count - 1, 10), _MAX_DELAY))
