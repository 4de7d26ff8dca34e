"""A run's report as gzip: what the history keeps, browsers take as it is, and the pages read image by image."""

import zlib
from collections.abc import Callable, Iterator

import msgspec

from syncer.observe.report import ReportObserver
from syncer.state.history import GZIP, Document, unpacked

_OPEN = b'"images":['


def pack_report(report: ReportObserver, run: Document) -> bytes:
    """The report as gzip, made image by image. `run` stands for the report's own account of the run."""
    encode = msgspec.json.Encoder().encode
    packer = zlib.compressobj(wbits=GZIP)
    parts = [packer.compress(b'{"run":' + encode(run) + b"," + _OPEN)]
    # An image a line: JSON has no line breaks of its own, so `read_report` need not parse to find its parts.
    separator = b"\n"
    for image in report.images():
        parts.append(packer.compress(separator + encode(image)))
        separator = b",\n"
    parts.append(packer.compress(b'\n],"totals":' + encode(report.totals()) + b"}\n"))
    parts.append(packer.flush())
    return b"".join(parts)


def read_report(packed: bytes, see: Callable[[Document], None]) -> Document:
    """Show each image to `see`; the rest of the report is returned. No more than a piece of it is in memory at a time."""
    decode = msgspec.json.Decoder().decode
    document: Document = {}
    for line in _lines(unpacked(packed)):
        if line.startswith(b"]"):
            document |= decode(b'{"images":[' + line)
        elif line.endswith(_OPEN):
            document |= decode(line + b"]}")
        elif line.startswith(b'{"run":'):
            # Of a run that was cut off, without images; or packed by an earlier version, all in one line.
            document = decode(line)
            for image in document.get("images", ()):
                see(image)
        else:
            see(decode(line.removesuffix(b",")))
    document.pop("images", None)
    return document


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    if rest:
        yield rest
