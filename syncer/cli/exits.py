"""The exit codes, as docs/command-line.md names them."""

DONE = 0
FAILED = 1
"""Something did not get through."""
UNUSABLE = 2
"""Options, files or the state folder cannot be used: nothing was begun."""
STOPPED = 3
"""Interrupted before the end."""
