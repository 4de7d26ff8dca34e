"""Turns rules into copies: an explicit task graph, run by a bounded pool."""
