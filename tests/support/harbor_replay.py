"""Sends recorded requests to the Harbor for tests and compares its responses with the recording."""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import httpx

from tests.support.harbor import Harbor
from tests.support.harbor_access import Account, Bearer, claims_of
from tests.support.harbor_recordings import Contents, Exchange
from tests.support.harbor_stage import ACCOUNTS

_RECORDED_URL = "http://harbor.test"
_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SESSION = re.compile(r"uploads/[^?]*\?_state=[^&]*")
_COMPARED = re.compile(r"www-|link|location|range|docker-|oci-|x-|etag|content-|set-cookie", re.IGNORECASE)
_NUMBERS = {"id", "project_id", "repository_id", "artifact_id", "size", "pull_count", "user_id"}
_TIMES = {"creation_time", "update_time", "push_time", "pull_time", "issued_at"}
_VARIABLE = frozenset(_NUMBERS | _TIMES | {"extra_attrs"})
"""Fields of API documents that differ from one Harbor to another: only their type is compared."""


class Player:
    """Sends the requests of a recording, with what is variable in them filled in, and compares the answers."""

    def __init__(self, harbor: Harbor, contents: Contents, exchanges: list[Exchange]) -> None:
        self.harbor = harbor
        self.contents = contents
        self._wrong = _wrong_passwords(exchanges)
        self._sessions: dict[tuple[str, str], str] = {}
        self._cancelled = {
            exchange.response["headers"].get("Docker-Upload-Uuid")
            for exchange in exchanges
            if exchange.method == "DELETE"
        }

    async def play(self, client: httpx.AsyncClient, exchange: Exchange) -> list[str]:
        """Send one request. Returns what is different in the answer."""
        content = self._content(exchange)
        answer = await client.request(
            exchange.method, self._url(exchange), headers=self._headers(exchange), content=content
        )
        if exchange.target[1] == "blobs/uploads":
            self._follow(exchange, answer)
        return [*self._differences(exchange, answer)]

    def _url(self, exchange: Exchange) -> str:
        path = self.contents.in_use(exchange.path)
        if "uploads/SESSION" in path:
            location = self._sessions[exchange.target[0], self._session_of(exchange)]
            path = path.replace(f"{path.partition('SESSION')[0]}SESSION?_state=STATE", location)
        return path if path.startswith("http") else self.harbor.url + path

    def _session_of(self, exchange: Exchange) -> str:
        """The id, as recorded, of the upload that a request goes on with: one that ends as this one does."""
        if given := exchange.response["headers"].get("Docker-Upload-Uuid"):
            return str(given)
        is_done = exchange.status == httpx.codes.CREATED
        names = [name for repository, name in self._sessions if repository == exchange.target[0]]
        return next(name for name in names if (name in self._cancelled) is not is_done)

    def _follow(self, exchange: Exchange, answer: httpx.Response) -> None:
        """Remember where an upload goes on, or that it is over."""
        given = exchange.response["headers"].get("Docker-Upload-Uuid")
        if given and "location" in answer.headers:
            self._sessions[exchange.target[0], given] = answer.headers["location"]
        elif exchange.method == "DELETE" or (exchange.method == "PUT" and answer.is_success):
            del self._sessions[exchange.target[0], self._session_of(exchange)]

    def _headers(self, exchange: Exchange) -> dict[str, str]:
        headers = dict(exchange.request["headers"])
        headers.pop("Content-Length", None)
        if headers.get("Accept") == "(every manifest type)":
            headers["Accept"] = _ACCEPT
        if isinstance(claim := headers.get("Authorization"), dict):
            access = {entry["name"]: tuple(entry["actions"]) for entry in claim["Bearer"]["access"] or ()}
            token = self.harbor.access.mint(Bearer(claim["Bearer"]["sub"], access))
            headers["Authorization"] = f"Bearer {token}"
        elif exchange.user:
            password = "wrong" if exchange.user in self._wrong else Account(exchange.user).password
            secret = base64.b64encode(f"{exchange.user}:{password}".encode()).decode()
            headers["Authorization"] = f"Basic {secret}"
        return headers

    def _content(self, exchange: Exchange) -> bytes:
        body = exchange.request.get("body")
        if isinstance(body, dict):
            return self.contents.in_use(json.dumps(body)).encode()
        if body is None:
            return b""
        digest = exchange.query.get("digest")
        # A chunk has no digest; what it is a part of is named by the recording's later request.
        return self.contents.blob(digest) if digest else _chunk_of(self.contents, body)

    def _differences(self, exchange: Exchange, answer: httpx.Response) -> Iterator[str]:
        if answer.status_code != exchange.status:
            yield f"status {answer.status_code}, recorded {exchange.status}: {answer.text[:200]}"
            return
        expected = self._comparable(exchange.response["headers"], exchange)
        got = self._comparable(dict(answer.headers), exchange)
        if "content-length" not in expected:
            got.pop("content-length", None)
        if got != expected:
            yield f"headers {got}, recorded {expected}"
        body = exchange.response.get("body")
        if isinstance(body, str):
            if len(answer.content) != exchange.length:
                yield f"{len(answer.content)} bytes, recorded {body}"
        elif body is not None:
            variable = _VARIABLE if exchange.path.startswith(("/api/", "/service/")) else frozenset[str]()
            told = _plain(answer.json(), variable)
            wanted = _plain(json.loads(self.contents.in_use(json.dumps(body))), variable)
            if told != wanted:
                yield f"body {told}, recorded {wanted}"

    def _comparable(self, headers: dict[str, str], exchange: Exchange) -> dict[str, str]:
        found = {name.lower(): value for name, value in headers.items() if _COMPARED.match(name)}
        is_variable = (
            exchange.path.startswith(("/service/token", "/api/v2.0")) and exchange.status == httpx.codes.OK
        )
        if is_variable:
            found.pop("content-length", None)
        for name, value in found.items():
            text = self.contents.in_use(value).replace(self.harbor.url, _RECORDED_URL)
            text = _UUID.sub("UUID", _SESSION.sub("uploads/SESSION?_state=STATE", text))
            if name == "set-cookie":
                text = text.partition("=")[0]
            found[name] = re.sub(r"(/projects/)\d+$", r"\1N", text)
        return found


