"""What went over the wire, counted from the access logs of the registries. Knows nothing of who asked."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from tests.support.registries import Request

GOT = (200, 206)
CREATED = 201


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests by kind at each side, and bytes. `downloads` are the least and the most often that a blob was
    fetched, parts of it added up; None if none was.
    """

    source: Mapping[str, int]
    destination: Mapping[str, int]
    pulled: int
    pushed: int
    downloads: tuple[float, float] | None
    mounts: int


def count(source: Iterable[Request], destination: Iterable[Request], sizes: Mapping[str, int]) -> Traffic:
    """`sizes` are the bytes of every blob and manifest by digest, and of those with a tag by `repository:tag` too:
    the log does not have what was sent to a registry.
    """
    asked, told = list(source), list(destination)
    fetched = fetched_bytes(asked)
    downloads = [nbytes / sizes[digest] for digest, nbytes in fetched.items() if sizes.get(digest)]
    manifests = sum(request.bytes for request in asked if _is_got(request, "manifest"))
    return Traffic(
        source=kinds(asked),
        destination=kinds(told),
        pulled=manifests + sum(fetched.values()),
        pushed=sum(sizes.get(name, 0) for name in pushed(told)),
        downloads=(round(min(downloads), 3), round(max(downloads), 3)) if downloads else None,
        mounts=sum(kind(request) == "POST mount" and request.status == CREATED for request in told),
    )


def kind(request: Request) -> str:
    """`HEAD manifest`, `GET blob`, `POST upload`, `POST mount`, `PUT upload`, `GET tags`, …

    A mount from the repository itself opens an upload, unless the blob is there.
    """
    endpoint = request.endpoint
    if endpoint == "upload" and _query(request).get("from", [request.repository]) != [request.repository]:
        endpoint = "mount"
    return f"{request.method} {endpoint}"


def kinds(requests: Iterable[Request]) -> dict[str, int]:
    """How many there are of each kind, the most frequent first."""
    return dict(Counter(kind(request) for request in requests).most_common())


def fetched_bytes(requests: Iterable[Request]) -> Counter[str]:
    """Bytes of blobs that were sent, by digest."""
    fetched: Counter[str] = Counter()
    for request in requests:
        if _is_got(request, "blob"):
            fetched[request.reference] += request.bytes
    return fetched


def pushed(requests: Iterable[Request]) -> list[str]:
    """Digest, or `repository:tag`, of all blobs and manifests that a registry took, as often as it did."""
    names = []
    for request in requests:
        if request.status != CREATED:
            continue
        if kind(request) in {"PUT upload", "POST upload"}:
            names += _query(request).get("digest", [])
        elif kind(request) == "PUT manifest":
            tagged = ":" not in request.reference
            names.append(f"{request.repository}:{request.reference}" if tagged else request.reference)
    return names


def _is_got(request: Request, endpoint: str) -> bool:
    return request.method == "GET" and request.endpoint == endpoint and request.status in GOT


def _query(request: Request) -> dict[str, list[str]]:
    return parse_qs(urlsplit(request.path).query)
