"""Repositories and references: `host/repository:tag@digest`, with Docker Hub's short names.

The grammar is distribution-spec 1.1, "Pulling manifests" (names of at most 255 characters, tags of at most 128). A repository
may also be in an OCI image layout: `oci:FOLDER//host/repository:tag@digest`.
"""

import os
import re
from typing import Self

import msgspec

from syncer.lazy_pattern import lazy_pattern
from syncer.oci.digest import Digest, InvalidDigest

DOCKER_HUB = "docker.io"
LAYOUT = "oci:"
"""The scheme of image layouts."""
_LAYOUT_HOST = f"{LAYOUT}/"
INSIDE = "//"
"""Separates the folder of a layout from the repository in it."""
_DOCKER_HUB_NAMES = frozenset(
    {"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}
)

_HOST = lazy_pattern(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
)
_PATH = lazy_pattern(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = lazy_pattern(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_MAX_NAME = 255
_MAX_PORT = 65535


class InvalidReference(ValueError):
    """Text that is not a valid repository, tag or reference."""


def is_host(first: str) -> bool:
    """Return whether the first part of a name is a registry's host: it has a dot or a port, or is `localhost`."""
    return "." in first or ":" in first or first == "localhost"


def canonical_host(host: str) -> str:
    """Return a registry's host in its canonical form: lower case, Docker Hub as `docker.io`.

    Raises `InvalidReference`.
    """
    if len(host) > _MAX_NAME or not _HOST.fullmatch(host) or _port(host) > _MAX_PORT:
        raise InvalidReference(f"not a registry host (name or name:port): {host[:300]!r}")
    host = host.lower()
    return DOCKER_HUB if host in _DOCKER_HUB_NAMES else host


def _port(host: str) -> int:
    port = host.rpartition("]")[2].partition(":")[2]
    return int(port) if port else 0


def is_path(text: str) -> bool:
    """Return whether the text is a repository's path at a registry, or the first segments of one."""
    return len(text) <= _MAX_NAME and _PATH.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    return _TAG.fullmatch(text) is not None


def check_tag(text: str) -> str:
    """Return the tag if it is valid. Raises `InvalidReference`."""
    if not is_tag(text):
        raise InvalidReference(f"not a tag (letters, digits, '_', '.', '-', at most 128): {text[:140]!r}")
    return text


class Repository(msgspec.Struct, frozen=True, order=True):
    """A repository at a registry, or in an image layout. `str()` returns `host/path`, or `oci:FOLDER//host/path`.

    In a layout, `host` is `oci:` and the absolute path of the folder or archive, and `path` is the full name of the
    repository in it. An empty `path` stands for all repositories of the layout.
    """

    host: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `nginx`, `bitnami/redis`, `quay.io/acme/app`, `oci:folder//quay.io/acme/app` or `oci:folder`.

        A relative folder starts at the working directory. Raises `InvalidReference`.
        """
        if text.startswith(LAYOUT):
            return cls._in_layout(text)
        first, _, rest = text.partition("/")
        if is_host(first):
            host, path = canonical_host(first), rest
            if not path:
                raise InvalidReference(f"names a registry but no repository: {text[:300]!r}")
        else:
            host, path = DOCKER_HUB, text
        if host == DOCKER_HUB and "/" not in path:
            path = f"library/{path}"
        if not is_path(path):
            hint = " (upper case is not allowed)" if path != path.lower() else ""
            raise InvalidReference(f"not a repository name: {text[:300]!r}{hint}")
        return cls(host, path)

    @classmethod
    def _in_layout(cls, text: str) -> Self:
        folder, separator, name = text.removeprefix(LAYOUT).partition(INSIDE)
        if not folder or "\0" in folder or (separator and not name):
            raise InvalidReference(
                f"expected oci:FOLDER or oci:FOLDER//host/repository:tag, found {text[:300]!r}"
            )
        if ":" in folder.rpartition("/")[2]:
            # Other tools write oci:FOLDER:TAG.
            raise InvalidReference(
                f"expected oci:FOLDER//host/repository:tag, without a colon in the folder's name, found {text[:300]!r}"
            )
        if name.startswith(LAYOUT):
            raise InvalidReference(f"a layout cannot be inside of a layout: {text[:300]!r}")
        return cls.in_layout(folder, Repository.parse(name) if name else None)

    @classmethod
    def in_layout(cls, folder: str | os.PathLike[str], name: "Repository | None" = None) -> Self:
        """Return the repository `name` in a layout, or all of the layout if there is no name."""
        return cls(f"{LAYOUT}{os.path.abspath(folder)}", str(name) if name else "")  # noqa: PTH100 - keeps symbolic links

    @property
    def layout(self) -> str | None:
        """The absolute path of the layout; None at a registry. A host `oci` with a port has no slash after its colon."""
        return self.host.removeprefix(LAYOUT) if self.host.startswith(_LAYOUT_HOST) else None

    @property
    def inside(self) -> "Repository":
        """The repository that a name in a layout stands for. At a registry, the repository itself."""
        if self.layout is None:
            return self
        host, _, path = self.path.partition("/")
        return Repository(host, path)

    @property
    def is_whole_layout(self) -> bool:
        """Whether this stands for all repositories of a layout."""
        return not self.path

    def __str__(self) -> str:
        if not self.host.startswith(_LAYOUT_HOST):
            return f"{self.host}/{self.path}"
        return f"{self.host}{INSIDE}{self.path}" if self.path else self.host


class Reference(msgspec.Struct, frozen=True):
    """One image: a repository with a tag, a digest, or both. `str()` returns `host/path:tag@digest`."""

    repository: Repository
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `nginx:1.27`, `quay.io/acme/app@sha256:…`, `app:1@sha256:…`. Raises `InvalidReference`."""
        name, tag, digest = split_reference(text)
        try:
            return cls(
                Repository.parse(name),
                None if tag is None else check_tag(tag),
                None if digest is None else Digest.parse(digest),
            )
        except InvalidDigest as error:
            raise InvalidReference(str(error)) from error

    @property
    def target(self) -> str:
        """The reference in the path `/manifests/<reference>`: the digest if there is one, otherwise the tag."""
        target = self.digest or self.tag
        assert target is not None, "a reference names a tag or a digest"
        return target

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        digest = f"@{self.digest}" if self.digest is not None else ""
        return f"{self.repository}{tag}{digest}"


def split_reference(text: str) -> tuple[str, str | None, str | None]:
    """Split `name[:tags][@digest]` into its parts without validating them.

    The tag part starts at the first colon after the last slash of the name, so a port stays with its
    host. A regular expression (`repo:/v1/`) is kept whole, including its slashes. In a layout, the parts are those of
    the repository after `//`.
    """
    if text.startswith(LAYOUT):
        folder, separator, rest = text.partition(INSIDE)
        name, tags, digest = split_reference(rest) if separator else ("", None, None)
        return f"{folder}{separator}{name}", tags, digest
    regex = text.find(":/")
    if regex >= 0:
        return text[:regex], text[regex + 1 :], None
    name, at, digest = text.partition("@")
    first, slash, rest = name.partition("/")
    if not slash:
        repository, colon, tag = name.partition(":")
    else:
        path, colon, tag = rest.partition(":")
        repository = f"{first}/{path}"
    return repository, tag if colon else None, digest if at else None
