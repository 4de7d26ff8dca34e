"""Runs credential helpers: programs `docker-credential-<name>` on the PATH.

The protocol is that of github.com/docker/docker-credential-helpers: the command `get`, the server's address on stdin,
and JSON on stdout. Stderr is discarded, because it may contain secrets.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from subprocess import DEVNULL, PIPE

import anyio
import msgspec

from syncer.accounts.settings import Account, AccountProvider, Secret
from syncer.errors import Attempt, Kind, RegistryError
from syncer.lazy_pattern import lazy_pattern
from syncer.oci.reference import DOCKER_HUB

TIMEOUT = 30.0
"""Seconds that a helper may run."""
MAX_OUTPUT = 64 * 1024
ACCOUNT_TTL = 15 * 60.0
"""Seconds to cache an account. Helpers do not report a lifetime. Those with short-lived secrets (ECR 12 h, Google 1 h)
cache and renew them, so running them again is cheap."""
NOT_FOUND_TTL = 60.0
FAILURE_TTL = 10.0
"""Seconds to cache "no credentials" and a failure."""

_log = logging.getLogger(__name__)
_NAME = lazy_pattern(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DOCKER_HUB_SERVER = "https://index.docker.io/v1/"
_NOT_FOUND = (
    "credentials not found in native keychain",
    "no credentials server URL",
    "no credentials username",
)


class HelperFailed(Exception):
    """A helper cannot be run, or its output is invalid. `lasting`: it fails until the user fixes it."""

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
    """Whether a text from a file is valid in a program's name. It must not contain a path."""
    return _NAME.fullmatch(text) is not None


class HelperAccount(AccountProvider):
    """The account of one registry from a credential helper. It is cached and renewed.

    If a helper from `credHelpers` (`required`) fails, `account` raises. If the helper from `credsStore` fails, a warning
    is logged, because the registry may not need credentials.
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
        self._lock = asyncio.Lock()
        self._answer: _Answer | None = None

    @property
    def known(self) -> Account | None:
        """The cached account."""
        return self._answer.account if self._answer else None

    async def account(self, *, refused: Account | None = None) -> Account | None:
        """Return the account of the registry. Raises `RegistryError` if a `required` helper fails."""
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
            # A helper that ran a moment ago would return the same account again.
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
            _log.warning(
                "%s failed for %s: %s; continuing without credentials", self.program, self._host, failed
            )
            return _Answer(None, None, self._clock(), NOT_FOUND_TTL)
        failure = RegistryError(
            Kind.UNAUTHORIZED,
            str(failed),
            attempt=Attempt(self._host, "", "", f"get credentials for {self._host} from {self.program}"),
            permanent=failed.lasting,
            advice="fix the credential helper, or add an entry with credentials to the auth file",
        )
        return _Answer(None, failure, self._clock(), FAILURE_TTL)


async def ask(program: str, server: str, environment: Mapping[str, str]) -> tuple[str, Secret] | None:
    """Run a helper. Return the user name (`<token>` for an identity token) and secret, or None if it has none.

    Raises `HelperFailed`.
    """
    import shutil

    path = shutil.which(program, path=environment.get("PATH", os.defpath))
    if path is None:
        raise HelperFailed("program not found on the PATH", lasting=True)
    try:
        with anyio.fail_after(TIMEOUT):
            status, raw = await _run(path, server, environment)
    except TimeoutError:
        raise HelperFailed(f"timed out after {TIMEOUT:.0f} s") from None
    except OSError as error:
        raise HelperFailed(f"cannot run the program: {error.strerror or type(error).__name__}") from None
    if status != 0:
        said = " ".join(raw.decode(errors="replace").split())
        if any(text in said for text in _NOT_FOUND):
            return None
        # The protocol reports errors as plain text. Do not show text that looks like JSON: it may contain a secret.
        told = f": {said[:200]}" if said and said.isprintable() and not set('{}"') & set(said) else ""
        raise HelperFailed(f"the program exited with status {status}{told}")
    try:
        output = msgspec.json.decode(raw, type=_Output)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise HelperFailed("the output is not the expected JSON object") from None
    if not output.username and not output.secret:
        return None
    return output.username, Secret(output.secret)


async def _run(path: str, server: str, environment: Mapping[str, str]) -> tuple[int, bytes]:
    """Run a helper and return its exit status and stdout. It is killed on errors and on cancellation."""
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
            pass  # the helper did not read its stdin; its output says why
        raw = bytearray()
        async for chunk in process.stdout:
            raw += chunk
            if len(raw) > MAX_OUTPUT:
                raise HelperFailed(f"the output exceeds {MAX_OUTPUT} bytes")
        status = await process.wait()
        ended = True
        return status, bytes(raw)
    finally:
        if not ended:
            # Kill the process group: children of a script would keep its stdout open.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        with anyio.CancelScope(shield=True):
            await process.aclose()
