"""Destinations of rules, and how they are parsed."""

from collections.abc import Sequence
from typing import ClassVar

from syncer.diagnostics import shown
from syncer.oci.digest import Digest
from syncer.oci.reference import InvalidReference, Reference, Repository, check_tag, split_reference
from syncer.rules.attestations import Attestations
from syncer.rules.compared import Compared
from syncer.rules.tags import AllTags, OneDigest, TagSelection, TheseTags

TAG = "{tag}"
"""Stands for the source's tag in the tag of a destination."""
_SCHEMES = ("http", "https", "docker", "oci")


class Destination(Compared, frozen=True):
    """One destination of a rule. `tags` are the new tags; None keeps the source's tags.

    `tag_template` is a tag with `{tag}` in it: each tag of the source gets its new name by it. `attestations` is the
    setting for this destination. `written` is the text in the file, with its references to environment variables and
    without other placeholders. `template` is the text with placeholders, if it had some.
    """

    NOT_COMPARED: ClassVar = frozenset({"written", "template", "attestations"})

    repository: Repository
    tags: tuple[str, ...] | None = None
    digest: Digest | None = None
    tag_template: str = ""
    written: str = ""
    template: str = ""
    attestations: Attestations = Attestations.AUTO

    @property
    def name(self) -> str:
        """The repository for messages. If the text in the file has variables, that text: a value may be a secret."""
        return self.written if self.has_variables else str(self.repository)

    @property
    def has_variables(self) -> bool:
        """Whether the text in the file refers to environment variables."""
        return "$" in self.written

    def name_of(self, target: Reference) -> str:
        """Return the name of an image at this destination for messages: see `name`."""
        if not self.has_variables:
            return str(target)
        if self.tags is not None or self.tag_template or target.tag is None:
            return self.written
        return f"{self.written}:{target.tag}"

    @property
    def tags_are_written(self) -> bool:
        """Whether the text in the file lists each tag, instead of a variable that holds several."""
        _, tags, _ = split_reference(self.written or self._resolved())
        if self.tag_template:
            return TAG in (tags or "")
        return self.tags is None or (tags is not None and len(tags.split(",")) == len(self.tags))

    def tag_for(self, source_tag: str | None, index: int) -> str | None:
        """Return the destination's tag for the source's tag at `index` (0-based) among the selected tags.

        Return None for a digest that gets no tag. The numbers of tags must be equal: see `Rule.mismatch`.
        """
        if self.tag_template and source_tag is not None:
            return self.tag_template.replace(TAG, source_tag)
        return source_tag if self.tags is None else self.tags[index]

    def written_for(self, indexes: Sequence[int], named: Sequence[str]) -> str:
        """Return the text for a file that names only the source tags at `indexes`. Requires `tags_are_written`.

        `named` are these tags. A destination that keeps the source's tags gets them written out.
        """
        text = self.written or self._resolved()
        if self.tag_template:
            repository, tags, _ = split_reference(text)
            return f"{repository}:{','.join((tags or '').replace(TAG, tag) for tag in named)}"
        if self.tags is None:
            repository, at, end = text.partition("@")
            if self.digest and not at:
                return text  # it comes from a variable
            return f"{repository}:{','.join(named)}{at}{end}"
        name, tags, digest = split_reference(text)
        renamed = tags.split(",") if tags else []
        end = f"@{digest}" if digest else ""
        return f"{name}:{','.join(renamed[index] for index in indexes)}{end}"

    def _resolved(self) -> str:
        tags = f":{','.join(self.tags or (self.tag_template,))}" if self.tags or self.tag_template else ""
        return f"{self.repository}{tags}{f'@{self.digest}' if self.digest else ''}"


def parse_destination(
    text: str, selection: TagSelection, written: str = "", template: str = ""
) -> Destination:
    """Parse a destination of a rule that selects so. For `written` and `template` see `Destination`.

    Raises `InvalidReference`, `InvalidDigest`.
    """
    name, tags, digest = split(text)
    repository = Repository.parse(name)
    if tags is not None and tags.startswith("/"):
        raise InvalidReference(f"a regular expression is for the source only, found {shown(text)}")
    parsed = None if digest is None else Digest.parse(digest)
    if parsed is not None and (not isinstance(selection, OneDigest) or selection.digest != parsed):
        raise InvalidReference(f"a digest at the destination must be the source's, found {shown(text)}")
    if tags is not None and TAG in tags:
        check_tag(tags.replace(TAG, "t"))
        return Destination(repository, None, parsed, tags, written or text, template)
    new_tags = None if tags is None else tuple(check_tag(tag) for tag in tags.split(","))
    if new_tags is not None:
        _check_count(new_tags, selection)
    return Destination(repository, new_tags, parsed, "", written or text, template)


def split(text: str) -> tuple[str, str | None, str | None]:
    """Split a source or destination as `split_reference`. Raises `InvalidReference` for an address or an empty text."""
    scheme, mark, _ = text.partition("://")
    if mark and scheme.lower() in _SCHEMES:
        raise InvalidReference(
            f"expected host/repository, found an address: drop {scheme + mark!r} in {shown(text)}"
        )
    if not text:
        raise InvalidReference("expected host/repository, found an empty text")
    return split_reference(text)


def _check_count(tags: tuple[str, ...], selection: TagSelection) -> None:
    match selection:
        case AllTags():
            raise InvalidReference("expected a destination without tag, since the source names none")
        case TheseTags(named):
            expected = len(named)
        case OneDigest():
            expected = 1
        case _:
            return  # counted when the tags are known
    if len(tags) != expected:
        raise InvalidReference(
            f"expected no tag or as many as the source names ({expected}), found {len(tags)}: {shown(','.join(tags))}"
        )
