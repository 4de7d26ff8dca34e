"""Destinations with placeholders: `harbor.example.com/mirror/{path}`. What they stand for is known once the source is."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeGuard

import msgspec
from msgspec.structs import replace

from syncer.diagnostics import Place, shown
from syncer.lazy_pattern import lazy_pattern
from syncer.oci.digest import InvalidDigest
from syncer.oci.reference import (
    DOCKER_HUB,
    INSIDE,
    LAYOUT,
    InvalidReference,
    Repository,
    is_host,
    split_reference,
)
from syncer.rules.attestations import Attestations
from syncer.rules.destination import TAG, Destination, parse_destination, split
from syncer.rules.tags import AllTags, OneDigest, TagSelection, TheseTags

SEPARATORS = ("-", "_", ".", "--", "__")
"""What may stand for the slashes of a path."""
MAX_TEMPLATE_LENGTH = 4096
"""Characters."""
_NAMES = ("host", "path", "name", "parent", "full", "tag")
_PART = lazy_pattern(r"(\$\{[^{}]{0,200}\})|\{([^{}]{0,200})\}|([{}])")
_NOT_ALLOWED = lazy_pattern(r"[^a-z0-9._/*-]{1,4096}")
_EDGES = lazy_pattern(r"(^|/)[._-]{1,4096}|[._-]{1,4096}(?=/|$)")


class Placeholder(msgspec.Struct, frozen=True):
    """One placeholder: a name, or the number of what a `*` of the source matches. `separator` replaces its slashes."""

    name: str
    separator: str | None = None


class DestinationTemplate(msgspec.Struct, frozen=True):
    """A destination that can contain placeholders.

    `text` has the values of environment variables, `written` is the text in the file. `place` is where it is written.
    `selection` is that of the rule, and `attestations` the setting for this destination.
    """

    text: str
    written: str
    selection: TagSelection = AllTags()
    place: Place = Place()
    attestations: Attestations = Attestations.AUTO

    @property
    def has_variables(self) -> bool:
        """Whether the text in the file refers to environment variables."""
        return self.text != self.written

    def resolve(self, source: Repository, captures: Sequence[str] = ()) -> Destination:
        """Return the destination for a source. `captures` is what each `*` and `**` of its pattern matched, in order.

        Raises `InvalidReference`, `InvalidDigest`. A message never shows the value of a variable.
        """
        try:
            # In a layout, placeholders stand for parts of the reference.
            destination = self._resolve(source.inside, captures)
        except (InvalidReference, InvalidDigest):
            if not self.text or not self.has_variables:
                raise
            has_placeholders(self.written)  # what is wrong with the text in the file can be shown
            raise InvalidReference(
                f"{shown(self.written)} is no destination with its variables' values, which are not shown: expected"
                " host/repository, with as many tags as the source names"
            ) from None
        return replace(destination, attestations=self.attestations)

    def _resolve(self, source: Repository, captures: Sequence[str]) -> Destination:
        if not has_placeholders(self.text):
            destination = parse_destination(self.text, self.selection, self.written)
            if destination.repository.is_whole_layout:
                # A layout has each repository under its full name.
                inside = Repository(destination.repository.host, str(source))
                written = f"{destination.written}{INSIDE}{source}"
                destination = replace(destination, repository=inside, written=written)
            return destination
        values = _values(source, captures)
        resolved = _resolved(self.text, values, self.selection)
        written = _resolved(self.written, values, self.selection) if self.has_variables else resolved
        return parse_destination(resolved, self.selection, written, self.written)

    def outline_of(self, source: Repository, captures: int) -> str:
        """Return the repository `host/path` for a pattern `source`, with `*` for each part that is not known yet.

        `captures` is the number of `*` and `**` in the pattern. Raises `InvalidReference`.
        """
        if source.layout is not None:
            inside = source.inside
            source = inside if inside.path and "*" not in inside.host else Repository("*", "**")
        values = _values(source, ["*"] * captures)
        if "**" in values["name"]:
            values |= {"name": "*", "parent": f"{values['parent']}*"}
        name = _render(split(self.text)[0], values, _in_repository)
        first, slash, _ = name.partition("/")
        if is_host(first) or name.startswith(LAYOUT):
            return name
        return f"{DOCKER_HUB}/{name}" if slash else f"{DOCKER_HUB}/library/{name}"

    def keeps_apart(self, source: Repository) -> bool:
        """Return whether no two repositories that the pattern `source` matches can have the same destination."""
        if self.text.startswith(LAYOUT) and "//" not in self.text:
            return True  # each repository is there under its full name
        if source.layout is not None:
            source = source.inside
        whole = {part.name for part in _parts(split(self.text)[0]) if _is_whole(part)}
        if whole & {"path", "full"}:
            return True
        one = source.path.count("*") - source.path.count("**") == 1
        in_name = "*" in source.path.rpartition("/")[2] and "**" not in source.path
        return one and ("1" in whole or (in_name and "name" in whole))

    def outline(self, host: str, captures: int) -> str:
        """Return the repository `host/path` with `*` for each part that is only known once the source is.

        `host` is that of the source; `captures` is the number of `*` and `**` in its pattern. Raises `InvalidReference`.
        """
        unknown = dict.fromkeys((*_NAMES, *map(str, range(1, captures + 1))), "*")
        name = _render(split(self.text)[0], unknown | {"host": host, "full": f"{host}/*"}, _in_repository)
        first, slash, _ = name.partition("/")
        if is_host(first) or name.startswith(LAYOUT):
            return name
        return f"{DOCKER_HUB}/{name}" if slash else f"{DOCKER_HUB}/library/{name}"


def _is_whole(part: "Placeholder | str") -> TypeGuard[Placeholder]:
    """Whether a part is a placeholder whose slashes stay."""
    return isinstance(part, Placeholder) and part.separator is None


def has_placeholders(text: str) -> bool:
    """Return whether a destination contains placeholders. Raises `InvalidReference` for a brace that is none."""
    return any(isinstance(part, Placeholder) for part in _parts(text))


def completed(text: str) -> str:
    """Return the place that `--to` or `defaults.to` names, with `/{name}` appended if it contains no placeholder.

    A name without slash is a host if it looks like one. The place of a layout stays as it is.
    """
    if has_placeholders(text) or text.startswith(LAYOUT):
        return text
    if "/" not in text and is_host(text.partition("@")[0]) and not _has_tag(text):
        return f"{text}/{{name}}"
    name, tags, digest = split_reference(text)
    tag = "" if tags is None else f":{tags}"
    return f"{name.rstrip('/')}/{{name}}{tag}{'' if digest is None else f'@{digest}'}"


def _has_tag(text: str) -> bool:
    """Whether the colon of a text without slash begins a tag, and not a port."""
    return ":" in text and not text.rpartition(":")[2].isdigit()


class DefaultDestination(msgspec.Struct, frozen=True):
    """`--registry` and `--namespace`, as image-syncer had them before 1.4: for rules with an empty destination.

    `stated` is whether the options say so, and not only variables that image-syncer read.
    """

    registry: str = ""
    namespace: str = ""
    stated: bool = True

    @property
    def text(self) -> str:
        """The place with its placeholder: registry, namespace and the last part of the source's path.

        Without a namespace the whole path follows the registry, as in image-syncer's versions that had only that one.
        Empty without a registry.
        """
        registry, namespace = self.registry.strip("/"), self.namespace.strip("/")
        if not registry:
            return ""
        return f"{registry}/{namespace}/{{name}}" if namespace else f"{registry}/{{path}}"


def _values(source: Repository, captures: Sequence[str]) -> dict[str, str]:
    parent, _, name = source.path.rpartition("/")
    return {
        "host": source.host,
        "path": source.path,
        "name": name,
        "parent": parent,
        "full": str(source),
        **{str(number): value for number, value in enumerate(captures, 1)},
    }


def _resolved(text: str, values: dict[str, str], selection: TagSelection) -> str:
    """Return the text without placeholders, except for `{tag}` where the rule does not name its tags."""
    name, tags, digest = split(text)
    end = "" if digest is None else f"@{digest}"
    repository = _render(name, values, _in_repository)
    if tags is None:
        return f"{repository}{end}"
    if TAG not in tags:
        return f"{repository}:{_render(tags, values, _in_tag)}{end}"
    match selection:
        case TheseTags(named):
            written = tags.split(",")
            if len(written) == 1:
                written *= len(named)
            # A wrong number of tags is reported when the text is parsed.
            pairs = zip(written, [*named, *["t"] * len(written)], strict=False)
            tags = ",".join(_render(each, values | {"tag": tag}, _in_tag) for each, tag in pairs)
        case OneDigest(tag=tag):
            if tag is None:
                raise InvalidReference("{tag} has no value: the source names a digest without a tag")
            tags = _render(tags, values | {"tag": tag}, _in_tag)
        case _:
            tags = _render(tags, values | {"tag": TAG}, _in_tag)
            if "," in tags:
                raise InvalidReference(
                    f"expected one tag with {{tag}}, since the source does not name its tags, found {shown(tags)}"
                )
    return f"{repository}:{tags}{end}"


def _render(text: str, values: dict[str, str], convert: Callable[[str, str], str]) -> str:
    """Put in the values. `convert` gets the text before a value, and the value."""
    parts = _parts(text)
    rendered = ""
    for number, part in enumerate(parts):
        if isinstance(part, Placeholder):
            rendered += convert(rendered, _value(part, values))
        elif (
            number > 0
            and isinstance(parts[number - 1], Placeholder)
            and part.startswith("/")
            and (not rendered or rendered.endswith("/"))
        ):
            rendered += part[1:]  # the slash of an empty component disappears with it
        else:
            rendered += part
    if isinstance(parts[-1], Placeholder) and rendered.endswith("/"):
        return rendered[:-1]
    return rendered


def _in_repository(before: str, value: str) -> str:
    """Convert what a repository's path does not allow: capitals to small letters, other characters to `-`."""
    # The host stays as it is. It is the first component, and that of a name in a layout follows two slashes.
    if "/" not in before or before.endswith("//"):
        return value
    allowed = _NOT_ALLOWED.sub("-", lowered := value.lower())
    return allowed if allowed == lowered else _EDGES.sub(r"\1", allowed)


