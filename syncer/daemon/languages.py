"""The languages of the pages. The texts of the templates are in English; `syncer.daemon.chinese` has the other ones."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache

from markupsafe import Markup, escape

from syncer.daemon import chinese
from syncer.daemon.overview import Statement
from syncer.observe import words

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SCRIPT_TEXTS = {
    "now": "just now",
    "soon": "in a moment",
    "ago": "{} ago",
    "in": "in {}",
    "min": "{} min",
    "h": "{} h",
    "days": "{} days",
    "left": "{} left",
    "of": " of {}",
    "live": "Live",
    "lost": "No connection to the daemon; this page may be out of date",
    "started": "Run started",
    "finished": "Run finished: {}",
    "done": "{} of {} images done",
    "failed": "{} failed",
    "refused": "Request failed: {}.",
    "silent": "the daemon does not respond",
    "wrong": "Wrong token. Enter the token of --api-token-file.",
    "planning": "Asking the registries…",
    "success": "success",
    "partial": "partial",
    "failure": "failure",
    "interrupted": "interrupted",
}


@dataclass(frozen=True, slots=True)
class Language:
    """A language with its translations of English texts. `date` and `old_date` are formats of a day and a time."""

    tag: str
    table: Mapping[str, str] = field(default_factory=dict)
    phrases: Mapping[str, str] = field(default_factory=dict)
    date: str = "{day} {month} {time}"
    old_date: str = "{day} {month} {year} {time}"
    months: tuple[str, ...] = _MONTHS

    def text(self, english: str, **values: object) -> Markup:
        """Return the text in this language. `values` take the place of `{name}`, and are escaped."""
        text = escape(self.table.get(english, english))
        return text.format(**values) if values else text

    def told(self, statement: Statement) -> Markup:
        """Return a statement about the state of the daemon."""
        if f"statement: {statement.key}" in self.table:
            return self.text(f"statement: {statement.key}", **statement.values)
        return escape(self.word(statement.text))

    def word(self, english: str) -> str:
        """Return a word of the program, such as an outcome. Other words stay as they are."""
        return self.table.get(english, english)

    def reason(self, english: str) -> str:
        """Return a word or sentence of the program that can contain values. Other texts stay as they are."""
        if english in self.table:
            return self.table[english]
        for phrase, text in self.phrases.items():
            if found := _pattern(phrase).fullmatch(english):
                return text.format(*found.groups())
        return english

    def counted(self, number: int, noun: str, plural: str = "") -> str:
        """Return a number with its noun: `1 image`, `3 images`, `1,204 images`."""
        if noun in self.table:
            return self.table[noun].format(f"{number:,}")
        return words.count(number, noun, plural)

    def time(self, moment: str | None, now: str) -> Markup:
        """Return a time in UTC, such as `21 Nov 03:00`. The script converts it to the time zone of the browser."""
        if moment is None:
            return Markup('<span class="none">{}</span>').format(self.word("never"))
        when = datetime.fromisoformat(moment)
        shape = self.date if moment[:4] == now[:4] else self.old_date
        text = shape.format(
            day=when.day, month=self.months[when.month - 1], year=when.year, time=f"{when:%H:%M}"
        )
        return Markup('<time datetime="{}" title="{:%Y-%m-%d %H:%M:%S} UTC">{}</time>').format(
            moment, when, text
        )

    def ago(self, moment: str | None, now: str) -> str:
        """Return the distance to `now`, such as `3 h ago` or `in 5 min`. The script keeps it up to date."""
        if moment is None:
            return ""
        seconds = (datetime.fromisoformat(now) - datetime.fromisoformat(moment)).total_seconds()
        return Markup('<span class="ago" data-since="{}">{}</span>').format(moment, self._distance(seconds))

    def _distance(self, seconds: float) -> str:
        whole = abs(seconds)
        if whole < 45:
            return self.word("just now" if seconds >= 0 else "in a moment")
        unit, length = (
            ("min", 60) if whole < 90 * 60 else ("h", 3600) if whole < 36 * 3600 else ("days", 86400)
        )
        text = self.word("{} " + unit).format(max(1, round(whole / length)))
        return self.word("{} ago" if seconds >= 0 else "in {}").format(text)

    @property
    def script(self) -> dict[str, object]:
        """The texts that the script needs."""
        texts: dict[str, object] = {name: self.word(text) for name, text in _SCRIPT_TEXTS.items()}
        return texts | {"date": self.date, "oldDate": self.old_date, "months": self.months}


@cache
def _pattern(phrase: str) -> re.Pattern[str]:
    """Return what matches a phrase with any values in the places of `{}`."""
    return re.compile("(.+?)".join(map(re.escape, phrase.split("{}"))), re.DOTALL)


ENGLISH = Language("en")
CHINESE = Language(
    "zh-CN",
    chinese.TEXTS,
    chinese.PHRASES,
    date="{month}{day}日 {time}",
    old_date="{year}年{month}{day}日 {time}",
    months=tuple(f"{number}月" for number in range(1, 13)),
)
LANGUAGES = (ENGLISH, CHINESE)


def language_of(accepted: str) -> Language:
    """Return the language that the header `Accept-Language` prefers; English if it names no other (RFC 9110, section 12.5.4)."""
    best, found = 0.0, ENGLISH
    for part in accepted[:500].split(","):
        name, _, parameter = part.strip().partition(";")
        primary = name.strip().lower().partition("-")[0]
        for language in LANGUAGES:
            if language.tag.partition("-")[0] == primary and (quality := _quality(parameter)) > best:
                best, found = quality, language
    return found


def _quality(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        return min(1.0, max(0.0, float(value)))
    except ValueError:
        return 0.0
