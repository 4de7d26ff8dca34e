"""Recorded exchanges are replayed against the Harbor for tests: what it holds before, what is sent, what should come.

Digests of blobs whose bytes were not recorded are replaced by those of blobs of the same size.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from syncer.demo.images import noise
from syncer.oci.digest import Digest
from tests.support.harbor import Harbor
from tests.support.harbor_access import Account, Bearer, Project, claims_of

RECORDED_URL = "http://harbor.test"
MISSING = {"nothere", "nothere2", "nowhere", "made", "byrobot2", "nix", "nosuch", "shardp1", "shardp2"}
MISSING |= {"ok.name-1_x", "UPPER", "bad name", "-x"}
"""Projects that do not exist when a recording begins."""
ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_PROJECTS = {
    "open": Project("open", public=True),
    "cache": Project("cache", proxy_cache=True),
    "trusted": Project("trusted", signed_only=True),
    "fixed": Project("fixed", immutable=("v*", "ix")),
    "fixed2": Project("fixed2", immutable=("*",)),
    "small": Project("small", quota=4 << 20),
}
_ACCOUNTS = {
    "robot$robots+off": Account("robot$robots+off", disabled=True),
    "robot$robots+old": Account("robot$robots+old", expired=True),
    "robot$robots+lister": Account("robot$robots+lister", rights={"robots": ("pull", "list")}),
    "robot$creator-one": Account("robot$creator-one", creates_projects=True),
    "admin": Account("admin", admin=True),
}
_HEX = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SESSION = re.compile(r"uploads/[^?]*\?_state=[^&]*")
_TARGET = re.compile(
    r"/v2/(?P<repository>[^?]+?)/(?P<kind>manifests|blobs/uploads|blobs|tags|referrers)/(?P<reference>[^?]*)"
)
_COMPARED = re.compile(r"www-|link|location|range|docker-|oci-|x-|etag|content-|set-cookie", re.IGNORECASE)
_EMPTY = b"{}"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its answer as recorded."""

    request: dict[str, Any]
    response: dict[str, Any]

    @property
    def method(self) -> str:
        return str(self.request["method"])

    @property
    def path(self) -> str:
        return str(self.request["path"])

    @property
    def status(self) -> int:
        return int(self.response["status"])

    @property
    def target(self) -> tuple[str, str, str]:
        """Repository, kind and reference; empty for what is not of a repository."""
        match = _TARGET.match(self.path)
        return (match["repository"], match["kind"], match["reference"]) if match else ("", "", "")

    @property
    def query(self) -> httpx.QueryParams:
        return httpx.QueryParams(self.path.partition("?")[2])

    @property
    def user(self) -> str:
        """Of a request with a name and a password."""
        authorization = self.request["headers"].get("Authorization", "")
        is_basic = isinstance(authorization, str) and authorization.startswith("Basic ")
        return authorization.removeprefix("Basic ").rpartition(":")[0] if is_basic else ""

    @property
    def length(self) -> int:
        return int(self.response["headers"].get("Content-Length", 0))


def exchanges_of(document: dict[str, Any]) -> list[Exchange]:
    """In the order in which the answers can be given one after the other.

    Where several uploads ended at once, Harbor refused one for the bytes of another that was answered later.
    """
    found = [Exchange(each["request"], each["response"]) for each in document.get("exchanges", ())]
    ordered: list[Exchange] = []
    refused: list[Exchange] = []
    for exchange in found:
        is_upload = exchange.method == "PUT" and exchange.target[1] == "blobs/uploads"
        if is_upload and exchange.status == httpx.codes.FORBIDDEN:
            refused.append(exchange)
            continue
        if not is_upload:
            ordered += refused
            refused = []
        ordered.append(exchange)
    return ordered + refused


def accounts_of(exchanges: Iterable[Exchange]) -> list[Account]:
    """Who takes part, with the rights that their tokens show."""
    found: dict[str, Account] = {}
    for exchange in exchanges:
        claims = [exchange.request["headers"].get("Authorization")]
        if isinstance(body := exchange.response.get("body"), dict):
            claims.append(body.get("token"))
        for bearer in (claim["Bearer"] for claim in claims if isinstance(claim, dict)):
            account = _account(found, bearer["sub"] or "")
            for entry in bearer["access"] or ():
                project = entry["name"].partition("/")[0]
                account.rights[project] = (*account.rights.get(project, ()), *entry["actions"])
        _account(found, exchange.user)
    found.pop("", None)
    return list(found.values())


def _account(found: dict[str, Account], name: str) -> Account:
    known = _ACCOUNTS.get(name, Account(name))
    return found.setdefault(
        name,
        Account(
            name,
            rights=dict(known.rights),
            admin=known.admin,
            creates_projects=known.creates_projects,
            disabled=known.disabled,
            expired=known.expired,
        ),
    )


