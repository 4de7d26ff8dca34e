"""Repositories that are accessed through the distribution API: remote sources and destinations, uploads and mirrors."""
