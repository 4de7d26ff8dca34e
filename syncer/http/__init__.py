"""HTTP client for one registry host: requests with tokens, limits, retries and events."""
