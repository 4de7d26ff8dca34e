"""A token server for Docker registries: it authenticates users, grants scopes by policy, and signs real JWTs.

https://distribution.github.io/distribution/spec/auth/token/
"""

import base64
import json
import threading
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ANONYMOUS = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one user may do. `repositories` is a pattern such as `team/*`; the user `""` is everybody."""

    user: str
    repositories: str = "*"
    actions: frozenset[str] = frozenset({"pull", "push", "delete", "*"})


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A token request and its response."""

    method: str
    user: str
    scopes: tuple[str, ...]
    service: str
    status: int
    parameters: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    body: dict[str, Any]


class TokenServer:
    """Runs in a thread of its own on a free port of 127.0.0.1. What tests may set, at any time:

    `users`: passwords by name; `grants`: the policy; `refresh_tokens`: identity tokens and whose they are;
    `expires_in`: seconds that the answer states, None to leave it out;
    `lifetime`: seconds that the token really lives, where that is not what is stated. Registries have patience
    of a minute, so a dead token is one of `-120`;
    `field`: `token` or `access_token`, the name under which the token is given;
    `failures`: statuses to answer the next requests with, before all goes well again.
    """

    service = "test-registry"
    issuer = "test-issuer"

    def __init__(self, users: dict[str, str]) -> None:
        self.users = dict(users)
        self.grants = [Grant(user) for user in users]
        self.refresh_tokens: dict[str, str] = {}
        self.expires_in: int | None = 300
        self.lifetime: int | None = None
        self.field = "token"
        self.failures: list[int] = []
        self.requests: list[TokenRequest] = []
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = _self_signed(self._key, self.issuer)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def realm(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/token"

    def write_certificate(self, path: Path) -> None:
        """The `rootcertbundle` of a registry that is to trust this server."""
        path.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def mint(self, access: list[dict[str, Any]], *, user: str = "tests") -> str:
        """Sign a token for this access without asking the policy, and without a trace in `requests`."""
        now = int(time.time())
        lifetime = self.lifetime if self.lifetime is not None else self.expires_in or 60
        claims = {
            "iss": self.issuer,
            "sub": user,
            "aud": self.service,
            "iat": now,
            "nbf": now - 10,
            "exp": now + lifetime,
            "jti": uuid.uuid4().hex,
            "access": access,
        }
        chain = base64.b64encode(self._certificate.public_bytes(serialization.Encoding.DER)).decode()
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"x5c": [chain]})

    def answer(self, method: str, parameters: dict[str, list[str]], authorization: str | None) -> _Answer:
        if self.failures:
            return _Answer(HTTPStatus(self.failures.pop(0)), {"details": "as the test wants it"})
        user = self._user(parameters, authorization)
        if user is None:
            return _Answer(HTTPStatus.UNAUTHORIZED, {"details": "incorrect username or password"})
        access = [self._granted(user, scope) for scope in _scopes(parameters)]
        token = self.mint([entry for entry in access if entry["actions"]], user=user)
        body: dict[str, Any] = {self.field: token}
        if self.expires_in is not None:
            body |= {"expires_in": self.expires_in, "issued_at": datetime.now(UTC).isoformat()}
        return _Answer(HTTPStatus.OK, body)

    def _user(self, parameters: dict[str, list[str]], authorization: str | None) -> str | None:
        """Return the user: a name, `""` if anonymous, or None if the secret is wrong."""
        match parameters.get("grant_type"):
            case ["refresh_token"]:
                return self.refresh_tokens.get("".join(parameters.get("refresh_token", [])))
            case ["password"]:
                name = "".join(parameters.get("username", []))
                password = "".join(parameters.get("password", []))
            case _ if authorization is None:
                return ANONYMOUS
            case _:
                scheme, _, secret = authorization.partition(" ")
                if scheme.lower() != "basic":
                    return None
                name, _, password = base64.b64decode(secret).decode().partition(":")
        return name if name in self.users and self.users[name] == password else None

    def _granted(self, user: str, scope: str) -> dict[str, Any]:
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        allowed = {
            action
            for grant in self.grants
            if grant.user in {user, ANONYMOUS} and fnmatchcase(name, grant.repositories)
            for action in grant.actions
        }
        return {"type": kind, "name": name, "actions": [a for a in actions.split(",") if a in allowed]}


def _scopes(parameters: dict[str, list[str]]) -> tuple[str, ...]:
    return tuple(scope for listed in parameters.get("scope", []) for scope in listed.split())


def _handler(tokens: TokenServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(urlsplit(self.path).query)

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers.get("content-length") or 0)).decode())

        def _answer(self, form: str) -> None:
            parameters = parse_qs(form, keep_blank_values=True)
            authorization = self.headers.get("authorization")
            answer = tokens.answer(self.command, parameters, authorization)
            user = tokens._user(parameters, authorization)
            tokens.requests.append(
                TokenRequest(
                    method=self.command,
                    user=user or ANONYMOUS,
                    scopes=_scopes(parameters),
                    service="".join(parameters.get("service", [])),
                    status=answer.status,
                    parameters=parameters,
                )
            )
            body = json.dumps(answer.body).encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


def _self_signed(key: ec.EllipticCurvePrivateKey, name: str) -> x509.Certificate:
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=7))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
