"""Finds the packages beside this file and starts the program. Called by the launcher: NAME [ARGUMENT]…"""

import os
import sys
from pathlib import Path

MACHINE = "x86_64"
GLIBC = (2, 28)


def _other_than_built_for() -> str:
    """What makes this host another one than the compiled packages were built for; nothing if it fits."""
    machine = os.uname().machine
    if machine != MACHINE:
        return machine
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or "another C library"
    except ValueError:
        libc = "another C library"
    name, _, version = libc.partition(" ")
    fits = name == "glibc" and tuple(map(int, version.split(".")[:2])) >= GLIBC
    return "" if fits else libc


def main() -> None:
    """Run the program as if it were installed."""
    del sys.argv[0]
    other = _other_than_built_for()
    if other:
        glibc = ".".join(map(str, GLIBC))
        sys.exit(
            f"image-syncer: this archive is for Linux on {MACHINE} with glibc {glibc} or newer; here is {other}"
        )
    lib = Path(__file__).parent
    sys.path[:0] = [str(lib / "any"), str(lib / f"cp{sys.version_info[0]}{sys.version_info[1]}")]

    from syncer.__main__ import main as run

    run()


main()
