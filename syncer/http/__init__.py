"""One host, well behaved: requests with tokens, limits, retries and events."""
