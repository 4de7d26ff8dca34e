"""`SocketTransport`: a socket on the event loop, plain or with TLS, that can be lent to a thread.

It does what asyncio's transports do for `Connection`. asyncio encrypts in buffers of its own, which a thread cannot use;
this transport uses an `ssl.SSLSocket`, which needs no copies and less memory.
"""

import asyncio
import fcntl
import socket
import ssl
import termios
from collections import deque
from collections.abc import Callable

WRITE_LIMIT = 64 * 1024
"""Unsent bytes above which the protocol is asked to pause writing, until all of them are sent."""

SHORT_RECORD = 1024
"""Bytes of a TLS record, below which no further record is read at once."""
_NO_BYTES = bytes(4)
WOULD_BLOCK = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


async def start_tls(opened: socket.socket, tls: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    """Start TLS with `host` over a connected socket. Raises `OSError`, including `ssl.SSLError`; the socket is closed then."""
    loop = asyncio.get_running_loop()
    try:
        secured = tls.wrap_socket(opened, server_hostname=host, do_handshake_on_connect=False)
    except BaseException:
        opened.close()
        raise
    try:
        while True:
            try:
                secured.do_handshake()
            except ssl.SSLWantReadError:
                await _ready(secured, loop.add_reader, loop.remove_reader)
            except ssl.SSLWantWriteError:
                await _ready(secured, loop.add_writer, loop.remove_writer)
            else:
                return secured
    except BaseException:
        secured.close()
        raise


async def _ready(
    waited: socket.socket, add: Callable[..., None], remove: Callable[[socket.socket], object]
) -> None:
    ready = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    add(waited, wake)
    try:
        await ready
    finally:
        remove(waited)


class SocketTransport(asyncio.Transport):
    """A connected, non-blocking socket. `protocol` gets its events, as from a transport of asyncio.

    Closing drops what is not sent. TLS sends no close_notify: HTTP's framing shows where a message ends.
    """

    def __init__(self, opened: socket.socket, protocol: asyncio.BufferedProtocol) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._socket = opened
        # A request is small and waits for its response: it must not wait to be joined with more.
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._protocol = protocol
        self._backlog: deque[memoryview] = deque()
        self._unsent = 0
        self._reading = False
        self._closing = False
        self._lent = False
        protocol.connection_made(self)
        self.resume_reading()

    # --- asyncio's Transport ----------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        return self._closing

    def abort(self) -> None:
        self._lose(None)

    def pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket)

    def resume_reading(self) -> None:
        if self._closing or self._reading:
            return
        self._reading = True
        self._loop.add_reader(self._socket, self._readable)
        self._read_decrypted()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            return
        sent = 0
        if not self._backlog:
            sent = self._send(data)
            if self._closing or sent == len(data):
                return
            self._loop.add_writer(self._socket, self._writable)
        rest = memoryview(data)[sent:]
        self._backlog.append(rest)
        self._unsent += len(rest)
        if self._unsent > WRITE_LIMIT:
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self._unsent

    # --- lending ----------------------------------------------------------------------------------------------------

    def lend(self) -> socket.socket:
        """Return the socket for a thread. Until `take_back`, nothing here uses it. Nothing may be left unsent."""
        self.pause_reading()
        self._lent = True
        return self._socket

    def take_back(self, error: OSError | None = None, *, ended: bool = False) -> None:
        """Use the socket here again, after the thread has finished. `error`, `ended`: the thread found it closed.

        Reading stays paused.
        """
        self._lent = False
        if self._closing:
            self._socket.close()
        elif ended or error is not None:
            self._lose(error)

    # --- events -----------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        buffer = memoryview(self._protocol.get_buffer(-1))
        got, ended = 0, False
        error: OSError | None = None
        try:
            got, ended = receive(self._socket, buffer)
        except OSError as raised:
            error = raised
        if got:
            self._protocol.buffer_updated(got)
        if (ended or error is not None) and not self._closing:
            self._lose(error)
        elif self._reading and got == len(buffer):
            self._read_decrypted()

    def _read_decrypted(self) -> None:
        # Bytes that are decrypted already do not make the socket readable.
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            self._loop.call_soon(self._read_again)

    def _read_again(self) -> None:
        if self._reading:
            self._readable()

    def _writable(self) -> None:
        while self._backlog:
            first = self._backlog[0]
            sent = self._send(first)
            if self._closing:
                return
            self._unsent -= sent
            if sent < len(first):
                self._backlog[0] = first[sent:]
                return
            self._backlog.popleft()
        self._loop.remove_writer(self._socket)
        self._protocol.resume_writing()

    def _send(self, data: bytes | bytearray | memoryview) -> int:
        try:
            return self._socket.send(data)
        except WOULD_BLOCK:
            return 0
        except OSError as error:
            self._lose(error)
            return 0

    def _lose(self, error: OSError | None) -> None:
        if self._closing:
            return
        self._closing = True
        self._loop.remove_writer(self._socket)
        self.pause_reading()
        self._backlog.clear()
        self._unsent = 0
        self._loop.call_soon(self._lost, error)

    def _lost(self, error: OSError | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            if not self._lent:
                self._socket.close()


def receive(opened: socket.socket, buffer: memoryview) -> tuple[int, bool]:
    """Read what has arrived into `buffer`. Return the number of bytes, and whether the connection ended after them.

    Raises `OSError` if the connection failed and nothing was read before.
    """
    got = 0
    try:
        while got < len(buffer):
            count = opened.recv_into(buffer[got:])
            if not count:
                return got, True
            got += count
            if not isinstance(opened, ssl.SSLSocket):
                break
            # Each read returns at most one record of TLS. A short one is most likely a whole response, and a read that
            # finds nothing costs more than the record. What has arrived behind a response must be read with it: the
            # connection must not be reused then.
            if count < SHORT_RECORD and not _has_data(opened):
                break
    except WOULD_BLOCK:
        pass
    except OSError:
        if not got:
            raise
    return got, False


def _has_data(opened: socket.socket) -> bool:
    """Return whether bytes have arrived that are not read yet, before decryption."""
    return fcntl.ioctl(opened.fileno(), termios.FIONREAD, _NO_BYTES) != _NO_BYTES
