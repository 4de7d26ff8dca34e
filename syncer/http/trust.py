"""TLS contexts that load the CAs of the system only if a certificate needs them: loading them takes 50 ms of CPU.

A context starts with the CAs of a registry, or with a folder in which OpenSSL finds a CA by its hash. If they do not verify
a certificate, `trust_system` loads the rest, and the connection is opened once more.
"""

import os
import ssl
from functools import cache
from weakref import WeakSet

_partial: WeakSet[ssl.SSLContext] = WeakSet()
"""The contexts that do not have the CAs of the system yet."""


@cache
def usual_context() -> ssl.SSLContext:
    """Return the context with the CAs of the system, which all hosts without settings of their own share."""
    return new_context()


def new_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Return a context that trusts the CAs in `ca_file` and those of the system. Raises `OSError`, also for a bad file."""
    folder = None if ca_file else _hashed_folder()
    if ca_file is None and folder is None:
        return ssl.create_default_context()
    context = ssl.create_default_context(cafile=ca_file, capath=folder)
    _partial.add(context)
    return context


def is_partial(context: ssl.SSLContext) -> bool:
    """Whether the context may refuse a certificate that the CAs of the system verify."""
    return context in _partial


def trust_system(context: ssl.SSLContext) -> None:
    """Load the CAs of the system, unless the context has them."""
    if context in _partial:
        _partial.discard(context)
        context.load_default_certs()


def _hashed_folder() -> str | None:
    """Return the folder of CAs if its files are named by hashes (openssl-rehash(1)), as on Debian and Alpine."""
    folder = ssl.get_default_verify_paths().capath
    if not folder:
        return None
    try:
        with os.scandir(folder) as found:
            hashed = any(each.name[8:9] == "." and each.name[9:].isdigit() for each in found)
    except OSError:
        return None
    return folder if hashed else None
