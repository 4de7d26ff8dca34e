"""The text of a notification, short enough for a phone, and its data for programs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from syncer.errors import Kind
from syncer.notify.changes import THE_RUN, Changes, Ended
from syncer.observe import words
from syncer.observe.causes import Cause, Causes
from syncer.state.history import Document

MAX_TEXT = 1500
"""Bytes of a text in UTF-8. Bots of WeCom accept 2048."""
MAX_IMAGES = 20
"""Number of failed images in the data."""
_MAX_CAUSES = 5
_LONGEST_LINE = 400
_MORE = "…"

# What to do first, if the message of the failure does not say it.
_ADVICE: Mapping[str, str] = {
    Kind.UNAUTHORIZED: "check the account of this registry with `syncer check --online`",
    Kind.FORBIDDEN: "check what the account may do at this registry",
    Kind.NOT_FOUND: "check the name and the tag in the rule",
    Kind.THROTTLED: "use an account with a higher limit, or run less often",
    Kind.TIMEOUT: "check whether the registry answers, and the proxy or firewall on the way",
    Kind.CONNECTION: "check whether the registry is up, and the proxy or firewall on the way",
    Kind.TLS: "check the certificate of the registry, or set ca_file",
    Kind.SERVER_ERROR: "look at the log of the registry",
    Kind.DIGEST_MISMATCH: "check the storage of the registry, or the proxy that changes content",
    Kind.UNSUPPORTED: "see which content the registry accepts",
    Kind.TOO_LARGE: "raise the limit of the registry or of the proxy in front of it",
    Kind.IMMUTABLE: "copy to another tag, or allow the registry to change this one",
    Kind.UNTRUSTED: "find out who signed the image, and which keys the rule has",
    Kind.CONFLICT: "change the rules that write to the same tag",
    Kind.INVALID: "look at the answer of the registry in the log",
    Kind.INTERNAL: "report this as a defect, with the debug log",
}


@dataclass(frozen=True, slots=True)
class Notification:
    """One notification. `lines` are in the order of their importance, `data` is for programs.

    `is_good` is true if nothing has failed.
    """

    title: str
    lines: Sequence[str]
    link: str
    data: Mapping[str, Any]
    is_good: bool

    def body(self, limit: int = MAX_TEXT) -> str:
        """Return the text without the title, in at most `limit` bytes of UTF-8. The link is always kept."""
        room = limit - _size(self.link)
        kept: list[str] = []
        for index, line in enumerate(self.lines):
            is_last = index == len(self.lines) - 1
            if _size(line) + (0 if is_last else _size(_MORE)) > room:
                kept.append(_MORE)
                break
            room -= _size(line)
            kept.append(line)
        return "\n".join([*kept, *([self.link] if self.link else [])])

    def text(self) -> str:
        """Return the whole text, in at most `MAX_TEXT` bytes of UTF-8."""
        return "\n".join(filter(None, (self.title, self.body(MAX_TEXT - _size(self.title)))))


def compose(occasion: str, ended: Ended, changes: Changes, *, link: str = "") -> Notification:
    """Return the notification about a finished run. `link` is a URL with the details."""
    failed = [image for image in ended.report.images() if image["outcome"] == "failed"]
    body = [_short(line) for line in _lines(ended, changes, failed)]
    title = _short(f"image-syncer: {_verdict(occasion, ended)}")
    data = {
        "event": occasion,
        "run": {key: value for key, value in ended.summary.items() if key != "totals"},
        "totals": ended.summary["totals"],
        "failed": [_failed(image, changes) for image in failed[:MAX_IMAGES]],
        "recovered": sorted(changes.recovered - {THE_RUN})[:MAX_IMAGES],
    }
    if link:
        data["url"] = link
    return Notification(title, body, link, data, is_good=ended.outcome == "success")


def _verdict(occasion: str, ended: Ended) -> str:
    images = ended.summary["totals"]["images"]
    if ended.outcome == "success":
        return "run succeeded after a failure" if occasion == "recovery" else "run succeeded"
    if ended.outcome == "interrupted":
        return "run interrupted"
    if not images["failed"]:
        return "run failed"
    if occasion == "recovery":
        return f"some images recovered, {images['failed']} still failing"
    # `drifted` images are also `skipped`.
    total = images["synced"] + images["skipped"] + images["failed"]
    return f"{images['failed']} of {words.count(total, 'image')} failed"


def _lines(ended: Ended, changes: Changes, failed: Sequence[Document]) -> Iterator[str]:
    if error := ended.summary.get("error"):
        yield f"{error}{_since(THE_RUN, changes)}"
    continuing = changes.failing.keys() - changes.new
    new = Causes(lambda image: image["destination"] in changes.new)
    known = Causes(lambda image: image["destination"] in continuing)
    # The oldest failure of a cause becomes its example.
    for image in sorted(failed, key=lambda image: changes.failing.get(image["destination"], changes.when)):
        new.see(image)
        known.see(image)
    causes = [*new.causes, *known.causes]
    for cause in causes[:_MAX_CAUSES]:
        yield _of_cause(cause, changes)
    further = new.total + known.total - sum(cause.count for cause in causes[:_MAX_CAUSES])
    if further:
        yield f"and {words.count(further, 'further failed image')}"
    if recovered := changes.recovered - {THE_RUN}:
        verb = "is" if len(recovered) == 1 else "are"
        yield f"{words.count(len(recovered), 'image')} that failed before {verb} fine now"
    summary = ended.summary
    yield f"run {summary['id']} ({summary['trigger']}): {summary['totals']['images']['synced']} copied"


def _of_cause(cause: Cause, changes: Changes) -> str:
    """Return one line: what failed, why, since when, and what to do."""
    example = cause.examples[0]
    name = f"{example['source']} -> {example['destination']}"
    if cause.count > 1:
        name = f"{words.count(cause.count, 'image')}, such as {name}"
    message = str(cause.error["message"])
    since = _since(str(example["destination"]), changes)
    # Advice follows a semicolon.
    advice = "" if ";" in message else _ADVICE.get(cause.error["kind"], "")
    room = _LONGEST_LINE - len(name) - len(since) - len(advice) - 4
    text = f"{name}: {_cut(message, max(room, 80))}{since}"
    return f"{text}; {advice}" if advice else text


def _since(name: str, changes: Changes) -> str:
    if name in changes.new or name not in changes.failing:
        return " (new)"
    return f" (since {datetime.fromtimestamp(changes.failing[name], UTC):%a %Y-%m-%d %H:%M} UTC)"


def _failed(image: Document, changes: Changes) -> Document:
    destination = str(image["destination"])
    since = changes.failing.get(destination)
    if since is None:
        return image
    when = datetime.fromtimestamp(since, UTC)
    return image | {"since": f"{when:%Y-%m-%dT%H:%M:%SZ}", "new": destination in changes.new}


def _short(line: str) -> str:
    return _cut(line.replace("\n", " "), _LONGEST_LINE)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}{_MORE}"


def _size(line: str) -> int:
    """Return the size in bytes with the end of the line."""
    return len(line.encode()) + 1 if line else 0
