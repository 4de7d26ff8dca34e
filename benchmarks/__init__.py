"""Corpora to measure and test with, and the measurements."""
