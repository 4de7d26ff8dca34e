"""Whoever wants to know what happens: metrics, progress, logs, reports."""