def projects_of(exchanges: Iterable[Exchange]) -> list[Project]:
    """Those that exist at the start, by the paths of requests."""
    names = {exchange.target[0].partition("/")[0] for exchange in exchanges}
    for exchange in exchanges:
        names |= {name.partition("/")[0] for name in re.findall(r"repository:([^:]+):", _scopes(exchange))}
        names |= set(re.findall(r"/api/v2.0/projects/([^/?]+)", exchange.path))
        names |= {exchange.query["project_name"]} if "project_name" in exchange.query else set()
        if isinstance(body := exchange.request.get("body"), dict) and "project_name" in body:
            names.add(body["project_name"])
    return [_PROJECTS.get(name, Project(name)) for name in sorted(names - MISSING - {""})]


def _scopes(exchange: Exchange) -> str:
    return " ".join(exchange.query.get_list("scope"))


class Contents:
    """Blobs and manifests of a recording, with bytes: `names` are the digests in use by those recorded, as hex."""

    def __init__(self, exchanges: Iterable[Exchange]) -> None:
        self.names: dict[str, str] = {}
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[bytes, str]] = {}
        self._raw: dict[str, tuple[bytes, str]] = {}
        self._sizes: dict[str, int] = {}
        self._given: dict[str, bytes] = {}
        for exchange in exchanges:
            self._learn(exchange)

    def _learn(self, exchange: Exchange) -> None:
        _, kind, reference = exchange.target
        body = exchange.response.get("body")
        if kind == "manifests" and exchange.method == "PUT":
            raw = json.dumps(exchange.request["body"]).encode()
            self._keep(raw, exchange.request["headers"]["Content-Type"])
        elif kind == "manifests" and exchange.method == "GET" and exchange.status == httpx.codes.OK:
            headers = exchange.response["headers"]
            self._keep(_serialized(body, headers["Docker-Content-Digest"]), headers["Content-Type"])
        elif kind == "blobs" and exchange.status == httpx.codes.OK:
            self._sizes[_hex(reference)] = exchange.length
            if isinstance(body, dict):
                self._given[_hex(reference)] = json.dumps(body).encode()
            elif exchange.response["headers"]["Content-Type"] == "application/x-gzip":
                self._given[_hex(reference)] = b"\x1f\x8b" + noise(reference, exchange.length - 2)
        elif kind == "blobs/uploads" and exchange.method in {"PUT", "PATCH"}:
            length = int(exchange.request["headers"]["Content-Length"])
            if length and "digest" in exchange.query:
                self._sizes[_hex(exchange.query["digest"])] = length

    def _keep(self, raw: bytes, media_type: str) -> None:
        self._raw[hashlib.sha256(raw).hexdigest()] = (raw, media_type)
        for descriptor in _descriptors(json.loads(raw)):
            self._sizes.setdefault(_hex(descriptor["digest"]), descriptor["size"])

    def in_use(self, text: str) -> str:
        """A text with the digests in use in place of those recorded."""
        return _HEX.sub(lambda match: self.names.get(match[0], match[0]), text)

    def blob(self, digest: str) -> bytes:
        """The bytes in use for a recorded blob."""
        name = _hex(digest)
        if name not in self.blobs:
            content = self._given.get(name) or noise(name, self._sizes.get(name, 16))
            self.blobs[name] = content
            self.names[name] = hashlib.sha256(content).hexdigest()
        return self.blobs[name]

    def manifest(self, digest: str, size: int = 0, media_type: str = "", **extra: Any) -> tuple[bytes, str]:
        """The bytes in use for a recorded manifest, and its type: without a recorded body, one of that size."""
        name = _hex(digest)
        if name not in self.manifests:
            raw, kind = self._raw.get(name) or (_padded(size, media_type, extra, name), media_type)
            for part in _descriptors(json.loads(raw)):
                self.part(part)
            self.manifests[name] = (self.in_use(raw.decode()).encode(), kind)
            self.names[name] = hashlib.sha256(self.manifests[name][0]).hexdigest()
        return self.manifests[name]

    def part(self, descriptor: dict[str, Any]) -> bytes:
        if _is_manifest(descriptor):
            return self.manifest(descriptor["digest"], descriptor["size"], descriptor["mediaType"])[0]
        return self.blob(descriptor["digest"])


