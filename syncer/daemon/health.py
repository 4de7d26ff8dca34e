"""`python -m syncer.daemon.health [PID]`: the health check of a container. Probes the daemon with process id 1 (or PID).

A process other than `serve` is healthy as long as it runs. Imports no other module of this project, so that it starts fast.
"""

import http.client
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

TIMEOUT = 5.0
"""Seconds until a probe fails."""
_USUAL = "127.0.0.1:8080"
_ANY = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}  # noqa: S104 - to connect to, not to bind


def address_of(command: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Return the address at which a process with this command line serves, or None if it is not `serve`."""
    if "serve" not in command[1:4]:
        return None
    listen = environment.get("SYNCER_LISTEN", "").strip() or _USUAL
    for word, following in zip(command, [*command[1:], ""], strict=True):
        if word == "--listen":
            listen = following
        elif word.startswith("--listen="):
            listen = word.partition("=")[2]
    host, _, port = listen.rpartition(":")
    return f"{_ANY.get(host, host)}:{port}"


def main(process: str = "1") -> int:
    """Return the exit code: 0 if the daemon is healthy or the process is not `serve`, otherwise 1."""
    command = Path(f"/proc/{process}/cmdline").read_text().rstrip("\0").split("\0")
    address = address_of(command, os.environ)
    if address is None:
        return 0
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"no response from {address}: {error}")  # noqa: T201 - `docker inspect` shows it
        return 1
    finally:
        connection.close()
    return 0 if status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
