"""The command line: options, exit codes, terminal. The only package that knows `argv` and exits."""

from syncer.cli.main import main

__all__ = ["main"]
