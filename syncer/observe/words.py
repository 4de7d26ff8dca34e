"""Formats sizes, rates, durations and digests for logs, progress bars and tables."""

from collections import Counter
from collections.abc import Sequence

from syncer.events import ImageSkipped, SkipReason

_UNITS = ("kB", "MB", "GB", "TB", "PB")


def size(nbytes: float) -> str:
    """Return a size in decimal units: `999 B`, `1.0 kB`, `180.2 MB`."""
    if nbytes < 1000:
        return f"{nbytes:.0f} B"
    number, unit = nbytes / 1000, 0
    while number >= 999.95 and unit < len(_UNITS) - 1:
        number, unit = number / 1000, unit + 1
    return f"{number:.1f} {_UNITS[unit]}"


def rate(bytes_per_second: float) -> str:
    """Return a rate, such as `45.0 MB/s`."""
    return f"{size(bytes_per_second)}/s"


def duration(seconds: float) -> str:
    """Return a duration in short form: `0.4 s`, `42 s`, `2m 05s`, `1h 05m`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, whole = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m {whole:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m"


def go_duration(seconds: float) -> str:
    """Return seconds in the format of Go's `time.Duration`, in milliseconds: `12ms`, `1.234s`, `2m3.5s`, `1h0m0s`."""
    milliseconds = round(seconds * 1000)
    if milliseconds <= 0:
        return "0s"
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    whole, rest = divmod(milliseconds, 1000)
    fraction = f".{rest:03}".rstrip("0") if rest else ""
    minutes, whole = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{whole}{fraction}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def short(digest: str) -> str:
    """Return the algorithm and the first twelve characters, as Docker shortens digests."""
    algorithm, colon, value = digest.partition(":")
    return f"{algorithm}{colon}{value[:12]}"


def count(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: `1 image`, `2 images`, `3 retries`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def listed(names: Sequence[str]) -> str:
    """Names with commas, each once with its number: `linux/amd64, 2 attestations`; `nothing` for none."""
    counted = Counter(names)
    return ", ".join(name if n == 1 else count(n, name) for name, n in counted.items()) or "nothing"


def skipped(image: ImageSkipped) -> str:
    """Return why an image was not written."""
    match image.reason:
        case SkipReason.UP_TO_DATE:
            added = count(image.referrers, "referrer")
            return f"up to date, {added} added" if image.referrers else "up to date"
        case SkipReason.KEPT:
            other = f"; the source has another image ({image.wanted})" if image.drift else ""
            return f"the rule does not overwrite existing tags{other}"
        case SkipReason.COMPLETE:
            return "complete"
        case SkipReason.REPAIRED:
            return "repaired"
        case SkipReason.NO_PLATFORM:
            return "no platform matches the filter"
        case SkipReason.IMMUTABLE if image.digest is None:
            return "the tag is immutable and exists"
        case SkipReason.IMMUTABLE:
            return f"the tag is immutable and has an index of the same images ({image.digest})"
