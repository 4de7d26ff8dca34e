"""A registry and a token service without a network, for tests of authentication."""

import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from anyio.lowlevel import checkpoint

from syncer.accounts.settings import Account, Secret
from syncer.errors import Kind, RegistryError
from syncer.http.auth import Authenticator
from syncer.http.request import Answer
from syncer.http.standing import Standing
from syncer.http.transport import Headers

REALM = "https://auth.example.com/token"
PULL = ("repository:acme/app:pull",)
PUSH = ("repository:acme/app:pull,push",)
PASSWORD, IDENTITY = "pa55-w0rd-of-anna", "1dentity-t0ken"
ANNA = Account("registry.example.com", "anna", Secret(PASSWORD))
KNOWN = Account("registry.example.com", identity_token=Secret(IDENTITY))


@dataclass
class Asked:
    """One request to a token service, taken apart."""

    method: str
    url: str
    user: str | None
    form: dict[str, list[str]]
    raw_headers: dict[str, str]

    @property
    def scopes(self) -> list[str]:
        return self.form.get("scope", [])


@dataclass
class Stage:
    """A registry and its token service, without network. `answer` is called for each token."""

    account: Account | None = None
    secure: bool = True
    ping: Callable[[str | None], tuple[int, str]] = lambda authorization: (200, "")
    answer: Callable[[Asked], object] = lambda asked: {"token": "t"}
    time: float = 1000.0
    asked: list[Asked] = field(default_factory=list)
    pings: list[str | None] = field(default_factory=list)
    slowly: Callable[[], Awaitable[None]] = checkpoint
    standing: Standing | None = None

    def __post_init__(self) -> None:
        self.auth = Authenticator(
            "registry.example.com",
            self.account,
            fetch=self._fetch,
            ping=self._ping,
            secure=lambda: self.secure,
            standing=self.standing,
            clock=lambda: self.time,
            now=lambda: 1_700_000_000 + self.time,
        )

    async def _ping(self, authorization: str | None) -> Answer:
        self.pings.append(authorization)
        await checkpoint()
        status, challenge = self.ping(authorization)
        headers = [(b"www-authenticate", challenge.encode())] if challenge else []
        return Answer(status, Headers(headers), b"", "")

    async def _fetch(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> Answer:
        form = parse_qs(body.decode() if body else urlsplit(url).query)
        _, _, pair = headers.get("Authorization", "").partition(" ")
        asked = Asked(method, url, base64.b64decode(pair).decode() if pair else None, form, headers)
        self.asked.append(asked)
        await self.slowly()
        answer = self.answer(asked)
        if isinstance(answer, int):
            kind = Kind.SERVER_ERROR if answer >= 500 else Kind.UNAUTHORIZED
            raise RegistryError(kind, f"{answer} refused", status=answer)
        if isinstance(answer, Answer):
            return answer
        raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        return Answer(200, Headers(), raw, url)

    async def challenge(self, header: str | None = None, scopes=PULL, sent: str | None = None) -> bool:
        header = bearer() if header is None else header
        return await self.auth.challenged(
            Headers([(b"www-authenticate", header.encode())] if header else []), scopes, sent
        )

    async def header(self, scopes=PULL) -> str | None:
        return await self.auth.authorization(scopes)


def bearer(realm: str = REALM, **more: str) -> str:
    return ",".join([f'Bearer realm="{realm}"', *(f'{name}="{value}"' for name, value in more.items())])


def asks(challenge: str) -> Callable[[str | None], tuple[int, str]]:
    """`/v2/` of a registry that sends a challenge and accepts any credentials."""
    return lambda authorization: (200, "") if authorization else (401, challenge)


def numbered() -> Callable[[Asked], object]:
    """Tokens t1, t2, … for scopes, and one without."""
    counter = iter(range(1, 10_000))
    return lambda asked: {"token": f"t{next(counter)}" if asked.scopes else "none", "expires_in": 300}


def jwt(subject: str | None, **rights: list[str]) -> str:
    access = [{"type": "repository", "name": name, "actions": actions} for name, actions in rights.items()]
    claims = base64.urlsafe_b64encode(json.dumps({"sub": subject, "access": access}).encode()).decode()
    return f"e30.{claims.rstrip('=')}.x"
