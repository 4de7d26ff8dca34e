"""`FilteredTags`: the selection of the key `tags`, in steps. It knows no registry: ages are told to it."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from syncer.oci.referrers import is_referrer_tag
from syncer.rules.expressions import compiled
from syncer.rules.ranges import ANY_VERSION, VersionRange
from syncer.rules.versions import Version, parse_version

_MAX_NAMED = 3
"""Tags that advice gives as examples."""

Sort = Literal["semver", "created", "name"]
LatestPer = Literal["major", "minor"]


class Step(msgspec.Struct, frozen=True):
    """How many tags one step left. `checked` is how many it had to look at; None if it looked at all."""

    name: str
    count: int
    checked: int | None = None

    def __str__(self) -> str:
        looked = "" if self.checked is None else f" of {self.checked:,} checked"
        return f"{self.name} {self.count:,}{looked}"


def show_steps(listed: int, steps: Iterable[Step]) -> str:
    """Return the steps of a selection as text: `1,204 tags → include 310 → semver 96 → latest 5`."""
    return " → ".join([f"{listed:,} tag{'' if listed == 1 else 's'}", *map(str, steps)])


class Candidates(msgspec.Struct, frozen=True):
    """What `include`, `exclude` and `semver` leave of `listed` tags.

    `groups` has the tags from the newest to the oldest; tags in one group have equal versions.
    """

    listed: int
    groups: tuple[tuple[str, ...], ...]
    steps: tuple[Step, ...]


class Selected(msgspec.Struct, frozen=True):
    """The selected tags, and how many tags each step left."""

    tags: tuple[str, ...]
    steps: tuple[Step, ...]


class FilteredTags(msgspec.Struct, frozen=True):
    """Selects tags in steps: `include`, `exclude`, `semver`, age, `latest`. The order of the listing does not matter.

    - `include`, `exclude`: globs or `/regular expressions/`. No `include` means all tags.
    - `semver`: a range of versions. `variant` is a glob for the suffix of the version.
    - `min_age`, `max_age`: limits of the age in seconds.
    - `latest`, `latest_per`: how many versions are kept, in all or for each major or minor version.
    - `at_least`: the number of tags without which the selection fails.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    semver: VersionRange | None = None
    variant: str | None = None
    prerelease: bool = False
    min_age: float | None = None
    max_age: float | None = None
    sort: Sort | None = None
    latest: int | None = None
    latest_per: LatestPer | None = None
    at_least: int = 0

    needs_listing = True

    @property
    def order(self) -> Sort | None:
        """The order of the selected tags. None is the order of `include`, then of names."""
        return self.sort or ("semver" if self.semver or self.quota else None)

    @property
    def quota(self) -> int | None:
        """How many versions `latest` and `latest_per` keep. None keeps all."""
        return self.latest or (1 if self.latest_per else None)

    @property
    def versions(self) -> VersionRange | None:
        """The range of versions. None also selects tags that are no versions."""
        needed = self.variant is not None or self.latest_per or (self.quota and self.order == "semver")
        return self.semver or (ANY_VERSION if needed else None)

    @property
    def needs_ages(self) -> bool:
        """Whether the ages of tags decide."""
        return self.min_age is not None or self.max_age is not None or self.order == "created"

    def matches(self, tag: str) -> bool:
        """Return whether `include`, `exclude` and `semver` select a tag. Its age and newer tags may still rule it out."""
        return self._is_included(tag) and self.keeps(tag) and self._is_version(tag)

    def candidates(self, tags: Iterable[str]) -> Candidates:
        """Return what `include`, `exclude` and `semver` leave of the tags of a repository."""
        listed = set(tags)
        steps: list[Step] = []
        left = {tag for tag in listed if self._is_included(tag)}
        if self.include or len(left) < len(listed):
            steps.append(Step("include", len(left)))
        if self.exclude:
            left = set(filter(self.keeps, left))
            steps.append(Step("exclude", len(left)))
        if self.versions is not None:
            left = set(filter(self._is_version, left))
            steps.append(Step("semver", len(left)))
        return Candidates(len(listed), self._groups(left), tuple(steps))

    def unknown_ages(self, candidates: Candidates, times: Mapping[str, float], now: float) -> tuple[str, ...]:
        """Return the tags whose times must be known next; none if `select` can tell the result.

        `times` are the known times of tags, and `now` is the current one, in seconds since the epoch. Only tags that can
        be selected are asked for: the newest first, until `latest` is reached.
        """
        if not self.needs_ages:
            return ()
        return self._walk(candidates, times, now).unknown

    def select(
        self, candidates: Candidates, times: Mapping[str, float] | None = None, now: float = 0.0
    ) -> Selected:
        """Return the selected tags. For `times` and `now`, see `unknown_ages`."""
        times = times or {}
        walked = self._walk(candidates, times, now)
        steps = list(candidates.steps)
        total = sum(map(len, candidates.groups))
        checked = None if walked.checked == total else walked.checked
        if self.min_age is not None:
            steps.append(Step("min_age", walked.old_enough, checked))
        if self.max_age is not None:
            steps.append(Step("max_age", walked.new_enough, checked))
        tags = tuple(tag for group in walked.kept for tag in group)
        if self.quota is not None:
            steps.append(Step("latest" if self.latest else "latest_per", len(tags)))
        return Selected(tags, tuple(steps))

    def absent(self, tags: Iterable[str]) -> tuple[str, ...]:
        """Return the tags that `include` names and the repository does not have."""
        named = [pattern for pattern in self.include if is_literal(pattern)]
        listed = set(tags) if named else set()
        return tuple(tag for tag in named if tag not in listed)

    def advice(self, tags: Sequence[str]) -> str:
        """Return what to check if nothing of `tags`, the tags of the repository, is selected."""
        included = [tag for tag in tags if self._is_included(tag)]
        left = [tag for tag in included if self.keeps(tag)]
        if not tags:
            return "the repository has no tags"
        if not included:
            return f"check `include`: a glob must match the whole tag, and the repository has {_some(tags)}"
        if not left:
            return f"check `exclude`: it matches {_some(included)}"
        if self.versions is not None and not any(map(self._is_version, left)):
            return self._version_advice(left, self.versions)
        return "check `min_age` and `max_age`"

    def _version_advice(self, left: Sequence[str], versions: VersionRange) -> str:
        read = {tag: version for tag in left if (version := parse_version(tag)) is not None}
        if not read:
            return f"check `semver`: no tag is a version, as {_some(left)}"
        within = [tag for tag, version in read.items() if versions.contains(version, prereleases=True)]
        prereleases = [tag for tag in within if read[tag].prerelease]
        if self.variant is None and (variants := [tag for tag in within if read[tag].is_variant]):
            return f"set `variant` for versions with a suffix, as {_some(variants)}"
        if prereleases and not self.prerelease:
            return f"set `prerelease: true` for pre-releases, as {_some(prereleases)}"
        newest = max(read, key=lambda tag: (read[tag].key, tag))
        return f"check `{'semver' if self.variant is None else 'variant'}`: the newest version is {newest}"

    def keeps(self, tag: str) -> bool:
        """Return whether `exclude` leaves a tag."""
        return not _matches_any(self.exclude, tag)

    def _is_included(self, tag: str) -> bool:
        return not is_referrer_tag(tag) and (not self.include or _matches_any(self.include, tag))

    def _is_version(self, tag: str) -> bool:
        """Return whether a tag is a version that is selected. Every tag is if versions do not matter."""
        if (versions := self.versions) is None:
            return True
        version = parse_version(tag)
        if version is None:
            return False
        if self.variant is None:
            if version.is_variant:
                return False
        elif not fnmatchcase(version.suffix, self.variant):
            return False
        return versions.contains(version, prereleases=self.prerelease)

    def _groups(self, tags: Iterable[str]) -> tuple[tuple[str, ...], ...]:
        by_name = sorted(tags)
        match self.order:
            case "semver":
                return _by_version(by_name)
            case "created" | "name":
                return tuple((tag,) for tag in reversed(by_name))
        return tuple((tag,) for tag in sorted(by_name, key=self._place))

    def _place(self, tag: str) -> int:
        """Return the index of the first pattern of `include` that matches."""
        return next((index for index, each in enumerate(self.include) if _matches_any((each,), tag)), 0)

    def _walk(self, candidates: Candidates, times: Mapping[str, float], now: float) -> "_Walk":
        groups = candidates.groups
        if self.order == "created":
            unknown = tuple(tag for (tag,) in groups if tag not in times)
            if unknown:
                return _Walk(unknown=unknown)
            groups = _by_time(groups, times)
        walk = _Walk()
        shares: dict[object, _Share] = {}
        for group in groups:
            share = shares.setdefault(self._share_of(group[0]), _Share())
            if self.quota is not None and not share.open(self.quota):
                continue
            if self.needs_ages and (unknown := tuple(tag for tag in group if tag not in times)):
                walk.unknown += unknown
                share.pending += 1
                continue
            kept = self._of_right_age(group, times, now, walk)
            share.count(bool(kept))
            if kept:
                walk.kept.append(kept)
        return walk

    def _of_right_age(
        self, group: tuple[str, ...], times: Mapping[str, float], now: float, walk: "_Walk"
    ) -> tuple[str, ...]:
        walk.checked += len(group)
        old = group if self.min_age is None else tuple(t for t in group if now - times[t] >= self.min_age)
        new = old if self.max_age is None else tuple(t for t in old if now - times[t] <= self.max_age)
        walk.old_enough += len(old)
        walk.new_enough += len(new)
        return new

    def _share_of(self, tag: str) -> object:
        """Return what the quota counts for: the major or minor version, or all tags."""
        version = parse_version(tag) if self.latest_per else None
        if version is None:
            return None
        return version.numbers[: 1 if self.latest_per == "major" else 2]


