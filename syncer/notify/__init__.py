"""Notifications about finished runs: what changed, in words, to webhooks and to the services of Apprise."""