def _in_tag(_before: str, value: str) -> str:
    """Convert the colon of a port. A path in a tag needs a separator for its slashes."""
    return value.replace(":", "-")


def _value(part: Placeholder, values: dict[str, str]) -> str:
    value = values.get(part.name)
    if value is None:
        if part.name == "tag":
            raise InvalidReference(
                "{tag} can only be in the tag of a destination, as in host/repository:{tag}-mirror"
            )
        raise InvalidReference(f"{{{part.name}}} has no value: the source has {_stars(values)}")
    return value if part.separator is None else value.replace("/", part.separator)


def _stars(values: dict[str, str]) -> str:
    found = sum(name.isdigit() for name in values)
    return f"only {found} of * and **" if found else "no * or **"


@lru_cache(maxsize=1000)
def _parts(text: str) -> tuple[str | Placeholder, ...]:
    if len(text) > MAX_TEMPLATE_LENGTH:
        raise InvalidReference(f"expected at most {MAX_TEMPLATE_LENGTH} characters, found {len(text)}")
    if "{" not in text and "}" not in text:
        return (text,)
    parts: list[str | Placeholder] = []
    end = 0
    for match in _PART.finditer(text):
        if match.group(1):
            continue  # an environment variable
        if match.group(3):
            raise InvalidReference(f"expected a placeholder such as {{path}}, found {match.group(3)!r} alone")
        parts += [text[end : match.start()], _placeholder(match.group(2))]
        end = match.end()
    return tuple(part for part in (*parts, text[end:]) if part != "")


def _placeholder(text: str) -> Placeholder:
    name, bar, separator = text.partition("|")
    if name not in _NAMES and not (name.isascii() and name.isdigit() and not name.startswith("0")):
        known = ", ".join(f"{{{each}}}" for each in _NAMES)
        raise InvalidReference(
            f"unknown placeholder {shown(f'{{{text}}}')}: expected {known} or {{1}}, {{2}}, …"
        )
    if bar and (separator not in SEPARATORS or name == "tag"):
        raise InvalidReference(
            f"expected one of {' '.join(SEPARATORS)} after | in {shown(f'{{{text}}}')}, and nothing in {{tag}}"
        )
    return Placeholder(name, separator if bar else None)