class Stage:
    """Puts into a Harbor what a recording needs it to hold before its first request."""

    def __init__(self, harbor: Harbor, contents: Contents) -> None:
        self.harbor = harbor
        self.contents = contents
        self._touched: set[tuple[str, str]] = set()

    def prepare(self, exchanges: Iterable[Exchange], *, stuck: bool) -> None:
        collecting = self.harbor.stuck if stuck else self.harbor.collecting
        exchanges = [each for each in exchanges if each.status != httpx.codes.UNAUTHORIZED]
        for exchange in exchanges:
            repository, kind, reference = exchange.target
            match kind, exchange.method:
                case "blobs", "HEAD" | "GET":
                    self._blob(exchange, repository, reference, collecting)
                case "blobs/uploads", _:
                    self._upload(exchange, repository)
                case "manifests", "PUT":
                    self._pushed(exchange, repository, reference)
                case "manifests", _ if exchange.status in {200, 412}:
                    self._manifest(exchange, repository, reference)
                case "referrers", _:
                    self._referrers(exchange, repository)
                case _:
                    self._touched.add((repository, reference))
        for exchange in exchanges:
            self._tags(exchange)

    def put_image(self, repository: str, tag: str, name: str = "") -> None:
        """An image that a list names."""
        self._put(repository, tag, name or hashlib.sha256(f"{repository}:{tag}".encode()).hexdigest(), 578)

    def fill(self, project: str, used: int, quota: int) -> None:
        missing = used - self.harbor.used(project)
        self.harbor.store.put_blob(f"{project}/padding", noise(project, missing))
        self.harbor.projects[project].quota = quota

    def _first(self, repository: str, reference: str) -> bool:
        is_first = (repository, reference) not in self._touched
        self._touched.add((repository, reference))
        return is_first

    def _blob(self, exchange: Exchange, repository: str, digest: str, collecting: set[Digest]) -> None:
        if not self._first(repository, digest) or "errors" in exchange.response.get("body", ()):
            return
        content = self.contents.blob(digest)
        length_in_collection = 146
        if exchange.status == httpx.codes.OK:
            self.harbor.store.put_blob(repository, content)
        elif exchange.length == length_in_collection:
            collecting.add(Digest.of(content))
        elif "Docker-Distribution-Api-Version" in exchange.response["headers"] and "cache/" not in repository:
            self.harbor.store.put_blob("elsewhere/known", content)

    def _upload(self, exchange: Exchange, repository: str) -> None:
        if mounted := exchange.query.get("mount"):
            content = self.contents.blob(mounted)
            if self._first(exchange.query["from"], mounted):
                self.harbor.store.put_blob(exchange.query["from"], content)
        digest = mounted or exchange.query.get("digest")
        if digest:
            self.contents.blob(digest)
            self._touched.add((repository, digest))

    def _pushed(self, exchange: Exchange, repository: str, reference: str) -> None:
        body = exchange.request["body"]
        raw = json.dumps(body).encode()
        digest = "sha256:" + hashlib.sha256(raw).hexdigest()
        self._touched |= {(repository, reference), (repository, digest)}
        self.contents.manifest(digest)
        errors = exchange.response.get("body", {}).get("errors", [{}])
        for descriptor in _parts(body):
            if errors[0].get("detail") == descriptor["digest"]:
                content = self.contents.part(descriptor)
                if self.harbor.store.blob(repository, Digest.of(content)) is not None:
                    self.harbor.vanishing.add((repository, Digest.of(content)))
            elif self._first(repository, descriptor["digest"]):
                self._put_part(repository, descriptor)

    def _put_part(self, repository: str, descriptor: dict[str, Any]) -> None:
        if _is_manifest(descriptor):
            self._put(repository, "", _hex(descriptor["digest"]), descriptor["size"], descriptor["mediaType"])
        else:
            self.harbor.store.put_blob(repository, self.contents.blob(descriptor["digest"]))

    def _manifest(self, exchange: Exchange, repository: str, reference: str) -> None:
        if not self._first(repository, reference):
            return
        headers = exchange.response["headers"]
        digest = headers.get("Docker-Content-Digest") or hashlib.sha256(reference.encode()).hexdigest()
        is_found = exchange.status == httpx.codes.OK
        size, media_type = (exchange.length, headers["Content-Type"]) if is_found else (578, "")
        self._put(repository, "" if ":" in reference else reference, _hex(digest), size, media_type)

    def _put(
        self, repository: str, tag: str, name: str, size: int, media_type: str = "", **extra: Any
    ) -> None:
        media_type = media_type or "application/vnd.oci.image.manifest.v1+json"
        raw, kind = self.contents.manifest(name, size, media_type, **extra)
        store = self.harbor.store
        for descriptor in _parts(json.loads(raw)):
            for part in (part for part in (*self.contents.blobs.values(), _EMPTY)):
                if Digest.of(part) == descriptor["digest"]:
                    store.put_blob(repository, part)
            for part, child_type in list(self.contents.manifests.values()):
                if Digest.of(part) == descriptor["digest"]:
                    self._put_children(repository, part)
                    store.put_manifest(repository, part, child_type)
        store.put_manifest(repository, raw, kind, reference=self.contents.in_use(tag))

    def _put_children(self, repository: str, raw: bytes) -> None:
        for descriptor in _parts(json.loads(raw)):
            for part in self.contents.blobs.values():
                if Digest.of(part) == descriptor["digest"]:
                    self.harbor.store.put_blob(repository, part)
            if descriptor["digest"] == Digest.of(_EMPTY):
                self.harbor.store.put_blob(repository, _EMPTY)

    def _referrers(self, exchange: Exchange, repository: str) -> None:
        subject = exchange.target[2]
        for entry in exchange.response["body"]["manifests"]:
            if self._first(repository, entry["digest"]):
                extra = {"artifactType": entry["artifactType"], "subject": {**entry, "digest": subject}}
                del extra["subject"]["artifactType"]
                self._put(repository, "", _hex(entry["digest"]), entry["size"], **extra)

    def _tags(self, exchange: Exchange) -> None:
        repository, kind, _ = exchange.target
        if kind != "tags" or exchange.status != httpx.codes.OK:
            return
        for tag in exchange.response["body"]["tags"]:
            if self._first(repository, tag):
                self.put_image(repository, tag)


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
            headers["Accept"] = ACCEPT
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
        return self.contents.blob(digest) if digest else noise_of_chunk(self.contents, body)

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
            told, wanted = (
                _plain_body(answer.json()),
                _plain_body(json.loads(self.contents.in_use(json.dumps(body)))),
            )
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
            text = self.contents.in_use(value).replace(self.harbor.url, RECORDED_URL)
            text = _UUID.sub("UUID", _SESSION.sub("uploads/SESSION?_state=STATE", text))
            if name == "set-cookie":
                text = text.partition("=")[0]
            found[name] = re.sub(r"(/projects/)\d+$", r"\1N", text)
        return found


