"""A run's report as gzip: what the history keeps, and browsers take as it is."""

import zlib

import msgspec

from syncer.observe.report import ReportObserver
from syncer.state.history import GZIP, Document


def pack_report(report: ReportObserver, run: Document) -> bytes:
    """The report as gzip, made image by image. `run` stands for the report's own account of the run."""
    encode = msgspec.json.Encoder().encode
    packer = zlib.compressobj(wbits=GZIP)
    parts = [packer.compress(b'{"run":' + encode(run) + b',"images":[')]
    comma = b""
    for image in report.images():
        parts.append(packer.compress(comma + encode(image)))
        comma = b","
    parts.append(packer.compress(b'],"totals":' + encode(report.totals()) + b"}"))
    parts.append(packer.flush())
    return b"".join(parts)
