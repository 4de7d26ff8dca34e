"""Patterns for the repositories of a whole project or registry: `*` within one component, `**` for any number of them."""

import re
from functools import lru_cache
from typing import Any, Self

import msgspec

from syncer.lazy_pattern import lazy_pattern
from syncer.oci.reference import (
    DOCKER_HUB,
    LAYOUT,
    InvalidReference,
    Repository,
    canonical_host,
    is_host,
    is_path,
)
from syncer.rules.globs import path_matches_any

MAX_PATTERN_LENGTH = 255
"""Characters: as many as a repository's name may have."""
_PART = lazy_pattern(r"(?:^|/)\*\*/|\*\*|\*|[^*/]{1,255}|/")


class RepositoryPattern(msgspec.Struct, frozen=True):
    """The source of a rule that stands for many repositories of one registry. `path` has at least one `*`.

    `*` matches within one component of a path. `**` matches any number of components: at least one at the end of a
    path, and none too between two others (`a/**/b` matches `a/b`).
    """

    host: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `harbor.example.com/team/**`, or `bitnami/*`, which is at Docker Hub. Raises `InvalidReference`.

        A layout, `oci:FOLDER`, stands for all of its repositories. `oci:FOLDER//quay.io/team/**` selects some of them.
        """
        if text.startswith(LAYOUT):
            return cls._in_layout(text)
        first, _, rest = text.partition("/")
        host, path = (canonical_host(first), rest) if is_host(first) else (DOCKER_HUB, text)
        if host == DOCKER_HUB and "/" not in path:
            path = f"library/{path}"
        shown = repr(text[:300])
        cls._check(path, shown)
        if host == DOCKER_HUB and "*" in path.partition("/")[0]:
            raise InvalidReference(
                f"Docker Hub lists one namespace at a time: name it before the first *, found {shown}"
            )
        return cls(host, path)

    @classmethod
    def _in_layout(cls, text: str) -> Self:
        folder, _, inside = text.partition("//")
        place = Repository.parse(folder)
        first, _, rest = inside.partition("/")
        # The host of a name can have a port, or be a pattern itself.
        cls._check(rest if is_host(first) and "*" not in first else inside or "**", repr(text[:300]))
        return cls(place.host, inside or "**")

    @staticmethod
    def _check(path: str, shown: str) -> None:
        if "***" in path:
            raise InvalidReference(f"expected * or **, found more stars: {shown}")
        if len(path) > MAX_PATTERN_LENGTH or not is_path(path.replace("**", "a").replace("*", "a")):
            raise InvalidReference(f"not the pattern of a repository name: {shown}")

    @property
    def prefix(self) -> str:
        """The components before the first `*`, as `team/web` of `team/web/*`; empty if there are none."""
        return self.path.partition("*")[0].rpartition("/")[0]

    @property
    def wildcards(self) -> int:
        """The number of captures of a match."""
        return len(re.findall(r"\*\*?", self.path))

    @property
    def example(self) -> Repository:
        """A repository that the pattern matches, to check destinations with."""
        path = self.path.replace("**", "a").replace("*", "a")
        if "/" not in path and Repository(self.host, "").layout:
            path = f"localhost/{path}"
        return Repository(self.host, path)

    def match(self, repository: Repository) -> tuple[str, ...] | None:
        """Return what each `*` and `**` matched, for `{1}`, `{2}` and so on; None if the pattern does not match."""
        if repository.host != self.host or (found := _compiled(self.path).fullmatch(repository.path)) is None:
            return None
        return tuple(part or "" for part in found.groups())

    def covered(self, repository: Repository) -> str | None:
        """Return the part of the path from the first `*` to the last one; None if the pattern does not match."""
        if repository.host != self.host or (found := _compiled(self.path).fullmatch(repository.path)) is None:
            return None
        spans = [found.span(number) for number in range(1, self.wildcards + 1) if found[number] is not None]
        return repository.path[spans[0][0] : spans[-1][1]] if spans else ""

    def __str__(self) -> str:
        return str(Repository(self.host, self.path))


class RepositoryFilter(msgspec.Struct, frozen=True):
    """Path globs for the part of a repository's path that a pattern covers: `*` matches no slash, and `**` does.

    Without `include`, every repository is selected that `exclude` does not match.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def selects(self, covered: str) -> bool:
        included = not self.include or path_matches_any(self.include, covered)
        return included and not path_matches_any(self.exclude, covered)


EVERY_REPOSITORY = RepositoryFilter()


@lru_cache(maxsize=1000)
def _compiled(path: str) -> Any:
    """Compile a pattern with RE2, whose matching takes linear time."""
    import re2  # most files have no pattern

    return re2.compile("".join(_translated(part) for part in _PART.findall(path)))


def _translated(part: str) -> str:
    if part in ("**/", "/**/"):
        return f"{part[:-3]}(?:(.*)/)?"
    return {"**": "(.*)", "*": "([^/]*)"}.get(part) or re.escape(part)
