"""What each share has to do: requests of each kind and bytes, counted from content as the program would meet it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.scale.content import NOTHING, PARTS, PLATFORMS, Blobs, Content, Repository
from syncer.rules.shard import share_of

Kind = Literal["cold", "same", "changed"]
PAGE = 1000
"""Tags that are asked for at once."""


@dataclass(frozen=True, slots=True)
class Work:
    """Of one share. All are counts but `moved`, which has bytes too.

    `tags` are asked for at both sides; `children` are manifests below an index that the destination is asked for,
    `asked` are blobs that it is asked for.
    """

    tags: float = 0
    repositories: int = 0
    pages: float = 0
    heads: float = 0
    children: float = 0
    manifests: float = 0
    asked: float = 0
    mounts: float = 0
    moved: Blobs = NOTHING

    @property
    def source_reads(self) -> float:
        """Requests at the source for tags and manifests. One for each blob comes on top."""
        return self.pages + self.heads + self.manifests

    @property
    def destination_reads(self) -> float:
        return self.repositories + self.heads + self.children + self.asked

    @property
    def destination_writes(self) -> float:
        """Mounts, two requests for each upload, and manifests."""
        return self.mounts + 2 * self.moved.count + self.manifests

    @property
    def source_requests(self) -> float:
        return self.source_reads + self.moved.count

    @property
    def destination_requests(self) -> float:
        return self.destination_reads + self.destination_writes


def split(content: Content, host: str, shares: int) -> list[list[Repository]]:
    """The repositories of each share, as the program divides rules with these destinations."""
    found: list[list[Repository]] = [[] for _ in range(shares)]
    for repository in content.repositories:
        found[share_of(f"{host}/{repository.name}", shares)].append(repository)
    return found


def work_of(repositories: Sequence[Repository], content: Content, kind: Kind, changed: float = 0.02) -> Work:
    """One share's part. With `changed`, that part of the tags has new images: own layers and configs are new."""
    tags = sum(repository.tags for repository in repositories)
    pages = sum(math.ceil(repository.tags / PAGE) for repository in repositories)
    first = Work(tags=tags, repositories=len(repositories), pages=pages, heads=tags)
    if kind == "same":
        return first
    manifests = sum(repository.manifests for repository in repositories)
    if kind == "changed":
        new = sum((repository.each * (repository.tags * changed) for repository in repositories), NOTHING)
        return Work(
            tags=tags,
            repositories=len(repositories),
            pages=pages,
            heads=tags,
            children=(manifests - tags) * changed,
            manifests=manifests * changed,
            asked=tags * changed * PLATFORMS * PARTS,
            moved=new,
        )
    moved = sum((repository.own for repository in repositories), NOTHING)
    seen: set[int] = set()
    mounts = 0.0
    for repository in repositories:
        for group in repository.shared:
            if group in seen:
                mounts += content.shared[group].count
            else:
                seen.add(group)
    moved = sum((content.shared[group] for group in seen), moved)
    return Work(tags, len(repositories), pages, 0, 0, manifests, 0, mounts, moved)
