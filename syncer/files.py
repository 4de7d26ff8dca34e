"""Reads whole files within a limit, and says why one cannot be read."""

from pathlib import Path


def read_bytes(path: Path, limit: int) -> bytes:
    """A whole file. Raises `OSError`, also where it is longer than `limit` bytes."""
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(0, f"the file is larger than {limit:,} bytes")
    return content


def why(error: OSError | ValueError) -> str:
    """Why a file cannot be read, in a few words."""
    text = error.strerror if isinstance(error, OSError) else str(error)
    return (text or "unknown error").lower()
