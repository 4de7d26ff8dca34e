"""Copies container images between registries: in bulk, on schedule, over bad lines."""

__version__ = "0.1.0"
