"""Puts entries of several rules into one images file, where they may meet at one key."""

import json
from collections.abc import Iterable

from syncer.oci.reference import split_reference


def merge_entries(entries: Iterable[tuple[str, object]], *, listed: bool = False) -> dict[str, object]:
    """Return an images file with what `Rule.entry_for` gave: what has the same key goes to all the destinations.

    With `listed`, the file has a list of rules. It also has one if the entries do not fit into a mapping.
    """
    entries = list(entries)
    merged = None if listed else _as_mapping(entries)
    return {"rules": _as_list(entries)} if merged is None else merged


def _as_mapping(entries: Iterable[tuple[str, object]]) -> dict[str, object] | None:
    """Return the mapping, or None if two rules need the same key.

    Two entries of one key that differ in more than their destinations (platforms, schedule) both stay: the later
    one's key names its tag twice, which means the same and is another key.
    """
    merged: dict[str, object] = {}
    for key, value in entries:
        while key in merged and (both := _joined(merged[key], value)) is None:
            respelled = _respelled(key, value)
            if respelled[0] == key:
                return None
            key, value = respelled  # noqa: PLW2901
        merged[key] = both if key in merged else value
    return merged


def _as_list(entries: Iterable[tuple[str, object]]) -> list[object]:
    merged: dict[tuple[str, str], list[str]] = {}
    others: dict[tuple[str, str], dict[str, object]] = {}
    for source, value in entries:
        destinations, rest = _parts(value)
        key = source, json.dumps(rest, sort_keys=True)
        merged.setdefault(key, []).extend(destinations)
        others[key] = rest
    return [
        {"from": key[0], "to": _one_or_all(list(dict.fromkeys(destinations))), **others[key]}
        for key, destinations in merged.items()
    ]


def _one_or_all(destinations: list[str]) -> object:
    return destinations if len(destinations) > 1 else destinations[0]


def _joined(first: object, second: object) -> object | None:
    """Both entries as one; None if they ask for different things besides the destination."""
    first_to, first_rest = _parts(first)
    second_to, second_rest = _parts(second)
    if first_rest != second_rest:
        return None
    destinations = list(dict.fromkeys((*first_to, *second_to)))
    to: object = destinations if len(destinations) > 1 or isinstance(first, list) else destinations[0]
    return {"to": to, **first_rest} if isinstance(first, dict) else to


def _parts(value: object) -> tuple[list[str], dict[str, object]]:
    if isinstance(value, dict):
        return _parts(value.get("to"))[0], {key: other for key, other in value.items() if key != "to"}
    return ([str(item) for item in value] if isinstance(value, list) else [str(value)]), {}


def _respelled(key: str, value: object) -> tuple[str, object]:
    def once_more(text: str) -> str:
        name, tags, digest = split_reference(text)
        if not tags:
            return text
        end = f"@{digest}" if digest else ""
        return f"{name}:{tags},{tags.rpartition(',')[2]}{end}"

    destinations, rest = _parts(value)
    repeated = [once_more(text) for text in destinations]
    to: object = repeated if len(repeated) > 1 else repeated[0]
    return once_more(key), {"to": to, **rest} if isinstance(value, dict) else to
