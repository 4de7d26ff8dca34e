"""HTTP client for one registry host: requests with tokens, limits, retries and events."""

# Import this first, so that every module of this package gets httpx without its command line.
from syncer.http import imports as imports
