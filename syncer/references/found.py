"""`Found`: the references of one file, and the lines that could not be resolved."""

from collections.abc import Mapping

import msgspec

from syncer.oci.reference import InvalidReference, Reference
from syncer.references.variables import Unresolvable, expand

NO_VALUES: Mapping[str, str] = {}
_PREFIXES = ("docker://", "docker-image://")


class Unresolved(msgspec.Struct, frozen=True):
    """A place where an image is named and cannot be told. `text` is what stands there."""

    line: int
    text: str
    reason: str


class Found(msgspec.Struct):
    """Collects what is found in one file. A reference without tag and digest gets the tag `latest`, as in Docker.

    `problem` says why the file, or the rest of it, cannot be read. `recognized` is False for a file of no known format.
    """

    references: set[str] = msgspec.field(default_factory=set)
    unresolved: list[Unresolved] = msgspec.field(default_factory=list)
    problem: Unresolved | None = None
    recognized: bool = True

    def add(self, text: str, line: int, values: Mapping[str, str] = NO_VALUES) -> None:
        """Add the reference `text` at `line` (from 1), with the values of its variables. An empty text is none."""
        try:
            expanded = resolve(text, values)
            if expanded:
                self.references.add(complete(expanded))
            elif text.strip():
                self.reject(text, line, "nothing is left without the values of its variables")
        except (Unresolvable, InvalidReference) as error:
            self.reject(text, line, str(error))

    def reject(self, text: str, line: int, reason: str) -> None:
        """Record that `text` at `line` is not resolved."""
        self.unresolved.append(Unresolved(line, text.strip(), reason))


def resolve(text: str, values: Mapping[str, str]) -> str:
    """Return a text without variables. Raises `Unresolvable`, also for templates."""
    text = text.strip()
    if "{{" in text:
        raise Unresolvable("a template: render it first, such as with helm template")
    return expand(text, values).strip() if "$" in text else text


def complete(text: str) -> str:
    """Return a reference in its full form: `nginx` becomes `docker.io/library/nginx:latest`. Raises `InvalidReference`."""
    for prefix in _PREFIXES:
        text = text.removeprefix(prefix)
    reference = Reference.parse(text)
    if reference.tag is None and reference.digest is None:
        reference = Reference(reference.repository, "latest")
    return str(reference)


def is_reference(text: str) -> bool:
    """Whether a text is a reference with a tag or a digest."""
    try:
        reference = Reference.parse(text)
    except InvalidReference:
        return False
    return reference.tag is not None or reference.digest is not None


def names_host(text: str) -> bool:
    """Whether the first component of a reference is a host, so that the text can hardly be anything else."""
    first, slash, _ = text.strip().partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost") and " " not in text.strip()
