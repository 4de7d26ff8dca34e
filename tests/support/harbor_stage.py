"""Creates the projects, accounts, blobs and manifests that a recording requires before it is replayed."""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import httpx

from syncer.demo.images import noise
from syncer.oci.digest import Digest
from tests.support.harbor import Harbor
from tests.support.harbor_access import Account, Project
from tests.support.harbor_recordings import Contents, Exchange, hex_of, is_manifest, parts_of

_IMAGE = "application/vnd.oci.image.manifest.v1+json"
_SIZE = 578
"""Bytes of a manifest of which no size was recorded."""
_MISSING = {"nothere", "nothere2", "nowhere", "made", "byrobot2", "nix", "nosuch", "shardp1", "shardp2"}
_MISSING |= {"ok.name-1_x", "UPPER", "bad name", "-x"}
"""Projects that do not exist when a recording begins."""
_PROJECTS = {
    "open": Project("open", public=True),
    "cache": Project("cache", proxy_cache=True),
    "trusted": Project("trusted", signed_only=True),
    "fixed": Project("fixed", immutable=("v*", "ix")),
    "fixed2": Project("fixed2", immutable=("*",)),
    "small": Project("small", quota=4 << 20),
}
ACCOUNTS = {
    "robot$robots+off": Account("robot$robots+off", disabled=True),
    "robot$robots+old": Account("robot$robots+old", expired=True),
    "robot$robots+lister": Account("robot$robots+lister", rights={"robots": ("pull", "list")}),
    "robot$creator-one": Account("robot$creator-one", creates_projects=True),
    "admin": Account("admin", admin=True),
}


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
    known = ACCOUNTS.get(name, Account(name))
    return found.setdefault(name, replace(known, rights=dict(known.rights)))


def projects_of(exchanges: Iterable[Exchange]) -> list[Project]:
    """Those that exist at the start, by the paths of requests."""
    names = {exchange.target[0].partition("/")[0] for exchange in exchanges}
    for exchange in exchanges:
        names |= {name.partition("/")[0] for name in re.findall(r"repository:([^:]+):", _scopes(exchange))}
        names |= set(re.findall(r"/api/v2.0/projects/([^/?]+)", exchange.path))
        names |= {exchange.query["project_name"]} if "project_name" in exchange.query else set()
        if isinstance(body := exchange.request.get("body"), dict) and "project_name" in body:
            names.add(body["project_name"])
    return [_PROJECTS.get(name, Project(name)) for name in sorted(names - _MISSING - {""})]


def _scopes(exchange: Exchange) -> str:
    return " ".join(exchange.query.get_list("scope"))


class Stage:
    """Puts into a Harbor what a recording needs it to hold before its first request."""

    def __init__(self, harbor: Harbor, contents: Contents) -> None:
        self.harbor = harbor
        self.contents = contents
        self._touched: set[tuple[str, str]] = set()

    def prepare(self, exchanges: Iterable[Exchange], *, collecting: set[Digest]) -> None:
        """`collecting` takes the blobs that were in garbage collection."""
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
        self._put(repository, tag, name or hashlib.sha256(f"{repository}:{tag}".encode()).hexdigest(), _SIZE)

    def fill(self, project: str, used: int, quota: int) -> None:
        """Add a blob so that a project uses so many bytes, and give it a quota."""
        missing = used - self.harbor.blobs.used(project)
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
        for descriptor in parts_of(body):
            if errors[0].get("detail") == descriptor["digest"]:
                content = self.contents.part(descriptor)
                if self.harbor.store.blob(repository, Digest.of(content)) is not None:
                    self.harbor.vanishing.add((repository, Digest.of(content)))
            elif self._first(repository, descriptor["digest"]):
                self._put_part(repository, descriptor)

    def _put_part(self, repository: str, descriptor: dict[str, Any]) -> None:
        if is_manifest(descriptor):
            self._put(
                repository, "", hex_of(descriptor["digest"]), descriptor["size"], descriptor["mediaType"]
            )
        else:
            self.harbor.store.put_blob(repository, self.contents.blob(descriptor["digest"]))

    def _manifest(self, exchange: Exchange, repository: str, reference: str) -> None:
        if not self._first(repository, reference):
            return
        headers = exchange.response["headers"]
        digest = headers.get("Docker-Content-Digest") or hashlib.sha256(reference.encode()).hexdigest()
        is_found = exchange.status == httpx.codes.OK
        size, media_type = (exchange.length, headers["Content-Type"]) if is_found else (_SIZE, _IMAGE)
        self._put(repository, "" if ":" in reference else reference, hex_of(digest), size, media_type)

    def _put(
        self, repository: str, tag: str, name: str, size: int, media_type: str = _IMAGE, **extra: Any
    ) -> None:
        raw, kind = self.contents.manifest(name, size, media_type, **extra)
        self._putparts_of(repository, raw)
        self.harbor.store.put_manifest(repository, raw, kind, reference=self.contents.in_use(tag))

    def _putparts_of(self, repository: str, raw: bytes) -> None:
        for descriptor in parts_of(json.loads(raw)):
            part, media_type = self.contents.find(descriptor["digest"])
            if media_type:
                self._putparts_of(repository, part)
                self.harbor.store.put_manifest(repository, part, media_type)
            else:
                self.harbor.store.put_blob(repository, part)

    def _referrers(self, exchange: Exchange, repository: str) -> None:
        subject = exchange.target[2]
        for entry in exchange.response["body"]["manifests"]:
            if self._first(repository, entry["digest"]):
                extra = {"artifactType": entry["artifactType"], "subject": {**entry, "digest": subject}}
                del extra["subject"]["artifactType"]
                self._put(repository, "", hex_of(entry["digest"]), entry["size"], **extra)

    def _tags(self, exchange: Exchange) -> None:
        repository, kind, _ = exchange.target
        if kind != "tags" or exchange.status != httpx.codes.OK:
            return
        for tag in exchange.response["body"]["tags"]:
            if self._first(repository, tag):
                self.put_image(repository, tag)
