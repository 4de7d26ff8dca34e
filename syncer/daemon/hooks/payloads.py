"""Reads the bodies of registries' webhooks: which tag was pushed to which repository. Pure: no I/O, no rules.

A reader returns the pushes of one body. It returns none for other events, such as pulls and deletions, and raises
`NoEvent` for a body that is no event of its kind. Unknown fields are ignored.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from syncer.oci import media_types
from syncer.oci.digest import Digest, InvalidDigest
from syncer.oci.reference import DOCKER_HUB, InvalidReference, canonical_host, is_path, is_tag
from syncer.oci.referrers import is_referrer_tag

T = TypeVar("T")


class NoEvent(ValueError):
    """The body is no event of this kind."""


class Pushed(msgspec.Struct, frozen=True):
    """A manifest that was pushed. `tag` is None if it was pushed by its digest. `digest` is None if the event has none.

    `hosts` are the names under which the event knows its registry. Some services name only a region: then `endings`
    are the ends that the registry's name can have.
    """

    path: str
    tag: str | None = None
    digest: Digest | None = None
    hosts: tuple[str, ...] = ()
    endings: tuple[str, ...] = ()

    @property
    def is_image(self) -> bool:
        """Whether a tag was pushed that is not that of a signature or of another referrer."""
        return self.tag is not None and not is_referrer_tag(self.tag)


Reader = Callable[[bytes, Mapping[str, str]], tuple[Pushed, ...]]


def read_event(kind: str, body: bytes, headers: Mapping[str, str]) -> tuple[Pushed, ...]:
    """Return the pushes that `body` tells of. `headers` are those of the request, with names in lower case.

    Raises `KeyError` for an unknown kind and `NoEvent` for a body that is no event of this kind.
    """
    return READERS[kind](body, headers)


# --- distribution: https://distribution.github.io/distribution/about/notifications ------------------------------


class _Target(msgspec.Struct):
    repository: str = ""
    tag: str = ""
    digest: str = ""
    media_type: str = msgspec.field(default="", name="mediaType")
    url: str = ""


class _Request(msgspec.Struct):
    host: str = ""


class _RegistryEvent(msgspec.Struct):
    action: str
    target: _Target = msgspec.field(default_factory=_Target)
    request: _Request = msgspec.field(default_factory=_Request)


class _Envelope(msgspec.Struct):
    events: list[_RegistryEvent]


def _distribution(body: bytes, _headers: Mapping[str, str]) -> tuple[Pushed, ...]:
    return _all(_registry_push(event) for event in _decode(body, _Envelope).events)


def _registry_push(event: _RegistryEvent) -> Iterator[Pushed]:
    target = event.target
    # Blobs are pushed too. Their media type is application/octet-stream, or that of a layer.
    if event.action == "push" and (target.tag or target.media_type in media_types.MANIFESTS):
        yield _pushed(
            target.repository,
            target.tag,
            target.digest,
            hosts=(event.request.host, urlsplit_host(target.url)),
        )


# --- Harbor: https://goharbor.io/docs, "Configure webhooks"; recorded in tests/support/harbor_exchanges/webhooks.json ---------------------------------------------


class _Artifact(msgspec.Struct):
    tag: str = ""
    digest: str = ""
    resource_url: str = ""


class _HarborRepository(msgspec.Struct):
    repo_full_name: str = ""


class _HarborData(msgspec.Struct):
    resources: list[_Artifact] = msgspec.field(default_factory=list)
    repository: _HarborRepository = msgspec.field(default_factory=_HarborRepository)


class _HarborEvent(msgspec.Struct):
    type: str
    event_data: _HarborData


def _harbor(body: bytes, headers: Mapping[str, str]) -> tuple[Pushed, ...]:
    if _is_cloud_event(body, headers):
        return _cloud_events(body, headers)
    event = _decode(body, _HarborEvent)
    return _harbor_pushes(event.event_data) if event.type == "PUSH_ARTIFACT" else ()


def _harbor_pushes(data: _HarborData) -> tuple[Pushed, ...]:
    path = data.repository.repo_full_name
    return tuple(
        _pushed(path, artifact.tag, artifact.digest, hosts=(urlsplit_host(artifact.resource_url),))
        for artifact in data.resources
    )


# --- CloudEvents 1.0: structured, batched, and binary ---------------------------------------------------------------


class _CloudEvent(msgspec.Struct):
    specversion: str
    type: str
    source: str = ""
    data: Any = None


class _ZotData(msgspec.Struct):
    name: str
    reference: str = ""
    digest: str = ""


def _cloud_events(body: bytes, headers: Mapping[str, str]) -> tuple[Pushed, ...]:
    if "ce-type" in headers:
        events = [_CloudEvent("1.0", headers["ce-type"], headers.get("ce-source", ""), _decode(body, Any))]
    elif body.lstrip()[:1] == b"[":
        events = _decode(body, list[_CloudEvent])
    else:
        events = [_decode(body, _CloudEvent)]
    return _all(_cloud_event_pushes(event) for event in events)


def _is_cloud_event(body: bytes, headers: Mapping[str, str]) -> bool:
    if "ce-type" in headers or "cloudevents" in headers.get("content-type", ""):
        return True
    with suppress(NoEvent):
        return bool(_decode(body, _CloudEvent))
    return False


def _cloud_event_pushes(event: _CloudEvent) -> Iterable[Pushed]:
    """Read the data by the event's type: Harbor's, Azure's (a registry event of distribution), and zot's."""
    if event.type == "harbor.artifact.pushed":
        return _harbor_pushes(_convert(event.data, _HarborData))
    if event.type.startswith("Microsoft.ContainerRegistry."):
        return _registry_push(_convert(event.data, _RegistryEvent))
    if event.type.endswith(".image.updated"):
        data = _convert(event.data, _ZotData)
        return (_pushed(data.name, data.reference, data.digest, hosts=(urlsplit_host(event.source),)),)
    return ()


# --- Docker Hub: https://docs.docker.com/docker-hub/repos/manage/webhooks/ ------------------------------------------


class _PushData(msgspec.Struct):
    tag: str
    digest: str = ""


class _HubRepository(msgspec.Struct):
    repo_name: str


class _HubEvent(msgspec.Struct):
    push_data: _PushData
    repository: _HubRepository


def _docker_hub(body: bytes, _headers: Mapping[str, str]) -> tuple[Pushed, ...]:
    event = _decode(body, _HubEvent)
    name = event.repository.repo_name
    path = name if "/" in name else f"library/{name}"
    return (_pushed(path, event.push_data.tag, event.push_data.digest, hosts=(DOCKER_HUB,)),)


# --- Quay: https://docs.redhat.com/en/documentation/red_hat_quay, "Repository notifications" ------------------------


class _QuayEvent(msgspec.Struct):
    repository: str
    docker_url: str
    updated_tags: list[str] | dict[str, Any] | None = None


def _quay(body: bytes, _headers: Mapping[str, str]) -> tuple[Pushed, ...]:
    event = _decode(body, _QuayEvent)
    host = urlsplit_host(event.docker_url)
    return tuple(_pushed(event.repository, tag, "", hosts=(host,)) for tag in event.updated_tags or ())


# --- Alibaba Cloud: https://www.alibabacloud.com/help/doc-detail/60949.htm ------------------------------------------
# --- Azure: https://learn.microsoft.com/azure/container-registry/container-registry-webhook-reference ---------------


class _AlibabaRepository(msgspec.Struct):
    repo_full_name: str
    region: str


class _AlibabaEvent(msgspec.Struct):
    push_data: _PushData
    repository: _AlibabaRepository


def _acr(body: bytes, _headers: Mapping[str, str]) -> tuple[Pushed, ...]:
    """Both services are called ACR: Alibaba Cloud's body has `push_data`, Azure's has `action`."""
    if "action" in _decode(body, dict[str, Any]):
        return tuple(_registry_push(_decode(body, _RegistryEvent)))
    event = _decode(body, _AlibabaEvent)
    region = event.repository.region
    # The event names the region alone. A registry is registry.REGION.aliyuncs.com, or has its instance in the name.
    endings = tuple(
        f".{region}.{end}" for end in ("aliyuncs.com", "cr.aliyuncs.com", "personal.cr.aliyuncs.com")
    )
    return (
        _pushed(
            event.repository.repo_full_name, event.push_data.tag, event.push_data.digest, endings=endings
        ),
    )


# --- Gitea: PackagePayload of modules/structs/hook_package.go in https://github.com/go-gitea/gitea --------------------


class _Owner(msgspec.Struct):
    login: str


class _Package(msgspec.Struct):
    type: str
    name: str
    version: str
    owner: _Owner
    html_url: str = ""


class _GiteaEvent(msgspec.Struct):
    action: str
    package: _Package


def _gitea(body: bytes, _headers: Mapping[str, str]) -> tuple[Pushed, ...]:
    event = _decode(body, _GiteaEvent)
    package = event.package
    if event.action != "created" or package.type != "container":
        return ()
    # Gitea's registry takes names in lower case only, whatever the owner is called.
    path = f"{package.owner.login}/{package.name}".lower()
    return (_pushed(path, package.version, "", hosts=(urlsplit_host(package.html_url),)),)


READERS: Mapping[str, Reader] = {
    "harbor": _harbor,
    "distribution": _distribution,
    "docker-hub": _docker_hub,
    "quay": _quay,
    "acr": _acr,
    "gitea": _gitea,
    "cloudevents": _cloud_events,
}
"""The readers by kind, as in the path `/hooks/{kind}`."""


# --- helpers --------------------------------------------------------------------------------------------------------


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.ValidationError:
            return _convert(msgspec.json.decode(body), kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise NoEvent(str(error)[:200]) from None


def _convert(data: Any, kind: type[T]) -> T:
    """Make an event of decoded JSON. A key whose value is null is a missing key: some services write all keys."""
    try:
        return msgspec.convert(_without_nulls(data), kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise NoEvent(str(error)[:200]) from None


def _without_nulls(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_nulls(value) for key, value in data.items() if value is not None}
    return list(map(_without_nulls, data)) if isinstance(data, list) else data


def _all(pushes: Iterable[Iterable[Pushed]]) -> tuple[Pushed, ...]:
    return tuple(push for each in pushes for push in each)


def _pushed(
    path: str, tag: str, digest: str, *, hosts: Iterable[str] = (), endings: tuple[str, ...] = ()
) -> Pushed:
    """Check the parts of a push. Harbor and Gitea write the digest in place of the tag if there is no tag."""
    if not is_path(path):
        raise NoEvent("expected the name of a repository")
    if ":" in tag:
        tag, digest = "", tag
    if not tag and not digest:
        raise NoEvent("expected a tag or a digest")
    if tag and not is_tag(tag):
        raise NoEvent("expected a tag of at most 128 letters, digits, '_', '.' and '-'")
    try:
        found = Digest.parse(digest) if digest else None
    except InvalidDigest:
        raise NoEvent("expected a digest such as sha256:…") from None
    return Pushed(path, tag or None, found, tuple(_canonical(hosts)), endings)


def _canonical(hosts: Iterable[str]) -> Iterator[str]:
    for host in dict.fromkeys(hosts):
        with suppress(InvalidReference):
            yield canonical_host(host)


def urlsplit_host(url: str) -> str:
    """Return host and port of a URL, or of a reference without a scheme; empty if there is none."""
    with suppress(ValueError):
        return urlsplit(url if "://" in url else f"//{url}").netloc.rpartition("@")[2]
    return ""
