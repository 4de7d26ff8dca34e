"""Moves bytes from socket to socket in threads, so that large blobs use all cores.

The event loop lends both sockets of a `Splice` to a thread and gets them back when the bytes are moved, or after
`SPLICE_SECONDS`. A thread serves several splices and never waits for one of them alone. ssl, hashlib and sockets
release the GIL. HTTP, timeouts and failures are the task of the connections.
"""

import asyncio
import os
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Protocol

from syncer.http.sockets import WOULD_BLOCK, receive

SPLICE_SECONDS = 1.0
"""Seconds after which a thread returns the sockets, so that the event loop can check what has arrived."""
PIECE = 256 * 1024
"""Bytes that are read, checked and sent at once. They stay in the cache of a core."""
TURN = 4
"""Pieces of one splice that a thread moves before it serves the others."""
_LOW_WATER = 64 * 1024
"""A thread waits until so many bytes have arrived: waking for each record of TLS would cost more than the record."""
_RECORD = 32 * 1024
"""More than a record of TLS, which may be partly read already."""

Check = Callable[[memoryview], bool]
"""Called with each piece in order, in a thread. A piece is sent only if the result is True."""


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


class State(Enum):
    READY = auto()
    AWAITS_SOURCE = auto()
    AWAITS_DESTINATION = auto()
    FINISHED = auto()


class Splice:
    """Up to `length` bytes to move from one socket to another. The results are for the event loop, after the move.

    - `read`, `passed`: bytes that were read, and those of them that passed `check`
    - `unsent`: the last that passed, if the destination did not take them. They must be sent before anything else
    - `waited`: seconds without data from the source
    - `ended`: whether the source closed the connection
    - `source_error`, `destination_error`: the failure of a socket
    """

    def __init__(self, source: socket.socket, destination: socket.socket, length: int, check: Check) -> None:
        self.source = source
        self.destination = destination
        self._check = check
        self._left = length
        self._buffer = memoryview(bytearray(min(PIECE, length)))
        self._filled = 0
        self._pending = self._buffer[:0]
        self._dry_since = 0.0
        self._low_water = 1
        self._rejected = False
        self.until = time.monotonic() + SPLICE_SECONDS
        self.state = State.READY
        self.read = 0
        self.passed = 0
        self.waited = 0.0
        self.ended = False
        self.source_error: OSError | None = None
        self.destination_error: OSError | None = None

    @property
    def unsent(self) -> bytes:
        return bytes(self._pending)

    def step(self) -> None:
        """Move what can be moved without waiting, and set `state`."""
        if self._dry_since:
            self.waited += time.monotonic() - self._dry_since
            self._dry_since = 0.0
        self.state = State.READY
        for _ in range(TURN):
            if self.state is State.READY:
                self._send()
            if self.state is State.READY:
                self._receive()
        if self.state is State.AWAITS_SOURCE:
            self._dry_since = time.monotonic()
            self._wait_for(min(len(self._buffer) - self._filled, _LOW_WATER, self._left - _RECORD))

    def finish(self) -> None:
        """Prepare the results. Pass on what has arrived so far."""
        if self._dry_since:
            self.waited += time.monotonic() - self._dry_since
        self._offer()
        self._wait_for(1)
        self.state = State.FINISHED

    def _send(self) -> None:
        while self._pending:
            try:
                sent = self.destination.send(self._pending)
            except WOULD_BLOCK:
                self.state = State.AWAITS_DESTINATION
                return
            except OSError as error:
                self.destination_error = error
                self.state = State.FINISHED
                return
            self._pending = self._pending[sent:]

    def _receive(self) -> None:
        """Fill the buffer. With less than a piece, wait for more: each piece costs system calls."""
        room = self._buffer[self._filled : min(len(self._buffer), self._filled + self._left)]
        try:
            got, self.ended = receive(self.source, room)
        except OSError as error:
            got, self.ended, self.source_error = 0, True, error
        self._filled += got
        self._left -= got
        if got == len(room) or self.ended:
            self._offer()
            if self.ended or not self._left or self._rejected:
                self._send()
                self.state = State.FINISHED
        elif not got or isinstance(self.source, ssl.SSLSocket):
            self.state = State.AWAITS_SOURCE

    def _offer(self) -> None:
        """Check the bytes in the buffer. If they pass, they are the next to be sent."""
        if self._filled and not self._pending:
            piece, self._filled = self._buffer[: self._filled], 0
            self.read += len(piece)
            self._rejected = not self._check(piece)
            if not self._rejected:
                self.passed += len(piece)
                self._pending = piece

    def _wait_for(self, nbytes: int) -> None:
        """Set how many bytes make the source readable."""
        if nbytes != self._low_water and (nbytes > 1 or self._low_water > 1):
            self._low_water = max(1, nbytes)
            with suppress(OSError):
                self.source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, self._low_water)


