"""Tells the format of a file by its name and content, and reads it."""

import json
from collections.abc import Iterator

import msgspec

from syncer.lazy_pattern import lazy_pattern
from syncer.references.compose import is_compose, read_compose
from syncer.references.dockerfile import is_dockerfile_name, is_dockerfile_text, read_dockerfile
from syncer.references.documents import Node, Text, Unreadable, read_json, read_yaml
from syncer.references.found import Found, Unresolved, is_reference
from syncer.references.kubernetes import is_object, read_object
from syncer.references.lists import is_list, read_list

SUFFIXES = frozenset({".yaml", ".yml", ".json", ".txt", ".list"})
"""Ends of names that are read in a folder, besides the names of Dockerfiles."""
_YAML = frozenset({"yaml", "yml"})
_DATA = _YAML | {"json"}
_KEY = lazy_pattern(r"(?:---|[ \t]{0,100}(?:- )?[\"']?[A-Za-z][A-Za-z0-9_./-]{0,100}[\"']?:(?: |\t|$))")
_IMAGE = lazy_pattern(r"[ \t]{0,200}(?:- )?[\"']?image[\"']?:[ \t]{1,100}")


def read_references(name: str, text: str) -> Found:
    """Return what is found in a file. `name` is its name, or empty for standard input."""
    found = Found()
    suffix = name.lower().rpartition(".")[2]
    if is_dockerfile_name(name) or (suffix not in _DATA and is_dockerfile_text(text)):
        read_dockerfile(text, found)
    elif suffix == "json" or (suffix not in _YAML and text.lstrip()[:1] in {"{", "["}):
        _read_documents(read_json(text), found)
        found.unresolved = [_with_line(each, text) for each in found.unresolved]
    elif suffix in _YAML or _looks_like_yaml(text):
        _read_documents(read_yaml(text), found)
        if found.problem and "{{" in text:
            found = _read_template(text)
    else:
        read_list(text, found)
    return found


def is_worth_reading(name: str, text: str) -> bool:
    """Whether to read a file of a folder. A `.txt` may be anything: it is a list if all its lines are references."""
    return not name.lower().endswith((".txt", ".list")) or is_list(text)


def _looks_like_yaml(text: str) -> bool:
    return any(line.rstrip() == "---" or _KEY.match(line) for line in text.splitlines())


def _read_documents(documents: Iterator[Node], found: Found) -> None:
    """Read each document by its form. Sets `found.problem` if one cannot be parsed, after those before it."""
    found.recognized = False
    try:
        for document in documents:
            for node in document if isinstance(document, list) else [document]:
                if is_object(node):
                    read_object(node, found)
                elif is_compose(node):
                    read_compose(node, found)
                elif isinstance(node, Text) and (not node.value or is_reference(node.value)):
                    found.add(node.value, node.line)
                else:
                    continue
                found.recognized = True
    except Unreadable as error:
        found.problem = Unresolved(error.line, "", str(error))


def _read_template(text: str) -> Found:
    """Read the lines with `image:` of a template that is not YAML until it is rendered."""
    found = Found()
    for number, line in enumerate(text.splitlines(), 1):
        if match := _IMAGE.match(line):
            value = line[match.end() :].partition(" #")[0].strip().strip("\"'")
            if value.startswith("{{") or value[:1] not in set("{}[]&*|>"):
                found.add(value, number)
    return found


def _with_line(unresolved: Unresolved, text: str) -> Unresolved:
    """Add the line of a text in a JSON file: that of the first place where it stands."""
    at = text.find(json.dumps(unresolved.text))
    return msgspec.structs.replace(unresolved, line=text.count("\n", 0, at) + 1 if at >= 0 else 0)
