"""The program: what `syncer`, `image-syncer` and `python -m syncer` start."""

from syncer.cli import process


def main() -> None:
    """Run the command line. Ends the process with the exit codes of docs/command-line.md."""
    process.prepare()
    from syncer.cli.main import run  # signals are handled before this takes its time

    process.end(run())


if __name__ == "__main__":
    main()