class BodySplice:
    """The next bytes of a response body, at most `length`, which a thread can move to another connection.

    An upload that takes it instead of bytes calls `move_to`. `moved` is then the number of bytes that count as sent, and
    `waited` for how many seconds the source had no data.
    """

    def __init__(self, source: "Lender", threads: "SpliceThreads", length: int, check: Check) -> None:
        self._source = source
        self._threads = threads
        self._length = length
        self._check = check
        self.moved = 0
        self.waited = 0.0

    def limit(self, length: int) -> None:
        """Move at most `length` bytes."""
        self._length = min(self._length, length)

    async def move_to(self, destination: "Lender") -> bytes:
        """Move bytes to a connection that has nothing left to send. Return those that it must send itself."""
        splice = Splice(self._source.lend(), destination.lend(), self._length, self._check)
        try:
            await self._threads.move(splice)
        finally:
            self.moved, self.waited = splice.passed, splice.waited
            self._source.spliced_from(splice)
            destination.spliced_to(splice)
        return splice.unsent


BodyStream = AsyncGenerator[bytes | BodySplice]
"""A request body in chunks. A splice stands for bytes that a thread moves here from another connection."""


class Lender(Protocol):
    """A connection that lends its socket."""

    def lend(self) -> socket.socket:
        """Return the socket. The connection does not use it until `spliced_from` or `spliced_to`."""
        ...

    def spliced_from(self, splice: Splice) -> None:
        """Take the socket back, and record what was read from it."""
        ...

    def spliced_to(self, splice: Splice) -> None:
        """Take the socket back, after bytes were sent to it."""
        ...


class SpliceThreads:
    """At most `most` threads that move splices. A thread starts when there is a splice for it, and ends with `close`."""

    def __init__(self, most: int | None = None) -> None:
        self._most = usable_cores() if most is None else most
        self._threads: list[_Thread] = []

    @property
    def started(self) -> int:
        """The number of threads."""
        return len(self._threads)

    async def move(self, splice: Splice) -> None:
        """Move a splice. If cancelled, wait until the thread no longer uses the sockets."""
        thread = min(self._threads, key=lambda each: each.load, default=None)
        if thread is None or (thread.load and len(self._threads) < self._most):
            thread = _Thread()
            self._threads.append(thread)
            thread.start()
        thread.load += 1
        returned = asyncio.get_running_loop().create_future()
        thread.add(splice, returned)
        try:
            await asyncio.shield(returned)
        except BaseException:
            thread.cancel(splice)
            while not returned.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([returned])
            raise
        finally:
            thread.load -= 1

    def close(self) -> None:
        """End the threads. No splice may be in progress."""
        for thread in self._threads:
            thread.end()
        self._threads.clear()