def _chunk_of(contents: Contents, body: str) -> bytes:
    """The blob of that size: `body` says how many bytes a chunk had."""
    size = int(body.strip("()").partition(" ")[0])
    return next(content for content in contents.blobs.values() if len(content) == size)


def _wrong_passwords(exchanges: Iterable[Exchange]) -> set[str]:
    wrong = set()
    for exchange in exchanges:
        if not exchange.path.startswith("/service/token") or not exchange.user:
            continue
        body = exchange.response.get("body")
        is_nobody = isinstance(body, dict) and body["token"]["Bearer"]["sub"] is None
        account = ACCOUNTS.get(exchange.user, Account(exchange.user))
        if (is_nobody or exchange.status == httpx.codes.UNAUTHORIZED) and not (
            account.disabled or account.expired
        ):
            wrong.add(exchange.user)
    return wrong


def _plain(value: Any, variable: frozenset[str]) -> Any:
    """A body without what differs each time: the named fields, ids of requests, the signature of a token."""
    if isinstance(value, list):
        return [_plain(each, variable) for each in value]
    if isinstance(value, str):
        return _UUID.sub("REQUEST-ID", value)
    if not isinstance(value, dict):
        return value
    if "token" in value:
        claims = claims_of(value["token"]) if isinstance(value["token"], str) else value["token"]["Bearer"]
        access = {entry["name"]: set(entry["actions"]) for entry in claims["access"] or ()}
        value = {**value, "token": (claims["sub"], claims["access"] is None, access)}
    return {name: type(each) if name in variable else _plain(each, variable) for name, each in value.items()}
