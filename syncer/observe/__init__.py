"""Observers of a run: metrics, progress, logs, reports."""
