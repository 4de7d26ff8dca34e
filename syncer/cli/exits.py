"""Exit codes. docs/command-line.md describes them."""

DONE = 0
FAILED = 1
"""At least one image failed."""
UNUSABLE = 2
"""Options, files or the state folder cannot be used. No run was started."""
STOPPED = 3
"""The run was interrupted."""