class _Thread(threading.Thread):
    """Moves splices, as many at once as there are. `load` is their number, and belongs to the event loop."""

    def __init__(self) -> None:
        super().__init__(name="splice", daemon=True)
        self.load = 0
        self._selector = selectors.DefaultSelector()
        self._awake, self._waker = socket.socketpair()
        self._awake.setblocking(False)
        self._selector.register(self._awake, selectors.EVENT_READ)
        self._orders: deque[Callable[[], bool]] = deque()
        self._returned: dict[Splice, asyncio.Future[None]] = {}
        self._watched: dict[Splice, State] = {}

    # --- called in the event loop -----------------------------------------------------------------------------------

    def add(self, splice: Splice, returned: "asyncio.Future[None]") -> None:
        """Begin to move `splice`. `returned` gets its result when the sockets are free again."""
        self._order(lambda: self._begin(splice, returned))

    def cancel(self, splice: Splice) -> None:
        self._order(lambda: self._return(splice))

    def end(self) -> None:
        self._order(lambda: False)
        self.join()

    def _order(self, order: Callable[[], bool]) -> None:
        self._orders.append(order)
        self._waker.send(b"x")

    # --- the thread -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        while self._serve():
            pass
        for splice in list(self._returned):
            self._return(splice)
        self._selector.close()
        self._awake.close()
        self._waker.close()

    def _serve(self) -> bool:
        """Serve what is ready. Return False if the thread must end."""
        for key, events in self._selector.select(self._timeout()):
            splice = key.data
            if splice is None:
                self._awake.recv(4096)
            elif splice in self._returned:
                if key.fileobj is splice.destination and events & selectors.EVENT_READ:
                    # A response, or the end: the connection must read it.
                    self._return(splice)
                else:
                    splice.state = State.READY
        while self._orders:
            if not self._orders.popleft()():
                return False
        now = time.monotonic()
        for splice in list(self._returned):
            try:
                if splice.state is State.READY:
                    splice.step()
                if splice.state is State.FINISHED or splice.until <= now:
                    self._return(splice)
                else:
                    self._watch(splice)
            except Exception as error:  # noqa: BLE001
                # Whoever waits for the splice gets the error.
                self._return(splice, error)
        return True

    def _timeout(self) -> float | None:
        if not self._returned:
            return None
        if any(splice.state is State.READY for splice in self._returned):
            return 0.0
        return max(0.0, min(splice.until for splice in self._returned) - time.monotonic())

    def _begin(self, splice: Splice, returned: "asyncio.Future[None]") -> bool:
        self._returned[splice] = returned
        return True

    def _return(self, splice: Splice, error: Exception | None = None) -> bool:
        returned = self._returned.pop(splice, None)
        if returned is not None:
            if error is None:
                splice.finish()
            self._unwatch(splice)
            with suppress(RuntimeError):  # the event loop was closed
                returned.get_loop().call_soon_threadsafe(_settle, returned, error)
        return True

    def _watch(self, splice: Splice) -> None:
        """Watch the socket that a splice waits for, and whether the destination responds early."""
        before = self._watched.get(splice)
        if splice.state is State.READY or splice.state is before:
            return
        awaits_source = splice.state is State.AWAITS_SOURCE
        if awaits_source:
            self._selector.register(splice.source, selectors.EVENT_READ, splice)
        elif before is State.AWAITS_SOURCE:
            self._selector.unregister(splice.source)
        events = selectors.EVENT_READ if awaits_source else selectors.EVENT_READ | selectors.EVENT_WRITE
        if before is None:
            self._selector.register(splice.destination, events, splice)
        else:
            self._selector.modify(splice.destination, events, splice)
        self._watched[splice] = splice.state

    def _unwatch(self, splice: Splice) -> None:
        before = self._watched.pop(splice, None)
        if before is not None:
            self._selector.unregister(splice.destination)
        if before is State.AWAITS_SOURCE:
            self._selector.unregister(splice.source)


def _settle(returned: "asyncio.Future[None]", error: Exception | None) -> None:
    if returned.done():
        return
    if error is None:
        returned.set_result(None)
    else:
        returned.set_exception(error)