class _Walk(msgspec.Struct):
    """A walk over the groups from the newest to the oldest."""

    unknown: tuple[str, ...] = ()
    kept: list[tuple[str, ...]] = []
    checked: int = 0
    old_enough: int = 0
    new_enough: int = 0


class _Share(msgspec.Struct):
    """The groups that were kept, dropped, and wait for an age, of one major or minor version or of all."""

    kept: int = 0
    dropped: int = 0
    pending: int = 0

    def open(self, quota: int) -> bool:
        """Return whether a further group can matter.

        As many are asked for at once as were dropped, so that a long row of too new tags takes few rounds.
        """
        return self.kept < quota and self.pending < max(quota - self.kept, self.dropped)

    def count(self, kept: bool) -> None:
        self.kept += kept
        self.dropped += not kept


def is_regex(pattern: str) -> bool:
    """Return whether a pattern of `include` or `exclude` is a regular expression."""
    return len(pattern) > 2 and pattern.startswith("/") and pattern.endswith("/")


def is_literal(pattern: str) -> bool:
    """Return whether a pattern of `include` or `exclude` names one tag."""
    return not is_regex(pattern) and not any(mark in pattern for mark in "*?[")


def _matches_any(patterns: Iterable[str], tag: str) -> bool:
    return any(
        compiled(pattern[1:-1]).search(tag) is not None if is_regex(pattern) else fnmatchcase(tag, pattern)
        for pattern in patterns
    )


def _by_version(tags: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Group sorted tags by version, the newest first. Tags that are no versions follow, each on its own."""
    groups: dict[Version, list[str]] = {}
    others: list[tuple[str, ...]] = []
    for tag in tags:
        version = parse_version(tag)
        if version is None:
            others.append((tag,))
        else:
            groups.setdefault(Version(version.numbers, "", version.prerelease), []).append(tag)
    newest_first = sorted(groups, key=lambda version: version.key, reverse=True)
    return (*(tuple(groups[version]) for version in newest_first), *others)


def _by_time(groups: Iterable[tuple[str, ...]], times: Mapping[str, float]) -> tuple[tuple[str, ...], ...]:
    """Sort groups of one tag by time, the newest first. Versions decide between equal times, and then names."""

    def key(group: tuple[str, ...]) -> tuple[object, ...]:
        version = parse_version(group[0])
        return times[group[0]], version is not None, version.key if version else (), group[0]

    return tuple(sorted(groups, key=key, reverse=True))


def _some(tags: Sequence[str]) -> str:
    named = sorted(tags)[:_MAX_NAMED]
    return ", ".join(named) + (", …" if len(tags) > len(named) else "")
