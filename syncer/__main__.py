"""The program: what `syncer`, `image-syncer` and `python -m syncer` start."""

import gc

from syncer.cli import process


def main() -> None:
    """Run the command line. Ends the process with the exit codes of docs/command-line.md."""
    process.prepare()
    # Imports create hundreds of thousands of objects, and none of them is garbage. A command enables it after its imports.
    gc.disable()
    from syncer.cli.main import run  # signals are handled before this takes its time

    process.end(run())


if __name__ == "__main__":
    main()
