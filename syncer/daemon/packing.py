"""Compressed reports. The history stores them, the API serves them as they are, and the page reads them image by image."""

import zlib
from collections.abc import Callable, Iterator

import msgspec

from syncer.observe.report import ReportObserver
from syncer.state.history import GZIP, Document, unpacked

_OPEN = b'"images":['


def pack_report(report: ReportObserver, run: Document) -> bytes:
    """Return the report as gzip. `run` replaces the object `run` of the report."""
    encode = msgspec.json.Encoder().encode
    packer = zlib.compressobj(wbits=GZIP)
    parts = [packer.compress(b'{"run":' + encode(run) + b"," + _OPEN)]
    # One image per line: encoded JSON contains no line breaks, so `read_report` can split the report without parsing it.
    separator = b"\n"
    for image in report.images():
        parts.append(packer.compress(separator + encode(image)))
        separator = b",\n"
    # What follows the images is one line.
    parts.append(packer.compress(b"\n]," + encode(report.end())[1:] + b"\n"))
    parts.append(packer.flush())
    return b"".join(parts)


def read_report(packed: bytes, see: Callable[[Document], None]) -> Document:
    """Call `see` with each image and return the rest of the report. Only a part of the report is in memory at a time."""
    decode = msgspec.json.Decoder().decode
    document: Document = {}
    for line in _lines(unpacked(packed)):
        if line.startswith(b"]"):
            document |= decode(b'{"images":[' + line)
        elif line.endswith(_OPEN):
            document |= decode(line + b"]}")
        elif line.startswith(b'{"run":'):
            # The whole report is one line: of an interrupted run without images, or of an earlier version.
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
