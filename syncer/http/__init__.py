"""One host, well behaved: requests with tokens, limits, retries and events."""

# First of all: whoever imports httpx through this package gets the fast one.
from syncer.http import imports as imports
