"""Groups the failures of images by cause."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from syncer.lazy_pattern import lazy_pattern
from syncer.state.history import Document

MAX_CAUSES = 20
"""Maximum number of distinct causes. Failures of further causes are only counted."""
MAX_EXAMPLES = 5
"""Maximum number of example images per cause."""

_WORD = lazy_pattern(r"[\w./@:-]+")
_DIGEST = lazy_pattern(r"sha(?:256|384|512):[0-9a-f]+")


@dataclass(slots=True)
class Cause:
    """One cause. `error` is the error of its first image, as in the report; `examples` are some of its `count` images."""

    error: Document
    count: int = 0
    examples: list[Document] = field(default_factory=list)


class Causes:
    """Groups the failed images for which `wanted` returns true, in bounded memory."""

    def __init__(self, wanted: Callable[[Document], bool] = lambda _image: True) -> None:
        self._wanted = wanted
        self._causes: dict[tuple[object, ...], Cause] = {}
        self.others = 0
        self.total = 0

    def see(self, image: Document) -> None:
        """Add an image of a report."""
        if image["outcome"] != "failed" or not self._wanted(image):
            return
        self.total += 1
        key = _key(image)
        cause = self._causes.get(key)
        if cause is None:
            if len(self._causes) >= MAX_CAUSES:
                self.others += 1
                return
            cause = self._causes[key] = Cause(image["error"])
        cause.count += 1
        if len(cause.examples) < MAX_EXAMPLES:
            cause.examples.append(image)

    @property
    def causes(self) -> list[Cause]:
        """The causes, most frequent first."""
        return sorted(self._causes.values(), key=lambda cause: -cause.count)


def _key(image: Document) -> tuple[object, ...]:
    """Return a key that is equal for failures that differ only in the name of the image."""
    error = image["error"]
    names = {image["digest"]}
    for reference in (image["source"], image["destination"]):
        repository, tag = parts_of(reference)
        # Messages of registries contain the path without the host.
        names |= {reference, repository, repository.partition("/")[2], tag, f"{repository}:{tag}"}

    def neutral(match: re.Match[str]) -> str:
        word = match[0]
        end = word[len(word.rstrip(".:,")) :]
        return f"*{end}" if word.removesuffix(end) in names else word

    message = _WORD.sub(neutral, _DIGEST.sub("*", error["message"]))
    return error["kind"], error["registry"], error["status"], message


def parts_of(reference: str) -> tuple[str, str]:
    """Return `host/path` and the tag of a reference `host/path:tag@digest`. The tag may be empty."""
    name = reference.partition("@")[0]
    repository, colon, tag = name.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (name, "")
