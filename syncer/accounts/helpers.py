"""Credential helper programs: `docker-credential-<name>` on the PATH, asked for the account of one registry.

The protocol is that of github.com/docker/docker-credential-helpers: `get`, the server's address on standard input,
JSON on standard output. What a program says on standard error is not kept: it may hold anything.
"""

import logging
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from subprocess import DEVNULL, PIPE

import anyio
import msgspec

from syncer.accounts.settings import Account, AccountProvider, Secret
from syncer.errors import Attempt, Kind, RegistryError
from syncer.oci.reference import DOCKER_HUB

TIMEOUT = 30.0
"""Seconds that a program has for its answer."""
MAX_OUTPUT = 64 * 1024
ACCOUNT_TTL = 15 * 60.0
"""Seconds that an answer is used. No program says how long its answer lasts; those whose secrets do not last for
long (ECR 12 h, Google 1 h) keep and renew them by themselves, and asking them is cheap."""
NOT_FOUND_TTL = 60.0
FAILURE_TTL = 10.0
"""Seconds for which "no credentials" and a failure are believed."""

_log = logging.getLogger(__name__)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DOCKER_HUB_SERVER = "https://index.docker.io/v1/"
_NOT_FOUND = (
    "credentials not found in native keychain",
    "no credentials server URL",
    "no credentials username",
)


class HelperFailed(Exception):
    """A program that cannot be asked or gave no answer. `lasting`: not before somebody mends it."""

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


class _Output(msgspec.Struct):
    username: str = msgspec.field(default="", name="Username")
    secret: str = msgspec.field(default="", name="Secret")


class _Answer(msgspec.Struct, frozen=True):
    account: Account | None
    failure: RegistryError | None
    asked_at: float
    good_for: float


def is_helper_name(text: str) -> bool:
    """Whether the text may be a part of a program's name: it comes from a file, and must not lead elsewhere."""
    return _NAME.fullmatch(text) is not None


class HelperAccount(AccountProvider):
    """The account that one program knows for one registry, asked again as it ages.

    A program that is named for this registry alone (`required`) has to answer; one that is named for all
    (`credsStore`) may fail, which is a warning, since this registry may not need it.
    """

    def __init__(
        self,
        name: str,
        host: str,
        *,
        required: bool,
        environment: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.program = f"docker-credential-{name}"
        self.name = f"{host} ({self.program})"
        self._host = host
        self._required = required
        self._environment = environment
        self._clock = clock
        self._lock = anyio.Lock()
        self._answer: _Answer | None = None

    @property
    def known(self) -> Account | None:
        """The last answer."""
        return self._answer.account if self._answer else None

    async def account(self, *, refused: Account | None = None) -> Account | None:
        """Raises `RegistryError` where a `required` program fails."""
        answer = self._answer
        if answer is None or not self._holds(answer, refused):
            async with self._lock:
                answer = self._answer
                if answer is None or not self._holds(answer, refused):
                    answer = self._answer = await self._ask()
        if answer.failure is not None:
            raise answer.failure
        return answer.account

    def _holds(self, answer: _Answer, refused: Account | None) -> bool:
        age = self._clock() - answer.asked_at
        if refused is not None and answer.account == refused:
            # What the program said a moment ago it would say again.
            return age < FAILURE_TTL
        return age < answer.good_for

    async def _ask(self) -> _Answer:
        server = _DOCKER_HUB_SERVER if self._host == DOCKER_HUB else self._host
        try:
            output = await ask(self.program, server, self._environment)
        except HelperFailed as failed:
            return self._failed(failed)
        now = self._clock()
        if output is None:
            return _Answer(None, None, now, NOT_FOUND_TTL)
        username, secret = output
        if username == "<token>":
            return _Answer(Account(self.name, identity_token=secret), None, now, ACCOUNT_TTL)
        return _Answer(Account(self.name, username, secret), None, now, ACCOUNT_TTL)

    def _failed(self, failed: HelperFailed) -> _Answer:
        if not self._required:
            _log.warning("%s for %s: %s; going on without it", self.program, self._host, failed)
            return _Answer(None, None, self._clock(), NOT_FOUND_TTL)
        failure = RegistryError(
            Kind.UNAUTHORIZED,
            str(failed),
            attempt=Attempt(self._host, "", "", f"ask {self.program} for the credentials of {self._host}"),
            permanent=failed.lasting,
            advice="mend it, or add an entry with credentials to the auth file",
        )
        return _Answer(None, failure, self._clock(), FAILURE_TTL)


async def ask(program: str, server: str, environment: Mapping[str, str]) -> tuple[str, Secret] | None:
    """User name (`<token>` for an identity token) and secret for a server, or None. Raises `HelperFailed`."""
    path = shutil.which(program, path=environment.get("PATH", os.defpath))
    if path is None:
        raise HelperFailed("there is no such program on the PATH", lasting=True)
    try:
        with anyio.fail_after(TIMEOUT):
            status, raw = await _run(path, server, environment)
    except TimeoutError:
        raise HelperFailed(f"no answer in {TIMEOUT:.0f} s") from None
    except OSError as error:
        raise HelperFailed(f"it cannot be run: {error.strerror or type(error).__name__}") from None
    if status != 0:
        said = " ".join(raw.decode(errors="replace").split())
        if any(text in said for text in _NOT_FOUND):
            return None
        # By the protocol a failure is told in plain words. Anything like an answer is not repeated.
        told = f": {said[:200]}" if said and said.isprintable() and not set('{}"') & set(said) else ""
        raise HelperFailed(f"it ended with status {status}{told}")
    try:
        output = msgspec.json.decode(raw, type=_Output)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise HelperFailed("its answer is not the JSON that was expected") from None
    if not output.username and not output.secret:
        return None
    return output.username, Secret(output.secret)


async def _run(path: str, server: str, environment: Mapping[str, str]) -> tuple[int, bytes]:
    """The exit status and the output. Whatever happens, no process is left behind."""
    process = await anyio.open_process(
        [path, "get"], stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment, start_new_session=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    ended = False
    try:
        try:
            await process.stdin.send(server.encode())
            await process.stdin.aclose()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, ConnectionError):
            pass  # it did not read what it was asked: its answer tells why
        raw = bytearray()
        async for chunk in process.stdout:
            raw += chunk
            if len(raw) > MAX_OUTPUT:
                raise HelperFailed(f"its answer is longer than {MAX_OUTPUT} bytes")
        status = await process.wait()
        ended = True
        return status, bytes(raw)
    finally:
        if not ended:
            # The whole session: a script's children would live on, and hold its output open.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        with anyio.CancelScope(shield=True):
            await process.aclose()
