"""Access control of the Harbor for tests: projects, accounts, tokens, and the 401 responses."""

import base64
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import parse_qs

from syncer.demo import Answer, Request
from tests.support import harbor_answers as rows
from tests.support.harbor_answers import compact

LIFETIME = 1800
"""The lifetime of a token in seconds."""
ALL = ("pull", "push", "delete")


class NotRecorded(Exception):
    """No recording shows Harbor's response to this request."""


@dataclass(slots=True)
class Project:
    """A project. `quota` is in bytes; `immutable` are patterns of tags that cannot be pushed twice.

    With `signed_only` only images with a signature of cosign can be pulled. A `proxy_cache` project answers
    with what the store has for it, as if it were the upstream's.
    """

    name: str
    public: bool = False
    proxy_cache: bool = False
    signed_only: bool = False
    quota: int | None = None
    immutable: tuple[str, ...] = ()
    id: int = 0


@dataclass(slots=True)
class Account:
    """A user or a robot (`robot$name`, or `robot$project+name`). `rights` are actions by project.

    Actions are `pull`, `push` (which brings `pull`), `delete`, and `list`, for the API's list of repositories.
    A robot that is `disabled` or `expired` is answered as one with a wrong password.
    """

    name: str
    password: str = "Harbor12345"
    rights: dict[str, tuple[str, ...]] = field(default_factory=dict)
    admin: bool = False
    creates_projects: bool = False
    disabled: bool = False
    expired: bool = False

    @property
    def is_robot(self) -> bool:
        return self.name.startswith("robot$")


@dataclass(frozen=True, slots=True)
class Login:
    """A login at one part of Harbor, and whether it succeeded."""

    where: Literal["token", "registry", "api"]
    name: str
    accepted: bool


@dataclass(frozen=True, slots=True)
class Bearer:
    """The claims of a token: the user (None if anonymous), and the actions by repository."""

    subject: str | None
    access: dict[str, tuple[str, ...]]


class Access:
    """The projects and accounts of one Harbor. `valid_tokens` are the issued tokens that it still accepts."""

    def __init__(self, projects: Iterable[Project], accounts: Iterable[Account]) -> None:
        self._ids = itertools.count(1)
        self.projects: dict[str, Project] = {}
        self.accounts = {account.name: account for account in accounts}
        self.logins: list[Login] = []
        self.valid_tokens: dict[str, Bearer] = {}
        self._serial = itertools.count(1)
        for project in projects:
            self.create(project)

    def create(self, project: Project) -> Project:
        """Add a project with the next id."""
        self.projects[project.name] = made = replace(project, id=next(self._ids))
        return made

    def expire_tokens(self) -> None:
        """Expire all issued tokens. They are then treated as tokens without permissions."""
        self.valid_tokens.clear()

    def mint(self, bearer: Bearer) -> str:
        """Return a token with these claims, without a token request."""
        access = [
            {"type": "repository", "name": name, "actions": list(actions)}
            for name, actions in bearer.access.items()
        ]
        claims = {
            "iss": "harbor-token-issuer",
            "sub": bearer.subject,
            "aud": "harbor-registry",
            "jti": next(self._serial),
            "access": access or None,
        }
        token = ".".join(_base64(part) for part in ({"alg": "RS256", "typ": "JWT"}, claims, "not signed"))
        self.valid_tokens[token] = bearer
        return token

    def basic(self, request: Request, where: Literal["token", "registry", "api"]) -> Account | None:
        """Return the account of the request's credentials, or None if they are missing or wrong. Records the login."""
        scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Basic":
            return None
        name, _, password = base64.b64decode(encoded).decode().partition(":")
        account = self.accounts.get(name)
        is_right = account is not None and account.password == password
        accepted = is_right and account is not None and not account.disabled and not account.expired
        self.logins.append(Login(where, name, accepted))
        return account if accepted else None

    # Answers

    def token(self, request: Request) -> Answer:
        """Respond as the token service. With a scope, everyone gets a token; a wrong password gets an anonymous one."""
        if request.method != "GET":
            raise NotRecorded("a token by another method")
        scopes = parse_qs(request.query_string).get("scope", [])
        account = self.basic(request, "token")
        if account is None and not scopes:
            return rows.NO_TOKEN.answer()
        access = {}
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name = rest.rpartition(":")[0]
            if kind != "repository" or not name:
                raise NotRecorded(f"a token for {scope}")
            access[name] = self._actions(account, name)
        body = {
            "token": self.mint(Bearer(account.name if account else None, access)),
            "access_token": "",
            "expires_in": LIFETIME,
            "issued_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return rows.TOKEN.answer(compact(body))

    def ping(self, request: Request, url: str) -> Answer:
        """`GET /v2/`."""
        if "Authorization" not in request.headers:
            return rows.LOGIN_WANTED.answer(url=url)
        if self._bearer(request) or self.basic(request, "registry"):
            return rows.PING.answer(b"{}")
        raise NotRecorded("/v2/ with a wrong password or a token that is not valid")

    def refusal(self, request: Request, repository: str, action: str, url: str) -> Answer | None:
        """Return the error response if the action in a repository is not allowed, else None."""
        authorization = request.headers.get("Authorization")
        if authorization is None:
            if request.method not in {"GET", "HEAD"}:
                raise NotRecorded("a change without a token")
            return rows.TOKEN_WANTED.answer(url=url, repository=repository)
        project = repository.partition("/")[0]
        if authorization.startswith("Basic "):
            actions = self._actions(self.basic(request, "registry"), repository)
        else:
            bearer = self._bearer(request)
            if bearer is None and project in self.projects and self.projects[project].public:
                raise NotRecorded("a token that is not valid at a public project")
            actions = bearer.access.get(repository, ()) if bearer else ()
        if project not in self.projects:
            return rows.NO_PROJECT.answer(project=project)
        if action in actions:
            return None
        return rows.NO_RIGHTS.answer(repository=repository, action=action)

    def _bearer(self, request: Request) -> Bearer | None:
        return self.valid_tokens.get(request.headers["Authorization"].removeprefix("Bearer "))

    def _actions(self, account: Account | None, repository: str) -> tuple[str, ...]:
        """Return all actions that the account may do, regardless of the requested actions."""
        project = self.projects.get(repository.partition("/")[0])
        if project is None:
            return ()
        if account is not None and account.admin:
            return ALL
        granted = set(account.rights.get(project.name, ())) if account else set()
        if project.public or "push" in granted:
            granted.add("pull")
        return tuple(action for action in ALL if action in granted)


def claims_of(token: str) -> dict[str, Any]:
    """Decode the claims of a token of this Harbor."""
    encoded = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    return claims


def _base64(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