def noise_of_chunk(contents: Contents, body: str) -> bytes:
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
        account = _ACCOUNTS.get(exchange.user, Account(exchange.user))
        if (is_nobody or exchange.status == httpx.codes.UNAUTHORIZED) and not (
            account.disabled or account.expired
        ):
            wrong.add(exchange.user)
    return wrong


_VARIABLE = {"id", "project_id", "repository_id", "artifact_id", "size", "pull_count", "user_id", "issued_at"}
_VARIABLE |= {"creation_time", "update_time", "push_time", "pull_time", "extra_attrs"}


def _plain_body(value: Any) -> Any:
    """Without what differs from one Harbor to another: times, numbers, the signature of a token."""
    if isinstance(value, list):
        return [_plain_body(each) for each in value]
    if isinstance(value, str):
        return _UUID.sub("REQUEST-ID", value)
    if not isinstance(value, dict):
        return value
    if "token" in value:
        claims = claims_of(value["token"]) if isinstance(value["token"], str) else value["token"]["Bearer"]
        access = {entry["name"]: set(entry["actions"]) for entry in claims["access"] or ()}
        value = {**value, "token": (claims["sub"], claims["access"] is None, str(sorted(access)), access)}
    return {name: type(each) if name in _VARIABLE else _plain_body(each) for name, each in value.items()}


def _hex(digest: str) -> str:
    return digest.rpartition(":")[2]


def _descriptors(document: dict[str, Any]) -> list[dict[str, Any]]:
    subject = [document["subject"]] if "subject" in document else []
    return [*_parts(document), *subject]


def _parts(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The descriptors of what has to be there before a manifest is pushed."""
    config = [document["config"]] if "config" in document else []
    return [*config, *document.get("layers", ()), *document.get("manifests", ())]


def _is_manifest(descriptor: dict[str, Any]) -> bool:
    return bool(re.search(r"manifest\.|image\.index", descriptor["mediaType"]))


def _serialized(body: Any, digest: str) -> bytes:
    """The bytes of a manifest that was recorded as JSON."""
    for options in ({}, {"separators": (",", ":")}, *({"indent": width} for width in range(5))):
        raw = json.dumps(body, **options).encode()  # type: ignore[arg-type]
        if hashlib.sha256(raw).hexdigest() == _hex(digest):
            return raw
    raise AssertionError(f"no way of writing it has the digest {digest}")


def _padded(size: int, media_type: str, extra: dict[str, Any], name: str) -> bytes:
    """A manifest of so many bytes."""
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_type, **extra}
    padding = {"name": name[:8], "padding": ""}
    if "index" in media_type or "list" in media_type:
        document |= {"manifests": [], "annotations": padding}
    else:
        kind = "docker.container.image.v1" if "docker" in media_type else "oci.image.config.v1"
        config = {
            "mediaType": f"application/vnd.{kind}+json",
            "digest": str(Digest.of(_EMPTY)),
            "size": len(_EMPTY),
        }
        document |= {"config": {**config, "annotations": padding}, "layers": []}
    padding["padding"] = "x" * (size - len(json.dumps(document)))
    return json.dumps(document).encode()
