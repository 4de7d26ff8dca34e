"""Tolerant parser of `WWW-Authenticate` headers (RFC 9110, section 11.6.1). Registries vary in order, quotes and case."""

import re
from collections.abc import Iterable, Mapping
from itertools import islice

import msgspec

from syncer.lazy_pattern import lazy_pattern

_SCHEME = lazy_pattern(r"[\s,]*([A-Za-z][A-Za-z0-9._-]*)(?=[\s,]|$)(?!\s*=)")
_PARAMETER = lazy_pattern(r'[\s,]*([A-Za-z][A-Za-z0-9._-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')
# Some registries send a list of actions without quotes. Its commas would otherwise separate parameters.
_FURTHER_ACTION = lazy_pattern(r",(?:pull|push|delete|\*)(?=[\s,]|$)", re.IGNORECASE)
_MAX_HEADER = 8192
_MAX_HEADERS = 16


class Challenge(msgspec.Struct, frozen=True):
    """An authentication challenge. `scheme` and the names of `parameters` are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(values: Iterable[str]) -> list[Challenge]:
    """Return the challenges of all `WWW-Authenticate` headers of a response. Invalid parts are skipped."""
    challenges: list[Challenge] = []
    for value in islice(values, _MAX_HEADERS):
        text = value[:_MAX_HEADER]
        position = 0
        while scheme := _SCHEME.match(text, position):
            position = scheme.end()
            parameters: dict[str, str] = {}
            while parameter := _PARAMETER.match(text, position):
                position = parameter.end()
                name, quoted, plain = parameter.groups()
                if quoted is None:
                    while plain and (further := _FURTHER_ACTION.match(text, position)):
                        plain += further[0]
                        position = further.end()
                else:
                    plain = re.sub(r"\\(.)", r"\1", quoted)
                parameters.setdefault(name.lower(), plain)
            challenges.append(Challenge(scheme[1].lower(), parameters))
            # Skip a token68 or any other text that is not a parameter, up to the next comma.
            if position < len(text) and not _SCHEME.match(text, position):
                comma = text.find(",", position)
                position = len(text) if comma < 0 else comma
    return challenges
